"""Samples of a tissue microarray: one for each core, without copying; images and classes of regions in a study."""

import json

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import StudyError
from histomri.study import Study
from histomri.study.graph import PER_SAMPLE
from histomri.study.runner import run_sample
from histomri.study.step import build

STUDY = """
[study]
name = "TMA"
preset = "mouse-exvivo"
[cell_options]
roi_classes = ["Tumor"]
exclude_classes = ["Necrosis"]
image = "tma.ndpi"
[patches]
like_mri = false
whole = true
per = "core"
by_class = true
[[samples]]
id = "tma"
cells = "tma.cells.tsv"
roi = "tma.geojson"
cores = "all"
patient = "{unique_id}"
dwi = "mri/{core}.nii.gz"
protocol = "mouse-exvivo"
"""


def core(name, missing=False, unique="P"):
    ring = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
    properties = {"objectType": "tma_core", "isMissing": missing, "metadata": {"Unique ID": f"{unique}{name}"}}
    properties |= {"name": name} if name else {}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mri").mkdir()
    for name in ("tma.cells.tsv", "mri/A-1.nii.gz", "mri/A-3.nii.gz"):
        (tmp_path / name).write_text("x")
    (tmp_path / "tma.geojson").write_text(json.dumps([core("A-1"), core("A-2", missing=True), core("A-3")]))
    return tmp_path


def load(folder, text=STUDY):
    (folder / "study.toml").write_text(text)
    return Study.load(folder / "study.toml")


def test_every_core_that_is_there_is_a_sample(folder):
    study = load(folder)
    assert [(one.id, one.core, one.patient) for one in study.samples] == [
        ("tmaA1", "A-1", "PA-1"), ("tmaA3", "A-3", "PA-3"),
    ]  # fmt: skip
    assert [one.dwi for one in study.samples] == [folder / "mri" / f"{name}.nii.gz" for name in ("A-1", "A-3")]
    options = {
        step.name: build(step, study.place(study.samples[1]))
        for step in PER_SAMPLE
        if step.name in ("cells", "patches")
    }
    cells, patches = options["cells"], options["patches"]
    assert (cells.core, cells.roi_classes, cells.exclude_classes) == ("A-3", ("Tumor",), ("Necrosis",))
    assert (cells.image, patches.per, patches.by_class) == ("tma.ndpi", "core", True)
    again = Study.load(study.save(folder / "saved.json"))  # the record holds the samples, and needs no list of cores
    assert [(one.id, one.core) for one in again.samples] == [("tmaA1", "A-1"), ("tmaA3", "A-3")]


def test_some_cores_or_one(folder):
    assert [one.id for one in load(folder, STUDY.replace('"all"', '["A-3"]')).samples] == ["tmaA3"]
    text = STUDY.replace('cores = "all"', 'core = "A-1"').replace("{core}", "A-1").replace("{unique_id}", "P")
    assert [(one.id, one.core) for one in load(folder, text).samples] == [("tma", "A-1")]
    (folder / "tma.geojson").rename(folder / "tma.annotations.geojson")  # beside the cells, it needs no name
    assert len(load(folder, STUDY.replace('roi = "tma.geojson"\n', "")).samples) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"all"', '["A-4"]', r"sample tma: cores: there is no core 'A-4' \(is it 'A-3'\?\); the cores are A-1, A-3"),
        ('"all"', '["A-2"]', "there is no core 'A-2' \\(it is marked as missing\\)"),
        ('"all"', "3", 'cores: must be "all" or a list of names'),
        ("roi = ", "#", "the cores are those of the regions; give their file with roi"),
        ('"tma.geojson"', '"gone.geojson"', "gone.geojson: no such region of interest file"),
        ('"all"', '"all"\ncore = "A-1"', "there is a key core too"),
        ("[cell_options]", "[cell_options]\nper_image = true", "cell_options.per_image: unknown key"),
    ],
)
def test_mistakes_are_told_before_anything_runs(folder, old, new, message):
    with pytest.raises(StudyError, match=message):
        load(folder, STUDY.replace(old, new))


def test_cores_without_names_or_with_one_name_are_refused(folder):
    for cores, message in (
        ([core("A-1"), core("")], "1 of its 2 TMA cores have no name"),
        ([core("A-1"), core("A-1")], "several TMA cores are named 'A-1'"),
        ([core("A-1", missing=True)], "all of its 1 TMA cores are marked as missing"),
    ):
        (folder / "tma.geojson").write_text(json.dumps(cores))
        with pytest.raises(StudyError, match=message):
            load(folder)
    (folder / "tma.geojson").write_text(json.dumps([core("A-1"), core("A1")]))
    (folder / "mri" / "A1.nii.gz").write_text("x")
    with pytest.raises(StudyError, match="the id 'tmaA1' stands 2 times"):
        load(folder)


def test_each_core_has_its_own_cells_and_row(folder, rng):
    cores = [core("A-1"), core("A-3")]
    for x, each in ((0, cores[0]), (2000, cores[1])):
        each["geometry"]["coordinates"] = [[[x, 0], [x + 1000, 0], [x + 1000, 1000], [x, 1000]]]
        each["properties"]["classification"] = {"name": "Tumor"}
    (folder / "tma.geojson").write_text(json.dumps(cores))
    at = np.concatenate([rng.uniform(0, 1000, (n, 2)) + np.array([x, 0]) for x, n in ((0, 300), (2000, 500))])
    rows = "".join(f"{x}\t{y}\t100\n" for x, y in at)
    (folder / "tma.cells.tsv").write_text("Centroid X px\tCentroid Y px\tCell: Area px^2\n" + rows)
    text = STUDY.replace('image = "tma.ndpi"', "mpp = 1").replace('exclude_classes = ["Necrosis"]\n', "")
    study = load(folder, text)
    for sample, n in zip(study.samples, (300, 500)):
        outcome = run_sample(sample, study, folder / "results", lambda step, fraction: None)
        assert outcome.stage == "fit", outcome.reason  # the MRI is no MRI
        table = pd.read_csv(folder / f"results/sub-{sample.id}/histo/sub-{sample.id}_rois.csv")
        assert table[["core", "class", "nCells", "area_mm2"]].to_numpy().tolist() == [[sample.core, "Tumor", n, 1.0]]
        assert outcome.summary["patches"]["cells_of_class"] == {"Unclassified": n}
