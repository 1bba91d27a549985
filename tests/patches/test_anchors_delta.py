"""Standard errors of vCS on small slides (under 500 cells) against the influence of each cell, and the jackknife."""

import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchGrid, summarise_patches

SIDE = 400.0


def patch_of(size, **options):
    """Return map value and standard error of vCS of one patch that holds all cells."""
    place = np.linspace(10, SIDE - 10, size.size)
    known = CellMetadata(field_um=(SIDE, SIDE))
    cells = CellTable.from_columns(place, place[::-1], np.pi / 4 * size**2, metadata=known)
    found = summarise_patches(cells, PatchGrid((0, 0), (SIDE, SIDE), (1, 1)), **options)
    assert found.parameters["SizeErrors"] == "delta method"
    return found.maps["vCS"].item(), found.errors["vCS"].item()


def influence(size, upper, lower):
    """How much each cell moves (<l^upper> / <l^lower>)^(1/4), relative to it: the derivative by its weight."""
    return (size**upper / np.mean(size**upper) - size**lower / np.mean(size**lower)) / 4


@pytest.mark.parametrize("n", [2, 12, 120, 499])
@pytest.mark.parametrize(
    ("section", "upper", "lower"), [("none", 7, 3), ("sphere-mean", 7, 3), ("wicksell", 6, 2)], ids=str
)
def test_the_error_is_the_root_mean_square_influence(rng, n, section, upper, lower):
    size = rng.lognormal(2.5, 0.25, n)
    value, error = patch_of(size, section=section, shrinkage=0.2, section_thickness_um=0.0)
    expected = np.sqrt(np.sum(influence(size, upper, lower) ** 2) / (n * (n - 1)))
    # Sums of 14th powers: rounding is of 1e-12.
    assert error / value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("thickness", [4.0, 20.0])
def test_in_a_thick_section_it_is_that_of_the_jackknife(rng, thickness):
    size = rng.lognormal(2.5, 0.1, 200)
    options = {"section": "wicksell", "shrinkage": 0.1, "section_thickness_um": thickness}
    _, error = patch_of(size, **options)
    without = np.array([patch_of(np.delete(size, i), **options)[0] for i in range(size.size)])
    # Both are first-order; they differ by the curvature, of the order of 1/n times a few.
    assert error == pytest.approx(np.sqrt((size.size - 1) * np.mean((without - without.mean()) ** 2)), rel=0.03)
