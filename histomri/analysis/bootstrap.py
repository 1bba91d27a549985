"""The bootstrap over cases, all resamples at once."""

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

_LEAST_DISTINCT = 3  # a resample of one or two distinct cases has r = +-1 or none
_ROUNDING = 1e-12
_FEWEST, _MOST = 100, 100_000  # fewer make no interval, more cost memory and change no digit that is read


def check_resamples(n_boot: int) -> None:
    """Raise an InputError for a number of resamples that makes no interval, or cannot be held."""
    if not _FEWEST <= n_boot <= _MOST:
        much = "few for an interval" if n_boot < _FEWEST else f"many; the limit is {_MOST}"
        raise InputError(f"{n_boot} resamples are too {much}", hint="give --boot 2000")


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


def _standard(values: FloatArray) -> FloatArray:
    centred = values - values.mean()
    size = np.sqrt(np.mean(centred**2))
    return np.asarray(centred / size if size > _ROUNDING * np.abs(values).max() else np.zeros_like(values))
