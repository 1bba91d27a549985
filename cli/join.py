"""`histomri join`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, announce


def join(
    tables: Annotated[list[Path], typer.Argument(help="Tables of histomri pair, all per voxel or all per sample.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write, .csv or .parquet.")],
    quiet: Quiet = False,
) -> None:
    """Put the tables of several samples under each other, for score and the statistics.

    Example: histomri join a/pairs.csv b/pairs.csv c/pairs.csv -o pairs.csv
    """
    from histomri.study.stages.join import run_join

    announce(run_join(tables, out), quiet)
