"""Files of tables: workbooks, and decimals of European spreadsheets."""

import sys

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import read_sheet
from histomri.core.errors import InputError

LINES = ("sample;scanner;F_mri;n;note", "01;1.5;0,5;7;fine, so far", "02;3;,25;-1,5e2;", "03;3;NA;8;see 2,5")


@pytest.fixture
def table():
    return pd.DataFrame(
        {"sample": ["01", "02", "03"], "F_mri": [0.1 + 0.2, np.nan, 0.5], "n": [7, 8, 9], "note": ["x", None, "y, z"]}
    )


def write(path, *lines):
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_throughout_are_read(tmp_path, separator):
    path = write(tmp_path / "t.csv", *[line.replace(";", separator) for line in LINES])
    sheet = read_sheet(path)
    np.testing.assert_array_equal(sheet.numbers(["F_mri"])["F_mri"], [0.5, 0.25, np.nan])
    np.testing.assert_array_equal(sheet.numbers(["n"])["n"], [7, -150, 8])
    assert sheet.text("scanner").tolist() == ["1.5", "3", "3"]  # a name, no number
    assert sheet.text("note").tolist() == ["fine, so far", "", "see 2,5"]


@pytest.mark.parametrize("cell", ["0.5", "1.234,5", "1,234.5", "1.234"])
def test_commas_and_points_together_are_refused(tmp_path, cell):
    """1,234 would be another number in either way of writing."""
    path = write(tmp_path / "t.csv", *LINES, f"04;3;0,5;{cell};")
    with pytest.raises(InputError, match=r"commas, as in '0,5' \(column 'F_mri', line 2\), and points, as in .*line 5"):
        read_sheet(path)


def test_a_workbook_says_what_its_csv_says(tmp_path, table):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    table.to_excel(path, index=False)
    sheet = read_sheet(path)
    assert sheet.text("sample").tolist() == ["01", "02", "03"] and sheet.text("note").tolist() == ["x", "", "y, z"]
    # pandas rounds the last digit of a text of 17
    np.testing.assert_allclose(sheet.numbers(["F_mri", "n"]), table[["F_mri", "n"]], rtol=1e-15)
    assert sheet.doubts(sheet.numbers(["n"])) == []
    with pytest.raises(InputError, match="column 'note', line 2: 'x' is not a finite number"):
        sheet.numbers(["note"])


def test_the_first_sheet_is_read_and_blank_rows_are_left_out(tmp_path, table):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    gap = pd.concat([table.head(1), pd.DataFrame([{}]), table.tail(1)])
    with pd.ExcelWriter(path) as book:
        gap.to_excel(book, sheet_name="cases", index=False)
        table.to_excel(book, sheet_name="notes")
    sheet = read_sheet(path)
    assert sheet.text("sample").tolist() == ["01", "03"] and sheet.raw.index.tolist() == [0, 2]
    (told,) = sheet.doubts(sheet.numbers(["n"]))
    assert told == "t.xlsx has 2 sheets, of which the first, 'cases', was read"


def test_workbooks_that_cannot_be_read(tmp_path, table, monkeypatch):
    pytest.importorskip("openpyxl")
    path = tmp_path / "t.xlsx"
    pd.DataFrame().to_excel(path, index=False)
    with pytest.raises(InputError, match="its first sheet, 'Sheet1', is empty"):
        read_sheet(path)
    table.set_axis(["a", "b", "c", "b"], axis=1).to_excel(path, index=False)
    with pytest.raises(InputError, match="column 'b' comes twice"):
        read_sheet(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="cannot be read as a workbook"):
        read_sheet(path)


def test_without_openpyxl_the_way_out_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04abc")
    with pytest.raises(InputError, match=r"openpyxl is not there to read it; pip install 'histomri\[excel\]'"):
        read_sheet(tmp_path / "t.xlsx")
