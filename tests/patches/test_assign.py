"""Sharing cells among patches by exact clipping, and overlapping windows, against brute force."""

import json

import numpy as np
import pytest
import shapely

from histomri.cells import CellMetadata, CellOptions, CellTable, read_cells
from histomri.core.errors import GeometryError, InputError
from histomri.patches import PatchGrid, PatchMaps, summarise_patches
from histomri.patches.options import PatchOptions
from histomri.study.steps import cells as cells_step
from histomri.study.steps import patches as patches_step

FIELD = (700.0, 450.0)
GRID = PatchGrid((0.0, 0.0), (100.0, 90.0), (5, 7))


def outlined(rng, n, **metadata):
    """Return cells with outlines; some reach over the edge of the field."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    centre = np.stack([rng.uniform(0, FIELD[0], n), rng.uniform(0, FIELD[1], n)], axis=1)
    radius = rng.uniform(5, 30, (n, 1)) * rng.uniform(0.7, 1.3, (n, angle.size))
    points = centre[:, None] + radius[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outlines = shapely.polygons(points)
    middle = shapely.centroid(outlines)
    x, y = np.clip(shapely.get_x(middle), 0, FIELD[0]), np.clip(shapely.get_y(middle), 0, FIELD[1])
    table = CellTable.from_columns(x, y, shapely.area(outlines), metadata=CellMetadata(field_um=FIELD, **metadata))
    return CellTable(table.data, table.metadata, outlines)


@pytest.mark.parametrize("region", [None, shapely.Point(300, 200).buffer(180)])
def test_clipping_agrees_with_loops(rng, region):
    cells = outlined(rng, 300)
    result = summarise_patches(cells, GRID, preset="none", assign_by="clip", tissue=region)
    looked_at = shapely.box(0, 0, *FIELD) if region is None else region & shapely.box(0, 0, *FIELD)
    size = cells.data["diameter_um"].to_numpy()
    for i in range(5):
        for j in range(7):
            patch = shapely.box(j * 100, i * 90, j * 100 + 100, i * 90 + 90) & looked_at
            if patch.area == 0:
                assert np.isnan(result.maps["F"][i, j])
                continue
            share = np.array([(outline & patch).area / outline.area for outline in cells.outlines])
            found = {name: values[i, j] for name, values in result.maps.items()}
            assert found["F"] == pytest.approx((share * cells.data.area_um2).sum() / patch.area, rel=1e-9)
            assert found["nCells"] == pytest.approx(share.sum(), rel=1e-9)
            assert found["CD"] == pytest.approx(share.sum() / patch.area * 1e6, rel=1e-9)
            if share.sum() >= 1:  # fewer than one cell in all gives no size
                vcs = (np.sum(share * size**7) / np.sum(share * size**3)) ** 0.25
                assert found["vCS"] == pytest.approx(vcs, rel=1e-9)
                assert found["aCS"] == pytest.approx(np.average(size, weights=share), rel=1e-9)
    assert result.parameters["Assignment"] == "clip"


def test_packed_squares_fill_their_patches_exactly():
    j, i = np.meshgrid(np.arange(70), np.arange(45))
    squares = shapely.box(10 * j - 3, 10 * i - 3, 10 * j + 7, 10 * i + 7).ravel()
    inside = shapely.intersection(squares, shapely.box(0, 0, *FIELD))
    centre = shapely.centroid(inside)
    table = CellTable.from_columns(shapely.get_x(centre), shapely.get_y(centre), shapely.area(inside),
                                   metadata=CellMetadata(field_um=FIELD))  # fmt: skip
    cells = CellTable(table.data, table.metadata, inside)
    grid = PatchGrid((0, 0), (93.0, 71.0), (6, 7))
    clipped = summarise_patches(cells, grid, preset="none", assign_by="clip").maps["F"][:, :]
    by_centroid = summarise_patches(cells, grid, preset="none").maps["F"]
    # Squares cover all but a margin of 3 µm at the far edges; clipping sees the same share wherever the edges fall.
    np.testing.assert_allclose(clipped[:6, :7][:-1, :-1], 1, rtol=1e-9)
    assert np.abs(by_centroid[:-1, :-1] - 1).max() > 0.02


def test_clipping_needs_outlines_and_no_overlap(rng):
    cells = outlined(rng, 30)
    with pytest.raises(
        InputError, match=r"have no outlines to clip; read them from GeoJSON with `histomri cells --geo"
    ):
        summarise_patches(CellTable(cells.data, cells.metadata), GRID, assign_by="clip")
    with pytest.raises(InputError, match="overlapping windows cannot be clipped"):
        summarise_patches(cells, PatchGrid.covering(field_um=FIELD, patch_um=100, step_um=50), assign_by="clip")
    with pytest.raises(InputError, match="cannot be assigned by 'weight'; choose one of centroid, clip"):
        summarise_patches(cells, GRID, assign_by="weight")
    with pytest.raises(InputError, match="30 cells cannot have 3 outlines"):
        CellTable(cells.data, cells.metadata, cells.outlines[:3])


@pytest.mark.parametrize(("size", "step"), [((100.0, 90.0), (50.0, 45.0)), ((100.0, 80.0), (37.0, 80.0))])
def test_overlapping_windows_agree_with_loops(rng, size, step):
    cells = outlined(rng, 500)
    grid = PatchGrid.covering(field_um=FIELD, patch_um=size, step_um=step)
    assert grid.bounds_um[0] <= (size[0] - step[0]) / 2
    maps = summarise_patches(cells, grid, preset="none").maps
    data = cells.data
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            left, top = j * step[0], i * step[1]
            here = data[
                (data.x_um >= left) & (data.x_um < left + size[0]) & (data.y_um >= top) & (data.y_um < top + size[1])
            ]
            seen = (min(left + size[0], FIELD[0]) - left) * (min(top + size[1], FIELD[1]) - top)
            assert maps["nCells"][i, j] == len(here)
            assert maps["F"][i, j] == pytest.approx(here.area_um2.sum() / seen, rel=1e-9)
            assert maps["tissueFraction"][i, j] == pytest.approx(seen / (size[0] * size[1]), rel=1e-9)
    # The centre of the first map pixel is that of the first window.
    np.testing.assert_allclose(grid.centres_um()[0, 0], np.array(size) / 2)
    assert (grid.shape[1] - 1) * step[0] + size[0] >= FIELD[0]


def test_a_step_of_one_patch_is_no_overlap():
    assert PatchGrid.covering(field_um=FIELD, patch_um=90, step_um=90) == PatchGrid.covering(
        field_um=FIELD, patch_um=90
    )


@pytest.mark.parametrize("step", [0.0, -3.0, float("nan"), 200.0, 1.0])
def test_impossible_steps_are_refused(step):
    with pytest.raises(GeometryError, match="step"):
        PatchGrid.covering(field_um=FIELD, patch_um=100, step_um=step)


def test_outlines_go_from_geojson_through_a_file_to_maps(tmp_path):
    def square(x, y, size):
        return {
            "type": "Polygon",
            "coordinates": [[[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]],
        }

    features = [
        {"type": "Feature", "geometry": square(*place), "properties": {"objectType": "cell"}}
        for place in ((90, 30, 40), (20, 20, 10), (150, 60, 20))
    ]
    export, table = tmp_path / "cells.geojson", tmp_path / "cells.parquet"
    export.write_text(json.dumps(features))
    sidecar = {"schema": "histomri.qupath/1", "complete": True, "pixel_width_um": 1.0, "pixel_height_um": 0.5}
    (tmp_path / "cells.histomri.json").write_text(json.dumps({**sidecar, "width_px": 200, "height_px": 200}))
    cells_step.run(CellOptions.read(exports=[export], geometries=True), table)
    assert CellTable.load(table).outlines is None
    loaded = CellTable.load(table, geometries=True)
    assert shapely.area(loaded.outlines).tolist() == [800, 50, 200]
    assert loaded.outlines[0].bounds == (90, 15, 130, 35)
    given = {"cells": table, "patch_um": (100.0, 100.0), "preset": "none", "sub": "A", "tissue": "field"}
    given["min_tissue"] = 0.0
    patches_step.run(PatchOptions.read(**given, assign="clip"), tmp_path / "maps")
    maps = PatchMaps.load(tmp_path / "maps").maps
    # A quarter of the first cell lies in the first patch.
    assert maps["nCells"].tolist() == [[1.25, 1.75]]
    patches_step.run(PatchOptions.read(**given), tmp_path / "centroids")
    assert PatchMaps.load(tmp_path / "centroids").maps["nCells"].tolist() == [[1, 2]]
    with pytest.raises(InputError, match="holds no outlines of cells; export the cells as GeoJSON"):
        (tmp_path / "a.tsv").write_text("Centroid X µm\tCentroid Y µm\tCell: Area\n1\t2\t30\n", encoding="utf-8")
        read_cells(tmp_path / "a.tsv", geometries=True)
