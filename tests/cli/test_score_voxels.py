"""`histomri score` of a table with a row per voxel: checked as any other, and averaged over complete voxels."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

PAIRED = ["vCS_mri_um", "F_mri", "vCS_histo_um", "F_histo"]


@pytest.fixture
def histomri(run):
    return partial(run, "score")


@pytest.fixture
def voxels(rng):
    """Six samples of 5 x 4 voxels, fitted with two models."""
    parts = []
    for sample in range(6):
        i, j = (axis.ravel() for axis in np.mgrid[:5, :4])
        size, fraction = rng.uniform(14, 28) + rng.normal(size=20), rng.uniform(0.4, 0.7) + 0.02 * rng.normal(size=20)
        for noise, model in enumerate(("diff-in", "diff-in-ex"), start=1):
            part = {"sample": f"{sample:02d}", "group": "NA", "scanner": "3T", "model": model, "strategy": "whole"}
            part |= {"i": i, "j": j, "k": 2, "vCS_mri_um": size + noise * rng.normal(size=20)}
            part |= {"F_mri": fraction + 0.03 * noise * rng.normal(size=20), "vCS_histo_um": size, "F_histo": fraction}
            part |= {"CD_mri_mm3": 1e5 * rng.uniform(0.5, 2, 20), "BIC": rng.normal(size=20), "at_bound": False}
            parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def models(folder):
    return json.loads((folder / "scores.json").read_text())["models"]


def tcs(table):
    means = table.groupby("sample")[PAIRED].mean()
    return sum(means[f"{q}_mri{u}"].corr(means[f"{q}_histo{u}"]) for q, u in (("vCS", "_um"), ("F", "")))


def test_means_of_complete_voxels(histomri, voxels, tmp_path, rng):
    """A voxel that lacks one value counts in none of the means; a sample without voxels is missing, and told."""
    holes = rng.random((len(voxels), 4)) < 0.05
    voxels[PAIRED] = voxels[PAIRED].mask(holes)
    voxels.loc[voxels["sample"] == "03", "vCS_histo_um"] = np.nan
    voxels.to_csv(tmp_path / "v.csv", index=False)
    done = histomri(tmp_path / "v.csv", "-o", tmp_path / "o")
    assert done.exit_code == 0, done.output
    complete = voxels.dropna(subset=PAIRED)
    for row in models(tmp_path / "o"):
        mine = complete[complete["model"] == row["model"]]
        assert row["TCS"] == pytest.approx(tcs(mine), rel=1e-12) and (row["n"], row["n_missing"]) == (5, 1)
    lost = len(voxels) - len(complete)
    assert f"{lost} of {len(voxels)} rows of voxels left out because a value is missing" in done.stdout
    assert "1 of 6 cases left out because a value is missing: 03" in done.stderr


@pytest.mark.parametrize("left_out", [["group", "scanner"], ["at_bound"], ["BIC", "CD_mri_mm3"]])
def test_what_is_not_scored_may_be_absent(histomri, voxels, tmp_path, left_out):
    for name, table in (("a", voxels), ("b", voxels.drop(columns=left_out))):
        table.to_csv(tmp_path / f"{name}.csv", index=False)
        done = histomri(tmp_path / f"{name}.csv", "-o", tmp_path / name)
        assert done.exit_code == 0, done.output
    kept = ("model", "n", "TCS", "TCS_ci", "HFC_mean", "p_best")
    one, other = ([[row[key] for key in kept] for row in models(tmp_path / name)] for name in "ab")
    assert one == other


def test_any_form_of_file_says_the_same(histomri, voxels, tmp_path):
    voxels.to_csv(tmp_path / "a.csv", index=False)
    voxels.to_csv(tmp_path / "b.csv", index=False, sep=";", decimal=",")
    voxels.to_parquet(tmp_path / "c.parquet", index=False)
    shuffled = voxels[voxels.columns[::-1]].sample(frac=1, random_state=1)
    shuffled.to_csv(tmp_path / "d.csv", index=False, encoding="utf-8-sig")
    voxels.rename(columns={"F_mri": "my f", "sample": "Mouse"}).drop(columns="strategy").to_csv(tmp_path / "e.csv")
    (tmp_path / "map.toml").write_text('F_mri = "my f"\nsample = "Mouse"\n[constants]\nstrategy = "whole"\n')
    found = []
    for name in ("a.csv", "b.csv", "c.parquet", "d.csv", "e.csv"):
        options = ("--columns", tmp_path / "map.toml") if name == "e.csv" else ()
        done = histomri(tmp_path / name, "-o", tmp_path / name[0], *options)
        assert done.exit_code == 0, done.output
        found.append([(row["model"], row["TCS"], row["BIC_share"]) for row in models(tmp_path / name[0])])
    for other in found[1:]:
        for one, two in zip(found[0], other):
            assert one[0] == two[0] and one[1:] == pytest.approx(two[1:], rel=1e-12)  # summed in another order


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (7, "vCS_mri_um", "bad", "column 'vCS_mri_um', line 9: 'bad' is not a finite number"),
        (3, "F_mri", np.inf, "column 'F_mri', line 5: 'inf' is not a finite number"),
        (3, "i", 1_000_000_000, "column 'i', line 5: 1e+09 is not the index of a voxel; voxels are counted from 0"),
        (3, "j", 0.5, "column 'j', line 5: 0.5 is not the index of a voxel"),
        (3, "k", -1, "column 'k', line 5: -1 is not the index of a voxel"),
        (4, "i", 0, "line 6: voxel 0, 0, 2 of sample '00' comes twice for diff-in, whole"),
        (9, "group", "C", "sample '00' has two values of 'group': NA (line 2) and C (line 11)"),
        (9, "scanner", "", "sample '00' has two values of 'scanner': 3T (line 2) and (empty) (line 11)"),
        (9, "sample", " ", "column 'sample', line 11 is empty"),
        (9, "strategy", "all", "column 'strategy', line 11: 'all' is neither"),
        (slice(None), "vCS_mri_um", 0.02, "column 'vCS_mri_um' should be µm, and its median for scanner '3T' is 0.02"),
        (slice(None), "vCS_histo_um", 20.0, "column 'vCS_histo_um' has the same value in every row"),
    ],
)
def test_refused_with_column_and_line(histomri, voxels, tmp_path, row, column, value, message):
    voxels = voxels.astype({column: object})
    voxels.loc[row, column] = value
    voxels.to_csv(tmp_path / "v.csv", index=False)
    done = histomri(tmp_path / "v.csv", "-o", tmp_path / "o")
    assert done.exit_code == 2 and message in done.stderr, done.output
    assert not (tmp_path / "o").exists()


def test_a_misnamed_column(histomri, voxels, tmp_path):
    voxels.rename(columns={"F_mri": "f_MRI"}).to_csv(tmp_path / "v.csv", index=False)
    done = histomri(tmp_path / "v.csv", "-o", tmp_path / "o")
    assert done.exit_code == 2 and "column 'F_mri' is missing (is it 'f_MRI'?)" in done.stderr


def test_labels_are_those_of_the_table_not_of_an_older_sidecar(histomri, voxels, tmp_path):
    """And a case that was counted when it was written, but left no voxel, is still a missing one."""
    cases = voxels[["sample", "group", "scanner", "model", "strategy"]].drop_duplicates()
    gone = pd.DataFrame({"sample": ["09"], "group": "NA", "scanner": "3T", "model": "diff-in", "strategy": "whole"})
    counts = pd.concat([cases[cases["sample"] != "05"], gone]).assign(n_fitted=20).to_dict("records")
    (tmp_path / "v.json").write_text(json.dumps({"Level": "voxel", "Counts": counts}))
    voxels["scanner"] = np.where(voxels["sample"] < "03", "1.5T", "3T")
    voxels.to_csv(tmp_path / "v.csv", index=False)
    done = histomri(tmp_path / "v.csv", "-o", tmp_path / "o")
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "o" / "scores.json").read_text())
    assert {name: rows[0]["n"] for name, rows in content["scanners"].items()} == {"1.5T": 3, "3T": 3}
    assert [(row["n"], row["n_missing"]) for row in content["models"]] == [(6, 1), (6, 1)]
