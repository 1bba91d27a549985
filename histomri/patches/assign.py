"""Which cell counts in which patch, and which part of it."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import GEOSException

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import GeometryError, InputError
from histomri.patches.grid import PatchGrid
from histomri.patches.tissue import Extent

ASSIGNMENTS = ("centroid", "clip")
# Cells of more patches than this are no cells.
_MOST_PATCHES = 10_000
_BATCH = 200_000


@dataclass(frozen=True)
class Assignment:
    """Pairs of cell and patch; a cell may be in several, or in none."""

    cell: IntArray  # (M,): row of the cell
    patch: IntArray  # (M,): flat index of the patch
    part: FloatArray | None = None  # (M,): part of the cell's area that counts in the patch; None if all of it does


def assign(cells: CellTable, grid: PatchGrid, fraction: FloatArray, extent: Extent, how: str) -> Assignment:
    """Assign cells to patches by their centroid, or by exact clipping of their outline."""
    if how not in ASSIGNMENTS:
        raise InputError(f"cells cannot be assigned by {how!r}", hint=f"choose one of {', '.join(ASSIGNMENTS)}")
    open_patches = fraction.ravel() > 0
    found = _by_centroid(cells, grid, open_patches) if how == "centroid" else _by_outline(cells, grid, fraction, extent)
    if not found.cell.size:
        raise InputError("no cell lies on the grid of patches", hint="check the field, the region and their units")
    return found


def _by_centroid(cells: CellTable, grid: PatchGrid, open_patches: BoolArray) -> Assignment:
    x, y = cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()
    everyone = np.arange(x.size)
    if grid.window_um == grid.patch_um:
        row, column, inside = grid.index(x, y)
        patch = row * grid.shape[1] + column
        inside &= open_patches[patch]
        return Assignment(everyone, patch) if inside.all() else Assignment(everyone[inside], patch[inside])
    pairs = []
    columns = _windows_over(x, grid.origin_um[0], grid.patch_um[0], grid.window_um[0], grid.shape[1])
    for row, in_row in _windows_over(y, grid.origin_um[1], grid.patch_um[1], grid.window_um[1], grid.shape[0]):
        for column, in_column in columns:
            patch = row * grid.shape[1] + column
            there = in_row & in_column
            there &= open_patches[np.where(there, patch, 0)]
            pairs.append((everyone[there], patch[there]))
    return Assignment(*map(np.concatenate, zip(*pairs)))


def _windows_over(
    values: FloatArray, origin: float, step: float, window: float, count: int
) -> list[tuple[IntArray, BoolArray]]:
    """Return the windows along one axis that each value may lie in, and whether it does; low edges are inside."""
    last = np.floor((values - origin + window / 2) / step - 0.5).astype(np.intp)
    found = []
    for back in range(int(np.ceil(window / step)) + 1):
        index = last - back
        low = origin + (index + 0.5) * step - window / 2
        found.append((index, (index >= 0) & (index < count) & (values >= low) & (values < low + window)))
    return found


def _by_outline(cells: CellTable, grid: PatchGrid, fraction: FloatArray, extent: Extent) -> Assignment:
    """Share the area of each cell among the patches that its outline reaches, as far as they were analysed."""
    if cells.outlines is None:
        hint = "read them from GeoJSON with `histomri cells --geometries`, or assign by centroid"
        raise InputError("the cells have no outlines to clip", hint=hint)
    if grid.window_um != grid.patch_um:
        raise InputError("overlapping windows cannot be clipped", hint="assign by centroid, or leave out --step-um")
    starts = range(0, len(cells), _BATCH)
    pieces = [_clip(cells.outlines[start : start + _BATCH], start, grid, fraction, extent) for start in starts]
    cell, patch, area = map(np.concatenate, zip(*pieces))
    there = area > 0
    # The measured area may differ a little from that of the outline; the part is that of the outline.
    whole = shapely.area(cells.outlines)
    return Assignment(cell[there], patch[there], np.minimum(area[there] / whole[cell[there]], 1.0))


def _clip(
    outlines: NDArray[np.object_], start: int, grid: PatchGrid, fraction: FloatArray, extent: Extent
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return cell, patch and area of the pieces of some outlines."""
    low_x, low_y, high_x, high_y = shapely.bounds(outlines).T
    top, left, _ = grid.index(low_x, low_y)
    bottom, right, _ = grid.index(high_x, high_y)
    wide = right - left + 1
    count = wide * (bottom - top + 1)
    if count.max() > _MOST_PATCHES:
        raise GeometryError("a cell reaches over more patches than a cell can", hint="check the size of the patches")
    which = np.repeat(np.arange(outlines.size), count)
    nth = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    row, column = top[which] + nth // wide[which], left[which] + nth % wide[which]
    area = shapely.area(outlines)[which]
    left_um, top_um, right_um, bottom_um = grid.bounds_um
    inside = (low_x >= left_um) & (low_y >= top_um) & (high_x <= right_um) & (high_y <= bottom_um)
    cut = (count[which] > 1) | ~inside[which] | (fraction[row, column] < 1)
    if cut.any():
        x, y = grid.origin_um[0] + column[cut] * grid.patch_um[0], grid.origin_um[1] + row[cut] * grid.patch_um[1]
        boxes = shapely.box(x, y, x + grid.patch_um[0], y + grid.patch_um[1])
        try:
            parts = shapely.intersection(outlines[which[cut]], boxes)
            border = fraction[row[cut], column[cut]] < 1
            bounds = shapely.box(*extent.bounds_um) if extent.region is None else extent.region
            parts[border] = shapely.intersection(parts[border], bounds)
        except GEOSException as error:
            raise GeometryError(f"an outline cannot be cut into patches ({error})") from error
        area[cut] = shapely.area(parts)
    return which + start, row * grid.shape[1] + column, area
