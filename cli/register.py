"""`histomri register`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce, number_pair, numbers, progress_bar


def register(
    moving: Annotated[Path, typer.Argument(help="NIfTI map of the histology section, or a slide.", metavar="MOVING")],
    fixed: Annotated[
        Path,
        typer.Argument(
            help="MRI, 2D to 4D; of a 4D file the first volume. Or the slide of another section.", metavar="FIXED"
        ),
    ],
    out: OutDir,
    moving_mask: Annotated[
        Path | None,
        typer.Option(help="Tissue mask of the section, on any grid; of a slide also annotations (QuPath GeoJSON)."),
    ] = None,
    fixed_mask: Annotated[Path | None, typer.Option(help="Tissue mask of FIXED.")] = None,
    landmarks: Annotated[
        Path | None,
        typer.Option(
            help="Matching points: a CSV with moving_x_mm, moving_y_mm, fixed_x_mm, fixed_y_mm (.._um on slides); or, "
            "with --fixed-landmarks, points of the section (CSV, QuPath GeoJSON, Slicer .fcsv or .mrk.json)."
        ),
    ] = None,
    fixed_landmarks: Annotated[Path | None, typer.Option(help="The same points in FIXED.")] = None,
    landmarks_only: Annotated[
        bool, typer.Option("--landmarks-only", help="Let the landmarks settle everything.")
    ] = False,
    landmarks_check: Annotated[
        bool, typer.Option("--landmarks-check", help="Use the landmarks only to measure the error.")
    ] = False,
    mpp: Annotated[
        str | None,
        typer.Option(help="Pixel size of the slide in µm, X or X,Y, if it tells none; and for points in px."),
    ] = None,
    fixed_mpp: Annotated[
        str | None, typer.Option(help="Pixel size of the slide FIXED.", show_default="--mpp, if it tells none")
    ] = None,
    drive: Annotated[
        str,
        typer.Option(
            help="What is matched: outline; or both: what the maps show, too, which raises their correlation with "
            "this MRI."
        ),
    ] = "outline",
    map: Annotated[
        list[Path] | None,
        typer.Option(help="Map whose content is matched with --drive both; else F, vCS, CD beside MOVING."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="similarity, affine, bspline (affine, then bent where that clearly helps) or syn (by DIPY); with "
            "--landmarks-only similarity, affine or tps.",
            show_default="bspline; affine with --landmarks-only",
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="robust or dipy.")] = "robust",
    angle: Annotated[float | None, typer.Option(help="Rotation of the section, degrees, if it is known.")] = None,
    turned_over: Annotated[
        bool | None, typer.Option("--turned-over/--as-it-lies", help="Which side of the section is up, if it is known.")
    ] = None,
    tilts: Annotated[str | None, typer.Option(help="Tilts of the best slices to try, degrees, such as -4,4.")] = None,
    figures: Annotated[bool, typer.Option(help="Draw pictures, and a page with a slider, to look at.")] = True,
    flip: Annotated[bool, typer.Option(help="Whether the section may lie with its other side up.")] = True,
    slice: Annotated[int | None, typer.Option(help="Slice of the MRI, from 0; all are tried if not given.")] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(help="Expected linear shrinkage of the section.", show_default="0.129; 0 onto a slide"),
    ] = None,
    sub: Annotated[str | None, typer.Option(help="Subject label for the names of the results.")] = None,
    quiet: Quiet = False,
) -> None:
    """Find where a histology section lies in the MRI, or on another section.

    Writes the transform as JSON and for ITK (.tfm), the map on the grid of the MRI, and pictures to check it by, and
    says how sure it is: good, check or failed.

    Example: histomri register sub-1_param-F_histomap.nii.gz dwi.nii.gz -o xfm --slice 4

    Serial sections: histomri register HE.svs Ki67.svs -o xfm
    """
    from histomri.core.errors import InputError
    from histomri.study.stages.register import run_register

    if landmarks_only and landmarks_check:
        raise InputError("--landmarks-only and --landmarks-check exclude each other")
    with progress_bar("register", quiet) as progress:
        result = run_register(
            moving,
            fixed,
            out,
            moving_mask=moving_mask,
            fixed_mask=fixed_mask,
            landmarks=landmarks,
            fixed_landmarks=fixed_landmarks,
            landmarks_for="only" if landmarks_only else "check" if landmarks_check else "start",
            mpp=number_pair(mpp, "--mpp", "0.2268"),
            fixed_mpp=number_pair(fixed_mpp, "--fixed-mpp", "0.2268"),
            drive=drive,
            maps=tuple(map or ()),
            kind=kind,
            engine=engine,
            flips=flip,
            angle_deg=angle,
            turned_over=turned_over,
            tilts_deg=None if tilts is None else numbers(tilts, "--tilts"),
            figures=figures,
            slice=slice,
            shrinkage=shrinkage,
            sub=sub,
            progress=progress,
        )
    announce(result, quiet)
