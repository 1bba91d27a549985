"""What the statistics commands say and refuse: parts, numbers of cases, units, and files that no longer hold."""

import json

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import correlate_repeated


def content(folder, name):
    return json.loads((folder / name).read_text())


def test_correlate_names_the_part_of_each_result(histomri, pairs, tmp_path):
    options = ("--x", "Ki67", "--y", "F_mri", "--by", "group", "--model", "diff-in", "--method", "pearson")
    done = histomri("correlate", pairs, "-o", tmp_path / "o", *options)
    assert "diff-in, high-b, crc: Ki67 with F_mri" in done.stdout
    assert "diff-in, high-b, melanoma: Ki67 with F_mri" in done.stdout


def test_correlate_within_patients(histomri, table, tmp_path):
    options = ("--group-by", "patient", "--x", "Ki67", "--x", "F_mri", "--by", "scanner", "--model", "diff-in")
    path = tmp_path / "regions.csv"
    other = {name: table[name].to_numpy()[::-1] for name in ("Ki67", "F_mri")}
    both = pd.concat([table, table.assign(**other)])
    both.to_csv(path, index=False)
    assert "comes twice" in histomri("correlate", path, "-o", tmp_path / "o").stderr
    done = histomri("correlate", path, "-o", tmp_path / "o", *options)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "o" / "correlations_repeated.csv")
    part = both[(both["model"] == "diff-in") & (both["scanner"] == "3T")]
    truth = correlate_repeated(part, ["Ki67", "F_mri"], by="patient").iloc[0]
    row = found.query("scanner == '3T'").iloc[0]
    np.testing.assert_allclose(row[["r_within", "p"]].astype(float), truth[["r_within", "p"]].astype(float), rtol=1e-9)
    assert "diff-in, high-b, 3T: Ki67 with F_mri within each patient: r = " in done.stdout
    pd.concat([both, both.iloc[[3]]]).to_csv(path, index=False)
    done = histomri("correlate", path, "-o", tmp_path / "o", *options)
    assert done.exit_code == 2 and "line 98 repeats another line" in done.stderr


def test_results_of_an_earlier_run_do_not_stay_beside_new_ones(histomri, pairs, tmp_path):
    """Those it could have written are removed after success; what is not its own stays, and so does its input."""
    out = tmp_path / "o"
    assert histomri("correlate", pairs, "-o", out).exit_code == 0
    (out / "mine.csv").write_text("x")
    failed = histomri("correlate", pairs, "-o", out, "--x", "nothing")
    assert failed.exit_code == 2 and (out / "correlation_matrix.csv").exists()
    done = histomri("correlate", pairs, "-o", out, "--x", "F_mri", "--y", "Ki67")
    assert "removed correlation_matrix.csv of an earlier run" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["correlations.csv", "correlations.json", "mine.csv"]
    own = out / "correlations_repeated.csv"
    own.write_bytes(pairs.read_bytes())
    assert histomri("correlate", own, "-o", out).exit_code == 0 and own.exists()


def test_score_removes_what_no_longer_holds(histomri, pairs, table, tmp_path):
    out, one = tmp_path / "o", tmp_path / "one.csv"
    assert histomri("score", pairs, "-o", out, "--boot", 100).exit_code == 0
    assert (out / "model_comparisons.csv").exists() and (out / "scores_by_scanner.csv").exists()
    table[table["model"] == "diff-in"].assign(scanner="3T").to_csv(one, index=False)
    done = histomri("score", one, "-o", out, "--boot", 100)
    assert "removed model_comparisons.csv of" in done.stdout and "removed scores_by_scanner.csv of" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == [
        "scores.csv", "scores.json", "scores_influence.csv", "scores_within.csv",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["correlate", "regress", "compare", "harmonise", "agree"])
@pytest.mark.parametrize("value", [1e300, 1e-300])
def test_values_without_measure_are_refused(histomri, table, tmp_path, command, value):
    path = tmp_path / "t.csv"
    table.assign(K=1.0 if value > 1 else table["Ki67"] * value).assign(
        K=lambda t: t["K"].where(t.index != 3, value) if value > 1 else t["K"]
    ).to_csv(path, index=False)
    options = {"regress": ("--response", "K", "--predictor", "F_mri"), "agree": ("--first", "K", "--second", "F_mri")}
    done = histomri(command, path, "-o", tmp_path / "o", *options.get(command, ()))
    problem = "line 5: 1e+300 is too large to be a measurement" if value > 1 else "too small to be computed with"
    assert done.exit_code == 2 and "column 'K'" in done.stderr and problem in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ["regress", "compare", "agree", "power", "predict"])
def test_lines_tell_how_many_cases_and_how_many_are_missing(histomri, table, tmp_path, command):
    path = tmp_path / "t.csv"
    hole = ("Ki67", "F_mri", "D0I_mri_um2_ms")
    short = table[table["model"] == "diff-in"].copy()
    short.loc[short["sample"].isin(["03", "04", "05"]), list(hole)] = np.nan
    short.to_csv(path, index=False)
    options = {
        "predict": ("--target", "volume_mm3", "--basis", "printed", "--group-by", "sample"),
        "compare": ("--measure", "F_mri"),
    }
    done = histomri(command, path, "-o", tmp_path / "o", "--patient", "sample", *options.get(command, ()))
    assert done.exit_code == 0, done.output
    n, absent = (
        ("N = 7 and 14", 3) if command == "compare" else (f"N = 21{' in 21 groups' * (command == 'predict')}", 3)
    )
    assert f"{n} ({absent} left out, a value is missing)" in done.stdout


def test_harmonise_says_which_values_are_missing(histomri, table, tmp_path):
    path = tmp_path / "t.csv"
    table.assign(F_mri=table["F_mri"].where(table["sample"] > "02")).to_csv(path, index=False)
    done = histomri("harmonise", path, "-o", tmp_path / "o", "--model", "diff-in")
    assert "values missing, and left so: F_mri 3" in done.stdout


def test_results_tell_units(histomri, pairs, table, tmp_path):
    out = tmp_path / "o"
    assert "bias " in (done := histomri("agree", pairs, "-o", out)).stdout and " µm [" in done.stdout
    assert pd.read_csv(out / "agreement.csv", keep_default_na=False)["unit"].tolist() == ["um", "1"] * 2
    assert content(out, "agreement.json")["Units"]["vCS_mri_um"] == "um"
    assert histomri("agree", pairs, "-o", out, "--relative").exit_code == 0
    assert set(pd.read_csv(out / "bias_by_size.csv")["unit"]) == {"%"}
    assert " µm, Welch p = " in histomri("compare", pairs, "-o", out, "--patient", "sample").stdout
    compared = pd.read_csv(out / "comparisons.csv").set_index("column")["unit"]
    assert compared["vCS_mri_um"].iloc[0] == "um" and compared["D0I_mri_um2_ms"].iloc[0] == "um^2/ms"


def test_a_harmonised_table_keeps_its_units(histomri, pairs, tmp_path):
    entry = {"Ki67": {"Units": "%", "Description": "share of positive nuclei"}}
    pairs.with_suffix(".json").write_text(json.dumps({"Level": "sample", "Columns": entry}))
    assert histomri("harmonise", pairs, "-o", tmp_path / "o").exit_code == 0
    record = content(tmp_path / "o", "harmonised.json")
    assert record["Columns"]["Ki67"] == entry["Ki67"] and record["Level"] == "sample"
    assert record["Columns"]["vCS_mri_um"] == {"Units": "um", "Harmonised": True}
    record["Columns"]["vCS_mri_um"]["Units"] = "mm"
    (tmp_path / "o" / "harmonised.json").write_text(json.dumps(record))
    for command in ("correlate", "score"):
        done = histomri(command, tmp_path / "o" / "harmonised.csv", "-o", tmp_path / "p")
        assert done.exit_code == 2 and "'vCS_mri_um' of harmonised.csv is in 'mm'" in done.stderr


def test_predicting_a_metric_from_itself_is_said_and_has_no_p(histomri, pairs, tmp_path):
    options = ("--model", "diff-in", "--target", "vCS_mri_um", "--no-log10", "--folds", "12")
    done = histomri("predict", pairs, "-o", tmp_path / "o", *options)
    assert done.exit_code == 0 and "nan" not in done.stdout
    assert "r = 1.000, p undefined, r within folds undefined" in done.stdout
    assert "is it one of the metrics?" in done.stderr
    assert content(tmp_path / "o", "prediction.json")["p"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--folds", 1), "--folds: must be at least 2"),
        (("--folds", 25), "12 groups of cases cannot be split into 25 folds"),
        (("--boot", 100_000_000), "--boot: must be at most 100000"),
    ],
)
def test_numbers_that_predict_cannot_use(histomri, pairs, tmp_path, options, message):
    chosen = ("--target", "volume_mm3", "--model", "diff-in", "--basis", "printed")
    done = histomri("predict", pairs, "-o", tmp_path / "o", *chosen, *options)
    assert done.exit_code == 2 and message in done.stderr, done.output


def test_score_bounds_its_resamples(histomri, pairs, tmp_path):
    done = histomri("score", pairs, "-o", tmp_path / "o", "--boot", 100_000_000)
    assert done.exit_code == 2 and "--boot: must be at most 100000" in done.stderr


def test_separators_of_thousands_are_told_apart_from_decimal_commas(histomri, table, tmp_path):
    path = tmp_path / "t.csv"
    table["vCS_mri_um"] = table["vCS_mri_um"].map(lambda value: f"{1000 * value:,.3f}")
    table.to_csv(path, index=False)
    done = histomri("correlate", path, "-o", tmp_path / "o")
    assert done.exit_code == 2 and "without separators of thousands" in done.stderr


def test_voxel_indices_that_are_not_whole_are_refused(histomri, tmp_path, rng):
    path = tmp_path / "v.csv"
    index = np.argwhere(np.ones((7, 9), dtype=bool))
    place = {"i": index[:, 0] + 0.5, "j": index[:, 1], "k": 3}
    values = {"vCS_histo_um": 20 + rng.normal(size=63), "vCS_mri_um": 20 + rng.normal(size=63)}
    pd.DataFrame({"sample": "a", "model": "diff-in", "strategy": "whole", **place, **values}).to_csv(path, index=False)
    done = histomri("correlate", path, "-o", tmp_path / "o")
    assert done.exit_code == 2 and "column 'i', line 2: 0.5 is not the index of a voxel" in done.stderr
