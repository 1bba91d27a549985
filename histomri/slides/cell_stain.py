"""How much of a stain each cell has: the mean optical density over the pixels of its mask or outline.

As in QuPath ("Nucleus: DAB OD mean") the density is taken pixel by pixel and then averaged. A pixel belongs to an
outline if its centre does; where outlines overlap, it belongs to both.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from histomri.core.arrays import FloatArray, IntArray
from histomri.slides.slide import View
from histomri.slides.stains import Stains

_TILE_PX = 1024


@dataclass(frozen=True, eq=False)
class CellStain:
    """Stain of cells."""

    od_mean: FloatArray  # (N, 3): mean optical density of each stain, NaN for a cell without a pixel on the slide
    n_pixels: IntArray  # (N,): pixels that were averaged


def stain_of_labels(
    view: View, stains: Stains, blocks: Iterable[tuple[IntArray, int, int]],
    pixel_um: tuple[float, float], n_labels: int,
) -> CellStain:  # fmt: skip
    """Measure the stains in the cells of a mask, whose pixels need not be those of the slide.

    Parameters
    ----------
    view : View
        The slide at the resolution at which it is measured.
    stains : Stains
        With a background.
    blocks : iterable of (labels (h, w), column, row)
        The mask in parts: numbers of the cells, 0 for none, and the place of the first pixel.
    pixel_um, n_labels : (x, y); int
        Pixel size of the mask; results are those of the numbers 0 to n_labels - 1.
    """
    total, count = np.zeros((n_labels, 3)), np.zeros(n_labels, np.int64)
    for labels, column, row in blocks:
        # The pixel of the view in which each pixel of the mask has its centre.
        x, y = (
            ((first + np.arange(length) + 0.5) * size / own).astype(np.intp)
            for first, length, size, own in zip((column, row), labels.shape[::-1], pixel_um, view.um_per_px)
        )
        x, y = x[x < view.size_px[0]], y[y < view.size_px[1]]
        if not (x.size and y.size and labels[: y.size, : x.size].any()):
            continue
        rgb = view.read(int(x[0]), int(y[0]), int(x[-1] - x[0]) + 1, int(y[-1] - y[0]) + 1)
        density = stains.amounts(rgb)[np.ix_(y - y[0], x - x[0])]
        rows, columns = np.nonzero(labels[: y.size, : x.size])
        found = labels[rows, columns].astype(np.int64)
        total += _sums(found, density[rows, columns], n_labels)
        count += np.bincount(found, minlength=n_labels)[:n_labels]
    return _mean(total, count)


def stain_of_outlines(view: View, stains: Stains, outlines: NDArray[np.object_]) -> CellStain:
    """Measure the stains in cells with outlines (N,), polygons in µm of the slide; as in `stain_of_labels`."""
    total, count = np.zeros((outlines.size, 3)), np.zeros(outlines.size, np.int64)
    if not outlines.size:
        return _mean(total, count)
    shapes = shapely.transform(outlines, lambda points: points / np.asarray(view.um_per_px))
    bounds, (wide, high) = shapely.bounds(shapes), view.size_px
    middle = (np.nan_to_num((bounds[:, :2] + bounds[:, 2:]) / 2) // _TILE_PX).astype(np.int64)
    tile = middle[:, 1] * (wide // _TILE_PX + 2) + middle[:, 0]
    order = np.argsort(tile, kind="stable")
    for cells in np.split(order, np.flatnonzero(np.diff(tile[order])) + 1):
        low = np.clip(np.floor(np.nanmin(bounds[cells, :2], axis=0)), 0, None).astype(int)
        top = np.minimum(np.ceil(np.nanmax(bounds[cells, 2:], axis=0)), (wide, high)).astype(int)
        if (top <= low).any():
            continue  # these cells lie beside the slide
        cell, column, row = pixels_inside(shapes[cells], low, top)
        rgb = view.read(int(low[0]), int(low[1]), int(top[0] - low[0]), int(top[1] - low[1]))
        density = stains.amounts(rgb)[row - low[1], column - low[0]]
        total[cells] = _sums(cell, density, cells.size)
        count[cells] = np.bincount(cell, minlength=cells.size)
    return _mean(total, count)


def pixels_inside(
    shapes: NDArray[np.object_], low: NDArray[np.int_], top: NDArray[np.int_]
) -> tuple[IntArray, IntArray, IntArray]:
    """Return cell, column and row of every pixel whose centre is in a cell, for polygons (N,) in pixels.

    Only pixels of the window from `low` (column, row) to below `top` are given. The rows of pixel centres are crossed
    with the edges of the polygons; between the first and second, third and fourth crossing a row is inside.
    """
    parts, of_part = shapely.get_parts(shapes, return_index=True)
    rings, of_ring = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same = ring[1:] == ring[:-1]
    start, stop, cell = points[:-1][same], points[1:][same], of_part[of_ring[ring[:-1][same]]]
    swap = (start[:, 1] > stop[:, 1])[:, None]
    upper, lower = np.where(swap, stop, start), np.where(swap, start, stop)
    first = np.clip(np.ceil(upper[:, 1] - 0.5), low[1], top[1]).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), low[1], top[1]).astype(np.int64)
    edge, row = _ranges(first, last)
    upper, lower, cell = upper[edge], lower[edge], cell[edge]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    crossing = upper[:, 0] + (row + 0.5 - upper[:, 1]) * slope
    order = np.lexsort((crossing, row, cell))
    begin, end = order[::2], order[1::2]  # every row of a cell is crossed an even number of times
    column = [np.clip(np.ceil(crossing[at] - 0.5), low[0], top[0]).astype(np.int64) for at in (begin, end)]
    run, columns = _ranges(*column)
    return cell[begin[run]], columns, row[begin[run]]


def _ranges(first: IntArray, last: IntArray) -> tuple[IntArray, IntArray]:
    """Return all whole numbers from `first` to below `last` (M,), and which of the M ranges each is of."""
    count = np.maximum(last - first, 0)
    which = np.repeat(np.arange(count.size), count)
    return which, np.arange(which.size) - np.repeat(np.cumsum(count) - count, count) + first[which]


def _sums(cell: IntArray, density: NDArray[np.float32], n: int) -> FloatArray:
    """Return the sum of densities (P, 3) over each of n cells, for the cell of each pixel (P,)."""
    return np.stack([np.bincount(cell, density[:, stain], n)[:n] for stain in range(3)], axis=1)


def _mean(total: FloatArray, count: IntArray) -> CellStain:
    there = np.broadcast_to(count[:, None] > 0, total.shape)
    return CellStain(np.divide(total, count[:, None], out=np.full(total.shape, np.nan), where=there), count)
