"""Correlations against scipy and direct formulas."""

import csv
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from histomri.analysis import correlate
from histomri.analysis.correlation import p_value, ranked_without_one, resampling_weights, weighted_correlation
from histomri.core.errors import InputError

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # the same formula in another order of operations


@settings(deadline=None, max_examples=50)
@given(st.integers(4, 60), st.integers(0, 2**31), st.floats(-1e3, 1e3), st.sampled_from([1e-6, 1.0, 1e9]))
def test_pearson_against_scipy(n, seed, offset, scale):
    rng = np.random.default_rng(seed)
    x = scale * (offset + rng.normal(size=n))
    y = rng.normal(size=n) + 0.5 * x / scale
    truth = stats.pearsonr(x, y)
    found = correlate(x, y, interval="fisher")
    np.testing.assert_allclose([found.r, found.p], [truth.statistic, truth.pvalue], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.ci, truth.confidence_interval(0.95), rtol=1e-8, atol=1e-10)


def test_pearson_to_ten_digits(rng):
    x, y = rng.normal(size=(2, 25))
    truth = stats.pearsonr(x, y)
    found = correlate(x, y, interval="fisher")
    np.testing.assert_allclose([found.r, found.p], [truth.statistic, truth.pvalue], **EXACT)
    np.testing.assert_allclose(found.ci, truth.confidence_interval(0.95), **EXACT)


def test_spearman_against_scipy_with_ties(rng):
    x = rng.integers(0, 6, 30).astype(float)
    y = x + rng.integers(0, 5, 30)
    truth = stats.spearmanr(x, y)
    found = correlate(x, y, kind="spearman", interval="fisher")
    np.testing.assert_allclose([found.r, found.p], [truth.statistic, truth.pvalue], **EXACT)
    half = 1.959963984540054 * math.sqrt((1 + found.r**2 / 2) / 27)
    np.testing.assert_allclose(found.ci, np.tanh(np.arctanh(found.r) + np.array([-half, half])), **EXACT)


def test_missing_values_are_left_out_in_pairs(rng):
    x, y = rng.normal(size=(2, 12))
    x[3], y[7] = np.nan, np.inf
    kept = np.isfinite(x) & np.isfinite(y)
    found = correlate(x, y)
    assert (found.n, found.n_missing) == (10, 2)
    np.testing.assert_allclose(found.r, np.corrcoef(x[kept], y[kept])[0, 1], **EXACT)


def test_three_pairs_have_a_p_and_no_interval():
    x, y = [1.0, 2.0, 4.0], [1.0, 3.0, 3.5]
    found = correlate(x, y)
    truth = stats.pearsonr(x, y)
    np.testing.assert_allclose([found.r, found.p], [truth.statistic, truth.pvalue], **EXACT)
    assert found.ci is None and "three pairs" in found.note
    assert correlate(x, y, interval="fisher").ci is None


def test_a_perfect_order_has_no_interval():
    """Whatever is left out, the order stays perfect: nothing shows how sure it is."""
    for interval in ("jackknife", "fisher"):
        found = correlate([1, 2, 3, 5, 8], [0.1, 0.2, 0.9, 1.0, 7.0], kind="spearman", interval=interval)
        assert found.r == 1 and found.ci is None and "perfect order" in found.note


@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        ([1, 2], [3, 4], "2 pairs"),
        ([], [], "0 pairs"),
        ([5, 5, 5, 5], [1, 2, 3, 4], "constant"),
        ([1, 2, 3], [0.3, 0.3, 0.3], "constant"),
    ],
)
def test_what_cannot_be_correlated_says_so(x, y, note):
    found = correlate(x, y)
    assert math.isnan(found.r) and math.isnan(found.p) and found.ci is None and note in found.note


def test_perfect_correlation_stays_within_one():
    x = np.linspace(0.1, 0.7, 9)
    found = correlate(x, -3 * x + 1)
    assert found.r == pytest.approx(-1, abs=1e-12) and found.p < 1e-10 and -1 <= found.ci[0] <= found.ci[1] <= -1 + 1e-6


def test_refused():
    with pytest.raises(InputError, match="3 and 2 values"):
        correlate([1, 2, 3], [1, 2])
    with pytest.raises(InputError, match="confidence"):
        correlate([1, 2, 3], [1, 2, 3], confidence=95)
    with pytest.raises(InputError, match="bootstrap"):
        correlate([1, 2, 3], [1, 2, 3], interval="bootstrap")
    with pytest.raises(InputError, match="kendall"):
        correlate([1, 2, 3], [1, 2, 3], kind="kendall")


def test_resamples_against_a_loop(rng):
    x, y = rng.normal(size=(2, 8)) + 50
    weights = resampling_weights(8, 200, seed=3)
    assert (weights.sum(axis=1) == 8).all()
    found = weighted_correlation(weights, x, y)
    for row, r in zip(weights.astype(int), found):
        index = np.repeat(np.arange(8), row)
        if (row > 0).sum() < 3:
            assert math.isnan(r)
        else:
            np.testing.assert_allclose(r, np.corrcoef(x[index], y[index])[0, 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_jackknife_interval_against_a_loop(rng, kind):
    """Pairs left out one by one, what is left correlated by scipy; ties among the values."""
    x = rng.integers(0, 8, 14).astype(float)
    y = x + rng.integers(0, 6, 14)
    by_scipy = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[kind]
    each = np.arctanh([by_scipy(np.delete(x, case), np.delete(y, case)).statistic for case in range(14)])
    z, se = np.arctanh(by_scipy(x, y).statistic), math.sqrt(13 / 14 * ((each - each.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 13) * se
    found = correlate(x, y, kind=kind)
    np.testing.assert_allclose(found.ci, np.tanh([z - reach, z + reach]), **EXACT)
    assert correlate(x[::-1], y[::-1], kind=kind).ci == pytest.approx(found.ci, rel=1e-10)


def test_ranks_are_left_out_in_blocks(rng):
    """More pairs than fit in one block."""
    x, y = rng.normal(size=(2, 1300))
    left_out = [0, 700, 1299]
    found = ranked_without_one(stats.rankdata(x), stats.rankdata(y))[left_out]
    truth = [stats.spearmanr(np.delete(x, case), np.delete(y, case)).statistic for case in left_out]
    np.testing.assert_allclose(found, truth, **EXACT)


def test_a_pair_on_which_all_rests_is_skipped():
    """Without the last pair x is constant, so that nothing can be left out there."""
    found = correlate([1, 1, 1, 1, 2], [3, 5, 4, 6, 9])
    assert math.isfinite(found.r) and found.ci[0] < found.r < found.ci[1]


def test_printed_p_values_follow_from_their_r_and_n(reference):
    """Each printed r is rounded; its p must lie between those of the ends of the rounding."""
    sizes = {"r ": 25, "Ki67": 10, "TV": 140}  # samples behind the rows of Table 1, Fig. 6 and Fig. 7
    checked = dict.fromkeys(sizes, 0)
    with (reference / "paper_numbers.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            kind = next((kind for kind in sizes if row["quantity"].startswith(kind)), None)
            for r, p in re.findall(r"(-?0\.\d+) p=([\d.e-]+)", row["printed"]) if kind else ():
                half = 0.5 * 10.0 ** -len(r.split(".")[1])
                rounding = 0.5 * 10.0 ** -len(p.split(".")[1]) if "e" not in p else 0.005 * float(p)
                low, high = (p_value(max(abs(float(r)) + step, 0), sizes[kind] - 2) for step in (half, -half))
                assert low - rounding <= float(p) <= high + rounding, row
                checked[kind] += 1
    assert checked == {"r ": 9, "Ki67": 8, "TV": 6}


def test_critical_correlation_of_25_cases():
    assert p_value(0.396, 23) == pytest.approx(0.05, abs=5e-4)
