"""Power of a correlation against simulation, published tables, and the search for N."""

import numpy as np
import pytest
from scipy import stats

from histomri.analysis import correlation_power, critical_correlation, detectable_correlation, sample_size
from histomri.analysis.correlation import p_value
from histomri.core.errors import InputError


@pytest.mark.parametrize(("r", "n"), [(0.4, 25), (-0.6, 10), (0.9, 5), (0.2, 80)])
def test_power_against_simulation(r, n):
    """40000 studies: standard error at most 0.25 %."""
    rng = np.random.default_rng(3)
    x, e = rng.normal(size=(2, 40000, n))
    y = r * x + np.sqrt(1 - r * r) * e
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    found = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    rate = np.mean(np.abs(found) > critical_correlation(n))
    assert correlation_power(r, n) == pytest.approx(rate, abs=0.008)


def test_power_against_integrals_of_the_noncentral_t():
    length = np.linspace(1e-6, 14, 20001)
    weight = stats.chi.pdf(length, 24)
    shift = 0.4 / np.sqrt(1 - 0.16) * length
    critical = stats.t.ppf(0.975, 23)
    inside = stats.nct.cdf(critical, 23, shift) - stats.nct.cdf(-critical, 23, shift)
    truth = 1 - np.trapezoid(inside * weight, length)
    assert correlation_power(0.4, 25) == pytest.approx(truth, abs=1e-10)


def test_no_correlation_is_found_at_the_level():
    assert correlation_power(0.0, 12, alpha=0.03) == pytest.approx(0.03, rel=1e-10)


def test_the_papers_statement():
    """N = 25 and r = 0.4: a power of about 50 %, and |r| from 0.396 is significant."""
    assert correlation_power(0.4, 25) == pytest.approx(0.5, abs=0.03)
    assert critical_correlation(25) == pytest.approx(0.396, abs=5e-4)
    assert p_value(critical_correlation(25), 23) == pytest.approx(0.05, rel=1e-10)


@pytest.mark.parametrize(("r", "power", "n"), [(0.3, 0.8, 84), (0.5, 0.8, 29), (0.3, 0.95, 138), (0.1, 0.8, 782)])
def test_sample_size_against_exact_tables(r, power, n):
    """The exact bivariate normal model of common planning software."""
    assert sample_size(r, power=power) == n
    assert correlation_power(r, n) >= power > correlation_power(r, n - 1)
    assert sample_size(-r, power=power) == n


def test_detectable_correlation_has_the_power():
    for n in (4, 10, 25, 400):
        assert correlation_power(detectable_correlation(n), n) == pytest.approx(0.8, abs=1e-9)
    assert detectable_correlation(25, power=0.9) > detectable_correlation(25)
    assert correlation_power(1.0, 5) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: correlation_power(1.2, 10),
        lambda: correlation_power(0.3, 2),
        lambda: sample_size(0.0),
        lambda: sample_size(0.3, power=1.0),
        lambda: sample_size(1e-7),
        lambda: detectable_correlation(3),
        lambda: detectable_correlation(20, alpha=0.0),
        lambda: critical_correlation(2),
    ],
)
def test_refused(wrong):
    with pytest.raises(InputError):
        wrong()
