"""Displacement fields on disk: what other programs find in them, and what is read back."""

import json

import nibabel as nib
import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Displacement, Transform

LPS = np.array([-1.0, -1.0, 1.0])
TURN = np.linalg.qr(np.array([[1.0, 0.3, 0.2], [-0.2, 1, 0.1], [0.1, -0.3, 1]]))[0]
GRIDS = {"straight": np.diag([-1.0, 1, 1]), "oblique": TURN * np.sign(np.diag(TURN))}


def bent(axes="oblique", depth=1, inverted=True):
    """Return a transform with a smooth field of 7 x 9 points, 2 mm apart, in a slice 3 mm thick."""
    rng = np.random.default_rng(3)
    affine = np.eye(4)
    affine[:3, :3] = GRIDS[axes] @ np.diag([2.0, 2.0, 3.0])
    affine[:3, 3] = (0.1, -7.3, 20.7)
    in_plane = rng.uniform(-0.4, 0.4, (7, 9, depth, 2)) @ affine[:3, :2].T / 2
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0.9, -0.4, 0], [0.5, 1.1, 0], [0, 0, 1]]) @ GRIDS[axes]
    matrix[:3, 3] = (2.0, -1.0, 4.0)
    return Transform(matrix, (Displacement(in_plane, affine, inverted),))


def in_slice(field, rng, margin=0.4):
    """Return points within the slice of a field, at any depth of it."""
    i, j = (rng.uniform(-margin, n - 1 + margin, 200) for n in field.vectors.shape[:2])
    k = rng.uniform(-0.5, 0.5, 200)
    return np.column_stack([i, j, k, np.ones(200)]) @ field.affine[:3].T


@pytest.mark.parametrize("axes", GRIDS)
def test_a_field_of_one_plane_is_written_as_a_volume(tmp_path, axes):
    transform = bent(axes)
    field = transform.displacements[0]
    image = nib.load(transform.save(tmp_path / "x")[2])
    # ITK drops trailing axes of length one, and with them the third dimension of a single plane.
    assert image.shape == (7, 9, 3, 1, 3)
    assert image.header.get_intent()[0] == "vector"
    assert image.header.get_xyzt_units()[0] == "mm"
    for k in range(3):
        np.testing.assert_array_equal(image.dataobj[:, :, k, 0], field.vectors[:, :, 0] * LPS)
    # The header holds single precision: 1e-5 mm at 20 mm.
    np.testing.assert_allclose(image.affine @ [4, 6, 1, 1], field.affine @ [4, 6, 0, 1], atol=1e-5)
    np.testing.assert_allclose(image.affine[:3, :3], field.affine[:3, :3], atol=1e-6)


@pytest.mark.parametrize("inverted", [True, False])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_what_is_read_back_is_the_same_to_the_last_bit(tmp_path, depth, inverted):
    transform = bent(depth=depth, inverted=inverted)
    again = Transform.load(transform.save(tmp_path / "x")[0])
    field, read = transform.displacements[0], again.displacements[0]
    np.testing.assert_array_equal(again.matrix, transform.matrix)
    np.testing.assert_array_equal(read.vectors, field.vectors)
    np.testing.assert_array_equal(read.affine, field.affine)
    assert read.inverted is inverted


def test_files_of_one_plane_are_still_read(tmp_path, rng):
    transform = bent()
    field = transform.displacements[0]
    paths = transform.save(tmp_path / "x")
    old = nib.Nifti1Image((field.vectors * LPS)[:, :, :, None], field.affine, dtype=np.float64)
    nib.save(old, paths[2])
    content = json.loads(paths[0].read_text())
    del content["Displacements"][0]["Affine"]
    paths[0].write_text(json.dumps(content))
    read = Transform.load(paths[0])
    np.testing.assert_array_equal(read.displacements[0].vectors, field.vectors)
    points = rng.uniform(-5, 5, (50, 3))
    np.testing.assert_allclose(read.points(points), transform.points(points), atol=1e-5)


def test_a_field_of_another_registration_is_refused(tmp_path):
    transform = bent()
    paths = transform.save(tmp_path / "x")
    image = nib.load(paths[2])
    affine = image.affine.copy()
    affine[0, 3] += 0.01
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine, image.header), paths[2])
    with pytest.raises(InputError, match=r"x_warp0.nii.gz: lies elsewhere than x.json says"):
        Transform.load(paths[0])


@pytest.mark.parametrize("axes", GRIDS)
def test_nitransforms_moves_the_grid_points_alike(tmp_path, axes):
    itk = pytest.importorskip("nitransforms.io.itk")
    nonlinear = pytest.importorskip("nitransforms.nonlinear")
    transform = bent(axes)
    field = transform.displacements[0]
    read = itk.ITKDisplacementsField.from_filename(transform.save(tmp_path / "x")[2])
    index = np.argwhere(np.ones((7, 9, 1), bool))
    fixed = index @ field.affine[:3, :3].T + field.affine[:3, 3]
    theirs = nonlinear.DenseFieldTransform(read).map(fixed)
    # The field takes fixed points towards the section; nitransforms keeps single precision.
    np.testing.assert_allclose(theirs, fixed + field.vectors[index[:, 0], index[:, 1], 0], atol=1e-4)


@pytest.mark.parametrize("axes", GRIDS)
def test_simpleitk_carries_points_and_images_alike(tmp_path, rng, axes):
    sitk = pytest.importorskip("SimpleITK")
    transform = bent(axes)
    field = transform.displacements[0]
    _, affine, warp = transform.save(tmp_path / "x")
    vectors = sitk.ReadImage(str(warp), sitk.sitkVectorFloat64)
    assert (vectors.GetDimension(), vectors.GetSize()) == (3, (7, 9, 3))
    pull = sitk.CompositeTransform([sitk.ReadTransform(str(affine)), sitk.DisplacementFieldTransform(vectors)])
    fixed = in_slice(field, rng)
    theirs = [pull.TransformPoint(tuple(point)) for point in (fixed * LPS).tolist()] * LPS
    # 2 nm: the grid of the file is in single precision, 1e-6 mm at 20 mm, and enters through slopes below 1.
    np.testing.assert_allclose(theirs, transform.inverse().points(fixed), atol=2e-6)
    np.testing.assert_allclose(transform.points(theirs), fixed, atol=1e-5)


def test_simpleitk_draws_a_section_alike(tmp_path, rng):
    sitk = pytest.importorskip("SimpleITK")
    transform = bent("straight")
    field = transform.displacements[0]
    _, itk_affine, warp = transform.save(tmp_path / "x")
    section = np.eye(4)
    section[:3, :3] = np.diag([-0.5, -0.5, 1.0])
    section[:3, 3] = transform.inverse().points(in_slice(field, rng)).mean(axis=0) + np.array([20, 20, 0])
    section[2, 3] = transform.inverse().points(field.affine[None, :3, 3])[0, 2]
    data = rng.random((80, 80))
    ours = transform.resample(Image(data, section), Image(np.zeros((7, 9)), field.affine)).data
    images = []
    for values, affine in ((np.repeat(data[:, :, None], 3, 2), section), (np.zeros((7, 9, 1)), field.affine)):
        image = sitk.GetImageFromArray(values.transpose(2, 1, 0))
        size = np.linalg.norm(affine[:3, :3], axis=0)
        first = affine[:3] @ (0, 0, -(values.shape[2] // 2), 1)
        image.SetSpacing(size.tolist())
        image.SetDirection((LPS[:, None] * affine[:3, :3] / size).ravel().tolist())
        image.SetOrigin((LPS * first).tolist())
        images.append(image)
    vectors = sitk.ReadImage(str(warp), sitk.sitkVectorFloat64)
    pull = sitk.CompositeTransform([sitk.ReadTransform(str(itk_affine)), sitk.DisplacementFieldTransform(vectors)])
    theirs = sitk.GetArrayFromImage(sitk.Resample(*images, pull, sitk.sitkLinear, -1.0)).T[:, :, 0]
    assert (theirs >= 0).mean() > 0.9
    inside = theirs >= 0
    # Noise between 0 and 1 on pixels of 0.5 mm, and a grid known to 1e-6 mm.
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-5)
