"""Correlation of maps: neighbouring voxels resemble each other, and count for less than their number."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from histomri.analysis.correlation import Correlation, Kind, constant, p_value, pearson, ranks
from histomri.analysis.voxel_grid import VoxelGrid
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

_EXPLAINED = 1e-10  # fraction of a map that is rounding
_FEWEST = 3  # degrees of freedom, below which no map shows whether it is related to another
_ROUGH = 3.0  # ratio of the roughness of two parts of a map from which one autocovariance does not describe both
_PARTS = 8
# Voxels missing within the outline, from which it is so ragged that terms of its edge leave part of a drop there: with
# a fifth missing, 9 % of unrelated maps that drop by two standard deviations were significant at 5 %.
_MISSING = 0.2


@dataclass(frozen=True)
class SpatialCorrelation(Correlation):
    """A correlation of two maps. `r` is of the values as they are, p and ci are of `r_edge`."""

    n_eff: float = math.nan  # effective number of voxels, never more than n, from which p and ci are
    p_naive: float = math.nan  # two-sided p of r as if voxels were independent (too small)
    r_edge: float = math.nan  # of what the distance to the edge does not explain of either map
    df: float = math.nan  # n_eff less 2 and the terms of the edge
    roughness_ratio: float = math.nan  # of the roughest and smoothest quarter, of the map in which it is smaller
    p_block: float = math.nan  # two-sided p of r_edge from the scatter between eight parts of the maps


@dataclass(frozen=True)
class PreparedMap:
    """What correlations with a map need of it, whatever the other map is."""

    values: FloatArray  # (N,), or their ranks
    residual: FloatArray  # (N,), without what the distance to the edge explains, of length 1; zeros if nothing is left
    covariance: FloatArray  # autocovariance of the residual at lags that count
    row_sums: FloatArray
    roughness: float  # ratio of the roughest quarter to the smoothest; NaN if it is not known

    @classmethod
    def of(cls, values: ArrayLike, grid: VoxelGrid, kind: Kind = "pearson") -> Self:
        """Prepare finite, varying values of the voxels (N,), in the order of the grid."""
        given = np.asarray(values, dtype=float)
        given = ranks(given) if kind == "spearman" else given
        centred = given - given.mean()
        rest = grid.without_edge(centred)
        size = float(np.linalg.norm(rest))
        if not size > _EXPLAINED * float(np.linalg.norm(centred)):
            nothing = np.zeros(given.size)
            return cls(given, nothing, nothing, nothing, math.nan)
        rest = rest / size
        # Scaled, so that the traces neither overflow nor vanish; the ratio does not depend on it.
        covariance = grid.autocovariance(rest * math.sqrt(given.size)) * grid.near
        return cls(given, rest, covariance, grid.row_sums(covariance), _roughness(rest, grid))


def effective_sample_size(x: ArrayLike, y: ArrayLike, grid: VoxelGrid, *, unbiased: bool = False) -> float:
    """Return how many independent pairs carry as much evidence about r as the voxels do.

    Dutilleul 1993 (doi 10.2307/2532625), after Clifford, Richardson & Hemon 1989: 1 + tr(BSx) tr(BSy) / tr(BSxBSy),
    with B the centring matrix and S the covariance matrices of the voxels, from the autocovariance of each map by
    distance and direction. Traces are taken by Fourier transform; no matrix of voxels x voxels is built.

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
    first, second = (_standardised(np.asarray(values, dtype=float)) for values in (x, y))
    if unbiased:
        return unbiased_size(PooledMap.of(first, grid), PooledMap.of(second, grid), grid)
    one, other = (grid.autocovariance(values) * grid.near for values in (first, second))
    size = _size_from(one, other, grid)
    return float(min(size, first.size)) if size > 1.0 else math.nan


def _standardised(values: FloatArray) -> FloatArray:
    """Scale values, so that traces of their covariances neither overflow nor vanish; their ratio does not change."""
    return np.asarray(values / np.std(values))


@dataclass(frozen=True)
class PooledMap:
    """What the unbiased effective number of voxels needs of a map."""

    covariance: FloatArray  # at all lags
    row_sums: FloatArray
    again: FloatArray  # the autocovariance that maps with the estimated one would show
    again_sums: FloatArray

    @classmethod
    def of(cls, values: FloatArray, grid: VoxelGrid) -> Self:
        """Prepare finite, varying values of the voxels (N,)."""
        covariance = grid.autocovariance(_standardised(values))
        again = grid.without_mean(covariance)
        return cls(covariance, grid.row_sums(covariance), again, grid.row_sums(again))


def unbiased_size(x: PooledMap, y: PooledMap, grid: VoxelGrid) -> float:
    """Return the effective number of voxels for a sum over samples, see `effective_sample_size`."""
    size = _size_from(x.covariance, y.covariance, grid, (x.row_sums, y.row_sums))
    # The same estimate from the autocovariances that maps with the estimated ones would show: one step back.
    again = _size_from(x.again, y.again, grid, (x.again_sums, y.again_sums))
    size = 1.0 + (size - 1.0) ** 2 / (again - 1.0) if again > 1.0 else math.nan
    return float(min(size, grid.order.size)) if size > 1.0 else math.nan


def _size_from(
    one: FloatArray, other: FloatArray, grid: VoxelGrid, row_sums: tuple[FloatArray, FloatArray] | None = None
) -> float:
    """Return the effective number of voxels that follows from two autocovariances, and their row sums if at hand."""
    n = grid.order.size
    sums_one, sums_other = row_sums if row_sums is not None else (grid.row_sums(one), grid.row_sums(other))
    both = float((grid.n_pairs * one * other).sum()) - 2.0 / n * float(sums_one @ sums_other)
    both += float(sums_one.sum() * sums_other.sum()) / n**2
    alone = (n * one.flat[0] - sums_one.sum() / n) * (n * other.flat[0] - sums_other.sum() / n)
    return 1.0 + float(alone) / both if both > 0 and alone > 0 else math.nan


def spatial_correlation(
    x: ArrayLike, y: ArrayLike, index: ArrayLike, *, spacing: ArrayLike | None = None, kind: Kind = "pearson",
    confidence: float = 0.95, grid: VoxelGrid | None = None,
) -> SpatialCorrelation:  # fmt: skip
    """Correlate two maps voxel by voxel, with a p-value and interval that allow for smoothness and for the edge.

    Maps of tissue drop, or rise, along its edge, for reasons of measurement that both sides share. p and interval are
    therefore of the partial correlation given the distance to the edge (`r_edge`), from the effective number of voxels
    (`effective_sample_size`) of what is left. Where the smoothness of both maps differs more than threefold between
    quarters, no single number describes it; then the scatter between eight parts of the maps is looked at too, and p
    and interval are of whichever says less.

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
        Undefined (NaN, with a note) for fewer than 3 voxels, a constant map, or maps so smooth, or so small, that fewer
        than 3 degrees of freedom are left, as with a trend from side to side: any two trends are correlated, and one
        sample cannot show whether the maps are related.
    """
    first, second = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    places = np.asarray(index)
    if not first.size == second.size == len(places):
        raise InputError(f"maps of {first.size} and {second.size} values on {len(places)} voxels")
    both = np.isfinite(first) & np.isfinite(second)
    first, second = first[both], second[both]
    if note := undefined_pair(first, second):
        return SpatialCorrelation(math.nan, math.nan, first.size, note=note)
    layout = grid if grid is not None and both.all() else VoxelGrid.of(places[both], spacing)
    one, other = (PreparedMap.of(values, layout, kind) for values in (first, second))
    return correlate_prepared(one, other, layout, confidence)


def undefined_pair(x: FloatArray, y: FloatArray) -> str:
    """Say why two maps without missing values have no correlation; empty if they have."""
    if x.size < 3:
        return f"{x.size} voxels are too few"
    return "one side is constant" if constant(x) or constant(y) else ""


def correlate_prepared(x: PreparedMap, y: PreparedMap, grid: VoxelGrid, confidence: float = 0.95) -> SpatialCorrelation:
    """Correlate two prepared maps on one grid, see `spatial_correlation`."""
    n, terms = x.values.size, grid.edge_terms.shape[1] - 1
    r = pearson(x.values, y.values)
    known: dict[str, Any] = {"p_naive": p_value(r, n - 2)}
    if not (x.residual.any() and y.residual.any()):
        note = f"the distance to the edge explains one side: {n} voxels are too few to see more"
        return SpatialCorrelation(r, math.nan, n, note=note, **known)
    r_edge = float(np.clip(x.residual @ y.residual, -1.0, 1.0))
    n_eff = min(_size_from(x.covariance, y.covariance, grid, (x.row_sums, y.row_sums)), n)
    df, rough = n_eff - 2.0 - terms, float(np.fmin(x.roughness, y.roughness))
    blocks = _Blocks.of(x.residual * y.residual, grid, r_edge)
    known |= {"r_edge": r_edge, "n_eff": n_eff, "df": df, "roughness_ratio": rough, "p_block": blocks.p}
    if not df >= _FEWEST:
        note = f"maps too smooth or too small: fewer than {_FEWEST} degrees of freedom ({n} voxels, {n_eff:.1f}"
        note += f" effective, of which the edge takes {terms})"
        return SpatialCorrelation(r, math.nan, n, note=note, **known)
    if grid.missing > _MISSING:
        note = f"{100 * grid.missing:.0f} % of the voxels within the outline are missing: its edge is uncertain"
        return SpatialCorrelation(r, math.nan, n, note=note, **known)
    p, ci = p_value(r_edge, df), r_interval(r_edge, n_eff - terms, confidence)
    if rough <= _ROUGH:
        return SpatialCorrelation(r, p, n, ci, **known)
    note = f"smoothness differs {rough:.1f}-fold between parts" if rough > _ROUGH else "too few neighbouring voxels"
    if not math.isfinite(blocks.p):
        return SpatialCorrelation(r, math.nan, n, note=f"{note}, and the parts are too few for a test", **known)
    if blocks.p > p:
        p, ci, note = blocks.p, blocks.interval(confidence), f"{note}: p and interval are of {_PARTS} parts"
    return SpatialCorrelation(r, p, n, ci, note=note, **known)


@dataclass(frozen=True)
class _Blocks:
    """A correlation with the scatter between compact parts of the maps."""

    r: float
    se: float  # of r
    p: float

    @classmethod
    def of(cls, products: FloatArray, grid: VoxelGrid, r: float) -> Self:
        """Compare the sums over the parts of products whose sum is r."""
        sums = np.bincount(grid.eighths, products)
        if sums.size < _PARTS or np.ptp(sums) == 0.0:
            return cls(r, math.nan, math.nan)
        se = float(math.sqrt(_PARTS) * sums.std(ddof=1))
        return cls(r, se, float(2.0 * stdtr(_PARTS - 1, -abs(sums.sum()) / se)))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval of Fisher's z that leaves out 0 where the test does."""
        if abs(self.r) >= 1.0:
            return (self.r, self.r)
        z = math.atanh(self.r)
        half = float(stdtrit(_PARTS - 1, 0.5 + confidence / 2.0)) * self.se * (z / self.r if self.r else 1.0)
        return (math.tanh(z - half), math.tanh(z + half))


def _roughness(values: FloatArray, grid: VoxelGrid) -> float:
    """Return how many times rougher a map is in its roughest quarter than in its smoothest.

    Roughness is the mean squared difference of voxels side by side. NaN if a quarter has no such voxels.
    """
    one, other = grid.neighbours
    part = grid.quarters[one]
    pairs = np.bincount(part, minlength=4)
    if not pairs.all():
        return math.nan
    squares = np.bincount(part, (values[one] - values[other]) ** 2, minlength=4) / pairs
    return float(squares.max() / squares.min()) if squares.min() > 0 else math.inf


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
