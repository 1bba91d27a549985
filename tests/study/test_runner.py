"""Finished steps are kept exactly as long as they may be, wherever a run was killed."""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from histomri.core.errors import InputError
from histomri.core.files import write_text
from histomri.core.options import Options, argument, given, option, output
from histomri.study import Sample, StepResult, Study, records, runner
from histomri.study.runner import run_sample, without_folders
from histomri.study.sources import key, result, value
from histomri.study.step import Step


class Killed(BaseException):
    pass


class Cells(Options):
    exports: tuple[Path, ...] = argument("x")
    size: float = option(1.0, "x")


class Maps(Options):
    cells: Path = argument("x")
    sub: str | None = given(None, "x")
    extra: Path | None = output(None, "x")


class Fit(Options):
    dwi: Path = argument("x")
    protocol: str | Path = given(..., "x")
    models: tuple[str, ...] = option(("a",), "x")

    def reads(self):
        yield from super().reads()
        yield from sorted(self.dwi.parent.glob("protocol*"))


class Pair(Options):
    maps: Path = argument("x")
    mri: Path = argument("x")
    group: str | None = given(None, "x")


@dataclass(frozen=True)
class ToyCommand:
    """A command that writes what it reads, and can be killed at any of its moments."""

    name: str
    options_class: type[Options]
    toy: Any
    module: str = "histomri.core.errors"

    def run(self, options, out, progress):
        return self.toy.work(self.name, options, out)


class Toy:
    def __init__(self) -> None:
        self.ran: list[str] = []
        self.moment, self.kill_at = 0, -1
        self.failing: dict[str, Exception] = {}
        folder = {"exports": key("cells")}
        self.steps = (
            Step("cells", ToyCommand("cells", Cells, self), "cells.parquet", folder, "cell_options"),
            Step("patches", ToyCommand("patches", Maps, self), "histo",
                 {"cells": result("cells", "cells.parquet"), "sub": key("id"), "extra": value("extra.txt")}, "patches"),
            Step("fit", ToyCommand("fit", Fit, self), "mri", {}, "fit"),
            Step("pair", ToyCommand("pair", Pair, self), "pairs.csv",
                 {"maps": result("patches", "histo"), "mri": result("fit", "mri")}, "pair"),
        )  # fmt: skip

    def tick(self) -> None:
        self.moment += 1
        if self.moment == self.kill_at:
            raise Killed

    def work(self, name, options, out):
        self.ran.append(name)
        self.tick()
        if name in self.failing:
            raise self.failing[name]
        text = "|".join([name, str(getattr(options, "size", "")), *_contents(options)])
        places = {
            "cells": [out],
            "patches": [out / "vCS", out / "F", getattr(options, "extra", None)],
            "fit": [out / "whole" / model for model in getattr(options, "models", ())],
            "pair": [out],
        }
        for path in places[name]:
            write_text(path, text)
            self.tick()
        return StepResult((), (f"{name} spoke",), (f"{name} warns",), {"length": len(text), "none": float("nan")})


def _contents(options):
    files = {file for path in options.reads() for file in (path.rglob("*") if path.is_dir() else [path])}
    return sorted(path.read_text() for path in files if path.is_file())


@pytest.fixture
def toy(monkeypatch):
    toy = Toy()
    monkeypatch.setattr("histomri.study.study_file.PER_SAMPLE", toy.steps)
    return toy


@pytest.fixture
def sample(tmp_path):
    for name in ("cells.tsv", "dwi.nii.gz", "protocol.txt"):
        (tmp_path / name).write_text(name)
    return Sample(
        id="m1", cells=[tmp_path / "cells.tsv"], dwi=tmp_path / "dwi.nii.gz", protocol=tmp_path / "protocol.txt"
    )


def run(toy, sample, out, **options):
    toy.ran = []
    return run_sample(
        sample, Study("s", "mouse-exvivo", (sample,)), out, lambda step, fraction: None, steps=toy.steps, **options
    )


NAMES = ["cells", "patches", "fit", "pair"]


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
    run(toy, sample, tmp_path / "whole")
    moments, whole = toy.moment, results(tmp_path / "whole")
    assert moments > 8 and "sub-m1/extra.txt" in whole
    for moment in range(1, moments + 1):
        out = tmp_path / f"killed{moment}"
        toy.moment, toy.kill_at = 0, moment
        with pytest.raises(Killed):
            run(toy, sample, out)
        assert json.loads((out / "sub-m1" / "sample.json").read_text())["reason"] == "the run was interrupted"
        # What a kill leaves that an exception does not: a file that was being written, and a folder of a step.
        (out / "sub-m1" / ".writing-abc-stages.json").write_text("{")
        (out / "sub-m1" / ".writing-fit" / "whole").mkdir(parents=True)
        begun, toy.kill_at = toy.ran[:-1], -1
        outcome = run(toy, sample, out)
        assert outcome.kept == begun and [*begun, *toy.ran] == NAMES
        assert results(out) == whole


def test_the_record_names_no_folder_of_the_inputs_and_holds_after_a_move(toy, tmp_path):
    home = tmp_path / "all" / "Smith_John"
    home.mkdir(parents=True)
    for name in ("cells.tsv", "dwi.nii.gz", "protocol.txt"):
        (home / name).write_text(name)

    def sample(folder):
        cells, dwi, protocol = (folder / name for name in ("cells.tsv", "dwi.nii.gz", "protocol.txt"))
        return Sample(id="m1", cells=[cells], dwi=dwi, protocol=protocol)

    run(toy, sample(home), tmp_path / "all" / "out")
    text = (tmp_path / "all" / "out" / "sub-m1" / "stages.json").read_text()
    assert "Smith" not in text and "/cells.tsv" in text
    (tmp_path / "all").rename(tmp_path / "moved")
    assert run(toy, sample(tmp_path / "moved" / "Smith_John"), tmp_path / "moved" / "out").kept == NAMES
    (tmp_path / "moved" / "Smith_John" / "dwi.nii.gz").write_text("changed")
    assert run(toy, sample(tmp_path / "moved" / "Smith_John"), tmp_path / "moved" / "out").kept == NAMES[:2]


def test_a_kill_while_results_take_their_places_leaves_nothing_of_other_options(toy, sample, tmp_path, monkeypatch):
    """The maps of two models are moved one by one; the kill comes after the first."""
    out, moved = tmp_path / "out", []
    replace = Path.replace

    def dying(self, target):
        if "sub-m1/mri" in str(target) and moved:
            raise Killed
        moved.extend([target] if "sub-m1/mri" in str(target) else [])
        return replace(self, target)

    two = sample.model_copy(update={"options": {"fit": {"models": ["a", "b"]}}})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying)
        with pytest.raises(Killed):
            run(toy, two, out)
    assert [path.name for path in (out / "sub-m1/mri/whole").iterdir()] == ["a"]
    run(toy, sample.model_copy(update={"options": {"fit": {"models": ["c"]}}}), out)
    assert [path.name for path in (out / "sub-m1/mri/whole").iterdir()] == ["c"]


def test_nothing_is_repeated_unless_forced(toy, sample, tmp_path):
    first = run(toy, sample, tmp_path / "out")
    second = run(toy, sample, tmp_path / "out")
    assert toy.ran == [] and second.kept == NAMES and first.kept == []
    assert (second.messages, second.warnings, second.seconds) == (first.messages, first.warnings, first.seconds)
    assert run(toy, sample, tmp_path / "out", force=True).kept == [] and toy.ran == NAMES


def test_the_content_of_a_file_decides_not_its_date(toy, sample, tmp_path):
    run(toy, sample, tmp_path / "out")
    os.utime(sample.cells[0], (1, 1))
    assert run(toy, sample, tmp_path / "out").kept == NAMES
    sample.cells[0].write_text("other cells")
    assert run(toy, sample, tmp_path / "out").kept == ["fit"]
    assert toy.ran == ["cells", "patches", "pair"]


def test_a_change_that_keeps_size_and_time_is_noticed(toy, sample, tmp_path):
    """By the time at which the system changed the entry of the file, which no program sets."""
    path = sample.cells[0]
    old = 1_000_000_000
    os.utime(path, (old, old))
    run(toy, sample, tmp_path / "out")
    path.write_text("CELLS.tsv")
    os.utime(path, (old, old))
    assert run(toy, sample, tmp_path / "out").kept == ["fit"]


def test_verify_reads_what_the_system_calls_unchanged(toy, sample, tmp_path, monkeypatch):
    run(toy, sample, tmp_path / "out")
    monkeypatch.setattr(records.FileStamp, "holds", lambda self, path: True)
    sample.cells[0].write_text("CELLS.tsv")
    assert run(toy, sample, tmp_path / "out").kept == NAMES
    assert run(toy, sample, tmp_path / "out", verify=True).kept == ["fit"]


def test_a_file_that_was_just_written_is_read_again(tmp_path):
    path = tmp_path / "x"
    path.write_text("a")
    stamp = records.FileStamp.of(path)
    assert not stamp.holds(path), "a second change within the clock's step would leave the same time"
    later = records.FileStamp(*[getattr(stamp, name) for name in ("size", "mtime_ns", "ctime_ns", "inode")],
                              stamp.read_ns + 10**10, stamp.sha256)  # fmt: skip
    assert later.holds(path)


def test_an_input_that_changes_while_it_is_read_is_no_finished_step(toy, sample, tmp_path):
    def work(name, options, out, original=toy.work):
        result = original(name, options, out)
        if name == "fit":
            sample.dwi.write_text("changed meanwhile")
        return result

    toy.work = work
    outcome = run(toy, sample, tmp_path / "out")
    assert (outcome.status, outcome.stage) == ("failed", "fit")
    assert outcome.reason == "dwi.nii.gz: was changed while it was read; run the study again"
    assert not (tmp_path / "out/sub-m1/mri").exists()


@pytest.mark.parametrize(
    ("change", "repeated"),
    [
        ({"options": {"fit": {"models": ["b"]}}}, ["fit", "pair"]),
        ({"group": "treated"}, ["pair"]),
        ({"options": {"cell_options": {"size": 2.0}}}, ["cells", "patches", "pair"]),
        ({"scanner": "3T"}, []),  # which no step of this graph reads
    ],
)
def test_an_option_repeats_the_steps_that_read_it_or_their_results(toy, sample, tmp_path, change, repeated):
    run(toy, sample, tmp_path / "out")
    run(toy, sample.model_copy(update=change), tmp_path / "out")
    assert toy.ran == repeated


def test_companions_of_a_file_count(toy, sample, tmp_path):
    run(toy, sample, tmp_path / "out")
    (tmp_path / "protocol.bval").write_text("0 1000")
    run(toy, sample, tmp_path / "out")
    assert toy.ran == ["fit", "pair"]


def test_other_code_repeats_a_step(toy, sample, tmp_path, monkeypatch):
    run(toy, sample, tmp_path / "out")
    monkeypatch.setattr(records, "code_stamp", lambda module: "corrected")
    assert run(toy, sample, tmp_path / "out").kept == []


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_results_that_were_tampered_with_are_made_again(toy, sample, tmp_path, damage):
    out = tmp_path / "out"
    run(toy, sample, out)
    whole = results(out)
    victim = out / "sub-m1" / "mri" / "whole" / "a"
    victim.write_text("tampered") if damage == "changed" else victim.unlink()
    run(toy, sample, out)
    assert toy.ran == ["fit"] and results(out) == whole


def test_files_that_no_step_wrote_are_cleared_from_the_results(toy, sample, tmp_path):
    out = tmp_path / "out"
    run(toy, sample, out)
    (out / "sub-m1" / "mri" / "whole" / "of_another_model").write_text("x")
    run(toy, sample, out)
    assert not (out / "sub-m1" / "mri" / "whole" / "of_another_model").exists()


def test_results_can_be_moved(toy, sample, tmp_path):
    run(toy, sample, tmp_path / "out")
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "out").rename(tmp_path / "a" / "deep" / "elsewhere")  # in front of the inputs, by the alphabet
    assert run(toy, sample, tmp_path / "a" / "deep" / "elsewhere").kept == NAMES


def test_a_failed_step_clears_what_lies_behind_it(toy, sample, tmp_path):
    out = tmp_path / "out"
    run(toy, sample, out)
    toy.failing["fit"] = InputError("is damaged", path="/home/somebody/dwi.nii.gz")
    outcome = run(toy, sample.model_copy(update={"options": {"fit": {"models": ["b"]}}}), out)
    assert (outcome.status, outcome.stage, outcome.reason) == ("failed", "fit", "dwi.nii.gz: is damaged")
    assert not (out / "sub-m1" / "mri").exists() and not (out / "sub-m1" / "pairs.csv").exists()
    assert outcome.kept == ["cells", "patches"]


def test_running_out_of_memory_costs_one_sample_and_is_kept_in_full(toy, sample, tmp_path):
    toy.failing["fit"] = MemoryError()
    outcome = run(toy, sample, tmp_path / "out")
    assert outcome.reason == "unexpected MemoryError: no details; sub-m1/error.log has the details"
    log = (tmp_path / "out/sub-m1/error.log").read_text()
    assert "Traceback" in log and 'File "runner.py"' in log
    assert not {"/", "\\"} & set("".join(re.findall(r'File "([^"]*)"', log)))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 2, "steps": {"cells": {"unknown": 1}}, "files": {}}', '{"steps": 3}',
                '{"inputs": {}, "stages": {"cells": {"key": "x", "outputs": {}}}}']
)  # fmt: skip
def test_a_record_that_is_damaged_or_of_another_version_means_run_again(toy, sample, tmp_path, content):
    run(toy, sample, tmp_path / "out")
    (tmp_path / "out" / "sub-m1" / "stages.json").write_text(content)
    (tmp_path / "out" / "sub-m1" / "sample.json").write_text(content)
    (tmp_path / "out" / "sub-m1" / "mri" / "old").write_text("map of an older version")
    outcome = run(toy, sample, tmp_path / "out")
    assert outcome.kept == [] and outcome.warnings[0] == runner.OUTDATED
    assert not (tmp_path / "out" / "sub-m1" / "mri" / "old").exists()


def test_the_record_names_the_files_that_were_read_by_their_content(toy, sample, tmp_path):
    """Also when every step was kept, and no longer the files of an earlier study file."""
    expected = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("cells.tsv", "dwi.nii.gz", "protocol.txt")}
    for _ in range(2):
        outcome = run(toy, sample, tmp_path / "out")
        assert {each["file"]: each["sha256"] for each in outcome.inputs} == expected
        record = json.loads((tmp_path / "out" / "sub-m1" / "sample.json").read_text())
        assert record["inputs"] == outcome.inputs and str(tmp_path) not in json.dumps(record)
    shutil.move(sample.cells[0], tmp_path / "renamed.tsv")
    moved = sample.model_copy(update={"cells": (tmp_path / "renamed.tsv",)})
    names = [each["file"] for each in run(toy, moved, tmp_path / "out").inputs]
    assert sorted(names) == ["dwi.nii.gz", "protocol.txt", "renamed.tsv"]


def test_a_drive_without_a_relative_path_is_no_fault(toy, sample, tmp_path, monkeypatch):
    """On Windows there is no relative path from one drive to another."""

    def relpath(path, start=None):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("os.path.relpath", relpath)
    run(toy, sample, tmp_path / "out")
    assert run(toy, sample, tmp_path / "out").kept == NAMES


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('File "/home/jane doe/study/fit.py", line 3', 'File "fit.py", line 3'),
        (r"no C:\Users\jane\x.nii here", "no x.nii here"),
        (r"'D:\\data\\jane d\\x.nii'", "'x.nii'"),
        (r"\\server\share\jane\x.nii", "x.nii"),
        ("2 / 3 of a/b, https://a.b/c/d", "2 / 3 of a/b, https://a.b/c/d"),
    ],
)
def test_folders_are_left_out_of_what_is_written(text, left):
    assert without_folders(text) == left
