"""Maps in 3D from a cell table: names, files, sidecars, refusals; the maps of today do not change."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely

from histomri.cells import CellTable
from histomri.core.errors import InputError
from histomri.patches import PatchMaps, PatchOptions, VolumeSettings, map_section, volume_settings
from histomri.patches.stereology import covered_share
from histomri.patches.tissue import Extent


@pytest.fixture(scope="module")
def cells(data) -> pd.DataFrame:
    """Return nuclei with their rim from tissue g4; its tiles are one field here."""
    table = pd.read_csv(data / "stereology" / "g4.csv.gz")
    names = {"nucleus_area_um2": "nucleus_area_um2", "rim_cell_area_um2": "area_um2", "x_um": "x_um", "y_um": "y_um"}
    return table[list(names)].rename(columns=names)


def masks(data, name="g4"):
    table = pd.read_csv(data / "stereology" / f"{name}.csv.gz")
    return table[["x_um", "y_um", "nucleus_area_um2", "mask_cell_area_um2"]].rename(
        columns={"mask_cell_area_um2": "area_um2"}
    )


def settings(kind="R", **more):
    return VolumeSettings(kind, more.pop("thickness_um", 2.0), 10.0, **more)


def test_maps_in_3d_stand_beside_those_of_today(cells, tmp_path):
    plain = map_section(cells, patch_um=250, tissue="field")
    found = map_section(cells, patch_um=250, tissue="field", volume=settings(cell_fraction=0.3))
    published = found.maps.paper
    for group in ("maps", "errors", "uncorrected"):
        for name, values in getattr(plain.maps, group).items():
            np.testing.assert_array_equal(values, getattr(published, group)[name])
    new = set(found.maps.maps) - {"nCells", "tissueFraction"}
    assert new == {"nucleiNV", "Dvol", "vCSvol", "rimSize", "rimFraction"}  # no vCS or F of rims
    assert new <= set(found.maps.errors) and new == set(found.maps.systematic)
    files = found.save(tmp_path, "A", cells="cells.parquet")
    names = {path.name for path in files}
    for name in new:
        assert {
            f"sub-A_{part}param-{name}{end}_histomap.nii.gz" for part in ("",) for end in ("", "_stat-se", "_stat-syst")
        } <= names
    for name in ("vCS", "F", "CD"):
        assert f"sub-A_param-{name}_desc-paper_histomap.nii.gz" in names
        assert f"sub-A_param-{name}_desc-paperUncorrected_histomap.nii.gz" in names
    of_rims = [name for name in names if "param-vCS_" in name or "param-F_" in name]
    assert all("desc-paper" in name for name in of_rims)
    again = PatchMaps.load(tmp_path, "A")
    np.testing.assert_allclose(again.paper.maps["vCS"], plain.maps.maps["vCS"], rtol=1e-6)
    assert set(again.paper.uncorrected) == set(plain.maps.uncorrected) and set(again.paper.errors) == {"vCS", "F", "CD"}
    assert again.paper.meanings["vCS"].startswith("Volume-weighted size of nuclei with their rim")
    np.testing.assert_allclose(again.systematic["Dvol"], found.maps.systematic["Dvol"], rtol=1e-6)
    record = json.loads((tmp_path / "sub-A_param-Dvol_histomap.json").read_text())["Parameters"]["Stereology"]
    assert record["Kind"] == "R" and record["F_assumed"] == 0.3 and record["Thickness_um"] == 2.0
    assert {"Chi2", "Invisible", "Shrinkage", "Smallest_um2"} <= set(record)
    assert record["Results"]["nucleiNV"]["StatSE"] > 0 and record["Results"]["nucleiNV"]["Syst"] > 0
    assert "kind R" in " ".join(found.messages())
    columns = set(found.maps.to_pandas().columns)
    assert {"Dvol_histo_um_syst", "vCS_histo_um_paper", "F_histo_se_paper"} <= columns
    assert not {"vCS_histo_um", "F_histo", "CD_histo_mm2"} & columns
    assert {path.name for path in plain.save(tmp_path, "A", cells="cells.parquet")} == {
        path.name for path in tmp_path.iterdir()
    }  # neither those in 3D nor those beside them are of this run
    found.save(tmp_path, "A", cells="cells.parquet")
    assert not (tmp_path / "sub-A_param-vCS_histomap.nii.gz").exists()  # nor the other way round


def test_the_density_of_the_whole_is_that_of_the_truth(cells, data):
    known = pd.read_csv(data / "stereology" / "conditions.csv").set_index("condition").loc["g4"]
    truth = pd.read_csv(data / "stereology" / "truth.csv").set_index("condition").loc["g4"]
    found = map_section(
        cells,
        whole=True,
        tissue="field",
        shrinkage=known["shrinkage_p"],
        volume=settings(cell_fraction=known["F_given"]),
    )
    x, y = cells["x_um"], cells["y_um"]
    box = (x.max() - x.min()) * (y.max() - y.min())
    density = found.maps.maps["nucleiNV"][0, 0] * box / known["field_area_um2"]
    assert density == pytest.approx(truth["N_V_per_mm3"], rel=0.05)
    assert found.maps.errors["nucleiNV"][0, 0] > 0


@pytest.mark.parametrize(("kind", "names"), [("M", {"nucleiNV", "Dvol", "vCS", "F"}), ("E", {"cellNV", "vCS", "F"})])
def test_outlines_of_cells_give_sizes_and_fractions_of_cells(data, kind, names):
    found = map_section(masks(data), patch_um=400, tissue="field", volume=settings(kind))
    assert set(found.maps.maps) - {"nCells", "tissueFraction"} == names
    whole = found.maps.parameters["Stereology"]["Results"]
    if kind == "E":  # of every patch as wicksell has it, for no patch has a distribution of its own
        own = map_section(masks(data), patch_um=400, tissue="field", section="wicksell", section_thickness_um=2.0)
        np.testing.assert_array_equal(found.maps.maps["vCS"], own.maps.maps["vCS"])
        return
    # The areas of the patches weigh their fractions; sizes differ by more, as they are means of ratios.
    looked_at = found.maps.maps["tissueFraction"]
    fraction = np.nansum(found.maps.maps["F"] * looked_at) / np.nansum(looked_at)
    assert fraction == pytest.approx(whole["F"]["Value"], rel=1e-3)  # but for the cells of sparse patches
    assert np.nanmedian(found.maps.maps["vCS"]) == pytest.approx(whole["vCS"]["Value"], rel=0.05)


def test_cells_without_a_nucleus_count_in_what_masks_cover(data):
    """The share under masks is known where all masks are there; off-centre nuclei are corrected where it is known."""
    table, every = masks(data), pd.read_csv(data / "stereology" / "g4_every.csv.gz")
    lone = every.rename(columns={"mask_cell_area_um2": "area_um2"}).sample(500, random_state=1)[["area_um2"]]
    lone = lone.assign(nucleus_area_um2=np.nan, x_um=table["x_um"].mean(), y_um=table["y_um"].mean())
    both = pd.concat([table.assign(nucleus_offset_um=1.5), lone], ignore_index=True)
    records = []
    for cells in (table, both):
        found = map_section(cells, whole=True, tissue="field", volume=settings("M", centroid_noise_um=0.5))
        records.append(found.maps.parameters["Stereology"])
    assert [record["MaskCoverageFrom"] for record in records] == ["estimate", "masks"]
    box = np.ptp(table["x_um"]) * np.ptp(table["y_um"])
    assert records[1]["MaskCoverage"] == pytest.approx(both["area_um2"].sum() / box, rel=1e-6)
    assert records[0]["NucleusOffset_um"] is None and "are not known" in " ".join(records[0]["Notes"])
    assert records[1]["NucleusOffset_um"] == pytest.approx(np.sqrt(1.5**2 - 0.5**2))
    assert "500 cells without" in " ".join(records[1]["Notes"])


def test_outlines_say_whether_they_lie_over_each_other():
    """Squares of 10 µm in a row, apart and then each with 2 µm in common with the next."""
    places = np.arange(50.0)
    for step, overlap in ((12.0, 0.0), (8.0, 2 * 2 * 49 / 500)):
        table = CellTable.from_columns(places * step + 5, np.full(50, 5.0), np.full(50, 100.0))
        outlines = shapely.box(places * step, 0.0, places * step + 10, 10.0)
        length = 49 * step + 10
        extent = Extent((0.0, 0.0, length, 10.0), None, "field")
        share, shared = covered_share(CellTable(table.data, table.metadata, outlines), np.ones(50, bool), extent)
        assert shared == pytest.approx(overlap) and share == pytest.approx(
            (5000 - 2 * 10 * 49 * (step < 10)) / length / 10
        )


def test_auto_says_what_is_beyond_doubt_only(cells, data):
    found = map_section(cells, patch_um=500, tissue="field", volume=settings("auto"))
    assert found.maps.parameters["Stereology"]["Kind"] == "R"
    with pytest.raises(InputError, match="does not show what its outlines are"):
        map_section(masks(data), patch_um=500, tissue="field", volume=settings("auto"))


def test_what_maps_in_3d_need_is_asked_for(cells):
    given = {"patch_um": 500, "tissue": "field"}
    with pytest.raises(InputError, match="overlap"):
        map_section(cells, step_um=250, volume=settings(), **given)
    with pytest.raises(InputError, match="rim of fixed width"):
        map_section(cells, volume=settings("M"), **given)
    with pytest.raises(InputError, match="thickness of the section is needed"):
        map_section(cells, volume=settings(thickness_um=None), **given)
    bare = CellTable.coerce(cells.drop(columns="nucleus_area_um2"))
    with pytest.raises(InputError, match="nuclei"):
        map_section(bare, volume=settings("R"), **given)


def test_few_cells_give_a_reason_in_the_sidecar(cells):
    found = map_section(cells.iloc[:20], whole=True, tissue="field", volume=settings())
    record = found.maps.parameters["Stereology"]
    assert np.isnan(found.maps.maps["nucleiNV"]).all()
    assert record["Results"]["nucleiNV"] | {"Value": None} == record["Results"]["nucleiNV"]
    assert "too few" in record["Results"]["nucleiNV"]["Reason"]


def test_options_refuse_maps_in_3d_without_a_thickness():
    given = {"cells": "c.parquet", "patch_um": 100}
    assert volume_settings(PatchOptions.read(**given)) is None
    for more, why in (
        ({"outline_kind": "R"}, "need the thickness"),
        ({"cell_fraction": 0.7}, "need the kind of outline"),
        ({"outline_kind": "R", "section_thickness_um": 4, "step_um": 50}, "no maps in 3D"),
    ):
        with pytest.raises(InputError, match=why):
            PatchOptions.read(**given, **more)
    told = PatchOptions.read(**given, outline_kind="R", section_thickness_um=4, cell_fraction=0.7, shrinkage_error=0.02)
    found = volume_settings(told)
    assert found.kind == "R" and found.thickness_um == 4 and found.tolerances.shrinkage == 0.02


def test_cells_with_two_nuclei_are_counted_once(cells):
    """A quarter of the cells has two: there are 1.25 nuclei per cell, and the volume per cell is as much larger."""
    plain, counted = (
        map_section(
            cells, patch_um=500, tissue="field", volume=settings(cell_fraction=0.3, binucleate_share=share)
        ).maps
        for share in (None, 0.25)
    )
    for group in ("maps", "errors", "systematic"):
        one, other = getattr(plain, group), getattr(counted, group)
        np.testing.assert_array_equal(one["nucleiNV"], other["nucleiNV"])
        np.testing.assert_allclose(other["cellNV"], one["nucleiNV"] / 1.25)
        np.testing.assert_allclose(other["Dvol"], one["Dvol"] * 1.25 ** (1 / 3))
    # The cells fill the same share of the volume.
    volume = ball_mm3(counted.maps["Dvol"]) * counted.maps["cellNV"]
    np.testing.assert_allclose(volume, ball_mm3(plain.maps["Dvol"]) * plain.maps["nucleiNV"])
    np.testing.assert_allclose(volume[np.isfinite(volume)], 0.3, rtol=1e-6)
    record = counted.parameters["Stereology"]
    assert record["BinucleateShare"] == 0.25
    assert record["Results"]["cellNV"]["Value"] == pytest.approx(record["Results"]["nucleiNV"]["Value"] / 1.25)


def ball_mm3(diameter_um):
    """Return the volume of a ball in mm³."""
    return np.pi / 6 * (1e-3 * diameter_um) ** 3
