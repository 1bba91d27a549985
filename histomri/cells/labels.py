"""Masks in which every cell has its own number (StarDist, Cellpose, QuPath's labelled images): centroids and areas.

TIFF is read tile by tile, so memory is that of a tile and 24 bytes for each number up to the largest; PNG is unpacked
whole. A mask does not show which nucleus is in which cell, classes, and cells hidden below others.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from histomri.cells.parsed_export import ParsedExport
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.calibration import ome_pixel_size
from histomri.core.errors import InputError

_LARGEST_LABEL = 1 << 27  # 3 GB of sums
_EXACT_FLOAT = 1 << 24
_LARGEST_PNG = 2_000_000_000
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 34926, 50000)  # none, LZW, deflate, PackBits, LZMA, ZSTD


@dataclass
class _Sums:
    """Per number: pixels, and sums of their columns and rows."""

    count: IntArray
    x: FloatArray
    y: FloatArray

    def add(self, labels: IntArray, column: int, row: int) -> None:
        """Add a block whose first pixel is at (column, row)."""
        if not labels.size or not labels.max():
            return
        rows, columns = np.nonzero(labels)
        found = labels[rows, columns].astype(np.int64)
        most = int(found.max()) + 1
        if most > self.count.size:
            room = max(most, 2 * self.count.size)
            for values in (self.count, self.x, self.y):
                values.resize(room, refcheck=False)
        # Within a block the numbers lie close together, so the sums are taken over their range only.
        least = int(found.min())
        span = slice(least, most)
        found -= least
        self.count[span] += np.bincount(found, minlength=most - least)
        self.x[span] += np.bincount(found, columns + (column + 0.5), most - least)
        self.y[span] += np.bincount(found, rows + (row + 0.5), most - least)


def read_labels(path: Path) -> ParsedExport:
    """Read a mask of numbered cells; positions and areas are in its own pixels."""
    sums = _Sums(np.zeros(1 << 16, dtype=np.int64), np.zeros(1 << 16), np.zeros(1 << 16))
    with path.open("rb") as stream:
        is_png = stream.read(4) == b"\x89PNG"
    try:
        size, pixel_um = _read_png(path, sums) if is_png else _read_tiff(path, sums)
    except InputError:
        raise
    except Exception as error:  # a damaged file makes Pillow or the TIFF reader fail wherever it first trips over it
        problem = f"is a {'PNG' if is_png else 'TIFF'} picture, not a table of cells, and it cannot be read ({error})"
        raise InputError(problem, path=path) from error
    labels = np.flatnonzero(sums.count)
    area = sums.count[labels].astype(float)
    if labels.size == 0:
        raise InputError("is a mask without any cell: all its pixels are 0", path=path)
    if labels.size == 1:
        raise _not_labels(path, "all its cells have one number; export instances, each with a number of its own")
    if np.median(area) < 4:
        raise _not_labels(path, f"its {labels.size:,} numbers have {np.median(area):.3g} pixels each, as colours have")
    numbers = {"x": sums.x[labels] / area, "y": sums.y[labels] / area, "area": area}
    kinds = pa.chunked_array([pa.array(["detection"] * labels.size, pa.string()).dictionary_encode()])
    text = {"object_id": pa.chunked_array([pa.array(labels).cast(pa.string())]), "object_type": kinds}
    units: dict[str, str | None] = {"x": "px", "y": "px", "area": "px2"}
    names = dict.fromkeys(numbers, "label")
    return ParsedExport(path, labels.size, text, numbers, units, names, pixel_size_um=pixel_um, size_px=size)


def _not_labels(path: Path, why: str) -> InputError:
    kind = "PNG" if path.suffix.lower() == ".png" else "TIFF"
    problem = f"is a {kind} picture, not a table of cells, and no mask of numbered cells either ({why})"
    hint = "export the cells from QuPath as a table, or a mask in which each cell has its own number"
    return InputError(problem, path=path, hint=hint)


def _read_png(path: Path, sums: _Sums) -> tuple[tuple[int, int], None]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > _LARGEST_PNG or picture.mode not in ("L", "P", "I", "I;16", "RGB"):
                kind = f"a PNG picture of {width} x {height} pixels in mode {picture.mode}"
                problem = f"is {kind}, and no mask of numbered cells is like that"
                raise InputError(problem, path=path, hint="export the mask as TIFF")
            pixels = np.asarray(picture)
    _add_rows(path, sums, pixels)
    return (width, height), None


def _add_rows(path: Path, sums: _Sums, pixels: NDArray[Any]) -> None:
    step = max(1, (1 << 22) // pixels.shape[1])
    for row in range(0, pixels.shape[0], step):
        sums.add(_labels(path, pixels[row : row + step]), 0, row)


def _labels(path: Path, block: NDArray[Any]) -> IntArray:
    """Return the numbers of a block of pixels; three channels of bytes are one number of three bytes."""
    if block.ndim == 3:
        red, green, blue = (block[..., channel].astype(np.int64) for channel in range(3))
        return red << 16 | green << 8 | blue
    if block.dtype.kind == "f":
        if not (np.isfinite(block).all() and (block == np.floor(block)).all() and np.abs(block).max() <= _EXACT_FLOAT):
            raise _not_labels(path, "its pixels are not whole numbers that single precision holds")
        block = block.astype(np.int64)
    if block.dtype.kind not in "biu":
        raise _not_labels(path, f"its pixels are {block.dtype}")
    if block.size and (block.min() < 0 or block.max() > _LARGEST_LABEL):
        raise _not_labels(path, f"its pixels run from {block.min()} to {block.max()}")
    return block


def _read_tiff(path: Path, sums: _Sums) -> tuple[tuple[int, int], tuple[float, float] | None]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        size = _check_tiff(path, series)
        pixel_um = ome_pixel_size(tiff.ome_metadata) if tiff.is_ome else None
        if len(series.pages) == 1:
            for block, column, row in _segments(series.pages[0]):
                sums.add(_labels(path, block), column, row)
        else:
            _add_rows(path, sums, np.moveaxis(series.asarray(), series.axes.index("C"), -1).squeeze())
    return size, pixel_um


def _check_tiff(path: Path, series: Any) -> tuple[int, int]:
    """Return (width, height), or say why this is no mask."""
    sizes = dict(zip(series.axes, series.shape))
    channels = sizes.get("S", 1) * sizes.get("C", 1)
    others = {axis: count for axis, count in sizes.items() if axis not in "YXSC" and count > 1}
    if others or channels not in (1, 3) or "Y" not in sizes or "X" not in sizes:
        raise _not_labels(path, f"its axes are {series.axes}, of length {' x '.join(map(str, series.shape))}")
    page = series.pages[0]
    if int(page.compression) not in _LOSSLESS:
        raise _not_labels(path, f"its compression, {page.compression.name}, is for photographs")
    if channels == 3 and page.dtype != np.uint8:
        raise _not_labels(path, f"it has three channels of {page.dtype}")
    return int(sizes["X"]), int(sizes["Y"])


def _segments(page: Any) -> Iterator[tuple[NDArray[Any], int, int]]:
    """Yield the tiles or strips of a page, cut to the picture, each with its column and row."""
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        pixels = page.asarray()  # planes of colour lie apart, so tiles do not hold whole pixels
        yield np.moveaxis(pixels, 0, -1), 0, 0
        return
    for block, place, _ in page.segments():
        if block is not None:  # a tile that was left out holds nothing
            row, column = place[2], place[3]
            inside = block[0, : page.imagelength - row, : page.imagewidth - column]
            yield inside[..., 0] if inside.shape[-1] == 1 else inside, column, row


def label_blocks(path: Path, rows: int = 512) -> Iterator[tuple[IntArray, int, int]]:
    """Yield a mask in parts, for what else is measured in its cells: numbers (h, w), column and row of the first pixel.

    TIFF is given by tiles, or by strips joined to some `rows` rows; PNG and masks of several planes are unpacked whole.
    """
    import tifffile
    from PIL import Image

    if path.suffix.lower() == ".png":
        with Image.open(path) as picture:
            yield _labels(path, np.asarray(picture)), 0, 0
        return
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0]
        if len(series.pages) > 1:
            yield _labels(path, np.moveaxis(series.asarray(), series.axes.index("C"), -1).squeeze()), 0, 0
            return
        strips, first = list[NDArray[Any]](), 0
        for block, column, row in _segments(series.pages[0]):
            if block.shape[1] < series.pages[0].imagewidth:
                yield _labels(path, block), column, row
                continue
            if strips and (row - first >= rows or row != first + sum(map(len, strips))):
                yield _labels(path, np.concatenate(strips)), 0, first
                strips = []
            first = first if strips else row
            strips.append(block)
        if strips:
            yield _labels(path, np.concatenate(strips)), 0, first


def mask_size(path: Path) -> tuple[int, int]:
    """Return width and height of a mask in its own pixels."""
    import tifffile
    from PIL import Image

    if path.suffix.lower() == ".png":
        with Image.open(path) as picture:
            width, height = picture.size
        return width, height
    with tifffile.TiffFile(path) as tiff:
        return _check_tiff(path, tiff.series[0])
