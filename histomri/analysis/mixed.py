"""Several rows of one sample or patient (voxels, regions, visits): repeated-measures correlation, random intercepts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from histomri.analysis.cases import as_cases, require_labels
from histomri.analysis.correlation import Correlation, adjust_p, constant, correlate, p_value
from histomri.analysis.options import Adjustment
from histomri.analysis.spatial import r_interval
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError

WITHIN_BETWEEN = (
    "slope_within", "se_within", "p_slope_within", "slope_between", "se_between", "df_between", "p_slope_between",
    "icc", "r_between", "p_between", "r_mean", "p_mean",
)  # fmt: skip
# Of the mean of the groups' r, and of the slope within groups that allows for slopes that differ (CR2).
SLOPES = (
    "r_mean_low", "r_mean_high", "t_mean", "df_mean", "q_mean", "slope_cr2", "slope_cr2_low", "slope_cr2_high",
    "se_cr2", "df_cr2", "p_cr2",
)  # fmt: skip
REPEATED_COLUMNS = (
    "x", "y", "n_groups", "n", "n_missing", "r_within", "ci_low", "ci_high", "df", "p", "q", *WITHIN_BETWEEN, "note",
    *SLOPES, "n_single",
)  # fmt: skip


@dataclass(frozen=True)
class RepeatedCorrelation(Correlation):
    """The correlation within samples, common to all of them."""

    df: float = math.nan  # of p: N - k - 1, or fewer if the voxels of a sample resemble their neighbours
    n_samples: int = 0


@dataclass(frozen=True)
class MixedModel:
    """A linear model with a random intercept per sample, fitted by restricted maximum likelihood."""

    coefficients: FloatArray  # (P,), in the order of the design
    standard_errors: FloatArray
    variance_within: float  # of the residual
    variance_between: float  # of the random intercept
    log_likelihood: float  # restricted
    n: int
    n_samples: int

    @property
    def icc(self) -> float:
        """Fraction of the variance between samples."""
        return self.variance_between / (self.variance_between + self.variance_within)


@dataclass(frozen=True)
class Effect:
    """A slope with its standard error, degrees of freedom and two-sided p."""

    slope: float
    se: float
    df: float
    p: float


def repeated_correlation(
    x: ArrayLike, y: ArrayLike, sample: ArrayLike, *, n_eff: ArrayLike | None = None, confidence: float = 0.95
) -> RepeatedCorrelation:
    """Correlate within samples: the repeated-measures correlation (Bakdash & Marusich 2017).

    The analysis of covariance with one slope and an intercept per sample, doi 10.3389/fpsyg.2017.00456.

    Parameters
    ----------
    x, y, sample : (N,) array-like
        Values, and labels of what belongs together; pairs with a missing value are left out.
    n_eff : (k,) array-like, optional
        Effective numbers of voxels of the samples, in the sorted order of their labels (`effective_sample_size`). The
        variance of r is then the one of independent samples with that many values each.
    """
    first, second, labels, names = _complete(x, y, sample)
    n, k = first.size, len(names)
    dx, dy = first - _means(first, labels)[labels], second - _means(second, labels)[labels]
    sxx, syy = np.bincount(labels, dx * dx), np.bincount(labels, dy * dy)
    if n - k - 1 < 1 or constant(first) or constant(second) or not (sxx.sum() > 0 and syy.sum() > 0):
        note = "fewer than two values per sample, or no variation within samples"
        return RepeatedCorrelation(math.nan, math.nan, n, note=note, n_samples=k)
    r = float(np.clip((dx @ dy) / math.sqrt(sxx.sum() * syy.sum()), -1.0, 1.0))
    df: float = n - k - 1
    if n_eff is not None:
        sizes = np.asarray(n_eff, dtype=float)
        if sizes.shape != (k,):
            raise InputError(f"{sizes.size} effective numbers for {k} samples")
        if not (sizes > 1).all():
            note = "a sample has no effective number of voxels"
            return RepeatedCorrelation(r, math.nan, n, note=note, n_samples=k)
        # r is a weighted mean of the samples' covariances; each has variance sxx syy / (n_eff - 1) without correlation.
        variance = float((sxx * syy / (sizes - 1.0)).sum() / (sxx.sum() * syy.sum()))
        df = min(1.0 / variance - 1.0, df)
    if not df > 0:
        return RepeatedCorrelation(r, math.nan, n, note="no degree of freedom is left", df=df, n_samples=k)
    return RepeatedCorrelation(r, p_value(r, df), n, r_interval(r, df + 2.0, confidence), df=df, n_samples=k)


def random_intercept(design: ArrayLike, y: ArrayLike, sample: ArrayLike) -> MixedModel:
    """Fit y = design @ b + u[sample] + e by restricted maximum likelihood.

    The likelihood is profiled over the ratio of the two variances (Bates et al. 2015, doi 10.18637/jss.v067.i01), which
    needs sums per sample only: 0.1 s for 800,000 voxels, and the digits of R's lmer.

    statsmodels' MixedLM does not do here. Its default optimiser stops away from the maximum: on simulated voxels (14 to
    40 samples) it reports convergence with standard errors 0.1 to 9 % off and an intraclass correlation of .54 for .58;
    where samples hardly differ it warns of a singular matrix, or returns NaN. It is 5 to 40 times slower.

    Parameters
    ----------
    design : (N, P) array-like
        Fixed effects, the constant included; finite, of full rank.
    y, sample : (N,) array-like
        Values, finite, and labels of the random intercepts.

    Raises
    ------
    InputError
        If there are fewer than two samples, not more values than coefficients, or the design is not of full rank.
    """
    matrix, values = np.asarray(design, dtype=float), np.asarray(y, dtype=float)
    names, labels = np.unique(np.asarray(sample), return_inverse=True)
    n, k, p = values.size, len(names), matrix.shape[1]
    if k < 2 or n <= p + k - 1:
        raise InputError(f"{n} values of {k} samples are too few for a random intercept per sample")
    scale = np.sqrt((matrix**2).mean(axis=0))
    if not scale.all() or np.linalg.matrix_rank(matrix / scale) < p:
        raise InputError("a predictor is constant, or a sum of others")
    profile = _Profile(matrix / scale, values, labels, k)
    # A grid of the fraction of variance between samples first, because the likelihood may have two maxima; then the
    # place where it is flat, as a maximum by values alone has half the digits.
    grid = np.r_[0.0, np.geomspace(1e-6, 0.5, 40), 1.0 - np.geomspace(0.45, 1e-8, 40)]
    grid = grid / (1.0 - grid)
    best = int(np.argmax([profile.at(ratio)[0] for ratio in grid]))
    ratio, low, high = grid[best], grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    if profile.slope(low) > 0.0 > profile.slope(high):
        ratio = float(brentq(profile.slope, low, high, xtol=1e-15, rtol=1e-14))
    likelihood, coefficients, covariance, within = profile.at(ratio)
    errors = np.sqrt(within * np.diag(covariance)) / scale
    likelihood -= float(np.log(scale).sum())
    return MixedModel(coefficients / scale, errors, within, float(ratio * within), likelihood, n, k)


class _Profile:
    """Restricted likelihood as a function of the ratio of variances (between / within)."""

    def __init__(self, design: FloatArray, y: FloatArray, labels: IntArray, k: int) -> None:
        everything = np.column_stack([design, y])
        self.n, self.p = design.shape
        self.sizes = np.bincount(labels, minlength=k).astype(float)
        self.sums = np.stack([np.bincount(labels, column, minlength=k) for column in everything.T], axis=1)
        # Within-sample products are centred first: X'X minus sums would cancel for values far from zero.
        centred = everything - (self.sums / self.sizes[:, None])[labels]
        self.within = centred.T @ centred

    def at(self, ratio: float) -> tuple[float, FloatArray, FloatArray, float]:
        """Return restricted log-likelihood, coefficients, their covariance / variance within, variance within."""
        weights = 1.0 / (self.sizes * (1.0 + self.sizes * ratio))
        products = self.within + (self.sums * weights[:, None]).T @ self.sums
        p = self.p
        covariance = np.linalg.inv(products[:p, :p])
        coefficients = covariance @ products[:p, p]
        residual = self.sums[:, p] - self.sums[:, :p] @ coefficients
        inside = np.r_[-coefficients, 1.0]
        within = float(inside @ self.within @ inside + residual @ (weights * residual)) / (self.n - p)
        logdet = float(np.log1p(self.sizes * ratio).sum()) - float(np.linalg.slogdet(covariance)[1])
        likelihood = -0.5 * ((self.n - p) * (math.log(2.0 * math.pi * within) + 1.0) + logdet)
        return likelihood, coefficients, covariance, within

    def slope(self, ratio: float) -> float:
        """Return twice the derivative of the restricted log-likelihood by the ratio."""
        _, coefficients, covariance, within = self.at(ratio)
        damping = (1.0 + self.sizes * ratio) ** -2
        residual = self.sums[:, self.p] - self.sums[:, : self.p] @ coefficients
        design = self.sums[:, : self.p]
        moved = np.einsum("k,ki,ij,kj->", damping, design, covariance, design)
        return float((damping @ residual**2) / within - (self.sizes / (1.0 + self.sizes * ratio)).sum() + moved)


def within_between(
    x: ArrayLike, y: ArrayLike, sample: ArrayLike, *, df_within: float | None = None
) -> tuple[Effect, Effect, MixedModel]:
    """Separate the slope of y on x within samples from the one between samples' means.

    The random-intercept model y ~ (x - mean of the sample) + mean of the sample (Mundlak 1978): a voxel-wise relation
    may differ from the relation between samples, and one slope for both would mix them.

    Parameters
    ----------
    x, y, sample : (N,) array-like
        Values (pairs with a missing one are left out), and what belongs together; at least three samples.
    df_within : float, optional
        Degrees of freedom left within samples when neighbours resemble each other (`RepeatedCorrelation.df`); the
        standard error grows accordingly.

    Returns
    -------
    within, between : Effect
        Slopes; the one between has k - 2 degrees of freedom.
    model : MixedModel
        Coefficients in the order constant, within, between.
    """
    first, second, labels, names = _complete(x, y, sample)
    if len(names) < 3:
        raise InputError(f"{len(names)} samples are too few to compare their means", hint="at least 3 are needed")
    means = _means(first, labels)[labels]
    model = random_intercept(np.column_stack([np.ones_like(first), first - means, means]), second, labels)
    residual = model.n - model.n_samples - 1
    df = residual if df_within is None else min(df_within, residual)
    inflation = math.sqrt(residual / df) if df > 0 else math.nan
    within = _effect(model.coefficients[1], model.standard_errors[1] * inflation, df)
    between = _effect(model.coefficients[2], model.standard_errors[2], model.n_samples - 2)
    return within, between, model


def _effect(slope: float, se: float, df: float) -> Effect:
    p = float(2.0 * stdtr(df, -abs(slope / se))) if df > 0 and se > 0 else math.nan
    return Effect(float(slope), float(se), float(df), p)


def _complete(x: ArrayLike, y: ArrayLike, sample: ArrayLike) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    first, second = np.asarray(x, dtype=float).ravel(), np.asarray(y, dtype=float).ravel()
    labels = np.asarray(sample)
    if not first.size == second.size == labels.size:
        raise InputError(f"{first.size} and {second.size} values, and {labels.size} labels")
    both = np.isfinite(first) & np.isfinite(second)
    names, codes = np.unique(labels[both], return_inverse=True)
    return first[both], second[both], codes, names


def _means(values: FloatArray, labels: IntArray) -> FloatArray:
    return np.asarray(np.bincount(labels, values) / np.bincount(labels))


def correlate_repeated(
    table: pd.DataFrame, x: Sequence[str], y: Sequence[str] | None = None, *, by: str, confidence: float = 0.95,
    adjustment: Adjustment = "bh",
) -> pd.DataFrame:  # fmt: skip
    """Correlate columns of a table with several rows per group, within groups and between them.

    Parameters
    ----------
    table : DataFrame
        One row per region, tumour or visit; NaN is missing.
    x, y : sequence of str
        Every x against every y; without y every pair of x.
    by : str
        Column that says which rows belong together, such as patient.
    adjustment : {"bh", "holm", "bonferroni"}
        Of q.

    Returns
    -------
    DataFrame
        `REPEATED_COLUMNS`. First to look at: r_mean, the mean of the groups' r (by Fisher's z, of groups with at least
        three rows) with interval, t, df and p_mean, in which groups are what was observed; then slope_cr2 within
        groups (`slope_within_groups`). r_within, the repeated-measures correlation, describes: its p and df take one
        slope for all groups, and if slopes differ by 0.3 it is below 0.05 in 11 to 22 % of studies without a mean
        slope. Also slopes within and between groups of the random-intercept model, and Pearson's r of the groups'
        means. n_groups and n count groups with at least two rows; n_single are the rows of the others.

    Raises
    ------
    InputError
        If a column is missing, or no group has two rows.
    """
    table = as_cases(table, (by, *x, *(y or ())))
    require_labels(table, by)
    labels = table[by].astype(str)
    if not labels.duplicated().any():
        raise InputError(f"every row has a '{by}' of its own; nothing is repeated", hint="name another column, or none")
    pairs = list(combinations(x, 2)) if y is None else [(a, b) for a in x for b in y if a != b]
    rows = []
    for one, other in pairs:
        both = np.isfinite(table[one].to_numpy(dtype=float)) & np.isfinite(table[other].to_numpy(dtype=float))
        part, mine = table[both], labels[both]
        singles = [correlate(each[one], each[other]).r for _, each in part.groupby(mine, sort=True) if len(each) > 2]
        row = within_and_between(part[one], part[other], mine, confidence=confidence)
        row |= mean_correlation(singles, confidence=confidence) | {"n_missing": int((~both).sum())}
        sizes = mine.value_counts()
        row |= {"n": int(sizes[sizes > 1].sum()), "n_single": int((sizes == 1).sum())}
        rows.append({"x": one, "y": other, "n_groups": int((sizes > 1).sum()), **row})
    found = pd.DataFrame(rows, columns=list(REPEATED_COLUMNS))
    return found.assign(q=adjust_p(found["p"], adjustment), q_mean=adjust_p(found["p_mean"], adjustment))


def within_and_between(
    x: pd.Series, y: pd.Series, labels: pd.Series, *, n_eff: ArrayLike | None = None, confidence: float = 0.95
) -> dict[str, Any]:
    """Return the correlation within groups, slopes within and between them, and the correlation of their means."""
    common = repeated_correlation(x, y, labels, n_eff=n_eff, confidence=confidence)
    row = common.row("n", "ci_low", "ci_high", "df", "p", "note") | {"r_within": common.r}
    if labels.nunique() >= 3 and common.df > 0:
        within, between, model = within_between(x, y, labels, df_within=common.df)
        row |= {"slope_within": within.slope, "se_within": within.se, "p_slope_within": within.p, "icc": model.icc}
        row |= {"slope_between": between.slope, "se_between": between.se, "df_between": between.df}
        row |= {"p_slope_between": between.p}
    robust = slope_within_groups(x, y, labels)
    half = float(stdtrit(robust.df, 0.5 + confidence / 2.0)) * robust.se if robust.df > 0 else math.nan
    row |= {"slope_cr2": robust.slope, "slope_cr2_low": robust.slope - half, "slope_cr2_high": robust.slope + half}
    row |= {"se_cr2": robust.se, "df_cr2": robust.df, "p_cr2": robust.p}
    means = pd.DataFrame({"x": x, "y": y}).groupby(labels).mean()
    of_means = correlate(means["x"], means["y"], confidence=confidence)
    return row | {"r_between": of_means.r, "p_between": of_means.p}


def slope_within_groups(x: ArrayLike, y: ArrayLike, sample: ArrayLike) -> Effect:
    """Return the slope of y on x within groups, tested as if each group were one observation (CR2).

    The standard error is the sandwich over groups with the correction of Bell & McCaffrey (2002), its degrees of
    freedom those of Satterthwaite, so that slopes may differ from group to group. It is NaN unless two groups vary.

    Parameters
    ----------
    x, y, sample : (N,) array-like
        Values (pairs with a missing one are left out), and labels of the groups.

    Examples
    --------
    >>> found = slope_within_groups([0, 1, 2, 0, 1, 2], [0, 1, 2, 5, 6, 8], list("aaabbb"))
    >>> round(found.slope, 2), round(found.df, 1)
    (1.25, 1.0)
    """
    first, second, labels, _ = _complete(x, y, sample)
    if not first.size:
        return Effect(math.nan, math.nan, math.nan, math.nan)
    dx, dy = first - _means(first, labels)[labels], second - _means(second, labels)[labels]
    squares = np.bincount(labels, dx * dx)
    total = float(squares.sum())
    if not total > 0 or squares.max() > (1.0 - 1e-9) * total:
        return Effect(math.nan, math.nan, math.nan, math.nan)
    slope = float(dx @ dy) / total
    left = 1.0 - squares / total
    se = math.sqrt(float((np.bincount(labels, dx * (dy - slope * dx)) ** 2 / left).sum())) / total
    spread = (np.diag(squares) - np.outer(squares, squares) / total) / np.sqrt(np.outer(left, left))
    return _effect(slope, se, float(np.trace(spread)) ** 2 / float((spread**2).sum()))


def mean_correlation(
    correlations: Sequence[float], *, patients: Sequence[Any] | None = None, confidence: float = 0.95
) -> dict[str, float]:
    """Return the mean of the groups' r by Fisher's z, with interval and one-sample t-test; nothing of fewer than two.

    If one of the `patients` of the groups comes twice, the mean of z of each patient is what is observed.
    """
    labels = range(len(correlations)) if patients is None else patients
    known = pd.Series(correlations, index=list(labels), dtype=float)
    z = np.arctanh(known[known.abs() < 1.0]).groupby(level=0).mean().to_numpy()
    if z.size < 2:
        return {}
    mean, se, df = float(z.mean()), float(z.std(ddof=1)) / math.sqrt(z.size), z.size - 1
    t = mean / se if se > 0 else math.nan
    half = float(stdtrit(df, 0.5 + confidence / 2.0)) * se
    found = {"r_mean": math.tanh(mean), "p_mean": float(2.0 * stdtr(df, -abs(t))), "t_mean": t, "df_mean": df}
    return found | {"r_mean_low": math.tanh(mean - half), "r_mean_high": math.tanh(mean + half)}
