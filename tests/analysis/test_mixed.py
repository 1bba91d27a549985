"""Voxels within samples, against the analysis of covariance, dense matrices and statsmodels."""

import math
from itertools import permutations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLMParams

from histomri.analysis import random_intercept, repeated_correlation, within_between
from histomri.core.errors import InputError


def grouped(rng, sizes=(5, 9, 4, 12, 7, 3), slope=0.6, between=2.0):
    sample = np.repeat([f"s{k}" for k in range(len(sizes))], sizes)
    offsets = np.repeat(rng.normal(scale=between, size=len(sizes)), sizes)
    x = rng.normal(size=sample.size) + 0.5 * np.repeat(rng.normal(size=len(sizes)), sizes)
    return x, slope * x + offsets + rng.normal(size=sample.size), sample


def test_repeated_correlation_is_the_analysis_of_covariance(rng):
    x, y, sample = grouped(rng)
    names = np.unique(sample)
    dummies = (sample[:, None] == names).astype(float)
    full = sm.OLS(y, np.column_stack([dummies, x])).fit()
    without = sm.OLS(y, dummies).fit()
    r = math.copysign(math.sqrt((without.ssr - full.ssr) / without.ssr), full.params[-1])
    found = repeated_correlation(x, y, sample)
    np.testing.assert_allclose([found.r, found.p], [r, full.pvalues[-1]], rtol=1e-10)
    assert (found.df, found.n, found.n_samples) == (len(x) - len(names) - 1, len(x), len(names))
    half = stats.norm.ppf(0.975) / math.sqrt(found.df - 1)
    np.testing.assert_allclose(np.arctanh(found.ci), math.atanh(r) + np.array([-half, half]), rtol=1e-10)


def test_effective_numbers_of_equal_samples_replace_their_sizes(rng):
    """Samples of the same spread with m effective values each leave k (m - 1) - 1 degrees of freedom."""
    x, y = (np.tile(rng.normal(size=20), 4) for _ in "xy")
    sample = np.repeat(np.arange(4), 20)
    found = repeated_correlation(x, y, sample, n_eff=[8.0] * 4)
    assert found.df == pytest.approx(4 * 7 - 1, rel=1e-12)
    t = found.r * math.sqrt(found.df / (1 - found.r**2))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), found.df), rel=1e-10)
    assert repeated_correlation(x, y, sample, n_eff=[20.0] * 4).df == pytest.approx(4 * 19 - 1)


def test_degrees_of_freedom_of_unequal_samples_by_the_formula(rng):
    """1 / (df + 1) is the variance of r without correlation: each sample adds sxx syy / (n_eff - 1)."""
    sizes, n_eff = (30, 9, 61), (12.5, 4.2, 7.9)
    sample = np.repeat(["a", "b", "c"], sizes)
    spread = np.repeat([1.0, 6.0, 0.2], sizes)
    x, y = spread * rng.normal(size=100), np.sqrt(spread) * rng.normal(size=100) + 50
    sums_x = [sum((v - x[sample == s].mean()) ** 2 for v in x[sample == s]) for s in "abc"]
    sums_y = [sum((v - y[sample == s].mean()) ** 2 for v in y[sample == s]) for s in "abc"]
    variance = sum(a * b / (n - 1) for a, b, n in zip(sums_x, sums_y, n_eff)) / (sum(sums_x) * sum(sums_y))
    found = repeated_correlation(x, y, sample, n_eff=n_eff)
    assert found.df == pytest.approx(1 / variance - 1, rel=1e-10) and found.df < sum(n_eff) - 4
    # Never more than without any resemblance of neighbours.
    assert repeated_correlation(x, y, sample, n_eff=[1e6] * 3).df == 100 - 3 - 1


def test_degrees_of_freedom_of_unequal_samples_are_those_of_all_permutations(rng):
    """Values permuted within samples scatter r by exactly 1 / (df + 1), whatever their sizes and spreads."""
    sizes = (3, 4, 5)
    x, y = (np.concatenate([spread * rng.normal(size=n) for n, spread in zip(sizes, (1, 3, 0.5))]) for _ in "xy")
    sample = np.repeat(np.arange(3), sizes)
    covariances, squares = [], []
    for label in range(3):
        one, other = (values[sample == label] - values[sample == label].mean() for values in (x, y))
        covariances.append(np.array([one @ np.array(order) for order in permutations(other)]))
        squares.append((one @ one, other @ other))
    together = (covariances[0][:, None, None] + covariances[1][:, None] + covariances[2]).ravel()
    r = together / math.sqrt(np.prod(np.sum(squares, axis=0)))
    found = repeated_correlation(x, y, sample, n_eff=sizes)
    assert r.mean() == pytest.approx(0, abs=1e-12)
    assert found.df == pytest.approx(1 / np.mean(r**2) - 1, rel=1e-10) and found.df < sum(sizes) - 3 - 1
    assert found.r == pytest.approx(r[0], rel=1e-10)


def test_repeated_correlation_without_answer(rng):
    assert "fewer than two" in repeated_correlation([1, 2, 3], [2, 1, 3], ["a", "b", "c"]).note
    x, y, sample = grouped(rng)
    assert "no effective number" in repeated_correlation(x, y, sample, n_eff=[5, 5, math.nan, 5, 5, 5]).note
    with pytest.raises(InputError, match="2 effective numbers for 6"):
        repeated_correlation(x, y, sample, n_eff=[1, 2])


def restricted_likelihood(design, y, sample, within, between):
    """The textbook formula with dense matrices."""
    same = np.asarray(sample)[:, None] == np.asarray(sample)[None]
    v = within * np.eye(len(y)) + between * same
    inverse = np.linalg.inv(v)
    information = design.T @ inverse @ design
    beta = np.linalg.solve(information, design.T @ inverse @ y)
    residual = y - design @ beta
    terms = np.linalg.slogdet(v)[1] + np.linalg.slogdet(information)[1] + residual @ inverse @ residual
    likelihood = -0.5 * (terms + (len(y) - design.shape[1]) * math.log(2 * math.pi))
    return likelihood, beta, np.sqrt(np.diag(np.linalg.inv(information)))


@pytest.mark.parametrize("between", [0.0, 0.3, 4.0])
def test_random_intercept_against_dense_matrices(rng, between):
    x, y, sample = grouped(rng, between=between)
    design = np.column_stack([np.ones_like(x), x * 40 + 1000])
    found = random_intercept(design, y, sample)
    likelihood, beta, se = restricted_likelihood(design, y, sample, found.variance_within, found.variance_between)
    np.testing.assert_allclose(found.coefficients, beta, rtol=1e-10)
    np.testing.assert_allclose(found.standard_errors, se, rtol=1e-10)
    np.testing.assert_allclose(found.log_likelihood, likelihood, rtol=1e-10)
    for factor_within, factor_between in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        other = restricted_likelihood(
            design, y, sample, found.variance_within * factor_within, found.variance_between * factor_between
        )
        assert other[0] <= likelihood + 1e-9


def test_random_intercept_against_lmer():
    """The data Dyestuff of lme4, Yield ~ 1 + (1 | Batch); digits as R prints them (Bates et al. 2015)."""
    batches = (
        (1545, 1440, 1440, 1520, 1580), (1540, 1555, 1490, 1560, 1495), (1595, 1550, 1605, 1510, 1560),
        (1445, 1440, 1595, 1465, 1545), (1595, 1630, 1515, 1635, 1625), (1520, 1455, 1450, 1480, 1445),
    )  # fmt: skip
    found = random_intercept(np.ones((30, 1)), np.ravel(batches), np.repeat(np.arange(6), 5))
    variances = [found.variance_between, found.variance_within]
    assert variances == pytest.approx([1764.05, 2451.25], abs=0.005)
    assert found.coefficients[0] == pytest.approx(1527.5) and found.standard_errors[0] == pytest.approx(
        19.383, abs=5e-4
    )
    assert -2 * found.log_likelihood == pytest.approx(319.6543, abs=5e-5)  # the REML criterion


def test_random_intercept_against_statsmodels(rng):
    x, y, sample = grouped(rng, sizes=(20, 30, 25, 15, 40))
    design = np.column_stack([np.ones_like(x), x])
    found = random_intercept(design, y, sample)
    model = sm.MixedLM(y, design, groups=sample)
    truth = model.fit(reml=True)
    # The likelihood is the same function, and is not lower here, where statsmodels stops at a slope of 1e-5.
    parts = {"fe_params": found.coefficients, "cov_re": np.array([[found.variance_between / found.variance_within]])}
    here = model.loglike(MixedLMParams.from_components(**parts), profile_fe=False)
    np.testing.assert_allclose(found.log_likelihood, here, rtol=1e-10)
    np.testing.assert_allclose(found.coefficients, truth.fe_params, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.standard_errors, truth.bse_fe, rtol=1e-3)
    assert found.log_likelihood >= truth.llf - 1e-8


def test_within_and_between_are_two_different_slopes(rng):
    """In equal samples the one within is the slope of ANCOVA, the one between that of the means."""
    k, m = 8, 15
    sample = np.repeat(np.arange(k), m)
    means = np.repeat(rng.normal(size=k) * 3, m)
    x = means + rng.normal(size=k * m)
    y = 2.0 * (x - means) - 1.0 * means + np.repeat(rng.normal(size=k), m) + rng.normal(size=k * m)
    within, between, _ = within_between(x, y, sample)
    dummies = (sample[:, None] == np.arange(k)).astype(float)
    ancova = sm.OLS(y, np.column_stack([dummies, x])).fit()
    of_means = sm.OLS(y.reshape(k, m).mean(axis=1), sm.add_constant(x.reshape(k, m).mean(axis=1))).fit()
    np.testing.assert_allclose([within.slope, within.se], [ancova.params[-1], ancova.bse[-1]], rtol=1e-10)
    np.testing.assert_allclose([between.slope, between.se], [of_means.params[1], of_means.bse[1]], rtol=1e-10)
    np.testing.assert_allclose([within.p, between.p], [ancova.pvalues[-1], of_means.pvalues[1]], rtol=1e-10)
    assert within.slope > 1.5 and between.slope < -0.5
    wider, _, _ = within_between(x, y, sample, df_within=20.0)
    assert wider.df == 20 and wider.se == pytest.approx(within.se * math.sqrt((k * m - k - 1) / 20))


def test_refused(rng):
    x, y, sample = grouped(rng)
    with pytest.raises(InputError, match="2 samples are too few"):
        within_between(x, y, np.where(sample == "s0", "a", "b"))
    with pytest.raises(InputError, match="constant, or a sum"):
        random_intercept(np.column_stack([np.ones_like(x), np.full_like(x, 2.0)]), y, sample)
    with pytest.raises(InputError, match="too few for a random intercept"):
        random_intercept(np.ones((5, 1)), [1, 2, 3, 4, 5], ["a"] * 5)
