"""Correlations without errors of measurement: a table computed apart from this program, refusals, and known truth."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import attenuation_table, correlate_table, true_correlation
from histomri.core.errors import InputError


@pytest.fixture
def give(data):
    return pd.read_csv(data / "statistics" / "error_give.csv")


def test_against_the_table(give, data):
    """The table has five digits."""
    expected = pd.read_csv(data / "statistics" / "error_give_expected.csv").iloc[0]
    found = true_correlation(give["histo"], give["mri"], give["histo_se"], give["mri_se"])
    names = {
        "r": "r", "r_low": "r_lo", "r_high": "r_hi", "reliability_x": "rel_histo", "reliability_y": "rel_mri",
        "reliability_x_low": "rel_histo_low", "reliability_y_low": "rel_mri_low", "r_true": "r_true",
        "r_true_low": "r_true_lo", "r_true_high": "r_true_hi", "slope": "slope", "slope_low": "slope_lo",
        "slope_high": "slope_hi",
    }  # fmt: skip
    for mine, theirs in names.items():
        assert getattr(found, mine) == pytest.approx(expected[theirs], abs=1e-4), mine
    assert found.n == expected.n and found.note == "" and not expected.refuse
    # A sign that is turned turns everything with it.
    turned = true_correlation(give["histo"], -give["mri"], give["histo_se"], give["mri_se"])
    assert [turned.r_true, turned.r_true_low, turned.r_true_high] == pytest.approx(
        [-found.r_true, -found.r_true_high, -found.r_true_low], abs=1e-12
    )


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"histo_se": 3.0}, "the scatter of x between cases is not larger than its error"),
        ({"mri_se": 1.35}, "the scatter of y between cases is not larger than its error, or may not be"),
        ({"mri_se": 0.0}, "the errors of y are all 0"),
        ({"mri": 1.0}, "one side is constant"),
        ({"mri_se": np.nan}, "0 cases with values and errors are too few"),
    ],
)
def test_refused(give, change, note):
    table = give.assign(**change)
    found = true_correlation(*(table[name] for name in ("histo", "mri", "histo_se", "mri_se")))
    assert math.isnan(found.r_true) and math.isnan(found.slope) and note in found.note


def test_negative_errors(give):
    with pytest.raises(InputError, match="a standard error is negative"):
        true_correlation(give["histo"], give["mri"], give["histo_se"], -give["mri_se"])


def simulated(rng, n, r, reliability, factor=1.0):
    truth = rng.multivariate_normal([0, 0], [[1, r], [r, 1]], n).T
    sd = math.sqrt(1 / reliability - 1)
    se = sd * np.sqrt(rng.gamma(4, 0.25, (2, n)))
    return (*(truth + se * rng.normal(size=(2, n))), *(factor * se))


def test_intervals_hold_the_true_correlation():
    """200 tables each: coverage of 95 % has a standard error of 1.5 %, and 92 % is asked of it; the plain one fails."""
    rng, held, plain = np.random.default_rng(3), [], []
    for _ in range(200):
        found = true_correlation(*simulated(rng, 25, 0.9, 0.7))
        if found.note:
            continue
        held.append(found.r_true_low <= 0.9 <= found.r_true_high)
        plain.append(found.r_low <= 0.9 <= found.r_high)
    assert len(held) > 180 and np.mean(held) >= 0.92 and np.mean(plain) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("n", "reliability", "refused"), [(18, 0.9, 0.01), (25, 0.7, 0.09), (50, 0.5, 0.13)])
@pytest.mark.parametrize("r", [0.2, 0.6, 0.9])
def test_coverage_and_refusals(n, reliability, refused, r):
    """600 tables each: at least 92 % of the intervals hold, standard error 1 %; refusals as often as is known."""
    rng, held, slopes, notes = np.random.default_rng(17), [], [], 0
    for _ in range(600):
        found = true_correlation(*simulated(rng, n, r, reliability))
        notes += bool(found.note)
        if not found.note:
            held.append(found.r_true_low <= r <= found.r_true_high)
            slopes.append(found.slope_low <= r <= found.slope_high)
    assert notes / 600 <= refused + 0.03 and np.mean(held) >= 0.92 and np.mean(slopes) >= 0.9


def test_patients_are_left_out_whole(give):
    """Two copies of every case under one patient: the same estimates and jackknives as of the cases themselves."""
    twice = pd.concat([give, give], ignore_index=True)
    columns = ("histo", "mri", "histo_se", "mri_se")
    found = true_correlation(*(twice[name] for name in columns), patients=twice["sample"])
    once = true_correlation(*(give[name] for name in columns))
    assert (found.r, found.r_low, found.r_high) == pytest.approx((once.r, once.r_low, once.r_high), abs=1e-9)
    alone = true_correlation(*(twice[name] for name in columns))
    assert found.r_high - found.r_low > 1.3 * (alone.r_high - alone.r_low)
    few = give.assign(sample=[name[-1] if name[-1] in "01234" else "0" for name in give["sample"]])
    found = true_correlation(*(few[name] for name in columns), patients=few["sample"])
    assert math.isfinite(found.r_true) and math.isnan(found.r_true_low)


def test_tables_show_the_errors_smaller_and_larger(give):
    table = give.rename(columns={"histo": "x_histo", "histo_se": "x_histo_se", "mri": "x_mri", "mri_se": "x_mri_se"})
    table = table.assign(x_histo_syst=0.2, y_mri=table["x_mri"] ** 2)
    found = attenuation_table(table, [("x_histo", "x_mri"), ("x_histo", "y_mri"), ("y_mri", "y_mri")])
    assert found["factor"].tolist() == [0.7, 1.0, 1.3, 0.7, 1.0, 1.3, 1.0]
    assert found["errors"].tolist() == ["se"] * 3 + ["se+syst"] * 3 + ["se"]
    assert found["note"].iloc[-1] == "'y_mri_se' is missing: errors of both sides are needed"
    own = true_correlation(
        table["x_histo"], table["x_mri"], 0.7 * np.hypot(table["x_histo_se"], 0.2), 0.7 * table["x_mri_se"]
    )
    assert found["r_true"].iloc[3] == pytest.approx(own.r_true, abs=1e-12)
    spread = 1 - 0.49 * np.mean(table["x_mri_se"] ** 2) / stats.tvar(table["x_mri"])
    assert found["reliability_y"].iloc[0] == pytest.approx(spread, abs=1e-12)
    result = correlate_table(table.drop(columns="y_mri"))
    assert set(result.tables["correlations.csv"]["x"]) == {"x_histo"}  # errors are no measurements
    assert result.tables["correlations_errors.csv"]["r_true"].iloc[1] == pytest.approx(0.53204, abs=1e-4)
    assert any("r = 0.37; if the given errors are right 0.53 [-0.37, 1.00]" in line for line in result.lines)
    assert "correlations_errors.csv" not in correlate_table(table[["x_histo", "x_mri"]]).tables


def test_errors_of_registration_are_added_where_they_are_known(give):
    table = give.rename(columns=lambda name: name.replace("histo", "F_histo").replace("mri", "F_mri"))
    known = np.arange(len(table)) % 6 > 0
    table["registration_sd_F_histo"] = np.where(known, 0.3, np.nan)
    found = attenuation_table(table, [("F_histo", "F_mri")])
    assert found["errors"].tolist() == ["se"] * 3 + ["se+registration"] * 3
    mine = table[known]
    own = true_correlation(mine["F_histo"], mine["F_mri"], np.hypot(mine["F_histo_se"], 0.3), mine["F_mri_se"])
    row = found.iloc[4]
    assert (row["n"], row["n_missing"]) == (known.sum(), (~known).sum())
    assert (row["r_true"], row["r_true_low"]) == pytest.approx((own.r_true, own.r_true_low), nan_ok=True, abs=1e-12)


def as_fractions(give):
    """Return the table as fractions of histology and MRI: values of another size, the same correlations."""
    table = (give[["histo", "mri", "histo_se", "mri_se"]] / 100).set_axis(
        ["F_histo", "F_mri", "F_histo_se", "F_mri_se"], axis=1
    )
    table[["F_histo", "F_mri"]] += 0.5
    return table


def test_what_comes_of_the_same_images_has_no_correction(give):
    """ADC and K are of MRI, though their names do not say so: their errors are not independent of those of a fit."""
    table = as_fractions(give).assign(K_se=0.02, ADC_um2_ms_se=0.02)
    table = table.assign(K=table["F_mri"] ** 2, ADC_um2_ms=table["F_mri"] ** 3)
    found = correlate_table(table, x=["F_histo", "F_mri", "K", "ADC_um2_ms"]).tables["correlations_errors.csv"]
    assert {*zip(found["x"], found["y"])} == {("F_histo", "F_mri"), ("F_histo", "K"), ("F_histo", "ADC_um2_ms")}
    assert found["n"].notna().all()


def test_refusals_of_one_reason_share_a_line(give):
    table = as_fractions(give).assign(K_se=1e3, ADC_um2_ms_se=1e3)
    table = table.assign(K=table["F_mri"] ** 2, ADC_um2_ms=table["F_mri"])
    lines = correlate_table(table, x=["F_histo"], y=["ADC_um2_ms", "K", "F_mri"]).lines
    assert [line for line in lines if "refused (2" in line] == [
        "r without errors of measurement is refused (2 pairs, the first F_histo with ADC_um2_ms): the scatter of y "
        "between cases is not larger than its error, or may not be"
    ]
    assert any(line.startswith("F_histo with F_mri: r = 0.37; if the given errors are right 0.53") for line in lines)
