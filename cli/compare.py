"""`histomri compare`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import OutDir, Quiet, announce


def compare(
    table: Annotated[Path, typer.Argument(help="Table (.csv or .parquet), a row per sample, model and strategy.")],
    out: OutDir,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    by: Annotated[str, typer.Option(help="Column with the groups.")] = "group",
    measure: Annotated[
        list[str] | None, typer.Option(help="Column to compare, by default all measurements; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Use the rows of this model only.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Use the rows of this strategy only.")] = None,
    adjust: Annotated[
        Literal["bh", "holm", "bonferroni"], typer.Option(help="How q allows for the number of tests.")
    ] = "bh",
    quiet: Quiet = False,
) -> None:
    """Compare groups: Welch, Student and Mann-Whitney tests, effect sizes with confidence intervals.

    Example: histomri compare pairs.csv -o groups/ --by group --model diff-in --strategy high-b
    """
    from histomri.study.stages.compare import run_compare

    result = run_compare(
        table,
        out,
        columns=columns,
        by=by,
        measures=measure or (),
        model=model,
        strategy=strategy,
        adjustment=adjust,
    )
    announce(result, quiet)
