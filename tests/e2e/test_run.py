"""A study with something wrong in it: what can be done is done, what cannot is told, and the exit code says which."""

import gzip
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from histomri_cli.app import app


def run(*arguments: object):
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


@pytest.fixture
def inputs(demo, tmp_path):
    """Three samples of the demo, the second with a DWI that is cut short."""
    for name in ("control1", "infiltrated1", "necrotic1"):
        for suffix in ("cells.tsv", "dwi.nii.gz", "mask.nii.gz"):
            shutil.copy(demo.out / "inputs" / f"{name}_{suffix}", tmp_path)
    shutil.copy(demo.out / "inputs" / "protocol.txt", tmp_path)
    text = (demo.out / "inputs" / "study.toml").read_text()
    head, *samples = text.split("[[samples]]")
    (tmp_path / "study.toml").write_text("[[samples]]".join([head, *samples[:3]]))
    whole = (tmp_path / "infiltrated1_dwi.nii.gz").read_bytes()
    (tmp_path / "infiltrated1_dwi.nii.gz").write_bytes(gzip.compress(gzip.decompress(whole)[:500_000], 1))
    return tmp_path


def test_a_failed_sample_is_shown_and_the_others_are_finished(demo, inputs):
    out = inputs / "results"
    result = run(inputs / "study.toml", "-o", out)
    assert result.exit_code == 1
    assert "2 of 3 samples finished" in result.stdout
    assert "failed: infiltrated1, at fit" in result.stderr and "infiltrated1_dwi.nii.gz" in result.stderr
    record = {sample["id"]: sample for sample in json.loads((out / "study.json").read_text())["samples"]}
    assert {name: sample["status"] for name, sample in record.items()} == {
        "control1": "ok",
        "infiltrated1": "failed",
        "necrotic1": "ok",
    }
    page = (out / "report.html").read_text()
    assert "infiltrated1" in page and "cut short" in page
    # What was finished is the same as in the study without a mistake.
    for name in ("control1", "necrotic1"):
        table = f"sub-{name}/pairs.csv"
        assert (out / table).read_text() == (demo.out / table).read_text()
    leftovers = [path.name for path in out.rglob(".writing-*")]
    assert leftovers == []


def test_one_sample_at_a_time_gives_the_same_study(demo, inputs):
    out = inputs / "results"
    for label in ("necrotic1", "sub-control1"):
        assert run(inputs / "study.toml", "-o", out, "--participant-label", label, "--quiet").exit_code == 0
    rows = (out / "pairs.csv").read_text().splitlines()
    whole = (demo.out / "pairs.csv").read_text().splitlines()
    assert sorted(rows[1:]) == sorted(row for row in whole if "control1" in row or "necrotic1" in row)


def test_the_resolved_study_gives_the_same_results(demo, tmp_path):
    """Every choice of a run lies beside its results, so that it can be done again elsewhere."""
    again = run(demo.out / "study_resolved.json", "-o", tmp_path, "--participant-label", "control1", "--quiet")
    assert again.exit_code == 0, again.stderr
    assert _content(tmp_path / "sub-control1") == _content(demo.out / "sub-control1")
    inputs = json.loads((tmp_path / "study.json").read_text())["samples"][0]["inputs"]
    cells = {each["file"]: each["sha256"] for each in inputs}["control1_cells.tsv"]
    assert cells == hashlib.sha256((demo.out / "inputs" / "control1_cells.tsv").read_bytes()).hexdigest()


def test_processes_give_what_one_process_gives(demo, inputs):
    out = inputs / "results"
    labels = ["--participant-label", "control1", "--participant-label", "necrotic1"]
    result = run(inputs / "study.toml", "-o", out, "--jobs", 2, *labels)
    assert result.exit_code == 0, result.stderr
    for name in ("control1", "necrotic1"):
        assert (out / f"sub-{name}" / "pairs.csv").read_text() == (demo.out / f"sub-{name}" / "pairs.csv").read_text()


def test_a_dry_run_checks_and_writes_nothing(inputs):
    result = run(inputs / "study.toml", "-o", inputs / "results", "--dry-run")
    assert result.exit_code == 0
    assert (
        "sub-control1: cells > patches > fit > dki > register > pair; models diff-in, diff-in-ex (whole, high-b)"
        in result.stdout
    )
    assert not (inputs / "results").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('dwi = "control1_dwi.nii.gz"', 'dwi = "missing.nii.gz"', "no such file"),
        ("preset =", "prest =", "did you mean 'preset'"),
    ],
)
def test_a_mistake_in_the_study_file_stops_everything_before_it_starts(inputs, old, new, message):
    study = inputs / "study.toml"
    study.write_text(study.read_text().replace(old, new))
    result = run(study, "-o", inputs / "results")
    assert result.exit_code == 2
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (inputs / "results").exists()


def test_what_will_fail_is_told_before_the_work(inputs):
    study = inputs / "study.toml"
    study.write_text(study.read_text().replace("mri_slice = 2", "mri_slice = 99", 1))
    result = run(study, "-o", inputs / "results", "--participant-label", "control1")
    assert result.exit_code == 1
    warning = "warning: control1 will fail, mri_slice: control1_dwi.nii.gz has no slice 99: its slices run from 0 to 4"
    assert result.stderr.splitlines()[0] == warning


def test_an_unknown_participant_is_told(inputs):
    result = run(inputs / "study.toml", "-o", inputs / "results", "--participant-label", "nobody")
    assert result.exit_code == 2 and "no sample nobody; the study has control1" in result.stderr
    assert not (inputs / "results").exists()


def test_the_demo_does_not_write_into_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    result = CliRunner().invoke(app, ["demo", str(tmp_path)])
    assert result.exit_code == 2 and "holds other files" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_inputs_that_lie_where_results_would_go_are_left_alone(inputs):
    """A BIDS-like layout: running into the folder of the data must not clear the data."""
    place = inputs / "sub-control1" / "mri"
    place.mkdir(parents=True)
    shutil.move(inputs / "control1_dwi.nii.gz", place / "dwi.nii.gz")
    study = inputs / "study.toml"
    study.write_text(study.read_text().replace("control1_dwi.nii.gz", "sub-control1/mri/dwi.nii.gz"))
    before = sorted(path for path in inputs.rglob("*"))
    result = run(study, "-o", inputs)
    assert result.exit_code == 2
    assert "sub-control1" in result.stderr and "another folder" in result.stderr
    assert sorted(path for path in inputs.rglob("*")) == before


def test_a_folder_of_something_else_is_not_cleared(inputs):
    out = inputs / "results"
    (out / "sub-necrotic1" / "histo").mkdir(parents=True)
    (out / "sub-necrotic1" / "histo" / "mine.txt").write_text("x")
    result = run(inputs / "study.toml", "-o", out)
    assert result.exit_code == 2 and "holds files of something else" in result.stderr
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["mine.txt"]


def test_results_cannot_go_where_a_file_is(inputs):
    result = run(inputs / "study.toml", "-o", inputs / "protocol.txt")
    assert result.exit_code == 2 and "is a file, and a folder is needed" in result.stderr


def test_a_killed_run_is_told_and_can_be_repeated(demo, inputs, monkeypatch):
    out = inputs / "results"
    monkeypatch.setattr("histomri.study.steps.fit.run", _killed)
    assert run(inputs / "study.toml", "-o", out, "--participant-label", "control1").exit_code != 0
    monkeypatch.undo()
    assert json.loads((out / "sub-control1" / "sample.json").read_text())["reason"] == "the run was interrupted"
    assert run(inputs / "study.toml", "-o", out, "--participant-label", "control1").exit_code == 0
    assert (out / "sub-control1/pairs.csv").read_text() == (demo.out / "sub-control1/pairs.csv").read_text()


def _killed(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_killed_from_outside_ends_with_identical_files(tmp_path):
    """SIGKILL at moments spread over the run; then the same command again until it ends by itself."""
    study = tmp_path / "inputs"
    made = ["simulate", "liver", "-o", study, "--samples", 3, "--area-mm2", 6, "--quiet"]
    assert CliRunner().invoke(app, [str(each) for each in made]).exit_code == 0
    began = time.monotonic()
    _command(study, tmp_path / "whole").wait()
    whole, length = _content(tmp_path / "whole"), time.monotonic() - began
    kept = []
    for share in (0.35, 0.5, 0.65, 0.8, 0.95):
        out = tmp_path / f"killed{share}"
        started = _command(study, out)
        try:
            started.wait(share * length)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGKILL)
            started.wait()
        assert _command(study, out).wait() == 0
        assert _content(out) == whole
        samples = json.loads((out / "study.json").read_text())["samples"]
        kept.append(sum(len(sample["kept"]) for sample in samples))
    assert kept == sorted(kept) and kept[-1] > 0


def _command(study, out):
    program = "from histomri_cli.app import main; main()"
    command = [sys.executable, "-c", program, "run", study / "study.toml", "-o", out, "--quiet"]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def _content(out):
    """Every file, less times and what an interruption may leave: temporary files and the record of what was kept."""
    times = re.compile(r'"(started|finished|seconds|kept)":|<dl class="facts">')
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if path.name == "stages.json" or path.name.startswith(".writing-"):
            continue
        content = path.read_bytes()
        if path.name in ("study.json", "sample.json"):
            record = json.loads(content)
            for entry in (record, *record.get("samples", [])):
                for name in ("started", "finished", "seconds", "kept"):
                    entry.pop(name, None)
            content = record
        elif path.name == "report.html":
            lines = content.decode().splitlines()
            content = [line for line in lines if not times.search(line)]
        found[str(path.relative_to(out))] = content
    return found
