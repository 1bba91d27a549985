"""`histomri report` on a folder that a run has left, and on one it has not."""

from functools import partial

import pytest

from histomri.core.files import write_json


@pytest.fixture
def histomri(run):
    return partial(run, "report")


def test_a_run_without_results_still_has_a_report(histomri, tmp_path):
    sample = {"id": "m1", "status": "failed", "stage": "cells", "reason": "m1.tsv: no such cell table"}
    write_json(tmp_path / "study.json", {"name": "Livers", "samples": [sample], "warnings": []})
    done = histomri(tmp_path)
    assert done.exit_code == 0, done.output
    assert f"wrote {tmp_path / 'report.html'}" in done.stdout
    assert "m1.tsv: no such cell table" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_no_run(histomri, tmp_path):
    done = histomri(tmp_path)
    assert done.exit_code == 2 and "holds no study.json" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert histomri(tmp_path / "nowhere").exit_code == 2
