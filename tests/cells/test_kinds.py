"""Cells, nuclei, spots and tiles are told apart object by object, in tables as in GeoJSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import CellTable, read_cells
from histomri.core.errors import InputError, UnitError

DATA = Path(__file__).parents[1] / "data" / "histology"


def disc(x, y, radius, corners=40):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)]).round(2).tolist()
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}


def item(number, kind, x, y, radius, *, nucleus=None, class_="", measured=None):
    properties = {"objectType": kind, "classification": {"name": class_} if class_ else None}
    properties["measurements"] = measured or {}
    feature = {"type": "Feature", "id": f"id{number}", "geometry": disc(x, y, radius), "properties": properties}
    return feature if nucleus is None else {**feature, "nucleusGeometry": disc(x, y, nucleus)}


def some_objects():
    """Return (kind, class, x, y, radius in px, nucleus in px) of a mixed export, apart from each other."""
    objects = [("cell", "Tumor", 100.0 * i, 100, 28, 15) for i in range(8)]
    objects += [("detection", "Subcellular spot: DAB object", 100.0 * i, 100, 2, None) for i in range(8)]
    objects += [("detection", "Stroma", 100.0 * i, 300, 12, None) for i in range(5)]
    objects += [("tile", "", 100.0 * i, 500, 50, None) for i in range(3)]
    return [*objects, ("cell", "Ignore*", 900, 900, 20, 9), ("annotation", "Tissue", 400, 400, 600, None)]


def write_both(folder):
    """Write the mixed export as GeoJSON and as table."""
    objects = some_objects()
    features = [
        item(i, kind, x, y, radius, nucleus=nucleus, class_=class_)
        for i, (kind, class_, x, y, radius, nucleus) in enumerate(objects)
    ]
    (folder / "S.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    names = ["Image", "Object ID", "Object type", "Classification", "Centroid X µm", "Centroid Y µm"]
    lines = [[*names, "Nucleus: Area µm^2", "Cell: Area µm^2", "Area µm^2"]]
    for i, (kind, class_, x, y, radius, nucleus) in enumerate(objects):
        area, inner = np.pi * radius**2 / 16, "" if nucleus is None else np.pi * nucleus**2 / 16
        areas = [inner, area, ""] if kind == "cell" else ["", "", area]
        lines.append(["S", f"id{i}", kind.capitalize(), class_, x / 4, y / 4, *areas])
    (folder / "S.tsv").write_text("\n".join("\t".join(map(str, line)) for line in lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("options", [{}, {"detections": "cells"}, {"detections": "nuclei"}])
def test_table_and_geojson_give_the_same_cells(tmp_path, options):
    write_both(tmp_path)
    tables = [
        read_cells(tmp_path / "S.geojson", mpp=0.25, **options),
        read_cells(tmp_path / "S.tsv", **options),
    ]
    ours, theirs = (table.data for table in tables)
    assert ours["object_id"].tolist() == theirs["object_id"].tolist()
    assert len(ours) == (13 if options.get("detections") == "cells" else 8)
    assert ours["classification"].tolist() == theirs["classification"].tolist()
    for name in ("x_um", "y_um", "area_um2", "nucleus_area_um2"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0.01, atol=0.01)
    assert tables[0].metadata.dropped == tables[1].metadata.dropped
    assert tables[0].metadata.kinds == tables[1].metadata.kinds
    assert tables[0].metadata.compartment == tables[1].metadata.compartment == "cell"


def test_what_is_no_cell_is_counted_by_kind(tmp_path):
    write_both(tmp_path)
    table = read_cells(tmp_path / "S.geojson", mpp=0.25)
    assert table.metadata.kinds == {"cell": 9, "nucleus": 5, "subcellular spot": 8, "tile": 3, "annotation": 1}
    assert table.metadata.dropped == {
        "subcellular spot": 8,
        "a detection without a cell outline, beside cells": 5,
        "not a cell or detection": 4,
        "of an ignored class (its name ends in *)": 1,
    }
    assert "  objects: 9 cell, 5 nucleus, 8 subcellular spot, 3 tile, 1 annotation" in table.messages()
    table.save(tmp_path / "t.parquet")
    assert CellTable.load(tmp_path / "t.parquet").metadata.kinds == table.metadata.kinds
    assert table.summary()["kinds"]["tile"] == 3
    # An ignored class can be asked for.
    assert len(read_cells(tmp_path / "S.geojson", mpp=0.25, classes=["Ignore*"])) == 1


def test_nuclei_are_taken_where_there_are_no_cells(tmp_path):
    features = [item(i, "detection", 100 * i, 0, 12) for i in range(5)]
    features += [item(9, "detection", 0, 0, 2, class_="Subcellular cluster: DAB object")]
    path = tmp_path / "n.geojson"
    path.write_text(json.dumps(features))
    table = read_cells(path, mpp=0.25)
    assert (len(table), table.metadata.compartment) == (5, "nucleus")
    assert table.metadata.dropped == {"subcellular spot": 1}
    path.write_text(json.dumps(features[-1:]))
    with pytest.raises(InputError, match="holds no cells: its 1 objects are of type subcellular spot"):
        read_cells(path, mpp=0.25)


def test_nuclei_that_are_called_cells(tmp_path):
    path = tmp_path / "hover.geojson"
    path.write_text(json.dumps([item(i, "cell", 100 * i, 0, 12) for i in range(5)]))
    table = read_cells(path, mpp=0.25)
    assert table.metadata.compartment == "cell"
    assert any("pass --detections nuclei" in text for text in table.metadata.warnings)
    table = read_cells(path, mpp=0.25, detections="nuclei")
    assert table.metadata.compartment == "nucleus"
    np.testing.assert_array_equal(table.data["nucleus_area_um2"], table.data["area_um2"])
    table = tmp_path / "t.tsv"
    table.write_text("Object type\tCentroid X µm\tCentroid Y µm\tCell: Area\nCell\t1\t2\t40\n", encoding="utf-8")
    assert read_cells(table, detections="nuclei").metadata.compartment == "nucleus"


def measured(tmp_path, n, name, unit_um=0.25, **options):
    radius = np.linspace(20, 30, n)
    cells = [
        item(i, "cell", 100 * i, 0, r, nucleus=9, measured={name: np.pi * r**2 * unit_um**2})
        for i, r in enumerate(radius)
    ]
    path = tmp_path / "m.geojson"
    path.write_text(json.dumps(cells))
    return read_cells(path, **options)


@pytest.mark.parametrize("name", ["Cell: Area µm^2", "Cell: Area"])
def test_a_wrong_pixel_size_is_noticed_by_the_measured_areas(tmp_path, name):
    assert len(measured(tmp_path, 30, name, mpp=0.25)) == 30
    with pytest.raises(UnitError, match=r"0\.25\d* times those of the outlines .*pass --mpp 0\.25\d* if"):
        measured(tmp_path, 30, name, mpp=0.5)
    drawn = measured(tmp_path, 30, name, mpp=0.5, areas="outlines")
    taken = measured(tmp_path, 30, name, mpp=0.5, areas="measured")
    expected = 4 if "µm" in name else 1
    assert np.median(drawn.data["area_um2"] / taken.data["area_um2"]) == pytest.approx(expected, rel=0.02)
    assert any("times those of the outlines" in text for text in drawn.metadata.warnings)
    # Measured in pixels, the plain name fits any pixel size.
    if "µm" not in name:
        assert len(measured(tmp_path, 30, name, 1.0, mpp=0.5)) == 30


def test_a_few_cells_or_a_scattered_measurement_only_warn(tmp_path):
    table = measured(tmp_path, 3, "Cell: Area µm^2", mpp=0.5)
    assert any("times those of the outlines" in text for text in table.metadata.warnings)


def test_the_case_files_keep_their_numbers():
    assert len(read_cells(DATA / "bare_nan.geojson", mpp=0.25)) == 5
    spots = read_cells(DATA / "detections_with_spots.tsv")
    assert (len(spots), spots.metadata.dropped) == (100, {"subcellular spot": 300})


@settings(deadline=None, max_examples=25)
@given(kinds=st.lists(st.sampled_from(["cell", "detection", "spot", "tile", "annotation"]), min_size=1, max_size=12))
def test_every_object_is_kept_or_counted(tmp_path_factory, kinds):
    path = tmp_path_factory.mktemp("kinds") / "k.geojson"
    spot = {"kind": "detection", "class_": "Subcellular spot: DAB object"}
    features = [
        item(i, **({"kind": kind} if kind != "spot" else spot), x=100 * i, y=0, radius=20)
        for i, kind in enumerate(kinds)
    ]
    path.write_text(json.dumps(features))
    expected = kinds.count("cell") or kinds.count("detection")
    try:
        table = read_cells(path, mpp=0.25)
    except InputError:
        assert expected == 0
    else:
        metadata = table.metadata
        assert len(table) == expected
        assert metadata.n_read == len(kinds) == metadata.n_kept + sum(metadata.dropped.values())
        assert sum(metadata.kinds.values()) == len(kinds)
