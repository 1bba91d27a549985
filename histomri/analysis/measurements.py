"""Tables of measurements whose columns the person chooses: turned into numbers column by column, checked on the way."""

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import pandas as pd

from histomri.analysis.mapping import read_column_map
from histomri.analysis.options import TableOptions
from histomri.analysis.patients import with_patients
from histomri.analysis.table_checks import label_mistakes, unit_mistakes, without_missing, without_units_row
from histomri.analysis.units import check_sites, check_units, require_magnitude
from histomri.core.columns import CASE, INDEX, LABELS, MEASUREMENTS, PATIENT, POSITION, SYST, errors_of
from histomri.core.errors import InputError, InputErrors, raise_together
from histomri.core.tables import Table, as_text, fraction_of_numbers, line_at, line_of, read_table

LARGEST_INDEX = 32766  # an axis of a NIfTI-1 image has at most 32767 voxels
# Up to which fraction the histology of a sample's rows may differ: by rounding, or as a mean over nearly the same
# voxels.
_SAME, _ALIKE = 0.01, 0.1
_NUMERIC = (*POSITION, *MEASUREMENTS, "BIC", "AIC")
Chosen = TypeVar("Chosen", bound=TableOptions)


class MeasurementTable(Table):
    """A table with one row per sample (x model x strategy) or voxel, as text; see `Table`."""

    hint_of_text = "leave the cell empty if the value is missing, or name what stands for it with --missing"

    @classmethod
    def of(cls, frame: pd.DataFrame, path: str | Path = "table") -> Self:
        """Return a table that is in memory already, called `path` in messages."""
        words = [name for name in frame if name in LABELS or not pd.api.types.is_numeric_dtype(frame[name])]
        texts = {name: as_text(frame[name]).where(frame[name].notna(), "") for name in words}
        return cls(Path(path), frame.assign(**texts).reset_index(drop=True))

    def prepared(self, missing: Sequence[str] = (), labels: Sequence[str | None] = ()) -> Self:
        """Return the table with cells emptied that hold a word of `missing`, and the mistakes of its labels noted.

        `labels` are more columns of labels, as far as the table has them.
        """
        frame, notes = without_missing(self.frame, missing, self.path)
        texts = [name for name in dict.fromkeys((*LABELS, *labels)) if name is not None and name in frame]
        mistakes = label_mistakes(frame, texts, self.path)
        return replace(self, frame=frame, notes=(*self.notes, *notes), mistakes=(*self.mistakes, *mistakes))

    def noting(self, check: Callable[[], Any]) -> Self:
        """Return the table with the mistake that a check raises, which `numbers` raises with those of the cells."""
        try:
            check()
        except InputError as error:
            each = error.errors if isinstance(error, InputErrors) else (error,)
            return replace(self, mistakes=(*self.mistakes, *each))
        return self

    @property
    def is_voxelwise(self) -> bool:
        """Whether a row is a voxel (columns i, j, k)."""
        return set(INDEX) <= set(self.names)

    def numbers(self, names: Sequence[str], *, empty: bool = False) -> pd.DataFrame:
        """Return columns as numbers, NaN where missing; with `empty`, a column may have no value at all."""
        numbers = super().numbers(names)
        for name, values in numbers.items():
            if not empty and not values.notna().any():
                raise InputError(f"column '{name}' has no value at all", path=self.path)
            if name in INDEX and self.is_voxelwise:
                _check_index(values, str(name), self.path)
        require_magnitude(numbers, self.path)
        scanner = self.text("scanner") if "scanner" in self else None
        check_units(numbers, scanner, self.path, of_voxels=self.is_voxelwise)
        self.quality_warnings(numbers)
        return numbers

    def errors(self, names: Iterable[str]) -> pd.DataFrame:
        """Return the systematic errors of those of the columns that have any, under the names of these columns."""
        known = {f"{name}{SYST}": name for name in names if f"{name}{SYST}" in self}
        return self.numbers(list(known), empty=True).rename(columns=known)

    def quality_warnings(self, numbers: pd.DataFrame) -> list[str]:
        """Say what was left out in reading, and which columns differ so much between sites that units may."""
        labels = {name: self.text(name) for name in ("scanner", "group") if name in self}
        measured = [name for name in numbers if name not in (*LABELS, *POSITION)]
        return [*self.notes, *check_sites(numbers[measured], labels, self.path)]

    def numeric_names(self) -> list[str]:
        """Return the columns in which every filled cell is a number, labels and positions aside."""
        return [name for name in self._others() if self._has_numbers(name, otherwise=False)]

    def measurements(self) -> list[str]:
        """Return the measurements there are: those of histomri, or all that are mostly numbers if there are none.

        One with text in it is among them, and `numbers` refuses it: left out silently, it would not be missed.
        """
        known = [name for name in MEASUREMENTS if name in self and self._has_numbers(name, otherwise=True)]
        if len(known) < 2:
            errors = errors_of(self.names, self.names)
            others = [name for name in self._others() if name not in errors]
            return [name for name in others if fraction_of_numbers(self.frame[name]) > 0.5]
        return known

    def has_values(self, name: str) -> bool:
        """Return whether there is a column of this name that is not empty; one with text in it is not either."""
        return name in self and self._has_numbers(name, otherwise=True)

    def misspelt(self) -> list[str]:
        """Say which columns look like a measurement that the table does not have."""
        absent = {name.casefold(): name for name in MEASUREMENTS if name not in self}
        texts = []
        for name in self.names:
            close = difflib.get_close_matches(name.casefold(), absent, n=1, cutoff=0.8)
            if close and name not in MEASUREMENTS:
                texts.append(f"column '{name}' is not used; did you mean '{absent[close[0]]}'?")
        return texts

    def only(self, **wanted: str | None) -> Self:
        """Keep the rows in which the columns have the wanted text; None keeps all."""
        kept = pd.Series(True, index=self.frame.index)
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
        return self.rows(kept)

    def parts(self, by: str | None = None) -> list[tuple[dict[str, str], Self]]:
        """Split by model and strategy, as far as there are such columns, and by a column of the person's choice."""
        if by is not None:
            self.require(by)
        keys = [name for name in ("model", "strategy", by) if name is not None and name in self]
        if not keys:
            return [({}, self)]
        groups = self.frame.groupby([self.text(name) for name in keys], sort=False)
        parts = [(dict(zip(keys, map(str, key))), replace(self, frame=part)) for key, part in groups]
        parts = [(key, part) for key, part in parts if by is None or key[by].strip()]
        if not parts:
            raise InputError(f"column '{by}' is empty", path=self.path)
        return parts

    def require_unique(self, by: Sequence[str] = CASE) -> None:
        """Check that every row is one sample (x model x strategy), and that the rows of a sample say the same of it."""
        keys = [name for name in by if name in self]
        labels = pd.DataFrame({name: self.text(name) for name in keys})
        table = replace(self, mistakes=())
        for name in keys:
            # An empty column distinguishes nothing; a gap in one is a row that belongs nowhere, or a remark.
            complete = name == "sample" or bool(labels[name].any())
            table = table.noting(partial(self.text, name, complete=complete))
        if "sample" in keys:
            table = table.noting(partial(self._require_single, labels)).noting(self.require_consistent)
        raise_together(table.mistakes, self.path)

    def _require_single(self, labels: pd.DataFrame) -> None:
        """Raise an InputError for each case of complete labels that has several rows."""
        keys, found = list(labels), []
        known = labels[labels["sample"] != ""]
        for case, rows in known[known.duplicated(keep=False)].groupby(keys, sort=False):
            lines = sorted(line_at(place) for place in rows.index)
            rest = ", ".join(str(value) for name, value in zip(keys, case) if name != "sample")
            where = f"{f' for {rest}' if rest else ''} (lines {', '.join(map(str, lines[:-1]))} and {lines[-1]})"
            often = "twice" if len(lines) == 2 else f"{len(lines)} times"
            problem = f"sample '{case[keys.index('sample')]}' comes {often}{where}"
            hint = "keep one row per sample, or select a model and strategy"
            found.append(InputError(problem, path=self.path, hint=hint))
        raise_together(found, self.path)

    def require_consistent(self) -> None:
        """Raise an InputError if rows of a sample have another patient, group, scanner or (not of voxels) histology."""
        samples = self.text("sample")
        for name in (PATIENT, "group", "scanner"):
            if name in self:
                _check_same(self.text(name).replace("", "(empty)"), [samples], name, self.path)
        if self.is_voxelwise:
            return
        # Fits that lost other voxels were averaged over the histology of other voxels.
        averaged = "n_voxels" in self
        cases = [samples, self.text("n_voxels")] if averaged else [samples]
        for name in ("vCS_histo_um", "F_histo", "CD_histo_mm2"):
            if name in self:
                _check_same(self.number(name), cases, name, self.path, alike=_ALIKE if averaged else _SAME)

    def _others(self) -> list[str]:
        return [name for name in self.names if name not in (*LABELS, *POSITION)]

    def _has_numbers(self, name: str, *, otherwise: bool) -> bool:
        """Return whether a column holds a number; `otherwise`, if a cell is neither number nor missing."""
        try:
            return bool(self.number(name).notna().any())
        except InputError:
            return otherwise


def read_measurements(
    path: str | Path, columns: str | Path | None = None, *, known: Collection[str] | None = None,
    missing: Sequence[str] = (), labels: Sequence[str | None] = (),
) -> MeasurementTable:  # fmt: skip
    """Read a table of any columns, as `histomri.core.tables.read_table` does.

    `columns` is a TOML file of renamings (``vCS_mri_um = "cell size MRI"``), with values for columns that the table
    lacks in its section ``[constants]``, and the columns of each model in ``[[models]]`` (see `read_column_map`);
    `known` are the columns that it may name, by default any; cells that hold a word of `missing` have no value, and
    `labels` are columns of labels beside those of histomri, as far as they are there. A row of units below the header
    is left out, with a note. It is an InputError if the table cannot be read or has no rows, or if the column map does
    not fit. Other mistakes, such as rows of summaries or names spelt in several ways, are kept, and raised with those
    of the cells once it is known which columns matter (`numbers`).
    """
    table = read_table(path, numeric=_NUMERIC)
    frame, units, notes = without_units_row(table.frame, table.path)
    if columns is not None:
        column_map = read_column_map(columns)
        if known is not None:
            column_map.require_known(known)
        frame = column_map.apply(frame, table.path)
        units = None if units is None else column_map.apply(units, table.path)
    if not len(frame):
        raise InputError("has a header and no rows", path=table.path)
    of_units = [] if units is None else unit_mistakes(units.iloc[:1], table.path)
    found = MeasurementTable(table.path, frame, (*table.notes, *notes), tuple(of_units))
    return found.prepared(missing, labels)


def opened(
    kind: type[Chosen], given: Chosen | pd.DataFrame | str | Path, choices: dict[str, Any], **known: Any
) -> tuple[Chosen, MeasurementTable]:
    """Return options and table from what a function was given: options, or a table with options by name."""
    if isinstance(given, kind):
        assert given.table is not None
        return given, read_measurements(
            given.table, given.columns, missing=given.missing, labels=_labels(given), **known
        )
    if hasattr(given, "to_pandas"):
        given = given.to_pandas()
    if isinstance(given, pd.DataFrame):
        options = kind.read(table=Path("table"), **choices)
        return options, MeasurementTable.of(given).prepared(options.missing, _labels(options))
    if not isinstance(given, str | Path):
        problem = f"a {type(given).__name__} is no table"
        raise InputError(problem, hint="give a DataFrame, or the path of a CSV, .xlsx or Parquet")
    return opened(kind, kind.read(table=Path(given), **choices), {}, **known)


def _labels(options: TableOptions) -> list[str | None]:
    """Return the columns of labels that options name."""
    return [getattr(options, name, None) for name in ("patient", "by", "group_by", "batch", "within")]


def opened_cases(
    kind: type[Chosen], given: Chosen | pd.DataFrame | str | Path, choices: dict[str, Any]
) -> tuple[Chosen, MeasurementTable]:
    """Return options and table as `opened` does, of the wanted model and strategy, with one row per sample."""
    options, table = opened(kind, given, choices)
    if "patient" in kind.model_fields:
        table = with_patients(table, getattr(options, "patient", None))
    if table.is_voxelwise:
        problem = "has a row per voxel, and rows per sample are needed"
        raise InputError(problem, path=table.path, hint="average it with histomri pair --per sample")
    chosen = table.only(model=getattr(options, "model", None), strategy=getattr(options, "strategy", None))
    return options, chosen.noting(chosen.require_unique)


def _check_index(values: pd.Series, name: str, path: Path) -> None:
    wrong = ~((values % 1 == 0) & values.between(0, LARGEST_INDEX))
    if wrong.any():
        problem = f"column '{name}', line {line_of(wrong)}: {values[wrong].iloc[0]:g} is not the index of a voxel"
        raise InputError(problem, path=path, hint=f"voxels are counted from 0 to {LARGEST_INDEX}")


def _check_same(values: pd.Series, cases: list[pd.Series], name: str, path: Path, alike: float = 0.0) -> None:
    """Raise an InputError if rows of one case have different values; numbers may differ by the fraction `alike`."""
    first = values.groupby(cases).transform("first")
    numeric = pd.api.types.is_numeric_dtype(values)
    differs = (values - first).abs() > alike * first.abs() if numeric else values != first
    if differs.any():
        row = differs.index[differs.to_numpy()][0]
        sample = cases[0][row]
        one = values.index[((cases[0] == sample) & (values == first[row])).to_numpy()][0]
        both = f"{values[one]} (line {line_at(one)}) and {values[row]} (line {line_at(row)})"
        problem = f"sample '{sample}' has two values of '{name}': {both}"
        hint = "a sample has one; correct the rows, or give the samples different names"
        raise InputError(problem, path=path, hint=hint)
