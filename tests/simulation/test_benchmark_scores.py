"""The scores of a benchmark set against numbers worked out apart, and what is said of results that are wrong."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from histomri.core.errors import InputError
from histomri.simulation.benchmarks import get_set, score_benchmark
from histomri.simulation.benchmarks.scoring import coverage, score_one, score_points, wilson_interval


def test_errors_of_four_estimates_by_hand():
    found = score_one(np.array([1.5, 1.0, 4.0, np.nan]), np.array([1.0, 2.0, 4.0, 5.0]), np.arange(4))
    assert (found["n"], found["n_missing"], found["n_cases"]) == (3, 1, 3)
    assert found["true_mean"] == pytest.approx(7 / 3)
    assert found["bias"] == pytest.approx(-0.5 / 3) and found["bias_percent"] == pytest.approx(100 * (0.5 - 0.5) / 3)
    assert found["median_abs_error"] == 0.5 and found["rms"] == pytest.approx(np.sqrt(1.25 / 3))
    assert found["bias_se"] == pytest.approx(stats.sem([0.5, -1.0, 0.0]))
    assert np.isnan(found["r_low"]) and np.isfinite(found["r"])  # three cases have no interval


def test_correlation_and_interval_agree_with_scipy(rng):
    true = rng.uniform(8, 30, 40)
    estimate = true + rng.normal(0, 5, 40)
    found, expected = score_one(estimate, true, np.arange(40)), stats.pearsonr(estimate, true)
    limits = expected.confidence_interval(0.95)
    assert found["r"] == pytest.approx(expected.statistic, rel=1e-12)
    assert (found["r_low"], found["r_high"]) == pytest.approx((limits.low, limits.high), rel=1e-9)


def test_copies_of_a_case_do_not_make_intervals_narrower(rng):
    true = rng.uniform(8, 30, 25)
    estimate = true + rng.normal(0, 5, 25)
    once = score_one(estimate, true, np.arange(25))
    copies = score_one(np.repeat(estimate, 20), np.repeat(true, 20), np.repeat(np.arange(25), 20))
    assert copies["n"] == 500 and copies["n_cases"] == 25
    for name in ("bias", "bias_se", "rms", "r", "r_low", "r_high"):
        assert copies[name] == pytest.approx(once[name], rel=1e-9), name


def test_the_standard_error_of_the_bias_holds_the_bias_of_the_method_in_95_of_100_sets(rng):
    cases, copies, held = 68, 20, []
    for _ in range(600):
        # Each tissue has an error of its own, beside that of the noise.
        error = 0.3 + rng.normal(0, 0.1, cases)[:, None] + rng.normal(0, 0.2, (cases, copies))
        true = np.ones(error.size)
        found = score_one(true + error.ravel(), true, np.repeat(np.arange(cases), copies))
        held.append(abs(found["bias"] - 0.3) < 1.96 * found["bias_se"])
    # 94.6 % by the t distribution of 67 degrees; three standard errors of 600 draws are 2.8 %.
    assert 0.918 < np.mean(held) < 0.974


def test_coverage_by_hand_and_its_interval_by_statsmodels():
    true, low = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0.5, 2.0, 3.1, np.nan, 4.0])
    found = coverage(true, low, low + 1.0, np.arange(5))
    assert (found["n_intervals"], found["coverage"]) == (4, 0.75)  # 2 lies on the limit, 3 outside, 5 on the other one
    expected = proportion_confint(3, 4, method="wilson")
    assert (found["coverage_low"], found["coverage_high"]) == pytest.approx(expected, rel=1e-9)
    assert wilson_interval(1.0, 20) == pytest.approx(proportion_confint(20, 20, method="wilson"), rel=1e-9)


def test_distances_of_points_by_hand():
    # Pair a: 3-4-5 triangles of 0.5, 0.1 and 0 mm; pair b: one of three points mapped.
    joined = pd.DataFrame(
        {
            "pair": ["a"] * 3 + ["b"] * 3, "turned": ["no"] * 3 + ["yes"] * 3,
            "x_mm": [0.3, 0.06, 0, 0, np.nan, np.nan], "y_mm": [0.4, 0.08, 0, 0, 0, 0], "z_mm": 0.0,
            "x_mm_true": 0.0, "y_mm_true": 0.0, "z_mm_true": 0.0,
        }
    )  # fmt: skip
    scores = score_points(joined, ["turned"], "pair", 0.386)
    rows = {(row["condition"], row["value"]): row for row in scores.to_dict("records")}
    a, b, every = rows["pair", "a"], rows["pair", "b"], rows["all", ""]
    assert (a["median_mm"], a["largest_mm"]) == pytest.approx((0.1, 0.5)) and a["mean_mm"] == pytest.approx(0.2)
    assert (a["below_pixel"], a["success"]) == (pytest.approx(2 / 3), 1.0)
    # Two of three points of b are missing, which is no success however near the third is.
    assert (b["n"], b["n_missing"], b["success"]) == (1, 2, 0.0) and b["below_pixel"] == pytest.approx(1 / 3)
    assert (every["n_cases"], every["success"], every["below_pixel"]) == (2, 0.5, 0.5)
    assert rows["turned", "yes"]["success"] == 0.0


def test_results_are_matched_by_id_and_not_by_row(tmp_path):
    truth = get_set("liver-3t").truth()
    shuffled = truth.sample(frac=1, random_state=1)[["id", "F", "vCS_um"]]
    shuffled["F"] += np.where(truth.loc[shuffled.index, "kappa_um_s"] == 50, 0.2, 0.1)
    score = score_benchmark(shuffled, "liver-3t")
    assert score.summary()["vCS_um"]["rms"] == 0
    by_kappa = score.table[(score.table["quantity"] == "F") & (score.table["condition"] == "kappa_um_s")]
    assert dict(zip(by_kappa["value"], by_kappa["bias"].round(9), strict=True)) == {0: 0.1, 10: 0.1, 25: 0.1, 50: 0.2}
    assert score.summary()["F"]["bias"] == pytest.approx(0.125)
    assert score.warnings == ("not scored, as the results have no such column: D0I_um2_ms",)


def test_conditions_that_are_quantities_too_are_those_of_the_truth():
    results = get_set("insilico-small").truth()[["id", "F", "vCS_um"]].assign(F=0.5)
    score = score_benchmark(results, "insilico-small")
    rows = score.table[(score.table["quantity"] == "F") & (score.table["condition"] == "F")]
    assert dict(zip(rows["value"], rows["bias"].round(6), strict=True)) == {
        0.197: 0.303, 0.323: 0.177, 0.406: 0.094, 0.523: -0.023
    }  # fmt: skip


def test_standard_errors_and_limits_make_the_same_intervals():
    truth = get_set("sections-nuclei").truth()
    off = np.array([0.5, -0.5, 1.0, -1.0, 3.0, -3.0, 0.0])
    results = truth[["condition"]].assign(vCS_um=truth["vCS_um"] + off, vCS_um_se=1.0)
    by_error = score_benchmark(results, "sections-nuclei").summary()["vCS_um"]
    limits = results.assign(vCS_um_low=results["vCS_um"] - 1.96, vCS_um_high=results["vCS_um"] + 1.96)
    by_limits = score_benchmark(limits.drop(columns="vCS_um_se"), "sections-nuclei").summary()["vCS_um"]
    assert by_error["coverage"] == by_limits["coverage"] == pytest.approx(5 / 7)


def test_missing_rows_and_empty_cells_are_counted_and_named():
    results = get_set("sections-nuclei").truth()[["condition", "F"]].iloc[:5].copy()
    results.loc[1, "F"] = np.nan
    score = score_benchmark(results, "sections-nuclei")
    assert score.missing == ("g6", "g7") and score.summary()["F"]["n_missing"] == 3
    assert "2 of 7 cases of sections-nuclei have no row in the results: g6, g7" in score.warnings
    assert "F is empty in 1 of 5 rows, which its scores leave out" in score.warnings


TABLE = "condition,F,vCS_um,F_low,F_high\ng1,0.5,17,0.4,0.6\ng2,0.6,20,0.5,0.7\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("condition,F", "id,F"), "column 'condition' is missing"),
        (("F,vCS_um,F_low,F_high", "f,v,l,h"), "has no column of estimates; sections-nuclei asks for N_V_per_mm3, F,"),
        (("g2", "h2"), "line 3: sections-nuclei has no case 'h2'; take 'condition' from"),
        (("g2", "g1"), "case 'g1' comes twice, in lines 2 and 3"),
        (("0.6,20", "x,20"), "column 'F', line 3: 'x' is not a finite number"),
        (("0.5,0.7", "0.8,0.7"), "line 3: F_low is above F_high"),
        (("F_low,F_high", "F_low,G_high"), "column 'F_high' is missing"),
        (("F_low", "F_se"), "column 'F_low' is missing"),
    ],
)
def test_what_is_wrong_with_results_is_named(tmp_path, change, message):
    path = tmp_path / "results.csv"
    path.write_text(TABLE.replace(*change))
    with pytest.raises(InputError, match=message) as error:
        score_benchmark(path, "sections-nuclei")
    assert str(path) in str(error.value)


def test_negative_standard_errors_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("condition,F,F_se\ng1,0.5,0.1\ng2,0.6,-0.1\n")
    with pytest.raises(InputError, match="line 3: F_se is negative"):
        score_benchmark(path, "sections-nuclei")


def test_points_need_all_three_coordinates(tmp_path):
    path = tmp_path / "points.csv"
    get_set("registration-lobes").truth().drop(columns="z_mm").to_csv(path, index=False)
    with pytest.raises(InputError, match="column 'z_mm' is missing"):
        score_benchmark(path, "registration-lobes")


def test_results_of_another_set_are_not_scored(tmp_path):
    with pytest.raises(InputError, match=r"liver-1\.5t has no case '3t-01n01'"):
        score_benchmark(get_set("liver-3t").truth(), "liver-1.5t")
