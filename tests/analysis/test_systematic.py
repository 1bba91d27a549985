"""Errors that slides share, carried onto biases, slopes, intercepts and HFC, against closed forms and by draws."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from histomri.analysis import agree_table, correlate_table, rank_models, regress, regress_table, score_table
from histomri.analysis.summary import summarise_voxels
from histomri.analysis.systematic import common_error, line

OWN = {"model": "diff-in", "strategy": "high-b"}


def study(rng, n=12, share=0.1, shift=0.0):
    """Return samples whose size by MRI is 3 + 0.8 of histology, and the errors of histology."""
    size, fraction = rng.uniform(14, 26, n), rng.uniform(0.4, 0.7, n)
    return pd.DataFrame({
        "sample": [f"s{place}" for place in range(n)], **OWN,
        "vCS_histo_um": size, "F_histo": fraction,
        "vCS_mri_um": 3 + 0.8 * size + rng.normal(0, 0.5, n), "F_mri": fraction + rng.normal(0, 0.03, n),
        "vCS_histo_um_syst": share * size + shift, "F_histo_syst": np.zeros(n),
    })  # fmt: skip


def test_a_common_stretch_turns_the_line_and_a_common_shift_moves_it(rng):
    stretched, shifted = study(rng), study(rng, share=0.0, shift=1.5)
    slope, intercept = np.polyfit(stretched["vCS_histo_um"], stretched["vCS_mri_um"], 1)
    for found in (
        regress_table(stretched, response="vCS_mri_um", predictor=["vCS_histo_um"]).tables,
        correlate_table(stretched, x=["vCS_histo_um"], y=["vCS_mri_um"], method="pearson").tables,
    ):
        row = pd.concat([table.iloc[0] for table in found.values() if len(table)]).to_dict()
        assert (row["slope"], row["intercept"]) == pytest.approx((slope, intercept), rel=1e-9)
        assert row["slope_syst"] == pytest.approx(slope / 0.9 - slope, rel=1e-9)
        assert row["intercept_syst"] == pytest.approx(0.0, abs=1e-9)
    slope = np.polyfit(shifted["vCS_histo_um"], shifted["vCS_mri_um"], 1)[0]
    row = correlate_table(shifted, x=["vCS_histo_um"], y=["vCS_mri_um"]).to_pandas().iloc[0]
    assert row["slope_syst"] == pytest.approx(0.0, abs=1e-9)
    assert row["intercept_syst"] == pytest.approx(1.5 * slope, rel=1e-9)


def test_slopes_in_units_have_the_robust_errors_of_a_regression_in_units(rng):
    table = study(rng)
    found = regress(table, {"vCS_mri_um": ("vCS_histo_um", "F_histo")})
    design = sm.add_constant(table[["vCS_histo_um", "F_histo"]])
    truth = sm.OLS(table["vCS_mri_um"], design).fit(cov_type="HC3", use_t=True)
    np.testing.assert_allclose(found.coefficients["slope"], truth.params.iloc[1:], rtol=1e-8)
    np.testing.assert_allclose(found.coefficients["slope_se"], truth.bse.iloc[1:], rtol=1e-8)
    summary = found.models.iloc[0]
    assert summary["intercept"] == pytest.approx(truth.params["const"], rel=1e-8)
    assert summary["intercept_se"] == pytest.approx(truth.bse["const"], rel=1e-8)


def test_bias_is_off_by_the_mean_of_the_errors_and_its_limits_with_it(rng):
    table = study(rng)
    found = agree_table(table, first="vCS_mri_um", second="vCS_histo_um")
    row, error = found.to_pandas().iloc[0], table["vCS_histo_um_syst"]
    assert row["bias_syst"] == pytest.approx(error.mean(), rel=1e-9)
    assert f"± {error.mean():.3g} (syst)" in found.lines[0]
    assert found.tables["bias_by_size.csv"]["bias_syst"].is_monotonic_increasing  # a tenth of larger sizes
    relative = agree_table(table, first="vCS_mri_um", second="vCS_histo_um", relative=True).to_pandas().iloc[0]
    mri, histology = table["vCS_mri_um"], table["vCS_histo_um"]
    biases = [(200 * (mri - k * histology) / (mri + k * histology)).mean() for k in (1.0, 0.9, 1.1)]
    assert relative["bias_syst"] == pytest.approx(max(abs(one - biases[0]) for one in biases[1:]), rel=1e-9)


def test_hfc_moves_with_the_histology_and_the_ranks_stay(rng):
    table = study(rng)
    error = 0.05 * table["F_histo"]
    table["F_histo_syst"] = error
    one = rank_models(table)[0]
    size, fraction = table["vCS_histo_um"], table["F_histo"]

    def mean(stretch, more):
        of_size = (table["vCS_mri_um"] - stretch * size).abs() / (stretch * size)
        return (of_size + (table["F_mri"] - more * fraction).abs() / (more * fraction)).mean()

    base = mean(1, 1)
    by_size = max(abs(mean(k, 1) - base) for k in (0.9, 1.1))
    by_fraction = max(abs(mean(1, k) - base) for k in (0.95, 1.05))
    assert one["HFC_syst"] == pytest.approx(np.hypot(by_size, by_fraction), rel=1e-9)
    plain = rank_models(table.drop(columns=["vCS_histo_um_syst", "F_histo_syst"]))[0]
    assert plain["HFC_syst"] is None and {**one, "HFC_syst": None} == plain
    assert "(syst)" in " ".join(score_table(table).lines)


def test_an_error_that_is_missing_in_one_row_leaves_none_and_says_so(rng):
    table = study(rng)
    table.loc[3, "vCS_histo_um_syst"] = np.nan
    found = agree_table(table, first="vCS_mri_um", second="vCS_histo_um")
    assert np.isnan(found.to_pandas()["bias_syst"].iloc[0]) and "(syst)" not in found.lines[0]
    assert any("missing in 1 of 12 rows" in text for text in found.warnings)


def test_means_of_voxels_keep_the_common_error_and_average_that_of_sampling():
    rows = pd.DataFrame({
        "sample": "a", **OWN, "i": range(4), "j": 0, "k": 0, "vCS_mri_um": 20.0, "vCS_histo_um": [18.0, 20, 22, 24],
        "vCS_histo_um_se": [1.0, 2.0, 2.0, np.nan], "vCS_histo_um_syst": [0.9, 1.0, 1.1, 1.2],
    })  # fmt: skip
    counts = pd.DataFrame(
        {"sample": ["a"], "group": [None], "scanner": [None], **{key: [of] for key, of in OWN.items()}}
    )
    row = summarise_voxels(rows, counts).iloc[0]
    assert row["vCS_histo_um_se"] == pytest.approx(np.sqrt(3.0 / 4))  # mean square 3 of the known, over 4 voxels
    assert row["vCS_histo_um_syst"] == pytest.approx(1.05)
    assert not {"vCS_histo_um_se_median", "vCS_histo_um_syst_median", "vCS_histo_um_syst_trimmed"} & set(row.index)


def test_both_errors_together_hold_the_slope_that_one_alone_misses(rng):
    """Histology of each study is off by one factor for all of its slides, drawn with a standard deviation of 8 %."""
    held, alone = [], []
    for _ in range(400):
        size = rng.uniform(14, 26, 15)
        mri = 3 + 0.8 * size + rng.normal(0, 0.3, 15)
        seen = size * (1 + 0.08 * rng.standard_normal())
        values = pd.DataFrame({"x": seen, "y": mri})
        truth = sm.OLS(mri, sm.add_constant(seen)).fit()
        syst = common_error(lambda one: line(one, "y", ["x"]), values, pd.DataFrame({"x": 0.08 * seen}))[0]
        off = abs(truth.params[1] - 0.8)
        held.append(off <= 1.96 * np.hypot(truth.bse[1], syst))
        alone.append(off <= 1.96 * truth.bse[1])
    assert 0.90 <= np.mean(held) <= 0.99 and np.mean(alone) < 0.6
