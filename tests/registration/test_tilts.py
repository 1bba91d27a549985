"""Planes that are tilted out of the slices: where they lie, what they show, and what is measured on them."""

import numpy as np
import pytest

from histomri.core.images import Image
from histomri.registration import Transform, assess
from histomri.registration.prepare import plane_found


def body(points):
    """Return which points, (..., 3) mm, are tissue: a bent tube with a lobed outline."""
    x, y, z = np.moveaxis(points, -1, 0)
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    return radius < 9 + 0.25 * z + 1.6 * np.cos(2 * angle + 0.4) + (0.9 + 0.1 * z) * np.cos(3 * angle - 1)


def world(image):
    index = np.stack([*np.indices(image.data.shape)] + [np.zeros(image.data.shape)] * (3 - image.data.ndim), axis=-1)
    return index @ image.affine[:3, :3].T + image.affine[:3, 3]


@pytest.fixture(params=["straight", "oblique"])
def volume(request):
    """A stack of slices of 1 mm through the body, as it is or turned by 20 degrees in space."""
    affine = np.diag([0.386, 0.386, 1.0, 1.0])
    affine[:3, 3] = [-13.3, -12.5, -6.0]
    empty = Image(np.zeros((70, 66, 13)), affine)
    data = body(world(empty)).astype(float)
    turn = np.eye(4)
    if request.param == "oblique":
        a = np.radians(20)
        turn[:3, :3] = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    return Image(data, turn @ affine), np.linalg.inv(turn)


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (8.0, 0.0), (-4.0, 6.0)])
def test_a_tilted_plane_shows_what_is_there(volume, tilt):
    image, back = volume
    plane = plane_found(image, image, 6, tilt)
    normals = [np.cross(*each.affine[:3, :2].T) for each in (plane.fixed, image.slice(6))]
    cosine = normals[0] @ normals[1] / np.prod([np.linalg.norm(normal) for normal in normals])
    assert np.degrees(np.arccos(min(cosine, 1.0))) == pytest.approx(
        np.degrees(np.arccos(np.prod(np.cos(np.radians(tilt))))), abs=1e-6
    )
    truth = body(world(plane.tissue) @ back[:3, :3].T + back[:3, 3])
    # Between slices 1 mm apart the outline is interpolated: at most every fiftieth pixel, at the edge, may differ.
    assert np.mean((plane.tissue.data > 0.5) != truth) < 0.02


def test_a_tilted_section_is_measured_on_its_own_plane(volume):
    image, back = volume
    plane = plane_found(image, image, 6, (10.0, 0.0))
    # The section lies where the plane lies, so that the true transform is the one from its own flat world to that.
    flat = np.diag([0.386, 0.386, 1.0, 1.0])
    inside = body(world(plane.fixed) @ back[:3, :3].T + back[:3, 3])
    section = Image(np.where(inside, 1.0, np.nan), flat)
    normal = np.cross(*plane.fixed.affine[:3, :2].T)
    normal = normal / np.linalg.norm(normal)
    there = np.column_stack([plane.fixed.affine[:, :2], [*normal, 0], plane.fixed.affine[:, 3]])
    truth = Transform(there @ np.linalg.inv(flat))
    tilted = assess(truth, section, image, fixed_mask=image, slice=6, tilt_deg=(10.0, 0.0))
    upright = assess(truth, section, image, fixed_mask=image, slice=6)
    # Only 2.9 mm to either side of the axis lie within half a slice of the upright one, of about 9 mm.
    assert tilted["dice"] > 0.97
    assert upright["dice"] < 0.8
