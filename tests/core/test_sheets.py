"""Workbooks as spreadsheet programs leave them: hidden rows, merged cells, formulas without a value, failed cells."""

import pandas as pd
import pytest

from histomri.core.errors import InputError, InputErrors
from histomri.core.sheets import cell_name
from histomri.core.tables import read_table

FRAME = pd.DataFrame({"sample": list("abcdef"), "F_mri": [0.5, 0.6, 0.7, 0.4, 0.5, 0.6], "n": [1, 2, 3, 4, 5, 6]})


@pytest.fixture
def changed(tmp_path):
    """Write a workbook, after a change to its sheet."""
    openpyxl = pytest.importorskip("openpyxl")

    def write(change):
        path = tmp_path / "t.xlsx"
        FRAME.to_excel(path, index=False)
        book = openpyxl.load_workbook(path)
        change(book.active)
        book.save(path)
        return path

    return write


def fill(cells):
    def change(sheet):
        for place, value in cells.items():
            sheet[place] = value

    return change


def test_failed_cells_are_mistakes_and_na_is_missing(changed):
    table = read_table(changed(fill({"B2": "#N/A", "B4": "#DIV/0!", "B7": "#REF!"})))
    with pytest.raises(InputErrors) as caught:
        table.number("F_mri")
    first, second = str(caught.value).split("\n")[1:]
    assert first.startswith("  column 'F_mri', line 4: '#DIV/0!' is not a finite number; a formula has failed there")
    assert second.startswith("  column 'F_mri', line 7: '#REF!'")
    table = read_table(changed(fill({"B2": "#N/A"})))
    assert table.number("F_mri").tolist()[1:] == FRAME["F_mri"].tolist()[1:] and table.number("F_mri").isna()[0]


def test_a_formula_without_its_value_is_no_missing_value(changed):
    """openpyxl writes formulas and calculates nothing, as do many scripts."""
    table = read_table(changed(fill({"B3": "=C3/10", "C5": "=SUM(C2:C4)"})))
    with pytest.raises(
        InputError, match=r"'F_mri', line 3: '=C3/10' is not .*; the value of the formula is not stored"
    ):
        table.number("F_mri")
    with pytest.raises(InputError, match="column 'n', line 5"):
        table.number("n")


def test_formulas_with_values_are_read_as_values(changed, monkeypatch):
    """The same file once a program that calculates has saved it: numbers, and a text that is empty."""
    import zipfile

    path = changed(fill({"B3": "=C3/10", "B4": '=IF(C4>2,"",1)'}))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    sheet = sheet.replace(b"<f>C3/10</f><v></v>", b"<f>C3/10</f><v>0.2</v>").replace(
        b"<f>C3/10</f><v />", b"<f>C3/10</f><v>0.2</v>"
    )
    sheet = sheet.replace(b'<c r="B4"', b'<c r="B4" t="str"')
    parts["xl/worksheets/sheet1.xml"] = sheet
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    numbers = read_table(path).number("F_mri")
    assert numbers[1] == 0.2 and numbers.isna().tolist() == [False, False, True, False, False, False]


def test_merged_cells_are_not_missing(changed):
    table = read_table(changed(lambda sheet: (sheet.merge_cells("B3:B5"), sheet.merge_cells("E1:E4"))))
    with pytest.raises(InputErrors, match=r"line 4: '\(merged with B3\)' is not a finite number; unmerge the cells"):
        table.number("F_mri")
    assert table.number("n").tolist() == [1, 2, 3, 4, 5, 6]

    def titled(sheet):
        sheet.insert_rows(1)
        sheet["A1"] = "Our study"
        sheet.merge_cells("A1:C1")

    with pytest.raises(InputError, match="line 1 has merged cells; name every column once"):
        read_table(changed(titled))


def test_hidden_rows_are_read_and_named(changed):
    def hide(sheet):
        sheet.row_dimensions[3].hidden = sheet.row_dimensions[6].hidden = sheet.row_dimensions[40].hidden = True
        sheet.auto_filter.ref = "A1:C7"

    table = read_table(changed(hide))
    assert len(table) == 6
    assert table.notes == (
        "t.xlsx: 2 rows are hidden, perhaps by its filter, and were read like all others (lines 3, 6);"
        " delete what does not count",
    )


def test_names_of_cells():
    assert [cell_name(2, place) for place in (0, 25, 26, 701, 702)] == ["A3", "Z3", "AA3", "ZZ3", "AAA3"]
