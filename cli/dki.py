"""`histomri dki`: maps of ADC and excess kurtosis."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Mask, OutDir, Protocol, Quiet, Sub, announce, progress_bar


def dki(
    dwi: Annotated[Path, typer.Argument(help="4D NIfTI of diffusion images.")],
    protocol: Protocol,
    out: OutDir,
    preset: Annotated[
        str | None,
        typer.Option(
            help="mouse-exvivo (TE 45, Δ 30 ms where present), invivo-3t or invivo-1.5t (b > 100). "
            "Default: that of a protocol of the same name, else mouse-exvivo."
        ),
    ] = None,
    mask: Mask = None,
    bmin: Annotated[float | None, typer.Option(help="Use b above this, s/mm².")] = None,
    bmax: Annotated[float, typer.Option(help="Use b up to this, s/mm².")] = 3000.0,
    te: Annotated[float | None, typer.Option(help="Use this echo time only, ms.")] = None,
    big_delta: Annotated[float | None, typer.Option(help="Use this diffusion time Δ only, ms.")] = None,
    sub: Sub = None,
    quiet: Quiet = False,
) -> None:
    """Fit the apparent diffusion coefficient and the excess kurtosis.

    Example: histomri dki dwi.nii.gz --protocol mouse-exvivo --mask mask.nii.gz -o mri
    """
    from histomri.study.stages.dki import run_dki

    with progress_bar("fitting", quiet) as progress:
        result = run_dki(
            dwi, protocol, out, preset=preset, mask=mask, bmin=bmin, bmax=bmax, te=te, big_delta=big_delta, sub=sub,
            progress=progress,
        )  # fmt: skip
    announce(result, quiet)
