"""Tables as people keep them: units below the header, summaries below the rows, and names spelt in several ways."""

import pandas as pd
import pytest

from histomri.analysis import correlate_table, read_cases
from histomri.analysis.measurements import MeasurementTable, read_measurements
from histomri.core.errors import InputError, InputErrors, UnitError

HEADER = "sample,group,scanner,model,strategy,vCS_mri_um,vCS_histo_um,F_mri,F_histo"
ROWS = [f"s{k},{'ab'[k % 2]},3T,m,whole,{20 + k},{21 - k % 3},0.{40 + k},0.{50 + k % 4}" for k in range(8)]


@pytest.fixture
def cases(tmp_path):
    def read(*lines):
        path = tmp_path / "t.csv"
        path.write_text("\n".join(lines), encoding="utf-8")
        return read_cases(path)[0]

    return read


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("s1,", "S0,", r"column 'sample' has names that differ only in case.*'s0' \(line 2\) and 'S0' \(line 3\)"),
        ("s1,", "s 0,", "'s0' .* and 's 0'"),
        ("s1,", "s00,", "'s0' .* and 's00'"),
        ("s1,", "s0.0,", r"'s0' .* and 's0\.0'"),
        ("s1,b", "s1,B", r"column 'group' .*'b' \(line 5\)"),
        ("3T,m,whole,21", "3 t,m,whole,21", r"column 'scanner' .*'3T' \(line 2\) and '3 t' \(line 3\)"),
        ("3T,m,whole,21", "3.0T,m,whole,21", r"'3T' \(line 2\) and '3\.0T'"),
        ("s1,b", "s1,#REF!", "column 'group', line 3: '#REF!' is no name; a formula has failed"),
        ("s1,b", "s1,#N/A", "column 'group', line 3: '#N/A' is no name"),
    ],
)
def test_names_that_would_split_or_join_what_is_one(cases, old, new, message):
    rows = [row.replace(old, new, 1) for row in ROWS]
    assert rows != ROWS
    with pytest.raises(InputError, match=message):
        cases(HEADER, *rows)


@pytest.mark.parametrize(
    "names", [("10", "100"), ("1.5T", "15T"), ("a1", "a10"), ("N", "T"), ("1.0.1", "1.1"), ("0", "00A")]
)
def test_names_that_differ_in_more_are_left_alone(cases, names):
    rows = [ROWS[0].replace("s0", names[0]), ROWS[1].replace("s1", names[1]), *ROWS[2:]]
    assert cases(HEADER, *rows)["sample"].tolist()[:2] == list(names)


@pytest.mark.parametrize(
    "name", ["Mean", "mean:", "SD", "Std. dev.", "AVERAGE", "mean ± SD", "Mean (SD)", "n = 8", "median"]
)
def test_summaries_are_no_samples(cases, name):
    below = f"{name},,3T,m,whole,22,20,0.45,0.51"
    with pytest.raises(InputError, match=r"rows that look like summaries and no samples: '.*' \(line 10\); delete"):
        cases(HEADER, *ROWS, below)
    with pytest.raises(InputError, match=r"line 10\), 'N' \(line 11\)"):
        cases(HEADER, *ROWS, below, "N,,3T,m,whole,8,8,0.8,0.7")


def test_summaries_of_tables_without_samples(tmp_path):
    table = pd.DataFrame({"mouse": ["m1", "m2", "m3", "m4", "Mean"], "x": [1, 2, 3, 5, 2.75], "y": [2, 1, 4, 6, 3.25]})
    with pytest.raises(InputError, match="column 'mouse' has rows that look like summaries"):
        correlate_table(table)
    assert correlate_table(table[:-1]).tables["correlations.csv"]["n"].eq(4).all()


def test_a_row_of_units_is_left_out_and_must_agree(cases, tmp_path):
    units = ",,,,,µm,(um),-,1"
    read = cases(HEADER, units, *ROWS)
    assert len(read) == 8
    table = read_measurements(tmp_path / "t.csv")
    assert table.notes == ("t.csv: line 2 holds units, and was left out",) and table.frame.index[0] == 1
    with pytest.raises(UnitError, match="line 2 gives column 'vCS_histo_um' in 'mm', and its name says 'um'"):
        cases(HEADER, units.replace("(um)", "mm"), *ROWS)
    with pytest.raises(InputErrors, match="line 2: 'x' is not a finite number"):
        cases(HEADER, units.replace("(um)", "x"), *ROWS)
    mapping = tmp_path / "map.toml"
    mapping.write_text('vCS_mri_um = "size"')
    (tmp_path / "t.csv").write_text("sample,size,y\n,mm,\na,20,1\nb,21,2\nc,22,3\n")
    with pytest.raises(UnitError, match="column 'vCS_mri_um' in 'mm'"):
        read_measurements(tmp_path / "t.csv", mapping).numbers(["vCS_mri_um"])


def test_all_mistakes_of_a_table_are_one_message(cases):
    rows = [*ROWS, "Mean,,,,,24,20,#DIV/0!,x"]
    rows[3] = rows[3].replace("23", "n.d.").replace("s3", "s2")
    with pytest.raises(InputErrors) as caught:
        cases(HEADER, *rows)
    text = str(caught.value)
    assert "t.csv: 8 mistakes:" in text and text.count("\n") == 8
    for part in (
        "summaries and no samples: 'Mean' (line 10)",
        "column 'model', line 10 is empty",
        "sample 's2' comes twice for m, whole (lines 4 and 5)",
        "column 'vCS_mri_um', line 5: 'n.d.' is not a finite number; leave the cell empty if the value is missing, or",
        "column 'F_mri', line 10: '#DIV/0!'",
        "column 'F_histo', line 10: 'x'",
    ):
        assert part in text, text


def test_cells_named_as_missing(tmp_path):
    path = tmp_path / "t.csv"
    lines = [HEADER.replace("group", "Ki67"), *ROWS]
    lines[2], lines[4], lines[5] = (
        lines[k].replace(",20,0.", f",{word},0.") for k, word in ((2, "n.d."), (4, "N.D."), (5, "<LOD"))
    )
    path.write_text("\n".join(lines).replace(",a,", ",1,").replace(",b,", ",2,"))
    table = read_measurements(path, missing=("n.d.", "<LOD"))
    expected = [text.split(",")[6] for text in lines[1:]]
    numbers = table.number("vCS_histo_um")
    assert numbers.isna().tolist() == [not text.isdigit() for text in expected] and numbers.isna().sum() >= 2
    assert table.notes == (
        f"t.csv: cells read as missing, as --missing says: {numbers.isna().sum()} of 'vCS_histo_um'",
    )
    frame = pd.DataFrame({"sample": list("abcd"), "x": ["1", "2", "?", "4"], "y": [1.0, 3.0, 2.0, 5.0]})
    found = correlate_table(frame, missing=["?"])
    assert found.tables["correlations.csv"]["n"].eq(3).all()


def test_many_wrong_cells_are_counted():
    table = MeasurementTable.of(pd.DataFrame({"sample": range(60), "x": ["bad"] * 60, "y": range(60)}))
    with pytest.raises(
        InputErrors, match=r"line 6: 'bad'.*\n.*'x': 55 more cells are no finite numbers \(lines 7, 8, .*\.\.\)"
    ):
        table.numbers(["x", "y"])


def test_rows_without_a_label_are_not_dropped_unseen():
    from histomri.analysis import correlate_repeated, correlate_voxels

    frame = pd.DataFrame({"sample": ["a", "a", None, "b"], "x": [1.0, 2, 3, 4], "y": [2.0, 1, 4, 3]})
    with pytest.raises(InputError, match="column 'sample' is empty in 1 of 4 rows"):
        correlate_repeated(frame, ["x"], ["y"], by="sample")
    with pytest.raises(InputError, match="column 'sample' is empty in 1 of 4 rows"):
        correlate_voxels(frame.assign(i=range(4), j=0, k=0), ["x"], ["y"])
