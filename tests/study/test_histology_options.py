"""Every option of the histology commands can stand in a study file, and does there what it does in the command."""

import json

import numpy as np
import pytest
from PIL import Image as Picture

from histomri.cells import CellTable
from histomri.core.errors import StudyError
from histomri.study import Study
from histomri.study.runner import run_sample

STUDY = """
[study]
name = "Livers"
preset = "mouse-exvivo"
[cell_options]
mpp = 0.5
min_size_um = 8
max_size_um = 30
min_probability = 0.5
project = "qupath/project.qpproj"
detections = "cells"
[patches]
like_mri = false
patch_um = 100
assign = "clip"
min_tissue = 0.1
[[samples]]
id = "m1"
cells = "m1.geojson"
dwi = "m1.nii.gz"
protocol = "mouse-exvivo"
slide = "m1.tif"
"""


def detection(x, y, side, probability):
    """Return a square that begins at a point, in pixels of 0.5 µm."""
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    properties = {"objectType": "detection", "measurements": {"Detection probability": probability}}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


@pytest.fixture
def folder(tmp_path):
    """A slide of 500 x 250 µm with tissue from x = 100 to 400 and y = 50 to 200 µm, and cells on it."""
    features = [detection(x, y, 30, 0.9) for x in range(240, 760, 40) for y in range(140, 360, 40)]
    features += [detection(300, 300, 8, 0.9)] * 2 + [detection(400, 300, 90, 0.9)] * 3 + [detection(500, 300, 30, 0.2)]
    for number, feature in enumerate(features):
        feature["id"] = f"cell {number}"
    (tmp_path / "m1.geojson").write_text(json.dumps(features))
    rgb = np.full((500, 1000, 3), 243, np.uint8)
    rgb[100:400, 200:800] = (170, 90, 170)
    Picture.fromarray(rgb).save(tmp_path / "m1.tif")
    (tmp_path / "m1.nii.gz").write_text("x")
    (tmp_path / "qupath").mkdir()
    image = {"imageName": "m1.tif", "entryID": 1, "serverBuilder": {"builderType": "uri", "uri": "file:/m1.tif"}}
    image["serverBuilder"]["metadata"] = {
        "name": "m1.tif", "width": 1000, "height": 500,
        "pixelCalibration": {key: {"value": 0.5, "unit": "µm"} for key in ("pixelWidth", "pixelHeight")},
    }  # fmt: skip
    (tmp_path / "qupath/project.qpproj").write_text(json.dumps({"version": "0.6.0", "images": [image]}))
    return tmp_path


def load(folder, text=STUDY):
    (folder / "study.toml").write_text(text)
    return Study.load(folder / "study.toml")


def test_the_options_do_what_they_do_in_the_commands(folder):
    study = load(folder)
    outcome = run_sample(study.samples[0], study, folder / "results", lambda step, fraction: None)
    assert outcome.stage == "fit", outcome.reason  # the MRI is no MRI
    dropped = outcome.summary["cells"]["dropped"]
    assert dropped == {"of a detection probability below 0.5": 1, "smaller than 8 µm": 2, "larger than 30 µm": 3}
    assert outcome.summary["cells"]["compartment"] == "cell"
    assert outcome.summary["cells"]["field_um"] == (500, 250)  # by the project
    choice = outcome.summary["patches"]["parameters"]
    assert (choice["Assignment"], choice["Patch_um"], choice["Window_um"]) == ("clip", [100, 100], [100, 100])
    assert choice["Extent"] == "tissue outline and imaged field"
    table = CellTable.load(folder / "results/sub-m1/cells.parquet", geometries=True)
    assert len(table.outlines) == 13 * 6


def test_patches_may_overlap(folder):
    study = load(folder, STUDY.replace('assign = "clip"', "step_um = [50, 100]"))
    outcome = run_sample(study.samples[0], study, folder / "results", lambda step, fraction: None)
    choice = outcome.summary["patches"]["parameters"]
    assert (choice["Assignment"], choice["Patch_um"], choice["Window_um"]) == ("centroid", [50, 100], [100, 100])


def test_a_project_is_found_beside_the_study_file_and_moves_with_it(folder):
    study = load(folder)
    assert study.samples[0].options["cell_options"]["project"] == folder / "qupath/project.qpproj"
    saved = study.save(folder / "results" / "study.json")
    again = Study.load(saved)
    assert again.resolved(again.samples[0], str) == study.resolved(study.samples[0], str)
    assert str(folder) not in saved.read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("qupath/project", "project", r"sample m1: cell_options\.project: no such file: .*project\.qpproj"),
        ('"m1.tif"', '"gone.tif"', "sample m1: slide: no such file"),
        ('detections = "cells"', 'detections = "blobs"', r"cell_options\.detections: must be 'nuclei' or"),
        ("min_probability = 0.5", "min_probability = 50", r"cell_options\.min_probability: must be at most 1"),
        ('assign = "clip"', 'assign = "half"', r"patches\.assign: must be 'centroid' or 'clip'"),
        ('assign = "clip"', "step_um = [0, 1]", r"patches\.step_um: must be greater than 0"),
        ("min_tissue = 0.1", "step_um = 50", "leave out patches.assign or patches.step_um"),
        ("min_size_um = 8", "minsize = 8", r"cell_options\.minsize: unknown key; did you mean 'min_size_um'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(folder, old, new, message):
    with pytest.raises(StudyError, match=message):
        load(folder, STUDY.replace(old, new))
