"""Sections laid on sections, and slides drawn in the MRI's place."""

import tracemalloc

import numpy as np
import pytest

from histomri.core.errors import GeometryError, InputError
from histomri.registration import (
    Registration,
    Transform,
    compare_densities,
    density_image,
    slide_image,
    warp_region,
    warp_tiles,
)

FROM_MM = 1000.0


class Slide:
    """A picture given by a formula, which records how much of it was read."""

    size_px, um_per_px = (300, 200), (10.0, 12.0)

    def __init__(self):
        self.pixels_read = 0

    def value(self, x_um, y_um):
        return np.stack([100 + 0.02 * x_um, 50 + 0.03 * y_um, 10 + 0.01 * (x_um + y_um)], axis=-1)

    def read(self, x, y, width, height):
        assert 0 <= x <= x + width <= self.size_px[0]
        assert 0 <= y <= y + height <= self.size_px[1]
        self.pixels_read += width * height
        row, column = np.indices((height, width))
        return np.rint(self.value((x + column + 0.5) * 10.0, (y + row + 0.5) * 12.0)).astype(np.uint8)


@pytest.fixture
def turned():
    matrix = np.array([[0, 1.1, 0, 2.0], [-1.1, 0, 0, -1.0], [0, 0, 1, 5], [0, 0, 0, 1.0]])
    return Transform(matrix)


def grid(turned, step=0.02):
    """Return a grid in the fixed world over the middle of the slide."""
    middle = turned.points([[-1.5, -1.2, 0]])[0]
    affine = np.diag([-step, step, 1.0, 1.0])
    affine[:3, 3] = middle
    return affine


def test_a_slide_is_drawn_where_its_points_go(turned):
    slide, affine = Slide(), grid(turned)
    drawn = warp_region(turned, slide, affine, (17, 23))
    i, j = np.indices((17, 23))
    world = np.stack([i, j, 0 * i, 0 * i + 1], axis=-1) @ affine.T
    there = -FROM_MM * turned.inverse().points(world[..., :3].reshape(-1, 3)).reshape(17, 23, 3)
    expected = slide.value(there[..., 0], there[..., 1])
    assert np.abs(drawn - expected).max() <= 1.01  # rounded twice
    assert slide.pixels_read < 0.05 * 300 * 200


def test_tiles_are_the_region(turned):
    slide, affine = Slide(), grid(turned, 0.1)
    whole = warp_region(turned, slide, affine, (40, 31), order=0)
    pieces = np.zeros_like(whole)
    for i, j, tile in warp_tiles(turned, slide, affine, (40, 31), size=16, order=0):
        pieces[i : i + tile.shape[0], j : j + tile.shape[1]] = tile
    np.testing.assert_array_equal(pieces, whole)
    assert (whole == 255).all(axis=2).any()  # white where the slide ends
    far = np.eye(4)
    far[:3, 3] = 1e4
    before = slide.pixels_read
    assert (warp_region(turned, slide, far, (4, 5)) == 255).all()
    assert slide.pixels_read == before


def test_memory_does_not_grow_with_the_slide(turned):
    peaks = []
    for n in (256, 1024):
        slide = Slide()
        slide.size_px = (n, n)
        affine = np.diag([-0.01, 0.01, 1, 1])
        affine[:3, 3] = turned.points([[-n / 200, -n / 200, 0]])[0] + (n / 200, -n / 200, 0)
        tracemalloc.start()
        drawn = sum(int((tile < 255).sum()) for _, _, tile in warp_tiles(turned, slide, affine, (n, n), size=64))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert drawn > n * n
    assert peaks[1] < 1.2 * peaks[0]


def test_pieces_that_do_not_fit_are_refused(turned):
    slide = Slide()
    slide.size_px = (300_000, 200_000)
    with pytest.raises(InputError, match="smaller pieces"):
        warp_region(turned, slide, np.diag([-10.0, 10, 1, 1]), (200, 200))
    with pytest.raises(GeometryError, match="not possible"):
        next(warp_tiles(turned, slide, np.eye(4), (4, 4), size=0))


def test_slide_world():
    image = slide_image(np.arange(63.0).reshape(7, 9), (10, 20))
    # Row 2, column 5: its centre is 55 µm right and 50 µm down; the world runs the other way.
    np.testing.assert_allclose(image.affine @ [2, 5, 0, 1], [-0.055, -0.05, 0, 1])


def test_density_of_blocks():
    rgb = np.full((4, 6, 3), 250, np.uint8)
    rgb[:2, :2] = 25
    mask = np.zeros((4, 6), bool)
    mask[:2, :3] = True
    image = density_image(rgb, 5.0, mask, shrink=2)
    np.testing.assert_allclose(image.data, [[1, 0, np.nan], [np.nan, np.nan, np.nan]], atol=1e-12)
    np.testing.assert_allclose(image.affine @ [0, 1, 0, 1], [-0.015, -0.005, 0, 1])


def test_densities_tell_the_place_from_one_beside():
    # The same texture in both, 0.4 mm apart; 2 mm of tissue, so that the places beside are 0.2 and 0.4 mm away.
    row, column = np.indices((100, 110)) * 0.02
    known = np.hypot(row - 1, column - 1.1) < 0.9

    def section(shift):
        texture = np.sin(9 * (column - shift)) * np.sin(11 * row) + 0.5 * np.sin(23 * row - 17 * (column - shift))
        return slide_image(np.where(known, texture, np.nan), 20.0)

    def compared(shift_mm, verdict):
        matrix = np.eye(4)
        matrix[0, 3] = shift_mm  # of the world: against the columns
        found = Registration(matrix, (), {}, (), 1.0, {"verdict": verdict, "reasons": []})
        return compare_densities(found, section(0.0), section(0.4))

    right = compared(-0.4, "failed")
    assert right.verdict == "check"
    assert right.qc["density_r"] > 0.95
    assert right.qc["density_lead"] > 0.3
    assert "nowhere around" in right.qc["reasons"][0]
    wrong = compared(0.0, "good")
    assert wrong.verdict == "check"
    assert "better beside" in wrong.qc["reasons"][0]
    assert compared(-0.4, "good").verdict == "good"
    assert compared(50.0, "failed").qc["density_lead"] is None
