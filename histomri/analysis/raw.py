"""Tables as files: CSV, Parquet and workbooks, read cell by cell; numbers in them, with file and line in hand."""

import csv
import warnings
import zipfile
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from histomri.core.columns import check_sidecar
from histomri.core.errors import InputError

TEXT = ("sample", "patient", "group", "scanner", "model", "strategy")
# Rows of a file are counted from 0 by the index; where one gives several rows of the table, block k begins here.
BLOCK = 1 << 32
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-"}
_TRUTH = {"true": 1.0, "false": 0.0}
_ZIPPED, _OLD = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"  # .xlsx and .ods, .xls
_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
_POINT = r"[+-]?[\d,]*\.[\d,]+(?:[eE][+-]?\d+)?"


def read_raw(path: Path, numeric: Collection[str] = ()) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Read a table.

    Parameters
    ----------
    path : Path
        CSV (comma, semicolon or tab), Parquet, or the first sheet of an Excel workbook (.xlsx).
    numeric : collection of str
        Columns of numbers in a CSV of voxels (i, j, k), which may be large: read as such if every cell is one.

    Returns
    -------
    table : DataFrame
        Every cell as text, but for such columns, and those of numbers in Parquet. Rows without anything in them are
        left out; the index counts the rows of the file, so that messages name its lines.
    notes : tuple of str
        What was left out.

    Raises
    ------
    InputError
        If it is none of these, or columns have no name, or the same.
    """
    try:
        table, notes = _read(path, numeric)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", path=path, hint="save it as CSV in UTF-8") from error
    except pd.errors.ParserWarning as error:
        raise InputError(
            "rows have more cells than the first line names columns",
            path=path,
            hint="name every column in the first line, and write decimals with a point",
        ) from error
    except pd.errors.ParserError as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(
            f"cannot be read as a table ({reason})",
            path=path,
            hint="put a cell that holds the separator in quotation marks, and close them",
        ) from error
    except (pd.errors.EmptyDataError, pyarrow.ArrowInvalid) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is empty"
        raise InputError(f"cannot be read as a table ({reason})", path=path) from error
    check_sidecar(path, table.columns)
    return table, notes


def read_number(raw: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Return a column as numbers, NaN where missing; a cell that is none is an error with its line."""
    numbers, missing = _parsed(raw[name])
    wrong = (numbers.isna() & ~missing) | np.isinf(numbers)
    if wrong.any():
        cell = as_text(raw[name][wrong].iloc[:1]).iloc[0]
        hint = "write decimals with a point" if "," in cell else "leave the cell empty if the value is missing"
        if "," in cell and "." in cell:
            hint = "write numbers without separators of thousands, and decimals with a point"
        raise InputError(
            f"column '{name}', line {line_of(wrong)}: '{cell}' is not a finite number", path=path, hint=hint
        )
    return numbers


def share_of_numbers(column: pd.Series) -> float:
    """Return which share of the filled cells of a column are numbers, 0 if none is filled."""
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


def _read(path: Path, numeric: Collection[str]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if path.suffix == ".parquet":
        return _typed(pd.read_parquet(path).reset_index(drop=True)), ()
    with path.open("rb") as binary:
        start = binary.read(4)
    return _read_workbook(path) if start in (_ZIPPED, _OLD) else (_read_csv(path, numeric), ())


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with every column as text that does not hold numbers, empty where missing."""
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    return table.assign(
        **{name: table[name].astype(object).where(table[name].notna(), "").astype(str) for name in texts}
    )


def _read_csv(path: Path, numeric: Collection[str]) -> pd.DataFrame:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    separator = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=separator), [])
    if not header.strip():
        raise InputError("begins with an empty line", path=path, hint="name the columns in the first line")
    if len(names) < 2:
        raise InputError(
            f"the first line, '{header.strip()[:60]}', names a single column",
            path=path,
            hint="name the columns there, with commas, semicolons or tabs between them",
        )
    _check_header(names, path)
    numbers = [name for name in names if name in numeric] if separator == "," and {"i", "j", "k"} <= set(names) else []
    try:
        table = _parse(path, separator, numbers)
    except ValueError:
        if not numbers:
            raise
        table = _parse(path, separator, [])  # the cell that is none is found later
    table = _without_blank_rows(table)
    return table if separator == "," else _with_points(table, path)


def _parse(path: Path, separator: str, numbers: list[str]) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop the cells that it warns of
        return pd.read_csv(
            path,
            sep=separator,
            dtype=defaultdict(lambda: "str", dict.fromkeys(numbers, "float64")),
            keep_default_na=False,
            na_values={name: [""] for name in numbers},
            encoding="utf-8-sig",
            index_col=False,
            skip_blank_lines=False,
        )


def _read_workbook(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    if path.suffix.lower() not in (".xlsx", ".xlsm"):
        raise InputError(
            "is a workbook, and a table is needed", path=path, hint="save its sheet as CSV (UTF-8), or as .xlsx"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of styles and menus that it does not know
            with pd.ExcelFile(path, engine="openpyxl") as book:
                sheets = [str(name) for name in book.sheet_names]
                cells = pd.read_excel(book, header=None, dtype=str, keep_default_na=False, na_filter=False)
    except ImportError as error:
        raise InputError(
            "is a workbook, and openpyxl is not there to read it",
            path=path,
            hint="pip install 'histomri[excel]', or save its sheet as CSV (UTF-8)",
        ) from error
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot be read as a workbook ({error})", path=path, hint="save it as CSV") from error
    if cells.empty:
        raise InputError(f"its first sheet, '{sheets[0]}', is empty", path=path, hint="put the table first")
    names = [str(name).strip() for name in cells.iloc[0]]
    _check_header(names, path)
    table = cells.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)
    alone = len(sheets) == 1
    notes = () if alone else (f"{path.name} has {len(sheets)} sheets, of which the first, '{sheets[0]}', was read",)
    return _without_blank_rows(table), notes


def _check_header(names: list[str], path: Path) -> None:
    twice = sorted({name.strip() for name in names if names.count(name) > 1})
    if twice:
        problem = f"column '{twice[0]}' comes twice" if twice[0] else "columns have no name in the first line"
        raise InputError(problem, path=path, hint="name every column once, in the first line")


def _without_blank_rows(table: pd.DataFrame) -> pd.DataFrame:
    doubtful = table[as_text(table.iloc[:, 0]) == ""]
    blank = doubtful.apply(lambda column: as_text(column) == "").all(axis=1)
    return table.drop(index=blank.index[blank]) if blank.any() else table


def _with_points(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table with decimal points where its decimals are written with commas, all of them."""
    changed, point = {}, ""
    comma = ""
    for name in table.columns:
        if name in TEXT:
            continue
        cells = table[name].str.strip()
        commas, points = cells.str.fullmatch(_COMMA), cells.str.fullmatch(_POINT)
        if commas.any():
            comma = comma or f"'{cells[commas].iloc[0]}' (column '{name}', line {line_of(commas)})"
            changed[name] = cells.where(~commas, cells.str.replace(",", ".", regex=False))
        if points.any():
            point = point or f"'{cells[points].iloc[0]}' (column '{name}', line {line_of(points)})"
    if comma and point:
        raise InputError(
            f"has decimal commas, as in {comma}, and points, as in {point}",
            path=path,
            hint="write all decimals with a point, or all with a comma",
        )
    return table.assign(**changed)
