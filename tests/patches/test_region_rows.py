"""rois.csv: a row for each region, class of regions and TMA core; maps of each class of cells."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import shapely
from shapely.geometry import box
from typer.testing import CliRunner

from histomri.cells import CellMetadata, CellTable, Region, read_cells
from histomri.core.errors import InputError
from histomri.core.images import read_sidecar
from histomri.pairing.section import read_section
from histomri.patches import (
    PatchGrid,
    PatchMaps,
    VolumeSettings,
    map_section,
    summarise_classes,
    summarise_patches,
    summarise_regions,
)
from histomri.patches.classes import class_labels
from histomri_cli.app import app

DATA = Path(__file__).resolve().parents[1] / "data" / "histology"
LEFT, MIDDLE, RIGHT = box(0, 0, 1000, 1000), box(2000, 0, 3000, 1000), box(4000, 0, 4500, 1000)


def table_of(rng, *regions, n=600, classes=("",), outlines=False):
    """Cells at random in each region, with classes by turns."""
    at = []
    for region in regions:
        low_x, low_y, high_x, high_y = region.geometry.bounds
        at.append(np.column_stack([rng.uniform(low_x, high_x, n), rng.uniform(low_y, high_y, n)]))
    x, y = np.concatenate(at).T
    union = shapely.union_all([region.geometry for region in regions])
    metadata = CellMetadata(roi_wkt=union.wkt, regions=tuple(region.record() for region in regions))
    made = CellTable.from_columns(x, y, rng.uniform(50, 150, x.size), metadata=metadata)
    data = made.data.assign(classification=pd.Categorical(np.resize(classes, x.size)))
    area = data["area_um2"].to_numpy()
    shapes = shapely.buffer(shapely.points(x, y), np.sqrt(area / np.pi)) if outlines else None
    return CellTable(data, made.metadata, shapes)


@pytest.fixture
def tma(rng):
    """Three cores; the first one has two annotations."""
    half = box(0, 0, 1000, 500), box(0, 500, 1000, 1000)
    first = (Region(half[0], "a", "Tumor", core="A-1"), Region(half[1], "b", "Stroma", core="A-1"))
    rest = (Region(MIDDLE, "A-2", kind="core", core="A-2"), Region(RIGHT, "c", "Tumor", core="A-3"))
    return table_of(rng, *first, *rest)


def invoke(*words):
    return CliRunner().invoke(app, ["patches", *map(str, words)])


def test_a_row_per_region_class_and_core(tma, tmp_path):
    tma.save(tmp_path / "c.parquet")
    read = {}
    for per in ("region", "class", "core"):
        result = invoke(tmp_path / "c.parquet", "-o", tmp_path / "h", "--whole", "--per", per, "--preset", "none")
        assert result.exit_code == 0, result.output
        read[per] = pd.read_csv(tmp_path / "h" / "rois.csv", keep_default_na=False)
    by_region, by_class, by_core = read.values()
    assert by_region["region"].tolist() == ["a", "b", "A-2", "c"]
    assert by_region["class"].tolist() == ["Tumor", "Stroma", "", "Tumor"]
    assert by_region["core"].tolist() == ["A-1", "A-1", "A-2", "A-3"]
    assert by_class["class"].tolist() == ["Tumor", "Stroma", ""]
    assert by_class["nCells"].tolist() == [1200, 600, 600] and by_class["area_mm2"].tolist() == [1.0, 0.5, 1.0]
    assert by_core["core"].tolist() == ["A-1", "A-2", "A-3"] and by_core["CD_mm2"].tolist() == [1200, 600, 1200]
    for rows in read.values():  # each row is what a table and region of its own gives
        for row in rows.to_dict("records"):
            for name in ("vCS_um", "F", "CD_mm2"):
                half = 1.959964 * row[f"{name}_se"]
                assert row[f"{name}_low"] == pytest.approx(row[name] - half)
                assert row[f"{name}_high"] == pytest.approx(row[name] + half)
    tumour = tma.select(region=shapely.union_all([box(0, 0, 1000, 500), RIGHT]))
    alone = map_section(tumour, whole=True, preset="none").maps
    assert by_class["F"][0] == pytest.approx(alone.maps["F"][0, 0])
    assert by_class["vCS_um"][0] == pytest.approx(alone.maps["vCS"][0, 0])


def test_the_old_columns_stay_where_they_were(tma):
    rows = summarise_regions(tma, preset="none")
    names = ["roi", "centre_x_um", "centre_y_um", "area_mm2", "nCells", "vCS_um", "vCS_um_se", "F", "F_se", "CD_mm2"]
    assert list(rows[0])[:11] == [*names, "CD_mm2_se"] and list(rows[0])[11:14] == ["region", "class", "core"]
    assert [row["region"] for row in rows] == ["a", "b", "A-2", "c"]  # although the first two touch


def test_rows_are_written_beside_maps_of_patches_too(tma, tmp_path):
    tma.save(tmp_path / "c.parquet")
    assert invoke(tmp_path / "c.parquet", "-o", tmp_path / "h", "--patch-um", "250", "--per", "core").exit_code == 0
    assert len(pd.read_csv(tmp_path / "h" / "rois.csv")) == 3
    assert invoke(tmp_path / "c.parquet", "-o", tmp_path / "h", "--patch-um", "250").exit_code == 0
    assert not (tmp_path / "h" / "rois.csv").exists()


def test_regions_inside_one_another_are_told(rng):
    cells = table_of(rng, Region(LEFT, classification="Tissue"), Region(box(0, 0, 500, 500), classification="Tumor"))
    found = map_section(cells, whole=True, per="class")
    assert [row["class"] for row in found.regions] == ["Tissue", "Tumor"]
    assert any("regions overlap: cells in several of them count in the row of each" in text for text in found.warnings)


def test_what_has_no_row_is_an_error_and_nothing_is_written(rng, tmp_path):
    plain = CellTable.from_columns(*rng.uniform(0, 900, (2, 500)), np.full(500, 90.0))
    plain.save(tmp_path / "plain.parquet")
    table_of(rng, Region(LEFT, kind="core"), Region(RIGHT, kind="core", core="A-2")).save(tmp_path / "tma.parquet")
    table_of(rng, Region(LEFT, "one")).save(tmp_path / "one.parquet")
    cases = (
        ("plain", "class", "the table holds no regions, so there can be no row for each class"),
        ("tma", "core", "1 TMA cores have no name, the first is the core without a name at x 0, y 0 µm"),
        ("one", "core", "no region of the table is or lies in a TMA core"),
    )
    for name, per, message in cases:
        result = invoke(tmp_path / f"{name}.parquet", "-o", tmp_path / "h", "--whole", "--per", per)
        assert (result.exit_code, message in result.stderr) == (2, True), result.output
        assert not (tmp_path / "h").exists()
    assert map_section(plain, whole=True, per="region").regions[0]["nCells"] > 400  # of the outline of the cells


def test_cores_of_a_file_have_their_names_in_the_table(tmp_path):
    rng = np.random.default_rng(1)
    at = rng.uniform(0, 4000, (4000, 2)) * (1, 0.5)
    rows = "".join(f"{x}\t{y}\t400\n" for x, y in at)
    (tmp_path / "a.tsv").write_text("Centroid X px\tCentroid Y px\tCell: Area px^2\n" + rows)
    cells = read_cells(tmp_path / "a.tsv", roi=DATA / "roi_tma.geojson", mpp=0.25)
    assert "1 region was left out: A-2 is or lies in a missing TMA core" in cells.metadata.warnings
    found = map_section(cells, whole=True).regions
    assert [row["core"] for row in found] == ["A-1", "A-3"]
    assert [row["area_mm2"] for row in found] == [0.15, 0.15]


def test_selected_annotations_give_the_right_numbers():
    cells = read_cells(DATA / "selected.cells.tsv", roi=DATA / "selected.annotations.geojson")
    found = map_section(cells, whole=True, per="class", preset="none")
    assert found.maps.maps["CD"][0, 0] == 1500
    assert found.maps.maps["F"][0, 0] == pytest.approx(0.254, abs=5e-4)
    assert [row["class"] for row in found.regions] == ["Tumor"] and found.regions[0]["CD_mm2"] == 1500


# ---------------------------------------------------------------- classes of cells


@pytest.mark.parametrize("how", ["centroid", "clip", "overlap"])
def test_maps_of_classes_add_up_to_those_of_all_cells(rng, how):
    cells = table_of(rng, Region(LEFT, "a"), classes=("Tumor: Positive", "Tumor: Negative", ""), outlines=True)
    grid = PatchGrid.covering(field_um=(1000, 1000), patch_um=300, step_um=150 if how == "overlap" else None)
    assign_by = "clip" if how == "clip" else "centroid"
    whole = summarise_patches(cells, grid, min_tissue=0.3, assign_by=assign_by)
    classes = summarise_classes(cells, grid, min_tissue=0.3, assign_by=assign_by)
    assert [one.label for one in classes] == ["TumorNegative", "TumorPositive", "Unclassified"]
    for name in ("F", "CD"):
        np.testing.assert_allclose(sum(one.maps[name] for one in classes), whole.maps[name], rtol=1e-12)
    assert 180 < classes[0].n_cells <= 200  # without those in the corner patch, of which too little is tissue
    table = CellTable(
        cells.data[cells.data["classification"] == "Tumor: Positive"].reset_index(drop=True), cells.metadata
    )
    if how == "centroid":  # those of one class alone, in the same extent
        alone = summarise_patches(table, grid, min_tissue=0.3)
        np.testing.assert_allclose(classes[1].maps["CD"], alone.maps["CD"])
        np.testing.assert_allclose(classes[1].errors["CD"], alone.errors["CD"])
        np.testing.assert_allclose(classes[1].errors["F"], alone.errors["F"])


def test_maps_of_classes_are_files_that_do_not_mix_with_the_others(rng, tmp_path):
    table_of(rng, Region(LEFT), classes=("CD3+", "CD3-")).save(tmp_path / "c.parquet")
    words = (tmp_path / "c.parquet", "-o", tmp_path / "h", "--patch-um", "250", "--sub", "m1")
    result = invoke(*words, "--by-class")
    assert result.exit_code == 0, result.output
    assert "cells by class: CD3+ 300, CD3- 300" in result.stdout
    labelled = sorted(path.name for path in (tmp_path / "h").glob("*_label-*.nii.gz"))
    assert len(labelled) == 8 and "sub-m1_param-CD_label-CD3Pos_histomap.nii.gz" in labelled
    assert "sub-m1_param-F_label-CD3Neg_stat-se_histomap.nii.gz" in labelled
    sidecar = read_sidecar(tmp_path / "h" / "sub-m1_param-CD_label-CD3Pos_histomap.nii.gz")
    assert sidecar["CellClass"] == "CD3+"
    assert PatchMaps.load(tmp_path / "h").maps["nCells"].sum() == 600
    assert len(read_section(tmp_path / "h", errors=True).maps) == 12  # of all cells
    # The next maps here have nothing to do with those of classes.
    assert invoke(*words).exit_code == 0
    assert not list((tmp_path / "h").glob("*_label-*"))


def test_names_of_classes_are_plain_and_different():
    assert class_labels(["Tumör", "1+", "Immune cells"]) == {
        "Tumör": "Tumor",
        "1+": "1Pos",
        "Immune cells": "ImmuneCells",
    }
    with pytest.raises(InputError, match="maps of the classes 'Tumor A' and 'tumor: a' would both be named TumorA"):
        class_labels(["Tumor A", "tumor: a"])
    with pytest.raises(InputError, match="has no letter or digit"):
        class_labels(["肿瘤"])


def test_too_many_classes_are_refused(rng):
    cells = table_of(rng, Region(LEFT), classes=[f"c{k}" for k in range(60)])
    with pytest.raises(InputError, match="the cells are of 60 classes, and 50 can have maps"):
        map_section(cells, patch_um=250, by_class=True)


def test_records_are_plain_json(tma):
    found = map_section(tma, whole=True, per="core", by_class=True)
    assert json.loads(json.dumps(found.summary()))["cells_of_class"] == {"Unclassified": 2400}


def test_rows_in_3d_follow_all_others(data):
    """Each region has the numbers of a table of its own; one with few cells takes the sizes of all."""
    table = pd.read_csv(data / "stereology" / "g4.csv.gz").rename(columns={"rim_cell_area_um2": "area_um2"})
    table = table[["x_um", "y_um", "nucleus_area_um2", "area_um2"]]
    x, y = table["x_um"], table["y_um"]
    middle, top = float(x.median()), float(y.max()) + 1.0
    corner = float(np.sort(x[y < 60.0])[20])  # of which the cells before are few
    parts = {
        "left": box(-1, 60, middle, top), "right": box(middle, 60, x.max() + 1, top),
        "few": box(-1, -1, corner, 60), "none": box(-200, -200, -100, -100),
    }  # fmt: skip
    regions = [Region(geometry, name) for name, geometry in parts.items()]
    union = shapely.union_all(list(parts.values()))
    metadata = CellMetadata(roi_wkt=union.wkt, regions=tuple(one.record() for one in regions))
    cells = CellTable(CellTable.coerce(table).data, metadata)
    volume = VolumeSettings("R", 2.0, 10.0, cell_fraction=0.3, binucleate_share=0.25)
    plain = summarise_regions(cells, per="region", shrinkage=0.1)
    rows = {row["region"]: row for row in summarise_regions(cells, per="region", shrinkage=0.1, volume=volume)}
    renamed = [name + "_paper" if name.startswith(("vCS", "F", "CD")) else name for name in plain[0]]
    assert list(rows["left"])[: len(renamed)] == renamed
    assert not {name for name in rows["left"] if name.startswith(("vCS_", "F")) and not name.endswith("_paper")}
    for one in plain:
        assert rows[one["region"]]["vCS_um_paper"] == pytest.approx(one["vCS_um"], nan_ok=True)
    left = cells.select(region=parts["left"])
    alone = map_section(CellTable(left.data, CellMetadata()), whole=True, tissue=parts["left"], shrinkage=0.1,
                        volume=volume).maps.parameters["Stereology"]["Results"]  # fmt: skip
    for name, column in (("nucleiNV", "nucleiNV_mm3"), ("cellNV", "cellNV_mm3"), ("vCSvol", "vCSvol_um")):
        for ending, key in (("", "Value"), ("_se", "StatSE"), ("_syst", "Syst"), ("_low", "Low95")):
            assert rows["left"][column + ending] == pytest.approx(alone[name][key])
    assert rows["left"]["cellNV_mm3"] == pytest.approx(rows["left"]["nucleiNV_mm3"] / 1.25)
    assert rows["left"]["sizes_of"] == rows["right"]["sizes_of"] == "region"
    few, wide = rows["few"], rows["left"]
    assert few["sizes_of"] == "all cells" and "too few" in few["notes_3d"] and 0 < few["nCells"] < 30
    # A cell stands for as many per volume as elsewhere: by the sizes of all, not by its own.
    per_cell = [row["nucleiNV_mm3"] * row["area_mm2"] / row["nCells"] for row in (few, wide)]
    assert per_cell[0] == pytest.approx(per_cell[1], rel=0.15)
    assert few["nucleiNV_mm3_se"] / few["nucleiNV_mm3"] == pytest.approx(few["nCells"] ** -0.5, rel=0.1)
    assert few["nucD_um"] == pytest.approx(wide["nucD_um"], rel=0.05) and np.isnan(few["nucD_um_se"])
    assert rows["none"]["nucleiNV_mm3"] == 0 and np.isnan(rows["none"]["Dvol_um"])
    assert rows["none"]["notes_3d"] == "no cells"
