"""`histomri simulate benchmark` and `histomri benchmark`."""

import json

import pandas as pd
import pytest


def test_a_tool_that_is_entered_by_a_csv(run, tmp_path):
    made = run("simulate", "benchmark", "sections-nuclei", "-o", tmp_path / "set")
    assert made.exit_code == 0, made.stderr
    assert "results need the columns condition and N_V_per_mm3, F, vCS_um" in made.stdout
    truth = pd.read_csv(tmp_path / "set" / "truth" / "truth.csv")
    mine = tmp_path / "mine.csv"
    truth[["condition"]].assign(vCS_um=truth["vCS_um"] + 2.0, F=truth["F"]).iloc[:-1].to_csv(mine, index=False)
    scored = run("benchmark", mine, "--set", "sections-nuclei", "-o", tmp_path / "scores")
    assert scored.exit_code == 0, scored.stderr
    assert "vCS_um: bias +2 ± 0 µm (+10 %), median error 2, rms 2, r 1.00" in scored.stdout
    assert "1 of 7 cases of sections-nuclei have no row in the results: g7" in scored.stderr
    about = json.loads((tmp_path / "scores" / "benchmark.json").read_text())
    assert about["Missing"] == ["g7"] and about["Sources"] == ["mine.csv"] and about["Version"] == 1
    table = pd.read_csv(tmp_path / "scores" / "benchmark.csv").set_index("quantity")
    assert table.loc["F", "rms"] == 0 and table.loc["vCS_um", "n"] == 6
    assert about["Scores"][0]["quantity"] == "F" and about["TruthSha256"]


def test_results_are_not_overwritten(run, tmp_path):
    path = tmp_path / "benchmark.csv"
    path.write_text("condition,F\ng1,0.5\n")
    result = run("benchmark", path, "--set", "sections-nuclei", "-o", tmp_path)
    assert result.exit_code == 2 and "is an input, and would be overwritten" in result.stderr
    assert path.read_text() == "condition,F\ng1,0.5\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("benchmark", "none.csv", "--set", "liver-3t"), "no such table"),
        (("benchmark", "none.csv", "--set", "liver-4t"), "liver-4t"),
        (("simulate", "benchmark", "livers"), "livers"),
        (("simulate", "benchmark", "insilico-paper"), "run `histomri insilico -o DIR` first"),
        (("simulate", "benchmark", "liver-3t", "--from", "."), "leave out --from"),
        (("simulate", "benchmark", "insilico-paper", "--from", "none"), "signals_mouse-exvivo.npy"),
    ],
)
def test_what_cannot_be_done_is_said(run, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    result = run(*words, "-o", tmp_path / "out")
    assert result.exit_code == 2 and message in result.stderr
    assert not (tmp_path / "out").exists()
