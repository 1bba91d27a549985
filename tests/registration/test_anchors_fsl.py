"""FSL matrices on every way in which an image can lie on its axes, against nitransforms and against the definition."""

import itertools

import nibabel as nib
import numpy as np
import pytest
from nitransforms.io.fsl import FSLLinearTransform

from histomri.core.images import Image
from histomri.registration import Transform

ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((-1, 1), repeat=3)))


def image_of(orientation, shape, sizes, origin):
    order, signs = orientation
    affine = np.zeros((4, 4))
    for axis, column in enumerate(order):
        affine[axis, column] = signs[axis] * sizes[column]
    affine[:, 3] = (*origin, 1)
    return Image(np.zeros(shape, np.float32), affine)


def voxels_to_fsl(image):
    """mm along the stored axes; the first runs backwards where the axes are right-handed (FSL's "neurological")."""
    matrix = np.diag([*np.linalg.norm(image.affine[:3, :3], axis=0), 1.0])
    if np.linalg.det(image.affine) > 0:
        matrix[0, 3] = (image.data.shape[0] - 1) * matrix[0, 0]
        matrix[0, 0] *= -1
    return matrix


@pytest.mark.parametrize("turned", ["moving", "fixed"])
@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=lambda one: "".join("xyz"[a] for a in one[0]) + str(one[1]))
def test_all_48_orientations(tmp_path, rng, orientation, turned):
    plain = ((0, 1, 2), (-1, 1, 1))
    moving = image_of(orientation if turned == "moving" else plain, (7, 8, 9), (0.7, 1.1, 1.9), rng.normal(size=3) * 10)
    fixed = image_of(orientation if turned == "fixed" else plain, (11, 6, 5), (1.3, 0.9, 2.2), rng.normal(size=3) * 10)
    flirt = np.eye(4)
    flirt[:3, :3] += 0.1 * rng.normal(size=(3, 3))
    flirt[:3, 3] = rng.normal(size=3) * 5
    path = tmp_path / "flirt.mat"
    np.savetxt(path, flirt, fmt="%.12f")
    found = Transform.load(path, moving=moving, fixed=fixed).matrix
    moving_world, fixed_world = (image.affine @ np.linalg.inv(voxels_to_fsl(image)) for image in (moving, fixed))
    # The file has twelve decimals, the distances are up to 30 mm.
    np.testing.assert_allclose(found, fixed_world @ flirt @ np.linalg.inv(moving_world), atol=1e-9)
    theirs = FSLLinearTransform.from_filename(path).to_ras(
        moving=nib.Nifti1Image(moving.data, moving.affine), reference=nib.Nifti1Image(fixed.data, fixed.affine)
    )
    # nitransforms pulls, and keeps the affines of NIfTI headers in single precision.
    np.testing.assert_allclose(found, np.linalg.inv(theirs), atol=1e-3)
