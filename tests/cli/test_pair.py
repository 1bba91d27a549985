"""`histomri pair` from files to files."""

import json
from functools import partial

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from histomri.core.images import map_name, write_map
from histomri.registration import Displacement, Transform

SLIDE = np.array([[0, -0.4, 0, 0], [-0.4, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
MRI = np.diag([0.4, 0.4, 2.0, 1.0])
SHAPE = (7, 9)


@pytest.fixture
def histomri(run):
    return partial(run, "pair")


@pytest.fixture
def folders(tmp_path, rng):
    """Histology on 7 x 9 patches; an MRI slice that shows it turned by a quarter, in slice 1 of 3."""
    histo, mri = tmp_path / "histo", tmp_path / "mri"
    section = {"vCS": rng.uniform(10, 30, SHAPE), "F": rng.uniform(0.2, 0.9, SHAPE), "CD": rng.uniform(1e3, 4e3, SHAPE)}
    for name, data in section.items():
        write_map(histo / map_name(name, "histomap", sub="07"), data, SLIDE)
        write_map(histo / map_name(name, "histomap", sub="07", desc="uncorrected"), 0 * data, SLIDE)
    for strategy in ("whole", "high-b"):
        for model in ("diff-in", "diff-in-ex"):
            for name, value in {
                "vCS": 20.0,
                "F": 0.5,
                "CD": 6e4,
                "BIC": 3.0 + (model == "diff-in-ex"),
                "exit": 1.0,
            }.items():
                path = mri / strategy / map_name(name, "dwimap", sub="07", model=model)
                write_map(path, np.full((9, 7, 3), value), MRI, Model=model, Strategy=strategy)
    for name in ("ADC", "K"):
        write_map(mri / map_name(name, "dwimap", sub="07"), np.full((9, 7, 3), 0.7), MRI)
    to_voxel = np.array([[0, 1, 0, 0], [-1, 0, 0, SHAPE[0] - 1], [0, 0, 1, 1], [0, 0, 0, 1.0]])
    xfm = Transform(MRI @ to_voxel @ np.linalg.inv(SLIDE)).save(tmp_path / "xfm.json")[0]
    return histo, mri, xfm, section


def test_voxels(histomri, folders, tmp_path):
    histo, mri, xfm, section = folders
    done = histomri(histo, mri, "--xfm", xfm, "-o", tmp_path / "pairs.csv", "--group", "control")
    assert done.exit_code == 0, done.output
    assert "07: 4 fits paired with histology, voxel by voxel; up to 63 voxels" in done.stdout
    table = pd.read_csv(tmp_path / "pairs.csv", dtype={"sample": str})
    assert list(table.columns[:19]) == [
        "sample", "group", "scanner", "model", "strategy", "i", "j", "k", "x_mm", "y_mm", "z_mm", "vCS_mri_um", "F_mri",
        "CD_mri_mm3", "vCS_histo_um", "F_histo", "CD_histo_mm2", "ADC_um2_ms", "K",
    ]  # fmt: skip
    assert len(table) == 4 * 63 and set(table["sample"]) == {"07"} and set(table["k"]) == {1}
    expected = section["vCS"][SHAPE[0] - 1 - table["j"], table["i"]]
    np.testing.assert_allclose(table["vCS_histo_um"], expected, rtol=1e-6)  # float32 maps, seven digits
    sidecar = json.loads((tmp_path / "pairs.json").read_text())
    assert sidecar["Columns"]["vCS_histo_um"]["Units"] == "um" and sidecar["Parameters"]["mri_slice"] == {"07": 1}
    assert str(tmp_path) not in (tmp_path / "pairs.json").read_text()


def test_the_patient_is_a_column_if_given(histomri, folders, tmp_path):
    histo, mri, xfm, _ = folders
    for name, more in (("plain.csv", ()), ("known.csv", ("--patient", "P1"))):
        assert histomri(histo, mri, "--xfm", xfm, "-o", tmp_path / name, "--per", "sample", *more).exit_code == 0
    plain, known = (pd.read_csv(tmp_path / name) for name in ("plain.csv", "known.csv"))
    assert "patient" not in plain and set(known["patient"]) == {"P1"}
    pd.testing.assert_frame_equal(known.drop(columns="patient"), plain)


def test_samples(histomri, folders, tmp_path):
    histo, mri, xfm, section = folders
    done = histomri(histo, mri, "--xfm", xfm, "-o", tmp_path / "p.csv", "--per", "sample", "--quiet")
    assert done.exit_code == 0 and done.stdout == ""
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == 4 and table["n_voxels"].eq(63).all()
    np.testing.assert_allclose(table["CD_histo_mm2"], section["CD"].mean(), rtol=1e-6)
    assert table.set_index(["model", "strategy"])["BIC_vote"].to_dict() == {
        ("diff-in", "whole"): 1, ("diff-in", "high-b"): 1, ("diff-in-ex", "whole"): 0, ("diff-in-ex", "high-b"): 0,
    }  # fmt: skip


def test_biopsies_are_paired_by_their_means(histomri, folders, tmp_path):
    histo, mri, _, section = folders
    done = histomri(histo, mri, "-o", tmp_path / "p.csv", "--per", "sample", "--sample", "b1")
    assert done.exit_code == 0 and "means of the whole sample, without registration" in done.stdout
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["sample"].eq("b1").all() and table["n_patches"].eq(63).all() and table["n_voxels"].eq(189).all()
    np.testing.assert_allclose(table["F_histo"], section["F"].mean(), rtol=1e-6)
    # Without a mask that is every fitted voxel, which is told; with one it is not.
    assert "b1: without a mask the MRI is the mean of all 189 fitted voxels" in done.stderr
    mask = tmp_path / "mask.nii.gz"
    reference = nib.load(next(mri.rglob("*_dwimap.nii.gz")))
    inside = np.zeros(reference.shape, np.uint8)
    inside[:, :4] = 1
    nib.save(nib.Nifti1Image(inside, reference.affine), mask)
    done = histomri(histo, mri, "-o", tmp_path / "m.csv", "--per", "sample", "--sample", "b1", "--mask", mask)
    assert done.exit_code == 0, done.output
    assert "without a mask" not in done.stderr
    assert pd.read_csv(tmp_path / "m.csv")["n_voxels"].max() < 189


def test_itk_text_of_a_bent_transform_takes_the_bending_along(histomri, folders, tmp_path):
    histo, mri, xfm, _ = folders
    straight = Transform.load(xfm)
    field = Displacement(np.broadcast_to([0.4, 0, 0], (9, 7, 3, 3)), MRI)  # a voxel along x
    bent = Transform(straight.matrix, (field,)).save(tmp_path / "bent")[0]
    tables = {}
    for name in (xfm, bent, bent.with_suffix(".tfm")):
        done = histomri(histo, mri, "--xfm", name, "-o", tmp_path / f"{name.name}.csv")
        assert done.exit_code == 0, done.output
        assert ("was applied too" in done.stderr) is (name.suffix == ".tfm")
        tables[name.name] = (tmp_path / f"{name.name}.csv").read_text()
    assert tables["bent.tfm"] == tables["bent.json"] != tables["xfm.json"]


def _without_histology(histo, mri, xfm):
    for path in histo.iterdir():
        path.unlink()


def _without_fits(histo, mri, xfm):
    for path in mri.glob("*/*"):
        path.unlink()


def _without_strategy(histo, mri, xfm):
    path = next((mri / "whole").glob("*param-vCS*.json"))
    path.write_text("{}")
    (mri / "whole").rename(mri / "some")


def _twice(histo, mri, xfm):
    for path in sorted((mri / "whole").glob("*param-F_*")):
        (mri / path.name).write_bytes(path.read_bytes())


def _broken_transform(histo, mri, xfm):
    xfm.write_text("{")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_without_histology, "holds no histology maps"),
        (_without_fits, "holds no fitted maps"),
        (_without_strategy, "does not say which measurements were fitted"),
        (_twice, "a second map of F for the same model and strategy"),
        (_broken_transform, "not valid JSON"),
    ],
)
def test_bad_input(histomri, folders, tmp_path, harm, message):
    histo, mri, xfm, _ = folders
    harm(histo, mri, xfm)
    done = histomri(histo, mri, "--xfm", xfm, "-o", tmp_path / "out" / "p.csv")
    assert done.exit_code == 2 and message in done.stderr and "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_wrong_use(histomri, folders, tmp_path):
    histo, mri, xfm, _ = folders
    for arguments, message in (
        ((histo, mri, "-o", tmp_path / "p.csv"), "--xfm"),
        ((histo, mri, "--xfm", xfm, "-o", tmp_path / "p.xlsx"), ".csv or .parquet"),
        ((tmp_path / "no", mri, "-o", tmp_path / "p.csv"), "no such folder"),
        ((histo, tmp_path / "no", "-o", tmp_path / "p.csv"), "no such folder"),
        ((histo, mri, "--xfm", xfm, "--slice", 5, "-o", tmp_path / "p.csv"), "no slice 5"),
        ((histo, mri, "--xfm", xfm, "--slice", 0, "-o", tmp_path / "p.csv"), "not a single voxel"),
    ):
        done = histomri(*arguments)
        assert done.exit_code == 2 and message in done.stderr, done.output
    assert not (tmp_path / "p.csv").exists()


def test_two_samples_are_not_paired_by_mistake(tmp_path):
    from histomri.core.errors import InputError
    from histomri.pairing.sample import _label

    one, other = {"sub": "m1", "param": "F"}, {"sub": "m2", "param": "F"}
    assert _label([one, one], None) == "m1"
    assert _label([{"param": "F"}], tmp_path / "from-histo_to-dwi_mode-image_xfm.json") is None
    for names, xfm in ([[one, other], None], [[one], tmp_path / "sub-m2_from-histo_to-dwi_mode-image_xfm.json"]):
        with pytest.raises(InputError, match=r"different samples: m1, m2; .*--sample"):
            _label(names, xfm)


def test_a_table_does_not_replace_the_transform_or_lie_in_a_file(histomri, folders):
    histo, mri, xfm, _ = folders
    before = xfm.read_bytes()
    for out, message in ((xfm.with_suffix(".csv"), "is an input"), (xfm / "p.csv", "a folder is needed")):
        done = histomri(histo, mri, "--xfm", xfm, "-o", out)  # the table's sidecar would be xfm.json
        assert done.exit_code == 2 and message in done.stderr, done.output
    assert xfm.read_bytes() == before
