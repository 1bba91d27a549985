"""`histomri power`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce


def power(
    out: OutDir,
    table: Annotated[Path | None, typer.Argument(help="Table whose complete pairs of vCS and F are counted.")] = None,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    r: Annotated[list[float] | None, typer.Option("--r", help="Correlation to plan for; may be repeated.")] = None,
    n: Annotated[list[int] | None, typer.Option("--n", help="Number of samples to judge; may be repeated.")] = None,
    power: Annotated[float, typer.Option(help="Wanted power.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Level of the two-sided test.")] = 0.05,
    quiet: Quiet = False,
) -> None:
    """Say how many samples a correlation needs, and what correlation the present number can detect.

    Example: histomri power pairs.csv -o power/ --r 0.4 --n 25
    """
    from histomri.study.stages.power import run_power

    announce(run_power(out, table=table, columns=columns, r=r or (), n=n or (), power=power, alpha=alpha), quiet)
