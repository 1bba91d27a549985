"""Correlation of maps: neighbouring voxels resemble each other, and count for less than their number."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.special import ndtri

from histomri.analysis.correlation import Correlation, Kind, constant, p_value, pearson, ranks
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

# Autocovariance is estimated up to this fraction of the largest distance; beyond are few pairs and much noise. With 0.6
# the test holds its level from white noise to maps with 7 effective voxels; with all lags it is a little too strict.
_LAGS = 0.6
_FEWEST = 5
_LARGEST_GRID = 60_000_000  # cells of the padded grid, 0.5 GB in double precision


@dataclass(frozen=True)
class SpatialCorrelation(Correlation):
    """A correlation of two maps."""

    n_eff: float = math.nan  # effective number of voxels, never more than n, from which p and ci are
    p_naive: float = math.nan  # two-sided p as if voxels were independent (too small)


@dataclass(frozen=True)
class VoxelGrid:
    """Where voxels lie relative to each other; made once, used for every pair of maps on the same voxels."""

    mask: BoolArray  # bounding box of the voxels
    order: IntArray  # (N,), flat place of each voxel in the box
    padded: tuple[int, ...]  # size of the grid on which lags do not wrap
    spectrum: np.ndarray  # transform of the padded mask
    n_pairs: FloatArray  # ordered pairs of voxels at each lag
    distance_class: IntArray  # of each lag: its distance in units of the smallest voxel side, rounded
    near: BoolArray  # lags up to 0.6 of the largest distance between voxels

    @classmethod
    def of(cls, index: ArrayLike, spacing: ArrayLike | None = None) -> Self:
        """Lay out voxels of integer indices (N, D), D from 1 to 3, and sides `spacing` (D,), equal if not given.

        It is an InputError if a voxel comes twice, or the voxels are spread over a box too large to hold.
        """
        places = np.asarray(index)
        if places.ndim != 2 or not len(places):
            raise InputError("voxel indices must be a table of i, j, k")
        low, high = places.min(axis=0), places.max(axis=0)
        shape = tuple(int(side) for side in high - low + 1)
        padded = tuple(next_fast_len(2 * side - 1, real=True) for side in shape)
        if math.prod(padded) > _LARGEST_GRID:
            raise InputError(f"voxels are spread over a box of {' x '.join(map(str, shape))}, which is too large")
        order = np.ravel_multi_index(tuple((places - low).T), shape)
        mask = np.zeros(shape, dtype=bool)
        mask.flat[order] = True
        if mask.sum() != len(places):
            raise InputError("a voxel comes twice", hint="select one model and strategy")
        sides = np.ones(len(shape)) if spacing is None else np.asarray(spacing, dtype=float)
        spectrum = rfftn(mask.astype(float), padded)
        n_pairs = np.rint(irfftn(np.abs(spectrum) ** 2, padded))
        lags = np.meshgrid(*[np.fft.fftfreq(n, 1.0 / n) * side for n, side in zip(padded, sides)], indexing="ij")
        distance = np.sqrt(sum(lag**2 for lag in lags)) / sides.min()
        # Halves go up, also those that rounding has left just below.
        classes = np.floor(distance + 0.5 + 1e-9).astype(int)
        near = classes <= _LAGS * classes[n_pairs > 0].max()
        return cls(mask, order, padded, spectrum, n_pairs, classes, near)

    def autocovariance(self, values: FloatArray) -> FloatArray:
        """Return the isotropic autocovariance of a map at every lag of the padded grid."""
        image = np.zeros(self.mask.shape)
        image.flat[self.order] = values - values.mean()
        return self._by_distance(irfftn(np.abs(rfftn(image, self.padded)) ** 2, self.padded))

    def without_mean(self, covariance: FloatArray) -> FloatArray:
        """Return the autocovariance to be expected of maps with this one once their mean is removed."""
        means = np.zeros(self.mask.shape)
        means[self.mask] = self.row_sums(covariance) / self.order.size
        # Sums over the pairs at each lag of the row means of either voxel.
        crossed = irfftn(rfftn(means, self.padded) * np.conj(self.spectrum), self.padded)
        mirrored = irfftn(np.conj(rfftn(means, self.padded)) * self.spectrum, self.padded)
        level = means[self.mask].mean()
        return self._by_distance((covariance + level) * self.n_pairs - crossed - mirrored)

    def _by_distance(self, products: FloatArray) -> FloatArray:
        """Average sums over the pairs at each lag within classes of distance."""
        classes = self.distance_class.ravel()
        sums = np.bincount(classes, np.where(self.n_pairs > 0, products, 0.0).ravel())
        pairs = np.bincount(classes, self.n_pairs.ravel())
        return np.asarray((sums / np.maximum(pairs, 1.0))[self.distance_class])

    def row_sums(self, covariance: FloatArray) -> FloatArray:
        """Return the sums of the rows of the covariance matrix between voxels, without building it."""
        sums = irfftn(rfftn(covariance) * self.spectrum, self.padded)
        return np.asarray(sums[tuple(slice(side) for side in self.mask.shape)][self.mask])


def effective_sample_size(x: ArrayLike, y: ArrayLike, grid: VoxelGrid, *, unbiased: bool = False) -> float:
    """Return how many independent pairs carry as much evidence about r as the voxels do.

    Dutilleul 1993 (doi 10.2307/2532625), after Clifford, Richardson & Hemon 1989: 1 + tr(BSx) tr(BSy) / tr(BSxBSy),
    with B the centring matrix and S the covariance matrices of the voxels, from the autocovariance of each map by
    distance. Traces are taken by Fourier transform; no matrix of voxels x voxels is built.

    Parameters
    ----------
    x, y : (N,) array-like
        Values of the voxels, in the order of the grid; none missing.
    grid : VoxelGrid
        Their places.
    unbiased : bool
        Use all lags, and correct for what removing the mean takes from the autocovariance of very smooth maps, which
        makes the number too large. In the test of one sample the scatter of the estimate makes up for it; in a sum over
        samples scatter averages out and the bias stays, so that pooling needs the correction.

    Returns
    -------
    float
        At most N. NaN if the autocovariances leave no positive estimate.
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = first.size
    # Scaled, so that the traces neither overflow nor vanish; the ratio does not depend on it.
    one, other = (grid.autocovariance(values / np.std(values)) for values in (first, second))
    size = _size_from(one, other, grid) if unbiased else _size_from(one * grid.near, other * grid.near, grid)
    if unbiased:
        # The same estimate from the autocovariances that maps with the estimated ones would show: one step back.
        again = _size_from(grid.without_mean(one), grid.without_mean(other), grid)
        size = 1.0 + (size - 1.0) ** 2 / (again - 1.0) if again > 1.0 else math.nan
    return float(min(size, n)) if size > 1.0 else math.nan


def _size_from(one: FloatArray, other: FloatArray, grid: VoxelGrid) -> float:
    """Return the effective number of voxels that follows from two autocovariances."""
    n = grid.order.size
    sums_one, sums_other = grid.row_sums(one), grid.row_sums(other)
    both = float((grid.n_pairs * one * other).sum()) - 2.0 / n * float(sums_one @ sums_other)
    both += float(sums_one.sum() * sums_other.sum()) / n**2
    alone = (n * one.flat[0] - sums_one.sum() / n) * (n * other.flat[0] - sums_other.sum() / n)
    return 1.0 + float(alone) / both if both > 0 and alone > 0 else math.nan


def spatial_correlation(
    x: ArrayLike, y: ArrayLike, index: ArrayLike, *, spacing: ArrayLike | None = None, kind: Kind = "pearson",
    confidence: float = 0.95, grid: VoxelGrid | None = None,
) -> SpatialCorrelation:  # fmt: skip
    """Correlate two maps voxel by voxel, with a p-value and interval that allow for smoothness.

    The interval is that of Fisher's z with the effective number of voxels.

    Parameters
    ----------
    x, y : (N,) array-like
        Values of the voxels; pairs with a missing value are left out.
    index, spacing : (N, D) array-like of int, and (D,) array-like
        Voxel indices, and sides of a voxel, equal if not given.
    kind : {"pearson", "spearman"}
        Of values, or of their ranks.
    grid : VoxelGrid, optional
        Of `index`, if it is at hand; used when no value is missing.

    Returns
    -------
    SpatialCorrelation
        Undefined (NaN, with a note) for fewer than 3 voxels, a constant map, or maps so smooth that fewer than 5
        effective voxels are left, as with a trend from side to side: any two trends are correlated, and one sample
        cannot tell whether the maps are related.
    """
    first, second = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    places = np.asarray(index)
    if not first.size == second.size == len(places):
        raise InputError(f"maps of {first.size} and {second.size} values on {len(places)} voxels")
    both = np.isfinite(first) & np.isfinite(second)
    n = int(both.sum())
    first, second = first[both], second[both]
    if n < 3:
        return SpatialCorrelation(math.nan, math.nan, n, note=f"{n} voxels are too few")
    if constant(first) or constant(second):
        return SpatialCorrelation(math.nan, math.nan, n, note="one side is constant")
    if kind == "spearman":
        first, second = ranks(first), ranks(second)
    layout = grid if grid is not None and both.all() else VoxelGrid.of(places[both], spacing)
    r, n_eff = pearson(first, second), effective_sample_size(first, second, layout)
    naive = p_value(r, n - 2)
    if not n_eff >= _FEWEST:
        note = f"maps too smooth: fewer than {_FEWEST} effective voxels"
        return SpatialCorrelation(r, math.nan, n, note=note, n_eff=n_eff, p_naive=naive)
    ci = r_interval(r, n_eff, confidence)
    return SpatialCorrelation(r, p_value(r, n_eff - 2), n, ci, n_eff=n_eff, p_naive=naive)


def r_interval(r: float, n_eff: float, confidence: float) -> tuple[float, float] | None:
    """Return Fisher's interval of r for a number of pairs that need not be whole; None up to 3."""
    if not n_eff > 3:
        return None
    if abs(r) >= 1.0:
        return (r, r)
    half = float(ndtri(0.5 + confidence / 2.0)) / math.sqrt(n_eff - 3.0)
    return (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def voxel_spacing(index: ArrayLike, xyz_mm: ArrayLike) -> FloatArray:
    """Return the sides of a voxel (mm), (D,), from the indices (N, D) and world coordinates (N, 3) of voxels.

    Along an axis on which the voxels do not differ the side is the smallest of the others: it is never used.
    """
    places, world = np.asarray(index, dtype=float), np.asarray(xyz_mm, dtype=float)
    varies = np.ptp(places, axis=0) > 0
    sides = np.ones(places.shape[1])
    if varies.any():
        design = places[:, varies] - places[:, varies].mean(axis=0)
        axes = np.linalg.lstsq(design, world - world.mean(axis=0), rcond=None)[0]
        found = np.linalg.norm(axes, axis=1)
        if not (found > 0).all():
            raise InputError("voxels with different indices lie at the same place; x_mm, y_mm, z_mm are wrong")
        sides[:] = found.min()
        sides[varies] = found
    return sides
