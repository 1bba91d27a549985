"""The contact sheet: which cells it shows, and that outlines lie where the cells are."""

import json

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image as Picture
from typer.testing import CliRunner

from histomri.cells import CellMetadata, CellTable
from histomri.core.errors import InputError
from histomri.report import contact_sheet
from histomri.report.contact_sheet import embedded_sheet, stem_of
from histomri_cli.app import app

UM, SIZE = 0.5, 1200
YELLOW, BLUE = (255, 221, 0), (0, 170, 255)


@pytest.fixture
def scene(tmp_path, rng):
    """81 dark discs of 4 to 8 µm radius, on a slide, as a mask, as GeoJSON and as a table."""
    labels = np.zeros((SIZE, SIZE), np.uint16)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    columns, features = {"x_um": [], "y_um": [], "area_um2": []}, []
    for number in range(81):
        middle = np.array([80 + 130 * (number % 9), 80 + 130 * (number // 9)]) + rng.uniform(-10, 10, 2)
        radius = rng.uniform(8, 16)
        labels[np.hypot(x - middle[0], y - middle[1]) < radius] = number + 1
        shape = shapely.Point(*middle).buffer(radius)
        geometry = {"type": "Polygon", "coordinates": [np.asarray(shape.exterior.coords).tolist()]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {"objectType": "cell"}})
        for name, value in zip(columns, (*middle * UM, shape.area * UM**2)):
            columns[name].append(value)
    rgb = np.where(labels[..., None] > 0, (90, 60, 120), (225, 200, 215)).astype(np.uint8)
    path = tmp_path / "A01.ome.tif"
    size = {"PhysicalSizeX": UM, "PhysicalSizeY": UM, "axes": "YXS"}
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(256, 256), metadata=size)
    tifffile.imwrite(tmp_path / "mask.ome.tif", labels, metadata=size | {"axes": "YX"})
    (tmp_path / "A01.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path, CellTable.from_columns(**columns), tmp_path


def painted(picture, colour):
    return (np.asarray(picture)[:-60] == colour).all(axis=2)


def test_cells_are_random_and_the_same_each_time(scene):
    path, table, _ = scene
    sheet, again, other = (contact_sheet(table, path, seed=seed) for seed in (3, 3, 4))
    assert sheet.rows.size == len(set(sheet.rows)) == 48
    np.testing.assert_array_equal(sheet.picture, again.picture)
    assert set(sheet.rows) != set(other.rows)
    assert (np.diff(table.data["diameter_um"].to_numpy()[sheet.rows]) >= 0).all()  # by size
    assert sheet.outlines == "circles" and any("circles of the measured area" in text for text in sheet.warnings)
    few = contact_sheet(table.select(region=shapely.box(0, 0, 125, 125)), path)
    assert few.rows.size == 4


@pytest.mark.parametrize(("name", "kind"), [("A01.geojson", "outlines as"), ("mask.ome.tif", "edges of the mask")])
def test_the_command_draws_the_edges_of_the_cells(scene, name, kind):
    path, _, folder = scene
    out = folder / "cells.parquet"
    call = ["cells", folder / name, "-o", out, "--check", path, *(["--mpp", UM] if "geojson" in name else [])]
    done = CliRunner().invoke(app, list(map(str, call)))
    assert done.exit_code == 0, done.output
    assert kind in done.stdout and "neither darker" not in done.stderr
    assert CellTable.load(out, geometries=True).outlines is None  # it was not asked to keep them
    picture = np.asarray(Picture.open(folder / "cells_check.png").convert("RGB"))
    yellow = painted(picture, YELLOW)
    assert yellow.sum() > 48 * 60
    # Each edge has dark cell on one side and pale ground on the other: within 3 pixels there is both.
    rows, columns = np.nonzero(yellow[40:-10, 10:-10])
    rows, columns = rows + 40, columns + 10
    around = np.stack([picture[rows + dy, columns + dx, 1] for dy in (-4, 0, 4) for dx in (-4, 0, 4)])
    assert np.mean((around < 120).any(axis=0) & ((around > 180) & (around < 210)).any(axis=0)) > 0.9
    assert embedded_sheet(folder / "cells_check.png").startswith("data:image/jpeg;base64,")


def test_a_slide_of_another_field_is_refused(scene, tmp_path):
    path, table, folder = scene
    other = CellTable(table.data, CellMetadata(image="A01", field_um=(300.0, 300.0)))
    with pytest.raises(InputError, match="is 600 x 600 µm, and the field of A01 is 300 x 300 µm"):
        contact_sheet(other, path)
    far = CellTable(table.data.assign(x_um=table.data["x_um"] + 5000), CellMetadata(image="A01"))
    with pytest.raises(InputError, match="only 0% of the cells lie on it"):
        contact_sheet(far, path)
    done = CliRunner().invoke(app, list(map(str, [
        "cells", folder / "A01.geojson", "-o", folder / "out.parquet", "--mpp", 2.0, "--check", path,
    ])))  # fmt: skip
    assert done.exit_code == 2 and "the pixel size is not settled" in done.stderr
    assert not (folder / "out.parquet").exists() and not (folder / "out_check.png").exists()


def test_cells_of_another_slide_of_the_same_size_are_noticed(scene):
    path, table, _ = scene
    shifted = table.data.assign(x_um=(table.data["x_um"] + 31.0) % 600, y_um=(table.data["y_um"] + 29.0) % 600)
    warnings = contact_sheet(CellTable(shifted, CellMetadata(image="B07.svs")), path).warnings
    assert any("of the image B07.svs, and the slide is A01.ome.tif" in text for text in warnings)
    shuffled = table.data.assign(x_um=np.random.default_rng(1).uniform(0, 600, 81))
    warnings = contact_sheet(CellTable(shuffled, CellMetadata(image="A01")), path).warnings
    assert any("neither darker nor brighter" in text for text in warnings)
    assert stem_of("A01.ome.tif") == stem_of("a01.ndpi") == "a01"
