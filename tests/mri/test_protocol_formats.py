"""Protocol files as other programs write them, each against the numbers that were put in; and what must be refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.errors import InputError, ProtocolError, UnitError
from histomri.mri import Acquisition, read_acquisition
from histomri.mri.plausibility import implied_b_smm2

B, DELTA, SEPARATION = [0.0, 500, 1000, 1500, 2000], [10.0] * 5, [20.0] * 5
VECTORS = np.array([[0, 0, 1], [0.6, 0.8, 0], [0, -0.6, 0.8], [1, 0, 0], [-0.8, 0, 0.6]])


def strengths(b, delta, separation):
    """Gradients in T/m, written out anew: b = (2π 42.577478518e6 Hz/T G δ)² (Δ - δ/3), all in SI units."""
    delta, separation = np.asarray(delta) / 1e3, np.asarray(separation) / 1e3
    return np.sqrt(1e6 * np.asarray(b) / (separation - delta / 3)) / (2 * np.pi * 42.577478518e6 * delta)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def check(acquisition, te=None, rtol=1e-4):
    np.testing.assert_allclose(acquisition.b_smm2, B, rtol=rtol)
    weighted = ~acquisition.is_b0
    np.testing.assert_allclose(acquisition.delta_ms[weighted], 10)
    np.testing.assert_allclose(acquisition.Delta_ms[weighted], 20)
    assert (acquisition.te_ms is None) == (te is None)
    if te is not None:
        np.testing.assert_allclose(acquisition.te_ms, te)


def si_lines(te=0.07):
    table = np.column_stack([VECTORS, strengths(B, DELTA, SEPARATION), [0.02] * 5, [0.01] * 5, [te] * 5])
    return "\n".join(" ".join(f"{value:.6f}" for value in row) for row in table)


@pytest.mark.parametrize("version", ["VERSION: STEJSKALTANNER\n", "# fsl2scheme\nVERSION: 1\n", ""])
def test_camino_and_the_same_table_of_qmrlab_and_dmipy(tmp_path, version):
    check(read_acquisition(write(tmp_path / "a.scheme", version + si_lines())), te=70)
    assert read_acquisition(write(tmp_path / "b.scheme", version + si_lines(te=0.0))).te_ms is None


@pytest.mark.parametrize("scale", [1.0, 1e6])  # AMICO writes s/mm², Camino s/m²
def test_bvector_in_either_unit_needs_times_for_a_size_and_none_for_kurtosis(tmp_path, scale):
    lines = "\n".join(f"{x} {y} {z} {scale * b:g}" for (x, y, z), b in zip(VECTORS, B))
    path = write(tmp_path / "a.scheme", f"VERSION: BVECTOR\n{lines}\n")
    with pytest.raises(ProtocolError, match=r"no gradient duration δ .*read as camino.*--delta and --Delta"):
        read_acquisition(path)
    assert not read_acquisition(path, timing=False).has_timing
    check(read_acquisition(path, delta_ms=10, Delta_ms=20, te_ms=45), te=45)


def test_mrtrix_with_vectors_that_are_not_of_length_one(tmp_path):
    lengths = np.sqrt(np.array(B) / 2000)
    lines = [" ".join(f"{v:.8f}" for v in vector * length) + " 2000" for vector, length in zip(VECTORS, lengths)]
    lines[0] = "0 0 0 0"
    path = write(tmp_path / "grad.b", "# command_history: mrinfo\n" + "\n".join(lines))
    check(read_acquisition(path, delta_ms=10, Delta_ms=20))
    content = {"dw_scheme": [[*vector, b] for vector, b in zip(VECTORS.tolist(), B)]}
    check(read_acquisition(write(tmp_path / "c.json", json.dumps(content)), delta_ms=10, Delta_ms=20))


METHOD = """##TITLE=Parameter List, ParaVision 6.0.1
##JCAMPDX=4.24
$$ 2026-01-01
##$Method=<Bruker:DtiEpi>
##$PVM_EchoTime=45
##$PVM_DwAoImages=2
##$PVM_DwGradDur=( 1 )
10
##$PVM_DwGradSep=( 1 )
20
##$PVM_DwEffBval=( 6 )
@2*(22.5) 520.25 1020.5 1521
2022
##$PVM_DwDir=( 2, 3 )
1 0 0 0 1 0
##END=
"""


def test_brukers_method_file_says_which_volumes_are_b0(tmp_path):
    acquisition = read_acquisition(write(tmp_path / "method", METHOD))
    np.testing.assert_allclose(acquisition.b_smm2, [22.5, 22.5, 520.25, 1020.5, 1521, 2022])
    np.testing.assert_array_equal(acquisition.is_b0, [True, True, False, False, False, False])
    assert set(acquisition.delta_ms) == {10} and set(acquisition.Delta_ms) == {20} and set(acquisition.te_ms) == {45}
    strict = read_acquisition(tmp_path / "method", b0_below_smm2=10)
    assert not strict.is_b0.any()
    with pytest.raises(ProtocolError, match="it is no diffusion scan"):
        read_acquisition(write(tmp_path / "rare", METHOD.replace("PVM_DwEffBval", "PVM_Matrix")))


@pytest.mark.parametrize(
    "text",
    [
        "b_smm2,delta_ms,Delta_ms\n0,10,20\n500,10,20\n1000,10,20\n1500,10,20\n2000,10,20\n",
        "b_smm2;delta_ms;Delta_ms\n0,0;10,0;20,0\n500;10;20\n1000;10;20\n1500;10;20\n2000;10;20\n",
        "b (ms/µm²)\tδ [s]\tΔ [s]\n0\t.01\t.02\n.5\t.01\t.02\n1\t.01\t.02\n1.5\t.01\t.02\n2\t.01\t.02\n",
        "volume,bval,small_delta (us),big_delta (ms)\n1,0,10000,20\n2,500,10000,20\n3,1000,10000,20\n4,1500,10000,20\n"
        "5,2000,10000,20\n",
        "b_sm2 gdur_ms gsep_ms\n0 10 20\n5e8 10 20\n1e9 10 20\n1.5e9 10 20\n2e9 10 20\n",
        "b_smm2,0,500,1000,1500,2000\ndelta_ms,10,10,10,10,10\nDelta_ms,20,20,20,20,20\n",
    ],
)
def test_tables_with_a_header_and_units(tmp_path, text):
    check(read_acquisition(write(tmp_path / "a.csv", text)))


def test_a_header_with_gradients_instead_of_b(tmp_path):
    g = strengths(B, DELTA, SEPARATION)
    for unit, scale in (("mT/m", 1e3), ("T/m", 1.0), ("G/cm", 100.0)):
        rows = "\n".join(f"{scale * gradient:.8g},10,20,60" for gradient in g)
        check(read_acquisition(write(tmp_path / "a.csv", f"G ({unit}),delta_ms,Delta_ms,te_ms\n{rows}")), te=60)
    rows = "\n".join(f"{b},{gradient},10,20" for b, gradient in zip(B, g))
    with pytest.raises(UnitError, match=r"gradient of .* mT/m gives b"):
        read_acquisition(write(tmp_path / "a.csv", f"b_smm2,G_mT_m,delta_ms,Delta_ms\n{rows}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b_smm2,delta_ms,delta_ms\n0,10,20\n500,10,20\n", "two columns of delta_ms"),
        ("b_smm2,delta_ms,Delta_ms,TM\n0,10,20,1\n500,10,20,1\n", "column 'TM', which is not known"),
        ("b_smm2,delta_furlong,Delta_ms\n0,10,20\n500,10,20\n", "unknown unit 'furlong'"),
        ("b,delta,Delta\n0,.01,.02\n500,.01,.02\n", "too short for ms"),
        ("b_smm2;delta_ms;Delta_ms\n0,0;10.5;20\n500;10;20\n", "decimal commas, as in 0,0, and points, as in 10.5"),
        ("g,delta_ms,Delta_ms\n0,10,20\n500,10,20\n", "has no unit"),
    ],
)
def test_headers_that_say_too_little_are_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_acquisition(write(tmp_path / "a.csv", text))
    assert "a.csv" in str(caught.value)


def test_times_per_shell_beside_a_bval(tmp_path):
    write(tmp_path / "dwi.bval", "0 800 1510 795 0 1490")
    text = "b_smm2,delta_ms,Delta_ms\n800,8,30\n1500,12,40\n"
    acquisition = read_acquisition(write(tmp_path / "dwi.csv", text))
    np.testing.assert_array_equal(acquisition.b_smm2, [0, 800, 1510, 795, 0, 1490])
    np.testing.assert_array_equal(acquisition.delta_ms, [0, 8, 12, 8, 0, 12])
    np.testing.assert_array_equal(acquisition.Delta_ms, [0, 30, 40, 30, 0, 40])
    with pytest.raises(ProtocolError, match=r"no line for volume 1 .* b = 800"):
        read_acquisition(write(tmp_path / "dwi.csv", text.replace("800,", "700,")))
    with pytest.raises(ProtocolError, match=r"two lines of b = 1500"):
        read_acquisition(write(tmp_path / "dwi.csv", text + "1500,12,60\n"))


def test_a_bval_with_scalars_and_with_names_of_other_programs(tmp_path):
    bval = write(tmp_path / "a.bval", "0 500 1000 1500 2000")
    write(tmp_path / "a.json", json.dumps({"EchoTime": 0.07, "gradient_pulse_duration": 0.01, "BigDelta": 0.02}))
    check(read_acquisition(bval), te=70)
    write(tmp_path / "a.json", json.dumps({"EchoTime": 0.07}))
    with pytest.raises(ProtocolError, match=r"a\.json has no SmallDelta, LargeDelta or BigDelta"):
        read_acquisition(bval)
    check(read_acquisition(bval, delta_ms=10, Delta_ms=20), te=70)
    write(tmp_path / "a.gdur", "10")
    check(read_acquisition(bval, Delta_ms=20))
    write(tmp_path / "a.gsep", "20\n")
    write(tmp_path / "a.te", "70\n")
    check(read_acquisition(bval), te=70)


def test_what_the_user_says_may_not_contradict_the_file(tmp_path):
    path = write(tmp_path / "a.txt", "0 500 1000 2000 2500\n0 10 10 10 10\n0 20 20 20 20\n")
    for option, name in ((dict(delta_ms=12), "δ"), (dict(Delta_ms=25), "Δ")):
        with pytest.raises(ProtocolError, match=rf"says {name} = .* and --"):
            read_acquisition(path, **option)
    assert set(read_acquisition(path, delta_ms=10, te_ms=45).te_ms) == {45}
    with pytest.raises(ProtocolError, match="says TE = 31 ms, and --te 45"):
        read_acquisition("mouse-exvivo", te_ms=45)
    with pytest.raises(ProtocolError, match=r"b\.gsep must lie beside"):
        read_acquisition(write(tmp_path / "b.bval", "0 500 1000 2000 2500"), delta_ms=10, timing=False)


ROWS = "0 500 1000 1500 2000\n10 10 10 10 10\n20 20 20 20 20\n"


def test_a_fourth_row_of_gradients_is_not_te(tmp_path):
    g = strengths(B, DELTA, SEPARATION)
    for scale in (1.0, 1000.0):
        path = write(tmp_path / "a.txt", ROWS + " ".join(f"{scale * each:.6g}" for each in g))
        check(read_acquisition(path))
    with pytest.raises(ProtocolError, match=r"volume 1 has TE = 25 ms, shorter than δ \+ Δ = 30"):
        read_acquisition(write(tmp_path / "a.txt", ROWS + "25 25 25 25 25"))
    with pytest.raises(ProtocolError, match="TE of 0 ms"):
        read_acquisition(write(tmp_path / "a.txt", ROWS + "0 45 45 45 45"))
    check(read_acquisition(write(tmp_path / "a.txt", ROWS + "30 30 30 30 30")), te=30)


def test_the_echo_follows_the_pulses_in_python_too():
    with pytest.raises(ProtocolError, match="TE = 30 ms, shorter than"):
        Acquisition([0, 1000], 10, 30, 30)
    with pytest.raises(ProtocolError, match="gradients, which last"):
        Acquisition.trse([0, 1000], [8.9, 17.6, 20.4], 17.4, 63.9, 60)
    with pytest.raises(ProtocolError, match=r"gradient of .* T/m"):
        Acquisition([0, 10000], 0.2, 0.5)


def test_b_alone_is_a_protocol_that_says_so(tmp_path):
    alone = Acquisition([15, 500, 1000], te_ms=45, b0_below_smm2=20)
    assert not alone.has_timing and alone.is_b0.tolist() == [True, False, False]
    with pytest.raises(ProtocolError, match="restricted diffusion depends on them"):
        alone.encodings()
    again = Acquisition.load(alone.save(tmp_path / "a.json"))
    assert not again.has_timing and again.b0_below_smm2 == 20 and again.select([0, 1]).b0_below_smm2 == 20
    with pytest.raises(ProtocolError, match="δ and Δ belong together"):
        Acquisition([0, 1000], 10)
    with pytest.raises(ProtocolError, match="--b0-below"):
        Acquisition([0, 1000], b0_below_smm2=900)


def test_two_readings_of_a_file_are_asked(tmp_path):
    path = write(tmp_path / "a.txt", "20 20 30\n15 20 30\n30 30 60\n")
    np.testing.assert_array_equal(read_acquisition(path, format="rows").delta_ms, [15, 20, 30])
    np.testing.assert_array_equal(read_acquisition(path, format="columns").delta_ms, [20, 20, 30])
    with pytest.raises(ProtocolError, match=r"no format 'fsl' .* bruker, bval, camino"):
        read_acquisition(path, format="fsl")


def test_the_case_files_of_the_workplace(tmp_path):
    """Decimal commas with semicolons, as spreadsheets write them; four volumes, not eight."""
    text = "0,0;500,0;1000,0;1500,0\n10,5;10,5;10,5;10,5\n30,6;30,6;30,6;30,6\n"
    for written in (text, text.replace(";", "\t"), text.replace(";", " ")):
        acquisition = read_acquisition(write(tmp_path / "a.csv", written))
        np.testing.assert_array_equal(acquisition.b_smm2, [0, 500, 1000, 1500])
        assert set(acquisition.delta_ms) == {10.5} and set(acquisition.Delta_ms) == {30.6}
    with pytest.raises(ProtocolError, match="1,000 may be a decimal or thousands"):
        read_acquisition(write(tmp_path / "a.csv", "0 1,000 2,000\n10 10 10\n20 20 20\n"))
    with pytest.raises(ProtocolError, match="commas and semicolons between"):
        read_acquisition(write(tmp_path / "a.csv", "0, 500, 1000; 10, 10, 10; 20, 20, 20"))


MARKS = st.sampled_from(
    [(" ", "."), ("\t", "."), (",", "."), (", ", "."), (";", "."), (";", ","), ("\t", ","), (" ", ",")]
)


@settings(max_examples=60, deadline=None)
@given(
    volumes=st.integers(9, 20), seed=st.integers(0, 2**31), marks=MARKS, by_columns=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]), header=st.booleans(),
)  # fmt: skip
def test_a_table_is_read_whatever_its_marks(tmp_path_factory, volumes, seed, marks, by_columns, end, header):
    """Any mark between numbers, either decimal mark, either way round, with a header or without: the same protocol."""
    rng = np.random.default_rng(seed)
    b = np.r_[0, rng.integers(100, 3000, volumes - 1)] + 0.5
    delta, separation = rng.integers(5, 15, volumes) + 0.5, rng.integers(20, 60, volumes) + 0.5
    te = delta + separation + rng.integers(1, 30, volumes) + 0.5
    rows = [[f"{value:.1f}".replace(".", marks[1]) for value in row] for row in (b, delta, separation, te)]
    if header:
        names = [["b_smm2"], ["delta_ms"], ["Delta_ms"], ["te_ms"]]
        rows = [name + row for name, row in zip(names, rows)]
    lines = [marks[0].join(row) for row in (zip(*rows) if by_columns else rows)]
    path = tmp_path_factory.mktemp("table") / "protocol.txt"
    path.write_bytes(end.join(lines).encode())
    acquisition = read_acquisition(path)
    for found, expected in zip(("b_smm2", "delta_ms", "Delta_ms", "te_ms"), (b, delta, separation, te)):
        np.testing.assert_array_equal(getattr(acquisition, found), expected)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet='0123456789.,;- \n\tebVERSION:#{}()"', max_size=200))
def test_no_text_makes_a_reader_fail_otherwise_than_in_words(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "protocol.txt"
    path.write_text(text)
    try:
        read_acquisition(path)
    except InputError as error:
        assert "protocol.txt" in str(error)


@given(b=st.floats(50, 1e4), delta=st.floats(2, 40), rest=st.floats(0, 60))
def test_b_of_a_gradient_is_that_of_si_units(b, delta, rest):
    g = strengths(b, delta, delta + rest)
    assert float(implied_b_smm2(1000 * g, delta, delta + rest)) == pytest.approx(b, rel=1e-9)
