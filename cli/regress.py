"""`histomri regress`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce


def regress(
    table: Annotated[Path, typer.Argument(help="Table (.csv or .parquet), a row per sample, model and strategy.")],
    out: OutDir,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    response: Annotated[str | None, typer.Option(help="Column to explain; by default the three MRI metrics.")] = None,
    predictor: Annotated[
        list[str] | None, typer.Option(help="Column that explains the response; may be repeated.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Split the samples by this column, such as scanner.")] = None,
    model: Annotated[str | None, typer.Option(help="Use the rows of this model only.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Use the rows of this strategy only.")] = None,
    quiet: Quiet = False,
) -> None:
    """Regress MRI metrics on histological ones, z-scored, with robust standard errors and variance inflation.

    Example: histomri regress pairs.csv -o regression/ --model diff-in --strategy high-b
    """
    from histomri.study.stages.regress import run_regress

    result = run_regress(
        table,
        out,
        columns=columns,
        response=response,
        predictors=predictor or (),
        by=by,
        model=model,
        strategy=strategy,
    )
    announce(result, quiet)
