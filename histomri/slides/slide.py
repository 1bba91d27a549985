"""Whole-slide images: one small interface, whichever library can read the file."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histomri.errors import InputError, UnitError
from histomri.files import require_file

RGB = NDArray[np.uint8]
# A level is read whole when a thumbnail is made; beyond this it would not fit in memory.
LARGEST_PIXELS = 400_000_000
_CONVERT = "save it from QuPath as OME-TIFF"


class Slide(ABC):
    """An opened slide; a context manager.

    Attributes
    ----------
    path : Path
        The file.
    pixel_size_um : (x, y) or None
        Pixel size of the full-resolution image, None if the file does not tell.
    size_px : (width, height)
        Size of the full-resolution image.
    """

    path: Path
    pixel_size_um: tuple[float, float] | None
    size_px: tuple[int, int]

    @property
    @abstractmethod
    def downsamples(self) -> tuple[float, ...]:
        """How much smaller each stored level is than the first."""

    @abstractmethod
    def read_level(self, level: int) -> RGB:
        """Read a whole level as (h, w, 3)."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> "Slide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def thumbnail(self, um_per_px: float) -> RGB:
        """Return the whole slide at a wanted resolution, (h, w, 3).

        The smallest stored level that is fine enough is read and averaged down; it is never enlarged.

        Raises
        ------
        UnitError
            If the pixel size of the slide is not known.
        InputError
            If the resolution is not positive or the level does not fit in memory.
        """
        if self.pixel_size_um is None:
            raise UnitError("the slide states no pixel size", path=self.path, way_out="give the pixel size, --mpp")
        if not (np.isfinite(um_per_px) and um_per_px > 0):
            raise InputError(f"a resolution of {um_per_px} µm per pixel is not possible", path=self.path)
        factors = [um_per_px / size for size in self.pixel_size_um]
        fine_enough = [level for level, down in enumerate(self.downsamples) if down <= min(factors) * 1.001]
        level = max(fine_enough, key=lambda index: self.downsamples[index], default=0)
        pixels = self.size_px[0] * self.size_px[1] / self.downsamples[level] ** 2
        if pixels > LARGEST_PIXELS:
            raise InputError(
                f"the level that a thumbnail at {um_per_px:g} µm is made of has {pixels / 1e6:,.0f} million pixels",
                path=self.path,
                way_out="save the slide as a pyramid, for example from QuPath as OME-TIFF",
            )
        width, height = (max(round(n / max(f, 1)), 1) for n, f in zip(self.size_px, factors))
        return _resize(self.read_level(level), width, height)


class _OpenSlideSlide(Slide):
    def __init__(self, path: Path, handle: Any) -> None:
        self.path, self._handle = path, handle
        self.size_px = (int(handle.dimensions[0]), int(handle.dimensions[1]))
        self.pixel_size_um = _positive(
            handle.properties.get("openslide.mpp-x"), handle.properties.get("openslide.mpp-y")
        )

    @property
    def downsamples(self) -> tuple[float, ...]:
        return tuple(float(value) for value in self._handle.level_downsamples)

    def read_level(self, level: int) -> RGB:
        from openslide import OpenSlideError

        try:
            picture = self._handle.read_region((0, 0), level, self._handle.level_dimensions[level])
        except OpenSlideError as error:
            raise InputError(f"the slide cannot be read ({error})", path=self.path, way_out="copy it again") from error
        rgba = np.asarray(picture)
        # Parts that were not scanned are transparent; glass is white.
        return np.where(rgba[..., 3:] == 0, np.uint8(255), rgba[..., :3])

    def close(self) -> None:
        self._handle.close()


class _TiffSlide(Slide):
    def __init__(self, path: Path, handle: Any) -> None:
        self.path, self._handle = path, handle
        self._series = handle.series[0]
        first = self._series.levels[0]
        self._axes = first.axes
        if "Y" not in self._axes or "X" not in self._axes or first.dtype != np.uint8:
            raise InputError(f"is a TIFF of axes {self._axes}, {first.dtype}: no RGB slide of 8 bits", path=path)
        sizes = dict(zip(self._axes, first.shape))
        if any(length > 1 for axis, length in sizes.items() if axis not in "YXSC"):
            raise InputError(f"is a TIFF of axes {self._axes}: a stack, not one slide", path=path)
        self.size_px = (int(sizes["X"]), int(sizes["Y"]))
        self.pixel_size_um = _ome_pixel_size(handle) or _tiff_pixel_size(self._series)

    @property
    def downsamples(self) -> tuple[float, ...]:
        along = self._axes.index("X")
        return tuple(self.size_px[0] / level.shape[along] for level in self._series.levels)

    def read_level(self, level: int) -> RGB:
        try:
            data = self._series.levels[level].asarray()
        except (ValueError, OSError, RuntimeError, IndexError) as error:
            remedy = "install imagecodecs with pip" if "imagecodecs" in str(error) else "copy it again"
            raise InputError(f"the slide cannot be read ({error})", path=self.path, way_out=remedy) from error
        colour = next((self._axes.index(axis) for axis in "SC" if axis in self._axes), None)
        data = np.moveaxis(data, colour, -1) if colour is not None else data[..., None]
        data = data.reshape(data.shape[-3:])
        if data.shape[-1] == 1:
            data = np.repeat(data, 3, axis=-1)
        if data.shape[-1] < 3:
            raise InputError(f"has {data.shape[-1]} colour channels, and three were expected", path=self.path)
        return np.ascontiguousarray(data[..., :3])

    def close(self) -> None:
        self._handle.close()


def open_slide(path: str | Path) -> Slide:
    """Open a slide with OpenSlide, or tifffile where OpenSlide cannot (OME-TIFF, plain TIFF).

    Raises
    ------
    InputError
        If the file is missing, empty, damaged, or no slide.
    """
    import openslide
    import tifffile

    path = require_file(path, "slide")
    try:
        handle = openslide.OpenSlide(str(path))
        # Of a plain tiled TIFF OpenSlide reads neither OME's calibration nor its sub-images.
        if handle.properties.get("openslide.vendor") != "generic-tiff":
            return _OpenSlideSlide(path, handle)
        handle.close()
    except openslide.OpenSlideUnsupportedFormatError:
        pass
    except openslide.OpenSlideError as error:
        raise InputError(f"the slide is damaged ({error})", path=path, way_out="copy it again") from error
    try:
        handle = tifffile.TiffFile(path)
    except (tifffile.TiffFileError, ValueError, OSError) as error:
        raise InputError("is no slide that OpenSlide or tifffile can read", path=path, way_out=_CONVERT) from error
    try:
        return _TiffSlide(path, handle)
    except InputError:
        handle.close()
        raise
    except (tifffile.TiffFileError, ValueError, IndexError, KeyError) as error:
        handle.close()
        raise InputError(f"the slide is damaged ({error})", path=path, way_out="copy it again") from error


_TO_UM = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


def _positive(x: Any, y: Any) -> tuple[float, float] | None:
    try:
        pair = float(x), float(y)
    except (TypeError, ValueError):
        return None
    return pair if all(np.isfinite(pair)) and min(pair) > 0 else None


def _ome_pixel_size(handle: Any) -> tuple[float, float] | None:
    if not handle.is_ome or not handle.ome_metadata:
        return None
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(handle.ome_metadata)
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    pair = _positive(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY"))
    scales = [_TO_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
    if pair is None or scales[0] is None or scales[1] is None:
        return None
    return pair[0] * scales[0], pair[1] * scales[1]


def _tiff_pixel_size(series: Any) -> tuple[float, float] | None:
    """Return the pixel size by the resolution tags, unless they are a printer's dots per inch."""
    tags = series.levels[0].keyframe.tags
    unit = {2: 25400.0, 3: 10000.0}.get(int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 0)
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    per_unit = []
    for axis in "XY":
        above, below = tags[f"{axis}Resolution"].value
        per_unit.append(above / below if below else 0.0)
    sizes = _positive(*(unit / value if value > 0 else 0.0 for value in per_unit))
    # 72 to 600 dots per inch are 42-353 µm: no microscope's pixels.
    return sizes if sizes is not None and max(sizes) < 40 else None


def _resize(picture: RGB, width: int, height: int) -> RGB:
    if picture.shape[:2] == (height, width):
        return picture
    from PIL import Image as Picture

    return np.asarray(Picture.fromarray(picture).resize((width, height), Picture.Resampling.BOX))
