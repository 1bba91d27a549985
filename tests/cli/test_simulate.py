"""`histomri simulate`: data with known truth, from the command line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from histomri_cli.app import app

PROTOCOL = "0 400 1500\n4 4 4\n8 8 8\n"


def run(*words):
    return CliRunner().invoke(app, ["simulate", *map(str, words)])


def test_spheres_of_every_combination(tmp_path):
    (tmp_path / "protocol.txt").write_text(PROTOCOL)
    result = run(
        "spheres", "--protocol", tmp_path / "protocol.txt", "--diameter-um", "8,10,12", "--fraction", "0.2,0.4",
        "--walkers", 100, "-o", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "6 kinds of spheres, 3 measurements, 100 walkers each" in result.stdout
    signals = np.load(tmp_path / "out" / "signals.npy", allow_pickle=False)
    assert signals.shape == (6, 3) and np.all(signals[:, 0] == 1) and np.all(np.diff(signals) < 0)
    sidecar = json.loads((tmp_path / "out" / "params.json").read_text())
    assert sidecar["Fixed"] == {"D0I": 2.0, "D0E": 2.0, "permeability": 0.0, "cv": 0.0}
    assert list(sidecar["Columns"]) == ["vCS", "fI"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--diameter-um", "8,x", "--fraction", "0.2"),
            "--diameter-um 8,x is no list of numbers; write --diameter-um 1 or --diameter-um 1,2,3",
        ),
        (("--diameter-um", "8", "--fraction", "0.7"), "cannot fill 0.7 of the volume; choose at most pi/6"),
        (
            ("--diameter-um", "9", "--fraction", "0.2", "--fine", "0.5"),
            "steps of 0.5 radii beside a membrane are too coarse; give 0.02 to 0.1",
        ),
        (
            ("--diameter-um", "9", "--fraction", "0.72", "--arrangement", "random", "--cv", "0.4"),
            "jam: at a fraction of 0.72",
        ),
        (("--diameter-um", "9", "--fraction", "0.4", "--cv", "0.2"), "of unequal size fit on no lattice"),
        (
            ("--diameter-um", "9", "--fraction", "0.4", "--walkers", "1000", "--standard-error", "0.001"),
            "1,000 walkers give standard errors of signals up to",
        ),
        (("--diameter-um", "9", "--fraction", "0.4", "--t2i-ms", "20", "--t2e-ms", "30"), "T2 needs echo times"),
    ],
)
def test_what_cannot_be_simulated_is_refused(tmp_path, words, message):
    (tmp_path / "protocol.txt").write_text(PROTOCOL)
    result = run("spheres", "--protocol", tmp_path / "protocol.txt", *words, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_livers_need_three_samples(tmp_path):
    result = run("liver", "--samples", 2, "-o", tmp_path / "livers")
    assert result.exit_code == 2 and "ask for three or more samples" in result.stderr
