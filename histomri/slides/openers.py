"""Opening a slide with whichever library can read it: OpenSlide, tifffile, or Pillow."""

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from histomri.core import calibration
from histomri.core.calibration import PixelSize, ome_pixel_size, positive_pair
from histomri.core.door import check_png, reading, require_file
from histomri.core.errors import InputError
from histomri.slides.slide import LARGEST_PICTURE, RGB, Slide

_CACHE_BYTES = 128_000_000
_LARGEST_SEGMENT = 64_000_000  # a tile is decoded whole, so its size bounds the memory from below
_COPY, _DAMAGED = "copy it again", "the slide is damaged ({})"
_CONVERT = "save it from QuPath as OME-TIFF"
_PICTURES = (".png", ".jpg", ".jpeg")
_SLIDES = (".svs", ".ndpi", ".tif", ".tiff", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class TiffSlide(Slide):
    """A slide in a TIFF file, read tile by tile."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path, self._handle = path, handle
        self._series = handle.series[0]
        first = self._series.levels[0]
        axes, sizes = first.axes, dict(zip(first.axes, first.shape))
        if "Y" not in axes or "X" not in axes or first.dtype != np.uint8:
            raise InputError(f"is a TIFF of axes {axes}, {first.dtype}: no RGB slide of 8 bits", path=path)
        if any(length > 1 for axis, length in sizes.items() if axis not in "YXSC"):
            raise InputError(f"is a TIFF of axes {axes}: a stack, not one slide", path=path)
        channels = sizes.get("S", 1) * sizes.get("C", 1)
        if channels not in (1, 3, 4) or int(first.keyframe.photometric) not in (1, 2, 6):
            kind = getattr(first.keyframe.photometric, "name", first.keyframe.photometric)
            problem = f"has {channels} channels ({kind}), and an RGB or grey picture was expected"
            raise InputError(problem, path=path, hint="save it from QuPath as an RGB image")
        self._pages = [[page.aspage() for page in level.pages] for level in self._series.levels]
        self.level_sizes = tuple((int(pages[0].imagewidth), int(pages[0].imagelength)) for pages in self._pages)
        self.size_px = self.level_sizes[0]
        self._cache: OrderedDict[tuple[int, int, int], RGB] = OrderedDict()

    def stated_pixel_sizes(self) -> list[tuple[str, PixelSize | None]]:
        """Return the pixel sizes that the file states, by source."""
        ome, tags = ome_pixel_size(self._handle.ome_metadata), _tiff_pixel_size(self._series)
        return [("its OME metadata", ome), ("its TIFF tags", tags)]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """Read a part of a level; see `Slide.read`."""
        with reading(self.path, "slide", _COPY, "the slide cannot be read ({})", unchecked=True):
            planes = [self._read_page(level, number, x, y, width, height) for number in range(len(self._pages[level]))]
        data = planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1)
        return np.repeat(data, 3, axis=-1) if data.shape[-1] == 1 else np.ascontiguousarray(data[..., :3])

    def close(self) -> None:
        """Close the file."""
        self._cache.clear()
        self._handle.close()

    def _read_page(self, level: int, number: int, x: int, y: int, width: int, height: int) -> RGB:
        page = self._pages[level][number]
        if page.is_memmappable:
            return self._mapped(page)[y : y + height, x : x + width]
        rows, columns = _segment_shape(page)
        down, across = -(-page.imagelength // rows), -(-page.imagewidth // columns)
        samples = int(page.samplesperpixel)
        planes = samples if page.planarconfig == 2 else 1
        out = np.empty((height, width, samples), np.uint8)
        for row in range(y // rows, -(-(y + height) // rows)):
            for column in range(x // columns, -(-(x + width) // columns)):
                top, left = row * rows, column * columns
                low_y, high_y = max(top, y), min(top + rows, y + height)
                low_x, high_x = max(left, x), min(left + columns, x + width)
                inside = slice(low_y - y, high_y - y), slice(low_x - x, high_x - x)
                part = slice(low_y - top, high_y - top), slice(low_x - left, high_x - left)
                for plane in range(planes):
                    channels = slice(plane, plane + 1) if planes > 1 else slice(None)
                    index = plane * down * across + row * across + column
                    out[(*inside, channels)] = self._segment(level, number, index, row)[part]
        return out

    def _mapped(self, page: Any) -> RGB:
        """Return a page that is stored plain and in one piece as an array on disk, (h, w, samples)."""
        separate = page.planarconfig == 2
        height, width, samples = map(int, (page.imagelength, page.imagewidth, page.samplesperpixel))
        shape = (samples, height, width) if separate else (height, width, samples)
        data: RGB = np.memmap(self.path, np.uint8, "r", offset=page.dataoffsets[0], shape=shape)
        return np.moveaxis(data, 0, -1) if separate else data

    def _segment(self, level: int, number: int, index: int, row: int) -> RGB:
        if (key := (level, number, index)) in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        page = self._pages[level][number]
        rows = _segment_shape(page)[0]
        rows = rows if page.is_tiled else min(rows, page.imagelength - row * rows)
        self._cache[key] = segment = _read_segment(page, index, rows, self.path)
        while sum(kept.nbytes for kept in self._cache.values()) > _CACHE_BYTES and len(self._cache) > 1:
            self._cache.popitem(last=False)
        return segment


def _segment_shape(page: Any) -> tuple[int, int]:
    """Return (height, width) of the tiles or strips of a page."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip or page.imagelength), int(page.imagelength)), int(page.imagewidth)


def _read_segment(page: Any, index: int, rows: int, path: Path) -> RGB:
    """Read tile or strip `index` of a page, `rows` high, as (rows, width, samples)."""
    height, width = rows, _segment_shape(page)[1]
    samples = 1 if page.planarconfig == 2 else int(page.samplesperpixel)
    if height * width > _LARGEST_SEGMENT:
        problem = f"is stored in pieces of {height * width / 1e6:,.0f} million pixels, which have to be read whole"
        raise InputError(problem, path=path, hint="save it as a tiled pyramid, for example from QuPath as OME-TIFF")
    count = page.databytecounts[index]
    if count == 0:  # a tile that was never scanned
        return np.full((height, width, samples), 255, np.uint8)
    page.parent.filehandle.seek(page.dataoffsets[index])
    data = page.parent.filehandle.read(count)
    if len(data) < count:
        raise InputError("the slide is cut short", path=path, hint="copy it again")
    picture = _decoded(page, data, index, path)
    if picture.shape[0] < height or picture.shape[1:] != (width, samples):
        raise InputError(f"piece {index} of the slide is damaged", path=path, hint="copy it again")
    return picture[:height]


def _decoded(page: Any, data: bytes, index: int, path: Path) -> RGB:
    try:
        with reading(path, "slide", _COPY, _DAMAGED):
            picture = np.asarray(page.decode(data, index, jpegtables=page.jpegtables)[0])
            return picture.reshape(picture.shape[-3:])
    except InputError as error:
        if "imagecodecs" not in error.problem or "requires" not in error.problem:
            raise
        name = getattr(page.compression, "name", page.compression)
        problem = f"is compressed as {name}, which needs the package imagecodecs"
        hint = "install it (pip install imagecodecs), or save the slide from QuPath as OME-TIFF, JPEG"
        raise InputError(problem, path=path, hint=hint) from error


def _tiff_pixel_size(series: Any) -> PixelSize | None:
    """Return the pixel size by the resolution tags, unless they are a printer's dots per inch."""
    tags = series.levels[0].keyframe.tags
    unit = {2: 25400.0, 3: 10000.0}.get(int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 0)
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    ratios = [tags[f"{axis}Resolution"].value for axis in "XY"]
    per_unit = [above / below if below else 0.0 for above, below in ratios]
    sizes = positive_pair(*(unit / value if value > 0 else 0.0 for value in per_unit))
    # 72 to 600 dots per inch are 42-353 µm: no microscope's pixels. So are those of a placeholder of 1 per cm.
    return sizes if sizes is not None and max(sizes) < 40 else None


class OpenSlideSlide(Slide):
    """A slide that OpenSlide reads, cut to the scanned part as QuPath does."""

    def __init__(self, path: Path, handle: Any) -> None:
        self.path, self._handle = path, handle
        properties = handle.properties
        texts = [properties.get(f"openslide.bounds-{name}") or "" for name in ("x", "y", "width", "height")]
        x, y, width, height = (int(text) if text.isdigit() else 0 for text in texts)
        self._corner, (wide, high) = (x, y), handle.dimensions
        width, height = min(width or wide, wide - x), min(height or high, high - y)
        self.size_px = (width, height)
        self._scales = [(wide / across, high / down) for across, down in handle.level_dimensions]
        self.level_sizes = tuple((max(round(width / x), 1), max(round(height / y), 1)) for x, y in self._scales)

    def stated_pixel_sizes(self) -> list[tuple[str, PixelSize | None]]:
        """Return the pixel sizes of the metadata; see `Slide.stated_pixel_sizes`."""
        mpp_x, mpp_y, aperio = map(self._handle.properties.get, ("openslide.mpp-x", "openslide.mpp-y", "aperio.MPP"))
        return [("its metadata", positive_pair(mpp_x, mpp_y)), ("its field aperio.MPP", positive_pair(aperio, aperio))]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """Read a part of a level; see `Slide.read`."""
        across, down = self._scales[level]  # OpenSlide wants the corner in pixels of the full resolution
        corner = (round(x * across) + self._corner[0], round(y * down) + self._corner[1])
        with reading(self.path, "slide", _COPY, "the slide cannot be read ({})"):
            return _opaque(self._handle.read_region(corner, level, (width, height)))

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class PictureSlide(Slide):
    """A PNG or JPEG picture, such as a thumbnail; it is unpacked whole. Its dots per inch are those of a printer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            is_png = stream.read(4) == b"\x89PNG"
        with reading(path, "picture", _COPY, "is no picture that can be read ({})"):
            if is_png:
                check_png(path)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Picture.DecompressionBombWarning)  # our own limit is lower
                opened = Picture.open(path)
            with opened:
                if opened.width * opened.height > LARGEST_PICTURE:
                    raise InputError("is too large a picture to unpack whole", path=path, hint=_CONVERT)
                if opened.mode.startswith(("I", "F")):
                    raise InputError("is no picture of 8 bits", path=path, hint=_CONVERT)
                self._picture = _opaque(opened.convert("RGBA"))
        self.size_px = (self._picture.shape[1], self._picture.shape[0])
        self.level_sizes = (self.size_px,)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """Read a part; see `Slide.read`."""
        return self._picture[y : y + height, x : x + width]


def _opaque(picture: Any) -> RGB:
    """Return an RGBA picture as (h, w, 3); parts that were not scanned are transparent, and become white."""
    rgba = np.asarray(picture)
    return np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])


def open_slide(
    path: str | Path, *, mpp: float | PixelSize | None = None, trust_mpp: bool = False,
    known_um: Mapping[str, PixelSize] | None = None,
) -> Slide:  # fmt: skip
    """Open a slide with OpenSlide, or tifffile where OpenSlide cannot (OME-TIFF, plain TIFF).

    The pixel size is that of `mpp`, else of ``<slide>.histomri.json`` beside the slide, else of `known_um`, else of
    the slide itself; with `trust_mpp`, that of `mpp` even if the slide says otherwise. All are (x, y) in µm, `mpp` may
    be one number; `known_um` has them by the name of the source, such as a QuPath project. The slide is svs, ndpi,
    OME-TIFF, TIFF and whatever else OpenSlide reads; or a PNG or JPEG picture of it.

    Raises
    ------
    InputError
        If the file is damaged, no slide, or of another size than its JSON file says, or pixel sizes disagree.
    """
    path = require_file(path, "slide")
    given = calibration.check_pixel_size(mpp)
    slide = _open(path)
    try:
        if min(length for size in (slide.size_px, *slide.level_sizes) for length in size) < 1:
            raise InputError("the slide is damaged (a level of it has no pixels)", path=path, hint=_COPY)
        sources = [("--mpp", given)]
        if (beside := calibration.slide_record_path(path)) is not None:
            record = calibration.read_slide_record(beside)
            sources.append((record.path.name, record.pixel_size_um))
            if record.size_px is not None and record.size_px != slide.size_px:
                ours, stated = (f"{wide} x {high}" for wide, high in (slide.size_px, record.size_px))
                problem = f"is {ours} px, and {record.path.name} says {stated}"
                raise InputError(problem, path=path, hint="in QuPath it was cropped or turned, or it is another image")
        with reading(path, "slide", _COPY, _DAMAGED, unchecked=True):
            own = slide.stated_pixel_sizes()
        sources += [*(known_um or {}).items(), *own]
        settled = calibration.settle_pixel_size(sources, path, overrule=trust_mpp and given is not None)
        slide.pixel_size_um, slide.pixel_size_from = settled
    except InputError:
        slide.close()
        raise
    return slide


def is_slide(path: Path) -> bool:
    """Whether a file is a slide, not a table of cells: by its first bytes or else its name; a picture is refused."""
    with path.open("rb") as stream:
        start = stream.read(4)
    known = start in _TIFF_STARTS or path.name.lower().endswith(_SLIDES)
    if not known and start != b"PAR1" and path.suffix.lower() in (*_PICTURES, ".bmp", ".gif", ".webp"):
        hint = "pass the slide as the scanner wrote it (svs, ndpi, ...) or as TIFF or OME-TIFF"
        raise InputError("is a picture of a kind that is not read as a slide", path=path, hint=hint)
    return known and start != b"PAR1"


def _open(path: Path) -> Slide:
    if path.suffix.lower() in _PICTURES:
        return PictureSlide(path)
    import openslide
    import tifffile

    # Of a plain tiled TIFF OpenSlide reads neither OME's calibration nor its sub-images, and few compressions.
    with reading(path, "slide", _COPY, _DAMAGED):
        if openslide.OpenSlide.detect_format(str(path)) not in (None, "generic-tiff"):
            return OpenSlideSlide(path, openslide.OpenSlide(str(path)))
    with reading(path, "slide", _CONVERT, "is no slide that OpenSlide or tifffile can read ({})"):
        handle = tifffile.TiffFile(path)
    with ExitStack() as stack, reading(path, "slide", _COPY, _DAMAGED, unchecked=True):
        stack.callback(handle.close)
        slide = TiffSlide(path, handle)
        stack.pop_all()
        return slide
