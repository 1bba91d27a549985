"""Damaged and hostile files: each is refused in words, or read with what is wrong in it counted."""

import gzip
import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import CellTable, read_cells, sniff
from histomri.core.errors import HistomriError, InputError

HEADER = "Image\tObject ID\tClass\tCentroid X µm\tCentroid Y µm\tCell: Area\n"
ROWS = "A\tid1\tTumor\t1\t2\t100\nA\tid2\tTumor\t5\t6\t120\n"


def ring(x=0.0, y=0.0, size=10.0):
    return [[x, y], [x + size, y], [x + size, y + size], [x, y + size], [x, y]]


def cell(coordinates=None, kind="Polygon", **properties):
    shape = {"type": kind, "coordinates": [ring()] if coordinates is None else coordinates}
    return {"type": "Feature", "id": "a", "geometry": shape, "properties": {"objectType": "cell", **properties}}


def zipped(*names, content=HEADER + ROWS, **options):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name in names:
            archive.writestr(name, content)
    return stream.getvalue()


def text(value):
    return value if isinstance(value, bytes) else value.encode()


GEO = json.dumps([cell()])
OUTLINE = "holds an outline that cannot be read"
JSON = "is not valid JSON"

# Name -> (content, message it must give); read with --mpp 0.5.
REFUSED = {
    # archives
    "path traversal.zip": (zipped("../../etc/x.tsv"), r"holds a file named '../../etc/x.tsv', a name that points out"),
    "absolute path.zip": (zipped("/etc/passwd"), "a name that points out of its folder"),
    "windows path.zip": (zipped("..\\x.tsv"), "a name that points out of its folder"),
    "drive.zip": (zipped("C:\\x.tsv"), "a name that points out of its folder"),
    "bomb.zip": (zipped("a.tsv", content=HEADER + "A\ti\t\t1\t2\t3\n" * 7_000_000), "unpacks to more than 200 times"),
    "bomb.gz": (gzip.compress(b"[" + b" " * 90_000_000), "unpacks to more than 200 times its size"),
    "empty.zip": (zipped(), "is an empty zip archive"),
    "two.zip": (zipped("a.tsv", "b.tsv"), "is a zip of 2 files, and one table was expected"),
    "workbook.zip": (zipped("[Content_Types].xml", "xl/workbook.xml"), "is an Excel workbook or another archive of"),
    "cut.zip": (zipped("a.tsv")[:-30], "the archive is cut short or damaged"),
    "flipped.zip": (zipped("a.tsv").replace(b"\x78\x9c", b"\0\0")[:60] + bytes(80), "cut short or damaged"),
    "zip in zip.zip": (zipped("b.zip", content=zipped("a.tsv")), "is not a text file"),
    "gz in gz.gz": (gzip.compress(gzip.compress(text(HEADER + ROWS))), "is not a text file"),
    "cut.gz": (gzip.compress(text(HEADER + ROWS * 500))[:-20], "the archive is cut short or damaged"),
    "cut geojson.gz": (gzip.compress(text(json.dumps([cell()] * 50)))[:-20], "the archive is cut short or damaged"),
    "rubbish.gz": (b"\x1f\x8b" + bytes(range(60)), "the archive is cut short or damaged"),
    # text that is no table
    "html": (b"<html><script>alert(1)</script></html>", "is not a table: its first line is '<html><script>"),
    "xml": (b'<?xml version="1.0"?>\n<a/>', "is not a table"),
    "elf": (b"\x7fELF\x02\x01\x01" + bytes(50), "is not a text file"),
    "zeros": (bytes(100), "is not a text file"),
    "utf-16 cut": (text(HEADER).decode().encode("utf-16")[:-1], "is not a text file|has a header and no rows"),
    "one long line": (b"A" * 3_000_000, "is not a table"),
    "tabs only": (b"\t\t\t\t\n\t\t\t\t\n", "holds nothing but blank lines"),
    # tables
    "cut in a row": (HEADER + "A\tid1\tTu", "its only row is cut short"),
    "a quote without end": (HEADER + 'A\t"id1\tTumor\t1\t2\t3\n', "has . values? where|cannot be read as a table"),
    "words for areas": (HEADER + "A\ti\t\t1\t2\tbig\n", "column 'Cell: Area' holds 'big', which is not a number"),
    "formula": (HEADER + "A\ti\t\t=1+1\t2\t3\n", "column 'Centroid X µm' holds '=1.1', which is not a number"),
    "dates": (HEADER + "A\ti\t\t2020-01-01\t2\t3\n", "holds '2020-01-01', which is not a number"),
    "thousands": (HEADER + "A\ti\t\t1,234.5\t2\t3\n", "holds '1,234.5', which is not a number"),
    "far away": (HEADER + "A\ti\t\t1e9\t2\t3\n", "no cell is left of 1 rows: 1 more than a metre off the slide"),
    "infinite": (HEADER + "A\ti\t\t1\tinf\t3\n", "1 more than a metre off the slide"),
    "beyond double": (HEADER + "A\ti\t\t1\t1e999\t3\n", "1 more than a metre off the slide"),
    "negative": (HEADER + "A\ti\t\t1\t2\t-3\n", "1 with an area of zero or less"),
    "nothing but NaN": (HEADER + "A\ti\t\tNaN\tNaN\tNaN\n", "1 without a position"),
    "two slides": (HEADER + ROWS + "B\ti\t\t1\t2\t3\n", "holds cells of 2 images: 'A', 'B'"),
    "html name": (HEADER + ROWS + "<b>B</b>\ti\t\t1\t2\t3\n", "holds cells of 2 images: 'A', '<b>B</b>'"),
    # GeoJSON: text
    "cut in the list.json": (GEO[:-1], "is cut short: its list of objects has no end"),
    "cut in an object.json": (GEO[:-2], "is cut short: it ends within an object"),
    "cut in a word.json": (GEO[: GEO.index("Feature") + 3], "is cut short: it ends within an object"),
    "cut in a number.json": (GEO[: GEO.index("10.0") + 2], "is cut short: it ends within an object"),
    "open.json": ("[", "is cut short: its list of objects has no end"),
    "brace.json": ("{", "is cut short"),
    "empty object.json": ("{}", "holds no cells: none of its 1 objects"),
    "empty list.json": ("[]", "holds no cells: none of its 0 objects"),
    "empty collection.json": ('{"type":"FeatureCollection","features":[]}', "none of its 0 objects"),
    "numbers.json": ("[1, 2, 3]", "none of its 3 objects"),
    "a brace too many.json": ("[}" + GEO[1:], JSON),
    "wrong bracket.json": (GEO.replace("}}]", "}]]"), JSON + "|is cut short"),
    "no comma.json": (GEO.replace(', "properties"', ' "properties"'), JSON),
    "single quotes.json": (GEO.replace('"', "'"), JSON + "|is not a table|is cut short"),
    "bare word.json": (GEO.replace('"cell"', "cell"), JSON),
    "control character.json": (GEO.replace('"a"', '"a\x01"'), JSON + "|is not a text file"),
    "utf-8 cut.json": (text(GEO).replace(b'"a"', b'"\xc3"'), "is not a UTF-8 text file"),
    "latin-1.json": (GEO.replace('"a"', '"µ"').encode("cp1252"), "is not a UTF-8 text file"),
    "utf-16.json": (GEO.encode("utf-16"), "is GeoJSON, but not a UTF-8 text file"),
    "deep.json": ("[" * 200_000, "nested too deeply"),
    "deep objects.json": ('[{"a":' + '{"a":' * 5000 + "1" + "}" * 5001 + "]", "nested too deeply"),
    "deep coordinates.json": (GEO.replace("[[[", "[" * 3000).replace("]]]", "]" * 3000), "nested too deeply"),
    "long number.json": (GEO.replace("10.0", "1" * 6000, 1).replace('"a"', "1" * 6000), "holds a number too long"),
    # GeoJSON: shapes
    "words.json": (json.dumps([cell([[["a", "b"]] * 5])]), OUTLINE),
    "one number each.json": (json.dumps([cell([[[1], [2], [3], [1]]])]), OUTLINE),
    "ragged.json": (json.dumps([cell([[[0, 0], [1, 1], [2], [0, 0]]])]), OUTLINE),
    "flat.json": (json.dumps([cell([[1, 2, 3, 4]])]), f"1 without a position|{OUTLINE}"),
    "null corner.json": (json.dumps([cell([[[0, 0], None, [1, 1], [0, 0]]])]), OUTLINE),
    "double comma.json": (GEO.replace("[0.0, 0.0],", "[0.0,, 0.0],", 1), JSON),
    "two points.json": (json.dumps([cell([[[0, 0], [1, 1]]])]), "1 without a position"),
    "on a line.json": (json.dumps([cell([[[0, 0], [1, 1], [2, 2], [0, 0]]])]), "1 without a position"),
    "no rings.json": (json.dumps([cell([])]), "1 without a position"),
    "a point.json": (json.dumps([cell([1, 2], "Point")]), "1 without a position"),
    "a curve.json": (json.dumps([cell([ring()], "CurvePolygon")]), "1 without a position"),
    "too few brackets.json": (json.dumps([cell(ring())]), f"1 without a position|{OUTLINE}"),
    "too many brackets.json": (json.dumps([cell([[ring()]])]), f"1 without a position|{OUTLINE}"),
    "a number for an array.json": (json.dumps([cell(0)]), "1 without a position"),
    "far.json": (json.dumps([cell([ring(1e9)])]), "1 more than a metre off the slide"),
    "farther.json": (json.dumps([cell([ring(1e200, 0, 1e190)])]), "1 (without a position|more than a metre)"),
    "beyond double.json": (GEO.replace("10.0", "1e400"), OUTLINE),
    "annotations.json": (GEO.replace('"cell"', '"annotation"'), "none of its 1 objects is a cell or detection"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_words(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / name
    path.write_bytes(text(content))
    with pytest.raises(InputError, match=f"(?s){name.replace('.', '[.]')}: .*({message})"):
        read_cells(path, mpp=0.5)


def test_there_are_as_many_as_promised():
    assert len(REFUSED) >= 60


def counted(tmp_path, name, content, **options):
    path = tmp_path / name
    path.write_bytes(text(content))
    table = read_cells(path, mpp=0.5, **options)
    return table, " | ".join(table.metadata.warnings)


def test_rows_with_an_identifier_met_before_are_dropped(tmp_path):
    rows = "A\tsame\tT\t1\t2\t100\nA\tsame\tT\t50\t60\t90\nA\tother\tT\t5\t6\t120\nA\t\tT\t7\t6\t12\nA\t\tT\t9\t6\t12\n"
    table, warnings = counted(tmp_path, "a.tsv", HEADER + rows)
    assert table.data["area_um2"].tolist() == [100, 120, 12, 12]
    assert table.metadata.dropped == {"repeated object id": 1}
    assert (table.metadata.n_read, table.metadata.n_kept) == (5, 4)
    assert "1 cells have the object ID of another cell, of which they are a copy, and were dropped" in warnings
    _, warnings = counted(tmp_path, "a.tsv", HEADER + ROWS)
    assert "object ID" not in warnings


def test_plain_numbers_are_no_identity(tmp_path):
    rows = "A\t1\tT\t1\t2\t100\nA\t2\tT\t50\t60\t90\nA\t1\tT\t5\t6\t120\n"
    table, warnings = counted(tmp_path, "a.tsv", HEADER + rows)
    assert (len(table), table.metadata.dropped) == (3, {})
    assert "1 cells have the object ID of another cell: some rows may be there twice" in warnings


def test_repeats_are_dropped_across_files_with_their_outlines(tmp_path):
    def named(name, x):
        return {**cell([ring(x)]), "id": name}

    paths = [tmp_path / "s.a.json", tmp_path / "s.b.json"]
    paths[0].write_text(json.dumps([named("p", 0), named("q", 50)]))
    paths[1].write_text(json.dumps([named("q", 50), named("r", 90)]))
    table = read_cells(*paths, mpp=1, geometries=True)
    assert table.data["object_id"].tolist() == ["p", "q", "r"]
    assert [outline.bounds[0] for outline in table.outlines] == [0, 50, 90]
    assert table.metadata.dropped == {"repeated object id": 1}
    assert (table.metadata.n_read, table.metadata.n_kept) == (4, 3)


def test_a_file_given_twice_is_refused(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(HEADER + ROWS, encoding="utf-8")
    (tmp_path / "link.tsv").symlink_to(path)
    for again in (path, tmp_path / "x" / ".." / "a.tsv", tmp_path / "link.tsv"):
        with pytest.raises(InputError, match="is given twice, and its cells would count twice"):
            read_cells(path, again)


def test_a_pixel_size_that_nothing_needs_is_told(tmp_path):
    _, warnings = counted(tmp_path, "a.tsv", HEADER + ROWS)
    assert "a.tsv: the pixel size (--mpp) was not used: positions and areas are in µm already" in warnings
    _, warnings = counted(tmp_path, "b.tsv", (HEADER + ROWS).replace("µm", "px"))
    assert "--mpp" not in warnings
    path = tmp_path / "a.tsv"
    assert not any("--mpp" in text for text in read_cells(path).metadata.warnings)


def test_cells_exported_twice_are_told(tmp_path):
    twice = [{**cell([ring(x)]), "id": name} for name, x in (("a", 0), ("b", 50), ("c", 50))]
    table, warnings = counted(tmp_path, "a.json", json.dumps(twice))
    assert (len(table), table.metadata.dropped) == (3, {})
    assert "1 cells have the position and area of another cell" in warnings


def test_bow_ties_are_mended_and_counted(tmp_path):
    bow = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
    wound_twice = [*ring()[:-1], *ring()]
    crossed = [{**cell([points]), "id": name} for name, points in zip("abc", (bow, wound_twice, ring()))]
    table, warnings = counted(tmp_path, "a.json", json.dumps(crossed))
    assert table.data["area_um2"].tolist() == pytest.approx([12.5, 25, 25])
    assert "2 outlines crossed themselves and were mended" in warnings


def test_names_are_kept_as_they_are(tmp_path):
    evil = "<script>alert(1)</script>"
    table, _ = counted(tmp_path, "a.tsv", HEADER + ROWS.replace("A\t", f"{evil}\t").replace("Tumor", "=cmd()"))
    assert table.metadata.image == evil  # whoever shows it must escape it
    assert set(table.data["classification"]) == {"=cmd()"}
    table, _ = counted(tmp_path, "b.json", json.dumps([cell(classification={"name": evil})]))
    assert table.data["classification"][0] == evil
    table, _ = counted(tmp_path, "c.json", GEO.replace('"a"', r'"\ud800\"}]"'))
    assert table.data["object_id"][0] == '?"}]'


def test_a_number_in_the_place_of_an_array_takes_no_other_cells_outline(tmp_path):
    first, second = cell([ring(0, 0, 10)]), cell(0)
    table, _ = counted(tmp_path, "a.json", json.dumps([first, second]))
    assert table.metadata.dropped == {"without a position": 1}
    # Spelled so that the scanner does not see the key.
    table, _ = counted(
        tmp_path, "b.json", json.dumps([first, second]).replace('"coordinates": 0', r'"c\u006fordinates": 0')
    )
    assert table.metadata.dropped == {"without a position": 1}


def test_what_looks_like_coordinates_in_a_text_is_text(tmp_path):
    trap = '"coordinates":[[[0,0],[99,0],[99,99],[0,0]]], NaN, }, ], Infinity'
    first = cell(name=trap, metadata={trap: trap, "coordinates": [[1, 2], [3, 4]]})
    features = [first, {**cell([ring(50)]), "id": "b"}]
    table, _ = counted(tmp_path, "a.json", json.dumps(features))
    assert table.data["x_um"].tolist() == [2.5, 27.5]


def test_every_spelling_of_a_number_is_read(tmp_path):
    spelled = "[[[0,0],[1e1,0.0],[10.00000000000000000000001,100E-1],[-0,1.0e+1],[0,0]]]"
    table, _ = counted(tmp_path, "a.json", GEO.replace(json.dumps([ring()]), spelled))
    assert table.data[["x_um", "y_um", "area_um2"]].to_numpy()[0] == pytest.approx([2.5, 2.5, 25], rel=1e-12)


@pytest.mark.parametrize("number", ["01", "1.", ".5", "1e", "+1", "--1", "1_0", "0x1"])
def test_what_json_calls_no_number_is_refused(tmp_path, number):
    with pytest.raises(InputError, match="is not valid JSON"):
        counted(tmp_path, "a.json", GEO.replace("[10.0, 0.0]", f"[{number}, 0.0]"))


def test_bare_nan_and_infinity_are_read_as_numbers(tmp_path):
    measured = {"Nucleus: DAB OD mean": float("nan"), "Cell: Circularity": float("-inf"), "Cell: DAB OD max": 0.5}
    table, _ = counted(tmp_path, "a.json", json.dumps([cell(measurements=measured)]))
    row = table.data.iloc[0]
    assert np.isnan(row.nucleus_dab_od_mean)
    assert (row.cell_circularity, row.cell_dab_od_max) == (-np.inf, 0.5)


def test_too_many_different_measurements_are_refused(tmp_path):
    features = [cell(measurements={f"Stain {i}: Mean": 1.0 for i in range(start, start + 900)}) for start in
                range(0, 9000, 900)]  # fmt: skip
    with pytest.raises(InputError, match="holds more than 5,000 different measurements"):
        counted(tmp_path, "a.json", json.dumps(features))


def test_an_endless_object_is_refused(tmp_path, monkeypatch):
    from histomri.cells import geojson_stream

    monkeypatch.setattr(geojson_stream, "_CHUNK", 1 << 12)
    monkeypatch.setattr(geojson_stream, "_LARGEST", 1 << 15)
    with pytest.raises(InputError, match="holds an object too large to be a cell"):
        counted(tmp_path, "a.json", '[{"type": "Feature", "name": "' + "x" * 100_000)


def test_a_region_in_another_unit_is_told(tmp_path):
    table = tmp_path / "a.tsv"
    table.write_text(HEADER + "A\ti\t\t900\t800\t100\nA\tj\t\t950\t700\t100\n", encoding="utf-8")
    roi = tmp_path / "roi.geojson"
    roi.write_text(
        json.dumps({"type": "Polygon", "coordinates": [ring(600, 600, 500)]})
    )  # in µm, which QuPath never is
    message = (
        "no cell lies in the region of interest: the region spans x 150-275, y 150-275 µm, the cells x 900-950, y "
        "700-800 µm; the region must be of this image and, as QuPath writes it, in pixels"
    )
    with pytest.raises(InputError, match=message):
        read_cells(table, roi=roi, mpp=0.25)
    assert len(read_cells(table, roi=roi, mpp=1.0)) == 2


def test_an_empty_column_of_cell_areas_means_nuclei(tmp_path):
    columns = ["object_id", "object_type", "classification", "x_px", "y_px", "cell_area_px2", "nucleus_area_px2",
               "cell_area_um2", "nucleus_area_um2"]  # fmt: skip
    rows = [["a", "detection", "", 10, 20, "", 400, "", 25], ["b", "detection", "", 50, 20, "", 800, "", 50]]
    lines = ["\t".join(map(str, row)) for row in [columns, *rows]]
    sidecar = {
        "schema": "histomri.qupath/1",
        "complete": True,
        "n_cells": 2,
        "pixel_width_um": 0.25,
        "pixel_height_um": 0.25,
    }
    (tmp_path / "A.histomri.json").write_text(json.dumps(sidecar))
    (tmp_path / "A.cells.tsv").write_text("\n".join(lines) + "\n")
    table = read_cells(tmp_path / "A.cells.tsv")
    assert table.metadata.compartment == "nucleus"
    assert table.data["area_um2"].tolist() == table.data["nucleus_area_um2"].tolist() == [25, 50]
    (only,) = table.metadata.warnings  # and none about areas in two units, which the export writes on purpose
    assert "the table has no cell outlines, only nuclei" in only


def test_filters_are_counted(tmp_path):
    header = HEADER.strip() + "\tDetection probability\n"
    rows = "".join(f"A\t{i}\t\t{i}\t{i}\t{10 * i + 10}\t{i / 10}\n" for i in range(10)) + "A\tn\t\t1\t1\t50\t\n"
    table, _ = counted(tmp_path, "a.tsv", header + rows, min_probability=0.3, min_size_um=8, measurements=False)
    assert table.data["x_um"].tolist() == [5, 6, 7, 8, 9]
    assert table.metadata.dropped == {
        "without a detection probability": 1,
        "of a detection probability below 0.3": 3,
        "smaller than 8 µm": 2,
    }
    with pytest.raises(InputError, match="has no column 'Detection probability'"):
        counted(tmp_path, "b.tsv", HEADER + ROWS, min_probability=0.5)
    for wrong in (
        {"min_probability": 2},
        {"min_size_um": -1},
        {"min_size_um": 9, "max_size_um": 5},
        {"detections": "x"},
    ):
        with pytest.raises(InputError, match=r"must be|keep nothing"):
            counted(tmp_path, "c.tsv", HEADER + ROWS, **wrong)


def attempt(path):
    try:
        table = read_cells(path, mpp=0.5)
    except HistomriError as error:
        assert path.name in str(error)
    else:
        assert isinstance(table, CellTable) and len(table) > 0


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_geojson_changed_anywhere_gives_no_traceback(tmp_path_factory, data):
    features = [
        cell([ring(), ring(2, 2, 3)], measurements={"Nucleus: Area µm^2": 5.0}),
        cell(),
        cell([[ring()]], "MultiPolygon"),
    ]
    content = bytearray(json.dumps({"type": "FeatureCollection", "features": features}).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        change = data.draw(
            st.sampled_from([b"", b"[", b"]", b"{", b"}", b'"', b",", b"-", b"\\", b"1e999", b"NaN", b"\xff", b"null"])
        )
        content[place : place + data.draw(st.integers(0, 3))] = change
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.geojson"
    path.write_bytes(content)
    attempt(path)


@settings(deadline=None, max_examples=150)
@given(
    stop=st.integers(1, 400),
    pack=st.sampled_from([gzip.compress, lambda content: zipped("a", content=content), bytes]),
    tail=st.binary(max_size=20),
)
def test_archives_cut_anywhere_give_no_traceback(tmp_path_factory, stop, pack, tail):
    path = tmp_path_factory.mktemp("fuzz") / "fuzz"
    path.write_bytes(pack(text(HEADER + ROWS))[:stop] + tail)
    attempt(path)


def test_the_limit_of_archives_lets_real_tables_through(tmp_path, monkeypatch):
    monkeypatch.setattr(sniff, "_LEAST_LIMIT", 1 << 10)
    path = tmp_path / "a.tsv.gz"
    rng = np.random.default_rng(0)
    rows = "".join(
        f"A\t{i:08d}\tTumor\t{x:.4f}\t{y:.4f}\t100\n" for i, (x, y) in enumerate(rng.uniform(0, 1e4, (5000, 2)))
    )
    path.write_bytes(gzip.compress(text(HEADER + rows)))
    assert len(read_cells(path)) == 5000
