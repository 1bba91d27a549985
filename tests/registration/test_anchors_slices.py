"""A section fills the slices whose centre lies within half a slice of its plane, and no other."""

import numpy as np
import pytest

from histomri.core.images import Image
from histomri.registration import Transform


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("reversed_", [False, True])
@pytest.mark.parametrize("depth", [-1.6, -0.9, 0.0, 0.9, 1.1, 2.9, 3.1, 5.05, 7.2])
def test_which_slices_a_thin_section_reaches(order, reversed_, depth):
    """Slices of 2 mm lie at 0, 2, 4 and 6 mm; the section is 4 µm thin, at `depth` mm."""
    section = np.diag([0.5, 0.5, 0.004, 1.0])
    section[2, 3] = depth
    grid = np.diag([1.0, 1.0, -2.0 if reversed_ else 2.0, 1.0])
    grid[:3, 3] = (2, 2, 6 if reversed_ else 0)
    filled = Transform(np.eye(4)).resample(
        Image(np.ones((20, 20)), section), Image(np.zeros((4, 5, 4)), grid), order=order
    )
    at = grid[2, 3] + grid[2, 2] * np.arange(4)
    np.testing.assert_array_equal(np.isfinite(filled.data).all(axis=(0, 1)), np.abs(at - depth) < 1)
    np.testing.assert_array_equal(np.isfinite(filled.data).any(axis=(0, 1)), np.abs(at - depth) < 1)


@pytest.mark.parametrize("turn_deg", [0, 25])
def test_the_half_slice_is_measured_along_the_normal(turn_deg):
    """In an oblique stack, and through a transform that moves the section to another slice."""
    turn = np.deg2rad(turn_deg)
    oblique = np.eye(4)
    oblique[:3, :3] = [[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]]
    grid = oblique @ np.diag([1.0, 1.0, 3.0, 1.0])
    section = oblique @ np.diag([1.0, 1.0, 0.005, 1.0])
    for shift, expected in ((1.4, [True, False]), (1.6, [False, True]), (4.4, [False, True]), (4.6, [False, False])):
        moved = np.eye(4)
        moved[:3, 3] = oblique[:3, 2] * shift
        filled = Transform(moved).resample(Image(np.ones((6, 6)), section), Image(np.zeros((6, 6, 2)), grid))
        assert np.isfinite(filled.data).all(axis=(0, 1)).tolist() == expected, shift
