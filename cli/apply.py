"""`histomri apply`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, announce, number_pair


def apply(
    xfm: Annotated[Path, typer.Argument(help="Transform: .json, or an affine of ITK, ANTs or FSL.", metavar="XFM")],
    input: Annotated[
        Path,
        typer.Argument(
            help="NIfTI map, slide, GeoJSON in slide pixels, or table with x_mm, y_mm[, z_mm] or x_um, y_um.",
            metavar="INPUT",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")],
    like: Annotated[
        Path | None, typer.Option(help="NIfTI image whose grid a map is drawn on; image or slide for a slide.")
    ] = None,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="From the MRI, or the other slide, back to the section.")
    ] = False,
    then: Annotated[
        list[Path] | None,
        typer.Option(help="Transform that comes after XFM, such as from the next section to the MRI; may be repeated."),
    ] = None,
    moving: Annotated[
        Path | None, typer.Option(help="Image that a matrix of FSL was made with; INPUT, if that is a map.")
    ] = None,
    fixed: Annotated[
        Path | None, typer.Option(help="The other image of a matrix of FSL; --like, if a map is drawn on it.")
    ] = None,
    mpp: Annotated[
        str | None,
        typer.Option(
            help="Pixel size of the section's slide in µm, X or X,Y, for GeoJSON and slides.",
            show_default="of the slide that was registered",
        ),
    ] = None,
    fixed_mpp: Annotated[
        str | None,
        typer.Option(
            help="Pixel size of the slide it was laid on; GeoJSON then ends in its pixels.",
            show_default="of the slide that was registered",
        ),
    ] = None,
    um_per_px: Annotated[float, typer.Option(help="Pixel size of a warped slide (.ome.tif) in µm.")] = 10.0,
    slice: Annotated[int | None, typer.Option(help="Slice that a slide is drawn on; the registered one.")] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Take the nearest voxel: for maps of labels, whose type is kept.")
    ] = False,
    cubic: Annotated[bool, typer.Option("--cubic", help="Interpolate maps by cubic splines, not linearly.")] = False,
    quiet: Quiet = False,
) -> None:
    """Apply a transform to a map, to a slide, to annotations or to points.

    Example: histomri apply sub-1_from-histo_to-dwi_mode-image_xfm.json sub-1_param-vCS_histomap.nii.gz
    --like dwi.nii.gz -o sub-1_space-dwi_param-vCS_histomap.nii.gz

    Cells of a serial section: histomri apply from-HE_to-Ki67_mode-image_xfm.json HE.geojson -o on_Ki67.geojson

    On to the MRI: histomri apply from-HE_to-Ki67_mode-image_xfm.json HE.geojson
    --then from-histo_to-dwi_mode-image_xfm.json -o on_mri.geojson
    """
    from histomri.core.errors import InputError
    from histomri.study.stages.apply import run_apply

    if nearest and cubic:
        raise InputError("--nearest and --cubic exclude each other")
    result = run_apply(
        xfm,
        input,
        out,
        like=like,
        inverse=inverse,
        then=tuple(then or ()),
        moving=moving,
        fixed=fixed,
        mpp=number_pair(mpp, "--mpp", "0.2268"),
        fixed_mpp=number_pair(fixed_mpp, "--fixed-mpp", "0.2268"),
        order=0 if nearest else 3 if cubic else 1,
        um_per_px=um_per_px,
        slice=slice,
    )
    announce(result, quiet)
