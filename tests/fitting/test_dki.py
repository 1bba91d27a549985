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


B = np.linspace(0, 2800, 10)
ALONE = Acquisition(B)


def _noisy(rng, snr, count=2000, adc=1.2, kurtosis=0.6):
    signals = _signals([adc] * count, [kurtosis] * count, ALONE, s0=1.0)
    noise = rng.standard_normal((2, *signals.shape)) / snr
    return np.hypot(signals + noise[0], noise[1])


@pytest.mark.parametrize(("snr", "tolerance"), [(50, 0.02), (20, 0.05)])
def test_the_noise_floor_is_not_taken_for_kurtosis(rng, snr, tolerance):
    """True K 0.6: the median of 2000 voxels is known to 0.01 at SNR 20; least squares are 0.05 too high there."""
    signals = _noisy(rng, snr)
    found = fit_dki(signals, ALONE, sigma=1 / snr)
    assert np.median(found.maps["K"]) == pytest.approx(0.6, abs=tolerance)
    assert np.median(found.maps["ADC"]) == pytest.approx(1.2, abs=0.03)
    plain = fit_dki(signals, ALONE, sigma=1 / snr, noise="none")
    np.testing.assert_array_equal(plain.maps["K"], fit_dki(signals, ALONE).maps["K"])
    assert (found.parameters["noise"], plain.parameters["noise"]) == ("offset-gaussian", "none")
    if snr == 20:
        assert np.median(plain.maps["K"]) > 0.63
        assert any("times the noise, whose floor passes for kurtosis" in text for text in plain.warnings)
        assert not any("floor" in text for text in found.warnings)


def test_standard_errors_are_the_scatter_and_hold_the_truth(rng):
    """2000 repeats tell a spread to 2 %; with noise level and without. 95 % is nominal, curvature costs a little."""
    signals = _noisy(rng, 100)
    for sigma in (0.01, None):
        maps = fit_dki(signals, ALONE, sigma=sigma).maps
        for name, truth in (("ADC", 1.2), ("K", 0.6), ("S0", 1.0)):
            score = (maps[name] - truth) / maps[f"{name}_se"]
            if sigma is not None:  # from 7 residuals an error is itself uncertain
                assert np.std(score) == pytest.approx(1, abs=0.07), name
            assert 0.88 < np.mean(np.abs(score) < 1.96) < 0.97, name


def test_offset_gaussian_reaches_the_minimum_that_scipy_finds(rng):
    signals, sigma = _noisy(rng, 20, count=40), 0.05
    b = B / 1000

    def residuals(p, y):
        s = p[0] * np.exp(-b * p[1] + p[2] * (b * p[1]) ** 2 / 6)
        return (np.sqrt(s**2 + sigma**2) - y) / sigma

    found = fit_dki(signals, ALONE, sigma=sigma).maps
    for y, cost in zip(signals, found["cost"]):
        best = min(
            2 * least_squares(residuals, [1, start, k], bounds=([0, 0, -1], [np.inf, 5, 5]), args=(y,)).cost
            for start in (0.5, 1.2, 2.0) for k in (0.0, 1.5)
        )  # fmt: skip
        assert cost <= best * (1 + 1e-5)


def test_kurtosis_is_that_of_dipy(rng):
    """DIPY's tensor fit of the same isotropic, noise-free signals: its mean kurtosis, to 1 %."""
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dki import DiffusionKurtosisModel

    directions = rng.standard_normal((30, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    b = np.r_[0, np.repeat([700, 1400, 2000], 30)]
    table = gradient_table(b.astype(float), bvecs=np.vstack([[0, 0, 0], *[directions] * 3]), b0_threshold=10)
    acquisition = Acquisition(b)
    for adc, kurtosis in ((0.9, 0.4), (0.6, 1.1)):
        signals = _signals([adc], [kurtosis], acquisition)
        dipy = DiffusionKurtosisModel(table).fit(signals[0])
        found = fit_dki(signals, acquisition).maps
        assert found["K"][0] == pytest.approx(float(dipy.mk(min_kurtosis=-1, max_kurtosis=5)), rel=0.01)
        assert found["ADC"][0] == pytest.approx(1000 * float(dipy.md), rel=0.01)


def test_bounds_hold_and_bad_options_are_refused(rng):
    signals = _noisy(rng, 10, count=200)
    maps = fit_dki(signals, ALONE, sigma=0.1, bounds={"K": (0, 1.5)}).maps
    assert maps["K"].min() >= 0 and maps["K"].max() <= 1.5
    at = (maps["K"] == 0) | (maps["K"] == 1.5)
    assert at.any() and np.all(maps["exit"][at] == 2) and np.all(np.isnan(maps["K_se"][at]))
    assert np.all(np.isfinite(maps["ADC_se"][~at & (maps["exit"] == 1)]))
    for options, message in (
        ({"bounds": {"D": (0, 1)}}, "does not fit D"),
        ({"bounds": {"K": (2, 1)}}, "makes no sense"),
        ({"sigma": 0.0}, "above 0"),
        ({"noise": "offset-gaussian"}, "needs the noise level"),
        ({"noise": "rician", "sigma": 0.1}, "no rician"),
        ({"Delta_ms": 30.0}, "no diffusion times"),
    ):
        with pytest.raises(InputError, match=message):
            fit_dki(signals, ALONE, **options)
    with pytest.raises(ProtocolError, match="one shell determines no kurtosis"):
        fit_dki(np.ones((3, 4)), Acquisition([0, 1000, 1000, 1000]))
    level = np.full(200, 0.1)
    level[3] = np.nan
    assert fit_dki(signals, ALONE, sigma=level).maps["exit"][3] == -1
