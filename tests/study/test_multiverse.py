"""The way from a study file to a specification curve, the steps of the samples aside; and, slow, with them."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histomri.core.errors import StudyError
from histomri.study import SampleOutcome, multiverse
from histomri.study.options import MultiverseOptions
from histomri.study.steps.multiverse import run
from histomri_cli.app import app

STUDY = '[study]\nname = "x"\npreset = "mouse-exvivo"\n[fit]\nmodels = ["diff-in"]\nstrategies = ["whole"]\n'
CHOICES = '[multiverse]\naverage = ["median"]\nregistration = ["all", "good"]\n[multiverse.patches]\nmin_cells = [5]\n'
SAMPLE = '[[samples]]\nid = "{}"\ncells = "c.tsv"\ndwi = "d.nii.gz"\nprotocol = "mouse-exvivo"\n'


def write_results(study, folder, rng, shift=0.0):
    """What the steps of the samples leave of pairs and verdicts; the registration of one is not judged good."""
    for place, sample in enumerate(study.samples):
        home = folder / f"sub-{sample.id}"
        home.mkdir(parents=True, exist_ok=True)
        size = 15.0 + place
        voxels = {"i": range(20), "j": 0, "k": 0, "at_bound": False, "BIC": 1.0}
        voxels |= {"vCS_mri_um": size + shift * (place % 3) + rng.normal(size=20), "vCS_histo_um": size}
        voxels |= {
            "F_mri": 0.02 * size + 0.02 * rng.normal(size=20),
            "F_histo": 0.02 * size,
            "group": "",
            "scanner": "",
        }
        frame = pd.DataFrame({"sample": sample.id, "model": "diff-in", "strategy": "whole", **voxels})
        frame.to_csv(home / "pairs_voxel.csv", index=False)
        verdict = "check" if place == 2 else "good"
        SampleOutcome.of(sample, summary={"register": {"verdict": verdict}}).save(home)


@pytest.fixture
def study_file(tmp_path, monkeypatch, rng):
    for name in ("c.tsv", "d.nii.gz"):
        (tmp_path / name).write_text("x")
    path = tmp_path / "study.toml"
    path.write_text(STUDY + CHOICES + "".join(SAMPLE.format(f"m{k}") for k in range(7)))

    def run_tasks(work, tasks, *, jobs):
        for task in tasks:
            write_results(task.study, task.folder, rng, shift=6.0)
            yield SampleOutcome.of(task.sample)

    monkeypatch.setattr(multiverse, "run_study", lambda study, out, **how: write_results(study, out, rng))
    monkeypatch.setattr(multiverse, "run_tasks", run_tasks)
    return path


def test_specifications_are_counted_and_the_reported_one_is_placed(study_file, tmp_path):
    done = run(MultiverseOptions(study=study_file), tmp_path / "o")
    table = pd.read_csv(tmp_path / "o" / "multiverse.csv")
    assert len(table) == table["specification"].nunique() == 2 * 2 * 2  # cells, average, registration
    (reported,) = table[table["reported"]].to_dict("records")
    chosen = {name: reported[name] for name in ("patches.min_cells", "average", "registration", "at_bound", "scores")}
    assert list(chosen.values()) == ["as reported", "mean", "all", "in", "pooled"]
    content = json.loads((tmp_path / "o" / "multiverse.json").read_text())
    assert content["specifications"] == 8 and content["failed"] == 0
    others = table.loc[~table["reported"], "TCS"]
    (row,) = content["models"]
    assert row["share_below_reported"] == pytest.approx(np.mean(others < reported["TCS"]))
    # With five cells or more every third size is off: these four are lower.
    few = table["patches.min_cells"] == "as reported"
    assert table.loc[~few, "TCS"].max() < table.loc[few, "TCS"].min()
    assert set(table.loc[table["registration"] == "good", "n"]) == {6}
    assert (tmp_path / "o" / "multiverse.svg").stat().st_size > 5000
    assert done.messages[0] == "8 specifications"


def test_results_of_something_else_are_refused(study_file, tmp_path):
    for content, message in ((None, "holds no study.json"), ("{}", "has no sample of this study")):
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        if content is not None:
            (folder / "study.json").write_text(content)
        with pytest.raises(StudyError, match=message):
            run(MultiverseOptions(study=study_file, results=folder), tmp_path / "o")


def test_if_nothing_can_be_scored_the_reasons_are_said(study_file, tmp_path, monkeypatch):
    def fail(study, out, **how):
        for sample in study.samples:
            (out / f"sub-{sample.id}").mkdir(parents=True)
            SampleOutcome.of(sample, status="failed", reason="its DWI is cut short").save(out / f"sub-{sample.id}")

    monkeypatch.setattr(multiverse, "run_study", fail)
    monkeypatch.setattr(multiverse, "_run_variants", lambda several, reported, *rest: [reported] * len(several))
    result = CliRunner().invoke(app, ["multiverse", str(study_file), "-o", str(tmp_path / "o")])
    assert result.exit_code == 2 and "gives a TCS: m0: its DWI is cut short" in result.stderr
    assert "give other choices under [multiverse]" in result.stderr


@pytest.mark.slow
def test_finished_steps_are_used_and_a_second_call_repeats_none(tmp_path):
    demo = tmp_path / "demo"
    assert CliRunner().invoke(app, ["demo", str(demo), "--physics", "simple"]).exit_code == 0
    path = demo / "inputs" / "study.toml"
    text = path.read_text().replace(
        "[patches]", "[multiverse]\naverage = ['median']\npatches.min_cells = [9]\n[patches]"
    )
    path.write_text(text)
    arguments = ["multiverse", str(path), "--results", str(demo), "-o", str(tmp_path / "o")]
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    table = pd.read_csv(tmp_path / "o" / "multiverse.csv")
    scores = pd.read_csv(demo / "scores.csv").set_index(["model", "strategy"])["TCS"]
    reported = table[table["reported"]].set_index(["model", "strategy"])["TCS"]
    np.testing.assert_allclose(reported, scores.reindex(reported.index), rtol=1e-9)
    (variant,) = (tmp_path / "o" / "specifications").iterdir()
    record = json.loads((variant / "sub-control1" / "sample.json").read_text())
    assert {"cells", "fit", "dki"} <= set(record["kept"]) and "patches" not in record["kept"]
    before = (tmp_path / "o" / "multiverse.csv").read_bytes()
    assert CliRunner().invoke(app, arguments).exit_code == 0
    record = json.loads((variant / "sub-control1" / "sample.json").read_text())
    assert {"patches", "register", "pair"} <= set(record["kept"])
    assert (tmp_path / "o" / "multiverse.csv").read_bytes() == before
    shutil.rmtree(tmp_path / "o")
