"""Tables and matrices of correlations, adjusted p-values, and exact p of ranks."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from histomri.analysis import (
    VoxelGrid,
    adjust_p,
    as_matrix,
    correlate,
    correlate_voxels,
    correlation_table,
    effective_sample_size,
    repeated_correlation,
    spatial_correlation,
)
from histomri.core.errors import InputError

METHODS = {"bh": "fdr_bh", "holm": "holm", "bonferroni": "bonferroni"}


@pytest.mark.parametrize("method", METHODS)
def test_adjusted_p_against_statsmodels(rng, method):
    p = rng.uniform(size=40) ** 3
    p[7] = p[11]
    truth = multipletests(p, method=METHODS[method])[1]
    np.testing.assert_allclose(adjust_p(p, method), truth, rtol=1e-10)


def test_undefined_tests_do_not_count():
    found = adjust_p([0.01, np.nan, 0.04, 0.9])
    np.testing.assert_allclose(found, [0.03, np.nan, 0.06, 0.9])
    assert np.isnan(adjust_p([np.nan, np.nan])).all() and adjust_p([]).size == 0
    with pytest.raises(InputError, match="unknown adjustment"):
        adjust_p([0.1], "sidak")


@pytest.mark.parametrize("n", [4, 6, 7])
@pytest.mark.parametrize("ties", [False, True])
def test_ranks_of_few_pairs_are_counted(rng, n, ties):
    x, y = (rng.integers(0, 4, n) if ties else rng.normal(size=n) for _ in "xy")
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        x[0] += 1
        y[0] += 1
    ranks_x, ranks_y = stats.rankdata(x), stats.rankdata(y)
    observed = abs(np.corrcoef(ranks_x, ranks_y)[0, 1])
    every = [abs(np.corrcoef(ranks_x, order)[0, 1]) for order in itertools.permutations(ranks_y)]
    truth = np.mean(np.array(every) >= observed - 1e-9)
    assert correlate(x, y, kind="spearman").p == pytest.approx(truth, rel=1e-10)


def test_a_perfect_order_of_six_is_not_impossible():
    assert correlate(np.arange(6), np.arange(6) ** 3, kind="spearman").p == pytest.approx(2 / 720)


def some_table(rng, n=14):
    table = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    table["b"] += table["a"]
    table.loc[3, "c"] = np.nan
    return table.assign(e=5.0)


def test_every_pair_against_scipy(rng):
    table = some_table(rng)
    found = correlation_table(table)
    assert len(found) == 2 * 10 and (found.groupby("kind").size() == 10).all()
    for row in found[found["x"].ne("e") & found["y"].ne("e")].to_dict("records"):
        both = table[[row["x"], row["y"]]].dropna()
        truth = (stats.pearsonr if row["kind"] == "pearson" else stats.spearmanr)(*both.to_numpy().T)
        np.testing.assert_allclose([row["r"], row["p"]], [truth.statistic, truth.pvalue], rtol=1e-10)
        assert row["n"] == len(both) and row["n_missing"] == 14 - len(both)
        assert row["ci_low"] < row["r"] < row["ci_high"]
    constant = found[found["y"] == "e"]
    assert constant["r"].isna().all() and constant["q"].isna().all() and constant["note"].str.contains("constant").all()
    pearson = found[(found["kind"] == "pearson") & found["p"].notna()]
    np.testing.assert_allclose(pearson["q"], multipletests(pearson["p"], method="fdr_bh")[1], rtol=1e-10)


def test_matrix_is_symmetric_and_that_of_pandas(rng):
    table = some_table(rng).drop(columns="e")
    found = correlation_table(table)
    for kind in ("pearson", "spearman"):
        np.testing.assert_allclose(as_matrix(found, "r", kind), table.corr(kind), rtol=1e-10)
    p = as_matrix(found, "p")
    assert np.isnan(np.diag(p)).all() and p.loc["a", "b"] == p.loc["b", "a"] == found.loc[0, "p"]


def test_fishers_interval_stands_beside(rng):
    table = some_table(rng)
    row = correlation_table(table, ["a"], ["b"], kinds=("pearson",)).iloc[0]
    known = table[["a", "b"]].dropna()
    truth = stats.pearsonr(known["a"], known["b"]).confidence_interval()
    np.testing.assert_allclose([row["ci_low_fisher"], row["ci_high_fisher"]], truth, rtol=1e-10)


def test_chosen_pairs_only(rng):
    found = correlation_table(some_table(rng), ["a", "b"], ["b", "d"], kinds=("pearson",))
    assert list(zip(found["x"], found["y"])) == [("a", "b"), ("a", "d"), ("b", "d")]


def voxels(rng, k=4):
    parts = []
    for sample in range(k):
        index = np.argwhere(np.ones((8, 9), dtype=bool))
        x = rng.normal(size=72) + index[:, 0] * 0.3 + sample
        parts.append(
            pd.DataFrame(
                {
                    "sample": f"s{sample}",
                    "i": index[:, 0],
                    "j": index[:, 1],
                    "k": 2,
                    "x_mm": index[:, 0] * 0.5,
                    "y_mm": index[:, 1] * 0.5,
                    "z_mm": 3.0,
                    "vCS_histo_um": x,
                    "vCS_mri_um": 0.5 * x + rng.normal(size=72) + index[:, 0] * 0.2,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_voxels_of_several_samples(rng):
    table = voxels(rng)
    table.loc[[5, 90], "vCS_mri_um"] = np.nan
    each, pooled = correlate_voxels(table, ["vCS_histo_um"], ["vCS_mri_um"])
    assert len(each) == 2 * 4 and len(pooled) == 1
    sizes = []
    for name, part in table.groupby("sample"):
        row = each[(each["sample"] == name) & (each["kind"] == "pearson")].iloc[0]
        truth = spatial_correlation(part["vCS_histo_um"], part["vCS_mri_um"], part[["i", "j", "k"]].to_numpy())
        assert (row["r"], row["n_eff"], row["p"]) == pytest.approx((truth.r, truth.n_eff, truth.p), rel=1e-10)
        known = part.dropna()
        grid = VoxelGrid.of(known[["i", "j", "k"]].to_numpy())
        sizes.append(effective_sample_size(known["vCS_histo_um"], known["vCS_mri_um"], grid, unbiased=True))
    known = table.dropna()
    common = repeated_correlation(known["vCS_histo_um"], known["vCS_mri_um"], known["sample"], n_eff=sizes)
    row = pooled.iloc[0]
    assert (row["r_within"], row["df"], row["p"]) == pytest.approx((common.r, common.df, common.p), rel=1e-10)
    means = known.groupby("sample")[["vCS_histo_um", "vCS_mri_um"]].mean()
    assert row["r_between"] == pytest.approx(means.corr().iloc[0, 1], rel=1e-10)
    z = np.arctanh(each[each["kind"] == "pearson"]["r"])
    truth = [np.tanh(z.mean()), stats.ttest_1samp(z, 0).pvalue]
    np.testing.assert_allclose([row["r_mean"], row["p_mean"]], truth, rtol=1e-10)
    z = np.arctanh(each[each["kind"] == "pearson"]["r_edge"])
    truth = [np.tanh(z.mean()), stats.ttest_1samp(z, 0).pvalue]
    np.testing.assert_allclose([row["r_mean_edge"], row["p_mean_edge"]], truth, rtol=1e-10)
    assert row["p"] > row["p_naive"] and row["n"] == 286


def test_a_sample_without_variation_is_left_out_and_named(rng):
    table = voxels(rng)
    table.loc[table["sample"] == "s1", "vCS_mri_um"] = 40.0
    each, pooled = correlate_voxels(table, ["vCS_histo_um"], ["vCS_mri_um"])
    assert each[each["sample"] == "s1"]["p"].isna().all()
    assert pooled.loc[0, "note"] == "left out: s1" and pooled.loc[0, "n_samples"] == 3
    with pytest.raises(InputError, match="sample s0: a voxel comes twice"):
        correlate_voxels(pd.concat([table, table.head(1)]), ["vCS_histo_um"], ["vCS_mri_um"])
