"""`histomri agree`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce


def agree(
    table: Annotated[Path, typer.Argument(help="Table (.csv or .parquet), a row per sample, model and strategy.")],
    out: OutDir,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    first: Annotated[str | None, typer.Option(help="Column of the method to judge.")] = None,
    second: Annotated[str | None, typer.Option(help="Column of the reference, in the same unit.")] = None,
    relative: Annotated[bool, typer.Option("--relative", help="Differences in percent.")] = False,
    bins: Annotated[int, typer.Option(help="Classes of size.")] = 3,
    by: Annotated[str | None, typer.Option(help="Split the samples by this column, such as scanner.")] = None,
    model: Annotated[str | None, typer.Option(help="Use the rows of this model only.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Use the rows of this strategy only.")] = None,
    quiet: Quiet = False,
) -> None:
    """Judge the agreement of MRI and histology: Bland-Altman, intraclass correlation, bias by size.

    Example: histomri agree pairs.csv -o agreement/ --model diff-in --strategy high-b --relative
    """
    from histomri.study.stages.agree import run_agree

    result = run_agree(
        table,
        out,
        columns=columns,
        first=first,
        second=second,
        relative=relative,
        bins=bins,
        by=by,
        model=model,
        strategy=strategy,
    )
    announce(result, quiet)
