"""Opening a slide with whichever library can read it."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture
from PIL import UnidentifiedImageError

from histomri.core.calibration import (
    PixelSize,
    check_pixel_size,
    positive_pair,
    read_slide_record,
    settle_pixel_size,
    slide_record_path,
)
from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.slides.slide import LARGEST_PICTURE, RGB, Slide
from histomri.slides.tiffs import TiffSlide

_CONVERT = "save it from QuPath as OME-TIFF"
_PICTURES = (".png", ".jpg", ".jpeg")
_OTHER_PICTURES = (".bmp", ".gif", ".webp")
_SLIDES = (".svs", ".ndpi", ".tif", ".tiff", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".dcm", ".czi")
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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
        from openslide import OpenSlideError

        # OpenSlide wants the corner in pixels of the full resolution.
        across, down = self._scales[level]
        corner = (round(x * across) + self._corner[0], round(y * down) + self._corner[1])
        try:
            picture = self._handle.read_region(corner, level, (width, height))
        except OpenSlideError as error:
            raise InputError(f"the slide cannot be read ({error})", path=self.path, hint="copy it again") from error
        return _opaque(picture)

    def close(self) -> None:
        """Close the file."""
        self._handle.close()


class PictureSlide(Slide):
    """A PNG or JPEG picture, such as a thumbnail; it is unpacked whole. Its dots per inch are those of a printer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Picture.DecompressionBombWarning)  # our own limit is lower
                opened = Picture.open(path)
            with opened:
                if opened.width * opened.height > LARGEST_PICTURE:
                    raise InputError("is too large a picture to unpack whole", path=path, hint=_CONVERT)
                if opened.mode.startswith(("I", "F")):
                    raise InputError("is no picture of 8 bits", path=path, hint=_CONVERT)
                self._picture = _opaque(opened.convert("RGBA"))
        except (UnidentifiedImageError, Picture.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"is no picture that can be read ({error})", path=path, hint="copy it again") from error
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
    path: str | Path,
    *,
    mpp: float | PixelSize | None = None,
    trust_mpp: bool = False,
    known_um: Mapping[str, PixelSize] | None = None,
) -> Slide:
    """Open a slide with OpenSlide, or tifffile where OpenSlide cannot (OME-TIFF, plain TIFF).

    The pixel size is that of `mpp`, else of ``<slide>.histomri.json`` beside the slide, else of `known_um`, else of
    the slide itself.

    Parameters
    ----------
    path : path-like
        The slide: svs, ndpi, OME-TIFF, TIFF and whatever else OpenSlide reads; or a PNG or JPEG picture of it.
    mpp : float or (x, y), optional
        Pixel size in µm.
    trust_mpp : bool
        Take `mpp` even if the slide says otherwise.
    known_um : mapping, optional
        Pixel sizes (x, y) from elsewhere by the name of the source, such as a QuPath project.

    Raises
    ------
    InputError
        If the file is damaged, no slide, or of another size than its JSON file says, or pixel sizes disagree.
    """
    path = require_file(path, "slide")
    given = check_pixel_size(mpp)
    slide = _open(path)
    try:
        sources = [("--mpp", given)]
        if (beside := slide_record_path(path)) is not None:
            record = read_slide_record(beside)
            sources.append((record.path.name, record.pixel_size_um))
            if record.size_px is not None and record.size_px != slide.size_px:
                problem = (
                    f"is {slide.size_px[0]} x {slide.size_px[1]} px, and {record.path.name} says "
                    f"{record.size_px[0]} x {record.size_px[1]}"
                )
                raise InputError(problem, path=path, hint="in QuPath it was cropped or turned, or it is another image")
        sources += [*(known_um or {}).items(), *slide.stated_pixel_sizes()]
        overrule = trust_mpp and given is not None
        slide.pixel_size_um, slide.pixel_size_from = settle_pixel_size(sources, path, overrule=overrule)
    except InputError:
        slide.close()
        raise
    return slide


def is_slide(path: Path) -> bool:
    """Whether a file is a slide, not a table of cells: by its first bytes or else its name; a picture is refused."""
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == b"PAR1":
        return False
    if start in _TIFF_STARTS or path.name.lower().endswith(_SLIDES):
        return True
    if path.suffix.lower() in (*_PICTURES, *_OTHER_PICTURES):
        hint = "pass the slide as the scanner wrote it (svs, ndpi, ...) or as TIFF or OME-TIFF"
        raise InputError("is a picture of a kind that is not read as a slide", path=path, hint=hint)
    return False


def _open(path: Path) -> Slide:
    if path.suffix.lower() in _PICTURES:
        return PictureSlide(path)
    import openslide
    import tifffile

    # Of a plain tiled TIFF OpenSlide reads neither OME's calibration nor its sub-images, and few compressions.
    if openslide.OpenSlide.detect_format(str(path)) not in (None, "generic-tiff"):
        try:
            return OpenSlideSlide(path, openslide.OpenSlide(str(path)))
        except openslide.OpenSlideError as error:
            raise InputError(f"the slide is damaged ({error})", path=path, hint="copy it again") from error
    try:
        handle = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, ValueError, OSError) as error:
        raise InputError("is no slide that OpenSlide or tifffile can read", path=path, hint=_CONVERT) from error
    try:
        return TiffSlide(path, handle)
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        handle.close()
        if isinstance(error, InputError):
            raise
        raise InputError(f"the slide is damaged ({error})", path=path, hint="copy it again") from error
