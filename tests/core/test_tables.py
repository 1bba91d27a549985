"""The one reader of tables: encodings, separators, decimals, workbooks, and errors that name file, column and line."""

import sys

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.core.tables import read_table, suggestion

LINES = ("sample;scanner;F_mri;n;note", "01;1.5;0,5;7;fine, so far", "02;3;,25;-1,5e2;", "03;3;NA;8;see 2,5")


@pytest.fixture
def frame():
    return pd.DataFrame(
        {"sample": ["01", "02", "03"], "F_mri": [0.1 + 0.2, np.nan, 0.5], "n": [7, 8, 9], "note": ["x", None, "y, z"]}
    )


def write(path, *lines, encoding="utf-8"):
    path.write_text("\n".join(lines), encoding=encoding)
    return path


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("first", [False, True])
def test_decimal_commas_throughout_are_read(tmp_path, separator, first):
    lines = [line.replace(";", separator) for line in LINES]
    table = read_table(write(tmp_path / "t.csv", *([f"sep={separator}"] if first else []), *lines))
    np.testing.assert_array_equal(table.number("F_mri"), [0.5, 0.25, np.nan])
    np.testing.assert_array_equal(table.number("n"), [7, -150, 8])
    assert table.text("scanner").tolist() == ["1.5", "3", "3"]  # a name, no number
    assert table.text("note").tolist() == ["fine, so far", "", "see 2,5"]
    with pytest.raises(InputError, match=f"column 'note', line {3 if first else 2}: 'fine, so far' is not a finite"):
        table.number("note")


@pytest.mark.parametrize("cell", ["0.5", "1.234,5", "1,234.5", "1.234"])
def test_commas_and_points_together_are_refused(tmp_path, cell):
    """1,234 would be another number in either way of writing."""
    path = write(tmp_path / "t.csv", *LINES, f"04;3;0,5;{cell};")
    with pytest.raises(InputError, match=r"commas, as in '0,5' \(column 'F_mri', line 2\), and points, as in .*line 5"):
        read_table(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(tmp_path, encoding):
    table = read_table(write(tmp_path / "t.csv", "sample,größe_µm", "Süd,1.5", encoding=encoding))
    assert table.text("sample").tolist() == ["Süd"] and table.number("größe_µm").tolist() == [1.5]
    assert bool(table.notes) == (encoding == "cp1252")


def test_what_is_no_text_is_refused(tmp_path):
    for content in (b"\xff\xfea\x00", b"a\0b\0,\0c\n", b"a,b\n\x81,1"):
        (tmp_path / "t.csv").write_bytes(content)
        with pytest.raises(InputError, match=r"t\.csv: (is no text in UTF-8|the first line)"):
            read_table(tmp_path / "t.csv")


def test_comments_are_left_out_and_lines_keep_their_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "# made by hand", "x, y", "1, 2", "# 3, 4", "", "5, six")
    table = read_table(path, comment="#")
    assert table.names == ["x", "y"] and table.number("x").tolist() == [1, 5]
    with pytest.raises(InputError, match="line 6: 'six'"):
        table.number("y")


def test_a_workbook_says_what_its_csv_says(tmp_path, frame):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    frame.to_excel(path, index=False)
    table = read_table(path)
    assert table.text("sample").tolist() == ["01", "02", "03"] and table.text("note").tolist() == ["x", "", "y, z"]
    # pandas rounds the last digit of a text of 17
    np.testing.assert_allclose(table.numbers(["F_mri", "n"]), frame[["F_mri", "n"]], rtol=1e-15)
    assert table.notes == () and "rows: 3" in repr(table)
    with pytest.raises(InputError, match="column 'note', line 2: 'x' is not a finite number"):
        table.number("note")


def test_the_first_sheet_is_read_and_blank_rows_are_left_out(tmp_path, frame):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    gap = pd.concat([frame.head(1), pd.DataFrame([{}]), frame.tail(1)])
    with pd.ExcelWriter(path) as book:
        gap.to_excel(book, sheet_name="cases", index=False)
        frame.to_excel(book, sheet_name="notes")
    table = read_table(path)
    assert table.text("sample").tolist() == ["01", "03"] and table.frame.index.tolist() == [0, 2]
    assert table.notes == ("t.xlsx has 2 sheets, of which the first, 'cases', was read",)


def test_workbooks_that_cannot_be_read(tmp_path, frame):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    pd.DataFrame().to_excel(path, index=False)
    with pytest.raises(InputError, match="its first sheet, 'Sheet1', is empty"):
        read_table(path)
    frame.set_axis(["a", "b", "c", "b"], axis=1).to_excel(path, index=False)
    with pytest.raises(InputError, match="column 'b' comes twice"):
        read_table(path)
    frame.to_excel(path, index=False)
    book = openpyxl.load_workbook(path)
    book.active["B3"] = "#DIV/0!"
    book.active.cell(1_048_576, 16_384, 1)
    book.save(path)
    with pytest.raises(InputError, match=r"line 1048576 has a cell in a column without a name \('1'\)"):
        read_table(path)
    book.active.delete_rows(1_048_576)
    book.save(path)
    with pytest.raises(InputError, match="column 'F_mri', line 3: '#DIV/0!' is not a finite number"):
        read_table(path).number("F_mri")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read as a workbook"):
        read_table(path)


def test_without_openpyxl_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04abc")
    with pytest.raises(InputError, match=r"openpyxl is not there to read it; pip install 'histomri\[excel\]'"):
        read_table(tmp_path / "t.xlsx")


def test_a_missing_column_is_named_with_its_closest(tmp_path):
    table = read_table(write(tmp_path / "t.csv", "a,vcs_mri_um", "1,2"))
    with pytest.raises(InputError, match=r"column 'vCS_mri_um' is missing \(is it 'vcs_mri_um'\?\)"):
        table.require("a", "vCS_mri_um")
    assert suggestion("nothing", table.names) == ""
