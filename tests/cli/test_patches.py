"""`histomri patches`: exit codes, messages, and where the maps lie."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from PIL import Image as Picture
from shapely.geometry import box
from typer.testing import CliRunner

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchMaps
from histomri.study import Sample, Study
from histomri.study.graph import PER_SAMPLE
from histomri.study.step import build
from histomri_cli.app import app

FIELD = ("--tissue", "field", "--min-tissue", "0")  # all of the field counts, as far as cells lie anywhere in it


def invoke(*words):
    return CliRunner().invoke(app, ["patches", *map(str, words)])


@pytest.fixture
def table(rng, tmp_path):
    x, y = rng.uniform(0, 3000, 800), rng.uniform(0, 2000, 800)
    metadata = CellMetadata(field_um=(3000, 2000))
    CellTable.from_columns(x, y, rng.uniform(50, 300, 800), metadata=metadata).save(tmp_path / "cells.parquet")
    return tmp_path / "cells.parquet"


def mri(path, voxel=(0.386, 0.386, 2.216)):
    nib.save(nib.Nifti1Image(np.ones((5, 6, 2), np.float32), np.diag([*voxel, 1.0])), path)
    return path


def test_the_patch_size_is_taken_from_the_mri(table, tmp_path):
    out = tmp_path / "histo"
    result = invoke(table, "-o", out, "--like", mri(tmp_path / "dwi.nii.gz"), "--sub", "m1", *FIELD)
    assert result.exit_code == 0
    assert "6 x 8 patches of 386 x 386 µm, 48 with cells, 800 of 800 cells used; extent: imaged field" in result.stdout
    assert "corrections: shrinkage 12.9%, section sphere-mean (sizes x 1.462)" in result.stdout
    assert f"wrote {out / 'sub-m1_param-vCS_histomap.nii.gz'}" in result.stdout
    assert len(list(out.iterdir())) == 2 * (9 + 7 + 3)
    image = nib.load(out / "sub-m1_param-F_histomap.nii.gz")
    np.testing.assert_allclose(image.header.get_zooms(), [0.386, 0.386, 2.216], rtol=1e-6)


def test_options_reach_the_maps(table, tmp_path):
    words = ("--patch-um", "500,400", "--preset", "none", "--section", "wicksell", "--section-thickness-um", "3")
    assert invoke(table, "-o", tmp_path / "h", *words, "--thickness-um", "1000", "-q").exit_code == 0
    maps = PatchMaps.load(tmp_path / "h")
    assert maps.grid.shape == (5, 6)
    np.testing.assert_allclose([*maps.grid.patch_um, maps.grid.thickness_um], [500, 400, 1000], rtol=1e-6)
    assert (maps.parameters["Section"], maps.parameters["SectionThickness_um"]) == ("wicksell", 3)
    assert maps.parameters["Shrinkage"] == 0


def test_one_number_for_the_whole_slide(table, tmp_path):
    assert invoke(table, "-o", tmp_path / "h", "--whole", *FIELD).exit_code == 0
    maps = PatchMaps.load(tmp_path / "h")
    assert maps.maps["nCells"].tolist() == [[800]]
    assert maps.maps["tissueFraction"].tolist() == [[1]]


@pytest.mark.parametrize("assign", ["centroid", "clip"])
def test_each_of_two_biopsies_has_its_own_numbers(rng, tmp_path, assign):
    # The biopsies differ in everything; each must get what a table and region of its own gets.
    left, right = box(100, 100, 900, 2000), box(3000, 500, 3600, 2400)
    sizes = {left: (400, 60.0), right: (300, 240.0)}
    tables = {}
    for part, (n, area) in sizes.items():
        low_x, low_y, high_x, high_y = part.bounds
        x, y = rng.uniform(low_x + 20, high_x - 20, n), rng.uniform(low_y + 20, high_y - 20, n)
        tables[part] = x, y, area * rng.uniform(0.8, 1.2, n)
    outlines = lambda x, y, a: shapely.buffer(shapely.points(x, y), np.sqrt(a / np.pi))  # noqa: E731

    def write(name, parts, region):
        x, y, area = (np.concatenate([tables[part][k] for part in parts]) for k in range(3))
        made = CellTable.from_columns(x, y, area, metadata=CellMetadata(roi_wkt=region.wkt))
        CellTable(made.data, made.metadata, outlines(x, y, area)).save(tmp_path / name)
        return tmp_path / name

    both = write("both.parquet", (right, left), shapely.union_all([left, right]))
    result = invoke(both, "-o", tmp_path / "h", "--whole", "--assign", assign, "--sub", "b1")
    assert result.exit_code == 0, result.output
    assert (
        "the maps pool 2 separate regions, 2 with cells, in one patch; sub-b1_rois.csv has the numbers" in result.stderr
    )
    rows = pd.read_csv(tmp_path / "h" / "sub-b1_rois.csv")
    assert rows["roi"].tolist() == [1, 2] and rows["nCells"].tolist() == [400, 300]
    np.testing.assert_allclose(rows[["centre_x_um", "centre_y_um"]], [[500, 1050], [3300, 1450]])
    np.testing.assert_allclose(rows["area_mm2"], [0.8 * 1.9, 0.6 * 1.9])
    for row, part in zip(rows.itertuples(), (left, right)):
        alone = invoke(write("one.parquet", (part,), part), "-o", tmp_path / "one", "--whole", "--assign", assign)
        assert alone.exit_code == 0 and "pool" not in alone.stderr
        assert not (tmp_path / "one" / "rois.csv").exists()
        maps = PatchMaps.load(tmp_path / "one")
        for name, column in (("vCS", "vCS_um"), ("F", "F"), ("CD", "CD_mm2")):
            np.testing.assert_allclose(getattr(row, column), maps.maps[name][0, 0], rtol=1e-6)
            np.testing.assert_allclose(getattr(row, f"{column}_se"), maps.errors[name][0, 0], rtol=1e-6)


def test_a_region_without_a_cell_has_a_row(rng, tmp_path):
    x, y = rng.uniform(10, 990, (2, 200))
    region = shapely.union_all([box(0, 0, 1000, 1000), box(5000, 0, 6000, 1000)])
    table = CellTable.from_columns(x, y, np.full(200, 80.0), metadata=CellMetadata(roi_wkt=region.wkt))
    table.save(tmp_path / "c.parquet")
    result = invoke(tmp_path / "c.parquet", "-o", tmp_path / "h", "--whole")
    assert "2 separate regions, 1 with cells" in result.stderr
    rows = pd.read_csv(tmp_path / "h" / "rois.csv")
    assert rows[["nCells", "F", "CD_mm2"]].iloc[1].tolist() == [0, 0, 0] and np.isnan(rows["vCS_um"][1])
    # The next maps here have nothing to do with that table.
    assert invoke(tmp_path / "c.parquet", "-o", tmp_path / "h", "--patch-um", "500").exit_code == 0
    assert not (tmp_path / "h" / "rois.csv").exists()


def test_a_qupath_table_is_taken_directly(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("Centroid X um\tCentroid Y um\tNucleus: Area\n1\t2\t30\n90\t80\t40\n")
    result = invoke(path, "-o", tmp_path / "h", "--patch-um", "50", *FIELD)
    assert result.exit_code == 0
    assert "only nuclei" in result.stderr


def test_oblong_voxels_are_told(table, tmp_path):
    result = invoke(table, "-o", tmp_path / "h", "--like", mri(tmp_path / "dwi.nii", (0.5, 0.25, 1)))
    assert "its first axis was taken for the slide's x" in result.stderr
    np.testing.assert_allclose(PatchMaps.load(tmp_path / "h").grid.patch_um, (500, 250), rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "pass one of --patch-um, --like and --whole"),
        (("--patch-um", "386", "--whole"), "pass one of --patch-um, --like and --whole"),
        (("--patch-um", "big"), "--patch-um big is not a number"),
        (("--patch-um", "0"), "--patch-um: must be greater than 0"),
        (("--patch-um", "0.01"), "are too many; check the unit"),
        (("--like", "gone.nii"), "gone.nii: no such NIfTI image"),
        (("--patch-um", "386", "--preset", "rat"), "is not one of"),
        (("--patch-um", "386", "--shrinkage", "13"), "--shrinkage: must be less than 1"),
        (("--patch-um", "386", "--min-cells", "0"), "--min-cells: must be at least 1"),
        (("--patch-um", "386", "--sub", "a/b"), "--sub: 'a/b' names files, so it may hold only letters and digits"),
        (("--patch-um", "386", "--sub", "a-b"), "it may hold only letters and digits"),
        (("--patch-um", "386", "--sub", ""), "it may hold only letters and digits"),
        (("--patch-um", "386", "--sub", "a\n"), "it may hold only letters and digits"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(table, tmp_path, words, message):
    result = invoke(table, "-o", tmp_path / "h", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "h").exists()


def test_cells_that_count_nowhere_are_told_apart(rng, tmp_path):
    # Patches of 1000 µm on a field of 1500: 20 cells in the rim, half a patch wide, and 5 beyond the last patch.
    x = np.concatenate([rng.uniform(0, 1000, 75), rng.uniform(1000, 1500, 20), np.full(5, 2800.0)])
    metadata = CellMetadata(field_um=(1500, 1000))
    cells = CellTable.from_columns(x, rng.uniform(0, 1000, 100), rng.uniform(50, 300, 100), metadata=metadata)
    cells.save(tmp_path / "cells.parquet")
    words = ("--patch-um", "1000", "--min-tissue", "0.6", "--tissue", "field")
    result = invoke(tmp_path / "cells.parquet", "-o", tmp_path / "h", *words)
    assert "20 of 100 cells lie in patches of which less than 0.6 is tissue (--min-tissue)" in result.stderr
    assert "5 of 100 cells lie off the grid of patches or outside the extent" in result.stderr
    left = "(5 off the grid or outside the extent, 20 in patches with too little tissue)"
    assert f"75 of 100 cells used {left}; extent: imaged field" in result.stdout


def test_an_mri_among_the_maps_is_not_overwritten(table, tmp_path):
    assert invoke(table, "-o", tmp_path / "h", "--patch-um", "400", "--thickness-um", "1000").exit_code == 0
    like = tmp_path / "h" / "param-F_histomap.nii.gz"
    before = like.read_bytes()
    result = invoke(table, "-o", tmp_path / "h", "--like", like, "--preset", "none")
    assert (result.exit_code, "is an input, and would be overwritten" in result.stderr) == (2, True)
    assert like.read_bytes() == before


def test_wrong_files_are_refused(table, tmp_path):
    result = invoke(tmp_path / "gone.parquet", "-o", tmp_path / "h", "--patch-um", "386")
    assert (result.exit_code, "gone.parquet: no such cell table" in result.stderr) == (2, True)
    result = invoke(table, "-o", tmp_path / "h", "--like", mri(tmp_path / "metres.nii", (400, 400, 2000)))
    assert (result.exit_code, "voxels are 400 x 400 x 2000 mm, which no MRI has" in result.stderr) == (2, True)
    result = invoke(table, "-o", table, "--patch-um", "386")
    assert (result.exit_code, "is a file, and a folder is needed for the results" in result.stderr) == (2, True)
    table.write_bytes(table.read_bytes()[:-200])
    result = invoke(table, "-o", tmp_path / "h", "--patch-um", "386")
    assert (result.exit_code, "is not a Parquet file, or it is cut short" in result.stderr) == (2, True)


def test_an_unknown_extent_is_told(rng, tmp_path):
    CellTable.from_columns(*rng.uniform(0, 900, (2, 500)), np.full(500, 90.0)).save(tmp_path / "cells.parquet")
    doubt = "F and CD are per bounding box of the cells"
    for words, told in ((FIELD, True), ((), False), (("--tissue", "cells"), False)):
        done = invoke(tmp_path / "cells.parquet", "-o", tmp_path / "h", "--patch-um", "300", *words)
        assert (done.exit_code, doubt in done.stderr) == (0, told)


@pytest.fixture
def slide(tmp_path):
    """A slide of 3000 x 2000 µm with tissue from x = 400 to 2400 and y = 300 to 1700 µm, and a hole in it."""
    rgb = np.full((1000, 1500, 3), 243, np.uint8)
    rgb[150:850, 200:1200] = (180, 100, 180)
    rgb[350:550, 500:700] = 243
    path = tmp_path / "slide.ome.tif"
    size = {"axes": "YXS", "PhysicalSizeX": 2.0, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 2.0}
    tifffile.imwrite(path, rgb, ome=True, photometric="rgb", metadata={**size, "PhysicalSizeYUnit": "µm"})
    return path


def on_tissue(rng, path, n=3000, **metadata):
    x, y = rng.uniform(400, 2400, n), rng.uniform(300, 1700, n)
    hole = (x > 1000) & (x < 1400) & (y > 700) & (y < 1100)
    x, y = x[~hole], y[~hole]
    CellTable.from_columns(x, y, np.full(x.size, 100.0), metadata=CellMetadata(**metadata)).save(path)
    return path, x.size


def test_fractions_are_of_the_tissue_on_the_slide(rng, slide, tmp_path):
    cells, n = on_tissue(rng, tmp_path / "cells.parquet")
    words = ("--patch-um", "500", "--slide", slide, "--preset", "none", "--min-tissue", "0.3")
    result = invoke(cells, "-o", tmp_path / "h", *words)
    assert result.exit_code == 0, result.output
    assert "extent: tissue outline and imaged field" in result.stdout
    maps = PatchMaps.load(tmp_path / "h")
    x, y = (np.arange(count) * 500.0 for count in (6, 4))
    wide, high = (np.clip(np.minimum(low + 500, most) - np.maximum(low, least), 0, None)
                  for low, least, most in ((x, 400, 2400), (y, 300, 1700)))  # fmt: skip
    hole = [np.clip(np.minimum(low + 500, most) - np.maximum(low, least), 0, None)
            for low, least, most in ((x, 1000, 1400), (y, 700, 1100))]  # fmt: skip
    tissue = (high[:, None] * wide - hole[1][:, None] * hole[0]) / 500**2
    # The mask has pixels of 8 µm and a soft edge.
    np.testing.assert_allclose(maps.maps["tissueFraction"], tissue, atol=0.04)
    known = tissue > 0.4
    # So many cells per area of tissue everywhere, rim or not; 100 to 400 cells in a patch scatter by 5 to 10 %.
    assert np.nanmean(maps.maps["CD"][known]) == pytest.approx(n / (2.8 - 0.16), rel=0.03)
    assert (np.isnan(maps.maps["F"]) == (tissue < 0.3)).all()
    mask = nib.load(tmp_path / "h" / "desc-tissue_mask.nii.gz")
    area = mask.get_fdata().sum() * np.prod(mask.header.get_zooms()[:2])
    assert area == pytest.approx(2.64, rel=0.05)  # mm²


@pytest.mark.parametrize(
    ("metadata", "shift", "words", "message"),
    [
        ({"field_um": (5000, 2000)}, 0, (), "slide.ome.tif: is of 3000 x 2000 µm, and the slide of the cells of 5000"),
        ({"pixel_size_um": (0.5, 0.5)}, 0, (), "slide.ome.tif: "),
        ({}, 2100, (), "of the cells of cells.parquet lie on its tissue"),
        ({}, 0, ("--tissue", "cells"), "leave out --tissue or --slide"),
    ],
)
def test_another_slide_is_refused(rng, slide, tmp_path, metadata, shift, words, message):
    cells, _ = on_tissue(rng, tmp_path / "cells.parquet", **metadata)
    table = CellTable.load(cells)
    CellTable(table.data.assign(x_um=table.data["x_um"] + shift), table.metadata).save(cells)
    result = invoke(cells, "-o", tmp_path / "h", "--patch-um", "500", "--slide", slide, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "h").exists()


def test_a_slide_of_glass_is_refused(rng, tmp_path):
    cells, _ = on_tissue(rng, tmp_path / "cells.parquet", pixel_size_um=(2.0, 2.0))
    Picture.fromarray(np.full((1000, 1500, 3), 243, np.uint8)).save(tmp_path / "glass.tif")
    result = invoke(cells, "-o", tmp_path / "h", "--patch-um", "500", "--slide", tmp_path / "glass.tif")
    assert (result.exit_code, "glass.tif: shows no tissue" in result.stderr) == (2, True)


def test_a_thickness_that_corrects_nothing_is_told(table, tmp_path):
    words = (table, "-o", tmp_path / "h", "--patch-um", "500", "--section-thickness-um", "8")
    assert "--section-thickness-um changes sizes with --section wicksell only" in invoke(*words).stderr
    assert "--section-thickness-um" not in invoke(*words, "--section", "wicksell").stderr


def test_a_study_makes_the_same_maps_as_the_command(rng, tmp_path):
    x, y = rng.uniform(200, 2800, 6000), rng.uniform(100, 1900, 6000)
    cells = CellTable.from_columns(x, y, rng.uniform(50, 300, 6000))
    dwi = mri(tmp_path / "dwi.nii.gz")
    sample = Sample(id="m1", cells=[tmp_path / "cells.tsv"], dwi=dwi, protocol="mouse-exvivo")
    place = Study("s", "mouse-exvivo", (sample,)).place(sample, tmp_path / "results")
    step = next(each for each in PER_SAMPLE if each.name == "patches")
    options = build(step, place)
    cells.save(options.cells)
    step.command.run(options, tmp_path / "study")
    done = invoke(options.cells, "-o", tmp_path / "command", "--like", dwi, "--sub", "m1")
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "study").iterdir())
    assert len(names) == 40 and names == sorted(path.name for path in (tmp_path / "command").iterdir())
    for name in names:
        assert (tmp_path / "command" / name).read_bytes() == (tmp_path / "study" / name).read_bytes(), name
