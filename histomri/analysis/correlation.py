"""Correlation with p-value, adjusted for the number of tests, and interval: by theory, jackknife or bootstrap."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri, stdtr, stdtrit

from histomri.analysis.options import Adjustment, Interval
from histomri.analysis.patients import FEWEST_UNITS, repeated
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError

Kind = Literal["pearson", "spearman"]
# Variation below this fraction of the size of the values is rounding, and a correlation with it is noise.
_ROUNDING = 1e-13
# Up to so many pairs all orders are counted (9! = 362880): Student's t would call a perfect order of 6 impossible.
_EXACT = 9
_FEWEST_KNOWN = 3  # known values from which a standard error is taken
_NO_VARIATION = 1e-12
_PAIRS_AT_ONCE = 1_000_000
_LEAST_DISTINCT = 3  # a resample of one or two distinct cases has r = +-1 or none


@dataclass(frozen=True)
class Correlation:
    """A correlation and how sure it is."""

    r: float  # coefficient; NaN if undefined
    p: float  # two-sided, against no correlation
    n: int  # pairs used: both values finite
    ci: tuple[float, float] | None = None  # confidence interval; None where it cannot be had
    n_missing: int = 0  # pairs left out because a value is missing
    note: str = ""  # why r or ci is missing
    n_patients: int = 0  # that the pairs are from, where one has several

    def row(self, *names: str) -> dict[str, Any]:
        """Return attributes for a row of a table, ci as ci_low and ci_high, NaN if there is none."""
        limits = dict(zip(("ci_low", "ci_high"), self.ci or (math.nan, math.nan)))
        return {name: limits[name] if name in limits else getattr(self, name) for name in names}


def correlate(
    x: ArrayLike, y: ArrayLike, *, kind: Kind = "pearson", confidence: float = 0.95, interval: Interval = "jackknife",
    patients: ArrayLike | None = None,
) -> Correlation:  # fmt: skip
    """Correlate two series of values, leaving out pairs with a missing value.

    Parameters
    ----------
    x, y : (N,) array-like
        Values; NaN is missing.
    kind : {"pearson", "spearman"}
        Linear or rank correlation.
    interval : {"jackknife", "fisher"}
        Of Fisher's z, its scatter found by leaving out each pair (ranked anew), or taken from the theory of normal
        values (for Spearman Bonett & Wright 2000, doi 10.1007/BF02294183). With heavy tails the latter is far too
        narrow. Neither exists for N = 3, nor for ranks in perfect order.
    patients : (N,) array-like, optional
        Labels of what is independent. If one comes twice, whole patients are left out, and p is that of the jackknife
        too (Student's t, one degree of freedom less than patients); of fewer than six there is neither.

    Returns
    -------
    Correlation
        r is NaN, with a note, for fewer than 3 pairs or a constant series.

    Raises
    ------
    InputError
        If the series differ in length, or an option is unknown.

    Examples
    --------
    >>> found = correlate([1, 2, 3, 4, 5, float("nan")], [2, 1, 4, 3, 5, 6])
    >>> round(found.r, 2), found.n, found.n_missing
    (0.8, 5, 1)
    """
    first, second = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    if first.shape != second.shape:
        raise InputError(f"two series of {first.size} and {second.size} values cannot be correlated")
    if kind not in ("pearson", "spearman") or interval not in ("jackknife", "fisher"):
        raise InputError(f"unknown correlation: {kind} with a {interval} interval")
    if not 0 < confidence < 1:
        raise InputError(f"a confidence of {confidence} lies outside 0 to 1", hint="use 0.95")
    both = np.isfinite(first) & np.isfinite(second)
    n, missing = int(both.sum()), int(both.size - both.sum())
    first, second = scaled(first[both])[0], scaled(second[both])[0]
    codes = np.arange(n) if patients is None else np.unique(np.asarray(patients)[both], return_inverse=True)[1]
    if n < 3:
        return Correlation(math.nan, math.nan, n, None, missing, f"{n} pairs are too few for a correlation")
    if constant(first) or constant(second):
        return Correlation(math.nan, math.nan, n, None, missing, "one side is constant")
    if kind == "spearman":
        first, second = ranks(first), ranks(second)
    r = pearson(first, second)
    if repeated(codes):
        if interval == "fisher":
            problem = "Fisher's interval takes cases as independent, and a patient has several"
            raise InputError(problem, hint="use the jackknife (--interval jackknife)")
        return _of_patients(r, first, second, codes, kind, missing, confidence)
    return _of_pairs(r, first, second, kind, interval, missing, confidence)


def _of_pairs(
    r: float, x: FloatArray, y: FloatArray, kind: Kind, interval: Interval, missing: int, confidence: float
) -> Correlation:
    """Return a correlation of independent pairs with p and interval."""
    n = x.size
    p = exact_rank_p(x, y) if kind == "spearman" and n <= _EXACT else p_value(r, n - 2)
    if n == 3:
        return Correlation(r, p, n, None, missing, "three pairs give no confidence interval")
    if kind == "spearman" and abs(r) >= 1.0:
        return Correlation(r, p, n, None, missing, "a perfect order gives no confidence interval")
    if interval == "fisher":
        return Correlation(r, p, n, fisher_interval(r, n, confidence, kind), missing)
    without_one = ranked_without_one(x, y) if kind == "spearman" else pearson_without_one(x, y)
    ci = jackknife_z_interval(r, without_one, confidence)
    return Correlation(r, p, n, ci, missing, "" if ci else "too few distinct pairs for a confidence interval")


def _of_patients(
    r: float, x: FloatArray, y: FloatArray, codes: IntArray, kind: Kind, missing: int, confidence: float
) -> Correlation:
    """Return a correlation whose scatter is found by leaving out all pairs of each patient."""
    n, units = x.size, int(codes.max()) + 1
    if units < FEWEST_UNITS:
        note = f"{units} patients are too few for p and interval"
        return Correlation(r, math.nan, n, None, missing, note, n_patients=units)
    kept = (codes != unit for unit in range(units))
    if kind == "spearman":
        pairs = ((ranks(x[cases]), ranks(y[cases])) for cases in kept)
        without = np.array([math.nan if constant(a) or constant(b) else pearson(a, b) for a, b in pairs])
    else:
        without = weighted_correlation((1.0 - np.eye(units))[:, codes], x, y)
    ci, known = jackknife_z_interval(r, without, confidence), without[np.isfinite(without)]
    if ci is None or abs(r) >= 1.0 - _NO_VARIATION:
        return Correlation(r, math.nan, n, ci, missing, "no p without scatter", n_patients=units)
    z, se = _jackknife_z(r, known)
    p = float(2.0 * stdtr(known.size - 1, -abs(z) / se)) if se > 0 else math.nan
    return Correlation(r, p, n, ci, missing, n_patients=units)


def ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1, the mean rank for equal values."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - 0.5 * (counts - 1))[place])


def scaled(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return finite values of order 1, and the powers of two (which round nothing) by which columns were divided."""
    exponent = np.frexp(np.fmax.reduce(np.abs(values), axis=0, initial=0.0))[1]
    # Twice half the way: the power itself need not be a number.
    half = exponent // 2
    return np.asarray(np.ldexp(np.ldexp(values, -half), half - exponent)), np.asarray(exponent)


def constant(values: FloatArray) -> bool:
    """Tell whether the values do not vary beyond rounding."""
    return bool(np.ptp(values) <= _ROUNDING * np.abs(values).max()) if values.size else True


def pearson(x: FloatArray, y: FloatArray) -> float:
    """Return Pearson's r of two finite, varying series."""
    dx, dy = x - x.mean(), y - y.mean()
    dx, dy = dx / np.linalg.norm(dx), dy / np.linalg.norm(dy)
    return float(np.clip(dx @ dy, -1.0, 1.0))


def p_value(r: float, df: float) -> float:
    """Return the two-sided p of r against zero, from Student's t with df degrees of freedom (any positive number)."""
    return 0.0 if abs(r) >= 1.0 else float(2.0 * stdtr(df, -abs(r) * math.sqrt(df / ((1.0 - r) * (1.0 + r)))))


def exact_rank_p(x: FloatArray, y: FloatArray) -> float:
    """Return the two-sided p of a rank correlation: the fraction of all orders of y that agree as much or more."""
    dx, dy = x - x.mean(), y - y.mean()
    # Twice a rank is whole, so that N² times the products are compared without rounding.
    whole_x, whole_y = np.rint(2 * x.size * dx).astype(np.int64), np.rint(2 * x.size * dy).astype(np.int64)
    agreement = np.abs(whole_y[_orders(x.size)] @ whole_x)
    return float(np.mean(agreement >= abs(int(whole_x @ whole_y))))


@lru_cache(maxsize=4)
def _orders(n: int) -> IntArray:
    """Return all orders of n things, (n!, n), built by inserting one thing after another."""
    orders = np.zeros((1, 1), dtype=np.int8)
    for size in range(1, n):
        orders = np.concatenate([np.insert(orders, place, size, axis=1) for place in range(size + 1)])
    return orders


def fisher_interval(r: float, n: int, confidence: float = 0.95, kind: Kind = "pearson") -> tuple[float, float]:
    """Return the confidence interval of r by Fisher's z transform, for n > 3."""
    if abs(r) >= 1.0:
        return (r, r)
    spread = math.sqrt((1.0 + (r * r / 2.0 if kind == "spearman" else 0.0)) / (n - 3))
    half = float(ndtri(0.5 + confidence / 2.0)) * spread
    z = math.atanh(r)
    return (math.tanh(z - half), math.tanh(z + half))


def adjust_p(p: ArrayLike, method: Adjustment = "bh") -> FloatArray:
    """Adjust p-values (T,) for the number of tests; a NaN is no test, and stays NaN.

    Methods are "bh", the false discovery rate (Benjamini & Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x), and
    the family-wise errors "holm" (Holm 1979) and "bonferroni". Adjusted values are at most 1, in the order of `p`.

    Examples
    --------
    >>> adjust_p([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.04, 0.04]
    """
    given = np.asarray(p, dtype=float).ravel()
    adjusted = np.full(given.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(given))
    if not tests.size:
        return adjusted
    order = tests[np.argsort(given[tests], kind="stable")]
    ascending, n = given[order], tests.size
    rank = np.arange(1, n + 1)
    if method == "bh":
        scaled = np.minimum.accumulate((ascending * n / rank)[::-1])[::-1]
    elif method == "holm":
        scaled = np.maximum.accumulate(ascending * (n - rank + 1))
    elif method == "bonferroni":
        scaled = ascending * n
    else:
        raise InputError(f"unknown adjustment '{method}'", hint="use bh, holm or bonferroni")
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted


def jackknife_z_interval(
    estimate: float, without_one: FloatArray, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return an interval of a correlation, or a mean of correlations, from the jackknife of its Fisher z.

    Fisher's z makes the error nearly the same whatever the correlation, and the jackknife finds how large it is
    without taking the values for normal (Hinkley 1978, doi 10.1093/biomet/65.1.13). With few cases it covers far
    better than the bootstrap, whose resamples repeat cases and so vary too little. It needs three known values.
    """
    known = without_one[np.isfinite(without_one)]
    if known.size < _FEWEST_KNOWN or not np.isfinite(estimate):
        return None
    if abs(estimate) >= 1.0 - _NO_VARIATION:
        return float(np.sign(estimate)), float(np.sign(estimate))
    z, se = _jackknife_z(estimate, known)
    half = float(stdtrit(known.size - 1, 0.5 + confidence / 2.0)) * se
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _jackknife_z(estimate: float, known: FloatArray) -> tuple[float, float]:
    """Return Fisher's z of an estimate, and its standard error from estimates without each unit."""
    z = float(np.arctanh(estimate))
    pseudo = known.size * z - (known.size - 1) * np.arctanh(np.clip(known, _NO_VARIATION - 1.0, 1.0 - _NO_VARIATION))
    return z, float(np.std(pseudo, ddof=1) / np.sqrt(known.size))


def pearson_without_one(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return Pearson's r with each pair left out in turn, (N,); NaN where one side does not vary without the pair."""
    n = x.size
    dx, dy = x - x.mean(), y - y.mean()
    dx, dy = dx / np.linalg.norm(dx), dy / np.linalg.norm(dy)
    # A pair also moves the means, which is where n / (n - 1) comes from.
    factor = n / (n - 1.0)
    sxx, syy, sxy = 1.0 - factor * dx**2, 1.0 - factor * dy**2, dx @ dy - factor * dx * dy
    varies = np.minimum(sxx, syy) > _NO_VARIATION
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
    usable = ((weights > 0).sum(axis=1) >= _LEAST_DISTINCT) & (np.minimum(vx, vy) > _NO_VARIATION * total**2)
    scale = np.sqrt(np.where(usable, vx * vy, 1.0))
    return np.where(usable, np.clip((total * sxy - sx * sy) / scale, -1.0, 1.0), np.nan)


def _standard(values: FloatArray) -> FloatArray:
    centred = values - values.mean()
    size = np.sqrt(np.mean(centred**2))
    return np.asarray(centred / size if size > _NO_VARIATION * np.abs(values).max() else np.zeros_like(values))
