"""A layer of cells in three dimensions, as wide as a section of tissue and a few cells deep.

Nothing but the layer around a section is ever seen, so it is all that is made. It repeats in depth: a free surface
would let cells escape and thin the tissue near it. Cells are drawn from fields that vary in the plane, and pushed
apart until they hardly overlap; what is left is less than neighbours in real tissue flatten each other.
"""

from dataclasses import dataclass

import numba
import numpy as np
from scipy import ndimage

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.kernel_cache import ensure_cache

from .section import stratified

ensure_cache()
_FAT_MEAN_UM, _FAT_CV, _FAT_RANGE_UM = 20.0, 0.3, (10.0, 40.0)
_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)
_PUSH = 1.05
_DEPTH = 1.75  # of the layer, in diameters of a cell two standard deviations above the mean
_SWEEPS = (1, 2, 3, 6)  # between one list of neighbours and the next, as cells move less and less
_SKIN = (0.0, 0.15, 0.15, 0.1)  # of each list, in mean diameters
_SHARE = 0.995  # of the cells are no larger than as many boxes of the grid as are looked at on either side:
_SPAN = 2


@dataclass(frozen=True)
class Matter:
    """What a layer is made of, in K square columns that stand side by side."""

    place_um: FloatArray  # (K, 2) their middles; neighbours in the sequence are neighbours in the plane
    pitch_um: float  # their width
    density_um3: FloatArray  # (K,) cells per volume
    mean_um: FloatArray  # (K,) of the diameters of the cells
    cv: FloatArray  # (K,) their coefficient of variation
    fat: FloatArray  # (K,) share of the volume that vacuoles fill


@dataclass(frozen=True)
class Layer:
    """Cells and vacuoles that hardly overlap; z repeats after the depth."""

    centre_um: FloatArray  # (N, 3)
    diameter_um: FloatArray  # (N,)
    column: IntArray  # (N,) of `Matter`, where it was drawn
    vacuole: BoolArray  # (N,) fat, without a nucleus
    depth_um: float

    def take(self, chosen: BoolArray) -> "Layer":
        """Return some of the cells and vacuoles."""
        centre, diameter = self.centre_um[chosen], self.diameter_um[chosen]
        return Layer(centre, diameter, self.column[chosen], self.vacuole[chosen], self.depth_um)


def draw_layer(matter: Matter, rng: np.random.Generator) -> Layer:
    """Draw cells and vacuoles, not yet pushed apart; the layer is nearly as deep as two large cells."""
    spread = np.sqrt(np.log1p(matter.cv**2))
    depth = _DEPTH * float(np.max(matter.mean_um * np.exp(2.0 * spread), initial=10.0))
    volume = matter.pitch_um**2 * depth
    cells = stratified(matter.density_um3 * volume, rng)
    size = matter.mean_um[cells] * np.exp(spread[cells] * (rng.standard_normal(cells.size) - 0.5 * spread[cells]))
    sigma = np.sqrt(np.log1p(_FAT_CV**2))
    drop = np.pi / 6.0 * _FAT_MEAN_UM**3 * (1.0 + _FAT_CV**2) ** 3
    fat = stratified(matter.fat * volume / drop, rng)
    drops = np.clip(_FAT_MEAN_UM * rng.lognormal(-0.5 * sigma**2, sigma, fat.size), *_FAT_RANGE_UM)
    column = np.concatenate([cells, fat])
    where = matter.place_um[column] + matter.pitch_um * (rng.random((column.size, 2)) - 0.5)
    # The golden ratio spreads the cells of any run of columns evenly over the depth.
    height = depth * np.mod(_GOLDEN * np.arange(column.size) + 0.3 * rng.random(column.size), 1.0)
    vacuole = np.arange(column.size) >= cells.size
    return Layer(np.column_stack([where, height]), np.concatenate([size, drops]), column, vacuole, depth)


def push_apart(centre_um: FloatArray, diameter_um: FloatArray, depth_um: float) -> FloatArray:
    """Push overlapping balls apart, the smaller of two by more; return the centres, (N, 3).

    z repeats after `depth_um`; x and y are free. The result is the same on every machine.
    """
    if len(diameter_um) < 2:
        return centre_um.copy()
    x, y, z = np.array(centre_um, dtype=float).T.copy()
    radius, place = 0.5 * np.asarray(diameter_um, dtype=float), np.arange(len(diameter_um))
    unit = float(np.mean(diameter_um))
    edge = (float(np.quantile(diameter_um, _SHARE)) + max(_SKIN) * unit) / _SPAN
    for sweeps, skin in zip(_SWEEPS, _SKIN):
        column, row = ((x - x.min()) / edge).astype(np.int64), ((y - y.min()) / edge).astype(np.int64)
        shape = (int(row.max()) + 1, int(column.max()) + 1)
        box = row * shape[1] + column
        order = np.argsort(box, kind="stable")
        x, y, z, radius, place = x[order], y[order], z[order], radius[order], place[order]
        start = np.searchsorted(box[order], np.arange(shape[0] * shape[1] + 1))
        largest = np.zeros(shape)
        np.maximum.at(largest.reshape(-1), box[order], radius)
        largest = ndimage.maximum_filter(largest, 2 * _SPAN + 1)
        first, second = _neighbours(x, y, z, radius, start, largest, edge, depth_um, skin * unit)
        _sweep(x, y, z, radius, first, second, depth_um, sweeps)
    back = np.argsort(place)
    return np.column_stack([x[back], y[back], np.mod(z[back], depth_um)])


@numba.njit(cache=True, nogil=True)
def _neighbours(
    x: FloatArray, y: FloatArray, z: FloatArray, radius: FloatArray, start: IntArray, largest: FloatArray, edge: float,
    depth: float, skin: float,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """List the pairs whose surfaces are nearer than `skin`, each once.

    Cells are sorted by boxes of width `edge`, and `start` says where each box begins. `largest`, (rows, columns), is
    the largest radius near each box: where all cells are small, few boxes need be looked at.
    """
    rows, columns = largest.shape
    left_edge, top_edge = x.min(), y.min()
    first, second = np.empty(8 * x.size, dtype=np.int32), np.empty(8 * x.size, dtype=np.int32)
    found = 0
    for row in range(rows):
        for column in range(columns):
            here = row * columns + column
            for i in range(start[here], start[here + 1]):
                far = radius[i] + largest[row, column] + skin
                left = max(int((x[i] - left_edge - far) / edge), column - _SPAN, 0)
                right = min(int((x[i] - left_edge + far) / edge), column + _SPAN, columns - 1)
                last = min(int((y[i] - top_edge + far) / edge), row + _SPAN, rows - 1)
                for below in range(row, last + 1):
                    low = start[below * columns + left] if below > row else i + 1
                    for j in range(low, start[below * columns + right + 1]):
                        dx, dy = x[j] - x[i], y[j] - y[i]
                        reach = radius[i] + radius[j] + skin
                        flat = reach * reach - dx * dx - dy * dy
                        if flat <= 0.0:  # so for most, and the depth need not be looked at
                            continue
                        dz = _shortest(z[j] - z[i], depth)
                        if dz * dz < flat:
                            if found == first.size:
                                first, second = np.append(first, first), np.append(second, second)
                            first[found], second[found] = i, j
                            found += 1
    return first[:found], second[:found]


@numba.njit(cache=True, inline="always")
def _shortest(away: float, depth: float) -> float:
    """Return the way to the nearest image, of two places that are less than one and a half depths apart."""
    if away > 0.5 * depth:
        return away - depth
    return away + depth if away < -0.5 * depth else away


@numba.njit(cache=True, nogil=True)
def _sweep(
    x: FloatArray, y: FloatArray, z: FloatArray, radius: FloatArray, first: IntArray, second: IntArray, depth: float,
    sweeps: int,
) -> None:  # fmt: skip
    for _ in range(sweeps):
        for k in range(first.size):
            i, j = first[k], second[k]
            dx, dy, dz = x[j] - x[i], y[j] - y[i], z[j] - z[i]
            dz = _shortest(dz, depth)
            squared = dx * dx + dy * dy + dz * dz
            reach = radius[i] + radius[j]
            if squared >= reach * reach or squared == 0.0:
                continue
            distance = np.sqrt(squared)
            step = _PUSH * (reach - distance) / distance
            a, b = radius[i] ** 3, radius[j] ** 3
            mine, other = step * b / (a + b), step * a / (a + b)
            x[i] -= mine * dx
            y[i] -= mine * dy
            z[i] -= mine * dz
            x[j] += other * dx
            y[j] += other * dy
            z[j] += other * dz
