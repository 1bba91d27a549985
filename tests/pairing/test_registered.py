"""What the registration does to correlations: the rule, the columns and records, and where it is refused."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from histomri.analysis import rank_models
from histomri.analysis.registration_error import registration_effect, with_sampling
from histomri.core.errors import InputError
from histomri.core.images import Image, write_map
from histomri.pairing import pair_maps
from histomri.pairing.registered import Drawn, _correlations, draws_refused
from histomri.registration import Transform, register
from histomri.simulation.section_pairs import LEVELS, make_pair
from histomri_cli.app import app

HISTOLOGY = ("F", "vCS", "CD")


def test_the_rule_of_the_correction():
    drawn = np.array([0.43, 0.47, 0.45, 0.44, 0.46])
    effect = registration_effect(0.5, drawn)
    assert effect.factor == pytest.approx(0.5 / 0.45)
    assert effect.corrected == pytest.approx(0.25 / 0.45)
    half = 1.959964 * np.std(drawn) * 0.5 / 0.45
    assert (effect.low, effect.high) == pytest.approx((0.25 / 0.45 - half, 0.25 / 0.45 + half))
    # Nothing is made of nothing, of draws on the other side of 0, or of draws that are higher; and no more than half.
    for value, draws in ((0.05, drawn - 0.43), (-0.5, drawn), (0.4, drawn)):
        assert registration_effect(value, draws).factor == 1.0
    assert registration_effect(0.9, drawn).factor == 1.5


def test_the_interval_with_sampling_against_simulation(rng):
    # r of 60 pairs scattered by Fisher's law, and moved once more by a registration: both together, by brute force.
    effect = registration_effect(0.6, rng.normal(0.6, 0.04, 60))
    low, high = with_sampling(effect, 60.0)
    z = np.arctanh(effect.corrected) + rng.normal(0, 57**-0.5, 200_000)
    both = np.tanh(z) + rng.normal(0, effect.sd, 200_000)
    assert (low, high) == pytest.approx(np.percentile(both, (2.5, 97.5)), abs=0.015)
    assert with_sampling(effect, 3.0) is None


def test_correlations_over_the_voxels_that_both_have(rng):
    x, drawn = rng.normal(size=50), rng.normal(size=(4, 50))
    drawn[rng.random(drawn.shape) < 0.2] = np.nan
    x[:3] = np.nan
    known = np.isfinite(drawn) & np.isfinite(x)
    expected = [np.corrcoef(x[mask], row[mask])[0, 1] for mask, row in zip(known, drawn, strict=True)]
    np.testing.assert_allclose(_correlations(x, drawn), expected)


@pytest.fixture(scope="module")
def registered():
    pair = make_pair(82001, LEVELS["standard"])
    return pair, register(pair.moving, pair.fixed, moving_mask=pair.moving_mask)


def mri_of(pair, rng, strength=0.8):
    """Return fitted maps that are related to what the histology is at the true place."""
    maps = {}
    for name, truth in zip(HISTOLOGY, pair.aligned, strict=True):
        known = np.isfinite(truth)
        z = (truth - truth[known].mean()) / truth[known].std()
        noisy = strength * z + np.sqrt(1 - strength**2) * rng.normal(size=z.shape)
        maps[name] = Image(np.where(known, noisy * truth[known].std() + truth[known].mean(), np.nan), pair.fixed.affine)
    return maps


def test_pairs_say_what_the_registration_does(registered, rng):
    pair, found = registered
    histology, mri = dict(zip(HISTOLOGY, pair.maps, strict=True)), mri_of(pair, rng)
    fits = {("diff-in", "whole"): mri}
    plain = pair_maps(histology, fits, found, sample="a")
    table = pair_maps(histology, fits, found, sample="a", draws=30)
    assert "correlations" not in plain.parameters["registration"]["a"]
    record = table.parameters["registration"]["a"]
    assert (record["verdict"], record["drive"], record["n_draws"]) == (found.verdict, "outline", 30)
    for row in record["correlations"]:
        mri_column, histology_column = {"F": ("F_mri", "F_histo"), "vCS": ("vCS_mri_um", "vCS_histo_um")}.get(
            row["map"], ("CD_mri_mm3", "CD_histo_mm2")
        )
        r = np.corrcoef(table.data[mri_column], table.data[histology_column])[0, 1]
        assert row["r"] == pytest.approx(r)
        true = pair.aligned[HISTOLOGY.index(row["map"])][table.data["i"], table.data["j"]]
        assert row["registration_low"] < np.corrcoef(table.data[mri_column], true)[0, 1] < row["registration_high"]
        assert row["ci_low"] < row["registration_low"] < row["registration_high"] < row["ci_high"]
    # The same columns as before, and behind them those of the registration.
    columns = list(table.data.columns)
    assert columns[: len(plain.data.columns)] == list(plain.data.columns)
    assert table.data["registration_verdict"].unique().tolist() == [found.verdict]
    assert table.data["registration_error_mm"].iloc[0] == pytest.approx(found.qc["expected_error_mm"])
    # The mean of the section moves by as much as it does over the draws.
    drawn = Drawn.of(histology, pair.fixed, found, 30, 0).maps["F"][:, table.data["i"], table.data["j"]]
    spread = table.per_sample()["registration_sd_F_histo"]
    assert spread.iloc[0] == pytest.approx(np.nanmean(drawn, axis=1).std(), rel=1e-4)
    assert table.per_sample()["registration_verdict"].iloc[0] == found.verdict


def test_scores_have_an_interval_of_the_registrations(rng):
    # Means that the registration moves by a third of their spread: r falls by a twentieth at each move.
    n, spread = 400, 1.0
    size, part = rng.normal(20, spread, n), rng.normal(0.5, 0.1, n)
    cases = pd.DataFrame({"sample": [f"s{k}" for k in range(n)], "model": "m", "strategy": "whole"})
    cases = cases.assign(vCS_histo_um=size, F_histo=part, vCS_mri_um=size + rng.normal(0, 0.5, n), F_mri=part)
    cases["F_mri"] += rng.normal(0, 0.05, n)
    (plain,) = rank_models(cases, n_boot=20)
    assert plain["TCS_registration"] is None
    (row,) = rank_models(cases.assign(registration_sd_vCS_histo_um=0.33, registration_sd_F_histo=0.033), n_boot=20)
    low, high = row["TCS_registration_ci"]
    assert low < row["TCS_registration"] < high
    assert row["TCS_registration"] / row["TCS"] == pytest.approx(np.sqrt(1 + 0.33**2), abs=0.01)


def test_where_no_transforms_can_be_drawn(registered):
    pair, found = registered
    assert draws_refused(found) is None
    assert "no transform" in draws_refused(None)[0]
    assert "landmarks alone" in draws_refused(Transform(found.matrix))[0]
    unsure = replace(found, qc={**found.qc, "open_orientations": 1})
    with pytest.raises(InputError, match="several orientations"):
        Drawn.of({"F": pair.moving}, pair.fixed, unsure, 5, 0)


def test_by_the_command_line(registered, rng, tmp_path):
    pair, found = registered
    found.save(tmp_path / "xfm.json")
    for name, image in zip(HISTOLOGY, pair.maps, strict=True):
        write_map(tmp_path / "h" / f"sub-1_param-{name}_histomap.nii.gz", image.data, image.affine)
    for name, image in mri_of(pair, rng).items():
        path = tmp_path / "m" / f"sub-1_model-diffin_param-{name}_dwimap.nii.gz"
        write_map(path, image.data, image.affine, Model="diff-in", Strategy="whole")
    command = ["pair", str(tmp_path / "h"), str(tmp_path / "m"), "--xfm", str(tmp_path / "xfm.json"), "--draws", "10"]
    result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "pairs.csv")])
    assert result.exit_code == 0, result.output
    assert "without the error of the registration" in result.output
    recorded = json.loads((tmp_path / "pairs.json").read_text())["Parameters"]["registration"]["1"]
    assert len(recorded["correlations"]) == 3
    (tmp_path / "xfm_uncertainty.npz").unlink()
    result = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "again.csv")])
    assert result.exit_code == 2
    assert "lacks its _uncertainty.npz" in result.output.replace("\n", " ")


@pytest.mark.slow
def test_true_correlations_are_recovered():
    # 24 pairs, three maps each of another smoothness; r of 0, 0.5 and 0.8 at the true place.
    ratios, covered, moved = [], [], []
    for level, first in (("standard", 96000), ("hard", 96500)):
        for seed in range(first, first + 12):
            pair, rng = make_pair(seed, LEVELS[level]), np.random.default_rng(seed)
            found = register(pair.moving, pair.fixed, moving_mask=pair.moving_mask)
            if draws_refused(found):
                continue
            histology = dict(zip(HISTOLOGY, pair.maps, strict=True))
            for strength in (0.0, 0.5, 0.8):
                fits = {("m", "whole"): mri_of(pair, rng, strength)}
                table = pair_maps(histology, fits, found, draws=60)
                at = table.data["i"], table.data["j"]
                for row in table.parameters["registration"]["sample"]["correlations"]:
                    mri = {"F": "F_mri", "vCS": "vCS_mri_um", "CD": "CD_mri_mm3"}[row["map"]]
                    true = np.corrcoef(table.data[mri], pair.aligned[HISTOLOGY.index(row["map"])][at])[0, 1]
                    covered.append(row["registration_low"] <= true <= row["registration_high"])
                    if strength:
                        ratios.append(row["r_corrected"] / true)
                    else:
                        moved.append(abs(row["r_corrected"] - row["r"]))
    assert np.mean(ratios) == pytest.approx(1, abs=0.03)
    assert 0.90 <= np.mean(covered) <= 0.99
    assert np.mean(moved) <= 0.01
