"""`histomri insilico`: one command from walks to a page, and errors before the walks."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histomri.fitting import fit
from histomri_cli.app import app

SMALL = (
    "--walkers", 300, "--fractions", "0.2,0.45", "--diameters-um", "10,24", "--diffusivities", 2, "--kappa", "10,50",
    "--model", "diff-in", "--model", "diff-in-ex", "--jobs", 1,
)  # fmt: skip
MINE = "0 400 1500 1900 2000 2500 2800\n0 5 10 10 10 10 10\n0 20 30 30 30 30 30\n"


def run(*words):
    return CliRunner().invoke(app, ["insilico", *map(str, words)])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("insilico")
    (folder / "mine.txt").write_text(MINE)
    words = ("--protocol", folder / "mine.txt", "--protocol", "invivo-3t", "--snr", 30, "--snr", 200)
    result = run(*SMALL, *words, "--figures", "svg", "-o", folder / "out")
    assert result.exit_code == 0, result.stderr
    return result, folder / "out"


def test_every_protocol_permeability_snr_strategy_and_model_has_its_scores(study):
    result, out = study
    assert "2 protocols, 16 tissues at each permeability" in result.stdout
    assert "mine: no --bounds-of was given, so mouse-exvivo sets bounds and b thresholds" in result.stderr
    for name, column in (("tableS1", "TCS"), ("tableS2", "HFC"), ("tableS3", "BIC_wins")):
        table = pd.read_csv(out / f"{name}.csv")
        keys = table[["protocol", "kappa_um_s", "snr", "strategy", "model"]]
        assert len(table) == 2 * 2 * 2 * 2 * 2 and not keys.duplicated().any()
        assert (table[f"{column}_low"] <= table[column]).all() and (table[column] <= table[f"{column}_high"]).all()
    # Among the models of one strategy every tissue has one that BIC prefers.
    wins = table.groupby(["protocol", "kappa_um_s", "snr", "strategy"])["BIC_wins"].sum()
    assert wins.to_numpy() == pytest.approx(1.0)
    record = json.loads((out / "insilico.json").read_text())
    assert record["Parameters"]["protocols"] == ["mine.txt", "invivo-3t"] and record["WallSeconds"] > 0
    assert [each["kappa_um_s"] for each in record["Walks"]] == [10.0, 50.0] * 2


def test_the_scatter_of_the_estimates_is_that_of_the_noise(study):
    """Seven times the SNR scatters estimates a seventh as far around those without noise, where the fit is linear."""
    table = pd.read_parquet(study[1] / "estimates.parquet").query("protocol == 'invivo-3t' and kappa_um_s == 10")
    mine = table[(table["model"] == "diff-in") & (table["strategy"] == "whole")]
    signals = np.load(study[1] / "signals_invivo-3t.npy", allow_pickle=False)[:16]
    exact = fit(signals, "invivo-3t", "diff-in", sigma=1e-4, strategy="whole", s0=1.0, preset="invivo-3t").maps["F"]
    off = {snr: np.median(np.abs(part["F_mri"] - exact)) for snr, part in mine.groupby("snr")}
    assert 0.5 / 6.7 < off[200.0] / off[30.0] < 2 / 6.7


def test_the_page_says_what_the_tables_say(study):
    _, out = study
    page = (out / "insilico.html").read_text()
    claims = pd.read_csv(out / "claims.csv")
    assert len(claims) == 2 * 2 * 7 and set(claims["protocol"]) == {"mine", "invivo-3t"}
    found = re.findall(r'<span class="chip \w*">(?:[✓✕?] )?([\w ]+)</span><small>(.*?)</small>', page)
    assert sorted(found) == sorted(claims[["verdict", "evidence"]].itertuples(index=False, name=None))
    assert "could not be made" not in page and "They do not include that all tissues are equal" in page
    assert "default-src 'none'" in page and not re.search(r"(?:src|href)=\"https?:", page)
    assert str(out.parent) not in page
    # A point for every model, permeability, protocol and strategy, in the figures of TCS and of HFC, at both SNRs.
    assert len(re.findall(r'data-tip="Diff-in[^"]*(?:TCS|HFC) ', page)) == 4 * 16
    assert {path.stem for path in (out / "figures").iterdir()} >= {"tcs-snr30", "wins-snr200", "adc-time", "substrates"}


def test_a_model_that_a_strategy_has_too_few_measurements_for_is_left_out(tmp_path):
    words = [word for word in SMALL if word not in ("--model", "diff-in-ex", "diff-in")]
    words += ["--model", "diff-in", "--model", "diff-in-extd"]
    (tmp_path / "few.txt").write_text("0 1200 1500 1700 2000 2500 2800\n0 10 10 10 10 10 10\n0 30 30 30 30 30 30\n")
    result = run("--protocol", tmp_path / "few.txt", *words, "-o", tmp_path / "out")
    warning = "few: Diff-in-exTD is not fitted on high-b: only 3 measurements have b > 1800 s/mm²"
    assert result.exit_code == 0 and warning in result.stderr
    table = pd.read_csv(tmp_path / "out" / "tableS1.csv")
    fits = set(table[["strategy", "model"]].itertuples(index=False, name=None))
    assert fits == {("whole", "diff-in"), ("whole", "diff-in-extd"), ("high-b", "diff-in")}
    assert warning in " ".join(json.loads((tmp_path / "out" / "insilico.json").read_text())["Warnings"])
    assert warning.replace(">", "&gt;") in (tmp_path / "out" / "insilico.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--fractions", "0.2,0.6"), "cannot fill 0.6 of the volume; choose at most pi/6 = 0.5236"),
        (("--fractions", "0.2"), "one value in --fractions leaves nothing to correlate with; give two or more"),
        (("--diameters-um", "8,8"), "diameters_um needs one or more different values"),
        (("--fine", "0.4"), "--fine: must be at most 0.25"),
        (("--kappa", "-10,25"), "--kappa: must be at least 0"),
        (("--snr", "0"), "--snr: must be greater than 0"),
        (("--walkers", "50"), "--walkers: must be at least 100"),
        (("--protocol", "nob0.txt"), "has no volume at b = 0"),
        (("--protocol", "nodelta.bval"), "δ"),
        (("--protocol", "low.txt", "--strategy", "high-b"), "low: no measurement has b > 1800 s/mm²"),
        (("--protocol", "invivo-3t", "--standard-error", "0.001"), "and 0.001 is wanted; give --walkers "),
    ],
)
def test_what_cannot_be_is_refused_before_the_walks(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nob0.txt").write_text("400 1500\n5 5\n20 20\n")
    (tmp_path / "nodelta.bval").write_text("0 1500 2000 2800\n")
    (tmp_path / "low.txt").write_text("0 400 1500\n0 5 5\n0 20 20\n")
    # The last of an option that is given twice counts, but for those that may be repeated.
    result = run(*SMALL, *words, "-o", tmp_path / "out")
    assert result.exit_code == 2 and message in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()
