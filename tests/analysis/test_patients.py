"""Several samples of a patient in every analysis: against tables made elsewhere, loops, and simulations."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import (
    agree_table,
    bland_altman,
    cluster_robust,
    compare_table,
    compare_two,
    concordance,
    correlate,
    correlate_table,
    intraclass_correlation,
    plan_table,
    rank_models,
    regress,
    regress_table,
    score_table,
    slope_within_groups,
    total_correlation_score,
)
from histomri.core.errors import InputError

PRINTED = 1e-4  # the tables have five digits
PAIRED = ["vCS_mri_um", "vCS_histo_um", "F_mri", "F_histo"]


@pytest.fixture
def table(data):
    return lambda name: pd.read_csv(data / "statistics" / f"{name}.csv")


def without(values, patients):
    return [values[patients != name] for name in sorted(set(patients))]


def jackknife(estimate, others, transform=lambda v: v, back=lambda v: v):
    """Interval from estimates without each of G patients: Student's t with G - 1 degrees of freedom."""
    z, kept = transform(estimate), np.array([transform(each) for each in others])
    g = len(kept)
    half = stats.t.ppf(0.975, g - 1) * math.sqrt((g - 1) / g * ((kept - kept.mean()) ** 2).sum())
    return [back(z - half), back(z + half)]


def clustered(rng, patients=10, rows=(1, 2, 3), icc=0.6, r=0.5):
    """Cases of patients, of which each has one to three: rows of one resemble each other on both sides."""
    sizes = [rows[k % len(rows)] for k in range(patients)]
    label = np.repeat([f"p{k:02d}" for k in range(patients)], sizes)
    columns = {}
    for histology, mri, where, scale in (("vCS_histo_um", "vCS_mri_um", 20, 3), ("F_histo", "F_mri", 0.6, 0.1)):

        def draw():
            between, inside = rng.normal(size=patients).repeat(sizes), rng.normal(size=label.size)
            return math.sqrt(icc) * between + math.sqrt(1 - icc) * inside

        x = draw()
        y = r * x + math.sqrt(1 - r * r) * draw()
        columns |= {histology: where + scale * x, mri: where + scale * y}
    samples = [f"t{k:02d}" for k in range(label.size)]
    return pd.DataFrame({"sample": samples, "patient": label, "model": "m", "strategy": "whole", **columns})


def test_score_over_patients_against_the_table(table):
    give, expected = table("cluster_give"), table("cluster_give_expected").set_index("unit")
    (by_patient,), (by_row,) = rank_models(give, n_boot=100), rank_models(give.drop(columns="patient"), n_boot=100)
    for row, truth in ((by_patient, expected.loc["patient"]), (by_row, expected.loc["row"])):
        assert row["TCS"] == pytest.approx(truth.tcs, abs=PRINTED)
        assert row["TCS_ci"] == pytest.approx([truth.lo, truth.hi], abs=PRINTED)
        assert row["n_patients"] == truth.n_units and row["n"] == 20
    found = score_table(give, boot=100)
    assert "6 of 10 patients have several of the 20 samples: patients, not samples, are independent" in found.warnings
    assert score_table(give, boot=100, patient="sample").content["models"][0]["TCS_ci"] == by_row["TCS_ci"]


def test_patients_who_come_once_change_no_digit(rng):
    cases = clustered(rng, rows=(1,), patients=14)
    alone = cases.drop(columns="patient")
    for analyse, choices in (
        (score_table, {"boot": 200}), (correlate_table, {}), (regress_table, {}), (agree_table, {}), (plan_table, {}),
    ):  # fmt: skip
        one, other = analyse(cases, **choices), analyse(alone, **choices)
        assert one.lines == other.lines
        for name, frame in one.tables.items():
            pd.testing.assert_frame_equal(frame, other.tables[name], check_exact=True)


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_correlation_without_each_patient(rng, kind):
    cases = clustered(rng)
    x, y, patients = (cases[name].to_numpy() for name in ("vCS_histo_um", "vCS_mri_um", "patient"))
    found = correlate(x, y, kind=kind, patients=patients)
    by = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[kind]
    others = [by(a, b).statistic for a, b in zip(without(x, patients), without(y, patients))]
    estimate = by(x, y).statistic
    assert found.r == pytest.approx(estimate, rel=1e-9) and found.n_patients == 10
    g, z = len(others), np.arctanh(others)
    # Pseudo-values have the mean square of those without one, about their own mean.
    se = math.sqrt((g - 1) / g * ((z - z.mean()) ** 2).sum())
    limits = np.tanh(np.arctanh(estimate) + stats.t.ppf([0.025, 0.975], g - 1) * se)
    assert found.ci == pytest.approx(limits, rel=1e-9)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(np.arctanh(estimate)) / se, g - 1), rel=1e-9)


def test_agreement_without_each_patient(rng):
    cases = clustered(rng, r=0.9)
    a, b, patients = (cases[name].to_numpy() for name in ("vCS_mri_um", "vCS_histo_um", "patient"))
    found = bland_altman(a, b, patients=patients)
    parts = list(zip(without(a, patients), without(b, patients)))
    assert found.n_patients == 10
    assert [found.bias_low, found.bias_high] == pytest.approx(
        jackknife(np.mean(a - b), [np.mean(x - y) for x, y in parts]), rel=1e-9
    )
    upper = [np.mean(x - y) + stats.norm.ppf(0.975) * np.std(x - y, ddof=1) for x, y in parts]
    assert [found.upper_low, found.upper_high] == pytest.approx(jackknife(found.upper, upper), rel=1e-9)

    def lin(x, y):
        return 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)

    ccc, ci = concordance(a, b, patients=patients)
    assert ci == pytest.approx(jackknife(ccc, [lin(x, y) for x, y in parts], np.arctanh, np.tanh), rel=1e-9)
    both = np.column_stack([a, b])
    icc = intraclass_correlation(both, patients=patients).set_index("type").loc["ICC(1)"]
    each = [intraclass_correlation(part).set_index("type").loc["ICC(1)", "icc"] for part in without(both, patients)]
    limits = jackknife(icc["icc"], each, np.arctanh, np.tanh)
    assert [icc["ci_low"], icc["ci_high"]] == pytest.approx(limits, rel=1e-9) and math.isnan(icc["p"])


def test_groups_are_compared_by_the_means_of_patients(rng):
    cases = clustered(rng, patients=12)
    group = np.where(cases["patient"] < "p06", "a", "b")
    a, b = (cases[group == name] for name in "ab")
    found = compare_two(a["F_mri"], b["F_mri"], patients=(a["patient"], b["patient"]))
    means = [part.groupby("patient")["F_mri"].mean() for part in (a, b)]
    assert found.p_welch == pytest.approx(stats.ttest_ind(*means, equal_var=False).pvalue, rel=1e-9)
    assert (found.n_a, found.n_b, found.n_rows_a + found.n_rows_b) == (6, 6, len(cases))
    # Patients in both groups: only the difference is tested, by leaving each of them out of both.
    both = compare_two(a["F_mri"], b["F_mri"], patients=(a["patient"], b["patient"].str.replace("p06", "p00")))
    assert math.isnan(both.p_welch) and 0 < both.p_patients < 1 and both.difference_low < both.difference


def test_cr2_is_that_of_clubsandwich_and_cr3_the_written_out_formula(table):
    give, expected = table("cr2_in"), table("cr2_expected").set_index("term")
    design = np.column_stack([np.ones(len(give)), give["x1"], give["x2"]])
    found = cluster_robust(design, give["y"], give["patient"])
    for k, term in enumerate(("const", "x1", "x2")):
        truth = expected.loc[term, ["beta", "se_cr2", "df_satt", "p"]].astype(float)
        mine = [each[k] for each in (found.beta, found.se, found.df, found.p)]
        np.testing.assert_allclose(mine, truth, rtol=1e-9)
    rows = regress(give, {"y": ["x1", "x2"]}, patients=give["patient"]).coefficients.set_index("term")
    bread = np.linalg.inv(design.T @ design)
    residual = give["y"].to_numpy() - design @ found.beta
    meat = np.zeros((3, 3))
    for name in give["patient"].unique():
        mine = (give["patient"] == name).to_numpy()
        x = design[mine]
        score = x.T @ np.linalg.solve(np.eye(mine.sum()) - x @ bread @ x.T, residual[mine])
        meat += np.outer(score, score)
    g = give["patient"].nunique()
    cr3 = np.sqrt(np.diag(bread @ meat @ bread) * (g - 1) / g)
    for k, term in enumerate(("x1", "x2"), start=1):
        scale = give["y"].std() / give[term].std()
        assert rows.loc[term, "se_cr3"] * scale == pytest.approx(cr3[k], rel=1e-8)
        assert rows.loc[term, "p_cr3"] == pytest.approx(2 * stats.t.sf(abs(found.beta[k] / cr3[k]), g - 1), rel=1e-8)
        assert rows.loc[term, "n_patients"] == g
    assert cr3[1] == pytest.approx(0.327, abs=5e-4)  # CR1, which statsmodels gives by default, has 0.199


def test_slopes_within_samples_against_dummies_of_the_samples(table):
    """A column per sample beside x leaves the slope, and CR2 of it, as they are."""
    give = table("slopes_give")
    found = slope_within_groups(give["x"], give["y"], give["sample"])
    dummies = pd.get_dummies(give["sample"]).to_numpy(dtype=float)
    full = cluster_robust(np.column_stack([give["x"], dummies]), give["y"], give["sample"])
    np.testing.assert_allclose(
        [found.slope, found.se, found.df, found.p], [full.beta[0], full.se[0], full.df[0], full.p[0]], rtol=1e-8
    )


def test_pooled_against_within_groups_by_the_table(table):
    give, expected = table("groups_give_simpson"), table("groups_give_simpson_expected").iloc[0]
    found = score_table(give, boot=100)
    (row,) = found.content["within"]
    names = {
        "TCS": "tcs_pooled", "TCS_ci_low": "pooled_lo", "TCS_ci_high": "pooled_hi", "TCS_within": "tcs_within",
        "TCS_within_low": "within_lo", "TCS_within_high": "within_hi", "t_differ": "t_differ", "p_differ": "p_differ",
    }  # fmt: skip
    parts = [f"{side}_{part}_part" for side in ("vCS", "F") for part in ("within", "between")]
    names |= {
        name: name for name in (*parts, *(f"eta2_{side}" for side in ("vCS_mri", "vCS_histo", "F_mri", "F_histo")))
    }
    for mine, theirs in names.items():
        assert row[mine] == pytest.approx(expected[theirs], abs=PRINTED), mine
    assert row["differ"] == expected["warn_A_between"] and row["rests_on_groups"] == expected["warn_B_rests_on_groups"]
    assert any("the score rests on differences between the groups" in text for text in found.warnings)
    (model,) = found.content["models"]
    assert model["TCS_within"] == row["TCS_within"]
    # Within groups: correlations of the deviations from the means of the groups.
    inside = give[PAIRED] - give.groupby("group")[PAIRED].transform("mean")
    (score,) = total_correlation_score(inside).itertuples()
    assert pytest.approx(score.TCS, rel=1e-9) == row["TCS_within"]


def test_one_group_only_is_said(table):
    give = table("groups_give_simpson").assign(group="mouse")
    with pytest.raises(InputError, match="column 'group' has one label only"):
        score_table(give, boot=100, within="group")
    found = score_table(give, boot=100)
    assert "within" not in found.content and found.content["models"][0]["TCS_within"] is None


def test_five_patients_have_neither_intervals_nor_tests(rng):
    cases = clustered(rng, patients=5, rows=(3,)).assign(group=["a"] * 9 + ["b"] * 6)
    said = "5 patients are too few for intervals and tests (6 are needed)"
    score = score_table(cases, boot=100)
    assert said in score.warnings and score.content["models"][0]["TCS_ci"] is None
    correlations = correlate_table(cases)
    assert said in correlations.warnings
    assert correlations.tables["correlations.csv"][["p", "ci_low", "ci_high"]].isna().all(axis=None)
    regression = regress_table(cases)
    assert said in regression.warnings and regression.tables["regression.csv"]["p_cr3"].isna().all()
    agreement = agree_table(cases)
    assert said in agreement.warnings and agreement.tables["agreement.csv"][["bias_low", "ccc_low"]].isna().all(
        axis=None
    )
    groups = compare_table(cases)
    assert said in groups.warnings and groups.tables["comparisons.csv"]["p_welch"].isna().all()
    assert set(groups.tables["comparisons.csv"]["note"]) == {"5 patients are too few for tests"}


def test_a_column_of_patients_under_another_name_is_hinted_at_and_taken(rng):
    cases = clustered(rng).rename(columns={"patient": "Subject"})
    hint = "column 'Subject' repeats its labels; if they are patients, use --patient 'Subject'"
    assert hint in score_table(cases, boot=100).warnings
    named, plain = score_table(cases, boot=100, patient="Subject"), score_table(clustered_again(cases), boot=100)
    assert named.content["models"] == plain.content["models"]
    assert plan_table(cases, patient="Subject").tables["power_n.csv"]["n"].tolist() == [10]


def clustered_again(cases):
    return cases.rename(columns={"Subject": "patient"})


def covered(rng, patients, rows, icc, studies):
    """Share of studies whose interval of TCS holds the truth, over patients and over rows."""
    held = []
    for _ in range(studies):
        cases = clustered(rng, patients, rows, icc, r=0.5)
        both = [rank_models(part, n_boot=10)[0]["TCS_ci"] for part in (cases, cases.drop(columns="patient"))]
        held.append([low <= 1.0 <= high for low, high in both])
    return np.mean(held, axis=0)


def test_intervals_over_patients_hold_where_those_over_rows_do_not():
    """150 studies; the limits are 92 to 98 %, and 84 % by rows; two standard errors are 3.6 %."""
    over_patients, over_rows = covered(np.random.default_rng(7), 12, (3,), 0.8, 150)
    assert over_patients >= 0.89 and over_rows <= over_patients - 0.04


@pytest.mark.slow
@pytest.mark.parametrize("patients", [8, 12, 20])
@pytest.mark.parametrize("rows", [(2,), (3,), (1, 2, 3)])
@pytest.mark.parametrize("icc", [0.3, 0.8])
def test_coverage_over_patients(patients, rows, icc):
    """400 studies: 92 to 98 %, with two standard errors (2.4 %) at either end."""
    over_patients, _ = covered(np.random.default_rng([patients, len(rows), int(10 * icc)]), patients, rows, icc, 400)
    assert 0.92 - 0.024 <= over_patients <= 0.98 + 0.015


@pytest.mark.slow
@pytest.mark.parametrize("patients", [8, 12, 20])
@pytest.mark.parametrize("icc", [0.3, 0.8])
def test_size_of_the_coefficients_of_equation_16(patients, icc):
    """400 studies of two slopes of zero: 2.5 to 7.5 %, with two standard errors (1.5 %) at either end."""
    rng, rejected = np.random.default_rng([patients, int(10 * icc), 16]), []
    for _ in range(400):
        cases = clustered(rng, patients, (1, 2, 3), icc, r=0.0)
        found = regress(cases, {"vCS_mri_um": ["vCS_histo_um", "F_histo"]}, patients=cases["patient"]).coefficients
        rejected += (found["p_cr3"] < 0.05).tolist()
    assert 0.025 - 0.015 <= np.mean(rejected) <= 0.075 + 0.015


@pytest.mark.slow
@pytest.mark.parametrize(("groups", "size", "spread"), [(4, 12, 0.5), (8, 7, 0.3), (8, 7, 0.5), (14, 10, 0.5)])
def test_size_of_slopes_within_samples(groups, size, spread):
    """400 studies of slopes with mean zero: 2 to 8 %, with two standard errors (2.2 %) at either end."""
    from histomri.analysis.mixed import mean_correlation

    rng, rejected = np.random.default_rng([groups, size, int(10 * spread)]), []
    for _ in range(400):
        labels = np.repeat(np.arange(groups), size)
        x = rng.normal(size=labels.size)
        y = (
            rng.normal(0, spread, groups)[labels] * x
            + rng.normal(size=labels.size)
            + 3 * rng.normal(size=groups)[labels]
        )
        r = [np.corrcoef(x[labels == g], y[labels == g])[0, 1] for g in range(groups)]
        rejected.append([mean_correlation(r)["p_mean"] < 0.05, slope_within_groups(x, y, labels).p < 0.05])
    for rate in np.mean(rejected, axis=0):
        assert 0.02 - 0.022 <= rate <= 0.08 + 0.022
