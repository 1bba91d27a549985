"""The outline guessed from cells lies where the tissue ends, with its holes, whatever the spacing of the cells."""

import numpy as np
import pytest
import shapely

from histomri.core.errors import InputError
from histomri.patches import tissue_outline
from histomri.patches.tissue import Extent, points_inside

# An L with a round hole: no symmetry that could hide swapped axes.
SHAPE = shapely.Polygon([(0, 0), (9000, 0), (9000, 3000), (4000, 3000), (4000, 7000), (0, 7000)]).difference(
    shapely.Point(2000, 4500).buffer(700)
)


def scatter(rng: np.random.Generator, spacing_um: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.meshgrid(np.arange(0, 9000, spacing_um), np.arange(0, 7000, spacing_um))
    x, y = (axis.ravel() + rng.uniform(-0.5, 0.5, axis.size) * spacing_um for axis in (x, y))
    inside = shapely.contains_xy(SHAPE, x, y)
    return x[inside] + 12_000, y[inside] + 800


@pytest.mark.parametrize("spacing_um", [15.0, 22.0, 40.0])
def test_outline_follows_the_tissue_within_a_pixel(rng, spacing_um):
    outline = tissue_outline(*scatter(rng, spacing_um))
    truth = shapely.transform(SHAPE, lambda corners: corners + np.array([12_000, 800]))
    pixel = 2.5 * spacing_um
    # A pixel counts as tissue when it holds one cell, so the outline may be a pixel too far out all along the border.
    wrong = outline.symmetric_difference(truth).area
    assert wrong < pixel * truth.length
    assert outline.area == pytest.approx(truth.area, rel=0.05)
    assert outline.geom_type == "Polygon" and len(outline.interiors) == 1
    assert not outline.contains(shapely.Point(14_000, 5300)), "the hole is open"


def test_specks_are_left_out(rng):
    x, y = scatter(rng, 20.0)
    speck = rng.uniform(0, 60, (2, 15))
    outline = tissue_outline(np.append(x, 30_000 + speck[0]), np.append(y, speck[1]))
    assert outline.bounds[2] < 22_000


def test_too_few_cells_are_told(rng):
    with pytest.raises(InputError, match=r"too few or too scattered.*--tissue field"):
        tissue_outline(rng.uniform(0, 1e4, 4), rng.uniform(0, 1e4, 4))


def test_points_inside_are_those_of_every_comparison_with_the_outline(rng):
    ring = shapely.Point(500, 400).buffer(390) - shapely.Point(560, 380).buffer(120)
    region = ring | shapely.box(850, 20, 990, 60)
    extent = Extent((0.0, 0.0, 1000.0, 800.0), region, "outline")
    x, y = rng.uniform(-50, 1050, 60_000), rng.uniform(-50, 850, 60_000)
    np.testing.assert_array_equal(points_inside(x, y, extent), shapely.contains_xy(region, x, y))
