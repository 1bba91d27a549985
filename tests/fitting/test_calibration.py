"""Errors are as large as they are said to be: against the Cramér-Rao bound, and by the coverage of intervals."""

import numpy as np
import pytest

from histomri.fitting import MODELS, PAPER_NAMES, crlb, fit, predict
from histomri.mri import Acquisition

MOUSE = Acquisition.preset("mouse-exvivo")


def _recover(model, tissue, snr, count, rng, noise="offset-gaussian", acquisition=MOUSE, preset="mouse-exvivo"):
    """Return per parameter RMSE over the bound, and coverage of ±1.96 standard errors."""
    clean = predict(model, {name: np.full(count, value) for name, value in tissue.items()}, acquisition)
    signals = np.hypot(clean + rng.standard_normal(clean.shape) / snr, rng.standard_normal(clean.shape) / snr)
    result = fit(signals, acquisition, model, sigma=1 / snr, s0=1.0, noise=noise, preset=preset)
    bound = crlb(model, acquisition, snr, tissue, preset=preset)
    found = {}
    for name in (*MODELS[model].parameters, "CD"):
        true = tissue[name] if name != "CD" else 1e9 * tissue["fI"] / tissue["vCS"] ** 3
        off, error = result.maps[name] - true, result.maps[f"{name}_se"]
        known = np.isfinite(error)
        found[name] = (np.sqrt(np.mean(off**2)) / bound.sd[name][0], np.mean(np.abs(off[known]) < 1.96 * error[known]))
    return found, np.mean(result.maps["exit"] == 2)


@pytest.mark.parametrize("noise", ["offset-gaussian", "rician"])
@pytest.mark.parametrize("size", [16.0, 18.0, 20.0])
def test_at_snr_30_diff_in_reaches_the_bound_and_intervals_cover(size, noise, rng):
    """1500 voxels know a ratio to 2 % and a coverage to 0.6 %."""
    found, at_bound = _recover("diff-in", {"fI": 0.6, "D0I": 1.6, "vCS": size}, 30, 1500, rng, noise)
    assert at_bound < 0.06
    for name, (ratio, coverage) in found.items():
        assert 0.9 < ratio < 1.3, name
        assert 0.90 < coverage < 0.98, name


@pytest.mark.slow
@pytest.mark.parametrize("model", PAPER_NAMES)
def test_every_model_reaches_the_bound_where_noise_is_low_enough_to_stay_away_from_the_bounds(model, rng):
    tissue = {"fI": 0.6, "D0I": 1.6, "vCS": 16.0, "DEinf": 2.15, "beta": 5.0}
    tissue = {name: tissue[name] for name in MODELS[model].parameters}
    snr = 60.0
    while (
        max(
            crlb(model, MOUSE, snr, tissue).sd[n][0] / (b - a)
            for n, (a, b) in MODELS[model].bounds("mouse-exvivo").items()
        )
        > 0.05
    ):
        snr *= 1.5
    found, at_bound = _recover(model, tissue, snr, 4000, rng)
    assert at_bound < 0.02
    for name, (ratio, coverage) in found.items():
        assert 0.9 < ratio < 1.3, name
        assert 0.90 < coverage < 0.98, name


def test_parameters_at_their_bounds_are_flagged_and_the_others_say_that_they_hold_it():
    """In vivo the intrinsic diffusivity is not in the data: flags must say so where the bound speaks."""
    body = Acquisition.preset("invivo-3t")
    rng = np.random.default_rng(5)
    clean = predict("diff-in", {"fI": np.full(500, 0.5), "D0I": 1.9, "vCS": 16.0}, body)
    signals = np.hypot(clean + rng.standard_normal(clean.shape) / 30, rng.standard_normal(clean.shape) / 30)
    result = fit(signals, body, "diff-in", sigma=1 / 30, s0=1.0, preset="invivo-3t")
    flagged = result.maps["exit"] == 2
    assert flagged.mean() > 0.5
    lacks = np.isnan([result.maps[f"{name}_se"] for name in ("fI", "D0I", "vCS")]).any(axis=0)
    np.testing.assert_array_equal(flagged, lacks)
    for name, (low, high) in MODELS["diff-in"].bounds("invivo-3t").items():
        at = np.minimum(result.maps[name] - low, high - result.maps[name]) < 1e-6 * (high - low)
        np.testing.assert_array_equal(at, np.isnan(result.maps[f"{name}_se"]))
