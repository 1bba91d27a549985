"""The cell table as an object: what it is made of, how it shows itself, what it becomes."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import shapely

from histomri.cells import CellMetadata, CellTable, load_cells
from histomri.core.errors import InputError

COLUMNS = {"x_um": [10.0, 30.0, 50.0], "y_um": [5.0, 6.0, 7.0], "area_um2": [80.0, 90.0, 100.0]}


def test_a_dataframe_becomes_a_table_with_its_other_columns():
    frame = pd.DataFrame(
        {**COLUMNS, "classification": ["Positive", "Negative", ""], "score": [1, 2, 3]}, index=[4, 7, 9]
    )
    table = CellTable.coerce(frame)
    assert len(table) == 3 and table.metadata.n_kept == 3
    assert table.data["classification"].tolist() == ["Positive", "Negative", ""]
    assert table.data["score"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(table.data["diameter_um"], np.sqrt(4 * np.array(COLUMNS["area_um2"]) / np.pi))
    assert CellTable.coerce(table) is table


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pd.DataFrame({"x": [1.0]}), "and this is of x"),
        (np.zeros((2, 3)), "and this is ndarray"),
    ],
)
def test_the_need_is_said_in_one_sentence(given, message):
    with pytest.raises(InputError, match=f"columns x_um, y_um, area_um2 .* {message}"):
        CellTable.coerce(given)


def test_it_shows_itself_in_one_line(rng):
    table = CellTable.from_columns(*rng.uniform(0, 900, (2, 5000)), np.full(5000, 90.0))
    assert repr(table) == "CellTable(cells: 5,000, slide: unknown, sizes of: cells, median diameter: 10.7 µm)"
    assert table._repr_html_().startswith("<table>") and "10.7 µm" in table._repr_html_()


def test_it_is_drawn_with_y_down():
    matplotlib.use("agg")
    axes = CellTable.from_columns(*COLUMNS.values()).plot()
    assert axes.yaxis_inverted() and axes.get_xlabel() == "x (µm)"
    np.testing.assert_allclose(axes.collections[0].get_offsets()[0], (10, 5))


def test_cells_are_selected_by_region_and_class(tmp_path):
    frame = pd.DataFrame({**COLUMNS, "classification": ["Tumor: Positive", "Stroma", "Tumor: Negative"]})
    table = CellTable.coerce(frame)
    table = CellTable(table.data, CellMetadata(n_read=3, n_kept=3, pixel_size_um=(0.5, 0.5)))
    kept = table.select(region=shapely.box(0, 0, 40, 40), classes=["tumor"])
    assert kept.data["x_um"].tolist() == [10]
    assert kept.metadata.n_kept + sum(kept.metadata.dropped.values()) == kept.metadata.n_read
    assert kept.region.equals(shapely.box(0, 0, 40, 40))
    table.save(tmp_path / "cells.parquet")
    again, warnings = load_cells(tmp_path / "cells.parquet", classes=("Stroma",))
    assert again.data["x_um"].tolist() == [30] and warnings == ()
    with pytest.raises(InputError, match="none of 3 cells is left; check --roi and --classes"):
        load_cells(tmp_path / "cells.parquet", classes=("Necrosis",))


def test_spatialdata_has_circles_or_outlines():
    pytest.importorskip("spatialdata")
    table = CellTable.from_columns(*COLUMNS.values())
    circles = table.to_spatialdata()["cells"]
    np.testing.assert_allclose(circles["radius"], table.data["diameter_um"] / 2)
    outlines = shapely.buffer(shapely.points(table.data["x_um"], table.data["y_um"]), 5)
    polygons = CellTable(table.data, table.metadata, outlines).to_spatialdata("nuclei")["nuclei"]
    assert polygons.geometry.iloc[0].equals(outlines[0])


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "geopandas", None)
    with pytest.raises(InputError, match=r"needs the package geopandas; pip install 'histomri\[notebook\]'"):
        CellTable.from_columns(*COLUMNS.values()).to_spatialdata()
