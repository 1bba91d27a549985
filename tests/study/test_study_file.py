"""The study file: what is right is read, what is wrong is told in one message before anything runs."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from histomri.core.errors import InputError, StudyError
from histomri.study import Study
from histomri.study.graph import PER_SAMPLE
from histomri.study.step import build

GOOD = """
[study]
name = "Livers"
preset = "mouse-exvivo"
[fit]
models = ["diff-in", "diff-in-ex"]
strategies = ["high-b"]
[patches]
min_cells = 5
[[samples]]
id = "m1"
group = "control"
cells = "m1.tsv"
dwi = "m1.nii.gz"
protocol = "protocol.txt"
sigma = 0.02
[[samples]]
id = "m2"
cells = ["m2a.tsv", "m2b.tsv"]
dwi = "sub/m2.nii.gz"
protocol = "mouse-exvivo"
mask = "m2_mask.nii.gz"
[samples.patches]
section = "wicksell"
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("m1.tsv", "m1.nii.gz", "protocol.txt", "m2a.tsv", "m2b.tsv", "sub/m2.nii.gz", "m2_mask.nii.gz"):
        (tmp_path / name).write_text("x")
    return tmp_path


def resolved(study):
    """Return a study with every default spelled out."""
    return [study.resolved(sample, str) for sample in study.samples], study.resolved_options(str)


def write(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_paths_are_taken_from_the_study_files_folder_and_options_are_inherited(folder, monkeypatch):
    path = write(folder, GOOD)
    monkeypatch.chdir("/")
    study = Study.load(path)
    first, second = study.samples
    assert first.cells == (folder / "m1.tsv",) and first.protocol == folder / "protocol.txt"
    assert second.cells == (folder / "m2a.tsv", folder / "m2b.tsv") and second.dwi == folder / "sub/m2.nii.gz"
    assert second.protocol == "mouse-exvivo"
    assert options_of(study, "fit", 0).strategies == options_of(study, "fit", 1).strategies == ("high-b",)
    assert [options_of(study, "patches", n).section for n in (0, 1)] == [None, "wicksell"]
    assert [options_of(study, "patches", n).min_cells for n in (0, 1)] == [5, 5]


def test_noise_may_be_estimated(folder):
    assert Study.load(write(folder, GOOD.replace("sigma = 0.02", 'sigma = "estimate"'))).samples[0].sigma == "estimate"
    with pytest.raises(StudyError, match=r"sigma: no such file: .*guess"):
        Study.load(write(folder, GOOD.replace("sigma = 0.02", 'sigma = "guess"')))


def options_of(study, step, sample=0):
    """Return what a step of a sample will see."""
    return build(next(each for each in PER_SAMPLE if each.name == step), study.place(study.samples[sample]))


def test_options_reach_their_step(folder):
    wanted = 'bic = "paper"\nresiduals = true\nbootstrap = 100\nbootstrap_kind = "residual"\nseed = 4\n'
    fit = options_of(Study.load(write(folder, GOOD.replace("[fit]", f"[fit]\n{wanted}"))), "fit")
    assert (fit.bic, fit.residuals, fit.bootstrap, fit.bootstrap_kind, fit.seed) == ("paper", True, 100, "residual", 4)
    assert (fit.sigma, fit.preset, fit.sub, fit.strategies) == (0.02, "mouse-exvivo", "m1", ("high-b",))
    assert options_of(Study.load(write(folder, GOOD)), "fit").bic == "schwarz"
    with pytest.raises(StudyError, match=r"fit\.bic: must be 'schwarz' or 'paper'"):
        Study.load(write(folder, GOOD.replace("[fit]", '[fit]\nbic = "akaike"')))


@pytest.mark.parametrize("line", ["bootstrap = 100", "crlb = true"])
def test_what_needs_the_noise_level_is_refused_without_it(folder, line):
    asked = GOOD.replace("[fit]", f"[fit]\n{line}")
    with pytest.raises(StudyError, match="needs the noise level; give sigma") as caught:
        Study.load(write(folder, asked))
    assert "sample m2: " in str(caught.value) and "m1" not in str(caught.value)  # which has its sigma


def test_a_saved_study_is_the_same_study_elsewhere(folder):
    study = Study.load(write(folder, GOOD))
    saved = study.save(folder / "results" / "study.json")
    assert resolved(Study.load(saved)) == resolved(study)
    assert str(folder) not in saved.read_text(), "paths are relative, so that the folder can be moved"


@pytest.mark.parametrize("results", ["Smith_John/study/results/first", "Smith_John", "Jones_Ann/results"])
def test_a_saved_study_names_no_folder_outside_of_it_and_its_results(tmp_path, results):
    """Results within the study, around it, and elsewhere: the paths lead to the same files, and name nobody."""
    home, elsewhere = tmp_path / "Smith_John" / "study", tmp_path / "Miller_Eve" / "scans"
    (home / "sub").mkdir(parents=True)
    elsewhere.mkdir(parents=True)
    for name in ("m1.tsv", "m1.nii.gz", "protocol.txt", "m2a.tsv", "m2b.tsv", "sub/m2.nii.gz", "m2_mask.nii.gz"):
        (home / name).write_text("x")
    study = Study.load(write(home, GOOD))
    saved = study.save(tmp_path / results / "study_resolved.json")
    text = saved.read_text()
    assert not any(name in text for name in ("Smith", "Jones", tmp_path.name))
    if results.startswith("Jones"):  # no way leads from there without names: it is copied beside the study file
        (home / "study_resolved.json").write_text(text)
        saved = home / "study_resolved.json"
    again = Study.load(saved)
    assert resolved(again) == resolved(study)
    # Saved again, it stays the same file.
    assert again.save(saved).read_text() == saved.read_text() == text
    (elsewhere / "map.nii.gz").write_text("x")
    outside = tmp_path / results / "outside.json"
    scan = (elsewhere / "map.nii.gz").as_posix()
    moved = Study.load(write(home, GOOD.replace('dwi = "m1.nii.gz"', f'dwi = "{scan}"')))
    sample = json.loads(moved.save(outside).read_text())["samples"][0]
    assert sample["dwi"] == "map.nii.gz" and "Miller" not in outside.read_text()
    with pytest.raises(StudyError, match="no such file") as caught:
        Study.load(outside)
    assert "copy it beside the study file" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'protocol = "protocol.txt"',
            'protcol = "protocol.txt"',
            r"sample m1: protcol: unknown key; did you mean 'protocol'",
        ),
        ("min_cells = 5", "min_cell = 5", r"patches\.min_cell: unknown key; did you mean 'min_cells'"),
        ("[fit]", "[fitt]", r"fitt: unknown key; did you mean 'fit'"),
        ('name = "Livers"', "", "name: is missing"),
        ('dwi = "m1.nii.gz"', "", "sample m1: dwi: is missing"),
        ('"diff-in",', '"diff-out",', r"fit\.models: must be 'diff-in'"),
        ('id = "m2"', 'id = "m1"', "the id 'm1' stands 2 times"),
        ('id = "m2"', 'id = "Müller 2"', "only letters and digits"),
        ('"m2b.tsv"', '"m2c.tsv"', r"sample m2: cells: no such file: .*m2c\.tsv"),
        ("min_cells = 5", "min_cells = 0", r"patches\.min_cells: must be at least 1"),
        ("min_cells = 5", "like_mri = false", "like_mri = false"),
        ("[study]", "[study", "not valid TOML.*line 2"),
        ("sigma = 0.02", "sigma = -0.02", "sample m1: sigma: must be greater than 0"),
        ('cells = "m1.tsv"', "cells = []", "sample m1: cells: .*at least 1 item"),
        ("min_cells = 5", "patch_um = 300", "like_mri = false"),
    ],
)
def test_mistakes_are_told_with_their_place(folder, old, new, message):
    text = GOOD.replace(old, new, 1)
    assert text != GOOD
    with pytest.raises(StudyError, match=message) as caught:
        Study.load(write(folder, text))
    assert "study.toml" in str(caught.value)
    assert "[" not in str(caught.value).split("study.toml")[1].split("Input should")[0], "no innards of the validator"


def test_a_mistake_that_every_sample_inherits_is_told_once(folder):
    text = (
        GOOD.replace("[samples.patches]\n", "")
        .replace('section = "wicksell"\n', "")
        .replace("min_cells = 5", "min_cell = 5")
    )
    with pytest.raises(StudyError) as caught:
        Study.load(write(folder, text))
    assert str(caught.value).endswith("study.toml: patches.min_cell: unknown key; did you mean 'min_cells'?")


def test_all_mistakes_are_told_at_once(folder):
    text = GOOD.replace('dwi = "m1.nii.gz"', "").replace("min_cells = 5", "min_cell = 5")
    with pytest.raises(StudyError) as caught:
        Study.load(write(folder, text))
    assert "dwi: is missing" in str(caught.value) and "min_cell: unknown" in str(caught.value)


@pytest.mark.parametrize("text", ["samples = 3\n", "[[study]]\n", '[study]\nname="x"\n', "samples = [1, 2]\n"])
def test_other_shapes_are_refused_without_a_traceback(folder, text):
    with pytest.raises(StudyError, match="sample"):
        Study.load(write(folder, text))


def test_missing_study_file(tmp_path):
    with pytest.raises(InputError, match="no such study file"):
        Study.load(tmp_path / "nowhere.toml")


def test_the_example_in_the_documentation_is_valid(tmp_path):
    """The commented example names every key, and none that does not exist."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "study.md").read_text()
    example = re.search(r"```toml\n(.*?)```", text, re.S)[1]
    for name in re.findall(r'"([\w./-]+\.(?:tsv|csv|nii\.gz|txt|geojson))"', example):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    study = Study.load(write(tmp_path, example))
    assert len(study.samples) >= 2
    every_key = re.sub(r"(?m)^# (\w+ =)", r"\1", example)
    keys = set(tomllib.loads(every_key))
    assert keys == {"study", "cell_options", "patches", "fit", "registration", "prediction", "samples"}


def test_a_sample_may_have_its_own_preset_and_measurements(folder):
    more = ('preset = "invivo-3t"', "measures = { Ki67_fraction = 0.12, volume_mm3 = 3 }")
    text = GOOD.replace("sigma = 0.02", "\n".join(more))
    study = Study.load(write(folder, text))
    assert study.samples[0].preset == "invivo-3t" and study.samples[1].preset is None
    assert study.samples[0].measures == {"Ki67_fraction": 0.12, "volume_mm3": 3.0} and study.samples[1].measures == {}
    assert resolved(Study.load(study.save(folder / "resolved.json"))) == resolved(study)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('measures = { "Ki 67" = 0.1 }', "measures.Ki 67: begins with a letter, and has letters, digits and _ only"),
        ('measures = { Ki67 = "high" }', "measures.Ki67: must be a number, without quotation marks"),
        ("measures = { vCS_mri_um = 20 }", "vCS_mri_um is a column of histomri"),
        ('preset = "7T"', "preset"),
        ("patches = { whole = true, patch_um = 300 }", "pass one of patches.patch_um, dwi and patches.whole"),
    ],
)
def test_wrong_measurements_and_patches_are_told(folder, line, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        Study.load(write(folder, GOOD.replace("sigma = 0.02", line)))


MEASURED = GOOD.replace("sigma = 0.02", "measures = { volume_mm3 = 3 }")


def test_a_prediction_is_read_with_its_defaults_and_saved(folder):
    (folder / "sub" / "tumours.csv").write_text("x")
    text = f'[prediction]\ntarget = "volume_mm3"\ntable = "sub/tumours.csv"\n{GOOD}'
    study = Study.load(write(folder, text))
    assert study.options["prediction"]["table"] == folder / "sub" / "tumours.csv"
    assert study.resolved_options(str)["prediction"]["bases"] == ["cubic", "printed"]
    (folder / "elsewhere").mkdir()
    assert resolved(Study.load(study.save(folder / "elsewhere" / "resolved.json"))) == resolved(study)
    assert "prediction" not in Study.load(write(folder, GOOD)).options


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('target = "volume"', "'volume' is no measurement of the samples (measures); they have volume_mm3."),
        ('target = "volume_mm3"\ngroup_by = "patient"', "prediction: group_by: no sample has a 'patient'"),
        ('target = "volume_mm3"\ngroup_by = "hospital"', "prediction: group_by: no sample has a 'hospital'"),
        ('target = "volume_mm3"\ntable = "gone.csv"', "prediction: table: no such file"),
        ('target = "volume_mm3"\nfold = 3', "prediction.fold: unknown key; did you mean 'folds'?"),
        ('target = "volume_mm3"\nbases = []', "prediction.bases"),
        ('x = "ADC_um2_ms"', "prediction.target: is missing"),
    ],
)
def test_a_wrong_prediction_is_told(folder, lines, message):
    with pytest.raises(StudyError, match=re.escape(message)):
        Study.load(write(folder, f"[prediction]\n{lines}\n{MEASURED}"))


TWO_TUMOURS = MEASURED.replace('mask = "m2_mask.nii.gz"', "measures = { volume_mm3 = 5 }").replace(
    'group = "control"', 'group = "control"\npatient = " P1 "'
)


def test_samples_name_their_patient(folder):
    study = Study.load(write(folder, TWO_TUMOURS))
    assert [sample.patient for sample in study.samples] == ["P1", None]
    assert resolved(Study.load(study.save(folder / "resolved.json"))) == resolved(study)
    for wrong in ('" "', "3"):
        with pytest.raises(StudyError, match="sample m1: patient: "):
            Study.load(write(folder, TWO_TUMOURS.replace('" P1 "', wrong)))


@pytest.mark.parametrize("group_by", ['group_by = "patient"', ""])
def test_a_sample_without_patient_would_belong_nowhere_in_a_prediction(folder, group_by):
    asked = f'[prediction]\ntarget = "volume_mm3"\n{group_by}\n{TWO_TUMOURS}'
    with pytest.raises(
        StudyError, match=r"study\.toml: sample m2: patient: is missing; .*group_by = 'sample'"
    ) as caught:
        Study.load(write(folder, asked))
    assert "m1" not in str(caught.value)
    Study.load(write(folder, asked.replace('id = "m2"', 'id = "m2"\npatient = "P2"')))
    Study.load(write(folder, asked.replace("measures = { volume_mm3 = 5 }", "")))  # which is not predicted from
    alone = f'[prediction]\ntarget = "volume_mm3"\ngroup_by = "sample"\n{TWO_TUMOURS}'
    Study.load(write(folder, alone))


def test_numbers_of_patients_among_the_measures_go_on_to_work(folder):
    """They were the only way before there was a key; both at once would leave it open which one counts."""
    numbered = GOOD.replace("sigma = 0.02", "measures = { patient = 3, volume_mm3 = 2 }")
    assert Study.load(write(folder, f'[prediction]\ntarget = "volume_mm3"\n{numbered}')).samples[0].label("patient")
    with pytest.raises(StudyError, match=r"sample m1: measures\.patient: other samples have a key patient"):
        Study.load(write(folder, numbered.replace('id = "m2"', 'id = "m2"\npatient = "P2"')))
