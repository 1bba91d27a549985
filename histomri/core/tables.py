"""Tables that people bring: CSV, Parquet and workbooks, read cell by cell, so that errors name column and line.

The one reader of such tables; a CSV may have commas, semicolons or tabs, decimal commas (with semicolons or tabs), a
first line ``sep=;``, and be in UTF-8, UTF-16 or Windows-1252 (Latin-1).
"""

import codecs
import csv
import difflib
import io
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from histomri.core.array_files import read_parquet
from histomri.core.budget import require_memory
from histomri.core.columns import LABELS, check_sidecar
from histomri.core.display import Displayed
from histomri.core.door import check_zip, reading, require_file
from histomri.core.errors import InputError, raise_together
from histomri.core.formulas import with_names
from histomri.core.sheets import MERGED, SheetMarks, read_marks

# The index of a frame counts the rows of its file from 0; where a row of the file gives several, copy k starts here.
BLOCK = 1 << 32
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none", "-"}
_FAILED = {"#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!", "#spill!", "#calc!", "#getting_data"}
_SHOWN, _LISTED = 5, 30  # cells of a column that are shown, and lines of others
_TRUTH = {"true": 1.0, "false": 0.0}
_EMPTY = "leave the cell empty if the value is missing"
_ONCE = "name every column once, in the first line"
SHEETS = (".xlsx", ".xlsm")
_NO_TABLE = "cannot be read as a table ({})"
_ZIPPED, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"  # .xlsx and .ods, .xls
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
_POINT = r"[+-]?[\d,]*\.[\d,]+(?:[eE][+-]?\d+)?"


@dataclass(frozen=True, repr=False)
class Table(Displayed):
    """A table as it was written, every cell as text, except columns of numbers in Parquet."""

    path: Path  # where it came from, for messages
    # The index counts the rows of the file from 0, also after rows were selected; `line_of` turns it into lines.
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()  # what the reader left out or assumed
    hint_of_text: ClassVar[str] = _EMPTY  # where a number should be
    mistakes: tuple[InputError, ...] = ()  # found so far, to be raised with those of the cells

    def facts(self) -> Mapping[str, Any]:
        """Return file, number of rows, and columns."""
        return {"file": self.path.name, "rows": len(self), "columns": ", ".join(self.names)}

    def __len__(self) -> int:
        return len(self.frame)

    def __contains__(self, name: str) -> bool:
        return name in self.frame

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [str(name) for name in self.frame.columns]

    def require(self, *names: str) -> None:
        """Raise an InputError for the first column that is missing, with the closest name there is."""
        for name in names:
            if name not in self.frame:
                problem = f"column '{name}' is missing{suggestion(name, self.names)}"
                raise InputError(problem, path=self.path, hint=f"the table has {', '.join(self.names)}")

    def number(self, name: str) -> pd.Series:
        """Return a column as numbers, NaN where missing; a cell that is no finite number is an error with its line."""
        self.require(name)
        return read_number(self.frame, name, self.path)

    def numbers(self, names: Sequence[str]) -> pd.DataFrame:
        """Return columns as numbers, as `number` does; all their wrong cells, and `mistakes`, are one error."""
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            self.require(name)
        cells = (error for name in wanted for error in wrong_cells(self.frame, name, self.path, self.hint_of_text))
        raise_together([*self.mistakes, *cells], self.path)
        return pd.DataFrame({name: self.number(name) for name in wanted}, index=self.frame.index)

    def text(self, name: str, *, complete: bool = False) -> pd.Series:
        """Return a column as text without blanks around it; with `complete`, an empty cell is an error."""
        self.require(name)
        values = as_text(self.frame[name])
        if complete:
            lines = [line_at(place) for place in values.index[values == ""]]
            hint, found = "fill it, or drop the row", []
            for line in lines[:_SHOWN]:
                found.append(InputError(f"column '{name}', line {line} is empty", path=self.path, hint=hint))
            if rest := lines[_SHOWN:]:
                problem = f"column '{name}' is empty in {len(rest)} more lines ({_listed(rest)})"
                found.append(InputError(problem, path=self.path, hint=hint))
            raise_together(found, self.path)
        return values

    def rows(self, kept: pd.Series) -> Self:
        """Return the table with some of its rows."""
        return replace(self, frame=self.frame[kept])


def read_table(path: str | Path, *, numeric: Collection[str] = (), comment: str | None = None) -> Table:
    """Read a table: CSV (comma, semicolon or tab), Parquet, or the first sheet of an Excel workbook (.xlsx).

    `numeric` names columns of numbers in a CSV of voxels (i, j, k), which may be large: they are read as such if every
    cell is one. Lines that begin with `comment` are left out, and rows without anything in them. It is an InputError if
    columns have no name or the same, and a UnitError if the sidecar gives a column another unit than its name.
    """
    path = require_file(path, "table")
    frame, notes = _parse(path, numeric, comment)
    check_sidecar(path, frame.columns)
    return Table(path, frame, notes)


def read_number(frame: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Return a column as numbers, NaN where missing; cells that are no finite numbers are an error with their lines."""
    raise_together(wrong_cells(frame, name, path), path)
    return _parsed(frame[name])[0]


def wrong_cells(frame: pd.DataFrame, name: str, path: Path, hint: str = _EMPTY) -> list[InputError]:
    """Return an error for each cell of a column that is no finite number, the first few by themselves.

    `hint` is for text in which no number can be recognised.
    """
    numbers, missing = _parsed(frame[name])
    wrong = (numbers.isna() & ~missing) | np.isinf(numbers)
    if not wrong.any():
        return []
    cells = as_text(frame[name][wrong])
    found = []
    for place, cell in cells.iloc[:_SHOWN].items():
        problem = f"column '{name}', line {line_at(place)}: '{cell}' is not a finite number"
        found.append(InputError(problem, path=path, hint=hint_for(cell) or _hint_of_number(cell) or hint))
    if rest := [line_at(place) for place in cells.index[_SHOWN:]]:
        problem = f"column '{name}': {len(rest)} more cells are no finite numbers (lines {_listed(rest)})"
        found.append(InputError(problem, path=path))
    return found


def _listed(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:_LISTED])) + (", .." if len(lines) > _LISTED else "")


def hint_for(cell: str) -> str | None:
    """Return what to do about a cell that a spreadsheet program has left without its value; None if it has one."""
    if cell.lower() in _FAILED:
        return "a formula has failed there: correct it, or empty the cell"
    if cell.startswith("="):
        return "the value of the formula is not stored: open the file in a spreadsheet program, and save it"
    return "unmerge the cells, and fill in each" if cell.startswith(MERGED) else None


def _hint_of_number(cell: str) -> str:
    if "," in cell and "." in cell:
        return "write numbers without separators of thousands, and decimals with a point"
    return "write decimals with a point" if "," in cell else ""


def fraction_of_numbers(column: pd.Series) -> float:
    """Return the fraction of the filled cells of a column that are numbers, 0 if none is filled."""
    numbers, missing = _parsed(column)
    return float(numbers[~missing].notna().mean()) if not missing.all() else 0.0


def as_text(column: pd.Series) -> pd.Series:
    """Return a column as text without blanks around it, empty where missing."""
    if pd.api.types.is_numeric_dtype(column):
        column = column.astype(object).where(column.notna(), "")
    return column.astype(str).str.strip()


def line_of(rows: pd.Series) -> int:
    """Return the line of the file of the first row that is true."""
    return line_at(rows.index[rows.to_numpy()][0])


def line_at(position: int) -> int:
    """Return the line of the file of a row of the index."""
    return int(position) % BLOCK + 2  # the header is line 1


def suggestion(name: str, known: Iterable[Any]) -> str:
    """Return the closest of the known names as a question in brackets, empty if none is close."""
    names = {str(item).casefold(): str(item) for item in known}
    close = difflib.get_close_matches(name.casefold(), names, n=1, cutoff=0.6)
    return f" (is it '{names[close[0]]}'?)" if close else ""


def _parsed(column: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the numbers in cells, NaN elsewhere, and which cells say that a value is missing."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    missing = numbers.isna()
    if pd.api.types.is_numeric_dtype(column) or not missing.any():
        return numbers, missing
    cells = as_text(column[missing]).str.lower()
    numbers[cells.index] = cells.map(_TRUTH).astype(float)
    missing[cells.index] = cells.isin(_MISSING)
    return numbers, missing


def _parse(path: Path, numeric: Collection[str], comment: str | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if path.suffix == ".parquet":
        with reading(path, "table", says=_NO_TABLE):
            return _with_text(read_parquet(path, "table").to_pandas().reset_index(drop=True)), ()
    with path.open("rb") as binary:
        start = binary.read(4)
    if start in (_ZIPPED, _OLD_EXCEL):
        return _read_workbook(path)
    require_memory(4 * path.stat().st_size, path, "table")
    with reading(path, "table", None, _NO_TABLE):
        return _parse_text(path, numeric, comment, start)


def _parse_text(
    path: Path, numeric: Collection[str], comment: str | None, start: bytes
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    try:
        if start[:2] in _UTF16:
            return _read_csv(path, numeric, comment, "utf-16"), ()
        try:
            return _read_csv(path, numeric, comment, "utf-8-sig"), ()
        except UnicodeDecodeError:
            frame = _read_csv(path, numeric, comment, "cp1252")
            return frame, (f"{path.name} is not UTF-8, and was read as Windows-1252 (Latin-1)",)
    except UnicodeError as error:
        raise InputError("is no text in UTF-8", path=path, hint="save it as CSV in UTF-8") from error
    except pd.errors.ParserWarning as error:
        problem = "rows have more cells than the first line names columns"
        hint = "name every column in the first line, and write decimals with a point"
        raise InputError(problem, path=path, hint=hint) from error
    except pd.errors.ParserError as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        problem = f"cannot be read as a table ({reason})"
        hint = "put a cell that holds the separator in quotation marks, and close them"
        raise InputError(problem, path=path, hint=hint) from error


def _with_text(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with every column as text that does not hold numbers, empty where missing."""
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    filled = {name: table[name].astype(object).where(table[name].notna(), "") for name in texts}
    return table.assign(**{name: cells.astype(str) for name, cells in filled.items()})


def _read_csv(path: Path, numeric: Collection[str], comment: str | None, encoding: str) -> pd.DataFrame:
    with path.open(encoding=encoding, newline="") as file:
        header = file.readline()
        skipped, separator = 0, ""
        while comment is not None and header.startswith(comment):
            skipped, header = skipped + 1, file.readline()
        line = header.rstrip("\r\n")
        if line[:4].lower() == "sep=" and len(line) == 5:  # for Excel
            skipped, separator, header = skipped + 1, line[4], file.readline()
    if "\0" in header:
        raise InputError("is no text in UTF-8", path=path, hint="save it as CSV in UTF-8")
    separator = separator or max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    if not header.strip():
        raise InputError("begins with an empty line", path=path, hint="name the columns in the first line")
    if len(names) < 2:
        problem = f"the first line, '{header.strip()[:60]}', names a single column"
        hint = "name the columns there, with commas, semicolons or tabs between them"
        raise InputError(problem, path=path, hint=hint)
    _check_header(names, path)
    is_of_voxels = separator == "," and {"i", "j", "k"} <= set(names)
    numbers = [name for name in names if name in numeric] if is_of_voxels else []
    source: Path | io.StringIO = path
    if comment is not None:  # blank lines in their place, so that the lines keep their numbers
        lines = path.read_text(encoding=encoding).split("\n")
        source = io.StringIO("\n".join("" if line.startswith(comment) else line for line in lines))
    options: dict[str, Any] = {"sep": separator, "names": names, "skiprows": skipped + 1, "encoding": encoding}
    options |= {"keep_default_na": False, "index_col": False, "skip_blank_lines": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop the cells that it warns of
        try:
            dtype = defaultdict(lambda: "str", dict.fromkeys(numbers, "float64"))
            table = pd.read_csv(source, dtype=dtype, na_values={name: [""] for name in numbers}, **options)
        except ValueError as error:
            if not numbers or isinstance(error, pd.errors.ParserError | UnicodeError):
                raise
            table = pd.read_csv(source, dtype="str", **options)  # the cell that is no number is found later
    table.index = table.index + skipped
    table = with_names(_without_blank_rows(table))
    return table if separator == "," else _with_points(table, path)


def _read_workbook(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if path.suffix.lower() not in SHEETS:
        problem = "is a workbook, and a table is needed"
        raise InputError(problem, path=path, hint="save its sheet as CSV (UTF-8), or as .xlsx")
    try:
        load_workbook = import_module("openpyxl").load_workbook
    except ImportError as error:
        problem = "is a workbook, and openpyxl is not there to read it"
        hint = "pip install 'histomri[excel]', or save its sheet as CSV (UTF-8)"
        raise InputError(problem, path=path, hint=hint) from error
    with reading(path, "workbook", "save it as CSV", "cannot be read as a workbook ({})"):
        check_zip(path, "workbook")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of styles and menus that it does not know
            book = load_workbook(path, read_only=True, data_only=True)
            sheets = [sheet.title for sheet in book.worksheets]
            sheet = book.worksheets[0]
            marks = read_marks(path, str(sheet._worksheet_path).lstrip("/"))
            sheet.reset_dimensions()  # a stray cell in the last corner would make each row 16384 cells wide
            rows = {line: row for line, row in enumerate(map(_cells, sheet.iter_rows(values_only=True))) if any(row)}
            book.close()
    if not rows:
        raise InputError(f"its first sheet, '{sheets[0]}', is empty", path=path, hint="put the table first")
    first = min(rows)
    if any(top <= first <= bottom and left < right for top, bottom, left, right in marks.merged):
        raise InputError(f"line {first + 1} has merged cells", path=path, hint=f"{_ONCE}, without a title above it")
    names = rows.pop(first)
    while names and not names[-1]:
        names.pop()
    _check_header(names, path)
    for line, row in rows.items():
        if cell := next(filter(None, row[len(names) :]), ""):
            problem = f"line {line + 1} has a cell in a column without a name ('{cell}')"
            raise InputError(problem, path=path, hint="name every column in the first line, or empty the cell")
    cells = {line: (row + [""] * len(names))[: len(names)] for line, row in rows.items()}
    marks.fill(cells)
    notes = [f"{path.name} has {len(sheets)} sheets, of which the first, '{sheets[0]}', was read"][: len(sheets) - 1]
    notes += _hidden(marks, cells, path)
    return pd.DataFrame(list(cells.values()), [line - 1 for line in cells], names, dtype="str"), tuple(notes)


def _hidden(marks: SheetMarks, rows: Collection[int], path: Path) -> list[str]:
    lines = [row + 1 for row in marks.hidden if row in rows]
    if not lines:
        return []
    how = "hidden, perhaps by its filter," if marks.filtered else "hidden"
    text = f"{len(lines)} rows are {how} and were read like all others (lines {_listed(lines)})"
    return [f"{path.name}: {text}; delete what does not count"]


def _cells(row: Iterable[Any]) -> list[str]:
    """Return the cells of a row of a workbook as text, whole numbers without a decimal point."""
    shown = (int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in row)
    return ["" if cell is None else str(cell).strip() for cell in shown]


def _check_header(names: list[str], path: Path) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problem = f"column '{twice[0]}' comes twice" if twice[0] else "columns have no name in the first line"
        raise InputError(problem, path=path, hint=_ONCE)


def _without_blank_rows(table: pd.DataFrame) -> pd.DataFrame:
    candidates = table[as_text(table.iloc[:, 0]) == ""]
    blank = candidates.apply(lambda column: as_text(column) == "").all(axis=1)
    return table.drop(index=blank.index[blank]) if blank.any() else table


def _with_points(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table with decimal points where its decimals are written with commas, all of them."""
    changed, point, comma = {}, "", ""
    for name in table.columns:
        if name in LABELS:
            continue
        cells = table[name].str.strip()
        commas, points = cells.str.fullmatch(_COMMA), cells.str.fullmatch(_POINT)
        if commas.any():
            comma = comma or f"'{cells[commas].iloc[0]}' (column '{name}', line {line_of(commas)})"
            changed[name] = cells.where(~commas, cells.str.replace(",", ".", regex=False))
        if points.any():
            point = point or f"'{cells[points].iloc[0]}' (column '{name}', line {line_of(points)})"
    if comma and point:
        problem = f"has decimal commas, as in {comma}, and points, as in {point}"
        raise InputError(problem, path=path, hint="write all decimals with a point, or all with a comma")
    return table.assign(**changed)
