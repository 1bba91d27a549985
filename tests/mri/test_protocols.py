import json

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import InputError, ProtocolError
from histomri.mri import Acquisition, protocol_files, read_acquisition, reading
from histomri.mri.protocols import formats

B, DELTA, SEPARATION, TE = [0, 500, 1000, 2000, 2800], [0, 10, 10, 10, 8], [0, 30, 30, 15, 15], [45, 45, 45, 65, 65]


def _write(path, *rows):
    path.write_text("\n".join(" ".join(map(str, row)) for row in rows) + "\n", encoding="utf-8")
    return path


def _check(acquisition, te=True):
    np.testing.assert_array_equal(acquisition.b_smm2, B)
    np.testing.assert_array_equal(acquisition.delta_ms, DELTA)
    np.testing.assert_array_equal(acquisition.Delta_ms, SEPARATION)
    if te:
        np.testing.assert_array_equal(acquisition.te_ms, TE)
    else:
        assert acquisition.te_ms is None


def test_tables_by_rows_by_columns_and_with_commas(tmp_path):
    _check(read_acquisition(_write(tmp_path / "a.txt", B, DELTA, SEPARATION, TE)))
    _check(read_acquisition(_write(tmp_path / "b.txt", B, DELTA, SEPARATION)), te=False)
    _check(read_acquisition(_write(tmp_path / "c.txt", *zip(B, DELTA, SEPARATION, TE))))
    text = "# b, d, D, TE\r\n" + "\r\n".join(",".join(map(str, row)) for row in (B, DELTA, SEPARATION, TE))
    (tmp_path / "d.csv").write_text("\ufeff" + text, encoding="utf-8")
    _check(read_acquisition(tmp_path / "d.csv"))


def test_a_square_table_is_read_the_only_way_that_makes_sense(tmp_path):
    rows = [0, 500, 1000], [0, 10, 10], [0, 30, 30]
    acquisition = read_acquisition(_write(tmp_path / "a.txt", *rows))
    np.testing.assert_array_equal(acquisition.b_smm2, [0, 500, 1000])
    acquisition = read_acquisition(_write(tmp_path / "b.txt", *zip(*rows)))
    np.testing.assert_array_equal(acquisition.Delta_ms, [0, 30, 30])


def test_a_table_that_could_be_read_both_ways_is_refused(tmp_path):
    path = _write(tmp_path / "a.txt", [20, 20, 30], [15, 20, 30], [30, 30, 60])
    with pytest.raises(ProtocolError, match=r"as rows or as columns.*--format rows or --format columns"):
        read_acquisition(path)


def test_separate_files_are_found_by_any_of_their_names(tmp_path):
    for suffix, row in ((".bval", B), (".gdur", DELTA), (".gsep", SEPARATION), (".te", TE)):
        _write(tmp_path / f"scan.v1{suffix}", row)
    for spec in ("scan.v1.bval", "scan.v1.gsep", "scan.v1"):
        _check(read_acquisition(tmp_path / spec))
    (tmp_path / "scan.v1.te").unlink()
    _check(read_acquisition(tmp_path / "scan.v1.bval"), te=False)
    (tmp_path / "scan.v1.gdur").unlink()
    with pytest.raises(ProtocolError, match=r"scan\.v1\.gdur must lie beside"):
        read_acquisition(tmp_path / "scan.v1.bval")


def test_json_in_seconds_beside_a_bval(tmp_path):
    _write(tmp_path / "dwi.bval", B)
    content = {"SmallDelta": [d / 1000 for d in DELTA], "BigDelta": [d / 1000 for d in SEPARATION], "EchoTime": 0.045}
    (tmp_path / "dwi.json").write_text(json.dumps(content))
    for spec in ("dwi.json", "dwi.bval"):
        acquisition = read_acquisition(tmp_path / spec)
        _check(acquisition.__class__(acquisition.b_smm2, acquisition.delta_ms, acquisition.Delta_ms), te=False)
        np.testing.assert_allclose(acquisition.te_ms, 45)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"SmallDelta": 10, "LargeDelta": 30}, "in seconds"),
        ({"SmallDelta": 0.01}, "LargeDelta or BigDelta"),
        ({"SmallDelta": "ten", "LargeDelta": 0.03}, "neither a number"),
        ({"SmallDelta": [0.01, 0.01], "LargeDelta": 0.03}, "2 values for 5"),
        ([1, 2], "JSON object"),
    ],
)
def test_bad_json_is_refused(tmp_path, content, message):
    _write(tmp_path / "dwi.bval", B)
    (tmp_path / "dwi.json").write_text(json.dumps(content))
    with pytest.raises(ProtocolError, match=message):
        read_acquisition(tmp_path / "dwi.json")


def test_json_without_bval_is_refused(tmp_path):
    (tmp_path / "dwi.json").write_text('{"SmallDelta": 0.01, "LargeDelta": 0.03}')
    with pytest.raises(ProtocolError, match=r"put dwi\.bval"):
        read_acquisition(tmp_path / "dwi.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "no numbers"),
        ("0 1000\n0 10\n0 abc\n", "line 3 .*not a number"),
        ("0 1000\n0 10 10\n0 30\n", "line 2 has 3 numbers"),
        ("0 1000 2000 500 700\n0 10 10 10 10\n", "3 or 4 rows"),
        ("0 1000 2000 500 700\n0 .01 .01 .01 .01\n0 .03 .03 .03 .03\n", "seconds"),
        ("0 1e9 2e9 5e8 1e9\n0 10 10 10 10\n0 30 30 30 30\n", "s/m²"),
    ],
)
def test_bad_tables_are_refused_and_the_file_is_named(tmp_path, text, message):
    path = tmp_path / "protocol.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_acquisition(path)
    assert "protocol.txt" in str(caught.value)


def test_a_binary_file_and_a_missing_one_are_refused(tmp_path):
    path = tmp_path / "protocol.txt"
    path.write_bytes(bytes([0x1F, 0x8B, 0xFF, 0xFE, 0x00]))
    with pytest.raises(InputError, match="not a text file"):
        read_acquisition(path)
    with pytest.raises(ProtocolError, match="mouse-exvivo, invivo-3t"):
        read_acquisition(tmp_path / "nowhere.txt")


def test_the_number_of_volumes_is_checked(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((2, 3, 1, 7), np.float32), np.eye(4)), tmp_path / "dwi.nii.gz")
    with pytest.raises(ProtocolError, match=r"dwi\.nii\.gz: has 7 volumes, and the protocol mouse-exvivo has 50"):
        read_acquisition("mouse-exvivo", tmp_path / "dwi.nii.gz")


def test_a_real_protocol_with_another_stem_than_the_images(real_data):
    folder = real_data / "dmri"
    acquisition = read_acquisition(folder / "derived_isbi.bval", folder / "derived_genu.nii.gz")
    assert len(acquisition) == 3612
    assert acquisition.b_smm2.max() == pytest.approx(45_820, abs=1)
    assert np.all(acquisition.delta_ms[acquisition.is_b0] == 0)
    assert set(acquisition.delta_ms[~acquisition.is_b0]) == {3.0, 8.0}
    assert len(acquisition.encodings()[0]) == 12


def test_swapped_arguments_are_recognised(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((2, 3, 1, 5), np.float32), np.eye(4)), tmp_path / "dwi.nii.gz")
    table = _write(tmp_path / "p.txt", B, DELTA, SEPARATION, TE)
    with pytest.raises(
        InputError, match=r"are swapped: dwi\.nii\.gz is an image, p\.txt is not; give dwi\.nii\.gz as dwi"
    ):
        read_acquisition(tmp_path / "dwi.nii.gz", table)
    with pytest.raises(InputError, match="and mouse-exvivo as protocol"):
        read_acquisition(tmp_path / "dwi.nii.gz", "mouse-exvivo")
    with pytest.raises(ProtocolError, match=r"dwi\.nii\.gz: is an image, and a protocol was expected"):
        read_acquisition(tmp_path / "dwi.nii.gz")


def test_a_format_is_one_file_that_registers_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", list(formats.FORMATS))
    monkeypatch.setattr(reading, "FORMATS", formats.FORMATS)
    formats.register(
        formats.Format(
            form="a protocol of a scanner of one's own",
            recognises=lambda source: source.path.suffix == ".own",
            read=lambda source: Acquisition([0, 1000], 10, float(source.path.read_text())),
            parts=(".extra",),
        )
    )
    (tmp_path / "a.own").write_text("40")
    (tmp_path / "a.extra").write_text("x")
    np.testing.assert_array_equal(read_acquisition(tmp_path / "a.own").Delta_ms, [40, 40])
    assert [path.name for path in protocol_files(tmp_path / "a.own")] == ["a.own", "a.extra"]
    assert "a scanner of one's own" in formats.accepted_forms()
