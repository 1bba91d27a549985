"""`histomri t2ivim`: S0, vascular fraction and tissue T2 from all b-values and echo times."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Kurtosis, Mask, OutDir, Protocol, Quiet, Sigma, Sub, announce, progress_bar, report_compiling


def t2ivim(
    dwi: Annotated[Path, typer.Argument(help="4D NIfTI of diffusion images with several b and TE.")],
    protocol: Protocol,
    out: OutDir,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Bounds: invivo-3t, invivo-1.5t or mouse-exvivo. "
            "Default: that of a protocol of the same name, else invivo-3t."
        ),
    ] = None,
    mask: Mask = None,
    sigma: Sigma = None,
    kurtosis: Kurtosis = "free",
    sub: Sub = None,
    quiet: Quiet = False,
) -> None:
    """Fit blood and tissue to all volumes: S0, vascular fraction fV and tissue T2, which `fit` divides by.

    Example: histomri t2ivim dwi.nii.gz --protocol invivo-3t --mask mask.nii.gz -o mri
    """
    from histomri.study.stages.t2ivim import run_t2ivim

    with progress_bar("fitting", quiet) as progress, report_compiling(quiet):
        result = run_t2ivim(
            dwi, protocol, out, preset=preset, mask=mask, sigma=sigma, kurtosis=kurtosis, sub=sub, progress=progress
        )
    announce(result, quiet)
