"""Do two methods give the same value? Bias, limits of agreement, and intraclass correlation."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import fdtr, fdtrc, stdtr, stdtrit

from histomri.analysis.correlation import constant
from histomri.arrays import FloatArray
from histomri.errors import InputError

_FEWEST = 3


@dataclass(frozen=True)
class BlandAltman:
    """Differences of two methods (Bland & Altman 1999, doi 10.1177/096228029900800204).

    Attributes
    ----------
    n, n_missing : int
        Pairs used and left out.
    bias, bias_low, bias_high, p_bias : float
        Mean difference (first minus second), its interval, and the paired t-test against zero.
    sd : float
        Of the differences.
    lower, lower_low, lower_high, upper, upper_low, upper_high : float
        Limits of agreement, bias -+ 1.96 sd, and their intervals.
    slope, slope_low, slope_high, p_slope : float
        Of the difference on the mean of both: a bias that grows with size. NaN if the mean does not vary.
    relative : bool
        Whether differences are in percent of the mean of both.
    """

    n: int
    n_missing: int
    bias: float
    bias_low: float
    bias_high: float
    p_bias: float
    sd: float
    lower: float
    lower_low: float
    lower_high: float
    upper: float
    upper_low: float
    upper_high: float
    slope: float
    slope_low: float
    slope_high: float
    p_slope: float
    relative: bool


def bland_altman(
    first: ArrayLike, second: ArrayLike, *, relative: bool = False, confidence: float = 0.95
) -> BlandAltman:
    """Return bias and limits of agreement of two methods on the same cases.

    Parameters
    ----------
    first, second : (N,) array-like
        Values in the same unit; pairs with a missing value are left out.
    relative : bool
        Differences in percent of the mean of both, which must be positive.
    confidence : float
        Of the intervals. Those of the limits take the variance of a limit as sd² (1/N + z²/(2 (N - 1))), z = 1.96.

    Raises
    ------
    InputError
        If there are fewer than three pairs, or a mean is not positive and differences are relative.
    """
    one, other, missing = _pairs(first, second)
    n = one.size
    difference, mean = one - other, 0.5 * (one + other)
    if relative:
        if (mean <= 0).any():
            raise InputError("relative differences need positive values")
        difference = 100.0 * difference / mean
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    t = float(stdtrit(n - 1, 0.5 + confidence / 2.0))
    se = sd / math.sqrt(n)
    z = 1.959963984540054
    reach = t * sd * math.sqrt(1.0 / n + z * z / (2.0 * (n - 1)))
    lower, upper = bias - z * sd, bias + z * sd
    p = float(2.0 * stdtr(n - 1, -abs(bias) / se)) if se > 0 else (0.0 if bias else 1.0)
    return BlandAltman(
        n,
        missing,
        bias,
        bias - t * se,
        bias + t * se,
        p,
        sd,
        lower,
        lower - reach,
        lower + reach,
        upper,
        upper - reach,
        upper + reach,
        *_slope(mean, difference, confidence),
        relative,
    )


def bias_by_size(
    first: ArrayLike, second: ArrayLike, *, bins: int = 3, relative: bool = False, confidence: float = 0.95
) -> pd.DataFrame:
    """Return the bias in classes of size, with as many cases in each as can be.

    Parameters
    ----------
    first, second : (N,) array-like
        Values; `second` is the reference by which cases are sorted.
    bins : int
        Classes.
    relative : bool
        Differences in percent of the reference.
    confidence : float
        Of the intervals (Student's t).

    Returns
    -------
    DataFrame
        size_from, size_to, n, bias, bias_low, bias_high, sd; the interval is NaN for fewer than two cases.
    """
    one, other, _ = _pairs(first, second)
    if not 1 <= bins <= one.size:
        raise InputError(f"{one.size} cases cannot be split into {bins} classes of size")
    if relative and (other <= 0).any():
        raise InputError("relative differences need positive values")
    difference = 100.0 * (one - other) / other if relative else one - other
    rows = []
    for part in np.array_split(np.argsort(other, kind="stable"), bins):
        values, n = difference[part], part.size
        sd = float(values.std(ddof=1)) if n > 1 else math.nan
        half = float(stdtrit(n - 1, 0.5 + confidence / 2.0)) * sd / math.sqrt(n) if n > 1 else math.nan
        bias = float(values.mean())
        rows.append((other[part].min(), other[part].max(), n, bias, bias - half, bias + half, sd))
    return pd.DataFrame(rows, columns=["size_from", "size_to", "n", "bias", "bias_low", "bias_high", "sd"])


def intraclass_correlation(ratings: ArrayLike, *, confidence: float = 0.95) -> pd.DataFrame:
    """Return the intraclass correlations of single measurements.

    McGraw & Wong 1996 (doi 10.1037/1082-989X.1.1.30), from the mean squares of a two-way analysis of variance.

    Parameters
    ----------
    ratings : (N, K) array-like
        Cases x methods; cases with a missing value are left out.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        Rows ICC(1), ICC(A,1), ICC(C,1) (one-way; absolute agreement; consistency, which forgives a constant bias);
        columns type, icc, f, df1, df2, p, ci_low, ci_high, n, n_missing.

    Raises
    ------
    InputError
        If there are fewer than three complete cases or two methods, or nothing varies.
    """
    values = np.asarray(ratings, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError("agreement needs a table of cases x at least two methods")
    complete = values[np.isfinite(values).all(axis=1)]
    n, k = complete.shape
    if n < _FEWEST:
        raise InputError(f"{n} complete cases are too few for agreement", way_out="at least 3 are needed")
    if constant(complete.ravel()):
        raise InputError("all values are the same; agreement is undefined")
    mean = complete.mean()
    rows_ss = k * ((complete.mean(axis=1) - mean) ** 2).sum()
    columns_ss = n * ((complete.mean(axis=0) - mean) ** 2).sum()
    total = ((complete - mean) ** 2).sum()
    msr, msc = rows_ss / (n - 1), columns_ss / (k - 1)
    # Rounding may leave a residual just below zero when the methods differ by a constant.
    mse = max(total - rows_ss - columns_ss, 0.0) / ((n - 1) * (k - 1))
    msw = (total - rows_ss) / (n * (k - 1))
    tails = (0.5 - confidence / 2.0, 0.5 + confidence / 2.0)
    rows = [
        ("ICC(1)", *_icc(msr, msw, n - 1, n * (k - 1), k, tails)),
        ("ICC(A,1)", *_icc_agreement(msr, msc, mse, n, k, tails)),
        ("ICC(C,1)", *_icc(msr, mse, n - 1, (n - 1) * (k - 1), k, tails)),
    ]
    frame = pd.DataFrame(rows, columns=["type", "icc", "f", "df1", "df2", "p", "ci_low", "ci_high"])
    return frame.assign(n=n, n_missing=len(values) - n)


def concordance(first: ArrayLike, second: ArrayLike) -> float:
    """Return Lin's concordance correlation coefficient (1989, doi 10.2307/2532051), with variances over N."""
    one, other, _ = _pairs(first, second)
    spread = one.var() + other.var() + (one.mean() - other.mean()) ** 2
    return float(2.0 * np.mean((one - one.mean()) * (other - other.mean())) / spread) if spread > 0 else math.nan


def _icc(
    above: float, below: float, df1: float, df2: float, k: int, tails: tuple[float, float]
) -> tuple[float, float, float, float, float, float, float]:
    if below <= 0:
        return 1.0, math.inf, df1, df2, 0.0, 1.0, 1.0
    f = above / below
    low, high = f / _f_quantile(df1, df2, tails[1]), f / _f_quantile(df1, df2, tails[0])
    limits = ((low - 1.0) / (low + k - 1.0), (high - 1.0) / (high + k - 1.0))
    return (f - 1.0) / (f + k - 1.0), f, df1, df2, float(fdtrc(df1, df2, f)), *limits


def _icc_agreement(
    msr: float, msc: float, mse: float, n: int, k: int, tails: tuple[float, float]
) -> tuple[float, float, float, float, float, float, float]:
    df1, df2 = n - 1, (n - 1) * (k - 1)
    icc = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
    if mse <= 0:
        return icc, math.inf, df1, df2, 0.0, math.nan, math.nan
    # Satterthwaite's degrees of freedom of the denominator.
    a, b = k * icc / (n * (1.0 - icc)), 1.0 + k * icc * (n - 1) / (n * (1.0 - icc))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / df2)
    upper, lower = _f_quantile(df1, v, tails[1]), _f_quantile(v, df1, tails[1])
    rest = k * msc + (k * n - k - n) * mse
    low = n * (msr - upper * mse) / (upper * rest + n * msr)
    high = n * (lower * msr - mse) / (rest + n * lower * msr)
    return icc, msr / mse, df1, df2, float(fdtrc(df1, df2, msr / mse)), low, high


def _f_quantile(df1: float, df2: float, level: float) -> float:
    from scipy.stats import f

    quantile = float(f.ppf(level, df1, df2))
    # One Newton step brings the quantile to full precision.
    density = float(f.pdf(quantile, df1, df2))
    return quantile - (float(fdtr(df1, df2, quantile)) - level) / density if density > 0 else quantile


def _slope(x: FloatArray, y: FloatArray, confidence: float) -> tuple[float, float, float, float]:
    n = x.size
    if n < _FEWEST or constant(x):
        return (math.nan,) * 4
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    residual = dy - slope * dx
    se = math.sqrt(float(residual @ residual) / (n - 2) / float(dx @ dx))
    half = float(stdtrit(n - 2, 0.5 + confidence / 2.0)) * se
    p = float(2.0 * stdtr(n - 2, -abs(slope) / se)) if se > 0 else (0.0 if slope else 1.0)
    return slope, slope - half, slope + half, p


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[FloatArray, FloatArray, int]:
    one, other = np.asarray(first, dtype=float).ravel(), np.asarray(second, dtype=float).ravel()
    if one.shape != other.shape:
        raise InputError(f"two methods with {one.size} and {other.size} values cannot be compared")
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < _FEWEST:
        raise InputError(f"{int(both.sum())} pairs are too few for agreement", way_out="at least 3 are needed")
    return one[both], other[both], int((~both).sum())
