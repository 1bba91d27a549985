"""Maps on disk: names, geometry, sidecars, and back."""

import json

import nibabel as nib
import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.core.errors import GeometryError, InputError
from histomri.patches import PatchGrid, PatchMaps, summarise_patches

GRID = PatchGrid((500.0, 250.0), (250.0, 200.0), (7, 9), 2216.0)


@pytest.fixture
def maps(rng):
    x, y = rng.uniform(500, 2750, 900), rng.uniform(250, 1650, 900)
    size = rng.lognormal(np.log(14), 0.2, 900)
    cells = CellTable.from_columns(x, y, np.pi / 4 * size**2, metadata=CellMetadata(field_um=(2700, 1600)))
    return summarise_patches(cells, GRID, section="wicksell")


def test_the_list_of_files(maps, tmp_path):
    written = maps.save(tmp_path, "1", sources=[tmp_path / "private" / "cells.parquet"])
    corrected = ["vCS", "aCS", "sdCS", "skewCS", "F", "CD", "CDvol", "nCells", "tissueFraction"]
    stems = [f"sub-1_param-{name}_histomap" for name in corrected]
    stems += [f"sub-1_param-{name}_desc-uncorrected_histomap" for name in corrected[:7]]
    stems += [f"sub-1_param-{name}_stat-se_histomap" for name in ("vCS", "F", "CD")]
    names = {f"{stem}{end}" for stem in stems for end in (".nii.gz", ".json")}
    assert {path.name for path in written} == names == {path.name for path in tmp_path.iterdir()}


def test_a_map_is_where_the_grid_says_in_every_viewer(maps, tmp_path):
    maps.save(tmp_path)
    image = nib.load(tmp_path / "param-vCS_histomap.nii.gz")
    assert image.shape == (7, 9, 1)
    assert image.get_data_dtype() == np.float32
    assert nib.aff2axcodes(image.affine) == ("P", "L", "S")
    np.testing.assert_allclose(image.affine, GRID.affine, rtol=1e-6)
    # sform and qform must agree, or viewers differ.
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-6)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(image.get_fdata()[..., 0], maps.maps["vCS"], rtol=1e-6)


def test_the_sidecar_tells_every_choice(maps, tmp_path):
    maps.save(tmp_path, sources=[tmp_path / "private" / "cells.parquet"])
    sidecar = json.loads((tmp_path / "param-vCS_histomap.json").read_text())
    assert (sidecar["Units"], sidecar["Corrected"], sidecar["Sources"]) == ("um", True, ["cells.parquet"])
    choice = sidecar["Parameters"]
    assert (choice["Preset"], choice["Section"], choice["Shrinkage"]) == ("mouse-exvivo", "wicksell", 0.129)
    assert (choice["SectionThickness_um"], choice["SizeFactor"], choice["Extent"]) == (4, None, "imaged field")
    assert "not a membrane" in choice["Cell"]
    error = json.loads((tmp_path / "param-CD_stat-se_histomap.json").read_text())
    assert (error["Units"], error["Description"]) == ("mm^-2", "Standard error of: Cell density per unit area")
    assert json.loads((tmp_path / "param-F_desc-uncorrected_histomap.json").read_text())["Corrected"] is False


def test_maps_come_back(maps, tmp_path):
    maps.save(tmp_path, "A")
    back = PatchMaps.load(tmp_path, "A")
    for mine, theirs in ((maps.maps, back.maps), (maps.uncorrected, back.uncorrected), (maps.errors, back.errors)):
        assert set(mine) == set(theirs)
        for name, values in mine.items():
            np.testing.assert_allclose(theirs[name], values, rtol=1e-6)  # float32
    np.testing.assert_allclose(back.grid.affine, GRID.affine, atol=1e-6)
    assert (back.grid.shape, back.warnings, back.parameters) == (maps.grid.shape, maps.warnings, maps.parameters)
    np.testing.assert_allclose(back.image("F").affine, GRID.affine, atol=1e-6)


def test_the_size_of_overlapping_windows_comes_back(maps, tmp_path):
    grid = PatchGrid((500.0, 250.0), (125.0, 100.0), (7, 9), 4.0, (250.0, 300.0))
    parameters = {"Patch_um": [125.0, 100.0], "Window_um": [250.0, 300.0]}
    PatchMaps({"F": maps.maps["F"]}, {}, grid, parameters).save(tmp_path)
    back = PatchMaps.load(tmp_path).grid
    assert back.window_um == (250.0, 300.0)
    np.testing.assert_allclose(back.patch_um, (125, 100), rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(back.edges_um), np.concatenate(grid.edges_um), rtol=1e-5)
    for wrong in ([10.0, 10.0], "wide", [1.0]):
        PatchMaps({"F": maps.maps["F"]}, {}, grid, {"Window_um": wrong}).save(tmp_path)
        with pytest.raises(GeometryError, match="windows of"):
            PatchMaps.load(tmp_path)


def test_loading_what_is_not_one_set_of_maps_is_refused(maps, tmp_path):
    with pytest.raises(InputError, match="holds no histology maps; make them with"):
        PatchMaps.load(tmp_path)
    maps.save(tmp_path, "A")
    maps.save(tmp_path, "B")
    with pytest.raises(InputError, match="holds the maps of A, B; pass the label of one"):
        PatchMaps.load(tmp_path)
    assert PatchMaps.load(tmp_path, "B").grid.shape == (7, 9)
    moved = PatchGrid((0.0, 0.0), GRID.patch_um, GRID.shape)
    PatchMaps({"F": maps.maps["F"]}, {}, moved).save(tmp_path, "A")
    with pytest.raises(GeometryError, match="is not on the grid of the other maps"):
        PatchMaps.load(tmp_path, "A")


def test_maps_that_do_not_fit_their_grid_are_refused(maps):
    with pytest.raises(GeometryError, match=r"maps\['F'\] has shape \(9, 7\), its grid \(7, 9\)"):
        PatchMaps({"F": maps.maps["F"].T}, {}, GRID)
    with pytest.raises(InputError, match="'Q' is no histology map"):
        PatchMaps({"Q": maps.maps["F"]}, {}, GRID)
