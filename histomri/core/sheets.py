"""What a spreadsheet program shows of a sheet and its cells do not say: hidden rows, merged cells, formulas."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROW = re.compile(rb"<(?:\w+:)?row\b([^>]*)>")
_MERGED = re.compile(rb"<(?:\w+:)?mergeCell\b[^>]*\bref=[\"']([A-Z]+)(\d+):([A-Z]+)(\d+)[\"']")
_FORMULA = re.compile(
    rb"<(?:\w+:)?c\b([^>]*)>\s*<(?:\w+:)?f\b(?:[^>]*/>|[^>]*>([^<]*)</(?:\w+:)?f>)\s*"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>"
)
_FILTER = re.compile(rb"<(?:\w+:)?autoFilter\b")


@dataclass(frozen=True)
class SheetMarks:
    """Rows and columns are counted from 0."""

    hidden: Sequence[int] = ()  # rows
    filtered: bool = False  # whether the sheet has a filter
    merged: Sequence[tuple[int, int, int, int]] = ()  # first and last row, first and last column
    # Cells with a formula whose result is not stored: as a program leaves them that does not calculate.
    formulas: Sequence[tuple[int, int, str]] = ()  # row, column, formula

    def fill(self, rows: dict[int, list[str]]) -> None:
        """Put what an empty cell hides into rows of cells, so that it is not taken for a missing value."""
        for row, column, formula in self.formulas:
            _put(rows, row, column, f"={formula}")
        for top, bottom, left, right in self.merged:
            for row in (row for row in rows if top <= row <= bottom):
                for column in range(left, min(right + 1, len(rows[row]))):
                    if (row, column) != (top, left):
                        _put(rows, row, column, f"{MERGED}{cell_name(top, left)})")


MERGED = "(merged with "  # the text of a cell that another one covers begins so


def read_marks(path: Path, sheet: str) -> SheetMarks:
    """Read the marks of a sheet of a workbook, by the name of its file within the archive."""
    with zipfile.ZipFile(path) as archive:
        if sheet not in archive.namelist():
            return SheetMarks()
        content = archive.read(sheet)
    hidden = [row for row in _ROW.findall(content) if re.search(rb"\bhidden=[\"'](?:1|true)[\"']", row)]
    lines = [re.search(rb"\br=[\"'](\d+)[\"']", row) for row in hidden]
    merged = [(int(a) - 1, int(b) - 1, _column(left), _column(right)) for left, a, right, b in _MERGED.findall(content)]
    formulas = []
    for attributes, formula in _FORMULA.findall(content):
        place = re.search(rb"\br=[\"']([A-Z]+)(\d+)[\"']", attributes)
        if place is not None and not re.search(rb"\bt=[\"']str[\"']", attributes):  # a text that is empty is a result
            formulas.append((int(place[2]) - 1, _column(place[1]), formula.decode("utf-8", "replace").strip()))
    shown = [int(line[1]) - 1 for line in lines if line is not None]
    return SheetMarks(shown, bool(_FILTER.search(content)), merged, formulas)


def cell_name(row: int, column: int) -> str:
    """Return what spreadsheets call a cell: ``cell_name(2, 1)`` is ``"B3"``."""
    letters, column = "", column + 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return f"{letters}{row + 1}"


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number - 1


def _put(rows: dict[int, list[str]], row: int, column: int, text: str) -> None:
    """Fill a cell if it is there and empty."""
    if row in rows and column < len(rows[row]) and not rows[row][column]:
        rows[row][column] = text
