"""The analysis plan and the choices of [multiverse]: read, checked against the study, hashed and dated."""

import datetime
import hashlib
import json

import pytest

from histomri.core.errors import StudyError
from histomri.study import Study
from histomri.study.pipeline import _recorded_plan
from histomri.study.plan import Plan, changed
from histomri.study.specifications import AS_REPORTED, read_choices, variants
from histomri.study.study_file import read_content

HEAD = '[study]\nname = "x"\npreset = "mouse-exvivo"\n[fit]\nmodels = ["diff-in", "diff-in-ex"]\n'
SAMPLES = "".join(
    f'[[samples]]\nid = "m{k}"\ncells = "c.tsv"\ndwi = "d.nii.gz"\nprotocol = "mouse-exvivo"\n' for k in (1, 2)
)


@pytest.fixture
def path(tmp_path):
    for name in ("c.tsv", "d.nii.gz"):
        (tmp_path / name).write_text("x")
    return tmp_path / "study.toml"


def load(path, text):
    path.write_text(HEAD + text + SAMPLES)
    return Study.load(path)


def test_a_plan_is_read_hashed_and_saved(path, tmp_path):
    text = (
        '[plan]\nmodels = ["diff-in", "diff-in-ex, whole"]\ncriterion = "HFC"\nexclusions = ["m9"]\n'
        'contrasts = ["diff-in, high-b > diff-in-ex, whole"]\ndated = 2026-01-02\n'
    )
    study = load(path, text)
    plain = {
        "models": ["diff-in", "diff-in-ex, whole"], "criterion": "HFC", "exclusions": ["m9"],
        "contrasts": ["diff-in, high-b > diff-in-ex, whole"], "dated": "2026-01-02",
    }  # fmt: skip
    assert study.plan.sha256 == hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    record = study.plan.record(study.fits, None)
    assert record["planned_fits"] == [["diff-in", "high-b"], ["diff-in", "whole"], ["diff-in-ex", "whole"]]
    assert datetime.datetime.fromisoformat(record["first_seen"]).tzinfo is not None
    again = Study.load(study.save(tmp_path / "study_resolved.json"))
    assert again.plan == study.plan


def test_the_same_plan_keeps_its_date_and_a_changed_one_is_said(tmp_path):
    fits = {("diff-in", "whole")}
    plan, other = Plan(models=("diff-in",)), Plan(models=("diff-in",), criterion="HFC")
    first = {**plan.record(fits, None), "first_seen": "2026-01-02T03:04:05+00:00"}
    (tmp_path / "study.json").write_text(json.dumps({"plan": first}))
    before = _recorded_plan(tmp_path)
    assert plan.record(fits, before)["first_seen"] == first["first_seen"] and changed(plan.record(fits, before)) == []
    later = other.record(fits, before)
    assert later["earlier"][0]["sha256"] == plan.sha256 and later["first_seen"] != first["first_seen"]
    assert "was changed after a first run (2026-01-02T03:04:05+00:00)" in changed(later)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = ['diff-inn']", "plan.models: 'diff-inn' is not fitted in this study; it fits diff-in, high-b;"),
        ("models = ['diff-in, custom']", "plan.models: 'diff-in, custom' is not fitted"),
        ("models = []", "plan.models"),
        ("criterion = 'TCS'", "plan.models: is missing"),
        ("models = ['diff-in']\nexclusions = ['m2']", "the plan excludes m2, and it is a sample of the study"),
        ("models = ['diff-in']\ncontrasts = ['diff-in']", "must name two models"),
        ("models = ['diff-in']\ncontrasts = ['diff-in > diff-in-ex']", "'diff-in-ex' is none of the plan's models"),
        ("models = ['diff-in']\ndated = 9999-01-01", "plan.dated: 9999-01-01 lies in the future"),
        ("models = ['diff-in']\ncriteria = 'TCS'", "criteria: unknown key; did you mean 'plan.criterion'"),
        ("models = ['diff-in']\ncriterion = 'AIC'", "plan.criterion"),
    ],
)
def test_a_plan_that_contradicts_the_study_is_refused(path, text, message):
    with pytest.raises(StudyError) as caught:
        load(path, f"[plan]\n{text}\n")
    assert message in str(caught.value)


def test_choices_make_each_other_study_once(path):
    study = load(
        path, "[multiverse]\naverage = ['median']\n[multiverse.patches]\nmin_cells = [1, 5]\nshrinkage = [0.0]\n"
    )
    steps, analysis = read_choices(study.multiverse)
    assert analysis["average"] == ("mean", "median") and analysis["scores"] == ("pooled",)
    found = variants(read_content(path), path, steps)
    # One cell is what the study has: it makes no other study.
    chosen = [tuple(each.chosen.values()) for each in found]
    assert chosen == [(AS_REPORTED, AS_REPORTED), (AS_REPORTED, 0.0), (5, AS_REPORTED), (5, 0.0)]
    for each in found:
        options = each.study.resolved(each.study.samples[1], str)["patches"]
        assert options.get("min_cells", 1) == (5 if each.chosen["patches.min_cells"] == 5 else 1)


def test_an_option_that_a_sample_has_for_itself_gives_way(path):
    path.write_text(HEAD + SAMPLES + "[samples.patches]\nmin_cells = 9\n")
    found = variants(read_content(path), path, {"patches.min_cells": (5,)})
    kept = [[sample.options["patches"]["min_cells"] for sample in found[1].study.samples]]
    assert kept == [[5, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("averages = ['mean']", "multiverse.averages: unknown key; did you mean 'average'"),
        ("average = ['mode']", "multiverse.average: must be a list of mean, median, trimmed"),
        ("patches.min_cell = [1]", "multiverse.patches.min_cell: unknown key; did you mean 'min_cells'"),
        ("patches.min_cells = 5", "multiverse.patches.min_cells: must be a list of values"),
    ],
)
def test_wrong_choices_are_refused(path, text, message):
    study = load(path, f"[multiverse]\n{text}\n")
    with pytest.raises(StudyError) as caught:
        read_choices(study.multiverse)
    assert message in str(caught.value)


def test_a_value_that_cannot_stand_in_the_study_is_refused_unless_nobody_asked_for_it(path):
    load(path, "")
    steps = {"patches.min_cells": (0,), "patches.shrinkage": (0.1,)}
    with pytest.raises(StudyError, match=r"multiverse\.patches\.min_cells = 0: .*patches.min_cells"):
        variants(read_content(path), path, dict(steps))
    found = variants(read_content(path), path, steps, usual=True)
    assert list(steps) == ["patches.shrinkage"] and len(found) == 2
