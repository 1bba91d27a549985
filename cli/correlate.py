"""`histomri correlate`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import OutDir, Quiet, announce


def correlate(
    table: Annotated[
        Path, typer.Argument(help="Table (.csv or .parquet), a row per sample, model and strategy (or voxel).")
    ],
    out: OutDir,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    x: Annotated[list[str] | None, typer.Option("--x", help="Column to correlate; may be repeated.")] = None,
    y: Annotated[
        list[str] | None, typer.Option("--y", help="Column to correlate each x with; may be repeated.")
    ] = None,
    by: Annotated[str | None, typer.Option(help="Split the samples by this column, such as scanner.")] = None,
    group_by: Annotated[
        str | None,
        typer.Option(help="Rows of this column's labels, such as patient, belong together: several regions of each."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="Use the rows of this model only.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Use the rows of this strategy only.")] = None,
    method: Annotated[
        Literal["both", "pearson", "spearman"], typer.Option(help="Linear correlations, of ranks, or both.")
    ] = "both",
    interval: Annotated[
        Literal["jackknife", "fisher"],
        typer.Option(help="Confidence intervals of tables of samples: for any values, or for normal ones."),
    ] = "jackknife",
    adjust: Annotated[
        Literal["bh", "holm", "bonferroni"], typer.Option(help="How q allows for the number of tests.")
    ] = "bh",
    quiet: Quiet = False,
) -> None:
    """Correlate columns, with intervals, p, N and false discovery rate; voxels with an effective sample size.

    Without --x every measurement is correlated with every other; in a table of voxels histology with MRI.

    Example: histomri correlate pairs.csv -o correlations/ --model diff-in --strategy high-b
    """
    from histomri.study.stages.correlate import run_correlate

    result = run_correlate(
        table,
        out,
        columns=columns,
        x=x or (),
        y=y or (),
        by=by,
        group_by=group_by,
        model=model,
        strategy=strategy,
        kinds=("pearson", "spearman") if method == "both" else (method,),
        interval=interval,
        adjustment=adjust,
    )
    announce(result, quiet)
