"""The error of a drift against weighted least squares of statsmodels; what counts as b = 0."""

import numpy as np
import pytest
import statsmodels.api as sm

from histomri.mri import Acquisition, estimate_drift


@pytest.mark.parametrize("order", [1, 2])
def test_drift_and_its_error_are_those_of_weighted_least_squares(rng, order):
    # Four kinds of volumes, three of each; their levels, and the drift, are what is fitted.
    b = np.tile([0.0, 500.0, 1000.0, 2000.0], 3)
    protocol = Acquisition(b, 10.0, 30.0)
    time = np.arange(12) / 11
    level = 1000 * np.exp(-b / 1000 * 0.7) * np.exp(0.05 * time) * (1 + 0.003 * rng.standard_normal(12))
    signals = np.broadcast_to(level, (2, 2, 1, 12)).astype(float)
    found = estimate_drift(signals, np.ones((2, 2, 1), bool), protocol, order=order)
    powers = np.stack([time ** (power + 1) for power in range(order)], axis=1)
    kinds = (b[:, None] == np.unique(b)).astype(float)
    # The noise of a logarithm goes with the inverse of the signal.
    truth = sm.WLS(np.log(level), np.hstack([kinds, powers]), weights=level**2).fit()
    slope = truth.params[4:]
    np.testing.assert_allclose(np.log(found.factor), powers @ slope, atol=1e-9)
    end = np.r_[np.zeros(4), np.ones(order)]
    assert found.standard_error == pytest.approx(np.sqrt(end @ truth.cov_params() @ end), rel=1e-7)


def test_a_weighting_of_10_is_no_b_0():
    protocol = Acquisition([0.0, 5.0, 9.9, 10.0, 1000.0], 10.0, 30.0)
    assert protocol.is_b0.tolist() == [True, True, True, False, False]
