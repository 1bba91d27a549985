import numpy as np
import pytest
from scipy.optimize import least_squares

from histomri.core.errors import InputError, ProtocolError
from histomri.fitting import fit_dki
from histomri.mri import Acquisition

MOUSE = Acquisition.preset("mouse-exvivo")


def _signals(adc, kurtosis, acquisition, s0=100.0):
    decay = acquisition.b_smm2 / 1000 * np.asarray(adc)[:, None]
    return s0 * np.exp(-decay + np.asarray(kurtosis)[:, None] * decay**2 / 6)


def test_noise_free_signals_give_their_parameters_back(rng):
    adc, kurtosis = rng.uniform(0.2, 1.2, 400), rng.uniform(-0.3, 2.0, 400)
    result = fit_dki(_signals(adc, kurtosis, MOUSE), MOUSE)
    np.testing.assert_allclose(result.maps["ADC"], adc, rtol=1e-5)
    np.testing.assert_allclose(result.maps["K"], kurtosis, atol=1e-4)
    np.testing.assert_allclose(result.maps["S0"], 100, rtol=1e-6)


def test_noisy_signals_reach_the_minimum_that_scipy_finds(rng):
    signals = _signals(rng.uniform(0.3, 1.5, 60), rng.uniform(0, 1.5, 60), MOUSE)
    signals = np.abs(signals + 4 * rng.standard_normal(signals.shape))
    result = fit_dki(signals, MOUSE)
    used = (MOUSE.te_ms == 45) & ((MOUSE.Delta_ms == 30) | MOUSE.is_b0)
    b = MOUSE.b_smm2[used] / 1000
    for y, cost in zip(signals[:, used], result.maps["cost"]):
        best = min(
            least_squares(
                lambda p, y=y: p[0] * np.exp(-b * p[1] + p[2] * (b * p[1]) ** 2 / 6) - y,
                [y.max(), start, 0.5], bounds=([0, 0, -1], [np.inf, 5, 5]),
            ).cost * 2
            for start in (0.3, 0.8, 1.5)
        )  # fmt: skip
        assert cost <= best * (1 + 1e-5)


def test_measurements_are_chosen_as_the_preset_says():
    result = fit_dki(np.ones((1, 50)), MOUSE)
    assert (result.parameters["te_ms"], result.parameters["Delta_ms"], result.parameters["measurements"]) == (
        45,
        30,
        11,
    )
    body = Acquisition.preset("invivo-3t")
    result = fit_dki(np.ones((1, 21)), body, preset="invivo-3t")
    assert (result.parameters["te_ms"], result.parameters["bmin_smm2"], result.parameters["measurements"]) == (
        75,
        100,
        4,
    )


def test_codes_and_refusals():
    signals = np.tile(_signals([0.8], [0.5], MOUSE), (4, 1))
    signals[1] = 0
    signals[2, 31] = np.nan
    np.testing.assert_array_equal(fit_dki(signals, MOUSE).maps["exit"], [1, 0, -1, 1])
    with pytest.raises(ProtocolError, match="fewer than three b-values"):
        fit_dki(signals, MOUSE, bmin_smm2=2500)
    with pytest.raises(ProtocolError, match=r"fewer than three .* or echo time \(31, 45, 65 ms\)"):
        fit_dki(signals, MOUSE, te_ms=50)
    no_te = Acquisition(MOUSE.b_smm2, MOUSE.delta_ms, MOUSE.Delta_ms)
    with pytest.raises(ProtocolError, match="the protocol has no echo times"):
        fit_dki(signals, no_te, te_ms=45)
    with pytest.raises(InputError, match="the protocol has 50"):
        fit_dki(signals[:, :9], MOUSE)


def test_a_voxel_does_not_depend_on_how_many_others_there_are(rng):
    """To the bit: results must not depend on samples, chunks or threads, which products of matrices do."""
    signals = _signals(rng.uniform(0.3, 1.5, 997), rng.uniform(0, 1.5, 997), MOUSE)
    signals = np.abs(signals + 4 * rng.standard_normal(signals.shape))
    whole = fit_dki(signals, MOUSE).maps
    for part in (slice(0, 1), slice(3, 10), slice(500, 997)):
        for name, values in fit_dki(signals[part], MOUSE).maps.items():
            np.testing.assert_array_equal(values, whole[name][part], err_msg=name)
