"""Correlations over all cases against those within groups: how much comes from differences between the groups."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from histomri.analysis.cases import as_cases
from histomri.analysis.patients import FEWEST_UNITS
from histomri.analysis.pseudovalues import FEWEST_FOR_INTERVAL, ScoredCases, fisher_z
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.columns import PAIRED
from histomri.core.errors import InputError

LEAST_DIFFERENCE = 0.1  # of the mean r, below which pooled and within are not called different
_ROUNDING = 1e-12
_VALUES = ("vCS_mri", "vCS_histo", "F_mri", "F_histo")
WITHIN_COLUMNS = (
    "model", "strategy", "by", "n", "n_groups", "TCS", "TCS_ci_low", "TCS_ci_high", "TCS_within", "TCS_within_low",
    "TCS_within_high", "df", "t_differ", "p_differ", "differ", "rests_on_groups",
    *(f"{name}_{part}" for name in ("vCS", "F") for part in ("within_part", "between_part", "r_within")),
    *(f"eta2_{name}" for name in _VALUES),
)  # fmt: skip


@dataclass(frozen=True)
class Decomposed:
    """A correlation as the sum of a part within groups and one between them; NaN where it is undefined."""

    r: float
    within_part: float  # sum of products of deviations from the means of the groups, over the pooled scatter
    between_part: float  # the same of those means
    r_within: float  # correlation of the deviations from the means of the groups: a common slope
    eta2_x: float  # share of the variance of x between groups
    eta2_y: float


@dataclass(frozen=True)
class WithinGroups:
    """A score over all cases (mean of one or more correlations, Fisher's z), and the same within groups."""

    pooled: float
    within: float
    within_ci: tuple[float, float] | None  # Student's t with units - groups degrees of freedom
    df: int
    t_differ: float  # pooled less within, over its standard error from differences of pseudo-values
    p_differ: float
    differ: bool  # p below 0.05, and a difference that matters
    rests_on_groups: bool  # and the pooled interval lies above 0, that within does not


def decompose(x: FloatArray, y: FloatArray, groups: IntArray) -> Decomposed:
    """Split Pearson's r of two finite series (N,) into its parts within and between groups (N,).

    Examples
    --------
    >>> found = decompose(np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 4, 3]), np.array([0, 0, 1, 1]))
    >>> round(found.r, 2), round(found.within_part, 2), round(found.between_part, 2), round(found.r_within, 2)
    (0.6, -0.2, 0.8, -1.0)
    """
    dx, dy = x - x.mean(), y - y.mean()
    xw, yw = _deviations(x, groups), _deviations(y, groups)
    sxx, syy, wxx, wyy = (float(values @ values) for values in (dx, dy, xw, yw))
    if not (sxx > 0 and syy > 0):
        return Decomposed(*[math.nan] * 6)
    scale = math.sqrt(sxx * syy)
    within = float(xw @ yw) / scale
    r_within = float(xw @ yw) / math.sqrt(wxx * wyy) if wxx > 0 and wyy > 0 else math.nan
    between = float((dx - xw) @ (dy - yw)) / scale
    return Decomposed(within + between, within, between, r_within, 1.0 - wxx / sxx, 1.0 - wyy / syy)


def pooled_against_within(
    pairs: Sequence[tuple[FloatArray, FloatArray]], groups: IntArray, units: IntArray, *, confidence: float = 0.95
) -> WithinGroups:
    """Compare the mean of correlations over all cases with the mean of those within groups.

    Parameters
    ----------
    pairs : sequence of ((N,) array, (N,) array)
        The series of each correlation, finite. TCS is the sum of two, so its mean is TCS/2.
    groups, units : (N,) arrays
        Numbers of the groups, and of what is independent: cases or patients.

    Returns
    -------
    WithinGroups
        The groups are centred anew without each unit. Without groups by chance "differ" comes in at most 1.5 % of
        studies; where histology alone differs by two standard deviations between groups, in up to a third.
    """
    n = int(units.max()) + 1
    weights = np.vstack([np.ones(len(units)), (1.0 - np.eye(n))[:, units]])
    z = fisher_z(np.mean([_both(weights, x, y, groups) for x, y in pairs], axis=0))  # (n + 1, 2)
    pseudo = n * z[0] - (n - 1) * z[1:]
    pseudo = pseudo[np.isfinite(pseudo).all(axis=1)]
    used, k = len(pseudo), int(groups.max()) + 1
    df = used - k
    fewest = FEWEST_UNITS if n < len(units) else FEWEST_FOR_INTERVAL
    pooled, within = np.tanh(z[0])
    if used < max(fewest, 2) or df < 2 or not np.isfinite(z[0]).all():
        return WithinGroups(float(pooled), float(within), None, df, math.nan, math.nan, False, False)
    t, root = float(stdtrit(df, 0.5 + confidence / 2.0)), math.sqrt(used)
    half = t * float(pseudo[:, 1].std(ddof=1)) / root
    limits = float(np.tanh(z[0, 1] - half)), float(np.tanh(z[0, 1] + half))
    lowest = z[0, 0] - float(stdtrit(used - 1, 0.5 + confidence / 2.0)) * pseudo[:, 0].std(ddof=1) / root
    se = float((pseudo[:, 0] - pseudo[:, 1]).std(ddof=1)) / root
    t_differ = float(z[0, 0] - z[0, 1]) / se if se > 0 else math.nan
    significant = abs(t_differ) > t
    p = float(2.0 * stdtr(df, -abs(t_differ)))
    differ = significant and abs(pooled - within) > LEAST_DIFFERENCE
    rests = bool(significant and lowest > 0 and limits[0] <= 0)
    return WithinGroups(float(pooled), float(within), limits, df, t_differ, p, bool(differ), rests)


def _both(weights: FloatArray, x: FloatArray, y: FloatArray, groups: IntArray) -> FloatArray:
    """Return r and r within groups for each row of weights (B, N), (B, 2); NaN where nothing varies."""
    # Scaled first, so that the one-pass sums below do not cancel.
    x, y = ((values - values.mean()) / max(values.std(), 1e-300) for values in (x, y))
    belongs = np.eye(int(groups.max()) + 1)[groups]
    sizes, sx, sy = weights @ belongs, weights @ (belongs * x[:, None]), weights @ (belongs * y[:, None])
    products = (weights @ np.stack([x * x, y * y, x * y], axis=1)).T
    found = []
    for n, one, other in (
        (sizes.sum(axis=1, keepdims=True), sx.sum(axis=1, keepdims=True), sy.sum(axis=1, keepdims=True)),
        (sizes, sx, sy),
    ):
        share = 1.0 / np.maximum(n, 1.0)
        taken = (
            (one * one * share).sum(axis=1),
            (other * other * share).sum(axis=1),
            (one * other * share).sum(axis=1),
        )
        sxx, syy, sxy = (product - sums for product, sums in zip(products, taken))
        varies = np.minimum(sxx, syy) > _ROUNDING * products[:2].max(axis=0)
        found.append(np.where(varies, sxy / np.sqrt(np.where(varies, sxx * syy, 1.0)), np.nan))
    return np.stack(found, axis=1)


def _deviations(values: FloatArray, groups: IntArray) -> FloatArray:
    counts = np.bincount(groups)
    means = np.bincount(groups, values) / np.maximum(counts, 1)
    deviations = values - means[groups]
    # Of a group of one, or of equal values, rounding is no scatter.
    return np.where(np.abs(deviations) > 1e-13 * np.abs(values).max(initial=0.0), deviations, 0.0)


def within_column(frame: pd.DataFrame, asked: str | None) -> tuple[str | None, list[str]]:
    """Return the column of groups to look within: the one asked for, or group, or scanner; and what to say of it.

    Without being asked, a column counts if it has at least two labels, each on two samples or more, and no gap. A
    column that is asked for and cannot be used is an InputError.
    """
    labels = {name: _labels(frame, name) for name in ([asked] if asked else ("group", "scanner")) if name in frame}
    if asked is not None:
        if asked not in labels:
            raise InputError(f"column '{asked}' is missing", hint="--within takes a column of the table, such as group")
        names = labels[asked]
        if (names == "").any():
            without = names.index[names == ""]
            problem = f"column '{asked}' is empty for {len(without)} samples ({', '.join(map(str, without[:5]))}, ..)"
            raise InputError(problem, hint="fill it; within groups every sample needs one")
        if names.nunique() < 2:
            problem = f"column '{asked}' has one label only ('{names.iloc[0]}'), so nothing lies between groups"
            raise InputError(problem, hint="leave --within out, or name another column")
        return asked, []
    notes = []
    for name, names in labels.items():
        counts = names[names != ""].value_counts()
        if len(counts) < 2 or counts.nlargest(2).iloc[1] < 2:
            continue
        if (names == "").any():
            notes.append(f"{int((names == '').sum())} samples have no {name}: scores within {name}s are not computed")
            continue
        return name, notes
    return None, notes


def _labels(frame: pd.DataFrame, name: str) -> pd.Series:
    labels = frame.groupby("sample", sort=False, observed=True)[name].first() if "sample" in frame else frame[name]
    return labels.fillna("").astype(str).str.strip()


def scores_within(
    table: pd.DataFrame, by: str, *, patient: str | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Return TCS over all cases and within groups of every model and strategy.

    Parameters
    ----------
    table : DataFrame
        One row per sample x model x strategy, with the columns `PAIRED` and `by`.
    by : str
        Column of the groups, such as group or scanner.
    patient : str, optional
        Column of patients, which are then what is independent.

    Returns
    -------
    DataFrame
        `WITHIN_COLUMNS`: TCS and TCS_within (one slope for all groups) with intervals; t and p of their difference,
        whether they differ, and whether TCS rests on the groups; the parts of both correlations within and between
        groups, which sum to r, and r within; eta2, the share of each variable's variance between groups.
    """
    table = as_cases(table, ("sample", "model", "strategy", by, *PAIRED))
    rows = []
    for (model, strategy), part in table.groupby(["model", "strategy"], sort=False):
        row = {"model": model, "strategy": strategy, "by": by}
        complete = part[np.isfinite(part[list(PAIRED)].to_numpy(dtype=float)).all(axis=1)]
        rows.append(row | (_of_row(complete, by, patient, confidence) if len(complete) else {"n": 0, "n_groups": 0}))
    return pd.DataFrame(rows, columns=list(WITHIN_COLUMNS))


def _of_row(part: pd.DataFrame, by: str, patient: str | None, confidence: float) -> dict[str, Any]:
    """Return the columns of a row of the result but for its labels."""
    cases = ScoredCases.of(part, patient)
    size, size_histo, fraction, fraction_histo = cases.values[0].T
    labels = part.set_index("sample")[by].reindex(cases.samples).fillna("").astype(str)
    groups = np.asarray(pd.factorize(labels)[0])
    pairs = ((size, size_histo), (fraction, fraction_histo))
    parts = [decompose(*pair, groups) for pair in pairs]
    found = pooled_against_within(pairs, groups, cases.codes, confidence=confidence)
    low, high = cases.interval(0, confidence) or (math.nan, math.nan)
    row: dict[str, Any] = {"n": len(cases.samples), "n_groups": labels.nunique(), "TCS": sum(each.r for each in parts)}
    limits = found.within_ci or (math.nan, math.nan)
    row |= {"TCS_ci_low": low, "TCS_ci_high": high, "TCS_within": sum(each.r_within for each in parts)}
    row |= {"TCS_within_low": 2.0 * limits[0], "TCS_within_high": 2.0 * limits[1], "df": found.df}
    row |= {name: getattr(found, name) for name in ("t_differ", "p_differ", "differ", "rests_on_groups")}
    for name, each in zip(("vCS", "F"), parts):
        row |= {f"{name}_{what}": getattr(each, what) for what in ("within_part", "between_part", "r_within")}
        row |= {f"eta2_{name}_mri": each.eta2_x, f"eta2_{name}_histo": each.eta2_y}
    return row


def within_warnings(found: pd.DataFrame) -> list[str]:
    """Say where scores over all cases differ from those within groups, and where they rest on the groups alone."""
    texts = []
    for name, text in (
        ("rests_on_groups", "the score rests on differences between the {by}s: within them there is no clear relation"),
        ("differ", "scores over all cases and within the {by}s differ: part of it comes from differences between them"),
    ):
        mine = found[found[name] & ~(found["rests_on_groups"] if name == "differ" else False)]
        if len(mine):
            each = [
                f"{row['model']}, {row['strategy']} (TCS {row['TCS']:.2f}, within {row['TCS_within']:.2f})"
                for row in mine.to_dict("records")
            ]
            listed = "; ".join(each[:4]) + (f"; and {len(each) - 4} more" if len(each) > 4 else "")
            texts.append(f"{text.format(by=found['by'].iloc[0])}: {listed}")
    return texts
