"""`histomri score`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce


def score(
    pairs: Annotated[
        Path,
        typer.Argument(help="Table of pairs (.csv, .xlsx, .parquet), a row per sample or voxel, and model."),
    ],
    out: OutDir,
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    boot: Annotated[int, typer.Option(help="Resamples of the bootstrap over cases.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Rank signal models by their agreement with histology: TCS, HFC and the vote of BIC, with confidence intervals.

    Example: histomri score pairs.csv -o scores/
    """
    from histomri.study.stages.score import run_score

    announce(run_score(pairs, out, columns=columns, n_boot=boot, seed=seed), quiet)
