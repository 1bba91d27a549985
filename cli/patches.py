"""`histomri patches`: a cell table to maps."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, Sub, announce, number_pair


def patches(
    cells: Annotated[Path, typer.Argument(metavar="CELLS", help="Table of `histomri cells`, or a QuPath table.")],
    out: OutDir,
    patch_um: Annotated[str | None, typer.Option(metavar="W[,H]", help="Size of a patch in µm.")] = None,
    like: Annotated[Path | None, typer.Option(help="Take the size of a patch from the voxels of this MRI.")] = None,
    thickness_um: Annotated[float | None, typer.Option(help="Slice thickness to state in the maps.")] = None,
    preset: Annotated[
        str, typer.Option(help="Corrections: mouse-exvivo (shrinkage 12.9 %), human-biopsy (15.3 %), none.")
    ] = "mouse-exvivo",
    section: Annotated[
        str | None, typer.Option(help="Section correction, in place of the preset's: sphere-mean, wicksell, none.")
    ] = None,
    section_thickness_um: Annotated[float, typer.Option(help="Thickness of the section, for wicksell.")] = 4.0,
    shrinkage: Annotated[
        float | None, typer.Option(help="Shrinkage, in place of the preset's: fraction of length lost, such as 0.129.")
    ] = None,
    min_cells: Annotated[int, typer.Option(help="Fewer cells in a patch give no sizes.")] = 1,
    min_tissue: Annotated[
        float, typer.Option(help="Patches with a smaller fraction inside the tissue are left out.")
    ] = 0.0,
    tissue: Annotated[
        str,
        typer.Option(
            help="Without a region of interest, F and CD are per: field (all of it), cells (where cells are)."
        ),
    ] = "field",
    slide: Annotated[
        Path | None, typer.Option(help="The slide the cells were found on: F and CD are per area of tissue on it.")
    ] = None,
    whole: Annotated[bool, typer.Option("--whole", help="One patch, and rois.csv if regions are several.")] = False,
    assign: Annotated[
        str,
        typer.Option(
            help="How cells count: centroid (where it lies), clip (shared by area; needs `cells --geometries`)."
        ),
    ] = "centroid",
    step_um: Annotated[
        str | None, typer.Option(metavar="W[,H]", help="Distance of patches, less than their size if they overlap.")
    ] = None,
    sub: Sub = None,
    quiet: Quiet = False,
) -> None:
    """Make maps of cell size (vCS), area fraction (F), density (CD) and more from a cell table.

    Corrected maps, the same uncorrected (desc-uncorrected), and standard errors (stat-se) are written as NIfTI.

    Example: histomri patches cells.parquet -o histo --like dwi.nii.gz --preset mouse-exvivo
    """
    from histomri.study.stages.patches import run_patches

    result = run_patches(
        cells,
        out,
        patch_um=number_pair(patch_um, "--patch-um", "386"),
        like=like,
        thickness_um=thickness_um,
        preset=preset,
        section=section,
        section_thickness_um=section_thickness_um,
        shrinkage=shrinkage,
        min_cells=min_cells,
        min_tissue=min_tissue,
        tissue=tissue,
        slide=slide,
        whole=whole,
        assign_by=assign,
        step_um=number_pair(step_um, "--step-um", "193"),
        sub=sub,
    )
    announce(result, quiet)
