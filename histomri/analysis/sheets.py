"""Tables whose columns the person chooses: read as text, turned into numbers column by column, checked on the way."""

import difflib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.magnitude import require_magnitude
from histomri.analysis.tables import TEXT, line_of, read_number, read_raw, share_of_numbers
from histomri.analysis.units import check_units
from histomri.errors import InputError
from histomri.files import require_file

POSITION = ("i", "j", "k", "x_mm", "y_mm", "z_mm")
MEASUREMENTS = (
    "vCS_histo_um",
    "F_histo",
    "CD_histo_mm2",
    "vCS_mri_um",
    "F_mri",
    "CD_mri_mm3",
    "D0I_mri_um2_ms",
    "ADC_um2_ms",
    "K",
)


@dataclass(frozen=True)
class Sheet:
    """A table as it was written, cell by cell.

    Attributes
    ----------
    path : Path
        Where it came from, for messages.
    raw : DataFrame
        Every cell as text.
    notes : tuple of str
        What was done to it.
    """

    path: Path
    raw: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.raw)

    def __contains__(self, name: str) -> bool:
        return name in self.raw

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""
        return [str(name) for name in self.raw.columns]

    @property
    def is_voxelwise(self) -> bool:
        """Tell whether a row is a voxel (columns i, j, k)."""
        return {"i", "j", "k"} <= set(self.names)

    def require(self, name: str) -> None:
        """Raise an InputError if the column is missing, with the closest name there is."""
        if name not in self.raw:
            close = difflib.get_close_matches(name, self.names, n=1, cutoff=0.6)
            raise InputError(
                f"column '{name}' is missing{f' (is it {close[0]!r}?)' if close else ''}",
                path=self.path,
                way_out=f"the table has {', '.join(self.names)}",
            )

    def numbers(self, names: Sequence[str]) -> pd.DataFrame:
        """Return columns as numbers, NaN where missing.

        Raises
        ------
        InputError
            If a column is missing, holds no value at all, or a cell is no finite number (with its line); UnitError if
            a column of the contract cannot be in its unit.
        """
        table = {}
        for name in dict.fromkeys(names):
            self.require(name)
            table[name] = read_number(self.raw, name, self.path)
            if not table[name].notna().any():
                raise InputError(f"column '{name}' has no value at all", path=self.path)
        numbers = pd.DataFrame(table, index=self.raw.index)
        require_magnitude(numbers, self.path)
        scanner = self.text("scanner") if "scanner" in self else None
        check_units(numbers, scanner, self.path, of_voxels=self.is_voxelwise)
        return numbers

    def text(self, name: str, *, complete: bool = False) -> pd.Series:
        """Return a column as text without blanks around it; with `complete`, an empty cell is an error."""
        self.require(name)
        values = self.raw[name].astype(str).str.strip()
        if complete and (values == "").any():
            raise InputError(
                f"column '{name}', line {line_of(values == '')} is empty",
                path=self.path,
                way_out="fill it, or drop the row",
            )
        return values

    def numeric_names(self) -> list[str]:
        """Return the columns in which every filled cell is a number, identifiers and places aside."""
        others = {*TEXT, *POSITION}
        return [name for name in self.names if name not in others and self._is_numeric(name)]

    def measurements(self) -> list[str]:
        """Return the measurements there are: those of the contract, or all that are mostly numbers if there are none.

        One with text in it is among them, and `numbers` says so: left out silently, it would not be missed.
        """
        known = [name for name in MEASUREMENTS if name in self.raw and self._is_filled(name)]
        if len(known) < 2:
            others = {*TEXT, *POSITION}
            return [name for name in self.names if name not in others and share_of_numbers(self.raw[name]) > 0.5]
        return known

    def misspelt(self) -> list[str]:
        """Say which columns look like a measurement that the table does not have."""
        absent = {name.casefold(): name for name in MEASUREMENTS if name not in self.raw}
        texts = []
        for name in self.names:
            close = difflib.get_close_matches(name.casefold(), absent, n=1, cutoff=0.8)
            if close and name not in MEASUREMENTS:
                texts.append(f"column '{name}' is not used; did you mean '{absent[close[0]]}'?")
        return texts

    def only(self, **wanted: str | None) -> "Sheet":
        """Keep the rows in which the columns have the wanted text; None keeps all.

        Raises
        ------
        InputError
            If a column is missing, or no row is left.
        """
        kept = pd.Series(True, index=self.raw.index)
        for name, value in wanted.items():
            if value is None:
                continue
            column = self.text(name)
            if not column.eq(value).any():
                there = ", ".join(sorted(set(column)))
                raise InputError(f"no row has {name} '{value}'", path=self.path, way_out=f"there is {there}")
            kept &= column.eq(value)
        if not kept.any():
            raise InputError("no row has all of the wanted labels", path=self.path)
        return Sheet(self.path, self.raw[kept], self.notes)

    def parts(self, by: Sequence[str]) -> list[tuple[dict[str, str], "Sheet"]]:
        """Split by columns, in the order of their first rows; columns that the table lacks do not split."""
        keys = [name for name in by if name in self.raw]
        if not keys:
            return [({}, self)]
        return [
            (dict(zip(keys, map(str, key))), Sheet(self.path, part, self.notes))
            for key, part in self.raw.groupby(keys, sort=False)
        ]

    def require_unique(self, by: Sequence[str]) -> None:
        """Raise an InputError if two rows have the same labels in the columns that the table has of `by`."""
        keys = [name for name in by if name in self.raw]
        labels = pd.DataFrame({name: self.text(name) for name in keys})
        for name in keys:
            # A column without anything tells nothing apart; a gap in one is a row that belongs nowhere, or a remark.
            self.text(name, complete=name == "sample" or bool(labels[name].any()))
        if "sample" not in keys:
            return
        twice = labels.duplicated()
        if twice.any():
            row = labels[twice].iloc[0]
            # The index is the row of the file, also after rows were selected.
            lines = labels.index[(labels == row).all(axis=1)][:2] + 2
            rest = ", ".join(str(row[name]) for name in keys if name != "sample")
            where = f"{f' for {rest}' if rest else ''} (lines {lines[0]} and {lines[1]})"
            raise InputError(
                f"sample '{row['sample']}' comes twice{where}",
                path=self.path,
                way_out="keep one row per sample, or select a model and strategy",
            )

    def _is_filled(self, name: str) -> bool:
        try:
            return bool(read_number(self.raw, name, self.path).notna().any())
        except InputError:
            return True

    def _is_numeric(self, name: str) -> bool:
        try:
            return bool(read_number(self.raw, name, self.path).notna().any())
        except InputError:
            return False


def read_sheet(path: str | Path, columns: str | Path | None = None) -> Sheet:
    """Read a table of any columns.

    Parameters
    ----------
    path : path-like
        CSV (comma, semicolon or tab) or Parquet, with a header.
    columns : path-like, optional
        TOML file of renamings (``vCS_mri_um = "cell size MRI"``); its section ``[constants]`` adds columns.

    Raises
    ------
    InputError
        If it cannot be read, has no rows, or the column map does not fit.
    """
    path = require_file(path, "table")
    raw = read_raw(path)
    if columns is not None:
        raw = _renamed(raw, path, Path(columns))
    if not len(raw):
        raise InputError("has a header and no rows", path=path)
    return Sheet(path, raw)


def _renamed(raw: pd.DataFrame, path: Path, mapping: Path) -> pd.DataFrame:
    require_file(mapping, "column map")
    try:
        content: dict[str, Any] = tomllib.loads(mapping.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not valid TOML ({error})", path=mapping) from error
    constants = content.pop("constants", {})
    for name, theirs in content.items():
        if not isinstance(theirs, str):
            raise InputError(f"'{name}' must be the name of a column, in quotes", path=mapping)
        if theirs not in raw:
            close = difflib.get_close_matches(theirs, list(raw.columns), n=1, cutoff=0.6)
            meant = f" (is it '{close[0]}'?)" if close else ""
            raise InputError(f"column '{theirs}' is not in {path.name}{meant}", path=mapping)
    raw = raw.drop(columns=[name for name in content if name in raw and name not in content.values()])
    raw = raw.rename(columns={theirs: name for name, theirs in content.items()})
    return raw.assign(**{name: str(value) for name, value in constants.items()})
