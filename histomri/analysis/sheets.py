"""Tables whose columns the person chooses: read as text, turned into numbers column by column, checked on the way."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from histomri.analysis.magnitude import require_magnitude
from histomri.analysis.mapping import meant, read_column_map
from histomri.analysis.raw import TEXT, as_text, line_at, line_of, read_number, read_raw, share_of_numbers
from histomri.analysis.units import check_sites, check_units
from histomri.core.errors import InputError
from histomri.core.files import require_file

INDEX = ("i", "j", "k")
POSITION = (*INDEX, "x_mm", "y_mm", "z_mm")
LARGEST_INDEX = 32766  # an axis of a NIfTI-1 image has at most 32767 voxels
# Up to which share the histology of a sample's rows may differ: by rounding, or as a mean over nearly the same voxels.
_SAME, _ALIKE = 0.01, 0.1
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
_NUMERIC = (*POSITION, *MEASUREMENTS, "BIC", "AIC")


@dataclass(frozen=True)
class Sheet:
    """A table as it was written, cell by cell.

    Attributes
    ----------
    path : Path
        Where it came from, for messages.
    raw : DataFrame
        Every cell as text, but for columns of numbers in Parquet.
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
        return set(INDEX) <= set(self.names)

    def require(self, name: str) -> None:
        """Raise an InputError if the column is missing, with the closest name there is."""
        if name not in self.raw:
            raise InputError(
                f"column '{name}' is missing{meant(name, self.names)}",
                path=self.path,
                hint=f"the table has {', '.join(self.names)}",
            )

    def numbers(self, names: Sequence[str], *, empty: bool = False) -> pd.DataFrame:
        """Return columns as numbers, NaN where missing; with `empty`, a column may have no value at all.

        Raises
        ------
        InputError
            If a column is missing, holds no value at all, a cell is no finite number (with its line), or an index of a
            voxel is none; UnitError if a column of the contract cannot be in its unit, or scanners write different
            units.
        """
        table = {}
        for name in dict.fromkeys(names):
            self.require(name)
            table[name] = read_number(self.raw, name, self.path)
            if not empty and not table[name].notna().any():
                raise InputError(f"column '{name}' has no value at all", path=self.path)
            if name in INDEX and self.is_voxelwise:
                _check_index(table[name], name, self.path)
        numbers = pd.DataFrame(table, index=self.raw.index)
        require_magnitude(numbers, self.path)
        scanner = self.text("scanner") if "scanner" in self else None
        check_units(numbers, scanner, self.path, of_voxels=self.is_voxelwise)
        self.doubts(numbers)
        return numbers

    def doubts(self, numbers: pd.DataFrame) -> list[str]:
        """Say what was left out in reading, and which columns of numbers differ so much between sites that units may.

        Raises
        ------
        UnitError
            If they differ as units do.
        """
        labels = {name: self.text(name) for name in ("scanner", "group") if name in self}
        measured = [name for name in numbers if name not in (*TEXT, *POSITION)]
        return [*self.notes, *check_sites(numbers[measured], labels, self.path, contract=MEASUREMENTS)]

    def text(self, name: str, *, complete: bool = False) -> pd.Series:
        """Return a column as text without blanks around it; with `complete`, an empty cell is an error."""
        self.require(name)
        values = as_text(self.raw[name])
        if complete and (values == "").any():
            raise InputError(
                f"column '{name}', line {line_of(values == '')} is empty",
                path=self.path,
                hint="fill it, or drop the row",
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
                raise InputError(f"no row has {name} '{value}'", path=self.path, hint=f"there is {there}")
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
            for key, part in self.raw.groupby([self.text(name) for name in keys], sort=False)
        ]

    def require_unique(self, by: Sequence[str]) -> None:
        """Check that every row is one sample (x model x strategy), and that the rows of a sample say the same of it.

        Raises
        ------
        InputError
            If two rows have the same labels in the columns that the table has of `by`, or rows of one sample another
            group, scanner or histology.
        """
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
            lines = [line_at(position) for position in labels.index[(labels == row).all(axis=1)][:2]]
            rest = ", ".join(str(row[name]) for name in keys if name != "sample")
            where = f"{f' for {rest}' if rest else ''} (lines {lines[0]} and {lines[1]})"
            raise InputError(
                f"sample '{row['sample']}' comes twice{where}",
                path=self.path,
                hint="keep one row per sample, or select a model and strategy",
            )
        self.require_consistent()

    def require_consistent(self) -> None:
        """Raise an InputError if rows of one sample have another group, scanner or (in tables of samples) histology."""
        samples = self.text("sample")
        for name in ("group", "scanner"):
            if name in self:
                _check_same(self.text(name).replace("", "(empty)"), [samples], name, self.path)
        if self.is_voxelwise:
            return
        # Fits that lost other voxels were averaged over the histology of other voxels.
        averaged = "n_voxels" in self
        cases = [samples, self.text("n_voxels")] if averaged else [samples]
        for name in ("vCS_histo_um", "F_histo", "CD_histo_mm2"):
            if name in self:
                values = read_number(self.raw, name, self.path)
                _check_same(values, cases, name, self.path, alike=_ALIKE if averaged else _SAME)

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


def read_sheet(path: str | Path, columns: str | Path | None = None, *, known: Collection[str] | None = None) -> Sheet:
    """Read a table of any columns.

    Parameters
    ----------
    path : path-like
        CSV (comma, semicolon or tab), .xlsx or Parquet, with a header.
    columns : path-like, optional
        TOML file of renamings (``vCS_mri_um = "cell size MRI"``), with values for columns that the table lacks in its
        section ``[constants]``, and the columns of each model in ``[[models]]`` (see `read_column_map`).
    known : collection of str, optional
        What the column map may name; by default anything.

    Raises
    ------
    InputError
        If it cannot be read, has no rows, or the column map does not fit.
    """
    path = require_file(path, "table")
    raw, notes = read_raw(path, _NUMERIC)
    if columns is not None:
        column_map = read_column_map(columns)
        if known is not None:
            column_map.require_known(known)
        raw = column_map.apply(raw, path)
    if not len(raw):
        raise InputError("has a header and no rows", path=path)
    return Sheet(path, raw, notes)


def _check_index(values: pd.Series, name: str, path: Path) -> None:
    wrong = ~((values % 1 == 0) & values.between(0, LARGEST_INDEX))
    if wrong.any():
        raise InputError(
            f"column '{name}', line {line_of(wrong)}: {values[wrong].iloc[0]:g} is not the index of a voxel",
            path=path,
            hint=f"voxels are counted from 0 to {LARGEST_INDEX}",
        )


def _check_same(values: pd.Series, cases: list[pd.Series], name: str, path: Path, alike: float = 0.0) -> None:
    """Raise an InputError if rows of one case have different values; numbers may differ by the share `alike`."""
    first = values.groupby(cases).transform("first")
    numeric = pd.api.types.is_numeric_dtype(values)
    differs = (values - first).abs() > alike * first.abs() if numeric else values != first
    if differs.any():
        row = differs.index[differs.to_numpy()][0]
        sample = cases[0][row]
        one = values.index[((cases[0] == sample) & (values == first[row])).to_numpy()][0]
        told = f"{values[one]} (line {line_at(one)}) and {values[row]} (line {line_at(row)})"
        raise InputError(
            f"sample '{sample}' has two values of '{name}': {told}",
            path=path,
            hint="a sample has one; correct the rows, or tell the samples apart",
        )
