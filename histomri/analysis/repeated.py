"""Several rows of one patient or sample that are no voxels: regions, tumours, visits."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import ttest_1samp

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import adjust_p, correlate
from histomri.analysis.mixed import repeated_correlation, within_between
from histomri.analysis.options import Adjustment
from histomri.core.errors import InputError

WITHIN_BETWEEN = (
    "slope_within", "se_within", "p_slope_within", "slope_between", "se_between", "df_between", "p_slope_between",
    "icc", "r_between", "p_between", "r_mean", "p_mean",
)  # fmt: skip
COLUMNS = ("x", "y", "n_groups", "n", "n_missing", "r_within", "ci_low", "ci_high", "df", "p", "q", *WITHIN_BETWEEN,
           "note")  # fmt: skip


def correlate_repeated(
    table: pd.DataFrame,
    x: Sequence[str],
    y: Sequence[str] | None = None,
    *,
    by: str,
    confidence: float = 0.95,
    adjustment: Adjustment = "bh",
) -> pd.DataFrame:
    """Correlate columns of a table with several rows per group, within groups and between them.

    Parameters
    ----------
    table : DataFrame
        One row per region, tumour or visit; NaN is missing.
    x, y : sequence of str
        Every x against every y; without y every pair of x.
    by : str
        Column that says which rows belong together, such as patient.
    confidence : float
        Of the intervals.
    adjustment : {"bh", "holm", "bonferroni"}
        Of q.

    Returns
    -------
    DataFrame
        `COLUMNS`: the repeated-measures correlation within groups, with N - k - 1 degrees of freedom (rows of a group
        are independent apart from its level); slopes within and between groups of the random-intercept model; Pearson's
        r of the groups' means; the mean of the groups' r, of groups with at least three rows.

    Raises
    ------
    InputError
        If a column is missing, or no group has two rows.
    """
    table = as_cases(table, (by, *x, *(y or ())))
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
        row |= mean_correlation(singles) | {"n_missing": int((~both).sum())}
        rows.append({"x": one, "y": other, "n_groups": mine.nunique(), **row})
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    found["q"] = adjust_p(found["p"], adjustment)
    return found


def within_and_between(
    x: pd.Series, y: pd.Series, labels: pd.Series, *, n_eff: ArrayLike | None = None, confidence: float = 0.95
) -> dict[str, Any]:
    """Return the correlation within groups, slopes within and between them, and the correlation of their means."""
    common = repeated_correlation(x, y, labels, n_eff=n_eff, confidence=confidence)
    row = common.row("n", "ci_low", "ci_high", "df", "p", "note") | {"r_within": common.r}
    row |= _slopes(x, y, labels, common.df)
    means = pd.DataFrame({"x": x, "y": y}).groupby(labels).mean()
    between = correlate(means["x"], means["y"], confidence=confidence)
    return row | {"r_between": between.r, "p_between": between.p}


def _slopes(x: pd.Series, y: pd.Series, labels: pd.Series, df: float) -> dict[str, float]:
    if labels.nunique() < 3 or not df > 0:
        return {}
    within, between, model = within_between(x, y, labels, df_within=df)
    found = {"slope_within": within.slope, "se_within": within.se, "p_slope_within": within.p, "icc": model.icc}
    found |= {"slope_between": between.slope, "se_between": between.se, "df_between": between.df}
    return found | {"p_slope_between": between.p}


def mean_correlation(correlations: Sequence[float]) -> dict[str, float]:
    """Return the mean of the groups' r by Fisher's z, and the p of a one-sample t-test; nothing of fewer than two."""
    r = np.array([value for value in correlations if abs(value) < 1.0])
    if r.size < 2:
        return {}
    z = np.arctanh(r)
    p = float(ttest_1samp(z, 0.0).pvalue) if np.ptp(z) > 0 else math.nan
    return {"r_mean": float(np.tanh(z.mean())), "p_mean": p}
