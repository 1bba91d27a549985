"""Which histology is paired: as published or in 3D; both are never mixed, and every table says which it holds."""

import json

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import agree_table, score_table
from histomri.cells import CellTable
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.pairing import PairedTable, pair_means, read_section
from histomri.patches import VolumeSettings, map_section


def section(folder, data, kind=None, **more):
    """Write the maps of nuclei with rims, or of masks of cells, and return their folder."""
    table = pd.read_csv(data / "stereology" / "g4.csv.gz")
    area = table["mask_cell_area_um2" if kind == "M" else "rim_cell_area_um2"]
    cells = CellTable.coerce(table[["x_um", "y_um", "nucleus_area_um2"]].assign(area_um2=area))
    volume = None if kind is None else VolumeSettings(kind, 2.0, 10.0, **more)
    map_section(cells, patch_um=400, tissue="field", volume=volume).save(folder, cells="cells.parquet")
    return folder


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory):
    """Sections: as in 0.1.0, nuclei without and with a cell fraction, and masks of cells."""
    out = tmp_path_factory.mktemp("sections")
    return {
        "plain": section(out / "plain", data),
        "R": section(out / "r", data, "R"),
        "R with F": section(out / "rf", data, "R", cell_fraction=0.3),
        "M": section(out / "m", data, "M"),
    }


def mri(rng, size):
    maps = {
        "vCS": size + 0.1 * rng.standard_normal((2, 2)),
        "F": 0.5 + 0.01 * rng.random((2, 2)),
        "exit": np.ones((2, 2)),
    }
    return {("diff-in", "high-b"): {name: Image(values, np.eye(4)) for name, values in maps.items()}}


@pytest.mark.parametrize(
    ("name", "size", "density", "fraction"),
    [("plain", "paper", "CD", True), ("R", "paper", "CD", True), ("R with F", "volume", "nucleiNV", False),
     ("M", "volume", "nucleiNV", True)],
)  # fmt: skip
def test_the_size_is_that_of_the_volume_where_it_is_known(folders, name, size, density, fraction):
    found = read_section(folders[name])
    assert (found.size, density in found.maps, found.has_fraction) == (size, True, fraction)
    assert ("CD" in found.maps) == (size == "paper")
    if name == "M":
        np.testing.assert_array_equal(
            found.maps["vCS"].data, Image.load(folders["M"] / "param-vCS_histomap.nii.gz").data
        )
    if name == "R with F":
        model_based = Image.load(folders[name] / "param-vCSvol_histomap.nii.gz").data
        np.testing.assert_array_equal(found.maps["vCS"].data, model_based)
        assert "model-based" in found.columns()["vCS_histo_um"]["Description"]
    published = read_section(folders[name], "paper")
    assert published.size == "paper" and published.has_fraction
    if name != "M":  # the same rims, whatever was said of them
        np.testing.assert_array_equal(published.maps["F"].data, read_section(folders["plain"]).maps["F"].data)
        assert "rim" in published.columns()["F_histo"]["Description"]


def test_a_size_that_is_not_there_is_asked_for(folders):
    with pytest.raises(InputError, match="no maps of cells in 3D") as raised:
        read_section(folders["plain"], "volume")
    assert "--outline-kind" in raised.value.hint
    with pytest.raises(InputError, match="needs the share") as raised:
        read_section(folders["R"], "volume")
    assert "--cell-fraction" in raised.value.hint


def test_sizes_of_two_kinds_never_stand_in_one_table(folders, rng):
    tables = [pair_means(folders[name], mri(rng, 14.0), sample=name[0]) for name in ("plain", "M")]
    assert tables[0].parameters["size"] == {"p": "paper"} and tables[1].parameters["size"] == {"M": "volume"}
    with pytest.raises(InputError, match="cannot stand in one table") as raised:
        PairedTable.join(tables)
    assert "--size" in raised.value.hint


def test_without_a_fraction_models_are_ranked_by_size_and_say_so(folders, rng, tmp_path):
    """Scores, tests and agreement of six samples whose histology has a size in 3D and no fraction that was measured."""
    histology = read_section(folders["R with F"])
    parts = []
    for number in range(6):
        maps = {name: Image(image.data * (1 + 0.1 * number), image.affine) for name, image in histology.maps.items()}
        own = type(histology)(maps, histology.names, "volume", histology.meanings, histology.settings)
        near, far = mri(rng, 14.0 + number), mri(rng, 20.0 - number)
        fits = {**near, ("diff-in-ex", "high-b"): far["diff-in", "high-b"]}
        parts.append(pair_means(own, fits, sample=f"s{number}"))
    PairedTable.join(parts).save(tmp_path / "pairs.csv")
    found = score_table(tmp_path / "pairs.csv")
    found.write(tmp_path)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["Parameters"]["size"] == "volume" and scores["Parameters"]["ranked_by"] == "r_vCS"
    pairs = pd.read_csv(tmp_path / "pairs.csv")
    assert pairs["F_histo"].isna().all()
    for row in scores["models"]:
        part = pairs[pairs["model"] == row["model"]]
        assert row["r_vCS"] == pytest.approx(np.corrcoef(part["vCS_mri_um"], part["vCS_histo_um"])[0, 1])
        assert row["TCS"] is None and row["HFC_mean"] is None and row["r_F"] is None
    assert [row["model"] for row in scores["models"]] == ["diff-in", "diff-in-ex"]
    assert {row["quantity"] for row in scores["comparisons"]} == {"vCS"}
    assert any("no TCS" in text for text in found.warnings)
    agreed = agree_table(tmp_path / "pairs.csv")
    assert set(agreed.to_pandas()["first"]) == {"vCS_mri_um"}
    assert any("F_histo has no value" in text for text in agreed.warnings)
    assert agreed.lines[0] == found.lines[0] == "histology of cells in 3D (size volume)"


def test_a_section_without_a_size_says_why(data, rng, tmp_path):
    """Twenty nuclei are too few to be unfolded: the table keeps the row, and a warning has the reason."""
    table = pd.read_csv(data / "stereology" / "g4.csv.gz")[:20]
    cells = CellTable.coerce(table[["x_um", "y_um", "nucleus_area_um2"]].assign(area_um2=table["mask_cell_area_um2"]))
    map_section(cells, whole=True, tissue="field", volume=VolumeSettings("M", 2.0, 10.0)).save(
        tmp_path, cells="c.parquet"
    )
    paired = pair_means(tmp_path, mri(rng, 14.0), sample="m1")
    assert paired.data["vCS_histo_um"].isna().all()
    reason = "20 profiles are too few, 30 are needed"
    assert f"m1: the histology has no cell size in any patch: {reason}" in paired.warnings
    published = pair_means(read_section(tmp_path, "paper"), mri(rng, 14.0), sample="m1")
    assert published.data["vCS_histo_um"].notna().all() and reason not in " ".join(published.warnings)
