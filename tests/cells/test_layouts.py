"""Files of other programs: recognised, or read with a named layout or named columns; errors say which."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import read_cells
from histomri.cells.layouts import LAYOUT_NAMES
from histomri.cells.layouts.registry import MAP_KEYS
from histomri.core.errors import HistomriError, InputError, UnitError

DATA = Path(__file__).parents[1] / "data" / "histology"
SQUARE = [[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]


def square(x, y=0):
    return [[x + a, y + b] for a, b in SQUARE]


def test_the_case_files_name_the_layout():
    path = DATA / "multipolygon_per_class.geojson"
    with pytest.raises(InputError, match="pass --layout cellvit"):
        read_cells(path, mpp=0.25)
    parts = sum(len(one["geometry"]["coordinates"]) for one in json.loads(path.read_text()))
    table = read_cells(path, mpp=0.25, layout="cellvit")
    assert (len(table), table.metadata.compartment) == (parts, "nucleus")
    assert table.data["classification"].nunique() == 2
    path = DATA / "type_is_class.geojson"
    with pytest.raises(InputError, match="pass --layout tiatoolbox"):
        read_cells(path, mpp=0.25)
    table = read_cells(path, mpp=0.25, layout="tiatoolbox", detections="cells")
    assert (len(table), table.metadata.compartment) == (300, "cell")
    assert "Neoplastic" in set(table.data["classification"])
    assert table.data["detection_probability"].iloc[0] == pytest.approx(0.9)


def plain(x, **properties):
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [square(x)]}, "properties": properties}


OUTLINES = {
    "annotations": [plain(50 * i, objectType="annotation", classification={"name": "A"}) for i in range(4)],
    "polygons": [plain(50 * i, **{"class": "A"}) for i in range(4)],
    "hovernet": {"nuc": {str(i): {"contour": square(50 * i)[:-1], "type": "A", "type_prob": 0.5} for i in range(4)}},
    "tiatoolbox": [plain(50 * i, type="A", prob=0.5) for i in range(4)],
    "cellvit": [
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [[square(50 * i)] for i in range(4)]},
            "properties": {"objectType": "annotation", "classification": {"name": "A"}},
        }
    ],
}


@pytest.mark.parametrize("name", OUTLINES)
def test_every_layout_of_outlines_is_named_and_read(tmp_path, name):
    path = tmp_path / "o.json"
    path.write_text(json.dumps(OUTLINES[name]))
    with pytest.raises(InputError, match=f"pass --layout {name}"):
        read_cells(path, mpp=0.5)
    table = read_cells(path, mpp=0.5, layout=name)
    assert table.data["area_um2"].tolist() == [100.0] * 4
    assert set(table.data["classification"]) == {"A"}
    assert table.metadata.compartment == "nucleus"
    assert read_cells(path, mpp=0.5, layout=name, detections="cells").metadata.compartment == "cell"


TABLES = {
    "mcmicro": ("CellID,DAPI,X_centroid,Y_centroid,Area,Solidity", "{i},5,{x},{y},400,0.9"),
    "cellprofiler": (
        "ImageNumber,ObjectNumber,AreaShape_Area,AreaShape_Center_X,AreaShape_Center_Y",
        "1,{i},400,{x},{y}",
    ),
    "regionprops": ("label,area,centroid-0,centroid-1", "{i},400,{y},{x}"),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_other_programs_are_recognised(tmp_path, name):
    head, row = TABLES[name]
    path = tmp_path / "t.csv"
    path.write_text("\n".join([head, *(row.format(i=i, x=60 * i, y=7) for i in range(1, 5))]) + "\n")
    table = read_cells(path, mpp=0.5)
    assert table.data["x_um"].tolist() == [30, 60, 90, 120]
    assert table.data["y_um"].tolist() == [3.5] * 4
    assert table.data["area_um2"].tolist() == [100] * 4
    assert any(f"(layout {name})" in text for text in table.metadata.warnings)
    with pytest.raises(UnitError, match="pass --mpp"):
        read_cells(path)


def test_a_table_without_units_asks_for_them(tmp_path):
    path = tmp_path / "t.tsv"
    head = "Cell.ID\tCell.classification\tCell.X\tCell.Y\tCell: Area µm^2\tNucleus: Area µm^2\n"
    path.write_text(head + "a1\tTumor\t10\t20\t90\t30\n", encoding="utf-8")
    with pytest.raises(UnitError, match=r"'Cell\.X' has no unit; pass --position-unit um or px"):
        read_cells(path)
    row = read_cells(path, position_unit="um").data.iloc[0]
    assert (row.x_um, row.y_um, row.area_um2, row.nucleus_area_um2, row.classification) == (10, 20, 90, 30, "Tumor")
    assert read_cells(path, position_unit="px", mpp=0.5).data["x_um"].tolist() == [5]
    path.write_text("Centroid X µm\tCentroid Y µm\tCell: Area\n1\t2\t40\n", encoding="utf-8")
    with pytest.raises(UnitError, match="states its unit, and --position-unit px says otherwise"):
        read_cells(path, position_unit="px", mpp=0.5)


def test_columns_are_named_in_a_file(tmp_path):
    path, names = tmp_path / "t.csv", tmp_path / "map.toml"
    path.write_text("pos_a;pos_b;size;kind\n10;20;90;T\n")
    with pytest.raises(InputError, match=r"has no column 'Centroid X µm'.*--columns map.toml, or --layout \(mcmicro"):
        read_cells(path)
    names.write_text('x = {column = "pos_a", unit = "um"}\ny = {column = "pos_b", unit = "um"}\ncell_area = "size"\n'
                     'classification = "kind"\n')  # fmt: skip
    table = read_cells(path, columns=names)
    row = table.data.iloc[0]
    assert (row.x_um, row.y_um, row.area_um2, row.classification) == (10, 20, 90, "T")
    assert table.metadata.compartment == "cell"
    for text, message in (
        ('x = "pos_z"', r"has no column 'pos_z', which the file of column names names .*check --columns"),
        ("x = 3", "x must be the name of a column"),
        ('size = "size"', "'size' names no column"),
        ('x = {column = "pos_a", unit = "miles"}', "the unit of x is 'miles'"),
        ("x =", "is no TOML file"),
        ("# nothing", "names no column"),
    ):
        names.write_text(text)
        with pytest.raises(InputError, match=f"(?s){message}"):
            read_cells(path, columns=names)


def test_a_layout_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="the layout 'cellvit' is one of outlines; layouts of tables are mcmicro"):
        read_cells(path, layout="cellvit")
    with pytest.raises(InputError, match="layout: must be 'mcmicro'"):
        read_cells(path, layout="nothing")
    geo = tmp_path / "g.json"
    geo.write_text(json.dumps(OUTLINES["polygons"]))
    with pytest.raises(InputError, match="the layout 'mcmicro' is one of tables; layouts of outlines are"):
        read_cells(geo, layout="mcmicro", mpp=1)
    assert set(OUTLINES) | set(TABLES) <= set(LAYOUT_NAMES)


@pytest.mark.parametrize("circles", [False, True])
def test_geoparquet(tmp_path, circles):
    path = tmp_path / "shapes.parquet"
    shapes = [shapely.Point(40 * i, 7) if circles else shapely.box(40 * i, 0, 40 * i + 20, 20) for i in range(3)]
    columns = {"geometry": shapely.to_wkb(shapes), "cell_id": ["a", "b", "c"], "class": ["T", "T", None]}
    table = pa.table(columns | ({"radius": [10.0] * 3} if circles else {}))
    about = {"primary_column": "geometry", "columns": {"geometry": {"encoding": "WKB"}}}
    pq.write_table(table.replace_schema_metadata({b"geo": json.dumps(about).encode()}), path)
    cells = read_cells(path, mpp=0.5, detections="cells", geometries=True)
    assert cells.data["area_um2"].tolist() == pytest.approx([np.pi * 25 if circles else 100] * 3)
    assert cells.data["object_id"].tolist() == ["a", "b", "c"]
    assert cells.data["classification"].tolist() == ["T", "T", ""]
    assert shapely.area(cells.outlines) == pytest.approx(cells.data["area_um2"], rel=0.05)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="Parquet file, not a table of cells"):
        read_cells(path, mpp=0.5)


TOML_VALUE = st.one_of(
    st.integers(), st.booleans(), st.sampled_from(['"a"', '"x"', '{column = "a"}', "[1]", '{unit = "px"}'])
)


@settings(deadline=None, max_examples=40)
@given(lines=st.dictionaries(st.sampled_from([*MAP_KEYS[:6], "odd"]), TOML_VALUE, max_size=4))
def test_random_files_of_column_names_never_give_a_traceback(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("map")
    (folder / "t.csv").write_text("a,x,y\n1,2,3\n4,5,6\n")
    (folder / "map.toml").write_text("\n".join(f"{key} = {str(value).lower()}" for key, value in lines.items()))
    try:
        read_cells(folder / "t.csv", columns=folder / "map.toml", mpp=0.5)
    except HistomriError as error:
        assert "t.csv" in str(error) or "map.toml" in str(error)
