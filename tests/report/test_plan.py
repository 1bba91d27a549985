"""An analysis plan in the report: what was planned, its contrasts, and what is beyond it."""

import json
import re

import pytest

from histomri.report import write_report
from histomri.report.collect import collect
from histomri.report.plan import plan_card
from histomri.study.plan import Plan

FITS = {(model, strategy) for model in ("diff-in", "diff-in-ex") for strategy in ("whole", "high-b")}


@pytest.fixture
def planned(small_run, tmp_path, change_study):
    import shutil

    folder = shutil.copytree(small_run, tmp_path / "run")
    plan = Plan(models=("diff-in", "diff-in-ex, whole"), contrasts=("diff-in, high-b > diff-in-ex, whole",))
    change_study(folder, lambda study: study.update(plan=plan.record(FITS, None)))
    return folder, plan


def test_what_is_beyond_the_plan_is_exploratory(planned):
    folder, plan = planned
    html = write_report(folder).read_text(encoding="utf-8")
    assert plan.sha256[:16] in html and "Primary criterion" in html
    rows = re.findall(r"<tr[^>]*><td>[^<]*</td><td class=\"text\">(.*?)</td><td class=\"text\">(.*?)</td>", html)
    marked = {(re.sub("<.*", "", model).strip(), strategy) for model, strategy in rows if "exploratory" in model}
    assert marked == {("Diff-in-ex", "high-b")}
    assert "Which measurements correlate?</h3>" not in html or 'correlate? <span class="exploratory">' in html


def test_a_contrast_has_the_sign_of_the_plan(planned):
    folder, _ = planned
    run = collect(folder)
    (text,) = plan_card(run)["contrasts"]
    tests = json.loads((folder / "scores.json").read_text())["comparisons"]
    pair = {("diff-in", "high-b"), ("diff-in-ex", "whole")}
    row = next(
        row for row in tests if row["quantity"] == "TCS"
        and {(row["model_a"], row["strategy_a"]), (row["model_b"], row["strategy_b"])} == pair
    )  # fmt: skip
    if row["p"] is None:  # three samples have no jackknife
        assert "TCS cannot be compared" in text
    run.comparisons = [row | {"difference": 0.4, "ci_low": -0.1, "ci_high": 0.9, "p": 0.2}]
    sign = "" if row["model_a"] == "diff-in" else "\u2212"
    (text,) = plan_card(run)["contrasts"]
    assert f"TCS differs by {sign}0.40 [" in text and "p = 0.2" in text


def test_without_a_plan_nothing_is_marked(small_run):
    assert plan_card(collect(small_run)) is None
    assert 'class="exploratory"' not in write_report(collect(small_run), small_run.parent / "x.html").read_text("utf-8")
