"""`histomri fit`: maps of cell size, fraction and density from diffusion images."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce, progress_bar


def fit(
    dwi: Annotated[Path, typer.Argument(help="4D NIfTI of diffusion images.")],
    protocol: Annotated[
        str,
        typer.Option(
            help="Rows b (s/mm²), δ, Δ[, TE] (ms); or .bval (+ .gdur, .gsep, .te); or JSON; or a preset name."
        ),
    ],
    out: OutDir,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="diff-in (default), diff-in-ex, diff-in-ex-fast, diff-in-extd, diff-in-extd-fast; may be repeated."
        ),
    ] = None,
    strategy: Annotated[str | None, typer.Option(help="whole (default) or high-b: the preset's b threshold.")] = None,
    preset: Annotated[
        str, typer.Option(help="Bounds and thresholds: mouse-exvivo, invivo-3t or invivo-1.5t.")
    ] = "mouse-exvivo",
    mask: Annotated[Path | None, typer.Option(help="NIfTI mask; voxels above 0 are fitted.")] = None,
    sigma: Annotated[
        str | None,
        typer.Option(
            help="Noise level in units of the signal, a NIfTI map, or from the images: estimate (MP-PCA), piesno."
        ),
    ] = None,
    bmin: Annotated[float | None, typer.Option(help="Fit b above this, s/mm², in place of --strategy.")] = None,
    s0: Annotated[Path | None, typer.Option(help="NIfTI map of S0; without it, see --t2ivim.")] = None,
    fv: Annotated[Path | None, typer.Option(help="NIfTI map of the vascular fraction.")] = None,
    t2t: Annotated[Path | None, typer.Option(help="NIfTI map of the tissue T2, ms.")] = None,
    noise: Annotated[
        str | None, typer.Option(help="offset-gaussian (default with --sigma), rician, or none: least squares.")
    ] = None,
    t2ivim: Annotated[
        bool | None,
        typer.Option(
            "--t2ivim/--no-t2ivim",
            help="Fit S0, fV and T2 first, from all volumes; default: in vivo, with several TE, if they are not given.",
            show_default=False,
        ),
    ] = None,
    kurtosis: Annotated[str, typer.Option(help="Of that step: free, or a number to hold the kurtosis at.")] = "free",
    sub: Annotated[str | None, typer.Option(help="Sample name put into the file names.")] = None,
    quiet: Quiet = False,
) -> None:
    """Fit tissue models to diffusion images: cell size, intra-cellular fraction, cell density.

    Example: histomri fit dwi.nii.gz --protocol mouse-exvivo --mask mask.nii.gz --sigma 12 --model diff-in -o mri
    Example: histomri fit dwi.nii.gz --protocol invivo-3t --preset invivo-3t --mask mask.nii.gz --sigma estimate -o mri
    """
    from histomri.study.stages.fit import run_fit

    with progress_bar("fitting", quiet) as progress:
        result = run_fit(
            dwi, protocol, out, models=model or ["diff-in"], strategy=strategy, preset=preset, mask=mask,
            sigma=sigma, bmin=bmin, s0=s0, fv=fv, t2t=t2t, noise=noise, t2ivim=t2ivim, kurtosis=kurtosis, sub=sub,
            progress=progress,
        )  # fmt: skip
    announce(result, quiet)
