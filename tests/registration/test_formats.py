"""Transforms of other programs, written by nitransforms or by hand, in every orientation of the images."""

import itertools
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from nitransforms.io import afni, fsl, itk, lta

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Displacement, Transform
from histomri.registration.io.registry import companions, format_of, formats, needs_images

LPS = np.array([-1.0, -1.0, 1.0])
TURN = np.linalg.qr(np.array([[1.0, 0.3, 0.2], [-0.2, 1, 0.1], [0.1, -0.3, 1]]))[0]
AXES = {
    "RAS": np.eye(3),
    "LAS": np.diag([-1.0, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1]),
    "oblique": TURN * np.sign(np.diag(TURN)),
}
WRITERS = {
    "x.aff12.1D": afni.AFNILinearTransform,
    "x.mat": fsl.FSLLinearTransform,
    "x.tfm": itk.ITKLinearTransform,
    "x.txt": itk.ITKLinearTransform,
    "x.lta": lta.FSLinearTransform,
}


def image(axes, shape, sizes, origin):
    affine = np.eye(4)
    affine[:3, :3] = axes @ np.diag(sizes)
    affine[:3, 3] = origin
    return Image(np.zeros(shape, np.float32), affine)


def push(rng):
    matrix = np.eye(4)
    matrix[:3, :3] += 0.15 * rng.normal(size=(3, 3))
    matrix[:3, 3] = 5 * rng.normal(size=3)
    return matrix


@pytest.mark.parametrize("fixed_axes", AXES)
@pytest.mark.parametrize("moving_axes", AXES)
@pytest.mark.parametrize("name", [*WRITERS, "ours.json", "ours.tfm"])
def test_round_trip(tmp_path, rng, name, moving_axes, fixed_axes):
    moving = image(AXES[moving_axes], (7, 9, 4), (0.5, 0.6, 2.0), (1, 2, 3))
    fixed = image(AXES[fixed_axes], (8, 6, 5), (1.5, 1.2, 1.0), (-4, 5, 6))
    matrix, path = push(rng), tmp_path / name
    if name.startswith("ours"):
        Transform(matrix).save(tmp_path / "ours")
    else:
        theirs = {key: nib.Nifti1Image(one.data, one.affine) for key, one in (("moving", moving), ("reference", fixed))}
        WRITERS[name].from_ras(np.linalg.inv(matrix), **theirs).to_filename(path)
    found = Transform.load(path, moving=moving, fixed=fixed)
    # Six digits are written by nitransforms; ours keep all.
    points = 20 * rng.normal(size=(5, 3))
    atol = 1e-9 if name.startswith("ours") else 1e-3
    np.testing.assert_allclose(found.points(points), points @ matrix[:3, :3].T + matrix[:3, 3], atol=atol)


@pytest.mark.parametrize("signs", list(itertools.product((-1, 1), repeat=3)))
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_fsl_counts_along_the_stored_axes(tmp_path, rng, order, signs):
    """All 48 orientations, after FSL's definition: the first axis counts backwards where axes are right-handed."""
    axes = np.zeros((3, 3))
    for row, column in enumerate(order):
        axes[row, column] = signs[row]
    moving = image(axes, (7, 8, 9), (0.7, 1.1, 1.9), 10 * rng.normal(size=3))
    fixed = image(np.diag([-1.0, 1, 1]), (11, 6, 5), (1.3, 0.9, 2.2), 10 * rng.normal(size=3))
    matrix, path = push(rng), tmp_path / "flirt.mat"
    np.savetxt(path, matrix, fmt="%.12f")

    def counted(one, voxel):
        first = one.data.shape[0] - 1 - voxel[0] if np.linalg.det(one.affine) > 0 else voxel[0]
        return np.array([first, *voxel[1:]]) * one.voxel_mm

    voxel = np.array([2.0, 3.0, 1.0])
    goal = (matrix[:3, :3] @ counted(moving, voxel) + matrix[:3, 3]) / fixed.voxel_mm  # left-handed: from the first
    there, here = (one.affine[:3, :3] @ at + one.affine[:3, 3] for one, at in ((moving, voxel), (fixed, goal)))
    found = Transform.load(path, moving=moving, fixed=fixed)
    np.testing.assert_allclose(found.points([there])[0], here, atol=1e-8)


def composite(path, parts):
    with h5py.File(path, "w") as file:
        group = file.create_group("TransformGroup")
        for number, (kind, parameters, fixed) in enumerate([("CompositeTransform", None, None), *parts]):
            entry = group.create_group(str(number))
            entry["TransformType"] = np.array([f"{kind}_double_3_3".encode()])
            if parameters is not None:
                entry["TransformParameters"], entry["TransformFixedParameters"] = parameters, fixed


def test_composite_of_ants(tmp_path, rng):
    # ANTs writes the affine first and the field second; a fixed point goes through the field first.
    pull, shift, centre = np.eye(3) + 0.1 * rng.normal(size=(3, 3)), rng.normal(size=3), rng.normal(size=3)
    size, origin, spacing = (6, 7, 5), np.array([-4.0, -6, 1]), np.array([1.5, 2, 1])
    vectors = rng.uniform(-0.3, 0.3, (*size, 3))
    fields = vectors.reshape(-1, 3, order="F").ravel()  # first axis fastest, the three components together
    grid = np.concatenate([size, origin, spacing, np.eye(3).ravel()])
    affine = ("AffineTransform", np.concatenate([pull.ravel(), shift]), centre)
    composite(tmp_path / "x.h5", [affine, ("DisplacementFieldTransform", fields, grid)])
    found = Transform.load(tmp_path / "x.h5")
    index = np.array([[1, 2, 3], [4, 5, 0], [2, 2, 2]])
    lps = origin + index * spacing
    lps_moved = lps + vectors[tuple(index.T)]
    moving = ((lps_moved - centre) @ pull.T + centre + shift) * LPS
    np.testing.assert_allclose(found.inverse().points(lps * LPS), moving, atol=1e-5)
    np.testing.assert_allclose(found.points(moving), lps * LPS, atol=1e-5)
    assert found.info["Sources"] == ["x.h5"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.h5", b"not hdf", "not a readable composite"),
        ("x.lta", b"type = 1\n", "not a readable LTA"),
        ("x.1D", b"1 2 3\n", "3 parameters where 12"),
        ("x.1D", b"1 0 0 0 0 1 0 0 0 0 1 0\n1 0 0 0 0 1 0 0 0 0 1 0\n", "2 rows"),
        ("x.1D", b"0 0 0 0 0 1 0 0 0 0 1 0\n", "cannot be inverted"),
        ("x.xyz", b"1", "no ending of a transform"),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    one = image(np.eye(3), (4, 5, 6), (1, 1, 1), (0, 0, 0))
    with pytest.raises(InputError, match=message) as caught:
        Transform.load(tmp_path / name, moving=one, fixed=one)
    assert name in str(caught.value)


def test_other_kinds_in_a_composite_are_refused(tmp_path):
    composite(tmp_path / "x.h5", [("Euler3DTransform", np.zeros(6), np.zeros(3))])
    with pytest.raises(InputError, match="Euler3DTransform"):
        Transform.load(tmp_path / "x.h5")


def test_afni_needs_both_images(tmp_path):
    (tmp_path / "x.aff12.1D").write_text("1 0 0 2 0 1 0 3 0 0 1 4\n")
    assert needs_images(tmp_path / "x.aff12.1D")
    with pytest.raises(InputError, match="two images"):
        Transform.load(tmp_path / "x.aff12.1D")


def test_formats_are_found_and_know_their_companions(tmp_path):
    assert {one.name for one in formats()} >= {"transform", "ITK text", "FSL matrix", "AFNI matrix", "LTA file"}
    field = Displacement(np.full((4, 4, 1, 3), 0.1), np.eye(4))
    written = Transform(np.eye(4), (field,)).save(tmp_path / "x")
    assert set(companions(written[0])) == set(written)
    assert format_of(Path("x.JSON")).name == "transform"
