"""How sure a correlation is, found by leaving out one case after another (jackknife) or drawing them anew."""

import numpy as np
from scipy.special import stdtrit

from histomri.core.arrays import FloatArray

_FEWEST = 3  # known values from which a standard error is taken
_ROUNDING = 1e-12
_PAIRS_AT_ONCE = 1_000_000
_LEAST_DISTINCT = 3  # a resample of one or two distinct cases has r = +-1 or none


def jackknife_z_interval(
    estimate: float, without_one: FloatArray, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return an interval of a correlation, or a mean of correlations, from the jackknife of its Fisher z.

    Fisher's z makes the error nearly the same whatever the correlation, and the jackknife finds how large it is
    without taking the values for normal (Hinkley 1978, doi 10.1093/biomet/65.1.13). With few cases it covers far
    better than the bootstrap, whose resamples repeat cases and so vary too little. It needs three known values.
    """
    known = without_one[np.isfinite(without_one)]
    if known.size < _FEWEST or not np.isfinite(estimate):
        return None
    if abs(estimate) >= 1.0 - _ROUNDING:
        return float(np.sign(estimate)), float(np.sign(estimate))
    z = float(np.arctanh(estimate))
    pseudo = known.size * z - (known.size - 1) * np.arctanh(np.clip(known, _ROUNDING - 1.0, 1.0 - _ROUNDING))
    half = float(stdtrit(known.size - 1, 0.5 + confidence / 2.0) * np.std(pseudo, ddof=1) / np.sqrt(known.size))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def pearson_without_one(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Pearson's r with each pair left out in turn, (N,); NaN where one side does not vary without the pair."""
    n = x.size
    dx, dy = x - x.mean(), y - y.mean()
    dx, dy = dx / np.linalg.norm(dx), dy / np.linalg.norm(dy)
    # A pair also moves the means, which is where n / (n - 1) comes from.
    factor = n / (n - 1.0)
    sxx, syy, sxy = 1.0 - factor * dx**2, 1.0 - factor * dy**2, dx @ dy - factor * dx * dy
    varies = np.minimum(sxx, syy) > _ROUNDING
    return np.where(varies, np.clip(sxy / np.sqrt(np.where(varies, sxx * syy, 1.0)), -1.0, 1.0), np.nan)


def ranked_without_one(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the rank correlation with each pair left out in turn and the others ranked anew, (N,), in N² operations.

    It is NaN where one side is all ties without the pair.
    """
    n = x.size
    found = np.empty(n)
    for left_out in np.array_split(np.arange(n), max(1, n * n // _PAIRS_AT_ONCE)):
        one, other = (_centred_without(ranks, left_out) for ranks in (x, y))
        squares = (one**2).sum(axis=1) * (other**2).sum(axis=1)
        product = (one * other).sum(axis=1)
        found[left_out] = np.where(squares > 0, product / np.sqrt(np.where(squares > 0, squares, 1.0)), np.nan)
    return found


def _centred_without(ranks: FloatArray, left_out: np.ndarray) -> FloatArray:
    """Return in each row the ranks without one, less their mean; that one is 0 and counts in no sum."""
    # Ranks above the one left out come down by 1, those tied with it by a half.
    lowered = ranks - 0.5 * (1.0 + np.sign(ranks - ranks[left_out, None])) - 0.5 * ranks.size
    lowered[np.arange(left_out.size), left_out] = 0.0
    return np.asarray(lowered)


def resampling_weights(n: int, n_boot: int, seed: int) -> FloatArray:
    """Return how often each of n cases is drawn in each resample, (n_boot, n)."""
    drawn = np.random.default_rng(seed).integers(0, n, size=(n_boot, n))
    rows = np.repeat(np.arange(n_boot), n)
    weights = np.bincount(rows * n + drawn.ravel(), minlength=n_boot * n)
    return np.asarray(weights.reshape(n_boot, n), dtype=float)


def weighted_correlation(weights: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return r of every resample, (B,); NaN where fewer than three distinct cases, or no variation, are left."""
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


def _standard(values: FloatArray) -> FloatArray:
    centred = values - values.mean()
    size = np.sqrt(np.mean(centred**2))
    return np.asarray(centred / size if size > _ROUNDING * np.abs(values).max() else np.zeros_like(values))
