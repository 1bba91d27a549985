"""`histomri correlate, regress, compare, predict, harmonise, agree, power` from a table to CSV and JSON."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import (
    bland_altman,
    combat,
    cross_validated_prediction,
    detectable_correlation,
)
from histomri.analysis import regress as regress_table

ON_SAMPLES = ("correlate", "regress", "compare", "harmonise", "agree")


def content(folder, name):
    return json.loads((folder / name).read_text())


def test_correlate_samples(histomri, pairs, table, tmp_path):
    done = histomri("correlate", pairs, "-o", tmp_path / "out", "--patient", "sample")
    assert done.exit_code == 0, done.output
    names = ["correlation_matrix.csv", "correlations.csv", "correlations.json"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    found = pd.read_csv(tmp_path / "out" / "correlations.csv")
    assert len(found) == 2 * 2 * 10  # models, kinds, pairs of five measurements
    row = found.query("model == 'diff-in-ex' and x == 'vCS_histo_um' and y == 'vCS_mri_um' and kind == 'pearson'").iloc[
        0
    ]
    mine = table[table["model"] == "diff-in-ex"]
    truth = stats.pearsonr(mine["vCS_histo_um"], mine["vCS_mri_um"])
    np.testing.assert_allclose([row["r"], row["p"]], [truth.statistic, truth.pvalue], rtol=1e-9)
    assert "diff-in, high-b: vCS_histo_um with vCS_mri_um: pearson r = 0.9" in done.stdout
    matrix = pd.read_csv(tmp_path / "out" / "correlation_matrix.csv")
    assert set(matrix["value"]) == {"r", "p", "q", "n"} and len(matrix) == 2 * 2 * 4 * 5
    record = content(tmp_path / "out", "correlations.json")
    assert len(record["correlations"]) == len(found) and record["Sources"] == ["pairs.csv"]


def test_correlate_chosen_columns_by_scanner(histomri, pairs, table, tmp_path):
    options = ("--x", "Ki67", "--y", "F_mri", "--y", "F_histo", "--by", "scanner", "--model", "diff-in")
    done = histomri("correlate", pairs, "-o", tmp_path / "o", *options, "--method", "spearman", "--adjust", "holm")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "o" / "correlations.csv")
    assert found["scanner"].tolist() == ["1.5T", "1.5T", "3T", "3T"] and set(found["kind"]) == {"spearman"}
    assert not (tmp_path / "o" / "correlation_matrix.csv").exists()


def test_correlate_voxels(histomri, tmp_path, rng):
    parts = []
    for sample in "abc":
        index = np.argwhere(np.ones((7, 9), dtype=bool))
        x = rng.normal(size=63)
        place = {"i": index[:, 0], "j": index[:, 1], "k": 3}
        place |= {"x_mm": 0.4 * index[:, 0], "y_mm": 0.4 * index[:, 1], "z_mm": 0.0}
        values = {"vCS_histo_um": 20 + x, "vCS_mri_um": 20 + x + rng.normal(size=63)}
        parts.append(pd.DataFrame({"sample": sample, "model": "diff-in", "strategy": "whole", **place, **values}))
    path = tmp_path / "voxels.csv"
    pd.concat(parts).to_csv(path, index=False)
    done = histomri("correlate", path, "-o", tmp_path / "o")
    assert done.exit_code == 0, done.output
    pooled = pd.read_csv(tmp_path / "o" / "correlations_pooled.csv")
    each = pd.read_csv(tmp_path / "o" / "correlations_voxel.csv")
    assert pooled.loc[0, "n_samples"] == 3 and pooled.loc[0, "n"] == 189 and pooled.loc[0, "p"] < 1e-6
    assert each["sample"].tolist() == [*"abc", *"abc"]
    line = next(line for line in done.stdout.splitlines() if "vCS_histo_um with vCS_mri_um within" in line)
    assert "within samples: mean r = 0." in line and line.count("p = ") == 1
    edge = each.loc[each["kind"] == "pearson", "r_edge"]
    p = stats.ttest_1samp(np.arctanh(edge), 0.0).pvalue
    assert f"beyond the edge mean r = {np.tanh(np.arctanh(edge).mean()):.3f}, p = {p:.2g} (" in line


def test_correlate_warns_of_maps_that_share_an_edge_only(histomri, data, tmp_path):
    """The table of tests/data/statistics: p 0.006 with the rim, 0.28 without, by another program."""
    done = histomri("correlate", data / "statistics" / "spatial_give_rim.csv", "-o", tmp_path / "o")
    assert done.exit_code == 0, done.output
    assert (
        "vCS_histo_um with vCS_mri_um: p < 0.05 within samples includes what maps share along the edge" in done.stderr
    )
    assert "beyond the edge r = 0.110, p = 0.28" in done.stdout


def test_words_that_stand_for_missing_values(histomri, table, tmp_path):
    """Several may follow one --missing, up to the next option or file."""
    mine = table[table["model"] == "diff-in"].astype({"Ki67": object, "F_mri": object})
    mine.iloc[0, mine.columns.get_loc("Ki67")], mine.iloc[1, mine.columns.get_loc("Ki67")] = "n.d.", "<LOD"
    path = tmp_path / "t.csv"
    mine.to_csv(path, index=False)
    chosen = ("--x", "Ki67", "--y", "F_mri", "--method", "pearson")
    for words in (["--missing", "n.d.", "<LOD", path], [path, "--missing", "<LOD", "n.d."]):
        done = histomri("correlate", *words, "-o", tmp_path / "o", *chosen)
        assert done.exit_code == 0, done.output
        assert "t.csv: cells read as missing, as --missing says: 2 of 'Ki67'" in done.stderr
    assert pd.read_csv(tmp_path / "o" / "correlations.csv")["n"].tolist() == [len(mine) - 2]
    done = histomri("correlate", path, "-o", tmp_path / "o", *chosen)
    assert done.exit_code == 2 and done.stderr.count("is not a finite number") == 2


def test_regress(histomri, pairs, table, tmp_path):
    done = histomri("regress", pairs, "-o", tmp_path / "o", "--model", "diff-in")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "o" / "regression.csv")
    truth = regress_table(table[table["model"] == "diff-in"]).coefficients
    np.testing.assert_allclose(found[["beta", "p_hc3", "VIF"]], truth[["beta", "p_hc3", "VIF"]], rtol=1e-9)
    chosen = ("--response", "Ki67", "--predictor", "F_mri", "--predictor", "vCS_mri_um")
    assert histomri("regress", pairs, "-o", tmp_path / "own", *chosen).exit_code == 0
    assert set(pd.read_csv(tmp_path / "own" / "regression_models.csv")["model"]) == {"diff-in", "diff-in-ex"}
    assert (
        "a model needs a --response and at least one --predictor"
        in histomri("regress", pairs, "-o", tmp_path, "--response", "F_mri").stderr
    )


def test_compare(histomri, pairs, table, tmp_path):
    options = ("--measure", "F_mri", "--measure", "Ki67", "--patient", "sample")
    done = histomri("compare", pairs, "-o", tmp_path / "o", *options)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "o" / "comparisons.csv")
    assert found["column"].tolist() == ["F_mri", "Ki67"] * 2
    mine = table[table["model"] == "diff-in"]
    a, b = (mine.loc[mine["group"] == name, "F_mri"] for name in ("crc", "melanoma"))
    assert found.loc[0, "p_welch"] == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)
    assert found.loc[0, "hedges_g_low"] < found.loc[0, "hedges_g"] < found.loc[0, "hedges_g_high"]


def test_compare_says_when_the_scanner_is_the_group(histomri, table, tmp_path):
    path = tmp_path / "t.csv"
    table.assign(group=np.where(table["scanner"] == "3T", "b", "a")).to_csv(path, index=False)
    done = histomri("compare", path, "-o", tmp_path / "o", "--model", "diff-in", "--quiet")
    assert done.exit_code == 0 and "scanner and group are confounded" in done.stderr and done.stdout == ""


def test_predict(histomri, pairs, table, tmp_path):
    options = ("--target", "volume_mm3", "--model", "diff-in", "--group-by", "patient", "--folds", "4")
    done = histomri("predict", pairs, "-o", tmp_path / "o", *options, "--basis", "printed", "--seed", "3")
    assert done.exit_code == 0, done.output
    mine = table[table["model"] == "diff-in"]
    truth = cross_validated_prediction(
        mine["D0I_mri_um2_ms"],
        mine["vCS_mri_um"],
        np.log10(mine["volume_mm3"]),
        basis="printed",
        folds=4,
        groups=mine["patient"],
        seed=3,
    )
    record = content(tmp_path / "o", "prediction.json")
    assert record["r"] == pytest.approx(truth.r, rel=1e-9) and record["n_groups"] == 12
    assert record["r_ci"] == pytest.approx(truth.ci, rel=1e-9)
    cases = pd.read_csv(tmp_path / "o" / "predictions.csv", dtype={"sample": str})
    np.testing.assert_allclose(cases["predicted"], truth.predicted, rtol=1e-9)
    assert list(cases.columns) == [
        "sample", "patient", "D0I_mri_um2_ms", "vCS_mri_um", "log10(volume_mm3)", "predicted", "fold",
    ]  # fmt: skip
    assert cases.groupby("patient")["fold"].nunique().max() == 1
    assert {"D0I_mri_um2_ms", "vCS_mri_um"} < set(pd.read_csv(tmp_path / "o" / "prediction_surface.csv").columns)


def test_predict_needs_one_model_and_positive_volumes(histomri, pairs, table, tmp_path):
    done = histomri("predict", pairs, "-o", tmp_path / "o", "--target", "volume_mm3")
    assert done.exit_code == 2 and "choose with --model and --strategy" in done.stderr
    path = tmp_path / "t.csv"
    table.assign(volume_mm3=table["volume_mm3"].where(table.index != 5, -1.0)).to_csv(path, index=False)
    done = histomri("predict", path, "-o", tmp_path / "o", "--target", "volume_mm3", "--model", "diff-in")
    assert done.exit_code == 2 and "column 'volume_mm3': volume -1 of case 6" in done.stderr
    assert not (tmp_path / "o").exists()


def test_harmonise(histomri, pairs, table, tmp_path):
    options = ("--reference", "3T", "--covariate", "group", "--model", "diff-in")
    done = histomri("harmonise", pairs, "-o", tmp_path / "o", *options)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "o" / "harmonised.csv", dtype={"sample": str})
    mine = table[table["model"] == "diff-in"]
    metrics = ["vCS_mri_um", "F_mri", "D0I_mri_um2_ms"]
    truth = combat(mine[metrics], mine["scanner"], covariates=mine[["group"]], reference="3T").values
    np.testing.assert_allclose(found[metrics], truth, rtol=1e-9)
    np.testing.assert_allclose(found["vCS_histo_um"], mine["vCS_histo_um"])
    assert found["sample"].tolist() == mine["sample"].tolist()
    assert histomri("correlate", tmp_path / "o" / "harmonised.csv", "-o", tmp_path / "again").exit_code == 0


def test_harmonise_warns_of_a_forgotten_group(histomri, table, tmp_path):
    path = tmp_path / "t.csv"
    group = np.where((table["scanner"] == "3T") & (table["sample"] != "01"), "b", "a")
    table.assign(group=group).to_csv(path, index=False)
    done = histomri("harmonise", path, "-o", tmp_path / "o", "--model", "diff-in")
    assert done.exit_code == 0 and "group are confounded" in done.stderr
    assert done.stderr.rstrip().endswith("removes what differs between groups; keep it with --covariate group")
    again = histomri("harmonise", path, "-o", tmp_path / "o2", "--model", "diff-in", "--covariate", "group")
    assert again.exit_code == 0, again.output


def test_harmonise_gives_no_advice_that_is_then_refused(histomri, table, tmp_path):
    path = tmp_path / "t.csv"
    table.assign(group=np.where(table["scanner"] == "3T", "b", "a")).to_csv(path, index=False)
    refused = histomri("harmonise", path, "-o", tmp_path / "o", "--covariate", "group")
    assert refused.exit_code == 2 and f"{path}: diff-in, high-b: batch and covariates" in refused.stderr
    done = histomri("harmonise", path, "-o", tmp_path / "o")
    assert done.exit_code == 0 and "--covariate" not in done.stderr
    assert done.stderr.count("no covariate can keep it; do not harmonise, and compare groups within one scanner") == 1
    table["group"] = np.where(table["sample"] == "03", "", np.where(table["scanner"] == "3T", "b", "a"))
    table.to_csv(path, index=False)
    done = histomri("harmonise", path, "-o", tmp_path / "o")
    assert "fill the column 'group' in all rows, and give --covariate group" in done.stderr


def test_agree(histomri, pairs, table, tmp_path):
    done = histomri("agree", pairs, "-o", tmp_path / "o", "--relative", "--model", "diff-in")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "o" / "agreement.csv")
    mine = table[table["model"] == "diff-in"]
    truth = bland_altman(mine["vCS_mri_um"], mine["vCS_histo_um"], relative=True)
    np.testing.assert_allclose(found.loc[0, ["bias", "lower"]].astype(float), [truth.bias, truth.lower], rtol=1e-9)
    sizes = pd.read_csv(tmp_path / "o" / "bias_by_size.csv")
    assert sizes["n"].tolist() == [8, 8, 8] * 2 and sizes["second"].tolist() == ["vCS_histo_um"] * 3 + ["F_histo"] * 3
    assert "needs two columns" in histomri("agree", pairs, "-o", tmp_path, "--first", "F_mri").stderr


def test_power(histomri, pairs, tmp_path):
    done = histomri("power", pairs, "-o", tmp_path / "o", "--r", 0.4, "--n", 25, "--patient", "sample")
    assert done.exit_code == 0, done.output
    present = pd.read_csv(tmp_path / "o" / "power_n.csv")
    assert present["n"].tolist() == [24, 25]
    assert present.loc[1, "detectable_r"] == pytest.approx(detectable_correlation(25), rel=1e-9)
    assert pd.read_csv(tmp_path / "o" / "power_r.csv")["n"].tolist() == [46]
    assert "nothing to plan" in histomri("power", "-o", tmp_path / "p").stderr
    assert histomri("power", "-o", tmp_path / "p", "--n", 2).exit_code == 2
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("command", ON_SAMPLES)
def test_a_column_map_reads_another_spreadsheet(histomri, table, tmp_path, command):
    theirs = {"sample": "Case", "vCS_mri_um": "L MRI", "vCS_histo_um": "L HE"}
    path, mapping = tmp_path / "t.csv", tmp_path / "map.toml"
    table[table["model"] == "diff-in"].rename(columns=theirs).to_csv(path, index=False, sep=";")
    mapping.write_text("".join(f'{ours} = "{name}"\n' for ours, name in theirs.items()))
    done = histomri(command, path, "-o", tmp_path / "o", "--columns", mapping)
    assert done.exit_code == 0, done.output
    assert "vCS_mri_um" in done.stdout or command == "harmonise"
    mapping.write_text('vCS_mri_um = "L MR"\n')
    done = histomri(command, path, "-o", tmp_path / "o2", "--columns", mapping)
    assert done.exit_code == 2 and "column 'L MR' is not in t.csv (is it 'L MRI'?)" in done.stderr


@pytest.mark.parametrize("command", ON_SAMPLES)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: pd.concat([t, t.iloc[[3]]]), "sample '03' comes twice for diff-in, high-b (lines 5 and 50)"),
        (lambda t: t.assign(vCS_mri_um=t["vCS_mri_um"].astype(object).where(t.index != 30, "big")), "line 32: 'big'"),
        (lambda t: t.assign(vCS_mri_um=np.nan), "column 'vCS_mri_um' has no value at all"),
        (lambda t: t.head(0), "has a header and no rows"),
        (lambda t: t.assign(i=1, j=2, k=3, sample="01"), "has a row per voxel"),
    ],
    ids=["duplicate", "text", "empty", "no rows", "voxels"],
)
def test_bad_tables(histomri, table, tmp_path, command, change, message):
    if command == "correlate" and "voxel" in message:
        message = "a voxel comes twice"
    path = tmp_path / "t.csv"
    change(table).to_csv(path, index=False)
    options = ("--measure", "vCS_mri_um", "--measure", "F_mri") if command in ("compare", "harmonise") else ()
    options = ("--x", "vCS_mri_um", "--y", "F_histo") if command == "correlate" else options
    done = histomri(command, path, "-o", tmp_path / "o", *options)
    assert done.exit_code == 2 and message in done.stderr, done.output
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("correlate", "--x", "Ki76"), "column 'Ki76' is missing (is it 'Ki67'?)"),
        (("correlate", "--model", "diff"), "no row has model 'diff'; there is diff-in, diff-in-ex"),
        (("correlate", "--by", "site"), "column 'site' is missing"),
        (("correlate", "--y", "Ki67"), "--y needs at least one --x"),
        (("compare", "--by", "tumour"), "column 'tumour' is missing"),
        (("regress", "--response", "F_mri", "--predictor", "Ki76"), "column 'Ki76' is missing"),
        (("harmonise", "--batch", "site"), "column 'site' is missing"),
        (("harmonise", "--covariate", "F_mri"), "is batch or covariate"),
        (("agree", "--first", "F_mri", "--second", "K"), "column 'K' is missing"),
    ],
)
def test_wrong_options(histomri, pairs, tmp_path, arguments, message):
    command, *options = arguments
    done = histomri(command, pairs, "-o", tmp_path / "o", *options)
    assert done.exit_code == 2 and message in done.stderr, done.output
    assert not (tmp_path / "o").exists()


def first_two(table):
    return table["F_mri"].where(table["sample"] < "02")


def without(label, value, name="F_mri"):
    return lambda table: table[name].where(table[label] != value)


@pytest.mark.parametrize(
    ("arguments", "change", "problem", "hint"),
    [
        (("compare",), {"group": "a"}, "there is only 'a'", "--by"),
        (("compare",), {"group": ""}, "there is none", "--by"),
        (("compare", "--measure", "Ki67"), {"Ki67": without("group", "crc", "Ki67")}, "group 'crc' has no", "drop"),
        (("regress",), {"F_mri": 0.5}, "column 'F_mri' is constant", "--predictor"),
        (("regress",), {"F_mri": first_two}, "2 complete cases", "5 are needed"),
        (("agree",), {"F_mri": first_two}, "F_mri and F_histo: 2 pairs", "3 are"),
        (("harmonise",), {"scanner": "3T"}, "only one batch, '3T'", "--batch"),
        (("harmonise",), {"F_mri": 0.5}, "'F_mri' does not vary", "--measure"),
        (("harmonise",), {"F_mri": without("scanner", "3T")}, "has 0 values of 'F_mri'", "--measure"),
    ],
)
def test_an_error_of_a_model_names_file_place_and_hint(histomri, table, tmp_path, arguments, change, problem, hint):
    path = tmp_path / "t.csv"
    table.assign(**change).to_csv(path, index=False)
    done = histomri(arguments[0], path, "-o", tmp_path / "o", *arguments[1:])
    assert done.exit_code == 2 and done.stderr.startswith(f"error: {path}: diff-in, high-b"), done.output
    assert problem in done.stderr and hint in done.stderr.split(";")[-1]
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("command", ON_SAMPLES)
def test_decimal_commas_are_told_and_never_read_as_text(histomri, table, tmp_path, command):
    path = tmp_path / "t.csv"
    table.to_csv(path, index=False, decimal=",")
    done = histomri(command, path, "-o", tmp_path / "o")
    assert done.exit_code == 2 and "line 2: '" in done.stderr and "write decimals with a point" in done.stderr


@pytest.mark.parametrize("command", ON_SAMPLES)
def test_a_table_of_a_european_spreadsheet_says_the_same(histomri, table, tmp_path, command):
    for name, options in (("a.csv", {}), ("b.csv", {"sep": ";", "decimal": ","})):
        table.to_csv(tmp_path / name, index=False, **options)
        done = histomri(command, tmp_path / name, "-o", tmp_path / name[0])
        assert done.exit_code == 0, done.output
    for path in (tmp_path / "a").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("command", ["correlate", "compare", "harmonise"])
def test_a_misspelt_measurement_is_told(histomri, table, tmp_path, command):
    path = tmp_path / "t.csv"
    table.rename(columns={"vCS_mri_um": "vCS_MRI"}).to_csv(path, index=False)
    done = histomri(command, path, "-o", tmp_path / "o")
    assert done.exit_code == 0 and "'vCS_MRI' is not used; did you mean 'vCS_mri_um'?" in done.stderr


def test_undefined_is_said_and_never_shown_as_strongest(histomri, table, tmp_path):
    path = tmp_path / "t.csv"
    table.assign(F_mri=0.5, Ki67=table["Ki67"].where(table["sample"] < "02")).to_csv(path, index=False)
    options = ("--x", "F_mri", "--x", "Ki67", "--x", "vCS_mri_um", "--model", "diff-in")
    done = histomri("correlate", path, "-o", tmp_path / "o", *options)
    assert done.exit_code == 0 and "nan" not in done.stdout.lower()
    assert "F_mri with Ki67: 2 pairs are too few" in done.stderr and "F_mri with vCS_mri_um: one side" in done.stderr
    record = content(tmp_path / "o", "correlations.json")
    assert [row["r"] for row in record["correlations"]] == [None] * 6


def test_correlate_says_how_many_cases_are_missing(histomri, table, tmp_path):
    path = tmp_path / "holes.csv"
    table.assign(F_mri=table["F_mri"].where(table["sample"] >= "05")).to_csv(path, index=False)
    done = histomri("correlate", path, "-o", tmp_path / "out", "--x", "F_mri", "--x", "F_histo", "--x", "vCS_histo_um")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "out" / "correlations.csv")
    short = found[found["n_missing"] > 0]
    assert set(short["n_missing"]) == {5}
    text = f"{len(short)} of {len(found)} correlations leave out 5 cases because a value is missing"
    assert f"{text} (column n_missing): F_mri" in done.stderr


def test_two_samples_have_no_strongest_correlation(histomri, table, tmp_path):
    path = tmp_path / "two.csv"
    table[table["sample"].isin(sorted(table["sample"].unique())[:2])].to_csv(path, index=False)
    done = histomri("correlate", path, "-o", tmp_path / "out", "--x", "F_mri", "--x", "F_histo")
    assert done.exit_code == 0, done.output
    assert "no correlations can be computed" in done.stdout and "strongest" not in done.stdout
