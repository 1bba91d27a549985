"""Patch statistics against brute force, and what happens at borders, in empty patches and outside."""

import numpy as np
import pytest
import scipy.stats
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import CellMetadata, CellTable
from histomri.core.errors import InputError
from histomri.patches import PatchGrid, summarise_patches, whole_grid

FIELD = (2170.0, 1330.0)
GRID = PatchGrid((0.0, 0.0), (250.0, 200.0), (7, 9))  # the last row and column reach over the field


def cells_of(rng, n, **metadata):
    x, y = rng.uniform(0, FIELD[0], n), rng.uniform(0, FIELD[1], n)
    size = rng.lognormal(np.log(14), 0.25, n)
    return CellTable.from_columns(x, y, np.pi / 4 * size**2, metadata=CellMetadata(**{"field_um": FIELD, **metadata}))


def brute_force(cells, grid, stretch, factor):
    """Return the maps by loops over patches and numpy or scipy on the cells of one patch."""
    names = ("vCS", "aCS", "sdCS", "skewCS", "F", "CD", "CDvol", "nCells", "tissueFraction")
    maps = {name: np.full(grid.shape, np.nan) for name in names}
    data, (w, h) = cells.data, grid.patch_um
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            left, top = grid.origin_um[0] + j * w, grid.origin_um[1] + i * h
            here = data[(data.x_um >= left) & (data.x_um < left + w) & (data.y_um >= top) & (data.y_um < top + h)]
            seen = (min(left + w, FIELD[0]) - left) * (min(top + h, FIELD[1]) - top)
            maps["tissueFraction"][i, j] = seen / (w * h)
            maps["nCells"][i, j] = len(here)
            maps["F"][i, j] = here.area_um2.sum() / seen
            maps["CD"][i, j] = len(here) / (seen * 1e-6) / stretch**2
            maps["CDvol"][i, j] = 0
            if len(here):
                size = stretch * factor * np.sqrt(4 * here.area_um2 / np.pi)
                maps["vCS"][i, j] = (np.mean(size**7) / np.mean(size**3)) ** 0.25
                maps["aCS"][i, j], maps["sdCS"][i, j] = np.mean(size), np.std(size)
                maps["CDvol"][i, j] = maps["CD"][i, j] / (np.mean(size) * 1e-3)
            if len(here) > 1:
                maps["skewCS"][i, j] = scipy.stats.skew(size)
    return maps


@pytest.mark.parametrize(("preset", "total"), [("mouse-exvivo", 1.4616), ("human-biopsy", 1.503), ("none", 1.0)])
def test_all_maps_agree_with_loops(rng, preset, total):
    cells = cells_of(rng, 400)
    result = summarise_patches(cells, GRID, preset=preset)
    stretch = {"mouse-exvivo": 1 / (1 - 0.129), "human-biopsy": 1 / (1 - 0.153), "none": 1}[preset]
    factor = 1 if preset == "none" else 4 / np.pi
    truth, plain = brute_force(cells, GRID, stretch, factor), brute_force(cells, GRID, 1, 1)
    assert set(result.maps) == set(truth)
    assert np.isnan(truth["skewCS"]).any() and (truth["nCells"] == 0).sum() == (result.maps["nCells"] == 0).sum()
    # The sums run in another order; the skewness of two cells is zero but for rounding.
    for name, values in result.maps.items():
        np.testing.assert_allclose(values, truth[name], rtol=1e-9, atol=1e-11, err_msg=name)
    for name, values in result.uncorrected.items():
        np.testing.assert_allclose(values, plain[name], rtol=1e-9, atol=1e-11, err_msg=name)
    # The paper prints the totals rounded to four digits.
    assert result.parameters["SizeFactor"] == pytest.approx(total, rel=3e-4)
    np.testing.assert_allclose(result.maps["vCS"] / result.uncorrected["vCS"], result.parameters["SizeFactor"])


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 40),
    patch=st.tuples(st.floats(150, 3000), st.floats(150, 3000)),
)
def test_random_grids_agree_with_loops(seed, n, patch):
    cells = cells_of(np.random.default_rng(seed), n)
    grid = PatchGrid.covering(field_um=FIELD, patch_um=patch)
    truth = brute_force(cells, grid, 1, 1)
    for name, values in summarise_patches(cells, grid, preset="none").maps.items():
        # Skewness loses digits where the cells of a patch are nearly equal.
        loose = 1e-5 if name == "skewCS" else 1e-9
        np.testing.assert_allclose(values, truth[name], rtol=loose, atol=loose, err_msg=name)


def test_outside_is_nan_and_empty_is_zero(rng):
    cells = CellTable.from_columns(
        [10, 20, 30], [10, 20, 30], [100, 150, 200], metadata=CellMetadata(field_um=(500, 300))
    )
    result = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (4, 7)), preset="none")
    for name, values in result.maps.items():
        if name == "tissueFraction":
            assert (values[3] == 0).all() and (values[:, 5:] == 0).all() and (values[:3, :5] == 1).all()
        else:
            assert np.isnan(values[3]).all() and np.isnan(values[:, 5:]).all(), name
    inside = {name: values[1, 1] for name, values in result.maps.items()}
    assert [inside[name] for name in ("nCells", "F", "CD", "CDvol")] == [0, 0, 0, 0]
    assert np.isnan([inside[name] for name in ("vCS", "aCS", "sdCS", "skewCS")]).all()


def test_fractions_at_the_border_count_what_was_looked_at():
    cells = CellTable.from_columns([110], [10], [250], metadata=CellMetadata(field_um=(125, 50)))
    maps = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (1, 2)), preset="none").maps
    assert maps["tissueFraction"].tolist() == [[0.5, 0.125]]
    assert maps["F"].tolist() == [[0, 0.2]]
    assert maps["CD"][0, 1] == pytest.approx(1 / (25 * 50e-6))


def test_tissue_and_region_outline_the_denominator(rng):
    # A disc as tissue and a half-plane as region of interest.
    disc = shapely.Point(1000, 600).buffer(500, quad_segs=64)
    roi = shapely.box(0, 0, 1000, 3000)
    cells = cells_of(rng, 3000, roi_wkt=roi.wkt)
    inside = shapely.contains_xy(disc & roi, cells.data.x_um, cells.data.y_um)
    kept = CellTable(cells.data[inside].reset_index(drop=True), cells.metadata)
    result = summarise_patches(kept, GRID, preset="none", tissue=disc)
    for i in range(7):
        for j in range(9):
            box = shapely.box(j * 250, i * 200, j * 250 + 250, i * 200 + 200)
            expected = (box & disc & roi).area / box.area
            assert result.maps["tissueFraction"][i, j] == pytest.approx(expected, abs=1e-9)
    # Summed over patches, fractions times areas give back every cell.
    total = np.nansum(result.maps["F"] * result.maps["tissueFraction"]) * 250 * 200
    assert total == pytest.approx(kept.data.area_um2.sum())
    assert result.parameters["Extent"] == "tissue outline and region of interest and imaged field"


def test_one_number_for_a_region(rng):
    roi = shapely.Polygon([(100, 100), (1500, 200), (900, 1200)])
    cells = cells_of(rng, 4000, roi_wkt=roi.wkt)
    inside = shapely.contains_xy(roi, cells.data.x_um, cells.data.y_um)
    cells = CellTable(cells.data[inside].reset_index(drop=True), cells.metadata)
    result = summarise_patches(cells, whole_grid(cells), preset="none")
    size = cells.data.diameter_um
    assert result.grid.shape == (1, 1)
    assert result.maps["F"][0, 0] == pytest.approx(cells.data.area_um2.sum() / roi.area)
    assert result.maps["CD"][0, 0] == pytest.approx(len(cells) / roi.area * 1e6)
    assert result.maps["vCS"][0, 0] == pytest.approx((np.mean(size**7) / np.mean(size**3)) ** 0.25)


def test_few_cells_give_no_size_and_little_tissue_nothing(rng):
    cells = cells_of(rng, 200)
    free = summarise_patches(cells, GRID)
    strict = summarise_patches(cells, GRID, min_cells=4, min_tissue=0.7)
    few = free.maps["nCells"] < 4
    little = free.maps["tissueFraction"] < 0.7
    assert few.any() and little.any() and not (few | little).all()
    assert np.isnan(strict.maps["vCS"][few]).all() and np.isnan(strict.errors["vCS"][few]).all()
    assert np.isfinite(strict.maps["F"][few & ~little]).all()
    assert all(np.isnan(strict.maps[name][little]).all() for name in ("F", "CD", "nCells", "vCS"))
    np.testing.assert_array_equal(strict.maps["tissueFraction"], free.maps["tissueFraction"])
    np.testing.assert_array_equal(strict.maps["vCS"][~few & ~little], free.maps["vCS"][~few & ~little])


@pytest.mark.parametrize("assign_by", ["centroid", "clip"])
def test_cells_off_the_grid_and_cells_in_sparse_patches_are_counted_apart(assign_by):
    # The field ends at 125: the second patch holds a quarter of tissue, the third none.
    x, y = np.array([10.0, 40.0, 70.0, 110.0, 115.0, 250.0]), np.full(6, 10.0)
    outlines = shapely.box(x - 1, y - 1, x + 1, y + 1)
    cells = CellTable.from_columns(x, y, shapely.area(outlines), metadata=CellMetadata(field_um=(125, 100)))
    cells = CellTable(cells.data, cells.metadata, outlines)
    result = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (1, 3)), min_tissue=0.5, assign_by=assign_by)
    names = ("CellsUsed", "CellsOutsideGrid", "CellsInSparsePatches")
    assert [result.parameters[name] for name in names] == [3, 1, 2]
    assert result.warnings == (
        "1 of 6 cells lie off the grid of patches or outside the extent, and were not used",
        "2 of 6 cells lie in patches of which less than 0.5 is tissue (--min-tissue), and were not used",
    )


def test_crowded_patches_and_lost_cells_are_told():
    cells = CellTable.from_columns(
        [50, 60, 250], [50, 60, 50], [6000, 7000, 50], metadata=CellMetadata(compartment="nucleus")
    )
    result = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (1, 1)), preset="none")
    warnings = " | ".join(result.warnings)
    assert result.maps["F"][0, 0] > 1
    assert "F is above 1 in 1 patches" in warnings and "was not clipped" in warnings
    assert "1 of 3 cells lie off the grid of patches or outside the extent" in warnings
    assert "--min-tissue" not in warnings
    assert "are of nuclei" in warnings


def test_the_skewness_of_equal_cells_is_not_a_number_and_their_spread_zero():
    cells = CellTable.from_columns(np.arange(5) + 1, np.arange(5) + 1, np.full(5, 123.4567))
    maps = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (1, 1)), preset="none").maps
    assert maps["sdCS"][0, 0] == 0
    assert np.isnan(maps["skewCS"][0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "rat"}, "there is no preset 'rat'; choose one of mouse-exvivo, human-biopsy, none"),
        ({"section": "cube"}, "there is no section correction 'cube'; choose one of sphere-mean, wicksell, none"),
        ({"shrinkage": 12.9}, "a shrinkage of 12.9 is not possible; give a fraction"),
        ({"shrinkage": float("nan")}, "a shrinkage of nan is not possible"),
        ({"section_thickness_um": -1}, "a section thickness of -1 µm is not possible"),
        ({"min_cells": 0}, "give --min-cells 1 or more"),
        ({"min_tissue": 2}, "a tissue fraction of 2 is not possible"),
        ({"tissue": shapely.box(9e3, 9e3, 9.1e3, 9.1e3)}, "do not overlap"),
    ],
)
def test_impossible_choices_are_refused(rng, options, message):
    with pytest.raises(InputError, match=message):
        summarise_patches(cells_of(rng, 20), GRID, **options)


def test_cells_beside_the_grid_are_refused(rng):
    with pytest.raises(InputError, match="no cell lies on the grid"):
        summarise_patches(cells_of(rng, 20), PatchGrid((9e3, 9e3), (10, 10), (2, 2)))
    one = CellTable.from_columns([1], [2], [3])
    with pytest.raises(InputError, match="the cells lie on a line"):
        whole_grid(one)
