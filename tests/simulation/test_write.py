"""The study on disk: the files, their formats, and that one sample does not depend on the others."""

import csv
import re
import tomllib

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from histomri.core.errors import InputError
from histomri.core.images import Image, read_sidecar
from histomri.registration import Transform, read_landmarks
from histomri.simulation import compare_with_truth, default_acquisition, simulate_liver, write_study
from histomri.simulation.write import write_qupath_tsv
from histomri_cli.app import app

IDS = ("control1", "infiltrated1", "necrotic1")
PARAMS = ("F", "vCS", "CD", "D0I", "DEinf", "beta", "tissueFraction")
HEADER = (
    "Image\tObject ID\tObject type\tName\tClassification\tParent\tROI\tCentroid X µm\tCentroid Y µm\tNucleus: Area\t"
    "Nucleus: Circularity\tNucleus: Hematoxylin OD mean\tCell: Area\tCell: Circularity\tCell: Eosin OD mean\t"
    "Nucleus/Cell area ratio"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    seen = []
    path = write_study(
        tmp_path_factory.mktemp("study"), samples=3, seed=3, area_mm2=6.0, physics="simple", progress=seen.append
    )
    assert len(seen) == 3 and seen[-1] == 1.0
    return path


def test_all_files_are_there_and_no_others(study):
    expected = {"study.toml", "protocol.txt"}
    for name in IDS:
        expected |= {f"{name}_cells.tsv", f"{name}_dwi.nii.gz", f"{name}_mask.nii.gz"}
        expected |= {f"truth/sub-{name}_{rest}" for rest in ("landmarks.csv", "truth.json")}
        expected |= {f"truth/sub-{name}_from-histo_to-dwi_mode-image_xfm.{ending}" for ending in ("json", "tfm")}
        for param in PARAMS:
            expected |= {f"truth/sub-{name}_param-{param}_desc-truth_dwimap.{end}" for end in ("nii.gz", "json")}
    assert {str(path.relative_to(study.parent)) for path in study.parent.rglob("*") if path.is_file()} == expected


def test_study_file_names_what_was_written(study):
    content = tomllib.loads(study.read_text(encoding="utf-8"))
    assert content["study"]["preset"] == "mouse-exvivo"
    assert [sample["id"] for sample in content["samples"]] == list(IDS)
    for sample in content["samples"]:
        for key in ("cells", "dwi", "protocol", "mask"):
            assert (study.parent / sample[key]).is_file()
        assert sample["sigma"] > 0 and sample["mri_slice"] == 2


def test_protocol_and_images_belong_together(study):
    rows = np.loadtxt(study.parent / "protocol.txt")
    acquisition = default_acquisition()
    expected = [acquisition.b_smm2, acquisition.delta_ms, acquisition.Delta_ms, acquisition.te_ms]
    np.testing.assert_allclose(rows, expected, rtol=1e-9)
    for name in IDS:
        dwi, mask = (nib.load(study.parent / f"{name}_{kind}.nii.gz") for kind in ("dwi", "mask"))
        assert dwi.shape == (*mask.shape, rows.shape[1])
        np.testing.assert_allclose(dwi.affine, mask.affine)
        np.testing.assert_allclose(np.linalg.norm(dwi.affine[:3, :3], axis=0), [0.386, 0.386, 2.216], rtol=1e-5)
        truth = Image.load(study.parent / f"truth/sub-{name}_param-tissueFraction_desc-truth_dwimap.nii.gz")
        assert np.array_equal(np.asarray(mask.dataobj) > 0, truth.data >= 0.5)
        assert read_sidecar(study.parent / f"truth/sub-{name}_param-vCS_desc-truth_dwimap.nii.gz")["Units"] == "um"


def test_cells_are_written_as_qupath_does(study):
    lines = (study.parent / "control1_cells.tsv").read_text(encoding="utf-8").split("\n")
    assert lines[0] == HEADER and lines[-1] == ""
    rows = [line.split("\t") for line in lines[1:-1]]
    assert all(len(row) == 16 for row in rows) and not any('"' in line for line in lines)
    uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
    assert all(uuid.fullmatch(row[1]) for row in rows) and len({row[1] for row in rows}) == len(rows)
    assert {tuple(row[i] for i in (0, 2, 3, 4, 6)) for row in rows} == {("control1_HE.ndpi", "Cell", "", "", "Polygon")}
    liver = simulate_liver("control", seed=np.random.SeedSequence(3, spawn_key=(0,)), area_mm2=6.0, physics="simple")
    numbers = np.array([[float(row[i]) for i in (7, 8, 12)] for row in rows])
    np.testing.assert_allclose(numbers, liver.cells[["x_um", "y_um", "area_um2"]], atol=0.0501)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.001, 90000.0), min_size=1, max_size=20))
def test_numbers_have_the_decimals_of_qupath(tmp_path_factory, values):
    path = tmp_path_factory.getbasetemp() / "decimals.tsv"
    cells = pd.DataFrame(dict.fromkeys(("x_um", "y_um", "area_um2"), np.array(values)))
    write_qupath_tsv(path, "a.svs", cells, np.random.default_rng(0))
    with path.open(encoding="utf-8", newline="") as file:
        written = [row["Cell: Area"] for row in csv.DictReader(file, delimiter="\t")]
    for text, value in zip(written, values, strict=True):
        decimals = 1 if value > 1000 else 2 if value > 10 else 3 if value > 1 else 4
        assert float(text) == pytest.approx(value, abs=0.5001 * 10.0**-decimals)
        assert len(text.partition(".")[2]) <= decimals and "e" not in text


def test_landmarks_and_transform_can_be_read_and_agree(study):
    for name in IDS:
        pairs = read_landmarks(study.parent / f"truth/sub-{name}_landmarks.csv")
        transform = Transform.load(study.parent / f"truth/sub-{name}_from-histo_to-dwi_mode-image_xfm.json")
        assert len(pairs) >= 20 and np.all(pairs[:, 0, 2] == 0) and np.all(pairs[:, 0, :2] < 0)
        assert np.linalg.norm(transform.points(pairs[:, 0]) - pairs[:, 1], axis=1).max() < 0.3
        mask = Image.load(study.parent / f"truth/sub-{name}_param-tissueFraction_desc-truth_dwimap.nii.gz")
        index = np.linalg.solve(mask.affine, np.column_stack([pairs[:, 1], np.ones(len(pairs))]).T)[:3]
        np.testing.assert_allclose(index[2], 2.0, atol=1e-3)
        assert np.all(mask.data[tuple(np.rint(index).astype(int))] > 0)


def test_a_sample_does_not_depend_on_how_many_there_are(study, tmp_path):
    other = write_study(tmp_path, samples=4, seed=3, area_mm2=6.0, physics="simple").parent
    assert (other / "control2_cells.tsv").is_file()
    for name in ("control1_cells.tsv", "necrotic1_cells.tsv"):
        assert (other / name).read_bytes() == (study.parent / name).read_bytes()
    first, second = (nib.load(folder / "infiltrated1_dwi.nii.gz") for folder in (other, study.parent))
    assert np.array_equal(np.asarray(first.dataobj), np.asarray(second.dataobj))


def test_too_few_samples_are_refused(tmp_path):
    with pytest.raises(InputError, match="three or more"):
        write_study(tmp_path / "none", samples=2)
    assert not (tmp_path / "none").exists()


def _pairs(study, name, gain):
    truth = {
        param: Image.load(study.parent / f"truth/sub-{name}_param-{param}_desc-truth_dwimap.nii.gz").data
        for param in ("vCS", "F", "tissueFraction")
    }
    i, j = np.nonzero(truth["tissueFraction"][:, :, 2] > 0.6)
    k = np.full_like(i, 2)
    size, packing = truth["vCS"][i, j, k], truth["F"][i, j, k]
    columns = {"sample": name, "model": "diff-in", "strategy": "whole", "i": i, "j": j, "k": k}
    estimates = {"vCS_mri_um": gain * size, "vCS_histo_um": size, "F_mri": 1 - packing, "F_histo": packing}
    return pd.DataFrame({**columns, **estimates})


def test_results_are_compared_with_the_truth(study, tmp_path):
    for name in IDS[:2]:
        (tmp_path / f"sub-{name}").mkdir()
        _pairs(study, name, 1.1).to_csv(tmp_path / f"sub-{name}" / "pairs_voxel.csv", index=False)
        truth = Transform.load(study.parent / f"truth/sub-{name}_from-histo_to-dwi_mode-image_xfm.json")
        truth.save(tmp_path / f"sub-{name}" / "xfm" / f"sub-{name}_from-histo_to-dwi_mode-image_xfm")
    comparison = compare_with_truth(tmp_path, study.parent)
    row = comparison.table.set_index("sample").loc["control1"]
    assert row["r_vCS_mri_um"] == pytest.approx(1.0) and row["r_F_mri"] == pytest.approx(-1.0)
    assert row["error_vCS_histo_um"] == pytest.approx(0.0, abs=1e-6)
    assert row["vCS_mri_um"] / row["vCS_true"] == pytest.approx(1.1, rel=1e-6)
    assert 10 < row["landmark_error_um"] < 250
    assert comparison.path == tmp_path / "truth.csv" and len(pd.read_csv(comparison.path)) == 2
    assert any("necrotic1" in line for line in comparison.messages)


def test_nothing_to_compare_is_an_error(study, tmp_path):
    with pytest.raises(InputError, match="no truth"):
        compare_with_truth(tmp_path)
    with pytest.raises(InputError, match="no sample has voxel pairs"):
        compare_with_truth(tmp_path, study.parent)


def test_command_writes_a_study(tmp_path):
    result = CliRunner().invoke(
        app, ["simulate", "liver", "-o", str(tmp_path / "out"), "--samples", "3", "--area-mm2", "4"]
    )
    assert result.exit_code == 0, result.output
    assert "study.toml" in result.output and (tmp_path / "out" / "study.toml").is_file()
    assert CliRunner().invoke(app, ["simulate", "lung", "-o", str(tmp_path)]).exit_code == 2
