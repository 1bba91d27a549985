"""Resampling of cases: the bootstrap, all resamples at once, and the jackknife."""

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from histomri.arrays import FloatArray

_LEAST_DISTINCT = 3  # a resample of one or two distinct cases has r = +-1 or none
_ROUNDING = 1e-12


def resampling_weights(n: int, n_boot: int, seed: int) -> FloatArray:
    """Return how often each of n cases is drawn in each resample, (n_boot, n)."""
    drawn = np.random.default_rng(seed).integers(0, n, size=(n_boot, n))
    rows = np.repeat(np.arange(n_boot), n)
    weights = np.bincount(rows * n + drawn.ravel(), minlength=n_boot * n)
    return np.asarray(weights.reshape(n_boot, n), dtype=float)


def weighted_correlation(weights: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Pearson's r of every resample.

    Parameters
    ----------
    weights : (B, N) ndarray
        How often a case counts.
    x, y : (N,) ndarray
        Values; a case with a missing value counts in no resample.

    Returns
    -------
    (B,) ndarray
        NaN where fewer than three distinct cases, or no variation, are left.
    """
    both = np.isfinite(x) & np.isfinite(y)
    weights, x, y = weights[:, both], x[both], y[both]
    if x.size < _LEAST_DISTINCT:
        return np.full(len(weights), np.nan)
    # Centred and scaled first, so that the one-pass sums below do not cancel.
    x, y = _standard(x), _standard(y)
    sums = weights @ np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    total, sx, sy, sxx, syy, sxy = sums.T
    vx, vy = total * sxx - sx**2, total * syy - sy**2
    usable = ((weights > 0).sum(axis=1) >= _LEAST_DISTINCT) & (np.minimum(vx, vy) > _ROUNDING * total**2)
    scale = np.sqrt(np.where(usable, vx * vy, 1.0))
    return np.where(usable, np.clip((total * sxy - sx * sy) / scale, -1.0, 1.0), np.nan)


def bca_interval(
    estimate: float, drawn: FloatArray, without_one: FloatArray, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the bias-corrected and accelerated interval (Efron 1987, doi 10.1080/01621459.1987.10478410).

    Parameters
    ----------
    estimate : float
        The statistic of all cases.
    drawn : (B,) ndarray
        The statistic of the resamples; NaN is left out.
    without_one : (N,) ndarray
        The statistic with each case left out.
    confidence : float
        Of the interval.

    Returns
    -------
    (float, float) or None
        None if fewer than half of the resamples could be evaluated.
    """
    usable = np.sort(drawn[np.isfinite(drawn)])
    if not np.isfinite(estimate) or usable.size < max(drawn.size / 2, 20):
        return None
    # Resamples equal to the estimate count half, or a perfect correlation would have infinite bias.
    below = (np.sum(usable < estimate) + 0.5 * np.sum(usable == estimate)) / usable.size
    bias = float(ndtri(np.clip(below, 1.0 / usable.size, 1.0 - 1.0 / usable.size)))
    deviation = np.nanmean(without_one) - without_one if np.isfinite(without_one).any() else np.zeros(1)
    cubes, squares = float(np.nansum(deviation**3)), float(np.nansum(deviation**2))
    acceleration = cubes / (6.0 * squares**1.5) if squares > 0 else 0.0
    z = bias + ndtri(np.array([0.5 - confidence / 2.0, 0.5 + confidence / 2.0]))
    levels = ndtr(bias + z / (1.0 - acceleration * z))
    low, high = np.quantile(usable, levels)
    return float(low), float(high)


def jackknife_z_interval(
    estimate: float, without_one: FloatArray, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return an interval of a correlation, or a mean of correlations, from the jackknife of its Fisher z.

    Fisher's z makes the scatter nearly the same whatever the correlation, and the jackknife finds how large it is
    without taking the values for normal (Hinkley 1978, doi 10.1093/biomet/65.1.13). With few cases it covers far
    better than the bootstrap, whose resamples repeat cases and so vary too little.

    Parameters
    ----------
    estimate : float
        Of all cases, between -1 and 1.
    without_one : (N,) ndarray
        With each case left out; NaN is skipped.
    confidence : float
        Of the interval.

    Returns
    -------
    (float, float) or None
        None if fewer than three of `without_one` are known.
    """
    known = without_one[np.isfinite(without_one)]
    if known.size < _LEAST_DISTINCT or not np.isfinite(estimate):
        return None
    if abs(estimate) >= 1.0 - _ROUNDING:
        return float(np.sign(estimate)), float(np.sign(estimate))
    z = float(np.arctanh(estimate))
    pseudo = known.size * z - (known.size - 1) * np.arctanh(np.clip(known, _ROUNDING - 1.0, 1.0 - _ROUNDING))
    half = float(stdtrit(known.size - 1, 0.5 + confidence / 2.0) * np.std(pseudo, ddof=1) / np.sqrt(known.size))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _standard(values: FloatArray) -> FloatArray:
    centred = values - values.mean()
    size = np.sqrt(np.mean(centred**2))
    return np.asarray(centred / size if size > _ROUNDING * np.abs(values).max() else np.zeros_like(values))
