"""Where patches lie: in the slide, and in the world that viewers show."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.core.errors import GeometryError, HistomriError
from histomri.patches import PatchGrid

GRID = PatchGrid((772.0, 386.0), (386.0, 250.0), (7, 9), 2216.0)


def test_a_cell_lands_at_its_world_position():
    # x_world = -x/1000, y_world = -y/1000: the slide's top left is the radiologist's top left.
    x, y = 772 + 5.25 * 386, 386 + 2.75 * 250
    row, column, inside = GRID.index(x, y)
    assert (int(row), int(column), bool(inside)) == (2, 5, True)
    world = GRID.affine @ [2, 5, 0, 1]
    np.testing.assert_allclose(world[:3], [-(772 + 5.5 * 386) / 1000, -(386 + 2.5 * 250) / 1000, 0])
    # The cell itself lies a quarter of a patch left of and below the centre.
    np.testing.assert_allclose([-x / 1000, -y / 1000], np.add(world[:2], [0.25 * 0.386, -0.25 * 0.25]))


def test_viewers_show_x_to_the_right_and_y_down():
    # Rows run to posterior and columns to the left of the patient, which radiological viewers draw down and right.
    assert nib.aff2axcodes(GRID.affine) == ("P", "L", "S")
    np.testing.assert_allclose(np.sqrt((GRID.affine[:3, :3] ** 2).sum(axis=0)), [0.250, 0.386, 2.216])


def test_centres_agree_with_the_affine():
    centres = GRID.centres_um()
    assert centres.shape == (7, 9, 2)
    for row, column in ((0, 0), (6, 8), (3, 1)):
        world = GRID.affine @ [row, column, 0, 1]
        np.testing.assert_allclose(world[:2], -centres[row, column] / 1000)
    row, column, inside = GRID.index(centres[..., 0], centres[..., 1])
    assert inside.all()
    np.testing.assert_array_equal(row, np.indices((7, 9))[0])
    np.testing.assert_array_equal(column, np.indices((7, 9))[1])


def test_edges_belong_to_the_next_patch_and_the_last_edge_to_the_last():
    grid = PatchGrid((0.0, 0.0), (10.0, 20.0), (2, 3))
    row, column, inside = grid.index([0, 10, 30, 30.01, -0.01, 5], [0, 20, 40, 10, 10, np.nan])
    assert inside.tolist() == [True, True, True, False, False, False]
    assert column[:3].tolist() == [0, 1, 2]
    assert row[:3].tolist() == [0, 1, 1]


def test_a_field_is_covered_from_the_corner_of_the_slide():
    grid = PatchGrid.covering([1.0], [1.0], field_um=(1000, 750), patch_um=250)
    assert (grid.origin_um, grid.shape) == ((0, 0), (3, 4))
    assert PatchGrid.covering(field_um=(1000.1, 750), patch_um=(250, 100)).shape == (8, 5)


@settings(deadline=None, max_examples=60)
@given(
    points=st.lists(st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000)), min_size=1, max_size=8),
    patch=st.tuples(st.floats(20, 900), st.floats(20, 900)),
)
def test_points_are_covered_by_a_grid_tied_to_the_slide(points, patch):
    x, y = np.array(points).T
    grid = PatchGrid.covering(x, y, patch_um=patch)
    assert grid.index(x, y)[2].all()
    steps = np.array(grid.origin_um) / grid.patch_um
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-9)
    # No row or column is there for nothing, but for rounding.
    assert grid.bounds_um[0] + patch[0] * (1 + 1e-6) >= x.min()
    assert grid.bounds_um[3] - patch[1] * (1 + 1e-6) <= y.max()


@settings(deadline=None, max_examples=40)
@given(
    origin=st.tuples(st.floats(-1e4, 1e5), st.floats(-1e4, 1e5)),
    patch=st.tuples(st.floats(10, 2000), st.floats(10, 2000)),
)
def test_the_grid_comes_back_from_its_affine(origin, patch):
    grid = PatchGrid(origin, patch, (7, 9), 100.0)
    back = PatchGrid.from_affine(grid.affine, (7, 9))
    np.testing.assert_allclose(back.origin_um, origin, atol=1e-6)
    np.testing.assert_allclose(back.patch_um, patch, rtol=1e-9)
    assert back.shape == grid.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchGrid((0, 0), (0.0, 10.0), (1, 1)), "are not possible; give positive sizes"),
        (lambda: PatchGrid((0, 0), (10.0, 10.0), (0, 1)), "has no patch"),
        (lambda: PatchGrid((0, 0), (10.0, np.inf), (1, 1)), "are not possible"),
        (lambda: PatchGrid.covering([0, 1e9], [0, 1e9], patch_um=10), "too many; check the unit"),
        (lambda: PatchGrid.covering([], [], patch_um=10), "at least one point"),
        (lambda: PatchGrid.covering([1], [np.nan], patch_um=10), "at least one point with finite"),
        (lambda: PatchGrid.covering([1], [1], patch_um=-10), "are not possible"),
        (lambda: PatchGrid.from_affine(np.eye(4), (2, 2)), "is not that of a patch map"),
    ],
)
def test_impossible_grids_are_refused(make, message):
    with pytest.raises(HistomriError, match=message) as caught:
        make()
    assert isinstance(caught.value, GeometryError)
