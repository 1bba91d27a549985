"""`histomri cells`: QuPath exports to one table in µm."""

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from .common import Mpp, Quiet, announce, number_pair


def cells(
    exports: Annotated[
        list[Path],
        typer.Argument(
            metavar="EXPORT..",
            help="QuPath tables or GeoJSON of one slide, or a mask of numbered cells (TIFF, PNG), or project.qpproj.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write, such as cells.parquet.")],
    mpp: Mpp = None,
    area_unit: Annotated[
        str | None, typer.Option(metavar="um2|px2", help="Unit of area columns whose name states none.")
    ] = None,
    roi: Annotated[Path | None, typer.Option(help="GeoJSON polygons (pixels): keep the cells inside.")] = None,
    classes: Annotated[str | None, typer.Option(metavar="A,B", help="Keep these classifications only.")] = None,
    min_size_um: Annotated[float | None, typer.Option(help="Drop cells of a smaller diameter.")] = None,
    max_size_um: Annotated[float | None, typer.Option(help="Drop cells of a larger diameter, such as 35.")] = None,
    min_probability: Annotated[
        float | None, typer.Option(help="Drop cells of a smaller detection probability (StarDist), such as 0.5.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Which slide to take from a file that holds several.")] = None,
    project: Annotated[
        Path | None, typer.Option(help="QuPath project file: pixel size, slide size and number of cells.")
    ] = None,
    detections: Annotated[
        str, typer.Option(metavar="nuclei|cells", help="What objects with one outline only are (StarDist, masks).")
    ] = "nuclei",
    geometries: Annotated[
        bool, typer.Option("--geometries", help="Keep the outlines of GeoJSON, for `histomri patches --assign clip`.")
    ] = False,
    measurements: Annotated[
        bool, typer.Option("--measurements/--no-measurements", help="Keep stains, shapes and other measurements.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Read cells from QuPath measurement tables, any version, and write them as one table in µm.

    Delimiter, encoding, decimal sign and units are told from the file; every row left out is counted.

    Example: histomri cells slide1.tsv -o slide1/cells.parquet --roi tissue.geojson --mpp 0.2268
    """
    from histomri.study.stages.cells import run_cells

    result = run_cells(
        exports,
        out,
        mpp=number_pair(mpp, "--mpp", "0.2268"),
        area_unit=cast(Literal["um2", "px2"] | None, area_unit),
        roi=roi,
        classes=_names(classes),
        min_size_um=min_size_um,
        max_size_um=max_size_um,
        min_probability=min_probability,
        image=image,
        project=project,
        detections=cast(Literal["nuclei", "cells"], detections),
        measurements=measurements,
        geometries=geometries,
    )
    announce(result, quiet)


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]
