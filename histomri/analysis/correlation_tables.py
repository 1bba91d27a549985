"""Every measurement against every other: tables and matrices of correlations, and `histomri correlate`."""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.attenuation import across_sides, attenuation_lines, attenuation_table
from histomri.analysis.correlation import Kind, adjust_p, correlate, fisher_interval
from histomri.analysis.measurements import MeasurementTable, opened
from histomri.analysis.mixed import correlate_repeated
from histomri.analysis.options import Adjustment, CorrelateOptions, Interval
from histomri.analysis.patients import patients_of, with_patients
from histomri.analysis.results import Findings, heading, labelled, naming_part
from histomri.analysis.systematic import missing_errors, with_lines
from histomri.analysis.voxels import correlate_voxels
from histomri.analysis.within import LEAST_DIFFERENCE, decompose, pooled_against_within, within_column
from histomri.core.arrays import FloatArray
from histomri.core.columns import INDEX, PATIENT, STAT, WORLD, errors_of, registration_sd
from histomri.core.errors import InputError
from histomri.core.tables import line_of

COLUMNS = (
    "x", "y", "kind", "r", "p", "q", "n", "ci_low", "ci_high", "n_missing", "note",
    "n_patients", "r_within", "within_part", "between_part", "p_differ", "ci_low_fisher", "ci_high_fisher",
)  # fmt: skip
_VALUES = ("r", "p", "n", "ci_low", "ci_high", "n_missing", "note", "n_patients")
FILES = (
    "correlations.csv", "correlation_matrix.csv", "correlations_voxel.csv", "correlations_pooled.csv",
    "correlations_repeated.csv", "correlations_errors.csv", "correlations.json",
)  # fmt: skip
_SHOWN = 8
_ALONE = "{kind} r = {r:.3f}, p = {p:.2g}, q = {q:.2g}, N = {n}{patients}"

_NOT_CORRECTED = (
    "the standard errors of the voxels (columns .._se) are in none of these: errors of measurement make every r of "
    "voxels smaller, and only r of samples is corrected for them"
)
_SHARED = "{x} with {y}: p < 0.05 within samples includes what maps share along the edge of the tissue; {edge}"


def correlation_table(
    table: pd.DataFrame, x: Sequence[str] | None = None, y: Sequence[str] | None = None, *,
    kinds: Sequence[Kind] = ("pearson", "spearman"), confidence: float = 0.95, interval: Interval = "jackknife",
    adjustment: Adjustment = "bh", patients: pd.Series | None = None, groups: pd.Series | None = None,
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
    patients : Series, optional
        Label of the patient of each row: where one has several, p and interval leave out patients.
    groups : Series, optional
        Label of the group of each row, to compare Pearson's r with that within groups.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row per pair and kind; q is the adjusted p. Undefined correlations are NaN with a note,
        and do not count as tests. n_patients is empty unless a patient has several rows; r_within, the parts of r
        within and between groups (which sum to r) and p of their difference are those of `pooled_against_within`.
        ci_low_fisher and ci_high_fisher are the limits that other software prints, empty where patients repeat.
    """
    first = list(x) if x is not None else list(table.columns)
    pairs = list(combinations(first, 2)) if y is None else [(a, b) for a in first for b in y if a != b]
    rows = []
    for kind in kinds:
        for one, other in pairs:
            how: dict[str, Any] = {"kind": kind, "confidence": confidence, "interval": interval}
            found = correlate(table[one], table[other], patients=patients, **how)
            row = {"x": one, "y": other, "kind": kind, "q": np.nan, **found.row(*_VALUES)}
            if groups is not None and kind == "pearson":
                row |= _within(table[one].to_numpy(), table[other].to_numpy(), groups, patients)
            if not found.n_patients and found.n > 3 and np.isfinite(found.r):
                row["ci_low_fisher"], row["ci_high_fisher"] = fisher_interval(found.r, found.n, confidence, kind)
            rows.append(row | {"n_patients": found.n_patients or None})
    result = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n_patients": "Int64"})
    return result.assign(q=result.groupby("kind")["p"].transform(adjust_p, adjustment))


def _within(x: FloatArray, y: FloatArray, groups: pd.Series, patients: pd.Series | None) -> dict[str, float]:
    """Return r within groups, the parts of r, and whether they differ; nothing unless two groups have values."""
    both = np.isfinite(x) & np.isfinite(y)
    codes, names = pd.factorize(groups[both])
    if len(names) < 2:
        return {}
    units = np.arange(both.sum()) if patients is None else np.unique(patients[both], return_inverse=True)[1]
    x, y = x[both], y[both]
    parts, found = decompose(x, y, codes), pooled_against_within([(x, y)], codes, units)
    row = {"r_within": parts.r_within, "within_part": parts.within_part, "between_part": parts.between_part}
    return row | {"p_differ": found.p_differ}


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
    rows = with_patients(rows, options.patient).only(model=options.model, strategy=options.strategy)
    if rows.is_voxelwise:
        if options.group_by is not None:
            problem = "has a row per voxel, and its samples are the groups"
            raise InputError(problem, path=rows.path, hint="drop --group-by")
        return _voxels(rows, options)
    if options.group_by is None:
        return _cases(rows, options)
    return _repeated(rows, options, options.group_by)


def _cases(rows: MeasurementTable, options: CorrelateOptions) -> Findings:
    rows = rows.noting(rows.require_unique)
    names = list(dict.fromkeys([*options.x, *options.y])) or rows.measurements()
    values = rows.numbers(names)
    registered = rows.numbers([name for name in map(registration_sd, names) if name in rows.names], empty=True)
    errors = rows.numbers(errors_of(names, rows.names), empty=True)
    if len(names) < 2:
        problem = "there are fewer than two columns to correlate"
        raise InputError(problem, path=rows.path, hint="name more with --x, --y")
    x, y = list(options.x) or names, list(options.y) or None
    how: dict[str, Any] = {"kinds": options.kinds, "interval": options.interval, "adjustment": options.adjust}
    with naming_part(rows.path, {}):
        within, notes = within_column(rows.frame, options.within)
    found, matrices, true, shared = [], [], [], rows.errors(names)
    pairs = across_sides(combinations(x, 2) if y is None else ((a, b) for a in x for b in y if a != b))
    for key, part in rows.parts(options.by):
        mine = values.loc[part.frame.index]
        groups = part.text(within) if within is not None and within != options.by else None
        with naming_part(rows.path, key):
            how |= {"patients": patients_of(part), "groups": groups}
            result = correlation_table(mine, x, y, **how)
            of_errors = values.join(errors.join(registered)).loc[part.frame.index]
            true.append(labelled(key, attenuation_table(of_errors, pairs, how["patients"])))
        found.append(labelled(key, with_lines(result, mine, shared)))
        matrices += [labelled(key, _stacked(result, kind)) for kind in options.kinds] if y is None else []
    everything = pd.concat(found, ignore_index=True)
    warnings = rows.quality_warnings(values) + ([] if options.x or options.y else rows.misspelt())
    warnings += [*notes, *_of_groups(everything, within)]
    frames: dict[str, tuple[str | None, list[pd.DataFrame]]] = {"correlations.csv": ("correlations", [everything])}
    if matrices:
        frames["correlation_matrix.csv"] = (None, matrices)
    lines = _lines(everything, "correlations", "r", _ALONE)
    if errors.shape[1] and any(len(each) for each in true):
        frames["correlations_errors.csv"] = ("errors", true)
        lines += attenuation_lines(pd.concat(true, ignore_index=True), _SHOWN)
    warnings += [*_missing(everything), *_undefined(everything), *missing_errors(values, shared)]
    return _findings(options, frames, lines, warnings, names, interval=options.interval, within=within)


def _of_groups(found: pd.DataFrame, within: str | None) -> list[str]:
    """Say which correlations of MRI with histology come in part from differences between the groups."""
    across = (found["x"].str.contains("_histo") ^ found["y"].str.contains("_histo")) & (found["kind"] == "pearson")
    differ = found[across & (found["p_differ"] < 0.05) & ((found["r"] - found["r_within"]).abs() > LEAST_DIFFERENCE)]
    if differ.empty:
        return []
    each = [
        f"{row['x']} with {row['y']} (r = {row['r']:.2f}, within {row['r_within']:.2f})"
        for row in differ.to_dict("records")
    ]
    more = f"; and {len(each) - _SHOWN} more" if len(each) > _SHOWN else ""
    text = (
        f"part of {len(each)} correlations comes from differences between the {within}s (columns r_within to p_differ)"
    )
    return [f"{text}: {'; '.join(each[:_SHOWN])}{more}"]


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
    lines = _slopes(everything, f"within each {by}", "{n} rows, {n_groups} groups")
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
    if PATIENT in rows:
        values[PATIENT] = rows.text(PATIENT)
    each, together, errors = [], [], rows.errors([*x, *y])
    for key, part in rows.parts(options.by):
        mine = values.loc[part.frame.index]
        with naming_part(rows.path, key):
            singles, pooled = correlate_voxels(mine, x, y, kinds=options.kinds)
        each.append(labelled(key, with_lines(singles, mine, errors, by="sample")))
        together.append(labelled(key, pooled))
    frames = {"correlations_voxel.csv": ("samples", each), "correlations_pooled.csv": ("pooled", together)}
    pooled = pd.concat(together, ignore_index=True)
    single = pd.concat(each, ignore_index=True)
    rest = _beyond_edge(pooled, single)
    size = "{n} voxels, {n_samples} sample(s)"
    lines = _slopes(pooled, "within samples", size, rest)
    if any(name.endswith(STAT) for name in errors_of([*x, *y], rows.names)):
        lines.append(_NOT_CORRECTED)
    p = pooled["p_mean"].where(pooled["n_samples"] > 1, pooled["p"])
    shared = pooled.assign(edge=rest["text"])[(p < 0.05) & ~(rest["p"] < 0.05) & rest["text"].ne("")]
    warnings = rows.quality_warnings(numbers) + _undefined(single)
    warnings += list(dict.fromkeys(_SHARED.format(**row) for row in shared.to_dict("records")))[:_SHOWN]
    warnings += missing_errors(numbers, errors)
    return _findings(options, frames, lines, warnings, [*x, *y], x=x, y=y)


def _beyond_edge(pooled: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """Return p, q and text of what is left beyond the distance to the edge: the mean of r, or r of one sample."""
    parts = [name for name in pooled.columns if name in single.columns[: single.columns.get_loc("kind")]]
    mine = single[single["kind"] == single["kind"].iloc[0]].drop_duplicates(parts).set_index(parts)
    rows = []
    for row in pooled.to_dict("records"):
        r, p, what = row["r_mean_edge"], row["p_mean_edge"], "mean r"
        if math.isnan(p) and row["n_samples"] == 1:
            only = mine.loc[tuple(row[name] for name in parts)]
            r, p, what = only["r_edge"], only["p"], "r"
        rows.append({"p": p, "text": f"beyond the edge {what} = {r:.3f}, p = {p:.2g}" if p == p else ""})
    rest = pd.DataFrame(rows, index=pooled.index, columns=["p", "text"])
    q = rest["p"].groupby([pooled[name] for name in parts]).transform(adjust_p) if parts else adjust_p(rest["p"])
    return rest.assign(q=q)


def _findings(
    options: CorrelateOptions, frames: Any, lines: list[str], warnings: list[str], measures: Sequence[str], **more: Any
) -> Findings:
    settings = options.named("x", "y", "by", "group_by", "model", "strategy", "kinds", "patient")
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
        several = row.get("n_patients")
        row["patients"] = f" of {several} patients" if several is not None and pd.notna(several) else ""
        lines.append(f"{part}{row['x']} with {row['y']}{where}: {text.format(**row)}")
    return lines


def _slopes(found: pd.DataFrame, where: str, size: str, beyond: pd.DataFrame | None = None) -> list[str]:
    """Return the strongest relations within groups for the terminal: the mean of r first, then the slope.

    The p of r_within is never shown: it takes one slope for all groups. Of voxels only what is `beyond` the edge (p, q,
    text) is a test: maps of any tissue have something in common along its edge, which mean, slope and r within contain.
    """
    p, q = (found["p_mean"], found["q_mean"]) if beyond is None else (beyond["p"], beyond["q"])
    significant, tested = int((q < 0.05).sum()), int(p.notna().sum())
    lines = [f"{len(found)} pairs, {tested} tested {where}, {significant} with q < 0.05; the strongest:"]
    parts = found.columns[: found.columns.get_loc("x")]
    order = found["r_mean"].fillna(found["r_within"]).abs().sort_values(ascending=False, kind="stable").index[:_SHOWN]
    edges = beyond["text"].loc[order] if beyond is not None else [""] * len(order)
    for row, edge in zip(found.loc[order].to_dict("records"), edges):
        if math.isnan(row["r_within"]):
            continue
        text = _slope_text(row, tests=beyond is None) + (f"; {edge}" if edge else "")
        part = heading({name: str(row[name]) for name in parts})
        lines.append(f"{part}{row['x']} with {row['y']} {where}: {text} ({size.format(**row)})")
    return lines


def _slope_text(row: dict[str, Any], *, tests: bool) -> str:
    if math.isnan(row["p_mean"]):
        one = row.get("n_samples") == 1
        why = "in one sample" if one else "within groups, not tested: r is needed in two groups or more"
        return f"r = {row['r_within']:.3f} {why}"
    text = f"mean r = {row['r_mean']:.3f} [{row['r_mean_low']:.2f}, {row['r_mean_high']:.2f}]"
    mean, slope = ((f", p = {row[name]:.2g}" if tests else "") for name in ("p_mean", "p_cr2"))
    text += f"{mean}, df = {row['df_mean']:.0f}" if tests else ""
    return f"{text}; slope {row['slope_cr2']:.3g}{slope}; r within {row['r_within']:.3f}"
