import numpy as np
import pytest
from scipy.stats import rice

from histomri.core.errors import InputError
from histomri.fitting import bootstrap, fit, predict, residuals
from histomri.fitting.misfit import mean_signal
from histomri.mri import Acquisition

MOUSE = Acquisition.preset("mouse-exvivo")
SIGMA = 4.0


def _noisy(rng, count, sigma=SIGMA):
    truth = {"fI": np.full(count, 0.6), "D0I": 1.5, "vCS": 15.0}
    clean = 100 * predict("diff-in", truth, MOUSE)
    noise = sigma * rng.standard_normal((2, *clean.shape))
    return np.hypot(clean + noise[0], noise[1])


def test_the_mean_of_each_noise_model():
    signal, sigma = np.array([0.0, 0.02, 0.1, 3.0]), np.full(4, 0.1)
    np.testing.assert_allclose(mean_signal(signal, sigma, "rician"), rice.mean(signal / sigma, scale=sigma), rtol=1e-9)
    np.testing.assert_array_equal(mean_signal(signal, sigma, "none"), signal)
    assert mean_signal(signal, sigma, "offset-gaussian")[0] == pytest.approx(0.1)


def test_residuals_of_the_right_model_are_the_noise_and_of_the_wrong_one_show_where(rng):
    """2000 voxels x 3 echoes per point: means are known to 0.013 of the noise; the Rician mean differs by 0.03."""
    signals = _noisy(rng, 2000)
    result = fit(signals, MOUSE, "diff-in", sigma=SIGMA, s0=100.0)
    left = residuals(result, signals, MOUSE, sigma=SIGMA, s0=100.0)
    table = left.table()
    assert len(table) == 30 and table.n.sum() == 2000 * 30
    assert np.abs(table.z_mean).max() < 0.15
    # Of 30 measurements, 3 are spent on parameters.
    assert np.sqrt((left.values**2).mean()) == pytest.approx(0.04 * np.sqrt(27 / 30), rel=0.03)
    assert left.rms.shape == (2000,)
    disturbed = signals.copy()
    disturbed[:, MOUSE.b_smm2 > 2700] *= 1.3
    result = fit(disturbed, MOUSE, "diff-in", sigma=SIGMA, s0=100.0)
    table = residuals(result, disturbed, MOUSE, sigma=SIGMA, s0=100.0).table()
    assert table.loc[table.z_mean.idxmin(), "b_smm2"] == 2800 and table.z_mean.min() < -0.5
    assert np.abs(table.t).max() > 4


def test_background_is_left_out_and_a_forgotten_noise_level_named(rng):
    signals = _noisy(rng, 4)
    signals[2] = 0
    result = fit(signals, MOUSE, "diff-in")
    left = residuals(result, signals, MOUSE)
    assert np.isnan(left.values[2]).all() and np.isfinite(left.values[[0, 1, 3]]).all()
    np.testing.assert_allclose((left.values[0] ** 2).sum(), result.maps["cost"][0], rtol=1e-6)
    assert "z_mean" not in left.table()
    result = fit(signals, MOUSE, "diff-in", sigma=SIGMA)
    with pytest.raises(InputError, match="give sigma"):
        residuals(result, signals, MOUSE)
    with pytest.raises(InputError, match="4 voxels"):
        residuals(result, signals[:3], MOUSE, sigma=SIGMA)


@pytest.mark.parametrize("kind", ["parametric", "residual"])
def test_bootstrap_spread_is_that_of_repeated_scans(kind, rng):
    """Low noise, where everything is nearly linear: the spread over 300 scans, known to 4 %, within 15 %."""
    signals = _noisy(rng, 300, sigma=0.25)
    given = {"sigma": 0.25, "s0": 100.0}
    result = fit(signals, MOUSE, "diff-in", **given)
    some = slice(0, 12)
    part = fit(signals[some], MOUSE, "diff-in", **given)
    spread = bootstrap(part, signals[some], MOUSE, count=150, kind=kind, **given)
    for name in ("fI", "vCS", "CD"):
        assert np.mean(spread[f"{name}_bootse"]) == pytest.approx(result.maps[name].std(), rel=0.15)
        assert np.all(spread[f"{name}_low"] < spread[f"{name}_high"])
    again = bootstrap(part, signals[some], MOUSE, count=150, kind=kind, **given)
    np.testing.assert_array_equal(spread["vCS_bootse"], again["vCS_bootse"])


def test_bootstrap_refusals(rng):
    signals = _noisy(rng, 3)
    signals[1] = 0
    result = fit(signals, MOUSE, "diff-in")
    for wrong, message in (
        ({"count": 1}, "at least 2"),
        ({"kind": "jackknife"}, "parametric or residual"),
        ({}, "give sigma"),
    ):
        with pytest.raises(InputError, match=message):
            bootstrap(result, signals, MOUSE, **wrong)
    assert np.isnan(bootstrap(result, signals, MOUSE, kind="residual", count=3)["vCS_low"]).tolist() == [
        False,
        True,
        False,
    ]
