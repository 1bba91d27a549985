import gzip

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import GeometryError, InputError
from histomri.mri import open_dwi

SHAPE = (7, 9, 3, 5)
OBLIQUE = np.array([[-0.38, 0.02, 0.1, 4.0], [0.02, 0.37, -0.3, -9.0], [0.01, 0.05, 2.2, 1.0], [0, 0, 0, 1.0]])


def _save(path, data, affine=OBLIQUE):
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


@pytest.mark.parametrize("name", ["dwi.nii", "dwi.nii.gz"])
def test_voxels_of_a_mask_in_order_and_with_scaling(tmp_path, rng, name):
    data = rng.integers(0, 3000, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(data, OBLIQUE)
    image.header.set_slope_inter(0.5, 3.0)
    nib.save(image, tmp_path / name)
    mask = rng.random(SHAPE[:3]) > 0.7
    dwi = open_dwi(tmp_path / name)
    expected = np.asarray(nib.load(tmp_path / name).dataobj)[mask]
    np.testing.assert_allclose(dwi.read(mask), expected)
    np.testing.assert_allclose(dwi.affine, OBLIQUE, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3), (7, 9, 3, 5, 2)])
def test_only_four_axes_are_a_series(tmp_path, shape):
    with pytest.raises(InputError, match=f"{len(shape)} axes"):
        open_dwi(_save(tmp_path / "x.nii.gz", np.ones(shape, np.float32)))


@pytest.mark.parametrize("name", ["dwi.nii", "dwi.nii.gz"])
def test_a_truncated_file_is_named(tmp_path, rng, name):
    path = _save(tmp_path / name, rng.random((20, 20, 4, 5)).astype(np.float32))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    dwi = open_dwi(path)
    with pytest.raises(InputError, match="cut short or damaged") as caught:
        dwi.read(np.ones(dwi.shape[:3], bool))
    assert name in str(caught.value)


def test_not_an_image_not_numbers_not_invertible(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"hello"))
    with pytest.raises(InputError):
        open_dwi(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="no such"):
        open_dwi(tmp_path / "b.nii.gz")
    with pytest.raises(InputError, match="real-valued"):
        open_dwi(_save(tmp_path / "c.nii", np.ones(SHAPE, np.complex64)))
    image = nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 2, 0
    image.header["srow_x"] = image.header["srow_y"] = [1, 0, 0, 0]
    image.to_filename(tmp_path / "d.nii")
    raw = bytearray((tmp_path / "d.nii").read_bytes())
    raw[254:256] = (2).to_bytes(2, "little")
    raw[280:296] = raw[296:312] = np.array([1, 0, 0, 0], "<f4").tobytes()
    (tmp_path / "d.nii").write_bytes(raw)
    with pytest.raises(GeometryError, match="inverted"):
        open_dwi(tmp_path / "d.nii")


def test_masks_and_maps_must_lie_on_the_grid(tmp_path, rng):
    dwi = open_dwi(_save(tmp_path / "dwi.nii.gz", np.ones(SHAPE, np.float32)))
    good = rng.random(SHAPE[:3]).astype(np.float32) - 0.5
    good[0, 0, 0] = np.nan
    mask = dwi.read_mask(_save(tmp_path / "m.nii.gz", good))
    np.testing.assert_array_equal(mask, np.nan_to_num(good) > 0)
    assert dwi.read_mask(_save(tmp_path / "m1.nii.gz", good[..., None])).shape == SHAPE[:3]
    assert dwi.read_mask(None).all()
    with pytest.raises(GeometryError, match="9 x 7 x 3 voxels"):
        dwi.read_mask(_save(tmp_path / "t.nii.gz", good.transpose(1, 0, 2)))
    moved = OBLIQUE.copy()
    moved[0, 3] += 1.0
    with pytest.raises(GeometryError, match=r"lies up to 1 mm from dwi\.nii\.gz"):
        dwi.read_map(_save(tmp_path / "s.nii.gz", good, moved))
    flipped = OBLIQUE @ np.diag([-1, 1, 1, 1])
    with pytest.raises(GeometryError, match="lies up to"):
        dwi.read_mask(_save(tmp_path / "f.nii.gz", good, flipped))
    with pytest.raises(InputError, match="mask is empty"):
        dwi.read_mask(_save(tmp_path / "e.nii.gz", np.zeros(SHAPE[:3], np.float32)))
