"""Tables of cases: what is read, and what is refused with file, column and line."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import read_cases
from histomri.core.errors import InputError, UnitError

HEADER = "sample,group,model,strategy,vCS_mri_um,vCS_histo_um,F_mri,F_histo"
ROWS = (
    "01,a,diff-in,whole,20.5,21,0.5,0.55",
    "02,,diff-in,whole,22,NA,0.6,0.62",
    "03,b,diff-in,whole,18,17.5,0.4,0.41",
)


def write(path, *lines, encoding="utf-8"):
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def test_identifiers_stay_text_and_gaps_become_nan(tmp_path):
    table, notes = read_cases(write(tmp_path / "t.csv", HEADER, *ROWS))
    assert table["sample"].tolist() == ["01", "02", "03"]
    np.testing.assert_array_equal(table["vCS_histo_um"], [21, np.nan, 17.5])
    assert notes == []


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_byte_order_mark(tmp_path, separator):
    lines = [line.replace(",", separator) for line in (HEADER, *ROWS)]
    table, _ = read_cases(write(tmp_path / "t.csv", *lines, encoding="utf-8-sig"))
    assert len(table) == 3 and table["F_mri"].tolist() == [0.5, 0.6, 0.4]


def test_parquet(tmp_path):
    table, _ = read_cases(write(tmp_path / "t.csv", HEADER, *ROWS))
    table.assign(BIC_best=[True, False, True]).to_parquet(tmp_path / "t.parquet")
    again, _ = read_cases(tmp_path / "t.parquet")
    assert again["BIC_best"].tolist() == [1, 0, 1]
    pd.testing.assert_frame_equal(again.drop(columns="BIC_best"), table, check_dtype=False)


def test_other_columns_are_named_not_hidden(tmp_path):
    _, notes = read_cases(write(tmp_path / "t.csv", HEADER + ",age", *[row + ",9" for row in ROWS]))
    assert notes == ["t.csv: columns not used: age"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((HEADER, *ROWS, ROWS[0]), r"sample '01' comes twice for diff-in, whole \(lines 2 and 5\)"),
        ((HEADER, ROWS[0], ROWS[1].replace("22", "big")), r"column 'vCS_mri_um', line 3: 'big' is not a finite number"),
        ((HEADER, ROWS[0].replace("20.5", "inf")), r"line 2: 'inf' is not a finite number"),
        (
            (HEADER.replace("vCS_mri_um", "vCS_mri"), *ROWS),
            r"column 'vCS_mri_um' is missing \(is it 'vCS_mri'\?\).*--columns",
        ),
        (
            (HEADER + ",BIC_votes", *[row + ",1" for row in ROWS]),
            r"unknown column 'BIC_votes'; did you mean 'BIC_vote'",
        ),
        ((HEADER, ROWS[0].replace("whole", "all")), r"column 'strategy', line 2: 'all' is neither"),
        ((HEADER, ROWS[0].replace("01", " ")), r"column 'sample', line 2 is empty"),
        ((HEADER, *[row.rsplit(",", 1)[0] + ",0.5" for row in ROWS]), r"column 'F_histo' has the same value"),
        ((HEADER, ROWS[0].replace("0.55", "0")), r"column 'F_histo', line 2 is not positive"),
        ((HEADER, *[row.rsplit(",", 1)[0] + "," for row in ROWS]), r"column 'F_histo' has no value"),
        ((HEADER,), "no rows"),
        ((HEADER + ",F_mri", *ROWS), r"column 'F_mri' comes twice"),
        (
            (HEADER.replace(",", ";"), ROWS[0].replace(",", ";").replace("20.5", "20,5")),
            r"'20,5'.*decimals with a point",
        ),
    ],
)
def test_refused_with_file_column_and_line(tmp_path, lines, message):
    path = write(tmp_path / "t.csv", *lines)
    with pytest.raises(InputError, match=message) as caught:
        read_cases(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\xff\xfea\x00b", "is no text in UTF-8; save it as CSV in UTF-8"),
        ("gr\x81,b\n1,2".encode("latin-1"), "is no text in UTF-8"),
        (b"\n\n", "begins with an empty line"),
        (b"PK\x03\x04\x14\x00", "is a workbook, and a table is needed; save its sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is a workbook"),
        (
            b"sample|F_mri\na|0.5\n",
            "the first line, 'sample|F_mri', names a single column; .* commas, semicolons or tabs",
        ),
        (b"My table,,,\nsample,model,F_mri,F_histo\n", "columns have no name in the first line"),
        (b"sample,F_mri\na,0,5\n", "rows have more cells .* write decimals with a point"),
        (b"sample,F_mri\na,0.5\nb,0,5\n", r"cannot be read as a table \(Expected 2 fields in line 3, saw 3\)"),
        (b'sample,F_mri\n"a,0.5\n', "EOF inside string .* quotation marks"),
    ],
)
def test_no_table_at_all(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_cases(tmp_path / "t.csv")
    with pytest.raises(InputError, match="no such table"):
        read_cases(tmp_path / "nowhere.csv")


def test_a_column_map_reads_another_spreadsheet(tmp_path):
    path = write(tmp_path / "t.csv", "Mouse;L MRI;L HE;f;F", "a;20;21;.5;.6", "b;22;20;.6;.5")
    mapping = write(
        tmp_path / "map.toml", 'sample = "Mouse"', 'vCS_mri_um = "L MRI"', 'vCS_histo_um = "L HE"', 'F_mri = "f"',
        'F_histo = "F"', "[constants]", 'model = "diff-in"', 'strategy = "high-b"',
    )  # fmt: skip
    table, _ = read_cases(path, mapping)
    assert table["vCS_histo_um"].tolist() == [21, 20] and table["F_mri"].tolist() == [0.5, 0.6]
    assert table["strategy"].eq("high-b").all() and table["model"].eq("diff-in").all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sample = "Maus"', r"column 'Maus' is not in t.csv \(is it 'Mouse'\?\)"),
        ('vCS_um = "Mouse"', "unknown column 'vCS_um'"),
        ("sample = ", "not valid TOML"),
        ("sample = 3", "must be the name of a column"),
    ],
)
def test_a_wrong_column_map_names_itself(tmp_path, text, message):
    path = write(tmp_path / "t.csv", "Mouse;L", "a;20")
    mapping = write(tmp_path / "map.toml", text)
    with pytest.raises(InputError, match=message) as caught:
        read_cases(path, mapping)
    assert str(mapping) in str(caught.value)


def test_empty_rows_are_skipped_and_lines_still_counted(tmp_path):
    """As spreadsheets leave them below a table, or between its parts."""
    lines = (HEADER, ROWS[0], "", "," * 7, ROWS[1], " , " + "," * 6)
    table, _ = read_cases(write(tmp_path / "t.csv", *lines))
    assert table["sample"].tolist() == ["01", "02"] and table.index.tolist() == [0, 1]
    with pytest.raises(InputError, match=r"sample '01' comes twice for diff-in, whole \(lines 2 and 7\)"):
        read_cases(write(tmp_path / "t.csv", *lines, ROWS[0]))
    with pytest.raises(InputError, match="column 'model', line 7 is empty; fill it, or drop the row"):
        read_cases(write(tmp_path / "t.csv", *lines, "* measured twice"))


def test_a_single_sample_in_another_unit_is_found(tmp_path):
    """The median of its scanner says nothing of it."""
    with pytest.raises(UnitError, match=r"column 'vCS_mri_um', line 3: 0\.022 cannot be µm"):
        read_cases(write(tmp_path / "t.csv", HEADER, ROWS[0], ROWS[1].replace("22", "0.022"), ROWS[2]))
