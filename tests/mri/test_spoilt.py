"""Spoilt volumes before any model, and volumes that are left out."""

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.mri import Acquisition, Series, SpoiltVolume, find_spoilt_before_fit, list_spoilt, preprocess

BODY = Acquisition.preset("invivo-3t")


def _scan(rng, magnitude, shape=(12, 12, 3)):
    b, te = BODY.b_smm2 / 1000, BODY.te_ms - 75
    tissue = 0.5 * np.exp(-b * 0.4) + 0.5 * np.exp(-b * 1.8)
    clean = 100 * np.exp(-te / 60) * np.broadcast_to(tissue, (*shape, 21)) * rng.uniform(0.9, 1.1, (*shape, 1))
    return clean, lambda signals: magnitude(signals, 2.0, rng)


def test_a_spoilt_volume_is_found_before_any_model(rng, magnitude):
    clean, noisy = _scan(rng, magnitude)
    slices = np.indices(clean.shape[:3])[2].ravel()
    for sigma in (2.0, np.nan):
        assert not find_spoilt_before_fit(
            noisy(clean).reshape(-1, 21), np.full(slices.size, sigma), slices, BODY, np.arange(21)
        )
        spoilt = clean.copy()
        spoilt[:, :, 1, 10] *= 0.5
        found = find_spoilt_before_fit(
            noisy(spoilt).reshape(-1, 21), np.full(slices.size, sigma), slices, BODY, np.arange(21)
        )
        assert [(each.volume, each.slice) for each in found] == [(10, 1)]
        assert found[0].ratio == pytest.approx(0.5, abs=0.05)


def test_preprocessing_reports_it_and_changes_nothing(rng, magnitude):
    clean, noisy = _scan(rng, magnitude)
    clean[:, :, 2, 17] *= 0.5
    signals = noisy(clean).astype(np.float32)
    result = preprocess(signals, np.eye(4), BODY, steps=("spoilt",))
    np.testing.assert_array_equal(result.signals, signals)
    assert "volume 17, slice 2: signal 5" in result.warnings[0] and "--exclude-volumes" in result.warnings[0]
    assert result.steps[-1]["SpoiltVolumes"][0]["volume"] == 17


def test_a_volume_that_is_spoilt_everywhere_is_named_once():
    found = [SpoiltVolume(4, k, -5.0, 20.0, 0.4) for k in range(3)] + [SpoiltVolume(7, 1, -5.0, 20.0, 0.7)]
    assert list_spoilt(found, np.arange(3)) == (
        "volume 4, all slices: signal 40 % of expected; volume 7, slice 1: signal 70 % of expected"
    )


def test_volumes_are_left_out_of_signals_and_protocol(tmp_path, rng, magnitude):
    clean, noisy = _scan(rng, magnitude)
    nib.save(nib.Nifti1Image(noisy(clean).astype(np.float32), np.eye(4)), tmp_path / "dwi.nii.gz")
    series = Series.open(tmp_path / "dwi.nii.gz", "invivo-3t", exclude=(12, 15))
    assert series.read().shape == (432, 19) and len(series.acquisition) == 19
    assert 12 not in series.volumes and 15 not in series.volumes
    with pytest.raises(InputError, match="no volume 21"):
        Series.open(tmp_path / "dwi.nii.gz", "invivo-3t", exclude=(21,))
    with pytest.raises(InputError, match="every volume"):
        Series.open(tmp_path / "dwi.nii.gz", "invivo-3t", exclude=range(21))
