"""Read tables of paired measurements, by histomri or from a person's spreadsheet, and check them cell by cell."""

import difflib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.correlation import constant
from histomri.analysis.histology import histology_size, lacks_fraction
from histomri.analysis.measurements import MeasurementTable, opened
from histomri.analysis.options import ScoreOptions
from histomri.core.columns import CASE, INDEX, LABELS, PAIRED, REGISTRATION, STAT, SYST, registration_sd
from histomri.core.errors import InputError, raise_together
from histomri.core.tables import line_of, suggestion

_DERIVED = ("_median", "_trimmed", STAT, SYST)  # columns that pairing writes beside each mean
_SYST = tuple(f"{name}{SYST}" for name in PAIRED)  # carried onto HFC
NEEDED = ("sample", "model", "strategy", "vCS_mri_um", "vCS_histo_um", "F_mri", "F_histo")
_SPREAD = tuple(registration_sd(name) for name in ("vCS_histo_um", "F_histo", "CD_histo_mm2"))
OPTIONAL = (
    "patient", "group", "scanner", "n_voxels", "CD_mri_mm3", "CD_histo_mm2", "ADC_um2_ms", "K", "BIC_vote", "AIC_vote",
    "BIC_best", "AIC_best", "at_bound_share", *_SPREAD, *_SYST,
)  # fmt: skip
OF_VOXELS = (
    "patient", "group", "scanner", "CD_mri_mm3", "CD_histo_mm2", "ADC_um2_ms", "K", "BIC", "AIC", "at_bound", *_SPREAD,
    *_SYST,
)  # fmt: skip
STRATEGIES = ("whole", "high-b", "custom")
# What `histomri pair` writes beyond the columns that are scored.
_IN_NAMES_BY_PAIRING = ("_mri", "_histo", "n_", "AIC", "K_median", REGISTRATION)
_BY_PAIRING = ("pairing", "logL", "cost", "exit", "K_median", *[f"{axis}_mm" for axis in "xyz"])


def open_pairs(
    table: ScoreOptions | pd.DataFrame | str | Path, choices: dict[str, Any]
) -> tuple[ScoreOptions, MeasurementTable]:
    """Return options and table (see `opened`); its column map may name the columns of tables of pairs only."""
    return opened(ScoreOptions, table, choices, known=(*NEEDED, *OPTIONAL, *OF_VOXELS, *INDEX))


def read_cases(table: pd.DataFrame | str | Path, columns: str | Path | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read a table with one row per sample x model x strategy: `cases_of` of `open_pairs`."""
    cases, notes = cases_of(open_pairs(table, {} if columns is None else {"columns": Path(columns)})[1])
    return cases.reset_index(drop=True), notes


def as_cases(table: Any, names: Iterable[str]) -> pd.DataFrame:
    """Return cases from a DataFrame, what turns into one, or the path of a table of pairs; the columns must exist."""
    if isinstance(table, str | Path):
        table = read_cases(table)[0]
    if hasattr(table, "to_pandas"):
        table = table.to_pandas()
    names = tuple(names)
    if not isinstance(table, pd.DataFrame):
        problem = f"a {type(table).__name__} is no table of pairs"
        raise InputError(problem, hint=f"give a DataFrame with the columns {', '.join(names)}, or the path of a table")
    for name in names:
        if name not in table:
            raise InputError(f"column '{name}' is missing; the table has {', '.join(map(str, table.columns))}")
    return table


def require_labels(table: pd.DataFrame, name: str) -> None:
    """Raise an InputError if rows have no label in a column: grouped by it, they would be dropped."""
    if empty := int(table[name].isna().sum()):
        raise InputError(f"column '{name}' is empty in {empty} of {len(table)} rows", hint="fill it, or drop the rows")


def cases_of(rows: MeasurementTable) -> tuple[pd.DataFrame, list[str]]:
    """Return the cases of a table with one row per sample x model x strategy, and notes of what was ignored.

    The table has the columns `NEEDED` and any of `OPTIONAL`. Cases have identifiers as text, everything else as
    numbers, NaN where missing; the index is that of the rows.

    Raises
    ------
    InputError
        Naming file, column and line, if a column is missing or misspelt, an identifier is empty or comes twice, a cell
        that should be a number is none, rows of a sample contradict each other, or the histology never varies;
        UnitError if a column cannot be in its unit.
    """
    kept = _known_columns(rows, OPTIONAL)
    rows = rows.noting(partial(_check_identifiers, rows))
    rows = rows.noting(rows.require_unique)
    table = _columns(rows, kept)
    for name in ("vCS_histo_um", "F_histo"):
        if (table[name] <= 0).any():
            raise InputError(f"column '{name}', line {line_of(table[name] <= 0)} is not positive", path=rows.path)
    require_varying_histology(table, rows.path, without_fraction=histology_size(rows.path) == "volume")
    return table, _unused(rows, kept)


def voxels_of(rows: MeasurementTable) -> tuple[pd.DataFrame, list[str]]:
    """Return the voxels of a table with one row per voxel x sample x model x strategy, and notes of what was ignored.

    The table has the columns `NEEDED`, i, j, k, and any of `OF_VOXELS`; voxels are as cases in `cases_of`. Values are
    NaN throughout in voxels that lack one of the four that are scored, so that means of all columns are over the same
    voxels. Errors are those of `cases_of`; and an InputError if a voxel comes twice, or an index is none.
    """
    kept = _known_columns(rows, OF_VOXELS)
    rows = rows.noting(partial(_check_identifiers, rows))
    rows = rows.noting(rows.require_consistent)
    table = _columns(rows, [*kept, *INDEX])
    where = [*CASE, *INDEX]
    for name in LABELS:
        if name in table:
            table[name] = table[name].astype("category")
    twice = table.duplicated(where)
    if twice.any():
        row = table[twice].iloc[0]
        voxel, fit = ", ".join(str(int(row[axis])) for axis in INDEX), f"{row['model']}, {row['strategy']}"
        problem = f"line {line_of(twice)}: voxel {voxel} of sample '{row['sample']}' comes twice for {fit}"
        raise InputError(problem, path=rows.path, hint="keep one row per voxel, sample, model and strategy")
    needed = PAIRED[:-1] if histology_size(rows.path) == "volume" and lacks_fraction(table) else PAIRED
    incomplete = table[list(needed)].isna().any(axis=1)
    notes = _unused(rows, kept)
    if incomplete.any():
        table.loc[incomplete, [name for name in kept if name not in LABELS]] = float("nan")
        notes.append(f"{int(incomplete.sum())} of {len(table)} rows of voxels left out because a value is missing")
    return table, notes


def require_varying_histology(table: pd.DataFrame, path: Path | None = None, *, without_fraction: bool = False) -> None:
    """Raise an InputError if the histology of the samples has no value, or the same in all.

    `without_fraction` says that it may have no fraction of cells: in 3D, from nuclei, that is stated, not measured.
    """
    names = ("vCS_histo_um",) if without_fraction and lacks_fraction(table) else ("vCS_histo_um", "F_histo")
    for name in names:
        per_sample = table.groupby("sample", observed=True)[name].first().dropna().to_numpy()
        if not len(per_sample):
            raise InputError(f"column '{name}' has no value at all", path=path)
        if len(per_sample) >= 3 and constant(per_sample):
            problem = f"column '{name}' has the same value in every row; nothing can correlate with it"
            raise InputError(problem, path=path)


def _known_columns(rows: MeasurementTable, optional: tuple[str, ...]) -> list[str]:
    """Return the columns that are used, after a look for those that are missing or misspelt."""
    for name in NEEDED:
        if name not in rows:
            problem = f"column '{name}' is missing{suggestion(name, rows.names)}"
            hint = "name the table's own columns, or a value for all rows, in a file and pass it with --columns"
            raise InputError(problem, path=rows.path, hint=hint)
    absent = [name for name in optional if name not in rows]
    for name in rows.names:
        close = difflib.get_close_matches(name, absent, n=1, cutoff=0.85)
        if close and name not in (*NEEDED, *OPTIONAL, *OF_VOXELS) and not name.endswith(_DERIVED):
            raise InputError(f"unknown column '{name}'; did you mean '{close[0]}'?", path=rows.path)
    return [name for name in rows.names if name in (*NEEDED, *optional)]


def _check_identifiers(rows: MeasurementTable) -> None:
    for name in CASE:
        rows = rows.noting(partial(rows.text, name, complete=True))
    strategies = rows.text("strategy")
    odd = ~strategies.isin(("", *STRATEGIES))
    if odd.any():
        where = f"column 'strategy', line {line_of(odd)}"
        problem = f"{where}: '{strategies[odd].iloc[0]}' is neither whole, high-b nor custom"
        rows = replace(rows, mistakes=(*rows.mistakes, InputError(problem, path=rows.path)))
    raise_together(rows.mistakes, rows.path)


def _columns(rows: MeasurementTable, names: list[str]) -> pd.DataFrame:
    """Return identifiers as text and the rest as numbers."""
    numbers = rows.numbers([name for name in names if name not in LABELS], empty=True)
    return pd.DataFrame({name: rows.text(name) if name in LABELS else numbers[name] for name in names})


def _unused(rows: MeasurementTable, kept: list[str]) -> list[str]:
    known = (*NEEDED, *OPTIONAL, *OF_VOXELS)
    derived = {f"{name}{end}" for name in known for end in _DERIVED}
    others = [name for name in rows.names if name not in (*kept, *INDEX, *derived, *_BY_PAIRING)]
    ignored = [name for name in others if not any(part in name for part in _IN_NAMES_BY_PAIRING)]
    return [f"{rows.path.name}: columns not used: {', '.join(ignored)}"] if ignored else []
