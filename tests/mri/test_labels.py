"""Means of regions against the noise-free signal they came from, and label images that make no sense."""

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import GeometryError, InputError
from histomri.mri import Labels, SpoiltVolume, mean_of_labels, open_dwi

SHAPE = (20, 20, 2)


def test_the_mean_has_no_noise_floor_and_its_error_is_sigma_over_root_n(rng):
    truth = np.array([6.0, 1.0, 0.6])  # in noise levels; the plain mean of the last is 1.4
    labels = Labels(np.repeat(np.arange(1, 401), 200).reshape(400, 200, 1), {}, ())
    noise = rng.standard_normal((2, 80_000, 3))
    means = mean_of_labels(np.hypot(truth + noise[0], noise[1]), 1.0, labels, labels.image > 0)
    scatter = 2 * np.sqrt(truth**2 + 1) / np.sqrt(80_000)  # of the mean square of all
    assert np.all(np.abs(np.mean(means.signals**2, axis=0) - truth**2) < 4 * scatter)
    assert abs(means.signals[:, 0].mean() - 6) < 4 * 200**-0.5 / 20
    assert means.signals[:, 0].std(ddof=1) == pytest.approx(means.sigma[0], rel=0.1)  # 400 means: 3.5 %
    np.testing.assert_array_equal(means.voxels, 200)


def test_spoilt_slices_are_left_out_unless_nothing_else_is_left(rng):
    image = np.ones(SHAPE, int)
    image[15:, :, 0] = 2
    signals = np.where(np.arange(2) == image.nonzero()[2][:, None], 1.0, 5.0)  # volume k is low in slice k
    spoilt = [SpoiltVolume(10, 0, -9, 9, 0.2)]
    means = mean_of_labels(signals, 1e-3, Labels(image, {}, ()), image > 0, spoilt=spoilt, volumes=np.array([10, 11]))
    np.testing.assert_allclose(means.signals[0], [5, 1], rtol=1e-5)  # slice 1 alone
    np.testing.assert_array_equal(means.kept, [[True, True], [False, True]])
    assert means.left_out.tolist() == [300, 0] and any("label 2: volumes 10" in text for text in means.warnings)


@pytest.fixture
def images(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((*SHAPE, 3), np.float32), np.eye(4)), tmp_path / "dwi.nii.gz")
    return open_dwi(tmp_path / "dwi.nii.gz")


@pytest.mark.parametrize(
    ("values", "affine", "kind", "text"),
    [
        (np.zeros(SHAPE), np.eye(4), InputError, "holds no label"),
        (np.full(SHAPE, 0.5), np.eye(4), InputError, "is no label image: it holds 0.5"),
        (np.full(SHAPE, -1.0), np.eye(4), InputError, "it holds -1"),
        (np.ones(SHAPE), np.diag([1, 1, 2, 1.0]), GeometryError, "lies up to 1 mm from"),
        (np.ones((20, 20, 3)), np.eye(4), GeometryError, "has 20 x 20 x 3 voxels"),
    ],
)
def test_no_label_image(images, tmp_path, values, affine, kind, text):
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), tmp_path / "labels.nii.gz")
    with pytest.raises(kind, match=text) as error:
        Labels.read(tmp_path / "labels.nii.gz", images)
    assert error.value.hint


def test_names_of_labels(images, tmp_path):
    image = np.zeros(SHAPE, np.int16)
    image[:3], image[5:] = 3, 12
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "labels.nii.gz")
    names = tmp_path / "names.tsv"
    names.write_text("index\tname\tcolour\n3\ttumour\tred\n12\tliver, left\tblue\n7\tspleen\tred\n")
    labels = Labels.read(tmp_path / "labels.nii.gz", images, names)
    assert labels.title(12) == "label 12 (liver, left)" and "7 (spleen)" in labels.warnings[0]
    names.write_text("label,name\n3,tumour\n3,liver\n")
    with pytest.raises(InputError, match="line 3: label 3 comes twice"):
        Labels.read(tmp_path / "labels.nii.gz", images, names)


def test_regions_outside_the_mask_have_no_signal():
    image = np.ones(SHAPE, int)
    inside = np.zeros(SHAPE, bool)
    inside[0] = True
    with pytest.raises(InputError, match="no label has a voxel with signal inside the mask"):
        mean_of_labels(np.zeros((40, 2)), 1.0, Labels(image, {}, ()), inside)
