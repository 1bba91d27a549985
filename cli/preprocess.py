"""`histomri preprocess`: denoise, unring, align, correct drift, mask."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Protocol, Quiet, Sub, announce, progress_bar


def preprocess(
    dwi: Annotated[Path, typer.Argument(help="4D NIfTI of raw magnitude images, in the order of acquisition.")],
    protocol: Protocol,
    out: OutDir = Path("histomri-preprocess"),
    denoise: Annotated[bool, typer.Option(help="MP-PCA denoising, which also gives the noise map.")] = True,
    unring: Annotated[bool, typer.Option(help="Gibbs unringing within slices.")] = True,
    motion: Annotated[bool, typer.Option(help="Rigid alignment of the volumes (of slices, in thin stacks).")] = True,
    drift_reference: Annotated[
        Path | None, typer.Option(help="NIfTI mask of saline, a phantom or muscle: the drift of its signal is undone.")
    ] = None,
    drift_order: Annotated[int, typer.Option(min=1, max=2, help="1: linear drift; 2: with a square.")] = 1,
    mask: Annotated[bool, typer.Option(help="Make a tissue mask from the volumes at b = 0.")] = True,
    sub: Sub = None,
    quiet: Quiet = False,
) -> None:
    """Prepare raw diffusion images for fitting: denoise, unring, align, correct drift, mask, in this order.

    Example: histomri preprocess raw.nii.gz --protocol invivo-3t -o mri --no-unring
    """
    from histomri.study.stages.preprocess import run_preprocess

    with progress_bar("preprocessing", quiet) as progress:
        result = run_preprocess(
            dwi, protocol, out, denoise=denoise, unring=unring, motion=motion, mask=mask,
            drift_reference=drift_reference, drift_order=drift_order, sub=sub, progress=progress,
        )  # fmt: skip
    announce(result, quiet)
