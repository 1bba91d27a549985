"""What export_for_histomri.groovy writes, run as conftest.py says."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from histomri.cells import read_cells

COLUMNS = [
    "object_id",
    "object_type",
    "classification",
    "parent_id",
    "x_px",
    "y_px",
    "cell_area_px2",
    "nucleus_area_px2",
    "cell_area_um2",
    "nucleus_area_um2",
    "nucleus_dab_od_mean",
    "touches_parent_edge",
    "parent_class",
    "tma_core",
]
PIXEL_UM = (0.25, 0.2268)  # of the stub image: not square

Outcome = dict[str, Any]


def calls(outcome: Outcome, what: str) -> list[dict[str, Any]]:
    return [call for call in outcome["calls"] if call["what"] == what]


def exported(outcome: Outcome, name: str) -> Path:
    assert outcome["error"] is None
    return Path(outcome["folder"]) / "histomri_export" / name


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of the table, read without any quoting, as the strictest reader would."""
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert b"\r" not in raw
    assert raw.endswith(b"\n")
    return list(csv.DictReader(raw.decode("ascii").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_export_table(outcomes: dict[str, Outcome]) -> None:
    table = exported(outcomes["export"], "A01 HE.cells.tsv")
    assert table.read_text(encoding="ascii").split("\n", 1)[0].split("\t") == COLUMNS
    inside, edge, free, rim = rows(table)  # the spot in a cell and the tile are left out
    assert all(row["object_type"] == "cell" for row in (inside, edge, free, rim))
    # Equality, not closeness: every digit of the double must survive, also under a German locale.
    assert float(inside["x_px"]) == 1234.56789012345 + 41.3 / 2
    assert float(inside["y_px"]) == 1100.1 + 39.7 / 2
    assert float(inside["cell_area_px2"]) == 41.3 * 39.7
    assert float(inside["cell_area_um2"]) == 41.3 * PIXEL_UM[0] * (39.7 * PIXEL_UM[1])
    assert float(inside["nucleus_area_px2"]) == 240
    assert float(inside["nucleus_area_um2"]) == 16 * PIXEL_UM[0] * (15 * PIXEL_UM[1])
    assert float(inside["nucleus_dab_od_mean"]) == 0.387104123456789
    assert inside["classification"] == "Tumor: Positive"
    assert edge["classification"] == "a b"  # a tab or a quote must not break the table
    assert edge["nucleus_area_px2"] == edge["nucleus_area_um2"] == ""
    assert edge["nucleus_dab_od_mean"] == "0.000010"  # the name of the newer extensions, and no exponent
    assert free["nucleus_dab_od_mean"] == free["classification"] == free["parent_id"] == ""
    assert [row["touches_parent_edge"] for row in (inside, edge, free, rim)] == ["0", "1", "0", "1"]


def test_export_annotations_match_the_table(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["export"]
    content = json.loads(exported(outcome, "A01 HE.annotations.geojson").read_text(encoding="utf-8"))
    (feature,) = content["features"]
    assert content["type"] == "FeatureCollection"
    assert feature["id"] == rows(exported(outcome, "A01 HE.cells.tsv"))[0]["parent_id"]
    assert calls(outcome, "annotations")[0]["options"] == ["FEATURE_COLLECTION", "EXCLUDE_MEASUREMENTS"]


def test_export_sidecar(outcomes: dict[str, Outcome]) -> None:
    sidecar = json.loads(exported(outcomes["export"], "A01 HE.histomri.json").read_text(encoding="utf-8"))
    assert sidecar == {
        "schema": "histomri.qupath/1",
        "qupath_version": "0.5.1",
        "image_name": "A01 HE.ndpi",
        "image_uri": "file:/D:/slides/A01%20HE.ndpi",
        "width_px": 5000,
        "height_px": 4000,
        "pixel_width_um": PIXEL_UM[0],
        "pixel_height_um": PIXEL_UM[1],
        "magnification": 40.0,
        "image_type": "BRIGHTFIELD_H_DAB",
        "stains": '{"Name" : "H-DAB default", "Stain 1" : "Hematoxylin"}',
        "builder_type": "uri",
        "bounds_cropped": False,
        "detector": "qupath.imagej.detect.cells.WatershedCellDetection",
        "parameters": {
            "requestedPixelSizeMicrons": 0.5,
            "includeNuclei": True,
            "detectionImageBrightfield": "Hematoxylin OD",
        },
        "n_cells": 4,
        "n_annotations": 1,
        "cells_file": "A01 HE.cells.tsv",
        "annotations_file": "A01 HE.annotations.geojson",
        "complete": True,
    }


def test_export_writes_the_sidecar_last(outcomes: dict[str, Outcome]) -> None:
    others = ["A01 HE.annotations.geojson", "A01 HE.cells.tsv"]
    outcome = outcomes["export"]
    assert calls(outcome, "annotations")[0]["files"] == [others[1]]
    assert calls(outcome, "sidecar text made")[0]["files"] == others  # both in place, under their final names
    folder = exported(outcome, "")
    assert sorted(path.name for path in folder.iterdir()) == [*others, "A01 HE.histomri.json"]


def test_export_that_fails_leaves_no_proof_and_no_rubbish(outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes["export-disk-full"]
    assert "No space left" in outcome["error"]
    folder = Path(outcome["folder"]) / "histomri_export"
    assert sorted(path.name for path in folder.iterdir()) == ["A01 HE.annotations.geojson", "A01 HE.cells.tsv"]
    assert (folder / "A01 HE.annotations.geojson").read_text() == "the old ones"  # never half of the new ones


def test_export_compressed_replaces_the_plain_table(outcomes: dict[str, Outcome]) -> None:
    packed = exported(outcomes["export-gz"], "A01 HE.cells.tsv.gz")
    plain = exported(outcomes["export"], "A01 HE.cells.tsv")
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert not packed.with_suffix("").exists()
    assert json.loads(exported(outcomes["export-gz"], "A01 HE.histomri.json").read_text())["cells_file"] == packed.name


def test_export_to_a_folder_given_on_the_command_line(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["export-args"]["error"] is None
    folder = Path(outcomes["export-args"]["folder"]).parent / "elsewhere" / "deep"
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("export-uncalibrated", "no pixel size in µm"),
        ("export-no-project", "not part of a project: set outputFolder"),
        ("export-other-image", "belongs to another image (A01 HE.svs)"),
        ("export-empty", "there is nothing to export: no cells in this image"),
        ("export-cells-only", "there is nothing to export: no cells in this image"),
        ("export-misspelt", 'the settings "objects" and "detectionsAre" take only'),
    ],
)
def test_export_refuses(outcomes: dict[str, Outcome], name: str, message: str) -> None:
    outcome = outcomes[name]
    assert message in outcome["error"]
    assert not list(Path(outcome["folder"]).rglob("*.cells.tsv"))


def test_export_names_files_that_every_system_allows(outcomes: dict[str, Outcome]) -> None:
    path = exported(outcomes["export-odd-name"], "case 7_8_ _left_.histomri.json")
    assert json.loads(path.read_text())["image_name"] == 'case 7/8: "left".svs'


@pytest.mark.parametrize(
    ("name", "builder", "cropped"),
    [
        ("export-openslide-cropped", "uri", True),
        ("export-openslide-whole", "uri", False),
        ("export-bioformats", "uri", False),
        ("export-rotated", "rotated", None),  # not known: the key is absent
    ],
)
def test_export_says_how_the_image_differs_from_the_slide(
    outcomes: dict[str, Outcome], name: str, builder: str, cropped: bool | None
) -> None:
    sidecar = json.loads(exported(outcomes[name], "A01 HE.histomri.json").read_text())
    assert (sidecar["builder_type"], sidecar.get("bounds_cropped")) == (builder, cropped)


def test_export_with_masked_names_gives_no_location(outcomes: dict[str, Outcome]) -> None:
    text = exported(outcomes["export-masked"], "A01 HE.histomri.json").read_text()
    assert "slides" not in text
    assert "magnification" not in json.loads(text)  # NaN is no JSON
    assert exported(outcomes["export-damaged-sidecar"], "A01 HE.histomri.json").exists()


def test_export_of_bare_nuclei(outcomes: dict[str, Outcome]) -> None:
    (nucleus,) = rows(exported(outcomes["export-nuclei"], "A01 HE.cells.tsv"))
    assert (nucleus["object_type"], nucleus["nucleus_area_px2"], nucleus["cell_area_px2"]) == ("detection", "48.0", "")
    (cell,) = rows(exported(outcomes["export-nuclei-as-cells"], "A01 HE.cells.tsv"))
    assert (cell["object_type"], cell["nucleus_area_px2"], cell["cell_area_px2"]) == ("detection", "", "48.0")


def test_export_is_read_by_histomri(outcomes: dict[str, Outcome]) -> None:
    for name, file in (("export", "A01 HE.cells.tsv"), ("export-gz", "A01 HE.cells.tsv.gz")):
        table = read_cells(exported(outcomes[name], file))
        assert (table.metadata.n_read, table.metadata.n_kept, table.metadata.compartment) == (4, 4, "cell")
        assert table.metadata.pixel_size_um == PIXEL_UM
        assert table.metadata.field_um == pytest.approx((5000 * PIXEL_UM[0], 4000 * PIXEL_UM[1]))
        assert not any("px2' are there" not in warning for warning in table.metadata.warnings)
        first = table.data.iloc[0]
        # Only the unit of the coordinates is converted, so double precision is what remains.
        np.testing.assert_allclose(first.x_um, (1234.56789012345 + 41.3 / 2) * PIXEL_UM[0], rtol=1e-14)
        np.testing.assert_allclose(first.y_um, (1100.1 + 39.7 / 2) * PIXEL_UM[1], rtol=1e-14)
        np.testing.assert_allclose(first.area_um2, 41.3 * 39.7 * PIXEL_UM[0] * PIXEL_UM[1], rtol=1e-14)
        np.testing.assert_allclose(first.nucleus_area_um2, 240 * PIXEL_UM[0] * PIXEL_UM[1], rtol=1e-14)


@pytest.mark.parametrize("name", ["stardist", "instanseg"])
def test_export_of_a_microarray(outcomes: dict[str, Outcome], name: str) -> None:
    outcome = outcomes[f"{name}-export"]
    cells = rows(exported(outcome, "A01 HE.cells.tsv"))
    assert [row["tma_core"] for row in cells] == ["A-1"] * 4 + ["A-2"] * 4
    assert {row["parent_id"] for row in cells} == {""}  # a core is no annotation
    cores = json.loads(exported(outcome, "A01 HE.cores.geojson").read_text())["features"]
    assert [core["properties"]["name"] for core in cores] == ["A-1", "A-2"]
    sidecar = json.loads(exported(outcome, "A01 HE.histomri.json").read_text())
    assert (sidecar["n_cores"], sidecar["n_cores_missing"]) == (2, 1)
    assert sidecar["cores_file"] == "A01 HE.cores.geojson"
    assert sidecar["detector"].endswith({"stardist": "StarDist2D", "instanseg": "InstanSeg"}[name])
    assert sidecar["parameters"]["modelPath"].endswith("he_heavy_augment.pb")
    table = read_cells(exported(outcome, "A01 HE.cells.tsv"), roi=exported(outcome, "A01 HE.cores.geojson"))
    assert table.metadata.n_kept == 8


def test_export_names_the_class_of_the_annotation(outcomes: dict[str, Outcome]) -> None:
    inside, *_, free, _ = rows(exported(outcomes["export-classes"], "A01 HE.cells.tsv"))
    assert (inside["parent_class"], free["parent_class"], inside["tma_core"]) == ("Tumor", "", "")
