"""Slides that tifffile reads: OME-TIFF and plain TIFF; JPEG, LZW and the like are decoded by imagecodecs."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.calibration import PixelSize, ome_pixel_size, positive_pair
from histomri.core.errors import InputError
from histomri.slides.slide import RGB, Slide

_CACHE_BYTES = 128_000_000
# A tile is decoded whole, so its size bounds the memory from below.
_LARGEST_SEGMENT = 64_000_000


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
        try:
            planes = [self._read_page(level, number, x, y, width, height) for number in range(len(self._pages[level]))]
        except (ValueError, OSError, RuntimeError, IndexError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the slide cannot be read ({error})", path=self.path, hint="copy it again") from error
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
        samples, separate = int(page.samplesperpixel), page.planarconfig == 2
        size = (int(page.imagelength), int(page.imagewidth))
        shape = (samples, *size) if separate else (*size, samples)
        data: RGB = np.memmap(self.path, np.uint8, "r", offset=page.dataoffsets[0], shape=shape)
        return np.moveaxis(data, 0, -1) if separate else data

    def _segment(self, level: int, number: int, index: int, row: int) -> RGB:
        key = level, number, index
        if key in self._cache:
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
        picture = np.asarray(page.decode(data, index, jpegtables=page.jpegtables)[0])
    except (ValueError, OSError, RuntimeError, IndexError, ArithmeticError) as error:
        if "imagecodecs" in str(error) and "requires" in str(error):
            name = getattr(page.compression, "name", page.compression)
            problem = f"is compressed as {name}, which needs the package imagecodecs"
            hint = "install it (pip install imagecodecs), or save the slide from QuPath as OME-TIFF, JPEG"
            raise InputError(problem, path=path, hint=hint) from error
        raise InputError(f"the slide is damaged ({error})", path=path, hint="copy it again") from error
    return picture.reshape(picture.shape[-3:])


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
