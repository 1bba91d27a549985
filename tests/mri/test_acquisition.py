import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.errors import ProtocolError
from histomri.core.presets import PRESETS
from histomri.mri import Acquisition, Waveform, pulse_pair, twice_refocused


def test_presets_are_the_papers_protocols():
    mouse = Acquisition.preset("mouse-exvivo")
    assert len(mouse) == 50
    assert sorted(set(zip(mouse.Delta_ms.tolist(), mouse.te_ms.tolist()))) == [
        (15, 31), (15, 45), (15, 65), (30, 45), (30, 65),
    ]  # fmt: skip
    np.testing.assert_allclose(np.unique(np.diff(mouse.b_smm2[:10])), 2800 / 9)
    assert (mouse.b_smm2 > 1800).sum() == 20
    body = Acquisition.preset("invivo-3t")
    assert len(body) == 21 and (body.b_smm2 > 900).sum() == 6
    row = np.flatnonzero((body.te_ms == 105) & (body.b_smm2 == 1200))[0]
    assert (body.delta_ms[row], body.Delta_ms[row]) == (15.8, 39.6)
    older = Acquisition.preset("invivo-1.5t")
    assert len(older) == 21 and older.b_smm2.max() == 1600
    assert older.waveforms[20].duration_ms == pytest.approx((18.9, 21.0, 30.5, 9.4))
    assert set(PRESETS) == {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1e9], [0, 10], [0, 30]), "s/m²"),
        (([0, 1.5], [0, 10], [0, 30]), "s/mm²"),
        (([0, 1000], [0, 0.010], [0, 0.030]), "seconds"),
        (([0, 1000], [0, 10_000], [0, 30_000]), "µs"),
        (([0, 1000], [0, 30], [0, 10]), "order of the rows"),
        (([0, -1000], [0, 10], [0, 30]), "negative"),
        (([0, np.nan], [0, 10], [0, 30]), "not a number"),
        (([0, np.inf], [0, 10], [0, 30]), "not a number"),
        (([0, 1000], [0, 10, 10], [0, 30]), "2 b-values and 3 values of δ"),
        (([0, 1000], [0, 0], [0, 30]), "timing of every weighted volume"),
        (([], [], []), "one number per volume"),
        (([[0, 1000]], [10], [30]), "one number per volume"),
    ],
)
def test_implausible_protocols_are_refused_with_a_hint(arguments, message):
    with pytest.raises(ProtocolError, match=message):
        Acquisition(*arguments)


def test_numbers_cannot_be_changed_afterwards():
    acquisition = Acquisition([0, 1000], 10, 30)
    with pytest.raises(ValueError, match="read-only"):
        acquisition.b_smm2[0] = 5
    with pytest.raises(AttributeError):
        acquisition.b_smm2 = np.zeros(2)


def test_selection_keeps_rows_together_and_may_be_b_zero_only():
    mouse = Acquisition.preset("mouse-exvivo")
    chosen = mouse.select((mouse.te_ms == 65) & (mouse.Delta_ms == 30) & (mouse.b_smm2 > 1800))
    assert len(chosen) == 4 and set(chosen.Delta_ms) == {30}
    assert len(mouse.select(mouse.is_b0)) == 5
    assert Acquisition.preset("invivo-1.5t").select([8, 20]).waveforms[1].duration_ms[0] == 18.9


def test_encodings_are_distinct_and_point_back():
    body = Acquisition.preset("invivo-3t")
    encodings, index = body.encodings()
    assert len(set(encodings)) == len(encodings) == 9
    for i, e in enumerate(index):
        if e < 0:
            assert body.b_smm2[i] == 0
        else:
            assert encodings[e].Delta_ms == body.Delta_ms[i]
            assert encodings[e].waveform.duration_ms[0] == body.delta_ms[i]


def _weighting_by_sum(waveform, step=1e-3):
    time = np.arange(0, waveform.start_ms[-1] + waveform.duration_ms[-1], step) + step / 2
    gradient = sum(
        amplitude * ((time > start) & (time < start + duration))
        for start, duration, amplitude in zip(waveform.start_ms, waveform.duration_ms, waveform.amplitude)
    )
    return (np.cumsum(gradient * step) ** 2).sum() * step


@pytest.mark.parametrize(
    "waveform",
    [
        pulse_pair(10, 30),
        twice_refocused([8.9, 17.6, 20.4, 6.0], 17.4, 63.9),
        Waveform((0, 9, 25), (5, 4, 7), (1, 0.5, -1)),
    ],
)
def test_the_weighting_is_the_integral_of_the_squared_dephasing(waveform):
    # A midpoint sum with steps of 1 µs: errors of order step / duration.
    assert waveform.weighting == pytest.approx(_weighting_by_sum(waveform), rel=1e-3)


@settings(deadline=None, max_examples=50)
@given(st.floats(0.5, 40), st.floats(0, 100))
def test_the_pulse_pair_has_the_textbook_weighting(delta, gap):
    separation = delta + gap
    assert pulse_pair(delta, separation).weighting == pytest.approx(delta**2 * (separation - delta / 3), rel=1e-9)


def test_the_twice_refocused_echo_has_the_closed_weighting():
    d1, d2, d3, d12, d14 = 13.2, 19.3, 24.8, 21.7, 74.2
    closed = d1**2 * (d12 - d1) + (2 / 3) * (d1 + d2) ** 3 + (d1 + d2 - d3) ** 2 * (d14 - d12 - d2 - d3)
    assert twice_refocused([d1, d2, d3], d12, d14).weighting == pytest.approx(closed, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 5), (10, 10), (1, -1)), "overlap"),
        (((0, 20), (10, 10), (1, 1)), "no echo"),
        (((0, 20), (10,), (1, -1)), "as many"),
        (((0, np.nan), (10, 10), (1, -1)), "not finite"),
        (((), (), ()), "at least one"),
    ],
)
def test_impossible_waveforms_are_refused(arguments, message):
    with pytest.raises(ProtocolError, match=message):
        Waveform(*arguments)


def test_a_twice_refocused_echo_must_close():
    with pytest.raises(ProtocolError, match="δ1 \\+ δ2 - δ3"):
        twice_refocused([8.9, 17.6, 20.4, 9.0], 17.4, 63.9)


def test_delta_of_a_twice_refocused_echo_is_that_before_the_reversal():
    one = Acquisition.trse([0, 900], [8.9, 17.6, 20.4, 6.1], 17.4, 63.9)
    np.testing.assert_allclose(one.delta_ms, [26.5, 26.5])
    np.testing.assert_allclose(one.Delta_ms, [35.0, 35.0])


def test_ten_is_the_smallest_b_that_weights():
    assert Acquisition([0, 9.99, 10, 1000], 10, 30).is_b0.tolist() == [True, True, False, False]
