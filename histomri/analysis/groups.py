"""Differences between groups: tests and effect sizes with intervals."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import gammaln, stdtr, stdtrit
from scipy.stats import mannwhitneyu

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import adjust_p, constant
from histomri.analysis.harmonisation import confounding
from histomri.analysis.measurements import opened_cases
from histomri.analysis.noncentral import noncentral_t_cdf
from histomri.analysis.options import Adjustment, CompareOptions
from histomri.analysis.patients import FEWEST_UNITS, jackknife_t, patients_of
from histomri.analysis.results import Findings, heading, labelled, missing_text, naming_part
from histomri.core.arrays import FloatArray
from histomri.core.columns import unit_of, unit_text
from histomri.core.errors import InputError


@dataclass(frozen=True)
class GroupDifference:
    """Group a against group b; NaN where a group has fewer than two values or nothing varies, with a note."""

    n_a: int
    n_b: int
    mean_a: float = math.nan
    mean_b: float = math.nan
    sd_a: float = math.nan
    sd_b: float = math.nan
    median_a: float = math.nan
    median_b: float = math.nan
    difference: float = math.nan  # of means, with Welch's interval
    difference_low: float = math.nan
    difference_high: float = math.nan
    t_welch: float = math.nan  # unequal variances; two-sided, like all tests here
    df_welch: float = math.nan
    p_welch: float = math.nan
    t_student: float = math.nan  # equal variances
    df_student: float = math.nan
    p_student: float = math.nan
    u: float = math.nan  # of group a; p_mann_whitney is exact for small groups without ties
    p_mann_whitney: float = math.nan
    # Difference in pooled standard deviations, and without the bias of few cases. Both estimate the same difference,
    # and share its interval from the noncentral t, exact for normal values.
    cohen_d: float = math.nan
    cohen_d_low: float = math.nan
    cohen_d_high: float = math.nan
    hedges_g: float = math.nan
    hedges_g_low: float = math.nan
    hedges_g_high: float = math.nan
    cliff_delta: float = math.nan  # P(a > b) - P(a < b)
    cliff_delta_low: float = math.nan
    cliff_delta_high: float = math.nan
    note: str = ""
    # Cases, where a patient has several: the values that are compared are then means of patients.
    n_rows_a: float = math.nan
    n_rows_b: float = math.nan
    p_patients: float = math.nan  # of the difference, leaving out patients: where some of them are in both groups


def compare_two(
    a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95,
    patients: tuple[ArrayLike, ArrayLike] | None = None,
) -> GroupDifference:  # fmt: skip
    """Compare two independent groups of values; missing ones are left out, and `confidence` is of all intervals.

    `patients` are labels of both groups' cases. Where a patient has several in a group, their mean is what is compared.
    Patients in both groups leave the difference alone, whose interval is then that of the jackknife over patients.
    """
    if patients is not None:
        return _of_patients(a, b, patients, confidence)
    first, second = (values[np.isfinite(values)] for values in (np.asarray(v, dtype=float).ravel() for v in (a, b)))
    n_a, n_b = first.size, second.size
    if min(n_a, n_b) < 2:
        return GroupDifference(n_a, n_b, note="a group has fewer than two values")
    if constant(np.concatenate([first, second])):
        return GroupDifference(n_a, n_b, note="all values are the same")
    delta, delta_low, delta_high = cliff_delta(first, second, confidence=confidence)
    u, p_ranks = mannwhitneyu(first, second, alternative="two-sided", method="auto")
    sd_a, sd_b = first.std(ddof=1), second.std(ddof=1)
    difference = first.mean() - second.mean()
    found = {"mean_a": first.mean(), "mean_b": second.mean(), "sd_a": sd_a, "sd_b": sd_b, "difference": difference}
    found |= {"median_a": np.median(first), "median_b": np.median(second), "u": u, "p_mann_whitney": p_ranks}
    found |= {"cliff_delta": delta, "cliff_delta_low": delta_low, "cliff_delta_high": delta_high}
    note = "no variation within either group: only ranks are compared"
    if not (constant(first) and constant(second)):
        found |= _by_moments(difference, sd_a**2, sd_b**2, n_a, n_b, confidence)
        note = ""
    everything: dict[str, Any] = {name: float(value) for name, value in found.items()}
    return GroupDifference(n_a, n_b, **everything, note=note)


def _of_patients(
    a: ArrayLike, b: ArrayLike, patients: tuple[ArrayLike, ArrayLike], confidence: float
) -> GroupDifference:
    groups = []
    for values, labels in zip((a, b), patients):
        series = pd.Series(np.asarray(values, dtype=float), index=pd.Index(np.asarray(labels)))
        groups.append(series[np.isfinite(series)])
    rows = [len(values) for values in groups]
    first, second = (values.groupby(level=0).mean() for values in groups)
    both = first.index.intersection(second.index)
    if not len(both) and rows == [len(first), len(second)]:
        return compare_two(first, second, confidence=confidence)
    several: dict[str, Any] = {"n_rows_a": float(rows[0]), "n_rows_b": float(rows[1])}
    units = first.index.union(second.index)
    if len(units) < FEWEST_UNITS:
        note = f"{len(units)} patients are too few for tests"
        return GroupDifference(len(first), len(second), note=note, **several)
    if not len(both):
        return replace(compare_two(first, second, confidence=confidence), **several)
    difference = float(first.mean() - second.mean())
    without = [first.drop(unit, errors="ignore").mean() - second.drop(unit, errors="ignore").mean() for unit in units]
    low, high, p = jackknife_t(difference, np.array(without), confidence)
    found = {"mean_a": first.mean(), "mean_b": second.mean(), "sd_a": first.std(), "sd_b": second.std()}
    found |= {"median_a": first.median(), "median_b": second.median(), "difference": difference}
    found |= {"difference_low": low, "difference_high": high, "p_patients": p}
    note = f"{len(both)} patients are in both groups, which are not independent: only the difference has an interval"
    plain: dict[str, Any] = {name: float(value) for name, value in found.items()}
    return GroupDifference(len(first), len(second), **plain, note=note, **several)


def _by_moments(
    difference: float, var_a: float, var_b: float, n_a: int, n_b: int, confidence: float
) -> dict[str, float]:
    """Return both t-tests and the standardised differences."""
    squared_a, squared_b = var_a / n_a, var_b / n_b
    se = math.sqrt(squared_a + squared_b)
    df_welch = (squared_a + squared_b) ** 2 / (squared_a**2 / (n_a - 1) + squared_b**2 / (n_b - 1))
    df = n_a + n_b - 2
    pooled = math.sqrt(((n_a - 1) * var_a + (n_b - 1) * var_b) / df)
    size = math.sqrt(1.0 / n_a + 1.0 / n_b)
    t = difference / (pooled * size)
    half = float(stdtrit(df_welch, 0.5 + confidence / 2.0)) * se
    low, high = (limit * size for limit in noncentral_t_limits(t, df, confidence))
    d = difference / pooled
    found = {"difference_low": difference - half, "difference_high": difference + half}
    found |= {"t_welch": difference / se, "df_welch": df_welch, "p_welch": 2.0 * stdtr(df_welch, -abs(difference / se))}
    found |= {"t_student": t, "df_student": df, "p_student": 2.0 * stdtr(df, -abs(t))}
    for name, size in (("cohen_d", d), ("hedges_g", d * hedges_correction(df))):
        found |= {name: size, f"{name}_low": low, f"{name}_high": high}
    return found


def compare_groups(
    table: pd.DataFrame, columns: Sequence[str], by: str = "group", *, confidence: float = 0.95,
    adjustment: Adjustment = "bh", patients: pd.Series | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Compare every pair of groups in every column.

    Parameters
    ----------
    table : DataFrame
        One row per case.
    columns : sequence of str
        Columns of numbers.
    by : str
        Column with the labels; cases with an empty label are left out.
    adjustment : {"bh", "holm", "bonferroni"}
        Of q_welch, q_student and q_mann_whitney, over all rows.
    patients : Series, optional
        Label of the patient of each case; see `compare_two`.

    Returns
    -------
    DataFrame
        column, group_a, group_b, then the fields of `GroupDifference`, each p followed by its q.

    Raises
    ------
    InputError
        If there are fewer than two groups, or a group has no value in any of the columns.

    Examples
    --------
    >>> import pandas as pd
    >>> from histomri.analysis import compare_groups
    >>> table = pd.DataFrame({'group': ['a'] * 3 + ['b'] * 3, 'vCS_um': [18.0, 19, 20, 23, 24, 26]})
    >>> compare_groups(table, ['vCS_um'])[['group_a', 'group_b', 'difference', 'hedges_g']].round(2)
      group_a group_b  difference  hedges_g
    0       a       b       -5.33      -3.3
    """
    table = as_cases(table, (by, *columns))
    labels = table[by].fillna("").astype(str).str.strip()
    names = sorted(set(labels) - {""})
    if len(names) < 2:
        there = f"only '{names[0]}'" if names else "none"
        problem = f"column '{by}' has to name at least two groups; there is {there}"
        raise InputError(problem, hint="fill it, or name another column with --by")
    for name in names:
        if not table.loc[labels == name, list(columns)].notna().any(axis=None):
            problem = f"group '{name}' has no value in {', '.join(columns)}"
            raise InputError(problem, hint="drop its rows, or compare other columns")
    rows = []
    for column in columns:
        values = {name: table.loc[labels == name, column] for name in names}
        units = {name: patients[labels == name] for name in names} if patients is not None else None
        for one, other in combinations(names, 2):
            head = {"column": column, "group_a": one, "group_b": other}
            cases = (units[one], units[other]) if units is not None else None
            rows.append(head | asdict(compare_two(values[one], values[other], confidence=confidence, patients=cases)))
    result = pd.DataFrame(rows)
    for test in ("welch", "student", "mann_whitney"):
        place = int(result.columns.get_loc(f"p_{test}")) + 1
        result.insert(place, f"q_{test}", adjust_p(result[f"p_{test}"], adjustment))
    return result


def compare_table(table: CompareOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Compare groups in every measurement of a table, in every model and strategy: comparisons.csv.

    The table (or its path) has one row per sample x model x strategy, and a column of labels; `choices` are options of
    `histomri compare` beside it, such as ``by="species"``. A CompareOptions stands for both.
    """
    options, cases = opened_cases(CompareOptions, table, choices)
    by, labels = options.by, cases.text(options.by)
    names = list(options.measure) or [name for name in cases.measurements() if name != by]
    if not names:
        raise InputError("has no columns of numbers to compare", path=cases.path, hint="name some with --measure")
    values = cases.numbers(names).assign(**{by: labels})
    found, lines = [], []
    warnings = cases.quality_warnings(values[names]) + ([] if options.measure else cases.misspelt())
    for key, part in cases.parts():
        with naming_part(cases.path, key):
            how: dict[str, Any] = {"adjustment": options.adjust, "patients": patients_of(part)}
            result = compare_groups(values.loc[part.frame.index], names, by, **how)
        result.insert(1, "unit", [unit_of(name) or "" for name in result["column"]])
        found.append(labelled(key, result))
        of_group = labels.loc[part.frame.index]
        for row in result.to_dict("records"):
            text = f"{heading(key)}{row['column']}, {row['group_a']} - {row['group_b']}"
            warnings += [f"{text}: {row['note']}"] if row["note"] else []
            if not (row["note"] and math.isnan(row["p_patients"])):
                lines.append(f"{text}: {_line(row, of_group)}")
    if "scanner" in cases and by != "scanner" and (labels != "").any():
        reservation = confounding(cases.text("scanner")[labels != ""], labels[labels != ""], by)
        warnings += [reservation.replace("batch", "scanner")] if reservation else []
    settings = (
        {"by": by, "measures": names} | options.named("model", "strategy", "patient") | {"adjustment": options.adjust}
    )
    frames = {"comparisons.csv": ("comparisons", found)}
    return Findings.joined("comparisons.json", frames, lines, warnings, options, settings, measures=names)


def _line(row: dict[str, Any], of_group: pd.Series) -> str:
    """Return the difference of two groups for the terminal."""
    averaged = not math.isnan(row["n_rows_a"])
    used = [row[f"n_rows_{side}" if averaged else f"n_{side}"] for side in "ab"]
    absent = int(of_group.isin([row["group_a"], row["group_b"]]).sum() - sum(used))
    n = f"N = {row['n_a']} and {row['n_b']}{' patients' if averaged else ''}{missing_text(absent)}"
    difference = f"{row['difference']:.4g}{unit_text(row['column'])}"
    if row["note"]:
        limits = f"[{row['difference_low']:.4g}, {row['difference_high']:.4g}]"
        return f"{difference} {limits}, p = {row['p_patients']:.2g} leaving out patients, {n}"
    size = f"Hedges g = {row['hedges_g']:.2f} [{row['hedges_g_low']:.2f}, {row['hedges_g_high']:.2f}]"
    return f"{difference}, Welch p = {row['p_welch']:.2g}, {size}, {n}"


def hedges_correction(df: float) -> float:
    """Return the factor that makes Cohen's d unbiased (Hedges 1981, doi 10.3102/10769986006002107), exactly."""
    return math.exp(gammaln(df / 2.0) - gammaln((df - 1.0) / 2.0)) / math.sqrt(df / 2.0) if df > 1 else math.nan


def noncentral_t_limits(t: float, df: float, confidence: float) -> tuple[float, float]:
    """Return the noncentralities for which the observed t lies at the upper and the lower tail."""
    # Standard deviation of t about its noncentrality, generously.
    reach = 10.0 * math.sqrt(1.0 + t * t / (2.0 * df)) + 5.0

    def excess(delta: float, level: float) -> float:
        return float(noncentral_t_cdf(t, df, delta)) - level

    levels = (0.5 + confidence / 2.0, 0.5 - confidence / 2.0)
    low, high = (brentq(excess, t - reach, t + reach, (level,), xtol=1e-13, rtol=1e-14) for level in levels)
    return float(low), float(high)


def cliff_delta(a: FloatArray, b: FloatArray, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return Cliff's delta and its interval, which stays within -1 to 1.

    A score interval: the limits are the values D with (delta - D)² = t² (1 - D²) / n. As many independent signs, n,
    have the variance that is found for delta (Cliff 1993, doi 10.1037/0033-2909.114.3.494); t has the degrees of
    freedom of Brunner & Munzel (2000). Groups that do not overlap show no variance, and count as the smaller of them.
    """
    n_a, n_b = a.size, b.size
    above_a, above_b = _dominance(a, b), _dominance(b, a)
    delta = float(above_a.mean())
    if abs(delta) >= 1.0:
        signs, df = float(min(n_a, n_b)), float(n_a + n_b - 2)
    else:
        part_a, part_b = (float(above.var(ddof=1)) / above.size for above in (above_a, above_b))
        found = part_a + part_b
        df = found**2 / (part_a**2 / (n_a - 1) + part_b**2 / (n_b - 1)) if found > 0 else float(n_a + n_b - 2)
        signs = (1.0 - delta**2) / max(found, (1.0 - delta**2) / (n_a * n_b - 1))
    reach = float(stdtrit(df, 0.5 + confidence / 2.0)) ** 2 / signs
    half = math.sqrt(reach * (1.0 - delta**2) + reach**2)
    return delta, (delta - half) / (1.0 + reach), (delta + half) / (1.0 + reach)


def _dominance(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return for each a the mean sign of a - b over all b."""
    ordered = np.sort(b)
    below, up_to = np.searchsorted(ordered, a, "left"), np.searchsorted(ordered, a, "right")
    return np.asarray((below - (b.size - up_to)) / b.size)
