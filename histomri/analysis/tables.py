"""Read tables of paired measurements, by histomri or from a person's spreadsheet, and check them cell by cell."""

import difflib
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.correlation import constant
from histomri.analysis.mapping import meant
from histomri.analysis.raw import TEXT, line_of
from histomri.analysis.scores import PAIRED
from histomri.analysis.sheets import INDEX, Sheet, read_sheet
from histomri.core.errors import InputError

_DERIVED = ("_median", "_trimmed")  # columns that pairing writes beside each mean
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
OF_VOXELS = ("group", "scanner", "CD_mri_mm3", "CD_histo_mm2", "ADC_um2_ms", "K", "BIC", "AIC", "at_bound")
STRATEGIES = ("whole", "high-b", "custom")
_BY_PAIRING = ("pairing", "logL", "cost", "exit", "K_median", *[f"{axis}_mm" for axis in "xyz"])


def open_pairs(path: str | Path, columns: str | Path | None = None) -> Sheet:
    """Read a table of pairs, whose column map may name the columns of such tables only (see `read_sheet`)."""
    return read_sheet(path, columns, known=(*NEEDED, *OPTIONAL, *OF_VOXELS, *INDEX))


def read_cases(path: str | Path, columns: str | Path | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read a table with one row per sample x model x strategy: `cases_of` of `open_pairs`."""
    table, notes = cases_of(open_pairs(path, columns))
    return table.reset_index(drop=True), notes


def cases_of(sheet: Sheet) -> tuple[pd.DataFrame, list[str]]:
    """Return the cases of a table with one row per sample x model x strategy.

    Parameters
    ----------
    sheet : Sheet
        Table with the columns `NEEDED` and any of `OPTIONAL`.

    Returns
    -------
    table : DataFrame
        Identifiers as text, everything else as numbers, NaN where missing; the index is that of the sheet.
    notes : list of str
        What was ignored.

    Raises
    ------
    InputError
        Naming file, column and line, if a column is missing or misspelt, an identifier is empty or comes twice, a cell
        that should be a number is none, rows of a sample contradict each other, or the histology never varies;
        UnitError if a column cannot be in its unit.
    """
    kept = _known_columns(sheet, OPTIONAL)
    _check_identifiers(sheet)
    sheet.require_unique(("sample", "model", "strategy"))
    table = _columns(sheet, kept)
    for name in ("vCS_histo_um", "F_histo"):
        if (table[name] <= 0).any():
            raise InputError(f"column '{name}', line {line_of(table[name] <= 0)} is not positive", path=sheet.path)
    require_varying_histology(table, sheet.path)
    return table, _unused(sheet, kept)


def voxels_of(sheet: Sheet) -> tuple[pd.DataFrame, list[str]]:
    """Return the voxels of a table with one row per voxel x sample x model x strategy.

    Parameters
    ----------
    sheet : Sheet
        Table with the columns `NEEDED`, i, j, k, and any of `OF_VOXELS`.

    Returns
    -------
    table : DataFrame
        As for `cases_of`. Values are NaN throughout in voxels that lack one of the four that are scored, so that means
        of all columns are over the same voxels.
    notes : list of str
        What was ignored, and how many voxels.

    Raises
    ------
    InputError
        As for `cases_of`; and if a voxel comes twice, or an index is none.
    """
    kept = _known_columns(sheet, OF_VOXELS)
    _check_identifiers(sheet)
    sheet.require_consistent()
    table = _columns(sheet, [*kept, *INDEX])
    where = ["sample", "model", "strategy", *INDEX]
    for name in TEXT:
        if name in table:
            table[name] = table[name].astype("category")
    twice = table.duplicated(where)
    if twice.any():
        row = table[twice].iloc[0]
        voxel = ", ".join(str(int(row[axis])) for axis in INDEX)
        raise InputError(
            f"line {line_of(twice)}: voxel {voxel} of sample '{row['sample']}' comes twice for {row['model']}, "
            f"{row['strategy']}",
            path=sheet.path,
            hint="keep one row per voxel, sample, model and strategy",
        )
    incomplete = table[list(PAIRED)].isna().any(axis=1)
    notes = _unused(sheet, kept)
    if incomplete.any():
        table.loc[incomplete, [name for name in kept if name not in TEXT]] = float("nan")
        notes.append(f"{int(incomplete.sum())} of {len(table)} rows of voxels left out because a value is missing")
    return table, notes


def require_varying_histology(table: pd.DataFrame, path: Path | None = None) -> None:
    """Raise an InputError if the histology of the samples has no value, or the same in all."""
    for name in ("vCS_histo_um", "F_histo"):
        per_sample = table.groupby("sample", observed=True)[name].first().dropna().to_numpy()
        if not len(per_sample):
            raise InputError(f"column '{name}' has no value at all", path=path)
        if len(per_sample) >= 3 and constant(per_sample):
            raise InputError(
                f"column '{name}' has the same value in every row; nothing can correlate with it", path=path
            )


def _known_columns(sheet: Sheet, optional: tuple[str, ...]) -> list[str]:
    """Return the columns that are used, after a look for those that are missing or misspelt."""
    for name in NEEDED:
        if name not in sheet:
            raise InputError(
                f"column '{name}' is missing{meant(name, sheet.names)}",
                path=sheet.path,
                hint="name the table's own columns, or a value for all rows, in a file and pass it with --columns",
            )
    absent = [name for name in optional if name not in sheet]
    for name in sheet.names:
        close = difflib.get_close_matches(name, absent, n=1, cutoff=0.85)
        if close and name not in (*NEEDED, *OPTIONAL, *OF_VOXELS) and not name.endswith(_DERIVED):
            raise InputError(f"unknown column '{name}'; did you mean '{close[0]}'?", path=sheet.path)
    return [name for name in sheet.names if name in (*NEEDED, *optional)]


def _check_identifiers(sheet: Sheet) -> None:
    for name in ("sample", "model", "strategy"):
        sheet.text(name, complete=True)
    strategies = sheet.text("strategy")
    odd = ~strategies.isin(STRATEGIES)
    if odd.any():
        raise InputError(
            f"column 'strategy', line {line_of(odd)}: '{strategies[odd].iloc[0]}' is neither whole, high-b nor custom",
            path=sheet.path,
        )


def _columns(sheet: Sheet, names: list[str]) -> pd.DataFrame:
    """Return identifiers as text and the rest as numbers."""
    numbers = sheet.numbers([name for name in names if name not in TEXT], empty=True)
    return pd.DataFrame({name: sheet.text(name) if name in TEXT else numbers[name] for name in names})


def _unused(sheet: Sheet, kept: list[str]) -> list[str]:
    known = (*NEEDED, *OPTIONAL, *OF_VOXELS)
    derived = {f"{name}{end}" for name in known for end in _DERIVED}
    ignored = [
        name for name in sheet.names if name not in (*kept, *INDEX, *derived, *_BY_PAIRING) and not _by_pairing(name)
    ]
    return [f"{sheet.path.name}: columns not used: {', '.join(ignored)}"] if ignored else []


def _by_pairing(name: Any) -> bool:
    """Tell whether `histomri pair` writes a column beyond those that are scored."""
    parts = ("_mri", "_histo", "n_", "AIC", "K_median", "patient")
    return any(part in str(name) for part in parts)
