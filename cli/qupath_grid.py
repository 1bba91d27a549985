"""`histomri qupath-grid`: maps as tiles to open in QuPath."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Mpp, Quiet, announce, number_pair


def qupath_grid(
    maps: Annotated[list[Path], typer.Argument(metavar="MAP..", help="NIfTI maps of one grid.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, .geojson or .geojson.gz.")],
    mpp: Mpp = None,
    slide: Annotated[
        Path | None,
        typer.Option(help="The slide, or the .histomri.json of its export: pixel size, and where the slide ends."),
    ] = None,
    xfm: Annotated[
        Path | None, typer.Option(help="For MRI maps: the transform from the section to the MRI (.json, .tfm).")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write maps as GeoJSON tiles with measurements, so that patches or MRI voxels lie on the slide in QuPath.

    All maps must be of one grid; each becomes a measurement. Tiles without any value are left out.

    Example: histomri qupath-grid mri/sub-1_model-diffin_param-*_dwimap.nii.gz -o A01.geojson --mpp 0.2268
    --xfm xfm/sub-1_from-histo_to-dwi_mode-image_xfm.json
    """
    from histomri.study.stages.qupath_grid import run_qupath_grid

    announce(run_qupath_grid(maps, out, mpp=number_pair(mpp, "--mpp", "0.2268"), slide=slide, xfm=xfm), quiet)
