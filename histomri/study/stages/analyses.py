"""What the stages of the statistics share: opening a table, and writing tables and JSON together."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis import Sheet, read_sheet
from histomri.core.columns import unit_of
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, refuse_overwrite, require_folder, write_json
from histomri.study.result import StepResult

CASE = ("sample", "model", "strategy")


def open_sheet(
    path: Path, columns: Path | None = None, *, model: str | None = None, strategy: str | None = None
) -> Sheet:
    """Read a table with one row per sample (x model x strategy), and select.

    Raises
    ------
    InputError
        If it is a table of voxels, or a sample comes twice.
    """
    sheet = read_sheet(path, columns)
    if sheet.is_voxelwise:
        raise InputError(
            "has a row per voxel, and rows per sample are needed",
            path=path,
            hint="average it with histomri pair --per sample",
        )
    chosen = sheet.only(model=model, strategy=strategy)
    chosen.require_unique(CASE)
    return chosen


@contextmanager
def in_part(path: Path, key: Mapping[str, str]) -> Iterator[None]:
    """Let errors name the table, and the model and strategy they are about."""
    try:
        yield
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(f"{name_of(key)}{error.problem}", path=path, hint=error.hint) from error


def parts_of(sheet: Sheet, by: str | None) -> list[tuple[dict[str, str], Sheet]]:
    """Split a table by model and strategy, and by a column of the person's choice."""
    if by is None:
        return sheet.parts(("model", "strategy"))
    sheet.require(by)
    parts = [(key, part) for key, part in sheet.parts(("model", "strategy", by)) if key[by].strip()]
    if not parts:
        raise InputError(f"column '{by}' is empty", path=sheet.path)
    return parts


def write_tables(
    out: Path,
    tables: Mapping[str, pd.DataFrame],
    json_name: str,
    content: Mapping[str, Any],
    *,
    sources: Sequence[Path],
    settings: Mapping[str, Any],
    warnings: Sequence[str] = (),
    measures: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Write CSV tables, and a JSON file with the results and how they came to be; return the paths, JSON first.

    The JSON file gives the units of `measures`, as far as their names tell them.

    Raises
    ------
    InputError
        If `out` is a file, or a result would replace one of the sources; nothing is written then.
    """
    require_folder(out)
    for name in (*tables, json_name):
        refuse_overwrite(out / name, sources)
    for name, table in tables.items():
        with atomic_path(out / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    units = {name: unit for name in measures if (unit := unit_of(name)) is not None}
    record = {**content, "Units": units, "warnings": list(warnings), **provenance(sources, settings)}
    return (write_json(out / json_name, record), *[out / name for name in tables])


def finish(
    out: Path,
    json_name: str,
    tables: Mapping[str, tuple[str, Sequence[pd.DataFrame]]],
    *,
    lines: Sequence[str],
    sources: Sequence[Path],
    settings: Mapping[str, Any],
    warnings: Sequence[str],
    measures: Sequence[str],
) -> StepResult:
    """Write what was found in the parts of a table, each kind of result under its own name.

    Parameters
    ----------
    out : Path
        Folder for the results.
    json_name : str
        File that holds all results once more.
    tables : mapping of file name to (key, frames)
        The key is that of the JSON file, the frames are put under each other.
    lines, warnings : sequence of str
        For the person who ran it.
    sources, settings
        For the record.
    measures : sequence of str
        Columns whose units are recorded.
    """
    whole = {name: pd.concat(list(frames), ignore_index=True) for name, (_, frames) in tables.items()}
    content = {key: records(whole[name]) for name, (key, _) in tables.items()}
    outputs = write_tables(
        out, whole, json_name, content, sources=sources, settings=settings, warnings=warnings, measures=measures
    )
    return StepResult(outputs, tuple(lines), tuple(warnings), content)


def remove_stale(out: Path, possible: Sequence[str], written: Sequence[Path], sources: Sequence[Path]) -> list[str]:
    """Remove what an earlier run of a command left and this one did not write, and say so; sources are kept."""
    kept = {path.resolve() for path in (*written, *sources)}
    stale = [name for name in possible if (out / name).is_file() and (out / name).resolve() not in kept]
    for name in stale:
        (out / name).unlink()
    return [f"removed {name} of an earlier run, which does not go with these results" for name in stale]


def missing_text(n_missing: int) -> str:
    """Return how many cases are left out, for the end of a line; empty if none is."""
    return f" ({n_missing} left out, a value is missing)" if n_missing else ""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows for JSON; a cell that does not exist is None."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def labelled(key: Mapping[str, str], table: pd.DataFrame) -> pd.DataFrame:
    """Put the labels of a part in front of its results."""
    return pd.DataFrame(dict(key), index=table.index).join(table) if key else table


def name_of(key: Mapping[str, str]) -> str:
    """Return the labels of a part as a heading of a message, empty if there is only one part."""
    return f"{', '.join(key.values())}: " if key else ""


def sources_of(table: Path, columns: Path | None) -> list[Path]:
    """Return the files a result was made from."""
    return [table, *([columns] if columns is not None else [])]
