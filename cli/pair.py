"""`histomri pair`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, announce


class Row(StrEnum):
    """What a row of the table is."""

    voxel = "voxel"
    sample = "sample"


def pair(
    histo_dir: Annotated[Path, typer.Argument(help="Folder with the histology maps (*_histomap.nii.gz).")],
    mri_dir: Annotated[Path, typer.Argument(help="Folder with the fitted maps (*_dwimap.nii.gz), or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write, .csv or .parquet.")],
    xfm: Annotated[Path | None, typer.Option(help="Transform from histology to MRI, from histomri register.")] = None,
    per: Annotated[Row, typer.Option(help="A row per voxel, or per sample.")] = Row.voxel,
    sample: Annotated[
        str | None, typer.Option(help="Name of the sample; by default the one in the file names.")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Patient or animal, where several samples are from one: a column of the table.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Experimental group of the sample.")] = None,
    scanner: Annotated[str | None, typer.Option(help="Scanner of the MRI.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Mask on the grid of the MRI: voxels to use.")] = None,
    slice_index: Annotated[
        int | None, typer.Option("--slice", min=0, help="MRI slice, from 0; by default where the transform leads.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Put histology and MRI side by side in one table, voxel by voxel or per sample.

    Example: histomri pair histo/ mri/ --xfm xfm/sub-1_from-histo_to-dwi_mode-image_xfm.json -o pairs.csv
    """
    from histomri.study.stages.pair import run_pair

    result = run_pair(
        histo_dir,
        mri_dir,
        out,
        xfm=xfm,
        per=per.value,
        sample=sample,
        patient=patient,
        group=group,
        scanner=scanner,
        mask=mask,
        slice=slice_index,
    )
    announce(result, quiet)
