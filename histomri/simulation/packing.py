"""Discs in a section pushed apart until they hardly overlap, as cells do."""

import math

import numba
import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.kernel_cache import ensure_cache

ensure_cache()


def separate(x: FloatArray, y: FloatArray, diameter: FloatArray, sweeps: int = 10) -> tuple[FloatArray, FloatArray]:
    """Push overlapping discs apart; the order of the discs and the result are the same on every machine.

    Centres and diameters are (N,), in the same unit. Discs move by a fraction of their diameter, so density maps stay
    as they were. `sweeps` is how often every pair of neighbours is visited.
    """
    if x.size < 2:
        return x.copy(), y.copy()
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    # Pairs that touch are at most one mean of two diameters apart; the few giants are served by the widest ring.
    edge = float(np.quantile(diameter, 0.995))
    radius = 0.5 * diameter
    place = np.arange(x.size)
    for _ in range(-(-sweeps // 2)):
        column = ((x - x.min()) / edge).astype(np.int64)
        row = ((y - y.min()) / edge).astype(np.int64)
        width, height = int(column.max()) + 1, int(row.max()) + 1
        box = row * width + column
        order = np.argsort(box, kind="stable")
        # Neighbours in the plane become neighbours in memory.
        x, y, radius, place = x[order], y[order], radius[order], place[order]
        start = np.searchsorted(box[order], np.arange(width * height + 1))
        for _ in range(2):
            _sweep(x, y, radius, start, width, height)
    back = np.argsort(place)
    return x[back], y[back]


@numba.njit(cache=True, nogil=True)
def _sweep(x: FloatArray, y: FloatArray, radius: FloatArray, start: IntArray, width: int, height: int) -> None:
    for row in range(height):
        for column in range(width):
            for i in range(start[row * width + column], start[row * width + column + 1]):
                for down in range(2):
                    for right in range(-1, 2):
                        if row + down >= height or not 0 <= column + right < width or (down == 0 and right < 0):
                            continue
                        other = (row + down) * width + column + right
                        first = i + 1 if (down == 0 and right == 0) else start[other]
                        for j in range(first, start[other + 1]):
                            _push(x, y, radius, i, j)


@numba.njit(cache=True, inline="always")
def _push(x: FloatArray, y: FloatArray, radius: FloatArray, i: int, j: int) -> None:
    dx, dy = x[j] - x[i], y[j] - y[i]
    reach = radius[i] + radius[j]
    squared = dx * dx + dy * dy
    if squared >= reach * reach or squared == 0.0:
        return
    distance = math.sqrt(squared)
    step = 0.5 * (reach - distance) / distance
    x[i] -= step * dx
    y[i] -= step * dy
    x[j] += step * dx
    y[j] += step * dy
