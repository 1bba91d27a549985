"""Names that a spreadsheet would run are written as text, and read back as they were."""

import csv

import pandas as pd
import pytest

from histomri.analysis import ScoreOptions
from histomri.core.formulas import as_plain_text, with_names, without_formulas
from histomri.core.tables import read_table
from histomri.pairing import PairedTable
from histomri.registration.carry import write_table
from histomri.simulation.write import write_csv
from histomri.study.steps import score

NAMES = ["=1+1", "+A1", "-A1", "@SUM(A1:A9)", "\tx", "a=b", "-", "-3", "+2.5e-3", "", None, "'=x"]


def runs(cell):
    """What spreadsheets take for a formula: text that begins so and is no number."""
    number = cell.lstrip("+-").replace(".", "").replace("e-", "").isdigit()
    return cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not number


def test_no_cell_of_text_begins_a_formula(tmp_path):
    table = pd.DataFrame({"name": NAMES, "kind": pd.Categorical(NAMES), "value": range(len(NAMES)), "=A1": -1.5})
    plain = without_formulas(table)
    plain.to_csv(tmp_path / "a.csv", index=False)
    with (tmp_path / "a.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert [cell for cell in cells if runs(cell) and cell != "-"] == []
    assert list(plain.columns) == ["name", "kind", "value", "'=A1"]
    assert plain["value"].tolist() == list(range(len(NAMES))) and plain["'=A1"].eq(-1.5).all()
    assert list(table["name"])[:10] == NAMES[:10]  # the table itself stays


def test_what_was_written_is_read_back(tmp_path):
    names = [name for name in NAMES if name and not name.startswith(("'", "\t"))]
    table = pd.DataFrame({"name": names, "@x": names, "value": range(len(names))})
    without_formulas(table).to_csv(tmp_path / "a.csv", index=False)
    read = read_table(tmp_path / "a.csv")
    assert read.names == ["name", "@x", "value"]
    assert list(read.text("name")) == list(read.text("@x")) == names
    again = with_names(pd.read_csv(tmp_path / "a.csv", dtype=str, keep_default_na=False))
    assert list(again["name"]) == names


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "@model", "-x"])
def test_scores_and_pairs_of_a_model_with_such_a_name(tmp_path, name, data):
    rows = [
        {"sample": f"s{k}", "model": model, "strategy": "whole", "n_voxels": 50, "vCS_mri_um": 10 + k + shift * (k % 3),
         "F_mri": 0.4 + k / 50, "vCS_histo_um": 10.0 + k, "F_histo": 0.4 + k / 40}
        for k in range(8) for model, shift in ((name, 0.3), ("diff-in", 0.6))
    ]  # fmt: skip
    table = PairedTable(pd.DataFrame(rows), "sample")
    table.save(tmp_path / "pairs.csv")
    assert set(PairedTable.load(tmp_path / "pairs.csv").data["model"]) == {name, "diff-in"}
    score.run(ScoreOptions(table=tmp_path / "pairs.csv"), tmp_path / "out")
    for path in (tmp_path / "pairs.csv", *(tmp_path / "out").glob("*.csv")):
        with path.open(newline="") as file:
            cells = {cell for row in csv.reader(file) for cell in row}
        assert name not in cells, path.name
        assert path.name != "pairs.csv" or as_plain_text(name) in cells


@pytest.mark.parametrize("write", [write_table, write_csv])
def test_tables_of_points_and_of_simulations(tmp_path, write):
    write(tmp_path / "a.csv", pd.DataFrame({"label": ["=1+1", "tumour"], "x_mm": [-1.5, 2.0]}))
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["label", "x_mm"],
            ["'=1+1", "-1.5"],
            ["tumour", "2.0" if write is write_table else "2"],
        ]
