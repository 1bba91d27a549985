"""QuPath tables of every version and spelling give the same cells; QUPATH's writers are imitated here, one by one."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import read_cells
from histomri.core.errors import InputError, UnitError

NOW = ["Image", "Object ID", "Object type", "Name", "Classification", "Parent", "ROI"]
CENTROID = ["Centroid X µm", "Centroid Y µm"]
OLD_AREAS = ["Nucleus: Area", "Nucleus: Hematoxylin OD mean", "Cell: Area"]
NEW_AREAS = ["Nucleus: Area µm^2", "Nucleus: Hematoxylin: Mean", "Cell: Area µm^2"]
HEADERS = {
    "0.3": ["Image", "Name", "Class", "Parent", "ROI", *CENTROID, *OLD_AREAS],
    "0.5": [*NOW, *CENTROID, *OLD_AREAS],
    "0.7": [*NOW, *CENTROID, *NEW_AREAS],
}
# e with grave tells Mac Roman from cp1252; most other letters exist in both and cannot be told apart.
CLASSES = ["", "Positive", "Tumor: Negative", "Lymphocyt\u00e8"]
CELL = st.tuples(
    st.floats(0, 60000),
    st.floats(0, 40000),
    st.floats(5, 400),
    st.floats(0, 3),
    st.floats(1.0, 5.0),
    st.sampled_from(CLASSES),
)
AREAS = ["Nucleus: Area", "Cell: Area"]


def write(path, version, cells, *, delimiter="\t", encoding="utf-8", eol="\n", decimal=".", bom=False, quote=False):
    """Write cells (x, y, nucleus, od, cell/nucleus, class) as QuPath of a version would; return the columns."""
    text = {"0.3": ["A.ndpi", "PathCellObject", "{5}", "PathAnnotationObject", "Polygon"]}
    now = ["A.ndpi", "id{6}", "Cell", "", "{5}", "Annotation", "Polygon"]
    number = "{:.4f}".format
    rows = [HEADERS[version]]
    for place, (x, y, nucleus, od, ratio, class_) in enumerate(cells):
        words = [word.format(*[None] * 5, class_, place) for word in text.get(version, now)]
        rows.append(words + [number(value).replace(".", decimal) for value in (x, y, nucleus, od, nucleus * ratio)])
    if quote:
        rows = [[f'"{word}"' for word in row] for row in rows]
    body = "".join(delimiter.join(row) + eol for row in rows)
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + body.encode(encoding))
    values = np.array([cell[:5] for cell in cells])
    values[:, 4] *= values[:, 2]
    return np.round(values, 4), [cell[5] for cell in cells]


VARIANTS = [
    {"delimiter": "\t"},
    {"delimiter": ","},
    {"delimiter": ";"},
    {"delimiter": ";", "decimal": ","},
    {"delimiter": "\t", "decimal": ","},
    {"delimiter": ",", "decimal": ",", "quote": True},
    {"encoding": "cp1252"},
    {"encoding": "mac_roman"},
    {"encoding": "utf-16"},
    {"bom": True, "delimiter": ","},
    {"eol": "\r\n"},
    {"eol": "\r"},
    {"quote": True},
    {"eol": "\r\n", "encoding": "utf-16", "delimiter": ","},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@settings(deadline=None, max_examples=5)
@given(cells=st.lists(CELL, min_size=1, max_size=6), version=st.sampled_from(sorted(HEADERS)))
def test_every_writer_gives_the_same_cells(tmp_path_factory, variant, cells, version):
    # The folder is .csv for all: the extension must not be trusted.
    path = tmp_path_factory.mktemp("variant") / "cells.csv"
    values, classes = write(path, version, cells, **variant)
    table = read_cells(path)
    # What was written has four decimals: reading is exact to rounding of doubles, measurements to single precision.
    np.testing.assert_allclose(table.data["x_um"], values[:, 0], rtol=1e-12)
    np.testing.assert_allclose(table.data["y_um"], values[:, 1], rtol=1e-12)
    np.testing.assert_allclose(table.data["nucleus_area_um2"], values[:, 2], rtol=1e-12)
    np.testing.assert_allclose(table.data["nucleus_hematoxylin_od_mean"], values[:, 3], rtol=1e-6)
    np.testing.assert_allclose(table.data["area_um2"], np.round(values[:, 4], 4), rtol=1e-12, atol=1e-3)
    np.testing.assert_allclose(table.data["diameter_um"], np.sqrt(4 * table.data["area_um2"] / np.pi))
    assert list(table.data["classification"]) == classes
    assert set(table.data["image"]) == {"A.ndpi"}
    assert set(table.data["object_type"]) == {"cell"}
    assert (table.metadata.compartment, table.metadata.n_read, table.metadata.n_kept) == (
        "cell",
        len(cells),
        len(cells),
    )


def table_file(path, header, *rows):
    path.write_text("\n".join("\t".join(str(word) for word in row) for row in (header, *rows)) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def plain(tmp_path):
    header = ["Image", *CENTROID, *AREAS]
    return table_file(tmp_path / "a.tsv", header, ["A", 1, 2, 30, 100], ["A", 3, 5, 35, 120])


def test_gzip_and_zip_are_unpacked(plain, tmp_path):
    packed = tmp_path / "a.tsv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.write(plain, "cells.tsv")
    for path in (packed, zipped):
        assert list(read_cells(path).data["area_um2"]) == [100, 120]


def test_a_wrong_encoding_far_down_is_found_out(tmp_path):
    path = tmp_path / "late.tsv"
    # All that is seen of the head is ASCII; one class name far below is not UTF-8.
    rows = ["Image\tClass\tCentroid X um\tCentroid Y um\tCell: Area"] + [f"A\tB\t{i}\t1\t50" for i in range(120_000)]
    path.write_bytes(("\n".join(rows) + "\nA\t").encode() + "Ü".encode("cp1252") + b"\t1\t1\t50\n")
    table = read_cells(path)
    assert table.data["classification"].iloc[-1] == "Ü"
    assert "read as cp1252" in table.metadata.warnings[0]


def test_pixels_are_converted_along_each_axis_with_its_own_size(tmp_path):
    header = ["Centroid X px", "Centroid Y px", *AREAS, "Cell: Perimeter"]
    path = table_file(tmp_path / "px.tsv", header, [100, 200, 300, 1000, 40])
    with pytest.raises(UnitError, match=r"px\.tsv: the positions are in pixels .* pass --mpp"):
        read_cells(path)
    data = read_cells(path, mpp=(0.2, 0.5)).data
    assert data[["x_um", "y_um", "area_um2", "nucleus_area_um2"]].to_numpy()[0] == pytest.approx([20, 100, 100, 30])
    assert data["cell_perimeter_px"][0] == 40  # pixels are not square: a length without direction stays as it is
    assert read_cells(path, mpp=0.5).data["cell_perimeter_um"][0] == pytest.approx(20)


@pytest.mark.parametrize(
    ("names", "options", "area", "why"),
    [
        (["Centroid X µm", "Centroid Y µm", "Cell: Area"], {}, 100, "um2, by the unit of column 'Centroid X µm'"),
        (
            ["Centroid X px", "Centroid Y px", "Cell: Area"],
            {"mpp": 0.5},
            25,
            "px2, by the unit of column 'Centroid X px'",
        ),
        (
            ["Centroid X px", "Centroid Y px", "Cell: Area"],
            {"mpp": 0.5, "area_unit": "um2"},
            100,
            "um2, by --area-unit",
        ),
        (["Centroid X µm", "Centroid Y µm", "Cell: Area"], {"mpp": 0.5, "area_unit": "px2"}, 25, "px2, by --area-unit"),
        (["Centroid X px", "Centroid Y px", "Cell: Area µm^2"], {"mpp": 0.5}, 100, "um2, by the name"),
        (["x_px", "y_px", "cell_area_px2"], {"mpp": 0.5}, 25, "px2, by the name"),
    ],
)
def test_how_the_unit_of_the_area_is_decided(tmp_path, names, options, area, why):
    table = read_cells(table_file(tmp_path / "t.tsv", names, [10, 20, 100]), **options)
    assert table.data["area_um2"][0] == pytest.approx(area)
    assert why in table.metadata.area_unit_from


def test_two_areas_the_one_with_a_unit_is_used(tmp_path):
    header = ["Centroid X µm", "Centroid Y µm", "Cell: Area", "Cell: Area µm^2"]
    table = read_cells(table_file(tmp_path / "two.tsv", header, [1, 2, 400, 100]))
    assert table.data["area_um2"][0] == 100
    assert "both 'Cell: Area µm^2' and 'Cell: Area'" in " ".join(table.metadata.warnings)


def test_every_dropped_row_is_counted(tmp_path):
    header = ["Object type", "Classification", "Centroid X µm", "Centroid Y µm", "Nucleus: Area", "Cell: Area"]
    rows = [
        ["Cell", "Tumor: Positive", 1, 1, 30, 100],
        ["Cell", "Tumor", 1, 2, 30, 1000],
        ["Cell", "Stroma", 1, 3, 30, 100],
        ["Annotation", "", 1, 1, "", ""],
        ["Tile", "", 1, 1, "", ""],
        ["Cell", "Tumor", "NaN", 1, 30, 100],
        ["Cell", "Tumor", 1e9, 1, 30, 100],
        ["Cell", "Tumor", 1, 1, 30, "NaN"],
        ["Detection", "Tumor", 1, 1, "", ""],
        ["Cell", "Tumor", 1, 1, 30, "inf"],
        ["Cell", "Tumor", 1, 1, 30, -5],
        ["Cell", "Tumor", 1, 1, 30, 0],
    ]
    metadata = read_cells(table_file(tmp_path / "t.tsv", header, *rows), classes=["Tumor"], max_size_um=35).metadata
    assert metadata.dropped == {
        "not a cell or detection": 2,
        "without a position": 1,
        "more than a metre off the slide": 1,
        "without an area": 2,
        "with an infinite area": 1,
        "with an area of zero or less": 2,
        "of another class": 1,
        "larger than 35 µm": 1,
    }
    assert metadata.n_read == 12
    assert metadata.n_kept == 1 == metadata.n_read - sum(metadata.dropped.values())


def test_several_images_are_never_mixed(tmp_path):
    header = ["Image", "Centroid X µm", "Centroid Y µm", "Cell: Area"]
    path = table_file(tmp_path / "two.tsv", header, ["A", 1, 2, 50], ["B", 3, 4, 60], ["B", 5, 6, 70])
    with pytest.raises(InputError, match=r"two\.tsv: holds cells of 2 images: 'A', 'B'; choose one with --image"):
        read_cells(path)
    table = read_cells(path, image="B")
    assert list(table.data["area_um2"]) == [60, 70]
    assert table.metadata.dropped == {"of another image": 1}
    with pytest.raises(InputError, match="holds no image 'C'; it holds 'A', 'B'"):
        read_cells(path, image="C")


def test_several_files_of_one_image_become_one_table(tmp_path, plain):
    other = table_file(tmp_path / "b.tsv", ["Image", *CENTROID, *AREAS], ["A", 9, 9, 30, 90])
    table = read_cells(plain, other)
    assert list(table.data["area_um2"]) == [100, 120, 90]
    assert (table.metadata.n_read, table.metadata.sources) == (3, ("a.tsv", "b.tsv"))
    third = table_file(tmp_path / "c.tsv", ["Image", "Centroid X µm", "Centroid Y µm", "Cell: Area"], ["C", 9, 9, 90])
    with pytest.raises(InputError, match="the files are of 2 images: 'A', 'C'"):
        read_cells(plain, third)


def test_nuclei_only_say_so(tmp_path):
    header = ["Object type", "Centroid X µm", "Centroid Y µm", "Nucleus: Area"]
    table = read_cells(table_file(tmp_path / "n.tsv", header, ["Detection", 1, 2, 30]))
    assert table.metadata.compartment == "nucleus"
    assert list(table.data["nucleus_area_um2"]) == list(table.data["area_um2"]) == [30]
    assert "only nuclei" in table.metadata.warnings[0]


SIDECAR = {
    "schema": "histomri.qupath/1",
    "image_name": "A.ndpi",
    "width_px": 1000,
    "height_px": 800,
    "pixel_width_um": 0.25,
    "pixel_height_um": 0.5,
    "n_cells": 2,
    "complete": True,
}


def own_export(folder, sidecar, *rows):
    path = folder / "A.cells.tsv"
    (folder / "A.histomri.json").write_text(json.dumps(sidecar))
    header = ["object_id", "object_type", "classification", "x_px", "y_px", "cell_area_px2", "cell_area_um2"]
    return table_file(path, header, *rows)


def test_the_sidecar_gives_pixel_size_and_field(tmp_path):
    path = own_export(tmp_path, SIDECAR, ["a", "cell", "", 100, 100, 800, 100], ["b", "cell", "", 2000, 10, 800, 100])
    table = read_cells(path)
    assert table.data[["x_um", "y_um", "area_um2"]].to_numpy().tolist() == [[25, 50, 100]]
    assert table.metadata.field_um == (250, 400)
    assert table.metadata.pixel_size_um == (0.25, 0.5)
    assert table.metadata.dropped == {"outside the slide": 1}
    assert set(table.data["image"]) == {"A.ndpi"}


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"complete": False}, {}, "says that the export was not finished; run the export script again"),
        ({"schema": "other"}, {}, "is not a sidecar"),
        ({"pixel_width_um": -1}, {}, "must be positive numbers"),
        ({}, {"mpp": 0.3}, r"0\.3 x 0\.3 by --mpp, 0\.25 x 0\.5 by A\.histomri\.json"),
        ({"width_px": 10}, {}, "100% of the cells lie outside the slide of 2 x 400 µm"),
    ],
)
def test_a_sidecar_that_does_not_fit_is_refused(tmp_path, change, options, message):
    path = own_export(tmp_path, {**SIDECAR, **change}, ["a", "cell", "", 100, 100, 800, 100])
    with pytest.raises(InputError, match=message):
        read_cells(path, **options)


def test_an_incomplete_export_is_told_by_its_count(tmp_path):
    path = own_export(tmp_path, {**SIDECAR, "n_cells": 7}, ["a", "cell", "", 100, 100, 800, 100])
    assert "has 1 rows, and the JSON file beside it says 7" in " ".join(read_cells(path).metadata.warnings)


def test_without_measurements_only_the_needed_columns_are_read(tmp_path):
    path = tmp_path / "m.tsv"
    write(path, "0.5", [(1, 2, 30, 0.5, 3, "")])
    assert "nucleus_hematoxylin_od_mean" in read_cells(path).data
    lean = read_cells(path, measurements=False)
    assert list(lean.data)[-1] == "diameter_um"
    assert "Nucleus: Hematoxylin OD mean" in lean.metadata.ignored_columns


def test_a_measurement_that_is_no_number_is_left_out_with_a_warning(tmp_path):
    header = ["Centroid X µm", "Centroid Y µm", "Cell: Area", "Cell: Circularity"]
    table = read_cells(table_file(tmp_path / "t.tsv", header, [1, 2, 50, "round"]))
    assert "cell_circularity" not in table.data
    assert "'Cell: Circularity' was not read: it holds 'round'" in table.metadata.warnings[0]


def test_excels_separator_line_and_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("sep=;\nCentroid X µm;Centroid Y µm;Cell: Area\n1,5;2;50\n\n3;4;60\n", encoding="utf-8")
    assert list(read_cells(path).data["x_um"]) == [1.5, 3]


def test_checks_warn_of_what_a_careful_eye_would_see(tmp_path):
    header = ["Centroid X µm", "Centroid Y µm", "Nucleus: Area", "Cell: Area", "Z-slice"]
    rows = [[i, i * 2, 3.0, 2.5 if i < 4 else 30 + i, i % 2] for i in range(40)]
    warnings = " | ".join(read_cells(table_file(tmp_path / "t.tsv", header, *rows, *rows[-3:])).metadata.warnings)
    assert "3 cells have the position and area of another cell" in warnings
    assert "4 cells have a nucleus larger than the cell" in warnings
    assert "the median nucleus has 3 µm²" in warnings
    assert "cells of 2 focal planes" in warnings


def test_cells_that_are_expanded_nuclei_are_told(tmp_path, rng):
    radius = rng.uniform(2.5, 5, 200)
    header = ["Centroid X µm", "Centroid Y µm", "Nucleus: Area", "Cell: Area"]
    rows = [[i, i, np.pi * r**2, np.pi * (r + 5) ** 2] for i, r in enumerate(radius)]
    warnings = read_cells(table_file(tmp_path / "t.tsv", header, *rows)).metadata.warnings
    assert any("plus 5.0 µm" in text for text in warnings)
