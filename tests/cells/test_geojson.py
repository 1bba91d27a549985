"""Cells of GeoJSON: every version gives the same cells, long files are streamed, damaged ones refused."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import geojson_stream, read_cells
from histomri.core.errors import HistomriError, InputError, UnitError


def square(x, y, size):
    return [[[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]]


CELL = {"type": "Polygon", "coordinates": square(100, 200, 40)}
NUCLEUS = {"type": "Polygon", "coordinates": square(112, 212, 16)}
NAN = float("nan")


def version(name):
    """Return the same cell as each version of QuPath writes it."""
    cell = {"type": "Feature", "id": "u1", "geometry": CELL, "nucleusGeometry": NUCLEUS}
    listed = [{"name": "Cell: Circularity", "value": 0.8}, {"name": "Nucleus: DAB OD mean", "value": NAN}]
    values = {"Cell: Circularity": 0.8, "Nucleus: DAB OD mean": "NaN"}
    nested = {"name": "Positive", "colorRGB": -377282, "parentClass": {"name": "Tumor", "colorRGB": -3670016}}
    names = {"names": ["Tumor", "Positive"], "color": [250, 62, 62]}
    if name == "0.2":
        return {**cell, "id": "PathCellObject", "properties": {"classification": nested, "measurements": listed}}
    if name == "0.3":
        return {**cell, "properties": {"object_type": "cell", "classification": nested, "measurements": listed}}
    if name == "0.4":
        bare = {**values, "Nucleus: DAB OD mean": NAN}
        now = {"objectType": "cell", "classification": {"name": "Tumor: Positive"}, "measurements": bare}
        return {**cell, "properties": now}
    if name == "0.7":
        return {**cell, "properties": {"objectType": "cell", "classification": names, "measurements": values}}
    properties = {"object_type": "CELL", "classification": names, "measurements": values}
    properties["extra_geometries"] = {"nucleus": NUCLEUS}
    return {"type": "Feature", "id": "u1", "geometry": CELL, "properties": properties}


ANNOTATION = {"type": "Feature", "id": "a", "geometry": CELL, "properties": {"objectType": "annotation"}}
FORMS = {
    "collection": lambda cell: json.dumps({"type": "FeatureCollection", "features": [ANNOTATION, cell]}, indent=1),
    "list": lambda cell: json.dumps([cell, ANNOTATION]),
    "single": json.dumps,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["0.2", "0.3", "0.4", "0.7", "qubalab"])
def test_every_version_gives_the_same_cell(tmp_path, name, form):
    path = tmp_path / "cells.geojson"
    path.write_text(FORMS[form](version(name)))
    table = read_cells(path, mpp=(0.5, 0.25))
    row = table.data.iloc[0]
    assert len(table) == 1
    assert (row.x_um, row.y_um, row.area_um2, row.nucleus_area_um2) == pytest.approx((60, 55, 200, 32))
    assert (row.classification, row.object_type) == ("Tumor: Positive", "cell")
    assert row.object_id == ("" if name == "0.2" else "u1")
    assert row.cell_circularity == pytest.approx(0.8)
    assert np.isnan(row.nucleus_dab_od_mean)
    assert table.metadata.dropped == ({} if form == "single" else {"not a cell or detection": 1})


def test_how_far_nuclei_lie_off_the_middle_of_their_cell_is_measured(tmp_path):
    path, (x, y) = tmp_path / "cells.geojson", (112 + 6, 212 - 8)  # the square of 16 px was in the middle
    aside = {"type": "Polygon", "coordinates": square(x, y, 16)}
    cells = [{**version("0.7"), "nucleusGeometry": aside}, {**version("0.7"), "id": "u2", "nucleusGeometry": None}]
    path.write_text(json.dumps(cells))
    for measurements in (True, False):
        data = read_cells(path, mpp=0.5, measurements=measurements).data
        assert data["nucleus_offset_um"][0] == pytest.approx(5.0) and np.isnan(data["nucleus_offset_um"][1])


def test_polygons_of_every_shape_are_measured(tmp_path):
    hole = {"type": "Polygon", "coordinates": square(0, 0, 100) + square(25, 25, 50)}
    two = {"type": "MultiPolygon", "coordinates": [square(0, 0, 10), square(90, 0, 10)]}
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}
    open_ring = {"type": "Polygon", "coordinates": [square(0, 0, 10)[0][:-1]]}
    point = {"type": "Point", "coordinates": [1, 2]}
    features = [
        {**version("0.7"), "id": f"cell {number}", "geometry": shape, "nucleusGeometry": None}
        for number, shape in enumerate((hole, two, bow, open_ring, point, None, {}))
    ]
    path = tmp_path / "cells.geojson.gz"
    path.write_bytes(gzip.compress(json.dumps(features).encode()))
    table = read_cells(path, mpp=1.0)
    assert table.data["area_um2"].tolist() == pytest.approx([7500, 200, 50, 100])
    assert table.data["x_um"].tolist() == pytest.approx([50, 50, 5, 5])
    assert table.metadata.dropped == {"without a position": 3}
    assert "1 outlines crossed themselves and were mended" in table.metadata.warnings[0]


def test_many_cells_are_streamed_across_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson_stream, "_CHUNK", 1000)  # many chunk borders within features
    features = [
        {**version("0.7"), "id": str(i), "geometry": {"type": "Polygon", "coordinates": square(i, 2 * i, 10)}}
        for i in range(300)
    ]
    path = tmp_path / "cells.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    data = read_cells(path, mpp=1.0).data
    np.testing.assert_allclose(data["x_um"], np.arange(300) + 5)
    np.testing.assert_allclose(data["y_um"], 2 * np.arange(300) + 5)
    assert data["object_id"].tolist() == [str(i) for i in range(300)]


def test_cells_within_an_annotation_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson_stream, "_CHUNK", 4000)  # the borders of the nested cells are no borders of the list
    inner = [{**version("0.7"), "id": f"inner {i}"} for i in range(5)]
    nested = {**ANNOTATION, "childObjects": [{**ANNOTATION, "id": "b", "childObjects": inner}]}
    outer = [{**version("0.7"), "id": f"outer {i}"} for i in range(30)]
    path = tmp_path / "cells.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [*outer[:15], nested, *outer[15:]]}))
    table = read_cells(path, mpp=0.5)
    assert sorted(table.data["object_id"]) == sorted(item["id"] for item in inner + outer)
    assert table.metadata.dropped == {"not a cell or detection": 2}


def test_detections_are_nuclei_and_a_stated_unit_wins(tmp_path):
    feature = {
        "type": "Feature",
        "geometry": CELL,
        "properties": {"objectType": "detection", "measurements": {"Area µm^2": 300.0}},
    }
    path = tmp_path / "d.json"
    path.write_text(json.dumps([feature]), encoding="utf-8")
    table = read_cells(path, mpp=0.5)
    assert table.metadata.compartment == "nucleus"
    assert table.data["area_um2"].tolist() == [300]  # the polygon has 400 µm²


def test_geojson_needs_the_pixel_size(tmp_path):
    path = tmp_path / "cells.geojson"
    path.write_text(json.dumps([version("0.7")]))
    with pytest.raises(UnitError, match=r"cells\.geojson: the positions are in pixels .*pass --mpp"):
        read_cells(path)


WHOLE = json.dumps({"type": "FeatureCollection", "features": [version("0.7")] * 3})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE[:-2], "is cut short: its list of objects has no end"),
        (WHOLE[:-400], "is cut short"),
        (WHOLE[:50] + "}" + WHOLE[50:], "is not valid JSON"),
        ("[]", "holds no cells: none of its 0 objects"),
        (json.dumps(ANNOTATION), "holds no cells: none of its 1 objects"),
        ("[" * 100_000, "nested too deeply"),
        (
            json.dumps([{**version("0.7"), "geometry": {"type": "Polygon", "coordinates": [["a", "b", "c", "a"]]}}]),
            "holds an outline",
        ),
    ],
)
def test_damaged_files_are_refused(tmp_path, text, message):
    path = tmp_path / "bad.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"bad\.geojson: .*{message}"):
        read_cells(path, mpp=0.5)


KEYS = ["type", "geometry", "coordinates", "properties", "measurements", "classification", "id", "nucleusGeometry"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=4), st.just(CELL)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=80)
@given(content=JSON, key=st.sampled_from(["geometry", "properties", "id", "nucleusGeometry", "type"]))
def test_random_json_never_gives_a_traceback(tmp_path_factory, content, key):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.geojson"
    feature = {**version("0.7"), key: content}
    for document in ([content], [feature], {"type": "FeatureCollection", "features": [feature, content]}):
        path.write_text(json.dumps(document))
        try:
            read_cells(path, mpp=0.5)
        except HistomriError as error:
            assert path.name in str(error)


def test_a_real_export_agrees_with_qupaths_own_areas(real_data):
    path = real_data / "qupath" / "lmd_Single_cells.geojson"
    cells = [f for f in json.loads(path.read_text())["features"] if f["properties"]["objectType"] == "cell"]
    table = read_cells(path, mpp=0.3457)
    assert len(table) == len(cells) == 121
    # QuPath measured before it simplified the outlines: 1 % on average, 3 % for one cell.
    ratio = [f["properties"]["measurements"]["Cell: Area"] for f in cells] / table.data["area_um2"].to_numpy()
    assert np.median(ratio) == pytest.approx(1, abs=0.01)
    assert np.abs(ratio - 1).max() < 0.03
    assert table.data["cell_perimeter"][0] == pytest.approx(47.3724, rel=1e-6)  # no unit: left as it is
