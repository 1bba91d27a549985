"""Ki-67 of cells by the DAB in each, and of classes with other names."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile

from histomri.cells import CellTable
from histomri.core.errors import InputError
from histomri.patches import measure_labelling, measure_stained_cells
from histomri.slides import Classes, Stains, open_slide

GLASS = np.array([236.0, 230.0, 241.0])


def write_slide(path, labels, dab, um):
    amounts = np.zeros((*labels.shape, 2))
    amounts[20:-20, 20:-20, 0] = 0.25
    amounts[..., 1] = np.where(labels > 0, dab[labels], 0.0)
    rgb = np.round(GLASS * 10 ** -(amounts @ Stains.h_dab().vectors[:2])).astype(np.uint8)
    size = {"PhysicalSizeX": um, "PhysicalSizeY": um, "axes": "YXS"}
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(256, 256), metadata=size)


@pytest.fixture
def scene(tmp_path, rng):
    """600 square nuclei of 7 µm on 1000 x 1000 px of 0.5 µm, 200 of them brown; slide, mask and which are brown."""
    labels = np.zeros((1000, 1000), np.uint16)
    for number in range(600):
        row, column = 40 + 36 * (number // 25), 40 + 36 * (number % 25)
        labels[row : row + 14, column : column + 14] = number + 1
    brown = np.zeros(601, bool)
    brown[1 + rng.permutation(600)[:200]] = True
    dab = np.where(brown, rng.uniform(0.25, 0.7, 601), rng.uniform(0, 0.15, 601))
    write_slide(tmp_path / "A01.ome.tif", labels, dab, 0.5)
    tifffile.imwrite(tmp_path / "mask.tif", labels, compression="zlib")
    return tmp_path / "A01.ome.tif", tmp_path / "mask.tif", labels, brown[1:], dab[1:]


def write_geojson(path, labels):
    features = []
    for number in range(1, int(labels.max()) + 1):
        rows, columns = np.nonzero(labels == number)
        x0, x1, y0, y1 = map(int, (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1))
        ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": {"objectType": "detection"}})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_mask_and_polygons_give_the_known_index(scene, tmp_path):
    slide_path, mask, labels, brown, dab = scene
    write_geojson(tmp_path / "cells.geojson", labels)
    with open_slide(slide_path) as slide:
        for path in (mask, tmp_path / "cells.geojson"):
            found = measure_stained_cells(path, slide)
            assert found.value == pytest.approx(200 / 600, abs=1e-12)
            assert found.content["n_positive"] == 200 and found.content["n_negative"] == 400
            table = found.cells.data
            np.testing.assert_allclose(table["dab_od_mean"], dab, atol=0.01)
            np.testing.assert_array_equal(table["classification"] == "Positive", brown)
    measured = found.content["measured_on_the_slide"]
    assert (measured["threshold_od"], measured["stain"], measured["n_not_measured"]) == (0.2, "DAB", 0)
    np.testing.assert_allclose(measured["background_rgb"], GLASS)
    assert measured["background_from"] == "median of the glass"
    assert any("background 236, 230, 241 (median of the glass)" in line for line in found.messages)


def test_the_command_needs_no_classes(scene, tmp_path):
    from typer.testing import CliRunner

    from histomri_cli.app import app

    slide, mask, *_ = scene
    call = ["ki67", str(mask), "--slide", str(slide), "-o", str(tmp_path / "out"), "--threshold", "0.2"]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "labelling index 33.3%" in done.stdout and "positive from a mean DAB of 0.2 in each nucleus" in done.stdout
    table = CellTable.load(tmp_path / "out" / "ki67_cells.parquet").data
    assert (table["classification"] == "Positive").sum() == 200 and "hematoxylin_od_mean" in table
    for extra, message in (
        (["--positive", "Tumor"], "is cells to measure, for which there is no --positive"),
        (["--um-per-px", "3"], "are too coarse to measure a nucleus"),
    ):
        done = CliRunner().invoke(app, [*call, *extra])
        assert done.exit_code == 2 and message in done.stderr


def test_cells_of_another_field_or_without_outlines_are_refused(scene, tmp_path):
    slide_path, _, labels, *_ = scene
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, labels[:500])
    stated = tmp_path / "stated.ome.tif"
    tifffile.imwrite(stated, labels, metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "axes": "YX"})
    table = CellTable.from_columns(x_um=[100, 200], y_um=[100, 200], area_um2=[50, 50])
    table.save(tmp_path / "cells.parquet")
    write_geojson(tmp_path / "cells.geojson", labels)
    with open_slide(slide_path) as slide:
        for path, message in (
            (other, "is 1000 x 500 px, which is not the shape of the slide"),
            (stated, "and the field of stated.ome.tif is 250 x 250 µm"),
            (tmp_path / "cells.parquet", "holds no outlines of cells to measure stain in"),
        ):
            with pytest.raises(InputError, match=message):
                measure_stained_cells(path, slide)
    glass = np.full((1000, 1000, 3), 240, np.uint8)
    glass[900:, 900:] = 120
    tifffile.imwrite(tmp_path / "empty.ome.tif", glass, photometric="rgb",
                     metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YXS"})  # fmt: skip
    with open_slide(tmp_path / "empty.ome.tif") as slide, pytest.raises(InputError, match="lie on its tissue"):
        measure_stained_cells(tmp_path / "cells.geojson", slide)


def cells_of(classes):
    count = len(classes)
    table = pd.DataFrame({"x_um": np.arange(count), "y_um": np.arange(count), "area_um2": 80.0})
    return table.assign(classification=classes)


def test_classes_of_other_names():
    cells = cells_of(["Ki67 positive"] * 3 + ["Tumor: Ki67 negative"] * 9 + ["Stroma"] * 2)
    found = measure_labelling(cells, names=Classes(("ki67 POSITIVE",), ("Ki67 negative",)))
    assert (found.value, found.content["n_not_counted"]) == (0.25, 2)
    assert found.content["positive_classes"] == ["Ki67 positive"]
    assert found.content["negative_classes"] == ["Tumor: Ki67 negative"]
    whole = measure_labelling(cells, names=Classes(("Ki67 positive",), ("Tumor: Ki67 negative",)))
    assert whole.value == 0.25


def test_cells_without_a_class_are_negative_on_request_only():
    cells = cells_of(["Positive"] * 2 + [""] * 6)
    with pytest.raises(InputError, match="6 cells are not counted, so the index would be 100 %") as refused:
        measure_labelling(cells)
    assert "--unclassified-negative" in refused.value.hint
    found = measure_labelling(cells, names=Classes(unclassified_negative=True))
    assert found.value == 0.25 and found.content["negative_classes"] == ["Unclassified"]
    alone = measure_labelling(cells_of(["Positive"] * 5))  # nothing was left out, so this is no mistake for sure
    assert alone.value == 1 and any("every counted cell is positive" in text for text in alone.warnings)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (Classes(("Positiv",)), "no cell has the class 'Positiv' of --positive; .* did you mean 'Positive'"),
        (Classes(("Positive",), ("Positive",)), "the class 'Positive' is both positive and negative"),
    ],
)
def test_wrong_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        measure_labelling(cells_of(["Positive", "Negative"]), names=names)


def test_a_typed_background_of_255_stays_255(scene):
    slide_path, mask, *_ = scene
    text = json.dumps({"Stain 1": "Hematoxylin", "Values 1": "0.65 0.704 0.286", "Stain 2": "DAB",
                       "Values 2": "0.268 0.57 0.776", "Background": "255 255 255"})  # fmt: skip
    with open_slide(slide_path) as slide:
        typed = measure_stained_cells(mask, slide, stains=Stains.read(text))
        record = measure_stained_cells(mask, slide, stains=Stains.from_qupath(text, "A01.histomri.json"))
    measured = typed.content["measured_on_the_slide"]
    np.testing.assert_array_equal(measured["background_rgb"], [255, 255, 255])
    assert measured["background_from"] == "stated with the stains, --stains"
    assert any("255, 255, 255 stated with the stains is not the glass" in text for text in typed.warnings)
    measured = record.content["measured_on_the_slide"]
    np.testing.assert_allclose(measured["background_rgb"], GLASS)
    assert "whose background of 255 means that none was set" in measured["stains"]["source"]
