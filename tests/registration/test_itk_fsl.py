"""Transforms written by ANTs, ITK and FSL, after the definitions of their formats."""

import numpy as np
import pytest
from scipy.io import savemat

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Transform

PULL = np.array([[0.8, -0.3, 0.1], [0.2, 0.9, -0.2], [-0.1, 0.3, 1.1]])
SHIFT, CENTRE = np.array([1.0, -2.0, 3.0]), np.array([5.0, 6.0, -7.0])
LPS = np.array([-1.0, -1.0, 1.0])


def test_matlab_file_of_ants(tmp_path, rng):
    path = tmp_path / "out0GenericAffine.mat"
    numbers = np.concatenate([PULL.ravel(), SHIFT])[:, None]
    savemat(path, {"AffineTransform_double_3_3": numbers, "fixed": CENTRE[:, None]}, format="4")
    found = Transform.load(path)
    fixed = rng.normal(size=(5, 3))
    moving = ((fixed * LPS - CENTRE) @ PULL.T + CENTRE + SHIFT) * LPS  # ITK's definition, in LPS
    np.testing.assert_allclose(found.points(moving), fixed, atol=1e-12)


def test_two_dimensional_itk(tmp_path):
    path = tmp_path / "a.tfm"
    path.write_text(
        "#Insight Transform File V1.0\nTransform: AffineTransform_double_2_2\n"
        "Parameters: 0 2 2 0 1 -1\nFixedParameters: 3 4\n"
    )
    found = Transform.load(path)
    fixed = np.array([1.0, 2.0])
    lps = -fixed - (3, 4)
    moving = -np.array([2 * lps[1] + 3 + 1, 2 * lps[0] + 4 - 1])
    np.testing.assert_allclose(found.points([moving])[0], [1, 2, 0], atol=1e-12)
    assert np.linalg.det(found.matrix[:3, :3]) > 0  # turned over, not mirrored


@pytest.mark.parametrize("moving_sign", [1, -1])
@pytest.mark.parametrize("fixed_sign", [1, -1])
def test_fsl_matrix(tmp_path, rng, moving_sign, fixed_sign):
    # FSL: mm along the stored axes; the first counts backwards where the voxel axes are right-handed.
    def image(sign, shape, sizes, origin):
        affine = np.diag([sign * sizes[0], sizes[1], sizes[2], 1.0])
        affine[:3, 3] = origin
        return Image(np.zeros(shape), affine)

    moving = image(moving_sign, (7, 9, 4), (0.5, 0.6, 2.0), (1, 2, 3))
    fixed = image(fixed_sign, (8, 6, 5), (1.5, 1.2, 1.0), (-4, 5, 6))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = PULL, SHIFT
    path = tmp_path / "flirt.mat"
    path.write_text("\n".join("  ".join(f"{value:.12f}" for value in row) for row in matrix) + "\n")

    def fsl(image, voxel, sign):
        first = (image.data.shape[0] - 1 - voxel[0]) if sign > 0 else voxel[0]
        return np.array([first, voxel[1], voxel[2]]) * image.voxel_mm

    found = Transform.load(path, moving=moving, fixed=fixed)
    voxel = np.array([2.0, 3.0, 1.0])
    goal = PULL @ fsl(moving, voxel, moving_sign) + SHIFT
    goal = goal / fixed.voxel_mm
    if fixed_sign > 0:
        goal[0] = fixed.data.shape[0] - 1 - goal[0]
    world = [image.affine[:3, :3] @ at + image.affine[:3, 3] for image, at in ((moving, voxel), (fixed, goal))]
    np.testing.assert_allclose(found.points([world[0]])[0], world[1], atol=1e-9)
    with pytest.raises(InputError, match="two images"):
        Transform.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 2 3\n", "3 parameters where 16"),
        ("1 0 0 x\n", "no number"),
        (b"\x00\x01\x02\xff" * 40, "no MATLAB file"),
    ],
)
def test_damaged_mat_files(tmp_path, content, message):
    path = tmp_path / "a.mat"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    image = Image(np.zeros((5, 6, 7)), np.eye(4))
    with pytest.raises(InputError, match=message):
        Transform.load(path, moving=image, fixed=image)


def test_other_transforms_in_matlab_files_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    savemat(path, {"Euler3DTransform_double_3_3": np.zeros((6, 1)), "fixed": np.zeros((3, 1))}, format="4")
    with pytest.raises(InputError, match="Euler3DTransform"):
        Transform.load(path)
