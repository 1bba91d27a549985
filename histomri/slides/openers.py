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
        self.size_px = (min(width or wide, wide - x), min(height or high, high - y))
        whole = [tuple(map(int, size)) for size in handle.level_dimensions]
        self._scales = [(whole[0][0] / width, whole[0][1] / height) for width, height in whole]
        self.level_sizes = tuple(
            (max(round(self.size_px[0] / x), 1), max(round(self.size_px[1] / y), 1)) for x, y in self._scales
        )

    def stated_pixel_sizes(self) -> list[tuple[str, PixelSize | None]]:
        """Return the pixel sizes of the metadata; see `Slide.stated_pixel_sizes`."""
        properties = self._handle.properties
        aperio = properties.get("aperio.MPP")
        return [
            ("its metadata", positive_pair(properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y"))),
            ("its field aperio.MPP", positive_pair(aperio, aperio)),
        ]

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
        rgba = np.asarray(picture)
        # Parts that were not scanned are transparent.
        return np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])

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
                rgba = np.asarray(opened.convert("RGBA"))
        except (UnidentifiedImageError, Picture.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"is no picture that can be read ({error})", path=path, hint="copy it again") from error
        self._picture = np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])
        self.size_px = (rgba.shape[1], rgba.shape[0])
        self.level_sizes = (self.size_px,)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> RGB:
        """Read a part; see `Slide.read`."""
        return self._picture[y : y + height, x : x + width]


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
        sources += list((known_um or {}).items())
        sources += slide.stated_pixel_sizes()
        overrule = trust_mpp and given is not None
        slide.pixel_size_um, slide.pixel_size_from = settle_pixel_size(sources, path, overrule=overrule)
    except InputError:
        slide.close()
        raise
    return slide


def is_slide(path: Path) -> bool:
    """Whether a file is a slide, and not a table of cells: by its first bytes or else its name.

    Raises
    ------
    InputError
        If it is a picture, which as a slide has lost its pixel size.
    """
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
    except InputError:
        handle.close()
        raise
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        handle.close()
        raise InputError(f"the slide is damaged ({error})", path=path, hint="copy it again") from error
