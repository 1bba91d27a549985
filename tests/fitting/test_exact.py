"""Exact numbers that a slip of a factor, a sign or an inequality would change."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from histomri.fitting import Dictionary, Model, bootstrap, crlb, fit, fit_dki, fit_t2ivim, predict, predict_t2ivim
from histomri.fitting.scan import Scan
from histomri.mri import Acquisition, Sigma

MOUSE = Acquisition.preset("mouse-exvivo")


def test_errors_of_least_squares_are_those_of_linear_regression(rng):
    """SE² is the diagonal of SSR / (N - P) (JᵀJ)⁻¹; that of CD has the covariance of fI and size."""
    truth = {"fI": 0.6, "D0I": 1.5, "vCS": 18.0}
    signals = predict("diff-in", truth, MOUSE) + 0.002 * rng.standard_normal((4, 50))
    signals[:, MOUSE.is_b0] = 1
    result = fit(signals, MOUSE, "diff-in", noise="none")
    used = MOUSE.b_smm2 > 1000
    for v in range(4):
        names, best = list(truth), {name: result.maps[name][v] for name in truth}
        columns = []
        for name in names:
            step = 1e-4 * best[name]
            up, down = (predict("diff-in", best | {name: best[name] + sign * step}, MOUSE)[0] for sign in (1, -1))
            columns.append((up - down)[used] / (2 * step))
        jacobian = np.stack(columns, axis=1)
        squares = ((predict("diff-in", best, MOUSE)[0] - signals[v])[used] ** 2).sum()
        assert result.maps["cost"][v] == pytest.approx(squares, rel=1e-5)
        covariance = squares / (used.sum() - 3) * np.linalg.inv(jacobian.T @ jacobian)
        for i, name in enumerate(names):
            assert result.maps[f"{name}_se"][v] == pytest.approx(np.sqrt(covariance[i, i]), rel=2e-3)
        gradient = 1e9 / best["vCS"] ** 3 * np.array([1, 0, -3 * best["fI"] / best["vCS"]])
        assert result.maps["CD_se"][v] == pytest.approx(np.sqrt(gradient @ covariance @ gradient), rel=2e-3)


def test_later_echoes_are_noisier_by_the_decay_of_t2():
    b = [0, 1000, 1400, 1800, 2200, 2600]
    later = Acquisition(b, 10, 30, [31, 51, 51, 51, 51, 51])
    plain, relaxed = (crlb("diff-in", later, 40, bmin_smm2=900, t2t_ms=t2t).sd for t2t in (None, 20.0))
    for name, values in plain.items():
        np.testing.assert_allclose(relaxed[name], np.e * values, rtol=1e-6)


@pytest.mark.parametrize(
    ("preset", "bounds", "measurements"),
    [
        ("mouse-exvivo", {}, 6),  # b = 0 too
        ("mouse-exvivo", {"bmax_smm2": 2000}, 5),
        ("mouse-exvivo", {"bmin_smm2": 0}, 5),
        ("invivo-3t", {}, 4),  # b above 100
        ("invivo-3t", {"bmin_smm2": 99, "bmax_smm2": 2999}, 4),
    ],
)
def test_kurtosis_uses_b_above_the_one_and_up_to_the_other(preset, bounds, measurements):
    acquisition = Acquisition([0, 100, 500, 1000, 2000, 3000], 10, 30)
    found = fit_dki(np.exp(-acquisition.b_smm2 / 1000)[None], acquisition, preset=preset, **bounds)
    assert found.parameters["measurements"] == measurements


def test_t2ivim_without_noise_level_has_the_errors_of_its_residuals(rng):
    body = Acquisition.preset("invivo-3t")
    truth = {"S0": 1000.0, "fV": 0.15, "T2T": 45.0, "DV": 30.0, "T2V": 200.0, "DT": 1.0, "KT": 0.8}
    clean = predict_t2ivim(truth, body)
    signals = clean + rng.standard_normal((3, len(body)))
    bounds = {name: (truth[name], truth[name]) for name in ("DV", "T2V", "KT")}
    result = fit_t2ivim(signals, body, bounds=bounds)
    for v in range(3):
        best = truth | {name: result.maps[name][v] for name in ("S0", "fV", "T2T", "DT")}
        columns = []
        for name in ("S0", "fV", "T2T", "DT"):
            step = 1e-4 * best[name]
            up, down = (predict_t2ivim(best | {name: best[name] + sign * step}, body)[0] for sign in (1, -1))
            columns.append((up - down) / (2 * step))
        jacobian = np.stack(columns, axis=1)
        squares = ((predict_t2ivim(best, body)[0] - signals[v]) ** 2).sum()
        assert result.maps["cost"][v] == pytest.approx(squares / 2, rel=1e-6)
        covariance = squares / (len(body) - 4) * np.linalg.inv(jacobian.T @ jacobian)
        for i, name in enumerate(("S0", "fV", "T2T", "DT")):
            assert result.maps[f"{name}_se"][v] == pytest.approx(np.sqrt(covariance[i, i]), rel=2e-3)


def test_the_residual_bootstrap_makes_up_for_the_parameters_fitted(rng):
    """Ten measurements of three parameters: the residuals are a sixth smaller than the noise."""
    few = MOUSE.select(MOUSE.is_b0 | np.isin(MOUSE.b_smm2.round(), (2489, 2800)))
    signals = predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 18.0}, few)
    signals = signals + 1e-4 * rng.standard_normal((60, len(few)))
    signals[:, few.is_b0] = 1
    result = fit(signals, few, "diff-in", noise="none", bmin_smm2=1800)
    assert result.parameters["measurements"] == 10 and result.counts["fitted"] == 60
    spread = bootstrap(result, signals, few, count=60, kind="residual")
    assert np.median(spread["vCS_bootse"] / result.maps["vCS_se"]) == pytest.approx(1, abs=0.1)


def test_errors_of_a_dictionary_are_those_of_the_model_it_was_made_from(rng):
    few = MOUSE.select(MOUSE.is_b0 | np.isin(MOUSE.b_smm2.round(), (2489, 2800)))
    truth = {"fI": 0.6, "vCS": 15.0}
    places = np.array(list(product(np.linspace(0.3, 0.9, 7), np.linspace(9, 21, 13))))
    examples = predict("diff-in", {"fI": places[:, 0], "vCS": places[:, 1], "D0I": 1.5}, few)
    signals = predict("diff-in", truth | {"D0I": 1.5}, few) + 1e-3 * rng.standard_normal((20, len(few)))
    signals[:, few.is_b0] = 1
    held = Model("held", "Held", ("fI", "vCS"), fixed={"D0I": 1.5})
    by_model, by_examples = (
        fit(signals, few, model, noise="none", bmin_smm2=1800)
        for model in (held, Dictionary(("fI", "vCS"), places, examples))
    )
    for name in ("fI_se", "vCS_se", "CD_se"):
        assert np.median(by_examples.maps[name] / by_model.maps[name]) == pytest.approx(1, abs=0.03)


def test_the_signal_to_noise_ratio_is_the_median_at_the_shortest_echo():
    acquisition = Acquisition([0, 0, 1000, 0], 10, 30, [65, 41, 41, 41])
    signals = np.array([[10.0, 90, 5, 110], [10, 190, 5, 210], [10, 890, 5, 910], [np.nan] * 4])
    scan = Scan(SimpleNamespace(acquisition=acquisition), signals, Sigma(2.0), None, {}, [])
    assert scan.signal_to_noise() == 100


@pytest.mark.parametrize(("d0i", "bound"), [(0.5, 0.8), (3.0, 2.6)])
def test_a_parameter_at_either_bound_is_reported_and_has_no_error(d0i, bound):
    signals = predict("diff-in", {"fI": 0.6, "D0I": d0i, "vCS": 14.0}, MOUSE)
    signals[:, MOUSE.is_b0] = 1
    maps = fit(signals, MOUSE, "diff-in").maps
    assert maps["D0I"][0] == pytest.approx(bound, abs=1e-6) and maps["exit"][0] == 2
    assert np.isnan(maps["D0I_se"][0]) and np.isfinite(maps["vCS_se"][0])
