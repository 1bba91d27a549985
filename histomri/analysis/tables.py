"""Read tables of cases, from histomri or from a spreadsheet, and check them cell by cell."""

import csv
import difflib
import tomllib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from pyarrow import parquet

from histomri.analysis.correlation import constant
from histomri.analysis.units import check_units
from histomri.errors import InputError
from histomri.files import require_file

_DERIVED = ("_median", "_trimmed")  # columns that pairing writes beside each mean
TEXT = ("sample", "patient", "group", "scanner", "model", "strategy")
NEEDED = ("sample", "model", "strategy", "vCS_mri_um", "vCS_histo_um", "F_mri", "F_histo")
OPTIONAL = (
    "group",
    "scanner",
    "n_voxels",
    "CD_mri_mm3",
    "CD_histo_mm2",
    "ADC_um2_ms",
    "K",
    "BIC_vote",
    "AIC_vote",
    "BIC_best",
    "AIC_best",
    "at_bound_share",
)
STRATEGIES = ("whole", "high-b", "custom")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "-"}
_TRUTH = {"true": 1.0, "false": 0.0}
_WORKBOOK = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods, .xls


def read_cases(path: str | Path, columns: str | Path | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read a table with one row per sample x model x strategy.

    Parameters
    ----------
    path : path-like
        CSV (comma, semicolon or tab) or Parquet with the columns `NEEDED` and any of `OPTIONAL`.
    columns : path-like, optional
        TOML file that maps the names of histomri to those of the table (``vCS_mri_um = "cell size MRI"``), and gives
        values to columns that the table lacks in its section ``[constants]`` (``model = "diff-in"``).

    Returns
    -------
    table : DataFrame
        Identifiers as text, everything else as numbers, NaN where missing.
    notes : list of str
        What was ignored.

    Raises
    ------
    InputError
        Naming file, column and line, if a column is missing or misspelt, an identifier is empty or comes twice, a cell
        that should be a number is none, or the histology never varies; UnitError if a column cannot be in its unit.
    """
    path = require_file(path, "table")
    raw = read_raw(path)
    if columns is not None:
        raw = _rename(raw, path, Path(columns))
    _check_names(raw, path)
    kept = [name for name in raw.columns if name in (*NEEDED, *OPTIONAL)]
    table = pd.DataFrame(
        {name: _text(raw, name, path) if name in TEXT else read_number(raw, name, path) for name in kept}
    )
    _check_rows(table, path)
    check_units(table, table.get("scanner"), path)
    derived = {f"{name}{end}" for name in (*NEEDED, *OPTIONAL) for end in _DERIVED}
    ignored = [name for name in raw.columns if name not in kept and name not in derived and not _by_pairing(name)]
    notes = [f"{path.name}: columns not used: {', '.join(ignored)}"] if ignored else []
    return table.reset_index(drop=True), notes


def is_voxel_table(path: str | Path) -> bool:
    """Tell whether a table has one row per voxel (columns i, j, k)."""
    path = require_file(path, "table")
    if path.suffix == ".parquet":
        try:
            return {"i", "j", "k"} <= set(parquet.read_schema(path).names)
        except pyarrow.ArrowInvalid as error:
            raise InputError(f"cannot be read as a table ({error})", path=path) from error
    return {"i", "j", "k"} <= set(read_raw(path, rows=1).columns)


def read_raw(path: Path, rows: int | None = None) -> pd.DataFrame:
    """Read a CSV or Parquet file, every cell as text; a missing cell of Parquet becomes empty.

    Rows without anything in them are left out. The index counts the rows of the file, so that messages name its lines.
    """
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path).reset_index(drop=True)
            return table.astype(object).where(table.notna(), "").astype(str)
        return _read_csv(path, rows)
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", path=path, way_out="save it as CSV in UTF-8") from error
    except pd.errors.ParserWarning as error:
        raise InputError(
            "rows have more cells than the first line names columns",
            path=path,
            way_out="name every column in the first line, and write decimals with a point",
        ) from error
    except pd.errors.ParserError as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        raise InputError(
            f"cannot be read as a table ({reason})",
            path=path,
            way_out="put a cell that holds the separator in quotation marks, and close them",
        ) from error
    except (pd.errors.EmptyDataError, pyarrow.ArrowInvalid) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it is empty"
        raise InputError(f"cannot be read as a table ({reason})", path=path) from error


def _read_csv(path: Path, rows: int | None) -> pd.DataFrame:
    with path.open("rb") as binary:
        if binary.read(4) in _WORKBOOK:
            raise InputError("is a workbook, and a table is needed", path=path, way_out="save its sheet as CSV (UTF-8)")
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
    separator = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=separator), [])
    if not header.strip():
        raise InputError("begins with an empty line", path=path, way_out="name the columns in the first line")
    if len(names) < 2:
        raise InputError(
            f"the first line, '{header.strip()[:60]}', names a single column",
            path=path,
            way_out="name the columns there, with commas, semicolons or tabs between them",
        )
    twice = sorted({name.strip() for name in names if names.count(name) > 1})
    if twice:
        problem = f"column '{twice[0]}' comes twice" if twice[0] else "columns have no name in the first line"
        raise InputError(problem, path=path, way_out="name every column once, in the first line")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # it would drop the cells that it warns of
        table = pd.read_csv(
            path,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            nrows=rows,
            index_col=False,
            skip_blank_lines=False,
        )
    doubtful = table[table.iloc[:, 0].str.strip() == ""]
    blank = doubtful.apply(lambda column: column.str.strip() == "").all(axis=1)
    return table.drop(index=blank.index[blank]) if blank.any() else table


def _rename(raw: pd.DataFrame, path: Path, mapping: Path) -> pd.DataFrame:
    require_file(mapping, "column map")
    try:
        content = tomllib.loads(mapping.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not valid TOML ({error})", path=mapping) from error
    constants = content.pop("constants", {})
    for name in (*content, *constants):
        if name not in (*NEEDED, *OPTIONAL):
            raise InputError(f"unknown column '{name}'{_meant(name, (*NEEDED, *OPTIONAL))}", path=mapping)
    for name, theirs in content.items():
        if not isinstance(theirs, str):
            raise InputError(f"'{name}' must be the name of a column, in quotes", path=mapping)
        if theirs not in raw:
            raise InputError(f"column '{theirs}' is not in {path.name}{_meant(theirs, raw.columns)}", path=mapping)
    raw = raw.drop(columns=[name for name in content if name in raw and name not in content.values()])
    raw = raw.rename(columns={theirs: name for name, theirs in content.items()})
    return raw.assign(**{name: str(value) for name, value in constants.items()})


def _check_names(raw: pd.DataFrame, path: Path) -> None:
    names = [str(name) for name in raw.columns]
    for name in NEEDED:
        if name not in names:
            raise InputError(
                f"column '{name}' is missing{_meant(name, names)}",
                path=path,
                way_out="name the table's own columns, or a value for all rows, in a file and pass it with --columns",
            )
    absent = [name for name in OPTIONAL if name not in names]
    for name in names:
        close = difflib.get_close_matches(name, absent, n=1, cutoff=0.85)
        if close and name not in (*NEEDED, *OPTIONAL) and not name.endswith(_DERIVED):
            raise InputError(f"unknown column '{name}'; did you mean '{close[0]}'?", path=path)


def _text(raw: pd.DataFrame, name: str, path: Path) -> pd.Series:
    values = raw[name].astype(str).str.strip()
    if name in NEEDED and (values == "").any():
        line = line_of(values == "")
        raise InputError(f"column '{name}', line {line} is empty", path=path, way_out="fill it, or drop the row")
    if name == "strategy":
        odd = ~values.isin(STRATEGIES)
        if odd.any():
            raise InputError(
                f"column 'strategy', line {line_of(odd)}: '{values[odd].iloc[0]}' is neither whole, high-b nor custom",
                path=path,
            )
    return values


def read_number(raw: pd.DataFrame, name: str, path: Path) -> pd.Series:
    """Return a column of text as numbers, NaN where missing; a cell that is none is an error with its line."""
    text = raw[name].astype(str).str.strip()
    numbers, missing = _parsed(text)
    wrong = (numbers.isna() & ~missing) | np.isinf(numbers)
    if wrong.any():
        cell = text[wrong].iloc[0]
        way_out = "write decimals with a point" if "," in cell else "leave the cell empty if the value is missing"
        raise InputError(
            f"column '{name}', line {line_of(wrong)}: '{cell}' is not a finite number", path=path, way_out=way_out
        )
    return numbers


def share_of_numbers(column: pd.Series) -> float:
    """Return which share of the filled cells of a column of text are numbers, 0 if none is filled."""
    numbers, missing = _parsed(column.astype(str).str.strip())
    return float(numbers[~missing].notna().mean()) if not missing.all() else 0.0


def _parsed(text: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return the numbers in cells of text, NaN elsewhere, and which cells say that a value is missing."""
    lower = text.str.lower()
    missing, truth = lower.isin(_MISSING), lower.map(_TRUTH)
    numbers = pd.to_numeric(text.where(~missing & truth.isna()), errors="coerce").astype(float)
    return numbers.fillna(truth).astype(float), missing


def _check_rows(table: pd.DataFrame, path: Path) -> None:
    if not len(table):
        raise InputError("has a header and no rows", path=path)
    key = ["sample", "model", "strategy"]
    twice = table.duplicated(key)
    if twice.any():
        row = table[twice].iloc[0]
        both = (table[key] == row[key]).all(axis=1)
        lines = " and ".join(str(position + 2) for position in table.index[both][:2])
        raise InputError(
            f"sample '{row['sample']}' comes twice for {row['model']}, {row['strategy']} (lines {lines})",
            path=path,
            way_out="keep one row per sample, model and strategy",
        )
    for name in ("vCS_histo_um", "F_histo"):
        per_sample = table.groupby("sample")[name].first().dropna().to_numpy()
        if not len(per_sample):
            raise InputError(f"column '{name}' has no value at all", path=path)
        if len(per_sample) >= 3 and constant(per_sample):
            raise InputError(
                f"column '{name}' has the same value in every row; nothing can correlate with it", path=path
            )
        if (table[name] <= 0).any():
            raise InputError(f"column '{name}', line {line_of(table[name] <= 0)} is not positive", path=path)


def _by_pairing(name: Any) -> bool:
    """Tell whether `histomri pair` writes a column beyond those that are scored."""
    parts = ("_mri", "_histo", "n_", "AIC", "K_median", "patient")
    return any(str(name).startswith(part) or part in str(name) for part in parts)


def line_of(rows: pd.Series) -> int:
    """Return the line of the file of the first row that is true; the index counts rows of the file from 0."""
    return int(rows.index[rows.to_numpy()][0]) + 2  # the header is line 1


def _meant(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, [str(item) for item in known], n=1, cutoff=0.6)
    return f" (is it '{close[0]}'?)" if close else ""
