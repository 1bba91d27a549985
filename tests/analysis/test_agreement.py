"""Agreement against statsmodels' analysis of variance, published values, and direct formulas."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.api import OLS, add_constant
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from histomri.analysis import agree_table, bias_by_size, bland_altman, concordance, intraclass_correlation
from histomri.core.errors import InputError

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_icc_of_shrout_and_fleiss():
    """Their table 4 (1979, doi 10.1037/0033-2909.86.2.420)."""
    found = intraclass_correlation(SHROUT_FLEISS).set_index("type")
    np.testing.assert_allclose(found["icc"], [0.17, 0.29, 0.71], atol=0.005)
    # Limits as R's psych and irr print them for these ratings, two digits.
    np.testing.assert_allclose(found["ci_low_f"], [-0.13, 0.02, 0.34], atol=0.005)
    np.testing.assert_allclose(found["ci_high_f"], [0.72, 0.76, 0.95], atol=0.005)


def test_icc_from_mean_squares_of_statsmodels(rng):
    ratings = rng.normal(size=(9, 1)) * 2 + rng.normal(size=(9, 3)) + [0, 1, 2]
    ratings = np.vstack([ratings, [1.0, np.nan, 2.0]])
    long = pd.DataFrame(ratings[:9]).melt(ignore_index=False).reset_index()
    table = anova_lm(ols("value ~ C(index) + C(variable)", long).fit())
    msr, msc, mse = table["mean_sq"]
    n, k = 9, 3
    msw = (table["sum_sq"].iloc[1] + table["sum_sq"].iloc[2]) / (n * (k - 1))
    truth = [
        (msr - msw) / (msr + (k - 1) * msw),
        (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n),
        (msr - mse) / (msr + (k - 1) * mse),
    ]
    found = intraclass_correlation(ratings)
    np.testing.assert_allclose(found["icc"], truth, rtol=1e-10)
    assert (found["n"] == 9).all() and (found["n_missing"] == 1).all()
    np.testing.assert_allclose(found["f"], [msr / msw, msr / mse, msr / mse], rtol=1e-10)
    np.testing.assert_allclose(
        found["p"], [stats.f.sf(msr / msw, 8, 18), *[stats.f.sf(msr / mse, 8, 16)] * 2], rtol=1e-9
    )


def test_intervals_of_icc_and_ccc_leave_out_one_case_after_another(rng):
    ratings = rng.normal(size=(11, 1)) * 2 + rng.normal(size=(11, 2)) + [0, 0.4]
    found = intraclass_correlation(ratings)
    for position in range(3):
        each = [intraclass_correlation(np.delete(ratings, case, axis=0))["icc"][position] for case in range(11)]
        limits = found.loc[position, ["ci_low", "ci_high"]].astype(float)
        np.testing.assert_allclose(limits, jackknifed(found["icc"][position], each), rtol=1e-10)
    ccc, ci = concordance(*ratings.T)
    each = [concordance(*np.delete(ratings, case, axis=0).T)[0] for case in range(11)]
    np.testing.assert_allclose(ci, jackknifed(ccc, each), rtol=1e-10)


def jackknifed(estimate, each):
    """The 95 % interval by its formula, on the scale of Fisher's z."""
    n, z, others = len(each), np.arctanh(estimate), np.arctanh(each)
    se = math.sqrt((n - 1) / n * ((others - others.mean()) ** 2).sum())
    centre, reach = z, stats.t.ppf(0.975, n - 1) * se
    return np.tanh([centre - reach, centre + reach])


def test_a_constant_bias_is_consistent_and_does_not_agree(rng):
    x = rng.normal(size=12)
    found = intraclass_correlation(np.column_stack([x, x + 5])).set_index("type")["icc"]
    assert found["ICC(C,1)"] == pytest.approx(1) and found["ICC(A,1)"] < 0.3 and found["ICC(1)"] < 0


def test_bland_altman_by_hand(rng):
    b = rng.uniform(14, 28, 25)
    a = 1.1 * b + rng.normal(size=25)
    a[3] = np.nan
    found = bland_altman(a, b)
    d = (a - b)[np.isfinite(a)]
    n, z, t = 24, stats.norm.ppf(0.975), stats.t.ppf(0.975, 23)
    sd = d.std(ddof=1)
    near, far = stats.nct.ppf([0.025, 0.975], 23, z * math.sqrt(n)) / math.sqrt(n)
    expected = {
        "bias": d.mean(),
        "bias_low": d.mean() - t * sd / math.sqrt(n),
        "bias_high": d.mean() + t * sd / math.sqrt(n),
        "p_bias": stats.ttest_1samp(d, 0).pvalue,
        "lower": d.mean() - z * sd,
        "upper": d.mean() + z * sd,
        "lower_low": d.mean() - far * sd,
        "lower_high": d.mean() - near * sd,
        "upper_low": d.mean() + near * sd,
        "upper_high": d.mean() + far * sd,
    }
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-10), name
    line = OLS(d, add_constant((a + b)[np.isfinite(a)] / 2)).fit(cov_type="HC3", use_t=True)
    truth = [line.params[1], *line.conf_int()[1], line.pvalues[1]]
    np.testing.assert_allclose([found.slope, found.slope_low, found.slope_high, found.p_slope], truth, rtol=1e-10)
    assert (found.n, found.n_missing) == (24, 1)


def test_relative_differences(rng):
    b = rng.uniform(1, 2, 10)
    found = bland_altman(1.2 * b, b, relative=True)
    assert found.bias == pytest.approx(100 * 0.2 / 1.1) and found.sd == pytest.approx(0, abs=1e-9) and found.relative
    with pytest.raises(InputError, match="positive"):
        bland_altman([-1, 2, 3], [-1, 2, 3], relative=True)


def test_limits_hold_95_of_a_hundred_differences():
    rng = np.random.default_rng(1)
    found = bland_altman(rng.normal(2, 1.5, 20000), np.zeros(20000))
    assert found.lower == pytest.approx(2 - 1.96 * 1.5, abs=0.05) and found.upper == pytest.approx(
        2 + 1.96 * 1.5, abs=0.05
    )


def test_bias_by_size_follows_the_reference(rng):
    b = rng.permutation(np.arange(1.0, 11.0))
    found = bias_by_size(2 * b, b, bins=3)
    assert found["n"].tolist() == [4, 3, 3]
    np.testing.assert_allclose(found["bias"], [2.5, 6.0, 9.0])
    assert found["size_from"].tolist() == [1, 5, 8] and found["size_to"].tolist() == [4, 7, 10]
    reach = stats.t.ppf(0.975, 2) * 1 / math.sqrt(3)
    np.testing.assert_allclose(found["bias_high"][1:] - found["bias"][1:], reach, rtol=1e-10)
    np.testing.assert_allclose(bias_by_size(2 * b, b, relative=True)["bias"], 100)


def test_concordance(rng):
    x = rng.normal(size=30)
    y = x + 0.5 + rng.normal(size=30)
    truth = 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert concordance(x, y)[0] == pytest.approx(truth, rel=1e-10)
    assert concordance(x, x)[0] == pytest.approx(1) and math.isnan(concordance(np.ones(5), np.ones(5))[0])


def test_refused():
    with pytest.raises(InputError, match="2 pairs are too few"):
        bland_altman([1, 2, np.nan], [1, 2, 3])
    with pytest.raises(InputError, match="two methods with 3 and 2 values"):
        concordance([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="at least two methods"):
        intraclass_correlation([[1.0], [2.0], [3.0]])
    with pytest.raises(InputError, match="all values are the same"):
        intraclass_correlation(np.ones((4, 2)))
    with pytest.raises(InputError, match="cannot be split into 5"):
        bias_by_size([1, 2, 3], [1, 2, 3], bins=5)


def test_f_over_vcs_cubed_is_not_compared_with_cells_per_volume(rng):
    count = rng.uniform(1e5, 3e5, 12)
    table = pd.DataFrame({"sample": [f"s{i}" for i in range(12)], "CD_mri_mm3": np.pi / 6 * count})
    table["CDvol_histo_mm3"] = 1.1 * count
    columns = {"first": "CD_mri_mm3", "second": "CDvol_histo_mm3", "relative": True}
    with pytest.raises(InputError, match="no number of cells") as error:
        agree_table(table, **columns)
    assert "6/π times" in error.value.hint
    found = agree_table(table.assign(CDsphere_mri_mm3=count), **columns)
    row = found.to_pandas().iloc[0]
    assert row["first"] == "CDsphere_mri_mm3" and row["bias"] == pytest.approx(-100 * 0.1 / 1.05)
    assert any("is F/vCS³" in text for text in found.warnings)
