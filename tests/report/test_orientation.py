"""Pictures stand the right way up: checked by where known world points land."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.images import Image
from histomri.core.orientation import View

AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


def affine_of(code, step=(0.4, 0.3, 2.0)):
    affine = np.eye(4)
    affine[:3, :3] = np.array([AXES[letter] for letter in code]).T * step
    return affine


@pytest.mark.parametrize(
    ("code", "edges"),
    [
        ("RAS", "RLAP"), ("LPS", "RLAP"), ("LAS", "RLAP"), ("ARS", "RLAP"), ("PLI", "RLAP"),  # axial
        ("RSA", "RLSI"), ("LIP", "RLSI"), ("SRA", "RLSI"),  # coronal
        ("ASR", "APSI"), ("PIL", "APSI"), ("SAL", "APSI"),  # sagittal
    ],
)  # fmt: skip
def test_right_and_down_go_to_negative_world_coordinates(code, edges):
    affine = affine_of(code)
    shape = (7, 9)
    i, j = np.meshgrid(*map(np.arange, shape), indexing="ij")
    world = np.einsum("ab,bij->aij", affine[:3, :2], np.stack([i, j]))
    view = View.of(Image(np.zeros(shape), affine))
    assert "".join(view.edges) == edges
    upright, across = (
        "RAS".index(letter) if letter in "RAS" else "LPI".index(letter) for letter in (edges[2], edges[0])
    )
    assert (np.diff(view.show(world[upright]), axis=0) < 0).all()
    assert (np.diff(view.show(world[across]), axis=1) < 0).all()
    width, height = (0.4, 0.3) if view.transpose else (0.3, 0.4)
    assert view.pixel_mm == pytest.approx((width, height))


def test_a_histology_grid_is_shown_as_it_is():
    affine = np.array([[0, -0.386, 0, -1.0], [-0.37, 0, 0, -2.0], [0, 0, 2.2, 0], [0, 0, 0, 1.0]])
    data = np.arange(63.0).reshape(7, 9)
    view = View.of(Image(data, affine))
    np.testing.assert_array_equal(view.show(data), data)
    assert view.edges == ("R", "L", "A", "P")
    assert view.pixel_mm == pytest.approx((0.386, 0.37))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31))
def test_oblique_slices_have_two_different_axes(seed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation
    view = View.of(Image(np.zeros((4, 5)), affine))
    assert len(set(view.edges)) == 4
    assert view.show(np.zeros((4, 5))).shape == ((5, 4) if view.transpose else (4, 5))
