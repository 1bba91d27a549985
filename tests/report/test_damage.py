"""Whatever is damaged in a results folder costs its own section of the report, and nothing else."""

import gzip
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from histomri.core.files import write_json
from histomri.report import collect, write_report
from histomri.report.guard import Failure, attempt, section

NOTICE = "This section could not be made"
RANKING = "Which model agrees best with histology?"


@pytest.fixture
def copy(small_run, tmp_path):
    return shutil.copytree(small_run, tmp_path / "run")


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def edit_csv(path, change):
    change(pd.read_csv(path)).to_csv(path, index=False)


def edit_record(change):
    return lambda home: edit_json(home.parent / "study.json", lambda study: change(study["samples"][1]))


def first(home, pattern):
    return sorted(home.rglob(pattern))[0]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text_in_map(path):
    path.write_bytes(gzip.compress(b"not an image"))


SAMPLE_DAMAGE = {
    "record-is-a-number": lambda home: edit_json(
        home.parent / "study.json", lambda study: study["samples"].__setitem__(1, 3)
    ),
    "summary-is-a-list": edit_record(lambda record: record.update(summary=[1, 2])),
    "register-is-text": edit_record(lambda record: record.update(summary={"register": "good"})),
    "messages-are-text": edit_record(lambda record: record.update(messages="none", warnings="text")),
    "messages-hold-null": edit_record(lambda record: record.update(messages={"fit": None}, warnings=None)),
    "slice-is-text": edit_record(lambda record: record.update(mri_slice="two")),
    "slice-is-outside": edit_record(lambda record: record.update(mri_slice=99)),
    "histology-cut": lambda home: cut(first(home, "*param-vCS_histomap.nii.gz")),
    "histology-text": lambda home: text_in_map(first(home, "*param-F_histomap.nii.gz")),
    "histology-empty": lambda home: first(home, "*param-CD_histomap.nii.gz").write_bytes(b""),
    "histology-sidecar": lambda home: first(home, "*param-vCS_histomap.json").write_text("{"),
    "histology-parameters": lambda home: edit_json(
        first(home, "*param-vCS_histomap.json"), lambda sidecar: sidecar.update(Parameters=[1])
    ),
    "mri-cut": lambda home: cut(first(home, "*param-vCS_dwimap.nii.gz")),
    "mri-sidecar": lambda home: first(home, "*param-vCS_dwimap.json").write_text("[]"),
    "transform": lambda home: first(home, "*_xfm.json").write_text('{"matrix": "none"}'),
    "transform-empty": lambda home: first(home, "*_xfm.json").write_text(""),
    "cells": lambda home: (home / "cells.parquet").write_bytes(b"PAR1"),
    "cells-without-diameter": lambda home: pd.DataFrame({"x_um": [1.0]}).to_parquet(home / "cells.parquet"),
    "cells-text": lambda home: pd.DataFrame([["a"] * 3], columns=["x_um", "y_um", "diameter_um"]).to_parquet(
        home / "cells.parquet"
    ),
    "voxels-binary": lambda home: (home / "pairs_voxel.csv").write_bytes(bytes(range(256))),
    "voxels-without-bound": lambda home: edit_csv(
        home / "pairs_voxel.csv", lambda table: table.drop(columns="at_bound")
    ),
    "voxels-text": lambda home: edit_csv(home / "pairs_voxel.csv", lambda table: table.assign(vCS_mri_um="text")),
    "voxels-empty": lambda home: edit_csv(home / "pairs_voxel.csv", lambda table: table.head(0)),
    "a-folder-for-a-file": lambda home: ((home / "pairs_voxel.csv").unlink(), (home / "pairs_voxel.csv").mkdir()),
    "no-folder": lambda home: shutil.rmtree(home),
    "a-file-for-a-folder": lambda home: (shutil.rmtree(home / "histo"), (home / "histo").write_text("")),
}


@pytest.mark.parametrize("damage", SAMPLE_DAMAGE.values(), ids=SAMPLE_DAMAGE)
def test_a_damaged_sample_costs_its_own_section(copy, damage):
    damage(copy / "sub-infiltrated")
    run = collect(copy)
    html = write_report(run).read_text(encoding="utf-8")
    sections = html.split('<section class="sample"')[1:]
    assert len(sections) == 3 and RANKING in html and "Samples compared" in html
    for place, name in ((0, "control"), (2, "necrotic")):
        assert f">{name}</h2>" in sections[place]
        assert NOTICE not in sections[place] and "Not shown" not in sections[place]
        assert sections[place].count("Cell size vCS") > 2 and "Voxel by voxel" in sections[place]
    assert not run.missing, "the study's own sections are whole"
    assert str(copy) not in re.sub(r"data:[^\"]*", "", html)


RESIDUALS = "scanner,model,strategy,b_smm2,delta_ms,Delta_ms,te_ms,n_samples,n,q25,median,q75\n"
WORDS = "3T,diff-in,{0},x,y,z,1,1,1,1,1,1\n3T,diff-in-ex,{0},x,y,z,1,1,1,1,1,1\n"
STRATEGIES = ("whole", "high-b")


def scores(change):
    return lambda folder: edit_json(folder / "scores.json", change)


STUDY_DAMAGE = {
    "ranking-rows": (scores(lambda found: found.update(models=[1])), "No ranking of models"),
    "ranking-key": (scores(lambda found: [row.pop("TCS_ci") for row in found["models"]]), "No ranking of models"),
    "ranking-text": (
        scores(lambda found: [row.update(TCS="high") for row in found["models"]]),
        "Ranking of models: this section could not be made (ValueError",
    ),
    "pairs-columns": (
        lambda folder: edit_csv(folder / "pairs.csv", lambda table: table.drop(columns="model")),
        "No table of samples",
    ),
    "pairs-binary": (lambda folder: (folder / "pairs.csv").write_bytes(b"\xff\xfe\x00"), "No table of samples"),
    "residuals": (lambda folder: (folder / "residuals.csv").write_text("a,b\n1,2\n"), "No residuals (residuals.csv"),
    "residuals-text": (
        lambda folder: (folder / "residuals.csv").write_text(RESIDUALS + "".join(map(WORDS.format, STRATEGIES))),
        "Residuals: this section could not be made",
    ),
    "parameters": (
        lambda folder: edit_json(folder / "study.json", lambda study: study.update(parameters=[3])),
        None,
    ),
    "warnings": (lambda folder: edit_json(folder / "study.json", lambda study: study.update(warnings=7)), None),
    "times": (
        lambda folder: edit_json(folder / "study.json", lambda study: study.update(started=1, finished=[2])),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "expected"), STUDY_DAMAGE.values(), ids=STUDY_DAMAGE)
def test_a_damaged_table_of_the_study_costs_its_own_section(copy, damage, expected):
    damage(copy)
    run = collect(copy)
    html = write_report(run).read_text(encoding="utf-8")
    assert html.count('<section class="sample"') == 3 and html.count("Histology on the MRI grid") >= 9
    assert [expected in text for text in run.missing].count(True) == 1 if expected else not run.missing, run.missing
    assert (NOTICE in html) == ("could not be made" in str(expected))
    assert "Methods" in html and html.rstrip().endswith("</html>")


def test_a_section_that_fails_is_a_notice_and_the_files_name_but_not_its_folder():
    problems = []

    def fail():
        raise FileNotFoundError(2, "No such file", "/home/someone/secret/map.nii.gz")

    found = section(fail, problems, "Maps")
    assert found == Failure("Maps", "map.nii.gz: No such file")
    assert problems == ["Maps: this section could not be made (map.nii.gz: No such file)."]
    assert attempt(lambda: np.zeros(3)[9], None, problems, "No maps") is None and "IndexError" in problems[1]
