"""Maps and results in a notebook: what they are made of, how they show themselves, what they become."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from histomri.cells import CellTable
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.patches import PatchGrid, map_section, measure_labelling, summarise_patches, voxel_size_um

matplotlib.use("agg")


@pytest.fixture
def frame(rng):
    n = 900
    return pd.DataFrame(
        {"x_um": rng.uniform(0, 600, n), "y_um": rng.uniform(0, 400, n), "area_um2": rng.uniform(50, 200, n)},
        index=rng.permutation(n),
    )


@pytest.fixture
def maps(frame):
    return summarise_patches(frame, PatchGrid.covering(field_um=(600, 400), patch_um=(100, 80)))


def test_cells_may_be_a_dataframe_a_table_or_a_path(frame, maps, tmp_path):
    table = CellTable.from_columns(frame["x_um"], frame["y_um"], frame["area_um2"])
    table.save(tmp_path / "cells.parquet")
    for cells in (table, tmp_path / "cells.parquet", str(tmp_path / "cells.parquet")):
        again = summarise_patches(cells, maps.grid)
        for name, values in maps.maps.items():
            np.testing.assert_array_equal(again.maps[name], values)
    with pytest.raises(InputError, match="DataFrame with the columns x_um, y_um, area_um2"):
        summarise_patches(frame.rename(columns={"x_um": "X"}), maps.grid)


def test_maps_show_themselves_in_one_line(maps):
    assert repr(maps).startswith("PatchMaps(patches: 5 x 6 of 100 x 80 µm, median vCS: ")
    assert len(repr(maps)) < 200 and len(maps._repr_html_()) < 2000


def test_a_map_is_drawn_where_it_lies(maps):
    axes = maps.plot("CD", cmap="viridis")
    assert axes.images[0].get_extent() == [0, 600, 400, 0]
    np.testing.assert_array_equal(axes.images[0].get_array(), maps.maps["CD"])


def test_maps_become_a_table(maps):
    table = maps.to_pandas()
    assert len(table) == 30
    row = table[(table["row"] == 2) & (table["column"] == 4)].iloc[0]
    assert (row["x_um"], row["y_um"]) == (450, 200)
    assert row["vCS_histo_um"] == maps.maps["vCS"][2, 4] and row["vCS_histo_um_se"] == maps.errors["vCS"][2, 4]
    assert row["F_histo_uncorrected"] == maps.uncorrected["F"][2, 4]


def test_maps_become_an_xarray(maps):
    pytest.importorskip("xarray")
    data = maps.to_xarray()
    assert data["vCS"].dims == ("y_um", "x_um") and data["vCS"].attrs["units"] == "um"
    assert float(data["CD"].sel(x_um=450, y_um=200)) == maps.maps["CD"][2, 4]
    assert data.attrs["Preset"] == "mouse-exvivo"


def test_maps_become_spatialdata(maps):
    pytest.importorskip("spatialdata")
    patches = maps.to_spatialdata()["patches"]
    assert patches.geometry.iloc[2 * 6 + 4].bounds == (400, 160, 500, 240)
    assert patches["CD_histo_mm2"].iloc[2 * 6 + 4] == maps.maps["CD"][2, 4]


def test_a_section_takes_an_image_for_its_voxels(frame):
    mri = Image(np.zeros((3, 4, 2)), np.diag([0.2, 0.1, 1.5, 1]))
    assert voxel_size_um(mri) == pytest.approx((200, 100, 1500))
    section = map_section(frame, like=mri, preset="none")
    assert section.maps.grid.patch_um == pytest.approx((200, 100)) and section.maps.grid.thickness_um == 1500
    assert section.tissue is not None and len(repr(section)) < 300
    with pytest.raises(InputError, match="pass patch_um, like or whole"):
        map_section(frame)


def test_a_labelling_index_shows_itself(frame, rng):
    classes = np.where(rng.random(len(frame)) < 0.25, "Positive", "Negative")
    found = measure_labelling(frame.assign(classification=classes), map_um=200)
    assert found.value == (classes == "Positive").mean()
    assert repr(found).startswith("Ki67(labelling index: ") and len(repr(found)) < 200
    assert found.to_pandas()["region"].tolist()[0] == "whole"
    assert found.plot() is found.figure and found.map.data.shape == (2, 3)
