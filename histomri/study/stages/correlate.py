"""The stage `correlate`: a table in, correlations of its columns out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis import Sheet, as_matrix, correlate_repeated, correlate_voxels, correlation_table, read_sheet
from histomri.analysis.correlation import Interval, Kind
from histomri.analysis.multiple import Adjustment
from histomri.core.errors import InputError
from histomri.study.result import StepResult
from histomri.study.stages.analyses import (
    CASE,
    in_part,
    labelled,
    name_of,
    parts_of,
    records,
    remove_stale,
    sources_of,
    write_tables,
)

_INDEX = ("i", "j", "k")
_WORLD = ("x_mm", "y_mm", "z_mm")
_SHOWN = 8
FILES = (
    "correlations.csv", "correlation_matrix.csv", "correlations_voxel.csv", "correlations_pooled.csv",
    "correlations_repeated.csv", "correlations.json",
)  # fmt: skip


def run_correlate(
    table: Path,
    out: Path,
    *,
    columns: Path | None = None,
    x: Sequence[str] = (),
    y: Sequence[str] = (),
    by: str | None = None,
    group_by: str | None = None,
    model: str | None = None,
    strategy: str | None = None,
    kinds: Sequence[Kind] = ("pearson", "spearman"),
    interval: Interval = "jackknife",
    adjustment: Adjustment = "bh",
) -> StepResult:
    """Correlate the columns of a table with one row per sample, or per voxel.

    Parameters
    ----------
    table : Path
        CSV or Parquet. With columns i, j, k a row is a voxel.
    out : Path
        Folder for correlations.csv, correlation_matrix.csv and correlations.json; of voxels correlations_voxel.csv,
        correlations_pooled.csv and correlations.json; with `group_by` correlations_repeated.csv and correlations.json.
    columns : Path, optional
        TOML file mapping the table's own column names.
    x, y : sequence of str
        Columns, every x against every y. By default every measurement against every other; of voxels histology against
        MRI.
    by : str, optional
        Column by which the samples are split, such as scanner.
    group_by : str, optional
        Column whose rows belong together, such as patient: several regions or tumours of each, without voxel indices.
    model, strategy : str, optional
        Rows to use; by default each model and strategy on its own.
    kinds, interval, adjustment
        As in `histomri.analysis.correlation_table`.
    """
    if y and not x:
        raise InputError("columns y were named and no column x", hint="name at least one with --x")
    sheet = read_sheet(table, columns).only(model=model, strategy=strategy)
    settings: dict[str, Any] = {
        "x": x,
        "y": y,
        "by": by,
        "group_by": group_by,
        "model": model,
        "strategy": strategy,
        "kinds": kinds,
        "adjustment": adjustment,
    }
    if sheet.is_voxelwise:
        if group_by is not None:
            raise InputError("has a row per voxel, and its samples are the groups", path=table, hint="drop --group-by")
        return _voxels(sheet, out, x, y, by, kinds, sources_of(table, columns), settings)
    if group_by is not None:
        return _repeated(sheet, out, x, y, by, group_by, adjustment, sources_of(table, columns), settings)
    settings |= {"interval": interval}
    sheet.require_unique(CASE)
    names = list(dict.fromkeys([*x, *y])) or sheet.measurements()
    values = sheet.numbers(names)
    if len(names) < 2:
        raise InputError("there are fewer than two columns to correlate", path=table, hint="name more with --x, --y")
    found, matrices = [], []
    for key, part in parts_of(sheet, by):
        result = correlation_table(
            values.loc[part.raw.index],
            list(x) or names,
            list(y) or None,
            kinds=kinds,
            interval=interval,
            adjustment=adjustment,
        )
        found.append(labelled(key, result))
        matrices += [labelled(key, _stacked(result, kind)) for kind in kinds] if not y else []
    everything = pd.concat(found, ignore_index=True)
    tables = {"correlations.csv": everything}
    if matrices:
        tables["correlation_matrix.csv"] = pd.concat(matrices, ignore_index=True)
    doubts = sheet.doubts(values) + ([] if x or y else sheet.misspelt())
    warnings = [*doubts, *_missing(everything), *_warnings(everything)]
    content = {"correlations": records(everything)}
    outputs = write_tables(
        out,
        tables,
        "correlations.json",
        content,
        sources=sources_of(table, columns),
        settings=settings,
        warnings=warnings,
        measures=names,
    )
    stale = remove_stale(out, FILES, outputs, sources_of(table, columns))
    return StepResult(outputs, (*_lines(everything), *stale), tuple(warnings), content)


def _repeated(
    sheet: Sheet,
    out: Path,
    x: Sequence[str],
    y: Sequence[str],
    by: str | None,
    group_by: str,
    adjustment: Adjustment,
    sources: list[Path],
    settings: dict[str, Any],
) -> StepResult:
    twice = sheet.raw.duplicated()
    if twice.any():
        line = int(sheet.raw.index[twice.to_numpy()][0]) + 2
        raise InputError(f"line {line} repeats another line, cell by cell", path=sheet.path, hint="drop one")
    names = list(dict.fromkeys([*x, *y])) or [name for name in sheet.measurements() if name != group_by]
    values = sheet.numbers(names).assign(**{group_by: sheet.text(group_by, complete=True)})
    found = []
    for key, part in parts_of(sheet, by):
        with in_part(sheet.path, key):
            result = correlate_repeated(
                values.loc[part.raw.index], list(x) or names, list(y) or None, by=group_by, adjustment=adjustment
            )
        found.append(labelled(key, result))
    everything = pd.concat(found, ignore_index=True)
    content = {"repeated": records(everything)}
    warnings = [*_missing(everything), *_warnings(everything)]
    outputs = write_tables(
        out, {"correlations_repeated.csv": everything}, "correlations.json", content, sources=sources,
        settings=settings, warnings=warnings, measures=names,
    )  # fmt: skip
    lines = _pooled_lines(everything, f"within each {group_by}", _size_of_groups)
    return StepResult(outputs, (*lines, *remove_stale(out, FILES, outputs, sources)), tuple(warnings), content)


def _voxels(
    sheet: Sheet,
    out: Path,
    x: Sequence[str],
    y: Sequence[str],
    by: str | None,
    kinds: Sequence[Kind],
    sources: list[Path],
    settings: dict[str, Any],
) -> StepResult:
    if not x:
        names = sheet.measurements()
        x = [name for name in names if "_histo" in name]
    y = list(y) or [name for name in sheet.measurements() if name not in x and "_histo" not in name]
    if not x or not y:
        raise InputError("has no columns of histology and MRI", path=sheet.path, hint="name them with --x and --y")
    world = [name for name in _WORLD if name in sheet]
    numbers = sheet.numbers([*_INDEX, *(world if len(world) == 3 else []), *x, *y])
    labels = sheet.text("sample", complete=True) if "sample" in sheet else "all"
    values = numbers.assign(sample=labels)
    each, together = [], []
    for key, part in parts_of(sheet, by):
        with in_part(sheet.path, key):
            singles, pooled = correlate_voxels(values.loc[part.raw.index], x, y, kinds=kinds)
        each.append(labelled(key, singles))
        together.append(labelled(key, pooled))
    singles, pooled = pd.concat(each, ignore_index=True), pd.concat(together, ignore_index=True)
    warnings = sheet.doubts(numbers) + _warnings(singles)
    content = {"samples": records(singles), "pooled": records(pooled)}
    tables = {"correlations_voxel.csv": singles, "correlations_pooled.csv": pooled}
    outputs = write_tables(
        out, tables, "correlations.json", content, sources=sources, settings=settings, warnings=warnings,
        measures=[*x, *y],
    )  # fmt: skip
    lines = _pooled_lines(pooled, "within samples", _size_of_samples)
    return StepResult(outputs, (*lines, *remove_stale(out, FILES, outputs, sources)), tuple(warnings), content)


def _stacked(result: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Return the matrices of r, p, q and n under each other."""
    parts = []
    for value in ("r", "p", "q", "n"):
        matrix = as_matrix(result, value, kind)
        matrix.insert(0, "measurement", matrix.index)
        matrix.insert(0, "value", value)
        matrix.insert(0, "kind", kind)
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


def _warnings(found: pd.DataFrame) -> list[str]:
    undefined = found[found["p"].isna() & found["note"].ne("")]
    texts = [f"{row['x']} with {row['y']}: {row['note']}" for row in undefined.to_dict("records")]
    texts = list(dict.fromkeys(texts))
    if len(texts) > _SHOWN:
        texts = [*texts[:_SHOWN], f"{len(texts) - _SHOWN} more correlations are undefined; see the column note"]
    return texts


def _lines(found: pd.DataFrame) -> list[str]:
    """Return the strongest correlations of all, for the terminal; undefined ones are never among them."""
    defined = found[found["r"].notna()]
    lines = [_heading(len(defined), "correlations", defined["q"])]
    for row in _strongest(defined, "r"):
        text = f"{row['kind']} r = {row['r']:.3f}, p = {row['p']:.2g}, q = {row['q']:.2g}, N = {row['n']}"
        lines.append(f"{_labels(found, row)}{row['x']} with {row['y']}: {text}")
    return lines


def _strongest(defined: pd.DataFrame, r: str) -> list[dict[str, Any]]:
    order = defined[r].abs().sort_values(ascending=False, kind="stable").index
    return [{str(name): value for name, value in row.items()} for row in defined.loc[order[:_SHOWN]].to_dict("records")]


def _labels(found: pd.DataFrame, row: dict[str, Any]) -> str:
    """Return the heading of a result: the columns in front of x say which part of the table it is of."""
    return name_of({name: str(row[name]) for name in found.columns[: found.columns.get_loc("x")]})


def _heading(n: int, what: str, q: pd.Series) -> str:
    return f"{n} {what}, {int((q < 0.05).sum())} with q < 0.05; the strongest:" if n else f"no {what} can be computed"


def _pooled_lines(pooled: pd.DataFrame, where: str, size: Callable[[dict[str, Any]], str]) -> list[str]:
    defined = pooled[pooled["p"].notna()]
    lines = [_heading(len(defined), "pairs", defined["q"])]
    for row in _strongest(defined, "r_within"):
        found = f"r = {row['r_within']:.3f}, p = {row['p']:.2g} ({size(row)})"
        lines.append(f"{_labels(pooled, row)}{row['x']} with {row['y']} {where}: {found}")
    return lines


def _size_of_samples(row: dict[str, Any]) -> str:
    return f"{row['n']} voxels, {row['n_samples']} sample(s), {row['df']:.0f} effective degrees of freedom"


def _size_of_groups(row: dict[str, Any]) -> str:
    return f"{row['n']} rows, {row['n_groups']} groups, {row['df']:.0f} degrees of freedom"
