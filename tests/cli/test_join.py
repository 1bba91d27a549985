"""`histomri join`: tables of samples become one, and what cannot be joined is named."""

import json

import pandas as pd
import pytest

from histomri.pairing import PairedTable


def pairs(sample, level="sample", **more):
    """A table as `pair` makes it."""
    case = {"sample": sample, "group": "a", "scanner": "3T", "model": "diff-in", "strategy": "whole"}
    place = {"i": 1, "j": 2, "k": 0, "x_mm": 0.1, "y_mm": 0.2, "z_mm": 0.0} if level == "voxel" else {}
    values = {"vCS_mri_um": 20.0, "vCS_histo_um": 18.0, "F_mri": 0.5, "F_histo": 0.6}
    counts = pd.DataFrame([{**case, "n_fitted": 7, "n_failed": 1}])
    return PairedTable(pd.DataFrame([{**case, **place, **values, **more}]), level, counts, {"mri_slice": {sample: 3}})


@pytest.mark.parametrize("level", ["sample", "voxel"])
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.parquet"])
def test_tables_under_each_other_with_counts_settings_and_units(run, tmp_path, level, name):
    paths = [pairs(sample, level, **more).save(tmp_path / f"{sample}.csv")[0]
             for sample, more in (("01", {}), ("b", {"volume_mm3": 5.0}))]  # fmt: skip
    done = run("join", *paths, "-o", tmp_path / name)
    assert done.exit_code == 0, done.output
    assert f"2 tables joined: 2 samples, 2 rows, a row per {level}" in done.stdout
    whole = PairedTable.load(tmp_path / name)
    assert whole.level == level and whole.data["sample"].tolist() == ["01", "b"]
    assert whole.data["volume_mm3"].isna().tolist() == [True, False]
    assert whole.counts["n_failed"].tolist() == [1, 1] and whole.parameters["mri_slice"] == {"01": 3, "b": 3}
    record = json.loads((tmp_path / "pairs.json").read_text())
    assert record["Columns"]["volume_mm3"]["Units"] == "mm^3" and record["Sources"] == ["01.csv", "b.csv"]


def test_what_cannot_be_joined_is_named(run, tmp_path):
    one, voxels = pairs("a").save(tmp_path / "one.csv")[0], pairs("b", "voxel").save(tmp_path / "voxels.csv")[0]
    again, other = pairs("a").save(tmp_path / "again.csv")[0], tmp_path / "other.csv"
    other.write_text("sample,age\na,3\n")
    for tables, message in (
        ((one,), "give at least two tables"),
        ((one, voxels), f"{one} has a row per sample; {voxels} has a row per voxel"),
        ((one, again), f"sample a comes twice for diff-in, whole ({one} and {again})"),
        ((one, other), "is not a table of pairs"),
        ((one, tmp_path / "none.csv"), "no such table"),
    ):
        done = run("join", *tables, "-o", tmp_path / "out.csv")
        assert done.exit_code == 2 and message in done.stderr, done.output
        assert not (tmp_path / "out.csv").exists()
    done = run("join", one, voxels, "-o", one)
    assert done.exit_code == 2 and "is an input" in done.stderr
