"""Profiles summed in blocks of a region and in patches of a grid: each profile is looked up once for all results."""

from collections.abc import Mapping

import numba
import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.kernel_cache import ensure_cache
from histomri.patches.grid import PatchGrid
from histomri.patches.tissue import Extent, tissue_fraction

ensure_cache()
SUB_BLOCKS = 4  # along the side of a patch
_SLACK = 1e-9  # that of `PatchGrid.index`: the outermost edges belong to the last blocks


class Blocks:
    """The profiles (N,) of a region in blocks of several sizes.

    `blocks` x `blocks` cut a square region; other regions get as many square blocks per area.
    """

    def __init__(self, x_um: FloatArray, y_um: FloatArray, extent: Extent) -> None:
        self.x_um, self.y_um, self.extent = np.asarray(x_um), np.asarray(y_um), extent
        self._known: dict[int, tuple[IntArray, FloatArray]] = {}

    def _layout(self, blocks: int) -> tuple[IntArray, FloatArray]:
        """Return the block of each profile (N,), B for those outside, and the share of the extent in each of B."""
        if blocks not in self._known:
            low_x, low_y, high_x, high_y = self.extent.bounds_um
            side = float(np.sqrt(self.extent.area_um2)) / blocks
            columns, rows = (max(1, round(length / side)) for length in (high_x - low_x, high_y - low_y))
            size = ((high_x - low_x) / columns, (high_y - low_y) / rows)
            grid = PatchGrid((low_x, low_y), size, (rows, columns))
            place = _place(self.x_um, self.y_um, np.array([low_x, low_y]), np.array(size), rows, columns, 1)
            self._known[blocks] = place, tissue_fraction(grid, self.extent).ravel()
        return self._known[blocks]

    def variance(self, part: FloatArray, blocks: int) -> float:
        """Return the jackknife variance of the sum of `part` (N,).

        Each block is compared with what its share of the area would give it.
        """
        place, area = self._layout(blocks)
        sums = _binned(place, np.asarray(part), area.size + 1)[:-1]
        used = area > 0
        if used.sum() < 2:
            return float("nan")
        away = sums[used] - sums[used].sum() * area[used] / area[used].sum()
        # Blocks with little tissue are no replicates of their own: count what they hold in whole blocks.
        count = area[used].sum() ** 2 / (area[used] ** 2).sum()
        return float(count / (count - 1.0) * (away**2).sum()) if count > 1.5 else float("nan")


class PatchSums:
    """The sums of quantities (N,) in P patches of a grid, and in the 4 x 4 sub-blocks of each."""

    def __init__(self, sums: Mapping[str, FloatArray], x_um: FloatArray, y_um: FloatArray, grid: PatchGrid) -> None:
        self.grid, self.of = grid, sums
        corner, size = np.array(grid.origin_um, dtype=float), np.array(grid.patch_um, dtype=float)
        self._place = _place(np.asarray(x_um), np.asarray(y_um), corner, size, *grid.shape, SUB_BLOCKS)
        self._patches = grid.shape[0] * grid.shape[1]
        self._blocks: dict[str, FloatArray] = {}
        self._products: dict[tuple[str, str], FloatArray] = {}
        self._count: FloatArray | None = None

    def count(self) -> FloatArray:
        """Return the number of profiles in each patch, (P,)."""
        if self._count is None:
            self._count = self._bin(np.ones(self._place.size)).sum(axis=1)
        return self._count

    def blocks(self, name: str) -> FloatArray:
        """Return the sums of a quantity in the sub-blocks, (P, 16)."""
        if name not in self._blocks:
            self._blocks[name] = self._bin(self.of[name])
        return self._blocks[name]

    def product(self, one: str, other: str) -> FloatArray:
        """Return the sums of the product of two quantities in the patches, (P,)."""
        key = (min(one, other), max(one, other))
        if key not in self._products:
            self._products[key] = self._bin(self.of[one] * self.of[other]).sum(axis=1)
        return self._products[key]

    def _bin(self, values: FloatArray) -> FloatArray:
        blocks = SUB_BLOCKS**2
        sums = _binned(self._place, values, self._patches * blocks + 1)[:-1]
        return np.asarray(sums).reshape(self._patches, blocks)


@numba.njit(cache=True, inline="always")
def _step(steps: float, count: int) -> int:
    """Return the block along an axis of `count` blocks, from the distance in blocks; -1 outside."""
    if not (steps >= -_SLACK and steps <= count * (1.0 + _SLACK)):
        return -1
    return min(max(int(steps), 0), count - 1)


@numba.njit(cache=True, nogil=True)
def _place(
    x: FloatArray, y: FloatArray, corner: FloatArray, size: FloatArray, rows: int, columns: int, parts: int
) -> IntArray:
    """Return the place of each profile (N,) in a grid of blocks that are cut into parts x parts; the last is outside.

    The parts of a block follow each other.
    """
    found = np.empty(x.size, dtype=np.int32)
    for i in range(x.size):
        right, down = (x[i] - corner[0]) / size[0], (y[i] - corner[1]) / size[1]
        column, row = _step(right, columns), _step(down, rows)
        if column < 0 or row < 0:
            found[i] = rows * columns * parts**2
            continue
        across = min(max(int((right - column) * parts), 0), parts - 1)
        below = min(max(int((down - row) * parts), 0), parts - 1)
        found[i] = (row * columns + column) * parts**2 + below * parts + across
    return found


@numba.njit(cache=True, nogil=True)
def _binned(place: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Return the sums of values (N,) in each of `size` places."""
    sums = np.zeros(size)
    for i in range(place.size):
        sums[place[i]] += values[i]
    return sums
