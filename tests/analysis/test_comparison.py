"""Paired tests between models against other forms of the same formulas, scipy, and simulated null hypotheses."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import compare_models, rank_by, rank_models, steiger_test, williams_test
from histomri.analysis.comparison import COMPARISON_KEYS
from histomri.core.errors import InputError


def covariance_of_correlations(matrix, first, second):
    """N times the covariance of two sample correlations by the delta method, written as sums over fourth moments.

    For normal values with correlation matrix P, cov(s_ab, s_cd) = P_ac P_bd + P_ad P_bc; r = s_ab / sqrt(s_aa s_bb).
    """
    size = len(matrix)

    def gradient(a, b):
        slopes = np.zeros((size, size))
        slopes[a, b] += 1.0
        slopes[a, a] -= matrix[a, b] / 2
        slopes[b, b] -= matrix[a, b] / 2
        return slopes

    moments = np.einsum("ac,bd->abcd", matrix, matrix) + np.einsum("ad,bc->abcd", matrix, matrix)
    return np.einsum("ab,abcd,cd->", gradient(*first), moments, gradient(*second))


def related(rng, n=25):
    y = rng.normal(size=n)
    x1 = 0.7 * y + rng.normal(size=n)
    x2 = 0.2 * y + 0.6 * x1 + rng.normal(size=n)
    return x1, x2, y, 0.5 * y + rng.normal(size=n)


def test_williams_t_against_the_determinant(rng):
    x1, x2, y, _ = related(rng)
    matrix = np.corrcoef([x1, x2, y])
    n, r1, r2, r12 = 25, matrix[0, 2], matrix[1, 2], matrix[0, 1]
    mean = (r1 + r2) / 2
    t = (r1 - r2) * math.sqrt(
        (n - 1) * (1 + r12) / (2 * (n - 1) / (n - 3) * np.linalg.det(matrix) + mean**2 * (1 - r12) ** 3)
    )
    found = williams_test(x1, x2, y)
    np.testing.assert_allclose([found.difference, found.statistic], [r1 - r2, t], rtol=1e-10)
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(abs(t), n - 3), rtol=1e-10)
    assert williams_test(x2, x1, y).statistic == pytest.approx(-t)


@pytest.mark.parametrize("shared", [True, False])
def test_steiger_z_against_the_delta_method(rng, shared):
    x1, x2, y1, y2 = related(rng)
    y2 = y1 if shared else y2
    matrix = np.corrcoef([x1, y1, x2, y2])
    n, r1, r2 = 25, matrix[0, 1], matrix[2, 3]
    pooled = matrix.copy()
    pooled[0, 1] = pooled[1, 0] = pooled[2, 3] = pooled[3, 2] = (r1 + r2) / 2
    if shared:  # the fourth variable is the second: its correlations with x1 and x2 are the pooled ones, too
        pooled[[0, 3], [3, 0]] = pooled[[1, 2], [2, 1]] = (r1 + r2) / 2
    covariance = covariance_of_correlations(pooled, (0, 1), (2, 3)) / (1 - ((r1 + r2) / 2) ** 2) ** 2
    z = (math.atanh(r1) - math.atanh(r2)) * math.sqrt((n - 3) / (2 - 2 * covariance))
    found = steiger_test(x1, y1, x2, y2)
    np.testing.assert_allclose([found.statistic, found.p], [z, 2 * stats.norm.sf(abs(z))], rtol=1e-10)


def test_interval_of_the_difference_against_zou(rng):
    x1, x2, y, _ = related(rng)
    matrix = np.corrcoef([x1, y, x2])
    r1, r2 = matrix[0, 1], matrix[1, 2]
    c = covariance_of_correlations(matrix, (0, 1), (1, 2)) / ((1 - r1**2) * (1 - r2**2))
    (l1, u1), (l2, u2) = (
        np.tanh(math.atanh(r) + np.array([-1, 1]) * stats.norm.ppf(0.975) / math.sqrt(22)) for r in (r1, r2)
    )
    low = r1 - r2 - math.sqrt((r1 - l1) ** 2 + (u2 - r2) ** 2 - 2 * c * (r1 - l1) * (u2 - r2))
    high = r1 - r2 + math.sqrt((u1 - r1) ** 2 + (r2 - l2) ** 2 - 2 * c * (u1 - r1) * (r2 - l2))
    np.testing.assert_allclose(williams_test(x1, x2, y).ci, (low, high), rtol=1e-10)
    np.testing.assert_allclose(steiger_test(x1, y, x2, y).ci, (low, high), rtol=1e-10)


@pytest.mark.parametrize("n", [3, 10])
def test_what_cannot_be_tested_is_nan(rng, n):
    x, y = rng.normal(size=(2, n))
    for found in (williams_test(x, 2 * x + 1, y), steiger_test(x, y, 2 * x + 1, y), williams_test(x, np.ones(n), y)):
        assert math.isnan(found.p)


def test_equal_correlations_are_found_different_in_five_of_a_hundred():
    """600 studies of 25 cases: standard error 0.9 %."""
    rng = np.random.default_rng(4)
    rejected = np.zeros(3)
    covered = 0
    for _ in range(600):
        y, common, e1, e2 = rng.normal(size=(4, 25))
        x1, x2 = (0.7 * y + 0.5 * common + e for e in (e1, e2))
        other = 0.7 * y + rng.normal(size=25)
        tests = williams_test(x1, x2, y), steiger_test(x1, y, x2, y), steiger_test(x1, y, x2 + 0 * y, other)
        rejected += [test.p < 0.05 for test in tests]
        covered += tests[0].ci[0] <= 0 <= tests[0].ci[1]
    assert (rejected[:2] / 600 > 0.023).all() and (rejected[:2] / 600 < 0.077).all()
    assert 0.923 < covered / 600 < 0.977


def cases(rng, n=20):
    size, fraction = rng.uniform(14, 28, n), rng.uniform(0.4, 0.8, n)
    parts = []
    for model, noise in (("good", 1.0), ("middling", 3.0), ("poor", 9.0)):
        parts.append(
            pd.DataFrame(
                {
                    "sample": [f"s{case:02d}" for case in range(n)],
                    "scanner": ["1.5T", "3T"] * (n // 2),
                    "model": model,
                    "strategy": "whole",
                    "vCS_mri_um": size + noise * rng.normal(size=n),
                    "vCS_histo_um": size,
                    "F_mri": fraction + 0.03 * noise * rng.normal(size=n),
                    "F_histo": fraction,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_every_pair_of_models_is_tested_on_common_samples(rng):
    table = cases(rng)
    table.loc[(table["model"] == "poor") & (table["sample"] == "s03"), "F_mri"] = np.nan
    found = compare_models(table.sample(frac=1, random_state=2))
    assert tuple(found.columns) == COMPARISON_KEYS
    assert len(found) == 3 * 7
    wide = {name: part.set_index("sample").drop(index="s03") for name, part in table.groupby("model")}
    for row in found.to_dict("records"):
        pair = {row["model_a"], row["model_b"]}
        assert row["n"] == (19 if "poor" in pair else 20)
        if row["test"] == "williams" and pair == {"good", "poor"} and row["quantity"] == "vCS":
            a, b = wide[row["model_a"]], wide[row["model_b"]]
            truth = williams_test(a["vCS_mri_um"], b["vCS_mri_um"], a["vCS_histo_um"])
            assert row["p"] == pytest.approx(truth.p, rel=1e-10) and row["p"] < 0.01
        if row["quantity"] == "HFC" and pair == {"good", "poor"}:
            a, b = (
                (part["vCS_mri_um"] / part["vCS_histo_um"] - 1).abs() + (part["F_mri"] / part["F_histo"] - 1).abs()
                for part in (wide[row["model_a"]], wide[row["model_b"]])
            )
            truth = stats.wilcoxon(a, b) if row["test"] == "wilcoxon" else stats.ttest_rel(a, b)
            assert row["p"] == pytest.approx(truth.pvalue, rel=1e-10)
            assert row["difference"] == pytest.approx(a.mean() - b.mean(), rel=1e-10)
    assert (found["q"] >= found["p"]).all()
    best = found.query("quantity == 'TCS' and model_a != 'middling' and model_b != 'middling'").iloc[0]
    assert best["p"] < 0.05 and best["ci_low"] * best["ci_high"] > 0


def test_the_difference_of_tcs_leaves_out_one_sample_after_another(rng):
    table = cases(rng, 12)
    row = compare_models(table).query("quantity == 'TCS'").iloc[0]
    wide = {name: part.set_index("sample").sort_index() for name, part in table.groupby("model")}

    def difference(kept):
        scores = []
        for name in (row["model_a"], row["model_b"]):
            part = wide[name].iloc[kept]
            size = stats.pearsonr(part["vCS_mri_um"], part["vCS_histo_um"]).statistic
            scores.append(size + stats.pearsonr(part["F_mri"], part["F_histo"]).statistic)
        return scores[0] - scores[1]

    each = np.array([difference(np.delete(np.arange(12), case)) for case in range(12)])
    se = math.sqrt(11 / 12 * ((each - each.mean()) ** 2).sum())
    t = difference(np.arange(12)) / se
    assert row["difference"] == pytest.approx(t * se, rel=1e-10)
    reach = stats.t.ppf(0.975, 11) * se
    np.testing.assert_allclose([row["ci_low"], row["ci_high"]], t * se + np.array([-reach, reach]), rtol=1e-10)
    np.testing.assert_allclose([row["statistic"], row["df"], row["p"]], [t, 11, 2 * stats.t.sf(abs(t), 11)], rtol=1e-10)


def test_models_that_agree_have_no_test_and_are_not_first(rng):
    table = cases(rng)
    twin = table[table["model"] == "good"].assign(model="twin")
    found = compare_models(pd.concat([table, twin]))
    same = found[(found["model_a"] == "good") & (found["model_b"] == "twin")]
    assert same["p"].isna().all() and same["q"].isna().all() and (same["note"] != "").all()
    with pytest.raises(InputError, match="comes twice"):
        compare_models(pd.concat([table, table.head(1)]))


def test_ranking_per_scanner(rng):
    table = cases(rng)
    found = rank_by(table, n_boot=200, seed=1)
    assert list(found) == ["1.5T", "3T"]
    assert found["3T"] == rank_models(table[table["scanner"] == "3T"], n_boot=200, seed=1)
    assert rank_by(table.assign(scanner="3T")) == {} == rank_by(table.drop(columns="scanner"))
