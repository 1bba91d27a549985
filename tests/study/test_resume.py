"""Finished stages are kept exactly as long as they may be, wherever a run was killed."""

import hashlib
import json
import os
import platform
from dataclasses import replace

import numpy as np
import pytest

from histomri.core.files import write_text
from histomri.study import Sample
from histomri.study import sample as module
from histomri.study.pipeline import _software
from histomri.study.result import StepResult
from histomri.study.sample import STAGES, run_sample


class Killed(BaseException):
    pass


class Toy:
    """Stages that write what they read, and can be killed at any of their moments."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.moment, self.kill_at = 0, -1

    def tick(self) -> None:
        self.moment += 1
        if self.moment == self.kill_at:
            raise Killed

    def stage(self, name, stage, writes, reads):
        def run(sample, preset, folder, progress):
            self.ran.append(name)
            self.tick()
            text = "|".join([f"{name} {preset}", *reads(sample, folder.root)])
            for path in writes:
                write_text(folder.root / path, text)
                self.tick()
            return [StepResult((), (f"{name} spoke",), (f"{name} warns",), {"length": len(text), "none": float("nan")})]

        return replace(stage, run=run)


@pytest.fixture
def toy(monkeypatch):
    toy = Toy()

    def options(key):
        return lambda sample, root: [str(getattr(sample, key))]

    def files(*paths):
        return lambda sample, root: [(root / path).read_text() for path in paths]

    plan = {
        "cells": (["cells.parquet"], lambda sample, root: [path.read_text() for path in sample.cells]),
        "patches": (["histo/vCS", "histo/F"], files("cells.parquet")),
        "fit": (["mri/whole/a", "mri/high-b/b"], options("fit")),
        "register": (["xfm/x"], files("histo/F")),
        "pair": (["pairs.csv", "pairs_voxel.csv"], files("histo/vCS", "mri/whole/a", "xfm/x")),
    }
    for name, (writes, reads) in plan.items():
        monkeypatch.setitem(module._STAGES, name, toy.stage(name, module._STAGES[name], writes, reads))
    return toy


@pytest.fixture
def sample(tmp_path):
    for name in ("cells.tsv", "dwi.nii.gz", "protocol.txt", "dwi.json"):
        (tmp_path / name).write_text(name)
    return Sample(
        id="m1", cells=[tmp_path / "cells.tsv"], dwi=tmp_path / "dwi.nii.gz", protocol=str(tmp_path / "protocol.txt")
    )


def run(sample, out, **options):
    return run_sample(sample, "mouse-exvivo", out, lambda stage, fraction: None, **options)


def results(out):
    """Every file but the times."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file() and path.name != "stages.json"):
        content = path.read_text()
        if path.name == "sample.json":
            record = json.loads(content)
            content = {key: value for key, value in record.items() if key not in ("seconds", "kept")}
        found[str(path.relative_to(out))] = content
    return found


def test_killed_at_any_moment_a_run_ends_with_the_same_results(toy, sample, tmp_path):
    run(sample, tmp_path / "whole")
    moments, whole = toy.moment, results(tmp_path / "whole")
    assert moments > 10
    for moment in range(1, moments + 1):
        out = tmp_path / f"killed{moment}"
        toy.moment, toy.kill_at, toy.ran = 0, moment, []
        with pytest.raises(Killed):
            run(sample, out)
        assert json.loads((out / "sub-m1" / "sample.json").read_text())["reason"] == "the run was interrupted"
        # What a kill leaves that an exception does not: a file that was being written.
        (out / "sub-m1" / ".writing-abc-stages.json").write_text("{")
        begun, toy.kill_at, toy.ran = toy.ran[:-1], -1, []
        outcome = run(sample, out)
        assert outcome.kept == begun and [*begun, *toy.ran] == list(STAGES)
        assert results(out) == whole


def test_nothing_is_repeated_unless_forced(toy, sample, tmp_path):
    first = run(sample, tmp_path / "out")
    toy.ran = []
    second = run(sample, tmp_path / "out")
    assert toy.ran == [] and second.kept == list(STAGES) and first.kept == []
    assert (second.messages, second.warnings, second.seconds) == (first.messages, first.warnings, first.seconds)
    assert run(sample, tmp_path / "out", force=True).kept == [] and toy.ran == list(STAGES)


def test_the_content_of_a_file_decides_not_its_date(toy, sample, tmp_path):
    run(sample, tmp_path / "out")
    toy.ran = []
    os.utime(sample.cells[0], (1, 1))
    assert run(sample, tmp_path / "out").kept == list(STAGES)
    sample.cells[0].write_text("other cells")
    assert run(sample, tmp_path / "out").kept == ["fit"]
    assert toy.ran == ["cells", "patches", "register", "pair"]


@pytest.mark.parametrize(
    ("change", "repeated"),
    [
        ({"fit": {"models": ["diff-in-ex"]}}, ["fit", "pair"]),
        ({"group": "treated"}, ["pair"]),
        ({"registration": {"flips": False}}, ["register"]),  # and it comes to the same result
        ({"registration": {"turned_over": True, "angle": 20}}, ["register"]),
        ({"patches": {"min_cells": 3}}, ["patches"]),
        ({"patches": {"assign": "clip"}}, ["cells", "patches"]),  # which needs the outlines of the cells
        ({"mri_slice": 1}, ["register", "pair"]),
    ],
)
def test_an_option_repeats_the_stages_that_read_it_or_their_results(toy, sample, tmp_path, change, repeated):
    run(sample, tmp_path / "out")
    toy.ran = []
    run(Sample.model_validate({**sample.model_dump(), **change}), tmp_path / "out")
    assert toy.ran == repeated


def test_another_slide_repeats_the_patches(toy, sample, tmp_path):
    slide = tmp_path / "slide.svs"
    slide.write_text("one")
    sample = sample.model_copy(update={"slide": slide})
    run(sample, tmp_path / "out")
    toy.ran = []
    slide.write_text("another")
    assert run(sample, tmp_path / "out").kept == ["cells", "fit", "register", "pair"]  # the toy's maps do not change


def test_files_beside_the_protocol_count(toy, sample, tmp_path):
    run(sample, tmp_path / "out")
    toy.ran = []
    (tmp_path / "dwi.json").write_text("another echo time")
    run(sample, tmp_path / "out")
    assert toy.ran == ["fit"]
    (tmp_path / "protocol.bval").write_text("0 1000")
    toy.ran = []
    run(sample, tmp_path / "out")
    assert toy.ran == ["fit"]


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_results_that_were_tampered_with_are_made_again(toy, sample, tmp_path, damage):
    out = tmp_path / "out"
    run(sample, out)
    whole, toy.ran = results(out), []
    victim = out / "sub-m1" / "mri" / "whole" / "a"
    victim.write_text("tampered") if damage == "changed" else victim.unlink()
    run(sample, out)
    assert toy.ran == ["fit"] and results(out) == whole


def test_what_is_left_of_other_options_is_cleared(toy, sample, tmp_path):
    out = tmp_path / "out"
    run(sample, out)
    (out / "sub-m1" / "mri" / "whole" / "of_another_model").write_text("x")
    run(Sample.model_validate({**sample.model_dump(), "fit": {"models": ["diff-in-ex"]}}), out)
    assert not (out / "sub-m1" / "mri" / "whole" / "of_another_model").exists()


def test_results_can_be_moved(toy, sample, tmp_path):
    run(sample, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert run(sample, tmp_path / "elsewhere").kept == list(STAGES)


def test_a_failed_stage_clears_what_lies_behind_it(toy, sample, tmp_path, monkeypatch):
    from histomri.core.errors import InputError

    out = tmp_path / "out"
    run(sample, out)

    def fails(*arguments):
        raise InputError("is damaged", path="/home/somebody/dwi.nii.gz")

    monkeypatch.setitem(module._STAGES, "fit", replace(module._STAGES["fit"], run=fails))
    outcome = run(Sample.model_validate({**sample.model_dump(), "fit": {"models": ["diff-in-ex"]}}), out)
    assert (outcome.status, outcome.stage, outcome.reason) == ("failed", "fit", "dwi.nii.gz: is damaged")
    assert not (out / "sub-m1" / "mri").exists() and not (out / "sub-m1" / "pairs.csv").exists()
    assert outcome.kept == ["cells", "patches"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"stages": {"cells": {"unknown": 1}}}', '{"stages": 3}'])
def test_a_damaged_record_means_that_nothing_is_finished(toy, sample, tmp_path, content):
    run(sample, tmp_path / "out")
    (tmp_path / "out" / "sub-m1" / "stages.json").write_text(content)
    assert run(sample, tmp_path / "out").kept == []


def test_a_new_version_repeats_everything(toy, sample, tmp_path, monkeypatch):
    from histomri.study import resume

    run(sample, tmp_path / "out")
    monkeypatch.setattr(resume, "__version__", "99")
    assert run(sample, tmp_path / "out").kept == []


def test_the_record_names_the_files_that_were_read_by_their_content(toy, sample, tmp_path):
    """Also when every stage was kept, and no longer the files of an earlier study file."""
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("cells.tsv", "dwi.nii.gz", "protocol.txt")}
    expected["dwi.json"] = hashlib.sha256(b"dwi.json").hexdigest()
    for _ in range(2):
        outcome = run(sample, tmp_path / "out")
        assert {each["file"]: each["sha256"] for each in outcome.inputs} == expected
        record = json.loads((tmp_path / "out" / "sub-m1" / "sample.json").read_text())
        assert record["inputs"] == outcome.inputs and str(tmp_path) not in json.dumps(record)
    sample.cells[0].rename(tmp_path / "renamed.tsv")
    moved = sample.model_copy(update={"cells": (tmp_path / "renamed.tsv",)})
    names = [each["file"] for each in run(moved, tmp_path / "out").inputs]
    assert sorted(names) == ["dwi.json", "dwi.nii.gz", "protocol.txt", "renamed.tsv"]


def test_the_data_beside_a_project_that_tells_the_pixel_size_count(toy, sample, tmp_path):
    summary = tmp_path / "qupath" / "data" / "1" / "summary.json"
    summary.parent.mkdir(parents=True)
    summary.write_text("{}")
    (tmp_path / "qupath" / "project.qpproj").write_text("{}")
    options = {**sample.model_dump(), "cell_options": {"project": tmp_path / "qupath" / "project.qpproj"}}
    sample = Sample.model_validate(options)
    run(sample, tmp_path / "out")
    toy.ran = []
    summary.write_text('{"n": 2}')
    run(sample, tmp_path / "out")
    assert toy.ran == ["cells"]


def test_the_record_names_the_versions_that_computed_it():
    found = _software()
    assert found["numpy"] == np.__version__ and found["python"] == platform.python_version()
    assert {"scipy", "dipy", "numba", "pandas"} < set(found)
