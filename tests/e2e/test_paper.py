"""A small study with the structure of the paper's: mice and biopsies, run by one command, recovers its truth."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histomri.simulation import compare_cases
from histomri_cli.app import app


def command(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("paper")
    command(
        "simulate", "paper", "-o", out / "inputs", "--mice", 3, "--biopsies", 6, "--area-mm2", 6, "--seed", 1,
        "--physics", "simple",
    )  # fmt: skip
    command("run", out / "inputs" / "study.toml", "-o", out)
    return out


def test_every_case_is_there_with_what_was_given_by_hand(study):
    pairs = pd.read_csv(study / "pairs.csv")
    truth = pd.read_csv(study / "inputs" / "truth" / "cases.csv").set_index("sample")
    assert pairs.groupby(["model", "strategy"]).size().tolist() == [9] * 4
    assert set(pairs["scanner"]) == {"9.4T", "3T", "1.5T"} and {"CRC", "melanoma", "other"} < set(pairs["group"])
    for name in ("Ki67_fraction", "volume_mm3"):
        given = truth[name].reindex(pairs["sample"]).to_numpy()
        np.testing.assert_allclose(pairs[name], given, rtol=2e-3)  # written with four digits
    assert pairs["n_patches"].dropna().eq(1).all()  # one number per core
    biopsies = pairs.drop_duplicates("sample").set_index("sample")["patient"].dropna()
    assert biopsies.to_dict() == {f"biopsy{number:02d}": f"P{number:02d}" for number in range(1, 7)}
    assert pairs.loc[pairs["sample"].str.startswith("mouse"), "n_patches"].isna().all()


def test_the_truth_is_recovered(study):
    """Nine cases of known size and fraction. Histology is nearly exact; the fits are as good as their noise allows."""
    table = compare_cases(study).table
    every = table[table["cohort"] == "all"].set_index(["model", "strategy"])
    assert (every["r_vCS_histo_um"] > 0.98).all() and (every["r_F_histo"] > 0.95).all()
    assert every.loc[("diff-in", "high-b"), "r_vCS_mri_um"] > 0.85
    biopsies = table[table["cohort"] == "biopsies"].set_index(["model", "strategy"])
    assert biopsies.loc[("diff-in", "high-b"), "r_F_mri"] > 0.8
    # Water between the cells counts as cells in a model without it, unless high b has removed it.
    assert every.loc[("diff-in", "whole"), "bias_F_mri"] > every.loc[("diff-in", "high-b"), "bias_F_mri"] > -0.1


def test_scores_are_split_by_scanner(study):
    split = pd.read_csv(study / "scores_by_scanner.csv", dtype={"scanner": str})
    assert split.groupby("scanner")["n"].first().to_dict() == {"9.4T": 3, "3T": 4, "1.5T": 2}
    page = (study / "report.html").read_text(encoding="utf-8")
    for name in ("9.4T", "3T"):
        assert f"<h3>{name}</h3>" in page


def test_volumes_are_predicted_from_the_tumours(study):
    command("predict", study / "inputs" / "tumours.csv", "-o", study, "--target", "volume_mm3", "--group-by", "patient")
    found = json.loads((study / "statistics" / "prediction_cubic" / "prediction.json").read_text())
    assert found["r"] == json.loads((study / "prediction.json").read_text())["r"]  # as the command by that name
    assert found["Parameters"]["group_by"] == "patient" and found["n"] == 140
    truth = json.loads((study / "inputs" / "truth" / "tumours.json").read_text())
    # Cross-validated predictions cannot do better than the surface that made the volumes, nor much worse at N = 140.
    assert truth["r_expected_log10_volume"] - 0.2 < found["r"] < truth["r_expected_log10_volume"] + 0.05


def test_every_figure_of_the_statistics_comes_out_of_the_run(study):
    page = (study / "report.html").read_text(encoding="utf-8")
    names = ["agreement", "regression", "groups", "association_Ki67_fraction", "association_volume_mm3"]
    for name in [*names, "prediction_cubic", "prediction_printed"]:
        assert f'id="{name}"' in page
