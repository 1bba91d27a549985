"""`histomri fit --roi` as it is typed: one fit per label, and what is refused."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from histomri.fitting import predict
from histomri.mri import Acquisition

SHAPE = (14, 15, 2)
AFFINE = np.diag([0.4, 0.4, 2.0, 1.0])
SIZES, NAMES = {1: 14.0, 2: 20.0}, "label\tname\n1\ttumour\n2\tliver\n9\tspleen\n"


@pytest.fixture
def scan(tmp_path, rng):
    """Two regions of 140 voxels and one without signal, at SNR 30, ex vivo."""
    protocol = Acquisition.preset("mouse-exvivo")
    labels = np.zeros(SHAPE, np.int16)
    labels[1:8, :10], labels[8:, :10], labels[12:, 12:] = 1, 2, 5
    labels[12:, :10] = 0
    signals = np.zeros((*SHAPE, 50))
    for label, size in SIZES.items():
        truth = {"fI": 0.6, "D0I": 1.5, "vCS": size, "DEinf": 1.6}
        signals[labels == label] = 1000 * predict("diff-in-ex", truth, protocol) * np.exp(-(protocol.te_ms - 31) / 60)
    sigma = 1000 / 30
    noisy = np.hypot(signals + rng.normal(0, sigma, signals.shape), rng.normal(0, sigma, signals.shape))
    noisy[labels == 5] = 0
    nib.save(nib.Nifti1Image(noisy.astype(np.float32), AFFINE), tmp_path / "dwi.nii.gz")
    nib.save(nib.Nifti1Image(labels, AFFINE), tmp_path / "labels.nii.gz")
    (tmp_path / "names.tsv").write_text(NAMES)
    return tmp_path


def command(folder, *more):
    return ("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "-o", folder / "out", *more)


def test_labels_are_fitted_with_their_errors(run, scan):
    done = run(*command(
        scan, "--roi", scan / "labels.nii.gz", "--roi-names", scan / "names.tsv", "--sigma", 1000 / 30, "--no-maps",
        "--sub", "m1", "--size-cv", "0.2,0.02", "--strategy", "whole", "--strategy", "high-b",
    ))  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "the means of 2 of 3 labels fitted" in done.output and "names 9 (spleen)" in done.output
    assert "labels without signal inside the mask, not fitted: label 5, 12 voxels" in done.output
    assert sorted(path.name for path in (scan / "out").iterdir()) == ["sub-m1_roi.csv", "sub-m1_roi.json"]
    table = pd.read_csv(scan / "out" / "sub-m1_roi.csv")
    assert len(table) == 3 * 2 * 2 and table["label"].tolist() == [1] * 4 + [2] * 4 + [5] * 4
    assert set(table["name"].dropna()) == {"tumour", "liver"}
    rows = table[(table["model"] == "diff-in-ex") & (table["strategy"] == "whole") & (table["label"] != 5)]
    truth = rows["label"].map(SIZES)
    assert rows["n_voxels"].tolist() == [140, 80]
    # Within four errors, which do not hold that of b = 0.
    assert (np.abs(rows["vCS_um"] - truth) < 4 * rows["vCS_se_um"]).all() and rows["vCS_se_um"].lt(2).all()
    cells = 6e9 * 0.6 / np.pi / truth**3 * 1.04**10.5
    assert (np.abs(rows["cellNV_mm3"] - cells) < 4 * rows["cellNV_se_mm3"]).all()
    empty = table[table["label"] == 5]
    assert empty["vCS_um"].isna().all() and empty["exit"].eq(0).all() and set(empty["verdict"]) == {"not judged"}
    assert set(table["verdict"][table["label"] != 5]) == {"one T2 without exchange"}
    about = json.loads((scan / "out" / "sub-m1_roi.json").read_text())
    assert set(about["Columns"]) == set(table) and about["Columns"]["vCS_se_um"]["Units"] == "um"
    assert about["Labels"][0]["Name"] == "tumour" and about["Labels"][0]["Sigma"] == pytest.approx(1000 / 30 / 140**0.5)


@pytest.mark.parametrize("name", ["dki", "t2ivim"])
def test_other_fits_of_labels(run, scan, name):
    done = run(name, *command(scan, "--roi", scan / "labels.nii.gz", "--sigma", 1000 / 30)[1:])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(scan / "out" / f"model-{name}_roi.csv")
    assert table["label"].tolist() == [1, 2, 5]
    column = "ADC_um2_ms" if name == "dki" else "DT_um2_ms"
    end = "dwimap" if name == "dki" else "desc-t2ivim_dwimap"
    maps = nib.load(scan / "out" / f"param-{column.split('_')[0]}_{end}.nii.gz").get_fdata()
    labels = nib.load(scan / "labels.nii.gz").get_fdata()
    for row in table[:2].itertuples():
        inside = maps[labels == row.label]
        assert abs(getattr(row, column) - np.median(inside)) < 0.25 * np.std(inside) + 4 * getattr(
            row, f"{column[:-7]}_se_um2_ms"
        )


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--roi", "labels.nii.gz"), "is corrected for the noise; give --sigma"),
        (("--no-maps",), "give --roi"),
        (("--roi-names", "names.tsv"), "no --roi whose labels have names"),
        (("--roi", "dwi.nii.gz", "--sigma", "30"), "with nearest neighbours"),
        (("--roi", "empty.nii.gz", "--sigma", "30"), "holds no label"),
        (("--roi", "silent.nii.gz", "--sigma", "30", "--no-maps"), "holds no signal"),
        (("--roi", "silent.nii.gz", "--sigma", "30"), "no label has a voxel with signal"),
        (("--roi", "labels.nii.gz", "--sigma", "30", "--mask", "corner.nii.gz", "--no-maps"), "no voxel of the"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(run, scan, more, text):
    labels = nib.load(scan / "labels.nii.gz").get_fdata()
    corner = np.zeros(SHAPE)
    corner[0, -1] = 1
    images = {"empty": np.zeros(SHAPE), "silent": labels == 5, "corner": corner}
    for name, image in images.items():
        nib.save(nib.Nifti1Image(np.asarray(image, np.int16), AFFINE), scan / f"{name}.nii.gz")
    done = run(*command(scan, *(scan / each if "." in each else each for each in more)))
    assert done.exit_code == 2 and text in done.output, done.output
    assert not (scan / "out").exists() or not list((scan / "out").iterdir())
