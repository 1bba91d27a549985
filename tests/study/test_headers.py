"""What does not fit together is told for all samples at once, from headers alone."""

import re

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import StudyError
from histomri.study import Study
from histomri.study.headers import require_matching_inputs

AFFINE = np.diag([-0.386, 0.386, 2.2, 1.0])
SAMPLE = """
[[samples]]
id = "{id}"
cells = "cells.tsv"
dwi = "{id}.nii.gz"
protocol = "{id}.txt"
mask = "{id}_mask.nii.gz"
s0 = "{id}_S0.nii.gz"
sigma = 0.02
mri_slice = 3
"""


def image(path, shape, affine=AFFINE):
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), affine), path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "cells.tsv").write_text("x")
    for name in ("m1", "m2"):
        image(tmp_path / f"{name}.nii.gz", (7, 9, 4, 6))
        for part in ("mask", "S0"):
            image(tmp_path / f"{name}_{part}.nii.gz", (7, 9, 4))
        rows = (np.linspace(0, 2500, 6), np.full(6, 10.0), np.full(6, 30.0))
        np.savetxt(tmp_path / f"{name}.txt", rows)
    text = '[study]\nname = "Livers"\npreset = "mouse-exvivo"\n' + "".join(
        SAMPLE.format(id=name) for name in ("m1", "m2")
    )
    (tmp_path / "study.toml").write_text(text)
    return tmp_path


def check(folder):
    study = Study.load(folder / "study.toml")
    require_matching_inputs(study, study.samples)


def test_what_fits_together_passes(folder):
    check(folder)


def test_every_mistake_of_every_sample_is_told(folder):
    image(folder / "m1_mask.nii.gz", (9, 7, 4))
    image(folder / "m1_S0.nii.gz", (7, 9, 4), np.diag([0.386, 0.386, 2.2, 1.0]))  # mirrored
    np.savetxt(folder / "m2.txt", np.ones((3, 5)) * [[1000], [10], [30]])
    image(folder / "m2.nii.gz", (7, 9, 3, 6))
    for part in ("mask", "S0"):
        image(folder / f"m2_{part}.nii.gz", (7, 9, 3))
    with pytest.raises(StudyError) as caught:
        check(folder)
    told = str(caught.value).splitlines()
    assert told[0] == "4 mistakes in the files of the study:"
    for line, words in zip(
        told[1:],
        (
            ("sample m1: mask: ", "has 9 x 7 x 4 voxels, and m1.nii.gz has 7 x 9 x 4"),
            ("sample m1: s0: ", "lies up to", "though the shapes agree"),
            ("sample m2: protocol: ", "5", "6"),
            ("sample m2: mri_slice: m2.nii.gz has no slice 3: its slices run from 0 to 2",),
        ),
        strict=True,
    ):
        assert all(word in line for word in words), line


def test_an_image_that_is_none_is_told_once(folder):
    (folder / "m1.nii.gz").write_text("x")
    with pytest.raises(StudyError, match="1 mistake in the files") as caught:
        check(folder)
    assert "sample m1: dwi: " in str(caught.value) and "is not a readable NIfTI image" in str(caught.value)
    image(folder / "m1.nii.gz", (7, 9, 4))
    with pytest.raises(StudyError, match="a 4D series of diffusion images was expected"):
        check(folder)


def test_what_the_table_of_a_prediction_lacks_is_told(folder):
    (folder / "tumours.csv").write_text("sample,volume_mm3,vCS_mri_um\na,3,20\n")
    for target, lacking in (("volume_mm3", ["D0I_mri_um2_ms"]), ("volume", ["volume", "D0I_mri_um2_ms"])):
        options = {"prediction": {"target": target, "table": folder / "tumours.csv"}}
        with pytest.raises(StudyError) as told:
            require_matching_inputs(Study("x", "mouse-exvivo", (), options), [])
        assert re.findall(r"prediction: .*column '(\w+)' is missing", str(told.value)) == lacking
