"""Every measurement against every other: tables and matrices of correlations, and `histomri correlate`."""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.correlation import Kind, adjust_p, correlate
from histomri.analysis.measurements import MeasurementTable, opened
from histomri.analysis.mixed import correlate_repeated
from histomri.analysis.options import Adjustment, CorrelateOptions, Interval
from histomri.analysis.results import Findings, heading, labelled, naming_part
from histomri.analysis.systematic import missing_errors, with_lines
from histomri.analysis.voxels import correlate_voxels
from histomri.core.columns import INDEX, WORLD
from histomri.core.errors import InputError
from histomri.core.tables import line_of

COLUMNS = ("x", "y", "kind", "r", "p", "q", "n", "ci_low", "ci_high", "n_missing", "note")
_VALUES = ("r", "p", "n", "ci_low", "ci_high", "n_missing", "note")
FILES = (
    "correlations.csv", "correlation_matrix.csv", "correlations_voxel.csv", "correlations_pooled.csv",
    "correlations_repeated.csv", "correlations.json",
)  # fmt: skip
_SHOWN = 8
_ALONE, _WITHIN = "{kind} r = {r:.3f}, p = {p:.2g}, q = {q:.2g}, N = {n}", "r = {r_within:.3f}, p = {p:.2g}"

_SHARED = "{x} with {y}: p < 0.05 within samples includes what maps share along the edge of the tissue; {edge}"


def correlation_table(
    table: pd.DataFrame, x: Sequence[str] | None = None, y: Sequence[str] | None = None, *,
    kinds: Sequence[Kind] = ("pearson", "spearman"), confidence: float = 0.95, interval: Interval = "jackknife",
    adjustment: Adjustment = "bh",
) -> pd.DataFrame:  # fmt: skip
    """Correlate columns of a table in pairs.

    Parameters
    ----------
    table : DataFrame
        One row per case, columns of numbers; NaN is missing.
    x, y : sequence of str, optional
        Every x against every y. Without y every pair of x; without both every pair of columns.
    kinds, interval
        As in `correlate`; every kind in turn.
    adjustment : {"bh", "holm", "bonferroni"}
        Of q, over all tests of one kind.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row per pair and kind; q is the adjusted p. Undefined correlations are NaN with a note,
        and do not count as tests.
    """
    first = list(x) if x is not None else list(table.columns)
    pairs = list(combinations(first, 2)) if y is None else [(a, b) for a in first for b in y if a != b]
    rows = []
    for kind in kinds:
        for one, other in pairs:
            found = correlate(table[one], table[other], kind=kind, confidence=confidence, interval=interval)
            rows.append({"x": one, "y": other, "kind": kind, "q": np.nan, **found.row(*_VALUES)})
    result = pd.DataFrame(rows, columns=list(COLUMNS))
    return result.assign(q=result.groupby("kind")["p"].transform(adjust_p, adjustment))


def as_matrix(correlations: pd.DataFrame, value: str = "r", kind: Kind = "pearson") -> pd.DataFrame:
    """Return one value (r, p, q or n) of a table of all pairs, from `correlation_table`, as a symmetric matrix.

    Rows and columns are the measurements; pairs not in the table are NaN, the diagonal is 1 for r, NaN otherwise.
    """
    mine = correlations[correlations["kind"] == kind]
    names = list(dict.fromkeys([*mine["x"], *mine["y"]]))
    place = {name: position for position, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    rows, columns = [place[name] for name in mine["x"]], [place[name] for name in mine["y"]]
    matrix[rows, columns] = matrix[columns, rows] = mine[value].to_numpy(dtype=float)
    if value == "r":
        np.fill_diagonal(matrix, 1.0)
    return pd.DataFrame(matrix, index=names, columns=names)


def correlate_table(table: CorrelateOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Correlate the columns of a table with one row per sample, or per voxel (i, j, k), in every model and strategy.

    `table` is a DataFrame or path, with options of `histomri correlate` beside it, such as ``x=["Ki67"], y=["F_mri"]``,
    or a CorrelateOptions. By default every measurement is correlated with every other; of voxels histology with MRI.
    Where columns have systematic errors (`.._syst`), Pearson's correlations come with the line of y on x and its own.
    The Findings are correlations.csv and correlation_matrix.csv; of voxels correlations_voxel.csv and
    correlations_pooled.csv; with `group_by` correlations_repeated.csv.
    """
    options, rows = opened(CorrelateOptions, table, choices)
    rows = rows.only(model=options.model, strategy=options.strategy)
    if rows.is_voxelwise:
        if options.group_by is not None:
            problem = "has a row per voxel, and its samples are the groups"
            raise InputError(problem, path=rows.path, hint="drop --group-by")
        return _voxels(rows, options)
    return _cases(rows, options) if options.group_by is None else _repeated(rows, options, options.group_by)


def _cases(rows: MeasurementTable, options: CorrelateOptions) -> Findings:
    rows.require_unique()
    names = list(dict.fromkeys([*options.x, *options.y])) or rows.measurements()
    values = rows.numbers(names)
    if len(names) < 2:
        problem = "there are fewer than two columns to correlate"
        raise InputError(problem, path=rows.path, hint="name more with --x, --y")
    x, y = list(options.x) or names, list(options.y) or None
    how: dict[str, Any] = {"kinds": options.kinds, "interval": options.interval, "adjustment": options.adjust}
    found, matrices, errors = [], [], rows.errors(names)
    for key, part in rows.parts(options.by):
        mine = values.loc[part.frame.index]
        result = correlation_table(mine, x, y, **how)
        found.append(labelled(key, with_lines(result, mine, errors)))
        matrices += [labelled(key, _stacked(result, kind)) for kind in options.kinds] if y is None else []
    everything = pd.concat(found, ignore_index=True)
    warnings = rows.quality_warnings(values) + ([] if options.x or options.y else rows.misspelt())
    frames: dict[str, tuple[str | None, list[pd.DataFrame]]] = {"correlations.csv": ("correlations", [everything])}
    if matrices:
        frames["correlation_matrix.csv"] = (None, matrices)
    lines = _lines(everything, "correlations", "r", _ALONE)
    warnings += [*_missing(everything), *_undefined(everything), *missing_errors(values, errors)]
    return _findings(options, frames, lines, warnings, names, interval=options.interval)


def _repeated(rows: MeasurementTable, options: CorrelateOptions, by: str) -> Findings:
    twice = rows.frame.duplicated()
    if twice.any():
        raise InputError(f"line {line_of(twice)} repeats another line, cell by cell", path=rows.path, hint="drop one")
    names = list(dict.fromkeys([*options.x, *options.y])) or [name for name in rows.measurements() if name != by]
    values = rows.numbers(names).assign(**{by: rows.text(by, complete=True)})
    found = []
    for key, part in rows.parts(options.by):
        mine = values.loc[part.frame.index]
        with naming_part(rows.path, key):
            result = correlate_repeated(mine, options.x or names, options.y or None, by=by, adjustment=options.adjust)
        found.append(labelled(key, result))
    everything = pd.concat(found, ignore_index=True)
    size = "{n} rows, {n_groups} groups, {df:.0f} degrees of freedom"
    lines = _lines(everything, "pairs", "r_within", f"{_WITHIN} ({size})", f" within each {by}")
    warnings = [*_missing(everything), *_undefined(everything)]
    return _findings(options, {"correlations_repeated.csv": ("repeated", [everything])}, lines, warnings, names)


def _voxels(rows: MeasurementTable, options: CorrelateOptions) -> Findings:
    x = options.x or [name for name in rows.measurements() if "_histo" in name]
    y = options.y or [name for name in rows.measurements() if name not in x and "_histo" not in name]
    if not x or not y:
        raise InputError("has no columns of histology and MRI", path=rows.path, hint="name them with --x and --y")
    world = WORLD if all(name in rows for name in WORLD) else ()
    numbers = rows.numbers([*INDEX, *world, *x, *y])
    values = numbers.assign(sample=rows.text("sample", complete=True) if "sample" in rows else "all")
    each, together, errors = [], [], rows.errors([*x, *y])
    for key, part in rows.parts(options.by):
        with naming_part(rows.path, key):
            mine = values.loc[part.frame.index]
            singles, pooled = correlate_voxels(mine, x, y, kinds=options.kinds)
        each.append(labelled(key, with_lines(singles, mine, errors, by="sample")))
        together.append(labelled(key, pooled))
    frames = {"correlations_voxel.csv": ("samples", each), "correlations_pooled.csv": ("pooled", together)}
    size = "{n} voxels, {n_samples} sample(s), {df:.0f} effective degrees of freedom"
    pooled = pd.concat(together, ignore_index=True)
    single = pd.concat(each, ignore_index=True)
    rest = _beyond_edge(pooled, single)
    text = f"{_WITHIN} ({size}); {{edge}}"
    lines = _lines(pooled.assign(edge=rest["text"]), "pairs", "r_within", text, " within samples")
    shared = pooled.assign(edge=rest["text"])[(pooled["p"] < 0.05) & ~(rest["p"] < 0.05) & rest["text"].ne("")]
    warnings = rows.quality_warnings(numbers) + _undefined(single)
    warnings += list(dict.fromkeys(_SHARED.format(**row) for row in shared.to_dict("records")))[:_SHOWN]
    warnings += missing_errors(numbers, errors)
    return _findings(options, frames, lines, warnings, [*x, *y], x=x, y=y)


def _beyond_edge(pooled: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """Return p and text of what is left beyond the distance to the edge: the samples' mean, or the only sample's r."""
    parts = [name for name in pooled.columns if name in single.columns[: single.columns.get_loc("kind")]]
    mine = single[single["kind"] == single["kind"].iloc[0]].drop_duplicates(parts).set_index(parts)
    rows = []
    for row in pooled.to_dict("records"):
        r, p, what = row["r_mean_edge"], row["p_mean_edge"], "mean r"
        if math.isnan(p) and row["n_samples"] == 1:
            only = mine.loc[tuple(row[name] for name in parts)]
            r, p, what = only["r_edge"], only["p"], "r"
        rows.append({"p": p, "text": f"beyond the edge {what} = {r:.3f}, p = {p:.2g}" if p == p else ""})
    return pd.DataFrame(rows, index=pooled.index, columns=["p", "text"])


def _findings(
    options: CorrelateOptions, frames: Any, lines: list[str], warnings: list[str], measures: Sequence[str], **more: Any
) -> Findings:
    settings = options.named("x", "y", "by", "group_by", "model", "strategy", "kinds")
    settings |= {"adjustment": options.adjust} | more
    others: dict[str, Any] = {"measures": measures, "replaces": FILES}
    return Findings.joined("correlations.json", frames, lines, warnings, options, settings, **others)


def _stacked(result: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return the matrices of r, p, q and n under each other."""
    parts = []
    for value in ("r", "p", "q", "n"):
        matrix = as_matrix(result, value, kind)
        for place, (name, label) in enumerate({"kind": kind, "value": value, "measurement": matrix.index}.items()):
            matrix.insert(place, name, label)
        parts.append(matrix)
    return pd.concat(parts, ignore_index=True)


def _missing(found: pd.DataFrame) -> list[str]:
    """Say how many correlations leave cases out, and how many cases."""
    short = found[found["n_missing"] > 0]
    if short.empty:
        return []
    least, most = int(short["n_missing"].min()), int(short["n_missing"].max())
    cases = f"{least} cases" if least == most else f"{least} to {most} cases"
    text = f"{len(short)} of {len(found)} correlations leave out {cases} because a value is missing"
    every = set(zip(found["x"], found["y"])) - set(zip(short["x"], short["y"]))
    columns = [name for name in dict.fromkeys([*short["x"], *short["y"]]) if not any(name in pair for pair in every)]
    return [f"{text} (column n_missing)" + (f": {', '.join(columns)}" if columns else "")]


def _undefined(found: pd.DataFrame) -> list[str]:
    rows = found[found["p"].isna() & found["note"].ne("")].to_dict("records")
    texts = list(dict.fromkeys(f"{row['x']} with {row['y']}: {row['note']}" for row in rows))
    if len(texts) > _SHOWN:
        texts = [*texts[:_SHOWN], f"{len(texts) - _SHOWN} more correlations are undefined; see the column note"]
    return texts


def _lines(found: pd.DataFrame, what: str, r: str, text: str, where: str = "") -> list[str]:
    """Return how many correlations are defined, and the strongest of them as `text`, for the terminal."""
    defined = found[found["p"].notna()]
    n, significant = len(defined), int((defined["q"] < 0.05).sum())
    lines = [f"{n} {what}, {significant} with q < 0.05; the strongest:" if n else f"no {what} can be computed"]
    parts = found.columns[: found.columns.get_loc("x")]  # columns that say which part of the table a result is of
    order = defined[r].abs().sort_values(ascending=False, kind="stable").index
    for row in defined.loc[order[:_SHOWN]].to_dict("records"):
        part = heading({name: str(row[name]) for name in parts})
        lines.append(f"{part}{row['x']} with {row['y']}{where}: {text.format(**row)}")
    return lines
