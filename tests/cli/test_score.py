"""`histomri score` from a table to scores.json and scores.csv."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import williams_test

KEYS = [
    "model",
    "strategy",
    "n",
    "TCS",
    "TCS_ci",
    "r_vCS",
    "r_F",
    "HFC_mean",
    "HFC_wins",
    "BIC_share",
    "p_best",
    "AIC_share",
    "n_missing",
    "rank",
    "compared",
    "n_own",
    "TCS_own",
    "HFC_wins_within",
    "share_first",
    "n_patients",
    "TCS_corrected",
    "TCS_corrected_ci",
    "mcs_p",
    "in_set",
    "rank_low",
    "rank_high",
    "TCS_within",
    "HFC_syst",
    "TCS_registration",
    "TCS_registration_ci",
]


@pytest.fixture
def histomri(run):
    return partial(run, "score")


@pytest.fixture
def pairs(tmp_path, rng):
    size, fraction = rng.uniform(14, 28, 12), rng.uniform(0.4, 0.8, 12)
    parts = []
    for model, noise in (("diff-in-ex", 2.0), ("diff-in", 0.3)):
        parts.append(
            pd.DataFrame(
                {
                    "sample": [f"{case:02d}" for case in range(12)],
                    "group": "",
                    "model": model,
                    "strategy": "whole",
                    "vCS_mri_um": size + noise * 3 * rng.normal(size=12),
                    "vCS_histo_um": size,
                    "F_mri": fraction + noise * 0.1 * rng.normal(size=12),
                    "F_histo": fraction,
                    "BIC_vote": 0.2 if model == "diff-in-ex" else 0.8,
                }
            )
        )
    path = tmp_path / "pairs.csv"
    pd.concat(parts).to_csv(path, index=False)
    return path


def test_scores(histomri, pairs, tmp_path):
    done = histomri(pairs, "-o", tmp_path / "scores")
    assert done.exit_code == 0, done.output
    names = ["model_comparisons.csv", "scores.csv", "scores.json", "scores_influence.csv"]
    assert sorted(path.name for path in (tmp_path / "scores").iterdir()) == names
    content = json.loads((tmp_path / "scores" / "scores.json").read_text())
    models = content["models"]
    assert [list(row) for row in models] == [KEYS, KEYS]
    assert [row["model"] for row in models] == ["diff-in", "diff-in-ex"]
    table = pd.read_csv(pairs)
    best = table[table["model"] == "diff-in"]
    tcs = (
        np.corrcoef(best["vCS_mri_um"], best["vCS_histo_um"])[0, 1] + np.corrcoef(best["F_mri"], best["F_histo"])[0, 1]
    )
    np.testing.assert_allclose(models[0]["TCS"], tcs, rtol=1e-10)
    assert models[0]["BIC_share"] == 1 and models[1]["BIC_share"] == 0
    assert f"1. diff-in (whole): TCS {tcs:.3f} [" in done.stdout
    flat = pd.read_csv(tmp_path / "scores" / "scores.csv")
    np.testing.assert_allclose(flat["TCS"], [row["TCS"] for row in models])
    assert flat["TCS_ci_low"].tolist() == pytest.approx([row["TCS_ci"][0] for row in models])


def test_models_are_tested_against_each_other_and_per_scanner(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    table["scanner"] = np.where(table["sample"] < "06", "1.5T", "3T")
    table.to_csv(pairs, index=False)
    assert histomri(pairs, "-o", tmp_path).exit_code == 0
    content = json.loads((tmp_path / "scores.json").read_text())
    wide = table.pivot(index="sample", columns="model")
    truth = williams_test(
        wide["vCS_mri_um"]["diff-in-ex"], wide["vCS_mri_um"]["diff-in"], wide["vCS_histo_um"]["diff-in"]
    )
    row = next(row for row in content["comparisons"] if (row["quantity"], row["test"]) == ("vCS", "williams"))
    np.testing.assert_allclose([row["p"], row["difference"]], [truth.p, truth.difference], rtol=1e-9)
    assert {name: [row["n"] for row in rows] for name, rows in content["scanners"].items()} == {
        "1.5T": [6, 6],
        "3T": [6, 6],
    }
    split = pd.read_csv(tmp_path / "scores_by_scanner.csv")
    assert split["scanner"].tolist() == ["1.5T", "1.5T", "3T", "3T"] and (split["n"] == 6).all()


def test_a_seed_fixes_the_result(histomri, pairs, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert histomri(pairs, "-o", tmp_path / name, "--seed", seed, "--boot", 300).exit_code == 0
    a, b, c = ((tmp_path / name / "scores.json").read_text() for name in "abc")
    assert a == b != c


def test_two_samples_cannot_be_ranked_and_this_is_said(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    table[table["sample"].isin(["00", "01"])].to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path, "--quiet")
    assert done.exit_code == 0 and "2 complete cases: TCS needs at least 3" in done.stderr and done.stdout == ""
    assert [row["TCS"] for row in json.loads((tmp_path / "scores.json").read_text())["models"]] == [None, None]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("vCS_histo_um", "cells", "column 'vCS_histo_um' is missing"),
        ("diff-in-ex,whole", "diff-in,whole", "comes twice for diff-in, whole"),
        ("00,,diff-in,whole,", "00,,diff-in,whole,x", "column 'vCS_mri_um', line 14"),
    ],
)
def test_bad_tables(histomri, pairs, tmp_path, old, new, message):
    pairs.write_text(pairs.read_text().replace(old, new))
    done = histomri(pairs, "-o", tmp_path / "out")
    assert done.exit_code == 2 and message in done.stderr and "pairs.csv" in done.stderr
    assert not (tmp_path / "out").exists()


def test_wrong_use(histomri, pairs, tmp_path):
    assert "must be at least 100" in histomri(pairs, "-o", tmp_path / "o", "--boot", 5).stderr
    assert histomri(tmp_path / "no.csv", "-o", tmp_path / "o").exit_code == 2
    assert not (tmp_path / "o").exists()


def test_a_table_is_never_replaced_by_its_results(histomri, pairs, tmp_path):
    mine = pairs.rename(tmp_path / "scores.csv")
    before = mine.read_bytes()
    result = histomri(mine, "-o", tmp_path)
    assert result.exit_code == 2 and "is an input, and would be overwritten" in result.stderr
    assert mine.read_bytes() == before and not (tmp_path / "scores.json").exists()
    assert "is a file, and a folder is needed" in histomri(mine, "-o", mine).stderr


def test_missing_cases_are_counted_named_and_do_not_vote(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    table["group"] = np.where(table["sample"] < "03", "sham", "tumour")
    lost = table["sample"] < "04"
    table.loc[lost, ["vCS_mri_um", "F_mri"]] = np.nan
    table.loc[lost, "BIC_vote"] = 1.0 - table.loc[lost, "BIC_vote"]  # would turn the vote in a third of the cases
    table.to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    text = "4 of 12 cases left out because a value is missing: 00, 01, 02, 03; nothing is left of group sham"
    assert text in done.stderr
    content = json.loads((tmp_path / "scores.json").read_text())
    assert text in content["warnings"]
    assert [(row["n"], row["n_missing"], row["BIC_share"]) for row in content["models"]] == [(8, 4, 1), (8, 4, 0)]
    assert pd.read_csv(tmp_path / "scores.csv")["n_missing"].tolist() == [4, 4]


def test_one_models_missing_cases_are_told_with_its_name(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    table = table[(table["model"] != "diff-in") | (table["sample"] != "07")]  # a row that is not there at all
    table.to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path)
    assert "diff-in, whole: 1 of 12 cases left out because a value is missing: 07" in done.stderr
    models = json.loads((tmp_path / "scores.json").read_text())["models"]
    assert {row["model"]: row["n_missing"] for row in models} == {"diff-in": 1, "diff-in-ex": 0}


def test_a_model_of_three_cases_is_not_ranked_first(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    few = (table["model"] == "diff-in") & (table["sample"] > "02")
    pd.concat([table[~few], table[table["model"] == "diff-in"].assign(model="third")]).to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path)
    assert "diff-in, whole: N = 3 (others up to 12), too few for a comparison; ranked last" in done.stderr
    assert "1. third (whole)" in done.stdout and "– diff-in (whole)" in done.stdout
    assert [row["rank"] for row in json.loads((tmp_path / "scores.json").read_text())["models"]] == [1, 2, None]


@pytest.mark.parametrize(
    ("column", "value", "told"), [("vCS_histo_um", 30.0, "30.0"), ("scanner", "7T", "7T"), ("group", "x", "x")]
)
def test_rows_of_a_sample_that_contradict_each_other(histomri, pairs, tmp_path, column, value, told):
    table = pd.read_csv(pairs, dtype={"sample": str}).assign(scanner="3T", group="a")
    table.loc[15, column] = value
    table.to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path / "o")
    first = table.loc[3, column]
    assert done.exit_code == 2
    assert f"sample '03' has two values of '{column}': {first} (line 5) and {told} (line 17)" in done.stderr
    if column == "vCS_histo_um":  # means over the voxels that either fit had
        table.assign(n_voxels=np.arange(len(table))).to_csv(pairs, index=False)
        assert histomri(pairs, "-o", tmp_path / "o").exit_code == 0


def test_sites_of_other_units(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    table["scanner"] = np.where(table["sample"] < "06", "1.5T", "3T")
    table["CD_mri_mm3"] = np.where(table["scanner"] == "3T", 1e3, 1e6) * table["F_mri"].abs()
    table.to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path / "o")
    assert done.exit_code == 2 and "for scanner '3T' and " in done.stderr and "as if in another unit" in done.stderr
    table["CD_mri_mm3"] *= np.where(table["scanner"] == "3T", 50, 1)
    table.to_csv(pairs, index=False)
    done = histomri(pairs, "-o", tmp_path / "o")
    assert done.exit_code == 0 and "are the units the same?" in done.stderr


def test_the_column_map_is_a_source_and_is_not_replaced(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str}).rename(columns={"F_mri": "f"})
    table.to_csv(pairs, index=False)
    mapping = tmp_path / "scores.csv"
    mapping.write_text('F_mri = "f"\n')
    done = histomri(pairs, "-o", tmp_path, "--columns", mapping)
    assert done.exit_code == 2 and "is an input, and would be overwritten" in done.stderr
    assert histomri(pairs, "-o", tmp_path / "o", "--columns", mapping).exit_code == 0
    assert json.loads((tmp_path / "o" / "scores.json").read_text())["Sources"] == ["pairs.csv", "scores.csv"]


def test_models_beside_each_other_are_scored_as_those_below_each_other(histomri, pairs, tmp_path):
    table = pd.read_csv(pairs, dtype={"sample": str})
    wide = table.pivot(index=["sample", "vCS_histo_um", "F_histo"], columns="model", values=["vCS_mri_um", "F_mri"])
    wide.columns = [" ".join(name) for name in wide.columns]
    wide.reset_index().to_csv(tmp_path / "wide.csv", index=False)
    entry = '[[models]]\nmodel = "{0}"\ncolumns = {{ vCS_mri_um = "vCS_mri_um {0}", F_mri = "F_mri {0}" }}\n'
    models = "".join(entry.format(name) for name in ("diff-in-ex", "diff-in"))
    (tmp_path / "map.toml").write_text('[constants]\nstrategy = "whole"\n' + models)
    histomri(pairs, "-o", tmp_path / "a")
    done = histomri(tmp_path / "wide.csv", "-o", tmp_path / "b", "--columns", tmp_path / "map.toml")
    assert done.exit_code == 0, done.output
    one, other = (json.loads((tmp_path / name / "scores.json").read_text()) for name in "ab")
    votes = {"BIC_share": None}
    assert [row | votes for row in one["models"]] == [row | votes for row in other["models"]]
