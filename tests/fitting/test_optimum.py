"""The optimum against scipy from many starts, on every protocol: the long version of what test_fit.py checks."""

import numpy as np
import pytest

from histomri.fitting import MODELS, PAPER_NAMES, fit, predict
from histomri.mri import Acquisition

PROTOCOLS = ("mouse-exvivo", "invivo-3t", "invivo-1.5t")


@pytest.mark.slow
@pytest.mark.parametrize("snr", [None, 30])
@pytest.mark.parametrize("preset", PROTOCOLS)
@pytest.mark.parametrize("model", PAPER_NAMES)
def test_the_objective_is_not_worse_than_scipy_on_any_protocol(model, preset, snr, rng, reference_fit):
    """The comparison is in half chi² at SNR 30, where 1e-3 is nothing; one valley in 60 may be missed."""
    whole = Acquisition.preset(preset)
    acquisition = whole.select(whole.b_smm2 > (1000 if preset == "mouse-exvivo" else 100))
    truth = {name: rng.uniform(*pair, 60) for name, pair in MODELS[model].bounds(preset).items()}
    signals, sigma = predict(model, truth, acquisition), None if snr is None else 1 / snr
    if snr is not None:
        signals = np.hypot(
            signals + sigma * rng.standard_normal(signals.shape), sigma * rng.standard_normal(signals.shape)
        )
    result = fit(signals, acquisition, model, sigma=sigma, s0=1.0, bmin_smm2=0, preset=preset)
    reference = reference_fit(model, acquisition, preset)
    values = np.stack([result.maps[name] for name in MODELS[model].parameters], axis=1)
    ours = np.array([reference.value(theta, y, sigma) for theta, y in zip(values, signals)])
    best = np.array([reference.best(y, sigma, rng, starts=4) for y in signals])
    # Without sigma the reference gives 1e4 times the sum of squares; half chi² at SNR 30 is 450 times it.
    scale = 450 / 1e4 if sigma is None else 1.0
    assert np.count_nonzero((ours - best) * scale > 1e-3) <= 1


def test_objectives_of_grouped_and_single_measurements_agree(rng):
    """Repeats that differ in noise level cannot be averaged: both ways must give the same voxel the same fit."""
    from histomri.fitting.composed_tables import engine_of

    mouse = Acquisition.preset("mouse-exvivo")
    acquisition = mouse.select(mouse.b_smm2 > 1000)
    truth = {"fI": rng.uniform(0.4, 0.8, 40), "D0I": 1.5, "vCS": rng.uniform(12, 20, 40)}
    signals = predict("diff-in", truth, acquisition) + rng.standard_normal((40, len(acquisition))) / 40
    engine = engine_of(MODELS["diff-in"], acquisition, MODELS["diff-in"].bounds("mouse-exvivo"))
    sigma = np.full(signals.shape, 1 / 40)
    together = engine.run(signals, sigma, "offset-gaussian")
    sigma[0, 0] *= 1 + 1e-8  # enough to keep all measurements apart
    apart = engine.run(signals, sigma, "offset-gaussian")
    np.testing.assert_allclose(together[:, 10], apart[:, 10], rtol=1e-7)
    np.testing.assert_allclose(together[:, [0, 2, 5, 7]], apart[:, [0, 2, 5, 7]], rtol=1e-3)


def test_the_exponential_of_the_kernels_is_that_of_numpy():
    from histomri.fitting.objective import exp

    x = -np.concatenate([np.linspace(0, 1, 300), np.geomspace(1e-9, 690, 700)])
    np.testing.assert_allclose([exp(each) for each in x], np.exp(x), rtol=2e-15)
    assert exp(-1e4) < 1e-300


def test_a_descent_ends_where_neither_strong_nor_weak_damping_promises_a_step():
    """Fast extra-cellular water at its bound: the search for a damping once went back and forth here for ever."""
    signals = [101.519, 95.954, 92.784, 75.243, 59.693, 51.44, 50.417, 80.87, 79.618, 72.482, 67.165, 51.871, 44.896,
               40.165, 64.642, 62.912, 58.241, 50.212, 42.68, 38.253, 35.094]  # fmt: skip
    result = fit([signals], "invivo-1.5t", "diff-in-extd-fast", preset="invivo-1.5t")
    assert result.maps["exit"][0] > 0
