"""`histomri ki67`: labelling index from cells, or stained area fraction from a slide."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Mpp, OutDir, Quiet, Sub, announce, number_pair, progress_bar


def ki67(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SLIDE_OR_CELLS",
            help="Slide (svs, ndpi, OME-TIFF, TIFF), or classified cells (QuPath export, cells.parquet).",
        ),
    ],
    out: OutDir,
    roi: Annotated[Path | None, typer.Option(help="GeoJSON polygons (pixels) to count in.")] = None,
    mpp: Mpp = None,
    trust_mpp: Annotated[
        bool, typer.Option("--trust-mpp", help="Slide: take --mpp even if the slide says otherwise.")
    ] = False,
    classes: Annotated[str | None, typer.Option(metavar="A,B", help="Cells: count these only, such as Tumor.")] = None,
    image: Annotated[str | None, typer.Option(help="Cells: which slide of a file that holds several.")] = None,
    window_um: Annotated[
        float | None, typer.Option(help="Cells: edge of the hot spot; if left out, by the density of the cells.")
    ] = None,
    min_cells: Annotated[int, typer.Option(help="Cells: least number in a hot spot.")] = 500,
    stains: Annotated[
        str | None,
        typer.Option(help="Slide: QuPath's stain vectors (JSON text), a file of them, or: estimate."),
    ] = None,
    background: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Slide: colour of the glass; if left out, estimated.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Slide: DAB optical density from which a pixel is stained.")] = 0.2,
    um_per_px: Annotated[float, typer.Option(help="Slide: resolution at which pixels are judged.")] = 1.0,
    tissue: Annotated[
        bool, typer.Option("--tissue/--no-tissue", help="Slide: count tissue only, or all of the region.")
    ] = True,
    map_um: Annotated[float | None, typer.Option(help="Write a map too, of patches of this size.")] = None,
    sub: Sub = None,
    quiet: Quiet = False,
) -> None:
    """Measure Ki-67: the labelling index from classified cells, or the stained area fraction from a slide.

    The two are different quantities and are never mixed. ki67.png shows what was counted.

    Example: histomri ki67 slide_ki67.ndpi -o ki67/ --roi tumour.geojson
    """
    from histomri.study.stages.ki67 import run_ki67
    from histomri.study.stages.ki67_counts import Ki67Options

    options = Ki67Options(
        roi=roi,
        mpp=number_pair(mpp, "--mpp", "0.2268"),
        trust_mpp=trust_mpp,
        window_um=window_um,
        min_cells=min_cells,
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        image=image,
        stains=stains,
        background=_colour(background),
        threshold=threshold,
        um_per_px=um_per_px,
        tissue=tissue,
        map_um=map_um,
    )
    with progress_bar("ki67", quiet) as progress:
        result = run_ki67(source, out, options=options, sub=sub, progress=progress)
    announce(result, quiet)


def _colour(text: str | None) -> tuple[float, float, float] | None:
    from histomri.core.errors import InputError

    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--background {text} is no colour", hint="write --background 243,242,245") from error
    return red, green, blue
