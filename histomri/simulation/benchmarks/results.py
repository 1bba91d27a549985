"""Results of any tool, read from a table, matched with the truth of a benchmark set, and scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.columns import unit_text
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import provenance, refuse_overwrite, require_folder, write_json
from histomri.core.tables import Table, line_at, line_of, read_table, suggestion
from histomri.simulation.benchmarks.declaration import BenchmarkSet
from histomri.simulation.benchmarks.scoring import ALL, score_estimates, score_points
from histomri.simulation.benchmarks.sets import get_set
from histomri.simulation.benchmarks.write import describe
from histomri.simulation.write import write_csv

_Z95 = 1.959964
_SHOWN = 5


@dataclass(frozen=True, repr=False)
class BenchmarkScore(Displayed):
    """How far results are from the truth of a set: a table (see `score_estimates`, `score_points`), and what it says.

    `missing` are the rows of the truth for which there are no results.
    """

    benchmark: BenchmarkSet
    table: pd.DataFrame
    source: Path
    missing: tuple[str, ...]
    messages: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return set, results and the main numbers."""
        name = f"{self.benchmark.name} {self.benchmark.version}"
        return {"set": name, "results": self.source.name, "scores": "; ".join(self.messages)}

    def summary(self) -> dict[str, Any]:
        """Return the scores over all cases, by quantity."""
        rows = self.table[self.table["condition"] == ALL]
        return {str(row["quantity"]): row for row in rows.to_dict("records")}

    def save(self, folder: str | Path) -> list[Path]:
        """Write benchmark.csv and benchmark.json; the results are not overwritten."""
        folder = require_folder(folder)
        refuse_overwrite(folder / "benchmark.csv", [self.source])
        content = {
            **describe(self.benchmark), "Scores": self.table.to_dict("records"), "Missing": list(self.missing),
            "Warnings": list(self.warnings), **provenance([self.source]),
        }  # fmt: skip
        return [
            write_csv(folder / "benchmark.csv", self.table),
            write_json(folder / "benchmark.json", content),
        ]


def score_benchmark(results: str | Path | pd.DataFrame, name: str) -> BenchmarkScore:
    """Score the results of a tool against the truth of a benchmark set.

    Parameters
    ----------
    results : path-like or DataFrame
        A row per case, with the id columns of the set and at least one of its columns of estimates; cells may be empty.
        An estimate's 95 % interval may stand in COLUMN_low and COLUMN_high, or its standard error in COLUMN_se.
    name : str
        Of the set.

    Raises
    ------
    InputError
        If there is no such set, a column is missing, an id is unknown or comes twice, or a cell is no number.

    Examples
    --------
    >>> from histomri.simulation.benchmarks import get_set, score_benchmark
    >>> perfect = get_set("sections-nuclei").truth()
    >>> score_benchmark(perfect, "sections-nuclei").summary()["F"]["bias"]
    0.0
    """
    chosen = get_set(name)
    if isinstance(results, pd.DataFrame):
        table = Table(Path("the table of results"), results.reset_index(drop=True))
    else:
        table = read_table(results)
    truth = chosen.truth()
    place, missing = _match(table, chosen, truth)
    quantities = _quantities(table, chosen)
    columns = {name: values for quantity in quantities for name, values in _read_estimate(table, quantity).items()}
    found = pd.DataFrame(columns, index=table.frame.index).set_axis(place, axis=0).reindex(range(len(truth)))
    joined = pd.concat([truth.rename(columns={each: f"{each}_true" for each in chosen.estimates}), found], axis=1)
    # A condition may be a quantity too.
    joined = joined.assign(**{each: truth[each] for each in chosen.conditions if each not in quantities})
    conditions = [f"{each}_true" if each in quantities else each for each in chosen.conditions]
    if chosen.scored_by == "points":
        scores = score_points(joined, conditions, chosen.unit, chosen.pixel_mm)
    else:
        scores = score_estimates(joined, quantities, conditions, chosen.unit)
    scores["condition"] = scores["condition"].str.removesuffix("_true")
    warnings = (*table.notes, *_warnings(chosen, quantities, missing, len(truth), joined))
    lines = _point_lines(scores) if chosen.scored_by == "points" else _estimate_lines(scores)
    return BenchmarkScore(chosen, scores, table.path, missing, tuple(lines), warnings)


def _match(table: Table, chosen: BenchmarkSet, truth: pd.DataFrame) -> tuple[list[int], tuple[str, ...]]:
    """Return the row of the truth of each row of the results, and the ids of the truth that have none."""
    table.require(*chosen.ids)
    known = _keys([truth[name] for name in chosen.ids])
    given = _keys([table.text(name, complete=True) for name in chosen.ids])
    row_of = {key: row for row, key in enumerate(known)}
    first: dict[str, int] = {}
    strange = [(key, position) for key, position in zip(given, table.frame.index, strict=True) if key not in row_of]
    ids = " and ".join(f"'{name}'" for name in chosen.ids)
    if strange:
        key, position = strange[0]
        more = f", and {len(strange) - 1} more" if len(strange) > 1 else ""
        problem = f"line {line_at(position)}: {chosen.name} has no case '{key}'{suggestion(key, known)}{more}"
        raise InputError(problem, path=table.path, hint=f"take {ids} from `histomri simulate benchmark {chosen.name}`")
    for key, position in zip(given, table.frame.index, strict=True):
        if key in first:
            problem = f"case '{key}' comes twice, in lines {first[key]} and {line_at(position)}"
            raise InputError(problem, path=table.path, hint=f"give one row for each {ids}, and a file for each model")
        first[key] = line_at(position)
    return [row_of[key] for key in given], tuple(key for key in known if key not in first)


def _keys(columns: Sequence[pd.Series]) -> list[str]:
    return [" ".join(map(str, parts)) for parts in zip(*columns, strict=True)]


def _quantities(table: Table, chosen: BenchmarkSet) -> list[str]:
    """Return the quantities that the results have."""
    if chosen.scored_by == "points":
        table.require(*chosen.estimates)
    found = [name for name in chosen.estimates if name in table]
    if not found:
        problem = f"has no column of estimates; {chosen.name} asks for {', '.join(chosen.estimates)}"
        raise InputError(problem, path=table.path, hint=f"the table has {', '.join(table.names)}")
    return found


def _read_estimate(table: Table, quantity: str) -> dict[str, pd.Series]:
    """Return estimates and, if there are any, the limits of their intervals."""
    values = {quantity: table.number(quantity)}
    low, high, error = (f"{quantity}{ending}" for ending in ("_low", "_high", "_se"))
    if low in table or high in table:
        limits = {name: table.number(name) for name in (low, high)}
        _refuse(table, limits[low] > limits[high], f"{low} is above {high}", "exchange them")
        return values | limits
    if error in table:
        spread = table.number(error)
        _refuse(table, spread < 0, f"{error} is negative", "give the standard error, or leave the cell empty")
        return values | {low: values[quantity] - _Z95 * spread, high: values[quantity] + _Z95 * spread}
    return values


def _refuse(table: Table, wrong: pd.Series, problem: str, hint: str) -> None:
    if wrong.any():
        raise InputError(f"line {line_of(wrong)}: {problem}", path=table.path, hint=hint)


def _warnings(
    chosen: BenchmarkSet, quantities: Sequence[str], missing: tuple[str, ...], total: int, joined: pd.DataFrame
) -> list[str]:
    found = []
    if missing:
        some = ", ".join(missing[:_SHOWN]) + (", .." if len(missing) > _SHOWN else "")
        found.append(f"{len(missing)} of {total} cases of {chosen.name} have no row in the results: {some}")
    for quantity in quantities:
        empty = int(joined[quantity].isna().sum()) - len(missing)
        if empty:
            found.append(f"{quantity} is empty in {empty} of {total - len(missing)} rows, which its scores leave out")
    if left := [name for name in chosen.estimates if name not in quantities]:
        found.append(f"not scored, as the results have no such column: {', '.join(left)}")
    return found


def _estimate_lines(scores: pd.DataFrame) -> list[str]:
    lines = []
    for row in scores[scores["condition"] == ALL].to_dict("records"):
        name, unit = row["quantity"], unit_text(row["quantity"])
        # One case has no standard error, and two have no correlation.
        error = f" ± {row['bias_se']:.2g}" if np.isfinite(row["bias_se"]) else ""
        limits = f" ({row['r_low']:.2f} to {row['r_high']:.2f})" if np.isfinite(row["r_low"]) else ""
        r = f"r {row['r']:.2f}{limits}, " if np.isfinite(row["r"]) else ""
        text = f"{name}: bias {row['bias']:+.3g}{error}{unit} ({row['bias_percent']:+.0f} %), median error "
        text += f"{row['median_abs_error']:.3g}, rms {row['rms']:.3g}, {r}n {row['n']} of {row['n_cases']} cases"
        if np.isfinite(row.get("coverage", np.nan)):
            limits = f"{row['coverage_low']:.0%} to {row['coverage_high']:.0%}"
            text += f"; {row['coverage']:.0%} ({limits}) of {row['n_intervals']} intervals hold the truth"
        lines.append(text)
    return lines


def _point_lines(scores: pd.DataFrame) -> list[str]:
    (row,) = scores[scores["condition"] == ALL].to_dict("records")
    success = f"{row['success']:.0%} ({row['success_low']:.0%} to {row['success_high']:.0%})"
    return [
        f"median error {row['median_mm']:.3g} mm over {row['n_cases']} pairs and {row['n']} points",
        f"below one pixel: {success} of the pairs, {row['below_pixel']:.0%} of the points",
    ]
