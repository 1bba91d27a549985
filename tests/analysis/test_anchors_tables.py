"""Statistics against tables whose results were computed apart from this program (tests/data/statistics)."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import (
    compare_two,
    correlate_repeated,
    correlate_voxels,
    rank_models,
    regress,
    total_correlation_score,
)

PRINTED = 1e-4  # the tables have five digits, and z and r are of order 1
PAIRED = (("vCS_mri_um", "vCS_histo_um"), ("F_mri", "F_histo"))


@pytest.fixture
def table(data):
    def read(name, expected=False):
        return pd.read_csv(data / "statistics" / f"{name}{'_expected' if expected else ''}.csv")

    return read


def test_scores_and_intervals_of_five_models(table):
    ranking = {row["model"]: row for row in rank_models(table("rank_give"), n_boot=20)}
    expected = table("rank_give", expected=True)
    assert len(expected) == len(ranking) == 5
    for row in expected.itertuples():
        found = ranking[row.model]
        # Four digits in the table.
        assert found["TCS"] == pytest.approx(row.tcs, abs=PRINTED)
        assert found["TCS_ci"] == pytest.approx([row.naive_lo, row.naive_hi], abs=PRINTED)


def test_interval_by_row_where_patients_come_twice(table):
    give = table("cluster_give").drop(columns="patient")
    (found,) = rank_models(give, n_boot=20)
    expected = table("cluster_give", expected=True).set_index("unit").loc["row"]
    assert found["n"] == expected.n_units
    assert found["TCS"] == pytest.approx(expected.tcs, abs=PRINTED)
    assert found["TCS_ci"] == pytest.approx([expected.lo, expected.hi], abs=PRINTED)
    # The interval is 2 tanh(z -+ t se), so it gives back the standard error of z and its degrees of freedom.
    half = np.diff(np.arctanh(np.array(found["TCS_ci"]) / 2))[0] / 2
    assert half / stats.t.ppf(0.975, expected.df) == pytest.approx(expected.se_z, abs=PRINTED)


def test_pooled_score_of_two_groups(table):
    give = table("groups_give_simpson")
    expected = table("groups_give_simpson", expected=True).iloc[0]
    (found,) = rank_models(give, n_boot=20)
    assert found["TCS"] == pytest.approx(expected.tcs_pooled, abs=PRINTED)
    assert found["TCS_ci"] == pytest.approx([expected.pooled_lo, expected.pooled_hi], abs=PRINTED)
    # Each r is the sum of a part within the groups and one between them.
    (score,) = total_correlation_score(give).itertuples()
    assert pytest.approx(expected.vCS_within_part + expected.vCS_between_part, abs=PRINTED) == score.r_vCS
    assert pytest.approx(expected.F_within_part + expected.F_between_part, abs=PRINTED) == score.r_F
    # eta² of a variable follows from Student's t between the two groups: t² / (t² + df).
    first, second = (part for _, part in give.groupby("group"))
    for name in ("vCS_mri", "vCS_histo", "F_mri", "F_histo"):
        column = name + ("_um" if name.startswith("vCS") else "")
        two = compare_two(first[column], second[column])
        eta2 = two.t_student**2 / (two.t_student**2 + two.df_student)
        assert eta2 == pytest.approx(expected[f"eta2_{name}"], abs=PRINTED), name


def test_correlation_of_one_table_with_errors(table):
    give = table("error_give").assign(model="m", strategy="s")
    give = give.rename(columns={"histo": "vCS_histo_um", "mri": "vCS_mri_um"})
    # F as a copy of vCS: TCS / 2 is then r itself, and so are the limits.
    give[["F_histo", "F_mri"]] = give[["vCS_histo_um", "vCS_mri_um"]].to_numpy()
    (found,) = rank_models(give, n_boot=20)
    expected = table("error_give", expected=True).iloc[0]
    assert found["TCS"] / 2 == pytest.approx(expected.r, abs=PRINTED)
    assert [limit / 2 for limit in found["TCS_ci"]] == pytest.approx([expected.r_lo, expected.r_hi], abs=PRINTED)


def test_mean_of_correlations_within_samples(table):
    found = correlate_repeated(table("slopes_give"), ["x"], ["y"], by="sample").iloc[0]
    expected = table("slopes_give", expected=True).iloc[0]
    assert found.r_mean == pytest.approx(expected.r_mean, abs=PRINTED)
    assert found.p_mean == pytest.approx(expected.p, abs=PRINTED)
    assert found.r_within == pytest.approx(expected.r_within_now, abs=PRINTED)
    assert found.p == pytest.approx(expected.p_within_now, abs=PRINTED)
    # t and df of the mean of Fisher's z belong to the same p.
    assert 2 * stats.t.sf(expected.t, expected.df) == pytest.approx(found.p_mean, abs=PRINTED)


@pytest.mark.parametrize("name", ["spatial_give_rim", "spatial_give_aniso", "spatial_give_true_r_rim"])
def test_maps_with_smooth_noise_and_rims(table, name):
    each, _ = correlate_voxels(table(name), ["vCS_mri_um"], ["vCS_histo_um"], kinds=("pearson",))
    expected = table(name, expected=True).iloc[0]
    (found,) = each.itertuples()
    assert found.r == pytest.approx(expected.r_now, abs=PRINTED)
    assert found.r_edge == pytest.approx(expected.r_edge, abs=PRINTED)
    assert found.n_eff == pytest.approx(expected.n_eff, rel=1e-4)  # the values of the voxels have four digits
    assert found.df == pytest.approx(expected.df, rel=1e-4)
    assert found.roughness_ratio == pytest.approx(expected.roughness_ratio, rel=1e-4)
    assert found.p_block == pytest.approx(expected.p_block8, abs=PRINTED)
    assert found.p == pytest.approx(expected.p_final, abs=PRINTED)


def test_slopes_of_a_regression_on_two_columns(table):
    """R's clubSandwich, on raw values; standardised slopes are those times the ratio of the standard deviations."""
    give, expected = table("cr2_in"), table("cr2", expected=True).set_index("term")
    found = regress(give, {"y": ["x1", "x2"]}).coefficients.set_index("term")
    for term in ("x1", "x2"):
        beta = found.loc[term, "beta"] * give["y"].std() / give[term].std()
        assert math.isclose(beta, expected.loc[term, "beta"], rel_tol=1e-9)
