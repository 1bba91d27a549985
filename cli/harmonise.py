"""`histomri harmonise`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce


def harmonise(
    table: Annotated[Path, typer.Argument(help="Table (.csv or .parquet), a row per sample, model and strategy.")],
    out: OutDir,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Column with the batches.")] = "scanner",
    reference: Annotated[
        str | None, typer.Option(help="Batch that stays as it is; without it all are brought to their mean.")
    ] = None,
    covariate: Annotated[list[str] | None, typer.Option(help="Column whose effect is kept; may be repeated.")] = None,
    measure: Annotated[
        list[str] | None, typer.Option(help="Metric to harmonise, by default those of MRI; may be repeated.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Use the rows of this model only.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Use the rows of this strategy only.")] = None,
    eb: Annotated[bool, typer.Option(help="Empirical Bayes: metrics learn from each other.")] = True,
    mean_only: Annotated[bool, typer.Option("--mean-only", help="Correct the shift and not the scale.")] = False,
    quiet: Quiet = False,
) -> None:
    """Take the effect of the scanner out of MRI metrics by ComBat, keeping what covariates explain.

    Example: histomri harmonise pairs.csv -o harmonised/ --reference 3T --covariate group
    """
    from histomri.study.stages.harmonise import run_harmonise

    result = run_harmonise(
        table,
        out,
        columns=columns,
        batch=batch,
        reference=reference,
        covariates=covariate or (),
        measures=measure or (),
        model=model,
        strategy=strategy,
        empirical_bayes=eb,
        mean_only=mean_only,
    )
    announce(result, quiet)
