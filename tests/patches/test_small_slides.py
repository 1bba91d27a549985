"""Slides of fewer than 500 cells: errors by the delta method, against influence functions; thickness of the section."""

import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchGrid, map_section, summarise_patches, whole_grid
from histomri.patches.moments import section_coefficient, volume_weighted_unfolded

STRETCH = 1 / (1 - 0.129)


@pytest.fixture
def cells(rng):
    size = rng.lognormal(np.log(14), 0.3, 24) * np.sqrt(1 - rng.uniform(0, 0.9, 24) ** 2)
    x = np.where(np.arange(24) < 9, 50.0, 150.0)  # 9 cells in the first patch, 15 in the second
    metadata = CellMetadata(field_um=(200, 100))
    return CellTable.from_columns(x, np.full(24, 50.0), np.pi / 4 * size**2, metadata=metadata)


GRID = PatchGrid((0.0, 0.0), (100.0, 100.0), (1, 2), 4.0)


def influence(size, function):
    """Return how much each cell moves a function of the raw moments, by its weight; central differences."""
    powers = np.stack([size**k for k in range(8)])
    moved, step = np.empty(size.size), 1e-5
    for cell in range(size.size):
        ends = []
        for sign in (1, -1):
            weight = np.full(size.size, 1 / size.size) * (1 - sign * step)
            weight[cell] += sign * step
            ends.append(function((powers * weight).sum(axis=1)[:, None])[0])
        moved[cell] = (ends[0] - ends[1]) / (2 * step)
    return moved


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({}, lambda raw: 4 / np.pi * STRETCH * (raw[7] / raw[3]) ** 0.25),
        ({"preset": "none"}, lambda raw: (raw[7] / raw[3]) ** 0.25),
        (
            {"section": "wicksell", "section_thickness_um": 0.0},
            lambda raw: STRETCH * (35 / 24 * raw[6] / raw[2]) ** 0.25,
        ),
        (
            {"section": "wicksell", "section_thickness_um": 4.0},
            lambda raw: STRETCH * volume_weighted_unfolded(raw, 4.0),
        ),
    ],
)
def test_errors_of_sizes_are_those_of_the_delta_method(cells, options, function):
    result = summarise_patches(cells, GRID, **options)
    assert result.parameters["SizeErrors"] == "delta method"
    size = cells.data["diameter_um"].to_numpy()
    for column, part in enumerate((size[:9], size[9:])):
        # The variance of a mean of n values is that of one, estimated with n - 1.
        expected = np.std(influence(part, function)) / np.sqrt(part.size - 1)
        assert result.errors["vCS"][0, column] == pytest.approx(expected, rel=1e-4)


def test_errors_of_counts_are_those_of_cells_at_random(cells):
    result = summarise_patches(cells, GRID, preset="none")
    area = cells.data["area_um2"].to_numpy()
    np.testing.assert_allclose(result.errors["CD"], 1e6 / 100**2 * np.sqrt([[9, 15]]))
    np.testing.assert_allclose(
        result.errors["F"], [[np.sqrt((part**2).sum()) / 100**2 for part in (area[:9], area[9:])]]
    )


def test_one_cell_has_a_size_and_no_error(cells):
    one = CellTable(cells.data[:1], cells.metadata)
    result = summarise_patches(one, GRID)
    assert result.maps["vCS"][0, 0] > 0 and np.isnan(result.errors["vCS"]).all()


@pytest.mark.parametrize("thickness", [2.0, 4.0])
def test_the_whole_thickness_of_the_section_enters(rng, thickness):
    size = rng.lognormal(np.log(14), 0.3, 400) * np.sqrt(1 - rng.uniform(0, 1, 400) ** 2)
    x = np.repeat([50.0, 150.0], 200)
    metadata = CellMetadata(field_um=(200, 100))
    cells = CellTable.from_columns(x, np.full(400, 50.0), np.pi / 4 * size**2, metadata=metadata)
    options = {"preset": "none", "section": "wicksell", "section_thickness_um": thickness}
    maps = summarise_patches(cells, GRID, **options).maps
    for column, part in enumerate((size[:200], size[200:])):
        mean, sd = maps["aCS"][0, column], maps["sdCS"][0, column]
        # (t + <D>) <l> = t <D> + c_1 <D^2>: a section of thickness t shows every sphere that it touches.
        seen = (thickness + mean) * part.mean()
        assert thickness * mean + section_coefficient(1) * (sd**2 + mean**2) == pytest.approx(seen, rel=1e-9)
        # Of N_V spheres per volume it touches N_V (<D> + t) per area.
        assert maps["CDvol"][0, column] * (mean + thickness) / 1000 == pytest.approx(maps["CD"][0, column], rel=1e-12)


def test_the_thickness_of_a_slice_is_stated_in_full(cells, tmp_path):
    grid = PatchGrid((0.0, 0.0), (100.0, 100.0), (1, 2), 2216.0)
    # The slice lies around z = 0, as thick as it is.
    np.testing.assert_allclose(grid.affine[2], [0, 0, 2.216, 0])
    assert PatchGrid.from_affine(grid.affine, grid.shape).thickness_um == pytest.approx(2216)
    assert whole_grid(cells, thickness_um=7.0).thickness_um == 7
    made = map_section(cells, patch_um=100, tissue="field", section_thickness_um=5.0, section="wicksell")
    assert made.maps.grid.thickness_um == 5
    assert map_section(cells, patch_um=100, tissue="field", thickness_um=9.0).maps.grid.thickness_um == 9
