"""A row for each region, class of regions, or TMA core: the cells in it summarised as one patch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable, Region
from histomri.core.errors import InputError
from histomri.patches.cells_in_3d import VolumeSettings
from histomri.patches.summarise import summarise_patches, whole_grid
from histomri.patches.tissue import extent_of
from histomri.patches.volume_regions import RegionsIn3D

Per = Literal["region", "class", "core"]
_QUANTITIES = {"vCS": "_um", "F": "", "CD": "_mm2"}
_Z95 = 1.959964
_OVERLAP = 1.001  # of the area of all regions: with more, their areas have a part in common
_AGAIN = "make the table again with `histomri cells`, --roi and the annotations as QuPath exported them"
_RELABEL = "name the cores in QuPath (TMA > Relabel TMA grid), export again, and run `histomri cells` again"


@dataclass(frozen=True)
class _Area:
    """What one row is of."""

    geometry: BaseGeometry  # µm
    name: str = ""
    classification: str = ""
    core: str = ""


def separate_regions(cells: CellTable, tissue: BaseGeometry | None = None) -> list[BaseGeometry]:
    """Return the polygons of the tissue and region of interest, from left to right; empty if only a field is known."""
    region = extent_of(cells, tissue).region
    parts = [] if region is None else [part for part in shapely.get_parts(region).tolist() if part.area > 0]
    return sorted(parts, key=lambda part: (part.bounds[0], part.bounds[1]))


def regions_of(cells: CellTable, tissue: BaseGeometry | None = None) -> list[Region]:
    """Return the regions that a table holds, inside the tissue, from left to right; empty if it holds none."""
    extent = extent_of(cells, tissue).region
    known = [Region.from_record(record) for record in cells.metadata.regions]
    inside = [replace(one, geometry=_within(one.geometry, extent)) for one in known]
    there = [one for one in inside if one.area_um2 > 0]
    return sorted(there, key=lambda one: (one.geometry.bounds[0], one.geometry.bounds[1]))


def summarise_regions(
    cells: CellTable, tissue: BaseGeometry | None = None, *, thickness_um: float = 4.0, per: Per | None = None,
    volume: VolumeSettings | None = None, **options: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Summarise the cells of each region as one patch, with the `options` of `summarise_patches`.

    `tissue` is its outline in µm; it is cut with the region of interest of the table. `per` says what a row is of: a
    region as it was drawn, all regions of a class, or all of a TMA core; without it, regions as they were drawn if
    there are several with a name or class, else separate polygons. A row holds its number from left to right, centroid
    (µm), area (mm²), number of cells, and vCS (µm), F and CD (1/mm²), corrected, with their standard errors; then name,
    class and core of the region, and the 95 % intervals that the errors imply. A region without a cell has nCells, F
    and CD of 0. A cell counts in each of several regions that overlap.

    With `volume` the columns of vCS, F and CD end in ``_paper``, as they are of profiles, and cells in three dimensions
    follow after all others: see `RegionsIn3D.columns`.

    Raises
    ------
    InputError
        If the table does not hold the classes or cores that `per` asks for.
    """
    rows, in_3d = [], None if volume is None else RegionsIn3D(cells, tissue, volume)
    for number, area in enumerate(_areas(cells, tissue, per), start=1):
        part = area.geometry
        place = {"centre_x_um": float(part.centroid.x), "centre_y_um": float(part.centroid.y)}
        inside = _cells_in(cells, part)
        numbers, shrinkage = _numbers(inside, part, thickness_um, options)
        labels = {"region": area.name, "class": area.classification, "core": area.core}
        start = {"roi": number, **place, "area_mm2": float(part.area) / 1e6}
        bounds = _intervals(numbers)
        if in_3d is None:
            rows.append({**start, **numbers, **labels, **bounds})
        else:
            volumes = in_3d.columns(inside, part, shrinkage)
            rows.append({**start, **_as_published(numbers), **labels, **_as_published(bounds), **volumes})
    return rows


def _as_published(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return numbers of profiles under names that say so, which those in 3D beside them would else share."""
    return {name if name == "nCells" else f"{name}_paper": value for name, value in numbers.items()}


def overlap_warning(rows: Sequence[dict[str, Any]], cells: CellTable, tissue: BaseGeometry | None) -> tuple[str, ...]:
    """Warn of rows whose regions have ground in common, so that cells count in several."""
    region, total = extent_of(cells, tissue).region, sum(row["area_mm2"] for row in rows) * 1e6
    if region is None or total <= _OVERLAP * shapely.area(region):
        return ()
    return ("some regions overlap: cells in several of them count in the row of each",)


def _areas(cells: CellTable, tissue: BaseGeometry | None, per: Per | None) -> list[_Area]:
    regions = regions_of(cells, tissue)
    if per in ("class", "core"):
        return _pooled(regions, cells, "classification" if per == "class" else "core")
    labelled = [one for one in regions if one.name or one.classification or one.core]
    if regions and (per == "region" or (len(regions) > 1 and labelled)):
        return [_Area(one.geometry, one.name, one.classification, one.core) for one in regions]
    parts = separate_regions(cells, tissue)
    if per == "region" and not parts:
        raise InputError("the table holds no regions, so there can be no row for each", hint=_AGAIN)
    return [_with_labels(part, regions) for part in parts]


def _with_labels(part: BaseGeometry, regions: Sequence[Region]) -> _Area:
    """Return a polygon with the names of the regions that it is of."""
    point = part.representative_point()
    around = [one for one in regions if one.geometry.intersects(point)]
    texts = [[getattr(one, name) for one in around] for name in ("name", "classification", "core")]
    return _Area(part, *("; ".join(dict.fromkeys(filter(None, found))) for found in texts))


def _pooled(regions: Sequence[Region], cells: CellTable, by: Literal["classification", "core"]) -> list[_Area]:
    """Return an area for each class or core, the union of its regions."""
    word = {"classification": "class", "core": "TMA core"}[by]
    if not regions:
        older = "" if cells.metadata.roi_wkt is None else " (an earlier version made it)"
        raise InputError(f"the table holds no regions{older}, so there can be no row for each {word}", hint=_AGAIN)
    if by == "core":
        _refuse_nameless(regions)
    groups: dict[str, list[Region]] = {}
    for one in regions:
        groups.setdefault(getattr(one, by), []).append(one)
    areas = []
    for members in groups.values():
        texts = [{getattr(one, name) for one in members} for name in ("name", "classification", "core")]
        same = (next(iter(found)) if len(found) == 1 else "" for found in texts)
        areas.append(_Area(shapely.union_all([one.geometry for one in members]), *same))
    return areas


def _refuse_nameless(regions: Sequence[Region]) -> None:
    nameless = [one for one in regions if one.kind == "core" and not one.core]
    if nameless:
        problem = f"{len(nameless):,} TMA cores have no name, the first is {nameless[0].label}"
        raise InputError(problem, hint=_RELABEL)
    if not any(one.core for one in regions):
        problem = "no region of the table is or lies in a TMA core, so there can be no row for each core"
        raise InputError(problem, hint="export the cores with the annotations, or leave out --per core")


def _within(geometry: BaseGeometry, extent: BaseGeometry | None) -> BaseGeometry:
    if extent is None:
        return geometry
    parts = shapely.get_parts(shapely.intersection(geometry, extent))
    areal = parts[shapely.get_dimensions(parts) == 2]
    return shapely.union_all(areal) if areal.size else shapely.Polygon()


_NONE: dict[str, float | int] = {"nCells": 0}
for _name, _unit in _QUANTITIES.items():
    _NONE |= {f"{_name}{_unit}": float("nan") if _name == "vCS" else 0.0, f"{_name}{_unit}_se": float("nan")}


def _cells_in(cells: CellTable, part: BaseGeometry) -> CellTable | None:
    """Return the cells in a region, without a region of interest of their own; None if there are none."""
    x, y = cells.data["x_um"].to_numpy(), cells.data["y_um"].to_numpy()
    low_x, low_y, high_x, high_y = part.bounds
    near = (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
    shapely.prepare(part)
    near[near] = shapely.contains_xy(part, x[near], y[near])
    if not near.any():
        return None
    # The part is inside the region of interest already; cutting again would only round.
    metadata = replace(cells.metadata, roi_wkt=None, regions=())
    outlines = None if cells.outlines is None else cells.outlines[near]
    return CellTable(cells.data[near].reset_index(drop=True), metadata, outlines)


def _numbers(
    cells: CellTable | None, part: BaseGeometry, thickness_um: float, options: Any
) -> tuple[dict[str, float | int], float]:
    """Return the numbers of the profiles in a region, and the shrinkage that they are corrected for."""
    if cells is None:
        return _NONE, 0.0
    maps = summarise_patches(cells, whole_grid(cells, thickness_um=thickness_um, tissue=part), tissue=part, **options)
    found: dict[str, float | int] = {"nCells": int(maps.maps["nCells"][0, 0])}
    for name, unit in _QUANTITIES.items():
        found[f"{name}{unit}"] = float(maps.maps[name][0, 0])
        found[f"{name}{unit}_se"] = float(maps.errors[name][0, 0])
    return found, float(maps.parameters["Shrinkage"])


def _intervals(numbers: dict[str, float | int]) -> dict[str, float]:
    """Return the bounds of the 95 % intervals, which are never below 0."""
    bounds = {}
    for name, unit in _QUANTITIES.items():
        value, error = numbers[f"{name}{unit}"], numbers[f"{name}{unit}_se"]
        bounds[f"{name}{unit}_low"] = float(np.maximum(value - _Z95 * error, 0.0))
        bounds[f"{name}{unit}_high"] = float(value + _Z95 * error)
    return bounds
