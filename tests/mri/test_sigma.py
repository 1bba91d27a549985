"""The noise level in each form that users give it."""

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.mri import NoiseLevel, Series, noise, read_sigma


@pytest.fixture
def series(tmp_path):
    nib.save(nib.Nifti1Image(np.full((4, 3, 1, 3), 100, np.float32), np.eye(4)), tmp_path / "dwi.nii.gz")
    mask = np.ones((4, 3, 1), np.uint8)
    mask[0] = 0
    nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "mask.nii.gz")
    nib.save(nib.Nifti1Image(np.arange(12, dtype=np.float32).reshape(4, 3, 1), np.eye(4)), tmp_path / "sigma.nii.gz")
    (tmp_path / "p.txt").write_text("0 1000 2000\n0 10 10\n0 30 30\n")
    return Series.open(tmp_path / "dwi.nii.gz", tmp_path / "p.txt", tmp_path / "mask.nii.gz")


def test_a_number_a_map_or_nothing(series, tmp_path):
    assert read_sigma(None, series).level is None
    assert read_sigma(2, series).record == {"Method": "number", "Sigma": 2.0}
    found = read_sigma(tmp_path / "sigma.nii.gz", series)
    assert found.level.tolist() == list(range(3, 12)) and found.source == tmp_path / "sigma.nii.gz"
    with pytest.raises(InputError, match="neither a number, estimate nor piesno"):
        read_sigma("guess", series)
    assert repr(series).startswith("Series(images: dwi.nii.gz, voxels: 9 of 4 x 3 x 1, volumes: 3")


@pytest.mark.parametrize(("word", "method"), [("estimate", "mppca"), ("MPPCA", "mppca"), ("piesno", "piesno")])
def test_voxels_without_an_estimate_take_the_median_of_the_others(series, monkeypatch, word, method):
    levels = np.array([np.nan, 1, 2, 9, np.nan, 3, 4, 5, 6])
    asked = []

    def estimate(signals, wanted, how):
        asked.append(how)
        return NoiseLevel(np.concatenate([np.full(3, 50.0), levels]).reshape(4, 3, 1), "made up")

    monkeypatch.setattr(noise, "estimate_noise", estimate)
    found = read_sigma(word, series)
    assert asked == [method] and found.level.tolist() == [4, 1, 2, 9, 4, 3, 4, 5, 6]
    assert found.warnings == ("sigma: 2 voxels have no estimate and take the median of the others",)
    levels[:] = np.nan
    with pytest.raises(InputError, match=r"dwi\.nii\.gz: no voxel has an estimate of its noise; give --sigma"):
        read_sigma(word, series)
