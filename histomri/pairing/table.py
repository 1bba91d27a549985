"""The paired table: histology and MRI side by side, one row per voxel or per sample."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow

from histomri.analysis.ranking_notes import listed
from histomri.analysis.summary import counted_cases, summarise_voxels
from histomri.core import columns as core_columns
from histomri.core.array_files import read_parquet
from histomri.core.columns import CASE, COUNTS, KEYS, PATIENT, check_sidecar, column_of, keys_of, title_of, unit_text
from histomri.core.display import Displayed
from histomri.core.door import reading
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, read_json, require_file, write_json
from histomri.core.formulas import with_names, without_formulas

_CASE = list(CASE)
Level = Literal["voxel", "sample"]


@dataclass(frozen=True, repr=False)
class PairedTable(Displayed):
    """Histology and MRI, paired: one row per voxel (or sample) x model x strategy."""

    data: pd.DataFrame  # columns as in `histomri.core.columns`
    level: Level = "voxel"  # what a row is
    # Voxels fitted, and left out by reason, a row per sample x model x strategy.
    counts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COUNTS)))
    parameters: Mapping[str, Any] = field(default_factory=dict)  # settings, such as the slice of each sample
    warnings: tuple[str, ...] = ()  # what makes the pairs less trustworthy
    described: Mapping[str, Any] = field(default_factory=dict)  # units and meaning of columns, as in the sidecar

    def __len__(self) -> int:
        return len(self.data)

    def facts(self) -> Mapping[str, Any]:
        """Return what the table holds."""
        samples, models = (self.data[name].nunique() for name in ("sample", "model"))
        return {"rows": len(self), "a row is a": self.level, "samples": samples, "models": models}

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows."""
        return self.data.copy()

    def plot(self, name: str = "vCS") -> Any:
        """Draw MRI against histology (vCS or F), one colour per model and strategy; return the Axes of matplotlib."""
        from matplotlib import pyplot

        _, axes = pyplot.subplots()
        x, y = column_of(name, "histo"), column_of(name, "mri")
        for labels, part in self.data.groupby(["model", "strategy"], sort=False, observed=True):
            axes.plot(part[x], part[y], "." if self.level == "voxel" else "o", label=", ".join(labels))
        values = self.data[[x, y]].to_numpy(dtype=float)
        axes.axline((np.nanmin(values),) * 2, slope=1, color="0.7")
        axes.set(xlabel=title_of(x) + unit_text(x), ylabel=title_of(y) + unit_text(y))
        axes.legend()
        return axes

    def per_sample(self) -> pd.DataFrame:
        """Return one row per sample x model x strategy, see `histomri.analysis.summarise_voxels`."""
        return self.data.copy() if self.level == "sample" else summarise_voxels(self.data, self.counts)

    def summarised(self) -> "PairedTable":
        """Return the table of samples as a PairedTable."""
        return PairedTable(self.per_sample(), "sample", self.counts, self.parameters, self.warnings, self.described)

    def of_patient(self, name: str) -> "PairedTable":
        """Return the table with the patient beside the sample, for samples of whom there are several."""
        data, counts = (_keys_first(frame.assign(**{PATIENT: name})) for frame in (self.data, self.counts))
        return replace(self, data=data, counts=counts)

    def with_measures(
        self, measures: Mapping[str, Mapping[str, float]], free_water_um2_ms: Mapping[str, float] | None = None
    ) -> "PairedTable":
        """Return the table with a column per measurement of the samples, NaN for samples without it.

        Water diffuses faster in a patient than in a tube: where its diffusivity differs, ADC is given over it too.
        """
        sample = self.data["sample"]
        names = dict.fromkeys(name for values in measures.values() for name in values)
        by_name = {name: {key: values.get(name) for key, values in measures.items()} for name in names}
        columns = {name: sample.map(values).astype(float) for name, values in by_name.items()}
        water = free_water_um2_ms or {}
        if len(set(water.values())) > 1 and "ADC_um2_ms" in self.data:
            columns["ADC_per_water"] = self.data["ADC_um2_ms"] / sample.map(water)
        return replace(self, data=self.data.assign(**columns))

    @classmethod
    def join(cls, tables: Iterable["PairedTable"], names: Sequence[str] = ()) -> "PairedTable":
        """Put the tables of several samples, all of voxels or all of samples, under each other.

        It is an InputError, naming the tables by `names`, if a sample comes twice with a model and strategy, levels
        differ, or cells were measured as published in one and in 3D in another.
        """
        if not (parts := list(tables)):
            raise InputError("there is no table of pairs to join")
        _require_one_size(parts)
        if len({part.level for part in parts}) > 1:
            there = "".join(f"; {name} has a row per {part.level}" for name, part in zip(names, parts))
            problem = f"tables of voxels and tables of samples cannot be joined{there}"
            raise InputError(problem, hint="pair all with one --per")
        counts = _stack([part.counts for part in parts])
        repeated = counts[counts.duplicated(_CASE)]
        if len(repeated):
            row = repeated.iloc[0]
            held = [(part.counts[_CASE] == row[_CASE]).all(axis=1).any() for part in parts]
            holders = [name for name, holds in zip(names, held) if holds]
            where = f" ({' and '.join(holders)})" if holders else ""
            problem = f"sample {row['sample']} comes twice for {row['model']}, {row['strategy']}{where}"
            raise InputError(problem, hint="leave one out, or give each its own name (histomri pair --sample)")
        settings: dict[str, Any] = {}
        for part in parts:
            for name, value in part.parameters.items():
                both = isinstance(value, Mapping) and isinstance(settings.get(name), Mapping)
                settings[name] = {**settings[name], **value} if both else value
        warnings = tuple(dict.fromkeys(text for part in parts for text in part.warnings))
        described = core_columns.join_descriptions(part.described for part in parts)
        data = _stack([part.data for part in parts])
        return cls(data, parts[0].level, counts, settings, warnings, described)

    def save(self, path: str | Path, sources: Iterable[str | Path] = ()) -> list[Path]:
        """Write the table (.csv or .parquet) and its sidecar (.json: units, counts, settings); return both paths."""
        path = Path(path)
        if path.suffix not in (".csv", ".parquet"):
            raise InputError("a table is written as .csv or .parquet", path=path, hint="change the ending")
        other = path.with_suffix(".parquet" if path.suffix == ".csv" else ".csv")
        if other.exists():
            raise InputError(f"would share its sidecar with {other.name}", path=path, hint="choose another name")
        with atomic_path(path) as temporary:
            if path.suffix == ".parquet":
                self.data.to_parquet(temporary, index=False)
            else:
                _write_csv(self.data, temporary, short=self.level == "voxel")
        known = core_columns.describe_columns()
        content = {
            "Level": self.level,
            "Columns": {name: core_columns.describe_column(name, known, self.described) for name in self.data.columns},
            "Counts": self.counts.astype(object).where(self.counts.notna(), None).to_dict("records"),
            "Warnings": list(self.warnings),
            **provenance(sources, self.parameters),
        }
        return [path, write_json(path.with_suffix(".json"), content)]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a table that was written by `save`; without its sidecar it has no counts of what was left out."""
        path = require_file(path, "table of pairs")
        data = _read(path)
        if missing := [name for name in (*_CASE, "vCS_mri_um", "vCS_histo_um") if name not in data]:
            raise InputError(f"is not a table of pairs: column '{missing[0]}' is missing", path=path)
        described = check_sidecar(path, data.columns)
        sidecar = path.with_suffix(".json")
        content = read_json(sidecar, "sidecar") if sidecar.exists() else {}
        level: Level = "voxel" if {"i", "j", "k"} <= set(data.columns) else "sample"
        counts = counted_cases(content.get("Counts") or [], data)
        return cls(data, level, counts, content.get("Parameters", {}), tuple(content.get("Warnings", ())), described)


def _require_one_size(parts: Sequence[PairedTable]) -> None:
    """Refuse sizes as published beside those in 3D: they differ by tens of per cent in the same tissue."""
    sizes: dict[str, list[str]] = {}
    for part in parts:
        for sample, size in dict(part.parameters.get("size") or {}).items():
            sizes.setdefault(str(size), []).append(str(sample))
    if len(sizes) > 1:
        there = "; ".join(f"{size}: {listed(samples)}" for size, samples in sorted(sizes.items()))
        problem = f"histology as published and in 3D cannot stand in one table ({there})"
        hint = 'pair all with one --size; in a study, size = "paper" or outline_kind for all in [patches]'
        raise InputError(problem, hint=hint)


def _stack(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Stack frames; a column that one part lacks is empty there, and an empty frame must not decide dtypes."""
    columns = list(dict.fromkeys(name for part in parts for name in part.columns))
    filled = [part for part in parts if len(part)] or parts[:1]
    # A column without a single value has no type of its own (all-missing object columns would make one up).
    kept = [part.dropna(axis=1, how="all") for part in filled]
    return _keys_first(pd.concat(kept, ignore_index=True).reindex(columns=columns))


def _keys_first(table: pd.DataFrame) -> pd.DataFrame:
    keys = keys_of(table.columns)
    return table[[*keys, *[name for name in table.columns if name not in keys]]]


def _write_csv(data: pd.DataFrame, path: Path, *, short: bool) -> None:
    from pyarrow import csv

    if short:
        # Voxels come from float32 maps: more digits than those hold would only take space.
        data = data.astype(dict.fromkeys(data.select_dtypes("float64").columns, np.float32))
    csv.write_csv(pyarrow.Table.from_pandas(without_formulas(data), preserve_index=False), path)


def _read(path: Path) -> pd.DataFrame:
    with reading(path, "table", says="cannot be read as a table ({})"):
        if path.suffix == ".parquet":
            return read_parquet(path, "table").to_pandas()
        # Identifiers stay text ("01" is not 1), and a sample may be called "NA": only an empty cell is missing.
        table = pd.read_csv(path, dtype=dict.fromkeys((*KEYS, PATIENT), str), keep_default_na=False, na_values=[""])
        return with_names(table)
