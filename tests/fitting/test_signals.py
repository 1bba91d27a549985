import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from histomri.core.errors import InputError
from histomri.fitting import MODELS, PAPER_NAMES, predict, sphere_adc
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition, Waveform, pulse_pair

ONE = Acquisition([1000.0], [10.0], [30.0])


def test_pulse_pairs_agree_with_the_reference_table(reference):
    table = pd.read_csv(reference / "sphere_pgse_reference.csv")
    acquisition = Acquisition(table.b_smm2, table.delta_ms, table.Delta_ms)
    adc = np.diagonal(sphere_adc(table.L_um, table.D0_um2ms, acquisition))
    # The table's own digits end at 1e-11; the claim is 1e-9.
    np.testing.assert_allclose(adc, table.ADC_gpa_um2ms, rtol=1e-9)
    np.testing.assert_allclose(np.exp(-table.b_smm2 / 1000 * adc), table.S_gpa, atol=1e-9)


def test_twice_refocused_gradients_agree_with_the_reference_table(reference):
    table = pd.read_csv(reference / "sphere_trse_reference.csv")
    lobes = table[["delta1", "delta2", "delta3", "delta4_used"]].to_numpy()
    acquisition = Acquisition.trse(table.b_smm2, lobes, table.Delta12, table.Delta14, table.TE_ms)
    adc = np.diagonal(sphere_adc(table.L_um, table.D0_um2ms, acquisition))
    np.testing.assert_allclose(adc, table.ADC_gpa_um2ms, rtol=1e-9)


def test_agreement_with_the_exact_sphere_is_what_the_approximation_allows(reference):
    table = pd.read_csv(reference / "sphere_pgse_reference.csv")
    acquisition = Acquisition(table.b_smm2, table.delta_ms, table.Delta_ms)
    signal = np.exp(-table.b_smm2 / 1000 * np.diagonal(sphere_adc(table.L_um, table.D0_um2ms, acquisition)))
    assert np.abs(signal - table.S_exact).max() < 0.04


def test_a_pulse_cut_in_two_is_the_same_pulse():
    cut = Waveform((0, 4, 30, 37), (4, 6, 7, 3), (1, 1, -1, -1))
    radius = np.geomspace(1, 3000, 60)
    np.testing.assert_allclose(relative_adc(1.7 / radius**2, cut), relative_adc(1.7 / radius**2, pulse_pair(10, 30)),
                               rtol=1e-10)  # fmt: skip


def test_the_double_integral_itself():
    """ADC b = ½ Σ B ∫∫ g(t) g(t') exp(-a|t-t'|), integrated numerically for an odd-shaped gradient."""
    waveform = Waveform((0, 9, 25), (5, 4, 7), (1.0, 0.5, -1.0))
    radius, d0 = 6.0, 1.3
    x = np.array([2.0815759778, 5.9403699905, 9.2058401429, 12.4044450219, 15.5792364104])
    pieces = list(zip(waveform.start_ms, waveform.duration_ms, waveform.amplitude))
    total = 0.0
    for root in x:
        a = root**2 * d0 / radius**2

        def inner(t, a=a):
            value = 0.0
            for start, duration, amplitude in pieces:
                below = np.clip(t, start, start + duration)
                left = (np.exp(-a * (t - below)) - np.exp(-a * (t - start))) / a if t > start else 0.0
                right = (
                    (np.exp(-a * (below - t)) - np.exp(-a * (start + duration - t))) / a
                    if t < start + duration
                    else 0.0
                )
                value += amplitude * (left + right)
            return value

        double = sum(amp * quad(inner, start, start + dur, limit=200)[0] for start, dur, amp in pieces)
        total += 0.5 * 2 * radius**2 / (root**2 * (root**2 - 2)) * double
    # Five roots leave a tail of a few 1e-5 of the sum.
    assert relative_adc(d0 / radius**2, waveform) == pytest.approx(total / waveform.weighting / d0, rel=2e-4)


def test_small_spheres_follow_the_motional_narrowing_limit():
    radius, d0 = 0.02, 1.5
    limit = 16 * radius**4 / (175 * d0 * 10 * (30 - 10 / 3))
    assert sphere_adc(2 * radius, d0, ONE)[0] == pytest.approx(limit, rel=1e-5)


def test_large_spheres_are_free_and_no_step_lies_between_the_formulas():
    assert sphere_adc(np.inf, 1.5, ONE)[0] == 1.5
    assert sphere_adc(0.0, 1.5, ONE)[0] == 0.0
    assert sphere_adc(1e5, 1.5, ONE)[0] == pytest.approx(1.5, rel=2e-4)
    rate = np.geomspace(1e-9, 1e3, 40_001)
    values = relative_adc(rate, pulse_pair(10, 30))
    assert np.all(np.diff(values) < 0)
    # The logarithm bends smoothly; a seam between numbers of roots would show as a spike in the curvature.
    assert np.abs(np.diff(np.log(values), 3)).max() < 2e-7


def test_shapes_broadcast():
    acquisition = Acquisition([0, 1000, 2000], [0, 10, 10], [0, 15, 30])
    adc = sphere_adc(np.full((7, 1), 12.0), np.full((1, 9), 1.2), acquisition)
    assert adc.shape == (7, 9, 3)
    assert np.all(adc[..., 0] == 0)
    assert adc[3, 4, 2] == sphere_adc(12.0, 1.2, acquisition.select([2]))[0]


@pytest.mark.parametrize("size", [-1.0, np.nan])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(InputError, match="at least 0"):
        sphere_adc(size, 1.0, ONE)


@pytest.mark.parametrize("model", [name for name in PAPER_NAMES if name != "diff-in"])
def test_models_are_one_at_b_zero_and_collapse_to_their_limits(model):
    acquisition = Acquisition([0, 1000, 2500], [10, 10, 10], [30, 15, 30])
    value = {"fI": [0.6, 1.0, 0.0], "D0I": 1.4, "vCS": 14.0, "DEinf": 2.0, "beta": 0.0}
    signal = predict(model, value, acquisition)
    np.testing.assert_allclose(signal[:, 0], 1.0, atol=1e-15)
    # All intra-cellular: Diff-in. None: free decay.
    np.testing.assert_allclose(signal[1], predict("diff-in", value, acquisition)[1], atol=1e-15)
    np.testing.assert_allclose(signal[2], np.exp(-acquisition.b_smm2 / 1000 * 2.0), atol=1e-15)
    with_beta = predict(model, value | {"beta": 6.0}, acquisition)
    if "beta" in MODELS[model].parameters:
        np.testing.assert_allclose(
            with_beta[2], np.exp(-acquisition.b_smm2 / 1000 * (2.0 + 6.0 / acquisition.Delta_ms))
        )
    else:
        np.testing.assert_array_equal(with_beta, signal)


def test_diff_in_gives_its_fraction_at_b_zero():
    signal = predict("diff-in", {"F": 0.4, "D0I": 1.4, "L": 14.0}, Acquisition([0, 1000], 10, 30))
    assert signal[0, 0] == pytest.approx(0.4)


def test_a_missing_parameter_is_named():
    with pytest.raises(InputError, match="DEinf"):
        predict("diff-in-ex", {"fI": 0.4, "D0I": 1.4, "vCS": 14.0}, ONE)
    with pytest.raises(InputError, match="choose among diff-in"):
        predict("diff-out", {}, ONE)
