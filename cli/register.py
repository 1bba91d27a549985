"""`histomri register`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce, progress_bar


def register(
    moving: Annotated[Path, typer.Argument(help="NIfTI map of the histology section.", metavar="MOVING")],
    fixed: Annotated[Path, typer.Argument(help="MRI, 2D to 4D; of a 4D file the first volume.", metavar="FIXED")],
    out: OutDir,
    moving_mask: Annotated[Path | None, typer.Option(help="Tissue mask of the section, on any grid.")] = None,
    fixed_mask: Annotated[Path | None, typer.Option(help="Tissue mask of the MRI.")] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(help="CSV of matching points to start from: moving_x_mm, moving_y_mm, fixed_x_mm, fixed_y_mm."),
    ] = None,
    kind: Annotated[str, typer.Option(help="similarity, affine or bspline.")] = "affine",
    flip: Annotated[bool, typer.Option(help="Whether the section may lie with its other side up.")] = True,
    slice: Annotated[int | None, typer.Option(help="Slice of the MRI, from 0; all are tried if not given.")] = None,
    shrinkage: Annotated[float, typer.Option(help="Expected linear shrinkage of the section.")] = 0.129,
    sub: Annotated[str | None, typer.Option(help="Subject label for the names of the results.")] = None,
    quiet: Quiet = False,
) -> None:
    """Find where a histology section lies in the MRI.

    Writes the transform as JSON and for ITK (.tfm), and the map on the grid of the MRI, and says how sure it is.

    Example: histomri register sub-1_param-F_histomap.nii.gz dwi.nii.gz -o xfm --slice 4
    """
    from histomri.study.stages.register import run_register

    with progress_bar("register", quiet) as progress:
        result = run_register(
            moving,
            fixed,
            out,
            moving_mask=moving_mask,
            fixed_mask=fixed_mask,
            landmarks=landmarks,
            kind=kind,
            flips=flip,
            slice=slice,
            shrinkage=shrinkage,
            sub=sub,
            progress=progress,
        )
    announce(result, quiet)
