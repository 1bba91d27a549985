"""`histomri predict`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import OutDir, Quiet, announce


def predict(
    table: Annotated[Path, typer.Argument(help="Table (.csv or .parquet), a row per sample, model and strategy.")],
    out: OutDir,
    target: Annotated[str, typer.Option(help="Column to predict, such as volume_mm3.")],
    columns: Annotated[
        Path | None, typer.Option(help="TOML file that maps histomri's column names to those of the table.")
    ] = None,
    x: Annotated[str, typer.Option("--x", help="First metric.")] = "D0I_mri_um2_ms",
    y: Annotated[str, typer.Option("--y", help="Second metric.")] = "vCS_mri_um",
    log10: Annotated[bool, typer.Option(help="Predict the logarithm of the target.")] = True,
    basis: Annotated[
        Literal["cubic", "printed"],
        typer.Option(help="Full cubic polynomial, or the seven terms of the paper's Eq. 17."),
    ] = "cubic",
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.")] = 5,
    group_by: Annotated[str | None, typer.Option(help="Column whose cases stay in one fold, such as patient.")] = None,
    model: Annotated[str | None, typer.Option(help="Use the rows of this model only.")] = None,
    strategy: Annotated[str | None, typer.Option(help="Use the rows of this strategy only.")] = None,
    boot: Annotated[int, typer.Option(help="Resamples of the bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and bootstrap.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Predict tumour volume, or another column, from a polynomial of two metrics, with cross-validation.

    Example: histomri predict tumours.csv -o volume/ --target volume_mm3 --group-by patient
    """
    from histomri.study.stages.predict import run_predict

    result = run_predict(
        table,
        out,
        target=target,
        x=x,
        y=y,
        columns=columns,
        log10=log10,
        basis=basis,
        folds=folds,
        group_by=group_by,
        model=model,
        strategy=strategy,
        n_boot=boot,
        seed=seed,
    )
    announce(result, quiet)
