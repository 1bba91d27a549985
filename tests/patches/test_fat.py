"""Fat vacuoles on a slide made of known ones, among vessels, clefts and tears."""

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import tifffile
from typer.testing import CliRunner

from histomri.cells import CellMetadata, CellTable
from histomri.core.errors import InputError
from histomri.patches import measure_fat
from histomri.slides import find_tissue, find_vacuoles, open_slide
from histomri.slides.vacuoles import measure_holes
from histomri_cli.app import app

UM = 0.5
GLASS, TISSUE = (240, 238, 242), (205, 130, 170)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A slide of 1.3 x 1.1 mm, 200 vacuoles of 6 to 38 µm on a raster, and what is not fat; a table of the vacuoles."""
    rng = np.random.default_rng(7)
    rgb = np.empty((2200, 2600, 3), np.uint8)
    rgb[:] = GLASS
    rgb[150:2050, 150:2450] = TISSUE
    y, x = np.mgrid[:2200, :2600] + 0.5
    rows = []

    def disc(cx, cy, radius, aspect=1.0, angle=0.0):
        box = slice(int(cy - 200), int(cy + 200)), slice(int(cx - 200), int(cx + 200))
        across = (x[box] - cx) * np.cos(angle) + (y[box] - cy) * np.sin(angle)
        down = -(x[box] - cx) * np.sin(angle) + (y[box] - cy) * np.cos(angle)
        hole = np.hypot(across / aspect, down) < radius
        rgb[box][hole] = GLASS
        return hole.sum() * UM**2

    for number in range(200):
        cx, cy = 250 + 90 * (number % 20) + rng.uniform(-3, 3), 260 + 90 * (number // 20) + rng.uniform(-3, 3)
        diameter = rng.uniform(6, 13.5) if number % 4 else rng.uniform(16.5, 38)
        rows.append((cx * UM, cy * UM, diameter, disc(cx, cy, diameter / UM / 2)))
    for number in range(25):  # sinusoids, 3 to 1, at any angle
        disc(280 + 90 * (number % 20), 1250 + 90 * (number // 20), 9, 3.0, rng.uniform(0, np.pi))
    disc(700, 1700, 110)  # a vessel of 110 µm
    rgb[1500:1900, 1500:1530] = GLASS  # a tear
    rgb = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    path = tmp_path_factory.mktemp("fat") / "liver.ome.tif"
    size = {"PhysicalSizeX": UM, "PhysicalSizeY": UM, "axes": "YXS"}
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(256, 256), compression="zlib", metadata=size)
    return path, pd.DataFrame(rows, columns=["x", "y", "diameter", "area"])


def test_known_vacuoles_are_counted_by_size(scene):
    path, truth = scene
    with open_slide(path) as slide:
        found = measure_fat(slide, map_um=200)
    assert [row["n"] for row in found.rows] == [150, 50, 200]
    vacuoles = found.vacuoles
    order = [int(np.argmin(np.hypot(vacuoles.x_um - x, vacuoles.y_um - y))) for x, y in truth[["x", "y"]].to_numpy()]
    assert len(set(order)) == 200
    # An edge at half the density lies half a pixel further out or in at most: 0.25 µm of radius.
    np.testing.assert_allclose(vacuoles.diameter_um[order], truth["diameter"], atol=0.6)
    assert vacuoles.area_um2.sum() == pytest.approx(truth["area"].sum(), rel=0.05)
    assert vacuoles.fraction == pytest.approx(truth["area"].sum() / vacuoles.tissue_um2, rel=0.05)
    assert vacuoles.n_not_round == 25
    # Neither the vessel (9,500 µm²) nor the tear (3,000 µm²) is fat; what of them is tissue at all is counted apart.
    assert vacuoles.too_large_um2 > 2000
    assert vacuoles.roundness.min() > 0.9
    total = np.nansum(found.map.data)
    assert total > 0 and np.isnan(found.map.data).sum() == 0


def test_tiles_do_not_matter(scene, monkeypatch):
    path, _ = scene
    with open_slide(path) as slide:
        tissue = find_tissue(slide)
        whole = find_vacuoles(slide, tissue)
        monkeypatch.setattr("histomri.slides.vacuoles._TILE_PX", 173)
        tiled = find_vacuoles(slide, tissue)
    for name in ("x_um", "y_um", "area_um2", "roundness"):
        np.testing.assert_allclose(np.sort(getattr(whole, name)), np.sort(getattr(tiled, name)), rtol=1e-9)
    assert (whole.n_not_round, whole.tissue_um2) == (tiled.n_not_round, tiled.tissue_um2)


def test_roundness_of_known_shapes():
    y, x = np.mgrid[:400, :400] + 0.5
    picture = np.zeros((400, 400), bool)
    picture |= np.hypot(x - 80, y - 80) < 30
    picture |= np.hypot((x - 250) / 2, y - 80) < 25
    picture[200:210, 50:350] = True
    holes = measure_holes(picture)
    by_row = np.argsort(holes.y + 0.001 * holes.x)
    # 2ab / (a^2 + b^2) for an ellipse; 6 ab / (pi (a^2 + b^2)) for a rectangle.
    expected = [1.0, 2 * 2 / 5, 6 * 300 * 10 / (np.pi * (300**2 + 10**2))]
    np.testing.assert_allclose(holes.roundness[by_row], expected, rtol=0.01)
    np.testing.assert_allclose(holes.x[by_row], [80, 250, 200], atol=0.1)
    assert not holes.at_edge.any() and measure_holes(picture[60:]).at_edge.any()


def test_fat_is_left_out_of_the_tissue_on_request(scene, tmp_path):
    path, truth = scene
    with open_slide(path) as slide:
        vacuoles = find_vacuoles(slide, find_tissue(slide))
        area, field = vacuoles.tissue_um2, slide.field_um
    assert vacuoles.region().area == pytest.approx(vacuoles.area_um2.sum(), rel=1e-6)
    rng = np.random.default_rng(1)
    columns = {
        "x_um": rng.uniform(90, 1200, 3000),
        "y_um": rng.uniform(90, 1000, 3000),
        "area_um2": np.full(3000, 80.0),
    }
    cells = CellTable.from_columns(**columns)
    CellTable(cells.data, CellMetadata(image="liver", pixel_size_um=(UM, UM), field_um=field)).save(
        tmp_path / "c.parquet"
    )
    values = []
    for number, extra in enumerate(([], ["--exclude-fat"])):
        call = ["patches", tmp_path / "c.parquet", "--slide", path, "--whole", "--preset", "none", "-o",
                tmp_path / str(number), *extra]  # fmt: skip
        done = CliRunner().invoke(app, list(map(str, call)))
        assert done.exit_code == 0, done.output
        values.append(float(np.nanmax(nib.load(tmp_path / str(number) / "param-F_histomap.nii.gz").get_fdata())))
    assert "left out of the tissue: 200 fat vacuoles of 5 to 40 µm" in done.stdout
    assert values[1] / values[0] == pytest.approx(area / (area - truth["area"].sum()), rel=0.01)
    record = json.loads((tmp_path / "1" / "param-F_histomap.json").read_text())
    assert "without fat vacuoles" in json.dumps(record)


def test_the_command_writes_table_picture_and_map(scene, tmp_path):
    path, _ = scene
    call = ["fat", path, "-o", tmp_path / "fat", "--edges-um", "5,20,40", "--map-um", "300", "--sub", "a1"]
    done = CliRunner().invoke(app, list(map(str, call)))
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "fat" / "fat.csv")
    assert table["size_class"].tolist() == ["5-20", "20-40", "all"] and table["n"].iloc[-1] == 200
    names = {file.name for file in (tmp_path / "fat").iterdir()}
    assert {"fat.json", "fat.png", "fat_vacuoles.parquet", "sub-a1_param-fatFraction_histomap.nii.gz"} <= names
    assert len(pd.read_parquet(tmp_path / "fat" / "fat_vacuoles.parquet")) == 200
    for extra, message in (
        (["--edges-um", "40,5"], "size classes (40.0, 5.0) are not possible"),
        (["--edges-um", "1,5"], "are too large to see holes of 1 µm"),
    ):
        done = CliRunner().invoke(app, list(map(str, ["fat", path, "-o", tmp_path / "x", *extra])))
        assert done.exit_code == 2 and message in done.stderr and not (tmp_path / "x").exists()


def test_fat_needs_a_slide_and_tissue(scene, tmp_path):
    done = CliRunner().invoke(app, ["patches", "c.parquet", "--whole", "--exclude-fat", "-o", str(tmp_path)])
    assert done.exit_code == 2 and "fat is found on the slide; give --slide, or leave out --exclude-fat" in done.stderr
    from shapely import box

    with open_slide(scene[0]) as slide, pytest.raises(InputError, match="there is no tissue to look for fat in"):
        find_vacuoles(slide, find_tissue(slide), region=box(0, 0, 10, 10))
