"""One row per region, where one patch holds several: biopsies on one slide, or separate annotations."""

from dataclasses import replace
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.patches.summarise import summarise_patches, whole_grid
from histomri.patches.tissue import extent_of

_QUANTITIES = {"vCS": "_um", "F": "", "CD": "_mm2"}


def separate_regions(cells: CellTable, tissue: BaseGeometry | None = None) -> list[BaseGeometry]:
    """Return the polygons of the tissue and region of interest, from left to right; empty if only a field is known."""
    region = extent_of(cells, tissue).region
    parts = [] if region is None else [part for part in shapely.get_parts(region).tolist() if part.area > 0]
    return sorted(parts, key=lambda part: (part.bounds[0], part.bounds[1]))


def summarise_regions(
    cells: CellTable, tissue: BaseGeometry | None = None, *, thickness_um: float = 4.0, **options: Any
) -> list[dict[str, float | int]]:
    """Summarise the cells of each separate region as one patch.

    Parameters
    ----------
    cells : CellTable
        Cells of one slide.
    tissue : shapely geometry, optional
        Outline of the tissue in µm; cut with the region of interest of the table.
    thickness_um : float
        Of the patch.
    **options
        As of `summarise_patches`.

    Returns
    -------
    list of dict
        A row per region: its number from left to right, centroid (µm), area (mm²), number of cells, and vCS (µm), F
        and CD (1/mm²), corrected, with their standard errors. A region without a cell has nCells, F and CD of 0.
    """
    rows = []
    for number, part in enumerate(separate_regions(cells, tissue), start=1):
        place = {"centre_x_um": float(part.centroid.x), "centre_y_um": float(part.centroid.y)}
        row = {"roi": number, **place, "area_mm2": float(part.area) / 1e6}
        rows.append({**row, **_numbers(cells, part, thickness_um, options)})
    return rows


_NONE: dict[str, float | int] = {"nCells": 0} | {
    f"{name}{unit}{end}": 0.0 if name != "vCS" and not end else float("nan")
    for name, unit in _QUANTITIES.items()
    for end in ("", "_se")
}


def _numbers(cells: CellTable, part: BaseGeometry, thickness_um: float, options: Any) -> dict[str, float | int]:
    shapely.prepare(part)
    if not shapely.contains_xy(part, cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()).any():
        return _NONE
    # The part is inside the region of interest already; cutting again would only round.
    cells = replace(cells, metadata=replace(cells.metadata, roi_wkt=None)).select(region=part)
    cells = replace(cells, metadata=replace(cells.metadata, roi_wkt=None))
    maps = summarise_patches(cells, whole_grid(cells, thickness_um=thickness_um, tissue=part), tissue=part, **options)
    found: dict[str, float | int] = {"nCells": int(maps.maps["nCells"][0, 0])}
    for name, unit in _QUANTITIES.items():
        found[f"{name}{unit}"] = float(maps.maps[name][0, 0])
        found[f"{name}{unit}_se"] = float(maps.errors[name][0, 0])
    return found
