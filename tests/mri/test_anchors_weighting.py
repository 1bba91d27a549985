"""b-values that follow from gradient shapes and strengths, as in the reference tables (tests/data/reference)."""

import numpy as np
import pandas as pd
import pytest

from histomri.mri import Acquisition, pulse_pair, twice_refocused


def test_b_of_twice_refocused_gradients_follows_from_their_strength(reference):
    table = pd.read_csv(reference / "sphere_trse_reference.csv")
    for row in table.itertuples():
        waveform = twice_refocused((row.delta1, row.delta2, row.delta3), row.Delta12, row.Delta14)
        # b = (γG)² weighting, ms/µm²; the strength has ten digits.
        assert 1000 * row.gammaG_per_um_ms**2 * waveform.weighting == pytest.approx(row.b_smm2, rel=1e-8)
        assert waveform.duration_ms[3] == pytest.approx(row.delta4_used, abs=1e-9)


def test_weighting_of_a_pulse_pair():
    for delta, separation in ((10, 30), (3.9, 27.8), (1, 1), (20, 200)):
        assert pulse_pair(delta, separation).weighting == pytest.approx(delta**2 * (separation - delta / 3), rel=1e-12)


def test_weighting_of_a_twice_refocused_gradient():
    d1, d2, d3, d12, d14 = 8.9, 17.6, 20.4, 17.4, 63.9
    area = d1 + d2
    # The dephasing rises to δ1, waits, rises to δ1 + δ2, falls over δ3, waits, and falls to zero over δ4.
    known = d1**2 * (d12 - d1) + 2 / 3 * area**3 + (area - d3) ** 2 * (d14 - d12 - d2 - d3)
    assert twice_refocused((d1, d2, d3), d12, d14).weighting == pytest.approx(known, rel=1e-12)
    protocol = Acquisition.trse([1000.0], [d1, d2, d3], d12, d14)
    assert protocol.Delta_ms[0] == pytest.approx(d12 + d2) and protocol.delta_ms[0] == pytest.approx(d1 + d2)


def test_weighting_is_the_integral_of_the_squared_dephasing():
    waveform = twice_refocused((13.2, 19.3, 24.8), 21.7, 74.2)
    end = waveform.start_ms[-1] + waveform.duration_ms[-1]
    times = np.linspace(0, end, 200_001)
    gradient = np.zeros_like(times)
    for start, duration, amplitude in zip(waveform.start_ms, waveform.duration_ms, waveform.amplitude):
        gradient[(times >= start) & (times < start + duration)] = amplitude
    step = times[1]
    dephasing = np.cumsum(gradient) * step
    # A sum of 200,000 rectangles, each edge off by up to one of them.
    assert (dephasing**2).sum() * step == pytest.approx(waveform.weighting, rel=2e-4)
