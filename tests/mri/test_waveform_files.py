"""Twice-refocused protocols and waveforms from files, against the protocols made in Python."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.errors import InputError, ProtocolError, UnitError
from histomri.mri import Acquisition, pulse_pair, read_acquisition, twice_refocused

LOBES = {93: (8.9, 17.6, 20.4, 6.0, 17.4, 63.9), 105: (13.2, 19.3, 24.8, 7.7, 21.7, 74.2)}
B, TE = [0, 50, 400, 1200, 400, 1600], [93, 93, 93, 93, 105, 105]
ROWS = np.array([[b, *LOBES[te], te] for b, te in zip(B, TE)]).T


def _table(path, rows):
    path.write_text("\n".join(" ".join(f"{value:g}" for value in row) for row in rows))
    return path


def _same(acquisition, expected, te=True):
    np.testing.assert_allclose(acquisition.b_smm2, expected.b_smm2)
    np.testing.assert_allclose(acquisition.delta_ms, expected.delta_ms)
    np.testing.assert_allclose(acquisition.Delta_ms, expected.Delta_ms)
    assert acquisition.waveforms == expected.waveforms
    assert (acquisition.te_ms is None) != te
    if te:
        np.testing.assert_allclose(acquisition.te_ms, expected.te_ms)


def _expected():
    return Acquisition.trse(ROWS[0], ROWS[1:5].T, ROWS[5], ROWS[6], ROWS[7])


def test_twice_refocused_tables_by_rows_and_by_columns(tmp_path):
    _same(read_acquisition(_table(tmp_path / "a.txt", ROWS)), _expected())
    _same(read_acquisition(_table(tmp_path / "b.txt", ROWS[:7])), _expected(), te=False)
    _same(read_acquisition(_table(tmp_path / "c.txt", ROWS.T)), _expected())


def test_as_few_volumes_as_rows_are_read_the_only_way_that_makes_sense(tmp_path):
    for count in (3, 4, 7, 8):
        chosen = np.resize(np.arange(6), count)
        path = _table(tmp_path / "a.txt", ROWS[:, chosen])
        # Read the other way round, timings would pass for b-values of up to 93.
        _same(read_acquisition(path), _expected().select(chosen))
        pulses = np.array([[0, 500, 900, 1200, 300, 700, 1000, 100][:count], [10] * count, [30] * count, [60] * count])
        np.testing.assert_array_equal(read_acquisition(_table(tmp_path / "b.txt", pulses)).b_smm2, pulses[0])


def test_twice_refocused_json_in_seconds(tmp_path):
    (tmp_path / "dwi.bval").write_text(" ".join(map(str, B)))
    keys = ("SmallDelta1", "SmallDelta2", "SmallDelta3", "SmallDelta4", "LargeDelta12", "LargeDelta14", "EchoTime")
    content = {key: (row / 1000).tolist() for key, row in zip(keys, ROWS[1:])}
    (tmp_path / "dwi.json").write_text(json.dumps(content))
    _same(read_acquisition(tmp_path / "dwi.json"), _expected())
    del content["LargeDelta14"]
    (tmp_path / "dwi.json").write_text(json.dumps(content))
    with pytest.raises(ProtocolError, match="LargeDelta14 or BigDelta14"):
        read_acquisition(tmp_path / "dwi.json")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS * np.r_[1, [1e-3] * 7][:, None], "looks like seconds"),
        (ROWS * np.r_[1, [1e3] * 7][:, None], "looks like µs"),
        (ROWS * np.r_[1e6, [1] * 7][:, None], "s/m²"),
        (ROWS + np.r_[0, 0, 0, 0, 2, 0, 0, 0][:, None], "does not close the echo"),
        (ROWS[[0, 1, 2, 3, 4, 6, 5, 7]], "overlap"),
    ],
)
def test_bad_twice_refocused_tables_are_refused(tmp_path, rows, message):
    with pytest.raises(InputError, match=message) as caught:
        read_acquisition(_table(tmp_path / "trse.txt", rows))
    assert "trse.txt" in str(caught.value)


def _pieces(waveform, **more):
    return {
        "start_ms": list(waveform.start_ms), "duration_ms": list(waveform.duration_ms),
        "amplitude": list(waveform.amplitude), **more,
    }  # fmt: skip


def _json(path, content):
    path.write_text(json.dumps(content))
    return path


def test_waveforms_in_json_equal_those_made_in_python(tmp_path):
    shapes = {"long": pulse_pair(12, 40), "trse": twice_refocused((8.9, 17.6, 20.4), 17.4, 63.9)}
    content = {
        "waveforms": {"long": _pieces(shapes["long"]), "trse": _pieces(shapes["trse"], diffusion_time_ms=30)},
        "waveform": [None, "long", "trse", "long"],
        "b_smm2": [0, 800, 600, 1600],
        "te_ms": [80, 80, 90, 80],
    }
    acquisition = read_acquisition(_json(tmp_path / "w.json", content))
    assert acquisition.waveforms == (None, shapes["long"], shapes["trse"], shapes["long"])
    # Without a diffusion time, δ and Δ are how long the gradient is on before it reverses, and when it does.
    np.testing.assert_allclose(acquisition.delta_ms, [0, 12, 26.5, 12])
    np.testing.assert_allclose(acquisition.Delta_ms, [0, 40, 30, 40])
    np.testing.assert_allclose(acquisition.te_ms, [80, 80, 90, 80])


def test_a_table_of_pieces_equals_the_pulse_pair_and_samples_are_merged(tmp_path):
    # The second volume as 0.5 ms samples with zeros in between, as consoles export them.
    times = np.arange(0, 50, 0.5)
    gradient = np.where(times < 10, 1, np.where((times >= 30) & (times < 40), -1, 0))
    lines = ["volume,b_smm2,te_ms,start_ms,duration_ms,amplitude", "1,0,60,0,0,0"]
    lines += [f"2,1000,60,{t},0.5,{g}" for t, g in zip(times, gradient)]
    lines += ["3,500,70,5,8,2 # starts late", "3,500,70,25,8,-2"]
    (tmp_path / "w.csv").write_text("\n".join(lines))
    acquisition = read_acquisition(tmp_path / "w.csv")
    np.testing.assert_array_equal(acquisition.b_smm2, [0, 1000, 500])
    np.testing.assert_array_equal(acquisition.te_ms, [60, 60, 70])
    assert acquisition.waveforms is not None
    assert acquisition.waveforms[0] is None and acquisition.waveforms[1] == pulse_pair(10, 30)
    assert acquisition.waveforms[2].start_ms == (0, 20) and acquisition.waveforms[2].duration_ms == (8, 8)


def test_b_follows_from_amplitudes_in_millitesla(tmp_path):
    shape = pulse_pair(20, 40)
    pieces = {"start_ms": [0, 40], "duration_ms": [20, 20], "amplitude_mt_m": [40, -40]}
    content = {"waveforms": {"a": pieces}, "waveform": [None, "a"]}
    acquisition = read_acquisition(_json(tmp_path / "w.json", content))
    # Stejskal-Tanner in SI units: γ² G² δ² (Δ - δ/3), in s/mm².
    expected = (2.6752218744e8 * 0.04 * 0.020) ** 2 * (0.040 - 0.020 / 3) * 1e-6
    np.testing.assert_allclose(acquisition.b_smm2, [0, expected], rtol=1e-6)
    assert acquisition.waveforms is not None and acquisition.waveforms[1].weighting == pytest.approx(
        1600 * shape.weighting
    )
    with pytest.raises(UnitError, match="gradients in mT/m give"):
        read_acquisition(_json(tmp_path / "w.json", content | {"b_smm2": [0, 1000]}))


GOOD = {"waveforms": {"a": _pieces(pulse_pair(10, 30))}, "waveform": [None, "a"], "b_smm2": [0, 900]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"waveform": ["b", "a"]}, "names 'b'"),
        ({"waveform": []}, "list one of them"),
        ({"waveform": [["a"], None]}, r"names \['a'\]"),
        ({"waveform": [None, None]}, "b = 900 s/mm² and no waveform"),
        ({"b_smm2": [0]}, "1 values for 2 volumes"),
        ({"b_smm2": [0, "x"]}, "'x' is not a number"),
        ({"b_smm2": [0, 9e8]}, "s/m²"),
        ({"te": [50, 50]}, "te has no unit or another one"),
        ({"te_s": [0.05, 0.05]}, "give te_ms"),
        ({"gradient": 1}, "does not know 'gradient'"),
        ({"waveforms": {"a": _pieces(pulse_pair(0.01, 0.03))}}, "looks like seconds"),
        ({"waveforms": {"a": _pieces(pulse_pair(10_000, 30_000))}}, "looks like µs"),
        ({"waveforms": {"a": {"start_ms": [0], "duration_ms": [10, 10], "amplitude": [1, -1]}}}, "different lengths"),
        ({"waveforms": {"a": {"start_ms": [0, 5], "duration_ms": [10, 10], "amplitude": [1, -1]}}}, "overlap"),
        ({"waveforms": {"a": {"start_ms": [0, 30], "duration_ms": [10, 10], "amplitude": [1, 1]}}}, "no echo"),
        ({"waveforms": {"a": {"start_ms": [0, 30], "duration_ms": [10, 10], "amplitude": [0, 0]}}}, "no gradient"),
        ({"waveforms": {"a": {"start_us": [0], "duration_ms": [10], "amplitude": [1]}}}, "give start_ms"),
    ],
)
def test_bad_waveforms_are_refused_and_the_file_is_named(tmp_path, content, message):
    read_acquisition(_json(tmp_path / "w.json", GOOD))
    with pytest.raises(InputError, match=message) as caught:
        read_acquisition(_json(tmp_path / "w.json", GOOD | content))
    assert "w.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volume,b_smm2,start_ms,duration_ms\n1,0,0,0", "no column amplitude"),
        ("volume,b_smm2,start_s,duration_s,amplitude\n1,0,0,0,0", "give duration_ms"),
        ("volume,b_smm2,start_ms,duration_ms,amplitude\n", "no lines"),
        ("volume,b_smm2,start_ms,duration_ms,amplitude\n1,0,0,0", "line 2 has 4 entries"),
        ("volume,b_smm2,start_ms,duration_ms,amplitude\n1,0,0,0,0\n3,900,0,9,1", "one after the other"),
        ("volume,b_smm2,start_ms,duration_ms,amplitude\n1,900,0,9,1\n1,800,20,9,-1", "b_smm2 differs"),
        ("volume,start_ms,duration_ms,amplitude\n1,0,9,1\n1,20,9,-1", "no b-values"),
        ("volume,b_smm2,start_ms,duration_ms,amplitude\n1,nan,0,9,1", "not a finite number"),
    ],
)
def test_bad_tables_of_pieces_are_refused(tmp_path, text, message):
    (tmp_path / "w.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_acquisition(tmp_path / "w.txt")


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet='volume,b_smm2 start_ms;duration_ms\tamplitude\n01.-#{}[]":', max_size=120))
def test_whatever_a_file_holds_is_read_or_refused(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("any")
    for name in ("w.txt", "w.json"):
        (folder / name).write_text("start_ms duration_ms\n" + text if name == "w.txt" else text)
        with pytest.raises(InputError):
            read_acquisition(folder / name)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "w.csv").write_bytes(
        "volume,b_smm2,start_ms,duration_ms,amplitude\n1,0,0,0,0 # \xff\n".encode("latin-1")
    )
    with pytest.raises(InputError, match=r"w\.csv: is not a text file"):
        read_acquisition(tmp_path / "w.csv")
