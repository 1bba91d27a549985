"""The stage `join`: tables of pairs of several samples in, one table out."""

from collections.abc import Sequence
from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.files import refuse_overwrite, require_folder
from histomri.pairing import PairedTable
from histomri.study.result import StepResult


def run_join(tables: Sequence[Path], out: Path) -> StepResult:
    """Put tables of pairs under each other.

    Parameters
    ----------
    tables : sequence of Path
        As `histomri pair` writes them, all with a row per voxel or all with a row per sample.
    out : Path
        The table, .csv or .parquet; its sidecar has units, counts and settings of all.

    Raises
    ------
    InputError
        If a sample comes twice with the same model and strategy, rows are of different kinds, or a file is no table of
        pairs; UnitError if the units of a column differ.
    """
    if len(tables) < 2:
        raise InputError("there is nothing to join", hint="give at least two tables")
    require_folder(out.parent)
    for path in (out, out.with_suffix(".json")):
        refuse_overwrite(path, [*tables, *(table.with_suffix(".json") for table in tables)])
    parts = [PairedTable.load(table) for table in tables]
    whole = PairedTable.join(parts, names=[str(table) for table in tables])
    samples = whole.data["sample"].nunique()
    message = f"{len(tables)} tables joined: {samples} samples, {len(whole)} rows, a row per {whole.level}"
    return StepResult(tuple(whole.save(out, tables)), (message,), whole.warnings, {"samples": samples})
