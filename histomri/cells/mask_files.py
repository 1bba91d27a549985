"""Pictures of numbered cells: TIFF block by block, PNG and NumPy files whole; their numbers and their pixel size."""

import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histomri.core.array_files import read_array
from histomri.core.arrays import IntArray
from histomri.core.calibration import ome_pixel_size
from histomri.core.door import check_png
from histomri.core.errors import InputError

LARGEST_LABEL = 1 << 27  # 3 GB of sums
LARGEST_WHOLE = 2_000_000_000
_EXACT_FLOAT = 1 << 24
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 34926, 50000)  # none, LZW, deflate, PackBits, LZMA, ZSTD
_UNIT_UM = {"um": 1.0, "µm": 1.0, "μm": 1.0, "micron": 1.0, "microns": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_UNIT_UM |= {"micrometer": 1.0, "micrometre": 1.0, "inch": 25400.0, "nanometer": 1e-3}
_TAG_UM = {2: 25400.0, 3: 1e4}  # ResolutionUnit: inch, cm
# Programs that know no pixel size write 72, 96, 300, 600 dpi or one pixel per unit: 42 µm and more.
_POSSIBLE_UM = (0.02, 20.0)
_OPAQUE = {"Z": "focal planes", "T": "time points"}

Block = tuple[NDArray[Any], int, int]


@dataclass
class MaskFile:
    """One opened picture; its planes are one mask, or those of nuclei and cells."""

    path: Path
    size_px: tuple[int, int]  # (width, height)
    pixel_um: tuple[float, float] | None
    planes: int
    series: Any = None  # of a TIFF
    pixels: NDArray[Any] | None = None  # (planes, height, width[, 3]) of any other file

    def blocks(self, plane: int = 0) -> Iterator[Block]:
        """Yield blocks of pixels of a plane with the column and row of their first pixel."""
        page = self.page(plane)
        yield from _rows(self.whole(plane)) if page is None else _segments(page)

    def page(self, plane: int) -> Any:
        """Return the page of a TIFF that is a plane, None if there is none."""
        if self.pixels is not None or len(self.series.pages) != self.planes:
            return None
        page = self.series.pages[plane]
        if hasattr(page, "planarconfig"):
            return page
        return None if page.is_virtual else page.aspage()  # a frame has no tags of its own

    def whole(self, plane: int = 0) -> NDArray[Any]:
        """Return a plane, (height, width[, 3])."""
        if self.size_px[0] * self.size_px[1] > LARGEST_WHOLE:
            problem = f"is a picture of {self.size_px[0]} x {self.size_px[1]} pixels, too large to be unpacked whole"
            raise InputError(
                problem, path=self.path, hint="export the mask as tiled TIFF, with a number of its own each"
            )
        if self.pixels is None:
            array = _planes(self.series, self.planes, self.size_px)
            self.pixels = array
        return np.asarray(self.pixels[plane])

    def fits(self, other: "MaskFile") -> bool:
        """Whether the blocks of two files are the same places."""
        pages = [mask.page(plane) for mask in (self, other) for plane in range(mask.planes)]
        return None not in pages and len({(page.shape, page.chunks, page.planarconfig) for page in pages}) == 1


def open_mask(path: Path, stack: ExitStack) -> MaskFile:
    """Open a picture; it stays open as long as `stack`. A damaged file makes its reader fail wherever it trips."""
    with path.open("rb") as stream:
        magic = stream.read(6)
    if magic.startswith(b"\x89PNG"):
        return _open_png(path)
    return _open_npy(path) if magic == b"\x93NUMPY" else _open_tiff(path, stack)


def not_labels(path: Path, why: str) -> InputError:
    """Return the error for a picture that is no mask."""
    kind = {".png": "PNG", ".npy": "NumPy"}.get(path.suffix.lower(), "TIFF")
    problem = f"is a {kind} picture, not a table of cells, and no mask of numbered cells either ({why})"
    hint = "export the cells from QuPath as a table, or a mask in which each cell has its own number"
    return InputError(problem, path=path, hint=hint)


def numbers_of(path: Path, block: NDArray[Any]) -> IntArray:
    """Return the numbers of a block of pixels; three channels of bytes are one number of three bytes."""
    if block.ndim == 3:
        red, green, blue = (block[..., channel].astype(np.int64) for channel in range(3))
        return red << 16 | green << 8 | blue
    if block.dtype.kind == "f":
        if not (np.isfinite(block).all() and (block == np.floor(block)).all() and np.abs(block).max() <= _EXACT_FLOAT):
            raise not_labels(path, "its pixels are not whole numbers that single precision holds")
        block = block.astype(np.int64)
    if block.dtype.kind not in "biu":
        raise not_labels(path, f"its pixels are {block.dtype}")
    if block.size and (block.min() < 0 or block.max() > LARGEST_LABEL):
        raise not_labels(path, f"its pixels run from {block.min()} to {block.max()}")
    return block


def _open_png(path: Path) -> MaskFile:
    from PIL import Image

    check_png(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > LARGEST_WHOLE or picture.mode not in ("L", "P", "I", "I;16", "RGB"):
                kind = f"a PNG picture of {width} x {height} pixels in mode {picture.mode}"
                problem = f"is {kind}, and no mask of numbered cells is like that"
                raise InputError(problem, path=path, hint="export the mask as TIFF")
            pixels = np.asarray(picture)
    return MaskFile(path, (width, height), None, 1, pixels=pixels[np.newaxis])


def _open_npy(path: Path) -> MaskFile:
    try:
        array = read_array(path, "mask", mapped=True)
    except InputError as error:
        if "Python objects" not in error.problem:
            raise
        problem = "holds Python objects, as the _seg.npy of Cellpose does, and they are not opened"
        hint = "save its masks alone: numpy.save('masks.npy', data['masks']), or as TIFF"
        raise InputError(problem, path=path, hint=hint) from error
    array = array.reshape([size for size in array.shape if size != 1] or [1])
    if array.ndim == 3 and array.shape[-1] == 2:
        array = np.moveaxis(array, -1, 0)
    is_rgb = array.ndim == 3 and array.shape[-1] == 3 and array.dtype == np.uint8
    if array.ndim == 2 or is_rgb:
        array = array[np.newaxis]
    if not is_rgb and (array.ndim != 3 or array.shape[0] > 2):
        raise not_labels(path, f"its shape is {' x '.join(map(str, array.shape))}")
    return MaskFile(path, (array.shape[2], array.shape[1]), None, array.shape[0], pixels=array)


def _open_tiff(path: Path, stack: ExitStack) -> MaskFile:
    import tifffile

    tiff = stack.enter_context(tifffile.TiffFile(path))
    series = tiff.series[0]
    size, planes = _check_tiff(path, series)
    return MaskFile(path, size, _pixel_size(tiff), planes, series=series)


def _check_tiff(path: Path, series: Any) -> tuple[tuple[int, int], int]:
    """Return (width, height) and number of masks, or say why this is no mask."""
    sizes: dict[str, int] = {}
    for axis, count in zip(series.axes, series.shape):
        sizes[axis] = sizes.get(axis, 1) * count
    opaque = any(sizes.get(axis, 1) > 1 for axis in _OPAQUE)
    channels = int(np.prod([count for axis, count in sizes.items() if axis not in "YX"]))
    if opaque or channels not in (1, 2, 3) or "Y" not in sizes or "X" not in sizes:
        raise not_labels(path, f"its axes are {series.axes}, of length {' x '.join(map(str, series.shape))}")
    page = series.pages[0]
    if int(page.compression) not in _LOSSLESS:
        raise not_labels(
            path, f"its compression, {getattr(page.compression, 'name', page.compression)}, is for photographs"
        )
    if channels == 3 and page.dtype != np.uint8:
        raise not_labels(path, f"it has three channels of {page.dtype}")
    return (int(sizes["X"]), int(sizes["Y"])), 2 if channels == 2 else 1


def _pixel_size(tiff: Any) -> tuple[float, float] | None:
    """Return the pixel size (µm) by OME-XML, by the unit of ImageJ, or by the resolution tags."""
    if tiff.is_ome and (found := ome_pixel_size(tiff.ome_metadata)) is not None:
        return found
    page = tiff.pages[0]
    tags = [page.tags.get(name) for name in ("XResolution", "YResolution", "ResolutionUnit")]
    if tags[0] is None or tags[1] is None:
        return None
    about = tiff.imagej_metadata or {}
    unit = re.sub(r"\\u00B5", "µ", str(about.get("unit") or "")).strip().lower()
    scale = _UNIT_UM.get(unit) if unit else _TAG_UM.get(int(tags[2].value) if tags[2] is not None else 1)
    try:
        per_unit = [tag.value[0] / tag.value[1] for tag in tags[:2] if tag is not None]
        size = (scale / per_unit[0], scale / per_unit[1]) if scale is not None else None
    except (ZeroDivisionError, TypeError, IndexError):
        return None
    if size is None or not all(_POSSIBLE_UM[0] <= side <= _POSSIBLE_UM[1] for side in size):
        return None
    return size


def _planes(series: Any, planes: int, size_px: tuple[int, int]) -> NDArray[Any]:
    """Return (planes, height, width[, 3]) of a TIFF."""
    pixels, axes = series.asarray(), series.axes
    first = [place for place, axis in enumerate(axes) if axis not in "YXS"]
    last = [place for place, axis in enumerate(axes) if axis == "S"]
    rest = [axes.index("Y"), axes.index("X")]
    pixels = pixels.transpose([*first, *last, *rest]).reshape(-1, size_px[1], size_px[0])
    return np.asarray(pixels if planes == 2 or pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)[np.newaxis])


def _rows(pixels: NDArray[Any]) -> Iterator[Block]:
    step = max(1, (1 << 22) // pixels.shape[1])
    for row in range(0, pixels.shape[0], step):
        yield pixels[row : row + step], 0, row


def _segments(page: Any) -> Iterator[Block]:
    """Yield the tiles or strips of a page, cut to the picture, each with its column and row."""
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        pixels = page.asarray()  # planes of colour lie apart, so tiles do not hold whole pixels
        yield np.moveaxis(pixels, 0, -1), 0, 0
        return
    for block, place, shape in page.segments():
        row, column = place[2], place[3]
        high, wide = min(shape[1], page.imagelength - row), min(shape[2], page.imagewidth - column)
        if block is None:  # a tile that was left out holds nothing
            yield np.broadcast_to(np.uint8(0), (high, wide)), column, row
            continue
        inside = block[0, :high, :wide]
        yield inside[..., 0] if inside.shape[-1] == 1 else inside, column, row
