"""Does one model agree better with histology than another? Rankings, and paired tests on the samples of both."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr, stdtrit
from scipy.stats import ttest_rel, wilcoxon

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import (
    adjust_p,
    constant,
    correlate,
    fisher_interval,
    pearson,
    pearson_without_one,
    weighted_correlation,
)  # fmt: skip
from histomri.analysis.options import Adjustment
from histomri.analysis.patients import FEWEST_UNITS, repeated, unit_codes
from histomri.analysis.pseudovalues import FEWEST_FOR_INTERVAL
from histomri.analysis.ranking import rank_models
from histomri.analysis.ranking_notes import listed
from histomri.analysis.scores import fidelity, require_one_row_each
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.columns import PAIRED, PATIENT

COMPARISON_KEYS = (
    "model_a", "strategy_a", "model_b", "strategy_b", "quantity", "test", "n", "value_a", "value_b", "difference",
    "ci_low", "ci_high", "statistic", "df", "p", "q", "note",
)  # fmt: skip


@dataclass(frozen=True)
class DependentTest:
    """A test of two correlations of the same samples; NaN if undefined."""

    difference: float  # first minus second correlation
    statistic: float = math.nan  # Student's t or normal z
    df: float = math.nan  # infinite for z
    p: float = math.nan  # two-sided
    ci: tuple[float, float] | None = None  # of the difference

    def row(self) -> dict[str, Any]:
        """Return the test as columns of a table."""
        low, high = self.ci or (math.nan, math.nan)
        note = "too few samples, a constant, or both models give the same values" if math.isnan(self.p) else ""
        found = {"difference": self.difference, "ci_low": low, "ci_high": high, "statistic": self.statistic}
        return {**found, "df": self.df, "p": self.p, "note": note}


def williams_t(r1: ArrayLike, r2: ArrayLike, r12: ArrayLike, n: int) -> FloatArray:
    """Return Williams' t, with n - 3 degrees of freedom, of two correlations with one variable; NaN if undefined."""
    r1, r2, r12 = (np.asarray(values, dtype=float) for values in (r1, r2, r12))
    determinant = 1.0 - r1**2 - r2**2 - r12**2 + 2.0 * r1 * r2 * r12
    spread = 2.0 * determinant * (n - 1) / (n - 3) + 0.25 * (r1 + r2) ** 2 * (1.0 - r12) ** 3
    positive = np.where(spread > 0, spread, np.nan)
    return np.asarray((r1 - r2) * np.sqrt((n - 1) * (1.0 + r12) / positive))


def williams_test(x1: ArrayLike, x2: ArrayLike, y: ArrayLike, *, confidence: float = 0.95) -> DependentTest:
    """Compare r(x1, y) with r(x2, y) by Williams' t, which Steiger (1980) recommends for correlations that share y.

    The values (N,) are complete and of the same samples. t has N - 3 degrees of freedom (doi
    10.1037/0033-2909.87.2.245); the interval is that of Zou 2007 (doi 10.1037/1082-989X.12.4.399). Undefined for N < 4,
    a constant, or x1 and x2 that are the same up to scale.
    """
    first, second, common = (np.asarray(values, dtype=float) for values in (x1, x2, y))
    n = common.size
    if n < 4 or any(constant(values) for values in (first, second, common)):
        return DependentTest(math.nan)
    r1, r2, r12 = pearson(first, common), pearson(second, common), pearson(first, second)
    t = float(williams_t(r1, r2, r12, n))
    ci = _zou(first, common, second, common, confidence)
    if r12 > 1.0 - 1e-12 or math.isnan(t):
        return DependentTest(r1 - r2, df=n - 3, ci=ci)
    return DependentTest(r1 - r2, t, n - 3, float(2.0 * stdtr(n - 3, -abs(t))), ci)


def steiger_test(
    x1: ArrayLike, y1: ArrayLike, x2: ArrayLike, y2: ArrayLike, *, confidence: float = 0.95
) -> DependentTest:
    """Compare r(x1, y1) with r(x2, y2), measured on the same samples, by Steiger's z.

    Fisher's z of both, with their covariance from the average correlation (Steiger 1980, doi
    10.1037/0033-2909.87.2.245, equations 14 and 15). The values (N,) are complete; the pairs may share a variable. The
    interval is that of Zou 2007. Undefined for N < 4, a constant, a perfect correlation, or two pairs that are the
    same.
    """
    a, b, c, d = (np.asarray(values, dtype=float) for values in (x1, y1, x2, y2))
    n = a.size
    if n < 4 or any(constant(values) for values in (a, b, c, d)):
        return DependentTest(math.nan)
    r1, r2 = pearson(a, b), pearson(c, d)
    ci = _zou(a, b, c, d, confidence)
    mean = 0.5 * (r1 + r2)
    if max(abs(r1), abs(r2)) >= 1.0:
        return DependentTest(r1 - r2, df=math.inf, ci=ci)
    # With y1 the same as y2, r(x1, y2) and r(x2, y1) are the compared correlations, and are averaged like them.
    crossed = (mean, mean) if np.array_equal(b, d) else (pearson(a, d), pearson(b, c))
    correlated = _covariance(mean, mean, pearson(a, c), *crossed, pearson(b, d)) / (1.0 - mean**2) ** 2
    if not correlated < 1.0 - 1e-12:
        return DependentTest(r1 - r2, df=math.inf, ci=ci)
    z = (math.atanh(r1) - math.atanh(r2)) * math.sqrt((n - 3) / (2.0 - 2.0 * correlated))
    return DependentTest(r1 - r2, z, math.inf, float(2.0 * ndtr(-abs(z))), ci)


def compare_models(
    table: pd.DataFrame, *, confidence: float = 0.95, adjustment: Adjustment = "holm", patient: str | None = PATIENT
) -> pd.DataFrame:
    """Test every model x strategy against every other on the samples that both have.

    Parameters
    ----------
    table : DataFrame
        One row per sample x model x strategy; columns sample, model, strategy and `PAIRED`.
    adjustment : {"holm", "bh", "bonferroni"}
        Of q, over all pairs of one quantity and test.
    patient : str, optional
        Column of patients, used if the table has it. Where one has several samples, correlations too are compared by
        the jackknife, which leaves out patients, and HFC by the means of the patients.

    Returns
    -------
    DataFrame
        Columns `COMPARISON_KEYS`; per pair the correlations of vCS and F (Williams' t if both share the histology, and
        Steiger's z), TCS (jackknife of the difference) and HFC (Wilcoxon's signed ranks and paired t; lower HFC is
        better). NaN, with a note, where one is undefined.

    Raises
    ------
    InputError
        If a column is missing, or a sample x model x strategy comes twice.
    """
    table = as_cases(table, ("sample", "model", "strategy", *PAIRED))
    require_one_row_each(table)
    groups = table.groupby(["model", "strategy"], sort=False)
    parts = [(key, part.set_index("sample")[list(PAIRED)].astype(float).dropna()) for key, part in groups]
    rows: list[dict[str, Any]] = []
    for (name_a, a), (name_b, b) in combinations(parts, 2):
        common = sorted(set(a.index) & set(b.index), key=str)
        head = dict(zip(COMPARISON_KEYS, (*name_a, *name_b)))
        first, second = a.loc[common].to_numpy().T, b.loc[common].to_numpy().T
        codes, _ = unit_codes(table, common, patient)
        for row in _tests(first, second, codes, confidence):
            rows.append({**head, "n": len(common), **row})
    result = pd.DataFrame(rows, columns=list(COMPARISON_KEYS))
    return result.assign(q=result.groupby(["quantity", "test"])["p"].transform(adjust_p, adjustment))


def rank_by(
    table: pd.DataFrame, column: str = "scanner", *, n_boot: int = 2000, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Rank the models within each scanner (or group), as `rank_models` does for all samples together.

    `column` of the table says what to split by; rows with an empty label are left out (see `unlabelled`). The rankings
    are by label; there is none if there are fewer than two labels.
    """
    if column not in table:
        return {}
    labels = table[column].fillna("").astype(str)
    names = [name for name in dict.fromkeys(labels) if name]
    if len(names) < 2:
        return {}
    return {name: rank_models(table[labels == name], n_boot=n_boot, seed=seed) for name in names}


def unlabelled(table: pd.DataFrame, column: str = "scanner") -> list[str]:
    """Say which samples `rank_by` leaves out because they have no label."""
    if column not in table:
        return []
    labels = table.groupby("sample", sort=False, observed=True)[column].first().fillna("").astype(str)
    without = list(labels.index[labels == ""])
    if not without or labels[labels != ""].nunique() < 2:
        return []
    text = f"{len(without)} of {len(labels)} samples have no {column} and are in no ranking by {column}"
    return [f"{text}: {listed(without)}"]


def _tests(first: FloatArray, second: FloatArray, codes: IntArray, confidence: float) -> list[dict[str, Any]]:
    """Return the rows of one pair of models; the arrays hold vCS_mri, vCS_histo, F_mri, F_histo of the samples."""
    rows = []
    for name, start in (("vCS", 0), ("F", 2)):
        (x1, y1), (x2, y2) = mine = first[start : start + 2], second[start : start + 2]
        if repeated(codes):
            rows.append(_jackknifed(name, [mine[0]], [mine[1]], codes, confidence))
            continue
        values = {"quantity": name, "value_a": correlate(x1, y1).r, "value_b": correlate(x2, y2).r}
        if np.array_equal(y1, y2):
            rows.append({**values, "test": "williams", **williams_test(x1, x2, y1, confidence=confidence).row()})
        rows.append({**values, "test": "steiger", **steiger_test(x1, y1, x2, y2, confidence=confidence).row()})
    one, other = ([values[:2], values[2:]] for values in (first, second))
    return [*rows, _jackknifed("TCS", one, other, codes, confidence), *_compare_hfc(first, second, codes, confidence)]


def _jackknifed(
    quantity: str, first: list[FloatArray], second: list[FloatArray], codes: IntArray, confidence: float
) -> dict[str, Any]:
    """Compare sums of correlations of two models by the jackknife of the difference, over samples or patients."""
    a, b = (float(np.sum([correlate(x, y).r for x, y in pairs])) for pairs in (first, second))
    row = {"quantity": quantity, "test": "jackknife", "value_a": a, "value_b": b, "difference": a - b, "note": ""}
    if len(np.unique(codes)) < (FEWEST_UNITS if repeated(codes) else FEWEST_FOR_INTERVAL) or not math.isfinite(a - b):
        what = "patients" if repeated(codes) else "samples"
        return {**row, "note": f"too few {what} for a jackknife, or an undefined {quantity}"}
    scores = (np.sum([_without_one(x, y, codes) for x, y in pairs], axis=0) for pairs in (first, second))
    without_one = np.subtract(*scores)
    known = without_one[np.isfinite(without_one)]
    pseudo = known.size * (a - b) - (known.size - 1) * known
    se = float(np.std(pseudo, ddof=1)) / math.sqrt(known.size) if known.size > 2 else 0.0
    if not se > 1e-12:
        return {**row, "note": "both models give the same values, or too few distinct samples"}
    df = known.size - 1
    half, t = float(stdtrit(df, 0.5 + confidence / 2.0)) * se, (a - b) / se
    p = float(2.0 * stdtr(df, -abs(t)))
    return {**row, "ci_low": a - b - half, "ci_high": a - b + half, "statistic": t, "df": df, "p": p}


def _without_one(x: FloatArray, y: FloatArray, codes: IntArray) -> FloatArray:
    """Return r without each sample, or without all samples of each patient."""
    if not repeated(codes):
        return pearson_without_one(x, y)
    return weighted_correlation((1.0 - np.eye(int(codes.max()) + 1))[:, codes], x, y)


def _compare_hfc(first: FloatArray, second: FloatArray, codes: IntArray, confidence: float) -> list[dict[str, Any]]:
    a, b = (fidelity(values) for values in (first, second))
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if repeated(codes[known]):
        units = pd.factorize(codes[known])[0]
        a, b = (np.bincount(units, values) / np.bincount(units) for values in (a, b))
    row = {"quantity": "HFC", "n": int(a.size)}
    if a.size < 3 or constant(a - b):
        note = "fewer than 3 samples, or the same difference in all of them"
        return [{**row, "test": test, "note": note} for test in ("wilcoxon", "paired t")]
    row |= {"value_a": a.mean(), "value_b": b.mean(), "difference": np.mean(a - b), "note": ""}
    t, ranks = ttest_rel(a, b), wilcoxon(a, b)
    low, high = t.confidence_interval(confidence)
    paired = {"test": "paired t", "statistic": float(t.statistic), "df": float(t.df), "p": float(t.pvalue)}
    signed = {"test": "wilcoxon", "statistic": float(ranks.statistic), "p": float(ranks.pvalue)}
    return [{**row, **signed}, {**row, **paired, "ci_low": float(low), "ci_high": float(high)}]


def _covariance(r_ab: float, r_cd: float, r_ac: float, r_ad: float, r_bc: float, r_bd: float) -> float:
    """Return N times the covariance of r(a, b) and r(c, d) of normal values (Pearson & Filon 1898)."""
    return 0.5 * (
        (r_ac - r_ab * r_bc) * (r_bd - r_bc * r_cd)
        + (r_ad - r_ac * r_cd) * (r_bc - r_ab * r_ac)
        + (r_ac - r_ad * r_cd) * (r_bd - r_ab * r_ad)
        + (r_ad - r_ab * r_bd) * (r_bc - r_bd * r_cd)
    )


def _zou(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray, confidence: float) -> tuple[float, float] | None:
    """Return the interval of r(a, b) - r(c, d) from the intervals of both and their correlation."""
    r1, r2 = pearson(a, b), pearson(c, d)
    if max(abs(r1), abs(r2)) >= 1.0:
        return None
    covariance = _covariance(r1, r2, pearson(a, c), pearson(a, d), pearson(b, c), pearson(b, d))
    correlated = covariance / ((1.0 - r1**2) * (1.0 - r2**2))
    (low1, high1), (low2, high2) = (fisher_interval(r, a.size, confidence) for r in (r1, r2))
    below = (r1 - low1) ** 2 + (high2 - r2) ** 2 - 2.0 * correlated * (r1 - low1) * (high2 - r2)
    above = (high1 - r1) ** 2 + (r2 - low2) ** 2 - 2.0 * correlated * (high1 - r1) * (r2 - low2)
    return (r1 - r2 - math.sqrt(max(below, 0.0)), r1 - r2 + math.sqrt(max(above, 0.0)))
