"""What an analysis of a table found: tables, lines for the person who ran it, warnings, and how to write them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import pandas as pd

from histomri.analysis.options import TableOptions
from histomri.core.columns import CASE, unit_of
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, refuse_overwrite, require_folder, write_json
from histomri.core.formulas import without_formulas

# Estimates with their limits, and the columns that name them; the first three that a table has are drawn.
_ESTIMATES = (
    ("TCS", "TCS_ci_low", "TCS_ci_high"), ("r", "ci_low", "ci_high"), ("r_within", "ci_low", "ci_high"),
    ("beta", "ci_low_hc3", "ci_high_hc3"), ("bias", "bias_low", "bias_high"),
    ("hedges_g", "hedges_g_low", "hedges_g_high"),
)  # fmt: skip
_NAMES = (*CASE, "x", "y", "kind", "response", "term", "first", "second", "column", "group_a", "group_b")
_MOST_DRAWN, _MOST_LINES = 40, 3


class Written(NamedTuple):
    """The files that were written, what to say about them, what to warn of, and the same in numbers."""

    outputs: tuple[Path, ...]
    messages: tuple[str, ...]
    warnings: tuple[str, ...]
    summary: dict[str, Any]


@dataclass(frozen=True, repr=False)
class Findings(Displayed):
    """What was found in a table, how it came about, and how to show and write it."""

    json_name: str  # file that holds all results once more, with settings and sources
    tables: Mapping[str, pd.DataFrame]  # by the name of the file to write, the main one first
    content: Mapping[str, Any]  # results as the JSON file has them
    lines: Sequence[str]  # results and reservations for the person who ran it
    warnings: Sequence[str]
    sources: Sequence[Path]  # files they were made from
    settings: Mapping[str, Any]
    measures: Sequence[str] = ()  # columns whose units are recorded
    sidecars: Mapping[str, dict[str, Any]] = field(default_factory=dict)  # more JSON files, by name
    replaces: Sequence[str] = ()  # files that an earlier run may have left, and that do not go with these results

    @classmethod
    def joined(
        cls, json_name: str, frames: Mapping[str, tuple[str | None, Sequence[pd.DataFrame]]], lines: Sequence[str],
        warnings: Sequence[str], options: TableOptions, settings: Mapping[str, Any], *,
        more: Mapping[str, Any] | None = None, **others: Any,
    ) -> Self:  # fmt: skip
        """Put what was found in the parts of a table under each other."""
        tables = {name: pd.concat(list(parts), ignore_index=True) for name, (_, parts) in frames.items()}
        content = dict(more or {})
        content |= {key: tables[name].to_dict("records") for name, (key, _) in frames.items() if key is not None}
        sources = [path for path in (options.table, options.columns) if path is not None]
        return cls(json_name, tables, content, lines, warnings, sources, settings, **others)

    def facts(self) -> Mapping[str, Any]:
        """Return the tables with their sizes, the first lines, and the number of warnings."""
        sizes = {name: f"{len(table)} rows" for name, table in self.tables.items()}
        return {**sizes, "results": "; ".join(self.lines[:_MOST_LINES]), "warnings": len(self.warnings)}

    def _repr_html_(self) -> str:
        return self.to_pandas()._repr_html_()  # type: ignore[no-any-return]  # pandas does not annotate it

    def to_pandas(self) -> pd.DataFrame:
        """Return the main table."""
        return next(iter(self.tables.values()))

    def plot(self) -> Any:
        """Draw the main table's estimates with their intervals, the highest 40 rows of it; return matplotlib's Axes."""
        from matplotlib import pyplot

        table = self.to_pandas().head(_MOST_DRAWN)[::-1]
        found = next((names for names in _ESTIMATES if set(names) <= set(table.columns)), None)
        if found is None:
            raise InputError(f"{next(iter(self.tables))} has no estimates with intervals to draw")
        value, low, high = (table[name].to_numpy(dtype=float) for name in found)
        labels = table[[name for name in table.columns[: table.columns.get_loc(found[0])] if name in _NAMES]]
        _, axes = pyplot.subplots(figsize=(6, 1 + 0.25 * len(table)), layout="constrained")
        axes.errorbar(value, range(len(table)), xerr=[value - low, high - value], fmt="o", capsize=2)
        axes.set(xlabel=found[0], yticks=range(len(table)), yticklabels=labels.agg(", ".join, axis=1))
        return axes

    def write(self, out: Path) -> Written:
        """Write CSV tables, and a JSON file with the results and how they came to be; remove what they replace."""
        require_folder(out)
        for name in (*self.tables, self.json_name):
            refuse_overwrite(out / name, self.sources)
        for name in self.sidecars:
            refuse_overwrite(out / name, [source.with_suffix(".json") for source in self.sources])
        for name, table in self.tables.items():
            with atomic_path(out / name) as temporary:
                without_formulas(table).to_csv(temporary, index=False, lineterminator="\n")
        units = {name: unit for name in self.measures if (unit := unit_of(name)) is not None}
        about = provenance(self.sources, self.settings)
        record = {**self.content, "Units": units, "warnings": list(self.warnings), **about}
        outputs = [write_json(out / self.json_name, record), *(out / name for name in self.tables)]
        outputs += [write_json(out / name, {**content, **about}) for name, content in self.sidecars.items()]
        kept = {path.resolve() for path in (*outputs, *self.sources)}
        stale = [name for name in self.replaces if (out / name).is_file() and (out / name).resolve() not in kept]
        for name in stale:
            (out / name).unlink()
        removed = [f"removed {name} of an earlier run, which does not go with these results" for name in stale]
        return Written(tuple(outputs), (*self.lines, *removed), tuple(self.warnings), dict(self.content))


@contextmanager
def naming_part(path: Path, key: Mapping[str, str]) -> Iterator[None]:
    """Let errors name the table, and the model and strategy they are about."""
    try:
        yield
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(f"{heading(key)}{error.problem}", path=path, hint=error.hint) from error


def heading(key: Mapping[str, str]) -> str:
    """Return the labels of a part of a table as the beginning of a message, empty if there is only one part."""
    return f"{', '.join(key.values())}: " if key else ""


def labelled(key: Mapping[str, str], table: pd.DataFrame) -> pd.DataFrame:
    """Put the labels of a part in front of its results."""
    return pd.DataFrame(dict(key), index=table.index).join(table) if key else table


def missing_text(n_missing: int) -> str:
    """Return how many cases are left out, for the end of a line; empty if none is."""
    return f" ({n_missing} left out, a value is missing)" if n_missing else ""
