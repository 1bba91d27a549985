"""Group comparisons against scipy, and effect sizes against integrals and sums."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats

from histomri.analysis import compare_groups, compare_two
from histomri.analysis.groups import hedges_correction, noncentral_t_limits
from histomri.analysis.noncentral import noncentral_t_cdf
from histomri.core.errors import InputError


def test_tests_against_scipy(rng):
    a, b = rng.normal(1.0, 1.0, 13), rng.normal(0.2, 2.0, 8)
    found = compare_two(a, b)
    welch, student = stats.ttest_ind(a, b, equal_var=False), stats.ttest_ind(a, b)
    ranks = stats.mannwhitneyu(a, b, alternative="two-sided")
    truth = [welch.statistic, welch.df, welch.pvalue, student.statistic, student.pvalue, ranks.statistic, ranks.pvalue]
    mine = [found.t_welch, found.df_welch, found.p_welch, found.t_student, found.p_student, found.u]
    np.testing.assert_allclose([*mine, found.p_mann_whitney], truth, rtol=1e-10)
    interval = welch.confidence_interval(0.95)
    np.testing.assert_allclose([found.difference_low, found.difference_high], interval, rtol=1e-10)
    np.testing.assert_allclose([found.mean_a, found.sd_b, found.median_b], [a.mean(), b.std(ddof=1), np.median(b)])


def test_mann_whitney_of_small_groups_is_counted():
    """All 20 ways to deal six values to two groups of three."""
    found = compare_two([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    assert found.p_mann_whitney == pytest.approx(2 / 20, rel=1e-10)


def test_cohen_and_hedges(rng):
    a, b = rng.normal(1.0, 1.0, 9), rng.normal(0.0, 1.0, 12)
    found = compare_two(a, b)
    pooled = math.sqrt((8 * a.var(ddof=1) + 11 * b.var(ddof=1)) / 19)
    d = (a.mean() - b.mean()) / pooled
    exact = math.gamma(19 / 2) / (math.sqrt(19 / 2) * math.gamma(18 / 2))
    np.testing.assert_allclose([found.cohen_d, found.hedges_g], [d, d * exact], rtol=1e-10)
    # the limits put the observed t at the tails of the noncentral t
    size = math.sqrt(1 / 9 + 1 / 12)
    tails = stats.nct.cdf(d / size, 19, np.array([found.cohen_d_low, found.cohen_d_high]) / size)
    np.testing.assert_allclose(tails, [0.975, 0.025], rtol=1e-10)
    assert (found.hedges_g_low, found.hedges_g_high) == (found.cohen_d_low, found.cohen_d_high)
    assert hedges_correction(10) == pytest.approx(1 - 3 / (4 * 10 - 1), rel=1e-3)


@pytest.mark.parametrize("df", [1, 2, 7, 60])
@pytest.mark.parametrize("t", [-6.0, -0.4, 0.0, 1.3, 9.0])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 1.5, 12.0])
def test_noncentral_t_against_its_integral(df, t, shift):
    def integrand(s):
        return stats.norm.cdf(t * s / math.sqrt(df) - shift) * stats.chi.pdf(s, df)

    truth = integrate.quad(integrand, 0, 30, limit=400, epsabs=1e-13, points=[math.sqrt(df)])[0]
    assert float(noncentral_t_cdf(t, df, shift)) == pytest.approx(truth, abs=1e-11)


def test_limits_exist_for_any_t():
    low, high = noncentral_t_limits(4000.0, 2, 0.95)
    assert 0 < low < 4000 < high
    # for a huge t, chi alone decides: noncentrality / t = chi / sqrt(df)
    edges = stats.chi.ppf([0.025, 0.975], 2) / math.sqrt(2) * 4000
    np.testing.assert_allclose([low, high], edges, rtol=1e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_cliff_delta_against_all_pairs(rng, ties):
    a, b = rng.normal(0.7, 1.0, 11), rng.normal(0.0, 1.0, 8)
    if ties:
        a, b = np.round(a), np.round(b)
    found = compare_two(a, b)
    signs = np.sign(a[:, None] - b[None])
    delta, m, n = signs.mean(), 11, 8
    rows, columns = signs.mean(axis=1), signs.mean(axis=0)
    variance = rows.var(ddof=1) / m + columns.var(ddof=1) / n
    # the same variance and degrees of freedom as in the test of Brunner and Munzel
    test = stats.brunnermunzel(b, a)
    assert delta / math.sqrt(variance) == pytest.approx(test.statistic, rel=1e-10)
    df = variance**2 / ((rows.var(ddof=1) / m) ** 2 / (m - 1) + (columns.var(ddof=1) / n) ** 2 / (n - 1))
    assert 2 * stats.t.sf(abs(test.statistic), df) == pytest.approx(test.pvalue, rel=1e-10)
    # the limits solve (delta - D)^2 = t^2 variance (1 - D^2) / (1 - delta^2)
    share = stats.t.ppf(0.975, df) ** 2 * variance / (1 - delta**2)
    limits = np.sort(np.roots([1 + share, -2 * delta, delta**2 - share]))
    mine = [found.cliff_delta, found.cliff_delta_low, found.cliff_delta_high]
    np.testing.assert_allclose(mine, [delta, *limits], rtol=1e-10)
    assert found.cliff_delta == pytest.approx(2 * found.u / (m * n) - 1, rel=1e-10)


def test_complete_separation_keeps_an_interval():
    found = compare_two([5.0, 6.0, 7.0, 8.0, 9.0, 9.5], [1.0, 2.0, 3.0, 4.0, 4.5])
    share = stats.t.ppf(0.975, 9) ** 2 / 5  # five cases in the smaller group
    assert found.cliff_delta == 1 == found.cliff_delta_high
    assert found.cliff_delta_low == pytest.approx((1 - share) / (1 + share), rel=1e-10)
    other = compare_two([1.0, 2.0, 3.0, 4.0, 4.5], [5.0, 6.0, 7.0, 8.0, 9.0, 9.5])
    assert (other.cliff_delta, other.cliff_delta_low) == (-1, -1)
    assert other.cliff_delta_high == pytest.approx(-found.cliff_delta_low)


@pytest.mark.parametrize(
    ("a", "b", "note"), [([1.0], [2.0, 3.0], "fewer than two"), ([2.0, 2.0], [2.0, 2.0], "all values are the same")]
)
def test_undefined_says_why(a, b, note):
    found = compare_two(a, b)
    assert math.isnan(found.p_welch) and note in found.note


def test_constant_groups_are_compared_by_rank_only():
    found = compare_two([2.0, 2.0, 2.0], [3.0, 3.0, 3.0])
    assert math.isnan(found.p_welch) and found.cliff_delta == -1 and "only ranks" in found.note


def cases(rng):
    return pd.DataFrame(
        {
            "group": ["crc"] * 7 + ["melanoma"] * 6 + ["ovary"] * 5 + [""],
            "F": rng.normal(size=19) + np.r_[np.zeros(7), np.full(6, 2.0), np.zeros(6)],
            "L": rng.normal(size=19),
        }
    )


def test_every_pair_of_groups(rng):
    table = cases(rng)
    table.loc[2, "F"] = np.nan
    found = compare_groups(table, ["F", "L"])
    assert list(zip(found["column"], found["group_a"], found["group_b"])) == [
        (column, *pair) for column in "FL" for pair in (("crc", "melanoma"), ("crc", "ovary"), ("melanoma", "ovary"))
    ]
    first = found.iloc[0]
    a, b = table["F"][:7].dropna(), table["F"][7:13]
    assert (first["n_a"], first["n_b"]) == (6, 6)
    assert first["p_welch"] == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-10)
    assert (found["q_welch"] >= found["p_welch"]).all()
    columns = list(found.columns)
    assert columns.index("q_mann_whitney") == columns.index("p_mann_whitney") + 1


def test_refused(rng):
    table = cases(rng)
    with pytest.raises(InputError, match="group 'ovary' has no value"):
        compare_groups(table.assign(F=table["F"].where(table["group"] != "ovary")), ["F"])
    with pytest.raises(InputError, match="at least two groups; there is only 'crc'"):
        compare_groups(table[table["group"] == "crc"], ["F"])
    with pytest.raises(InputError, match="column 'tumour' is missing"):
        compare_groups(table, ["F"], by="tumour")
