"""Points, tables and annotations carried through a transform, from one slide or world to another."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.calibration import check_pixel_size
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_text
from histomri.core.formulas import without_formulas
from histomri.core.tables import line_of, read_number
from histomri.registration.files import place_warnings, slide_warnings
from histomri.registration.planes import landing_plane, section_plane, with_depth
from histomri.registration.transform import Transform

_GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
_SLIDE_COLUMNS = (("x_um", "y_um"), ("Centroid X µm", "Centroid Y µm"), ("Centroid X um", "Centroid Y um"))
_WORLD_COLUMNS = ["x_mm", "y_mm", "z_mm"]
Mpp = float | tuple[float, float] | None


@dataclass(frozen=True)
class End:
    """Where points come from or go to: a slide, whose points are in pixels or µm, or a world, in mm.

    Name and pixel size (x, y), µm, of a slide are None if unknown; `option` is the one that gives the latter.
    """

    slide: str | None
    mpp: tuple[float, float] | None
    is_slide: bool
    option: str

    @property
    def pixel_um(self) -> FloatArray:
        """Pixel size, which must be known; x and y of a slide run against those of its world."""
        if self.mpp is None:
            raise InputError("the coordinates are pixels of the slide", hint=f"pass {self.option} with its pixel size")
        return np.array(self.mpp)


@dataclass(frozen=True, eq=False)
class Route:
    """A transform in the direction wanted, and its two ends; points without z start on `plane`, (origin, normal)."""

    transform: Transform
    start: End
    end: End
    plane: tuple[FloatArray, FloatArray]

    @classmethod
    def of(cls, transform: Transform, *, inverse: bool = False, mpp: Mpp = None, fixed_mpp: Mpp = None) -> "Route":
        """Return the route of a transform from the moving to the fixed world, or back if `inverse`.

        Pixel sizes in µm are those of the record of the transform if they are not given.
        """
        ends = []
        for side, size, option in (("Moving", mpp, "--mpp"), ("Fixed", fixed_mpp, "--fixed-mpp")):
            record = record if isinstance(record := transform.info.get(side), dict) else {}
            pair = check_pixel_size(record.get("PixelSize_um") if size is None else size, option)
            slide = record.get("Slide")
            # Without a word on it, the section is on a slide and the fixed image is an MRI.
            ends.append(End(slide, pair, side == "Moving" or slide is not None or pair is not None, option))
        if inverse:
            return cls(transform.inverse(), ends[1], ends[0], landing_plane(transform))
        return cls(transform, ends[0], ends[1], section_plane(transform))


def carry_table(
    route: Route, table: pd.DataFrame, path: str | Path = "table"
) -> tuple[pd.DataFrame, list[str], tuple[str, ...]]:
    """Move the points of a table: mm of a world to mm, or µm of a slide to µm of the other, or to mm if there is none.

    The table has the columns x_mm, y_mm[, z_mm], or x_um, y_um, or QuPath's centroids; all others are kept. Also
    returned are the columns in which the points now are, and warnings; `path` is the file of the table, for messages.
    An InputError is raised if columns are missing, a cell is no number, or z is needed and absent.

    Examples
    --------
    >>> shift = Transform([[1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]])
    >>> moved, columns, _ = carry_table(Route.of(shift), pd.DataFrame({"cell": ["a"], "x_um": [1500], "y_um": [500]}))
    >>> moved[["cell", *columns]].to_numpy().tolist()
    [['a', 0.5, -0.5, 5.0]]
    """
    columns = _columns(table, route.start, path)
    numbers = pd.concat([read_number(table, name, Path(path)) for name in columns], axis=1)
    if (missing := numbers.isna().any(axis=1)).any():
        raise InputError(f"line {line_of(missing)} holds no finite number ({int(missing.sum())} such rows)", path=path)
    points = numbers.to_numpy(dtype=float)
    in_um = columns[0] not in _WORLD_COLUMNS
    points = -points / 1000 if in_um else with_depth(points, *route.plane, "points")
    warnings = slide_warnings(route.transform) if in_um else ()
    warnings += place_warnings(route.transform, points, points, on_slide=in_um)
    moved = route.transform.points(points)
    names, values = (columns, -1000 * moved) if in_um and route.end.is_slide else (_WORLD_COLUMNS, moved)
    return table.assign(**dict(zip(names, values.T, strict=False))), names, warnings


def _columns(table: pd.DataFrame, start: End, path: str | Path) -> list[str]:
    """Return the columns that hold the points, in mm of a world or µm of a slide."""
    world = [name for name in _WORLD_COLUMNS if name in table]
    slide = next((list(pair) for pair in _SLIDE_COLUMNS if set(pair) <= set(table.columns)), None)
    if world[:2] == _WORLD_COLUMNS[:2]:
        return world
    if slide is None:
        hint = "give points in mm of the image's world, or x_um and y_um of a slide"
        raise InputError("lacks the columns x_mm and y_mm", path=path, hint=hint)
    if not start.is_slide:
        problem = f"{slide[0]} is in µm of a slide, and the way back starts from the MRI"
        raise InputError(problem, path=path, hint="give x_mm and y_mm, or leave --inverse out")
    return slide


def write_table(out: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, or with tabs as .tsv."""
    with atomic_path(out) as temporary:
        separator = "\t" if out.name.lower().endswith(".tsv") else ","
        without_formulas(table).to_csv(temporary, sep=separator, index=False, lineterminator="\n")
    return out


@dataclass(frozen=True)
class CarriedAnnotations:
    """GeoJSON content that was carried, and what it holds; `units` says what its numbers mean."""

    content: dict[str, Any]
    n_geometries: int
    n_points: int
    units: dict[str, Any]
    warnings: tuple[str, ...] = ()


def carry_geojson(route: Route, content: Any, *, in_place: bool = False) -> CarriedAnnotations:
    """Move every geometry of a GeoJSON document, from pixels of a slide or mm to pixels of a slide or mm.

    The document is changed if `in_place`; of many cells a copy takes long. An InputError is raised if a pixel size is
    missing, the coordinates are not where they are to start from, or one is no number.

    Examples
    --------
    >>> carried = carry_geojson(Route.of(Transform.identity(), mpp=0.5), {"type": "Point", "coordinates": [2000, 400]})
    >>> carried.content["coordinates"], carried.units["Units"]
    ([-1.0, -0.2, 0.0], 'mm')
    """
    start, end = route.start, route.end
    _check_start(content, start, end)
    content = content if in_place else copy.deepcopy(content)
    geometries = _geometries(content)
    parts = [_positions(geometry["coordinates"]) for geometry in geometries]
    positions = [position for part in parts for position in part]
    if not positions:
        raise InputError("holds no coordinates")
    points = np.array([[*position[:3], np.nan][:3] for position in positions], dtype=float)
    in_mm = not start.is_slide
    points = with_depth(points, *route.plane, "points") if in_mm else -points[:, :2] * start.pixel_um / 1000
    sizes = np.array([len(part) for part in parts])
    middles = np.add.reduceat(points, np.r_[0, np.cumsum(sizes[sizes > 0])[:-1]]) / sizes[sizes > 0, None]
    mpp = None if in_mm else start.pixel_um
    warnings = (
        *slide_warnings(route.transform),
        *place_warnings(route.transform, points, middles, mpp=mpp, on_slide=not in_mm),
    )
    moved = route.transform.points(points)
    moved = -moved[:, :2] * 1000 / end.pixel_um if end.is_slide else moved
    for position, point in zip(positions, moved.tolist(), strict=True):
        position[:] = point
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    units: dict[str, Any] = {"Units": "mm", "CoordinateSystem": "fixed world, RAS+"}
    if end.is_slide:
        units = {"Units": "px", "PixelSize_um": end.mpp, **({"Slide": end.slide} if end.slide else {})}
    return CarriedAnnotations(content, len(geometries), len(positions), units, warnings)


def write_geojson(
    out: Path, carried: CarriedAnnotations, route: Route, sources: Sequence[Path], settings: Mapping[str, Any]
) -> Path:
    """Write annotations, with a note on their units and on where they come from."""
    sizes = {each.option: each.mpp for each in (route.start, route.end) if each.is_slide}
    note = {**carried.units, **provenance(sources, {**settings, "PixelSizes_um": sizes})}
    return write_text(out, json.dumps({**carried.content, "histomri": note}, ensure_ascii=False) + "\n")


def _check_start(content: Any, start: End, end: End) -> None:
    """Refuse coordinates that are not, or not known to be, in the units of where they start."""
    found = content.get("histomri") if isinstance(content, dict) else None
    note = found if isinstance(found, dict) else {}
    hint = "leave --inverse out" if end.option == "--mpp" else "pass --inverse to go back"
    if start.is_slide and note.get("Units") == "mm":
        raise InputError("is in mm already, and pixels are expected", hint=hint)
    if not start.is_slide and note.get("Units") != "mm":
        leave = 'leave --inverse out, or, if it is in mm of the MRI, add "histomri": {"Units": "mm"} to it'
        raise InputError("is in pixels, as far as is known, and the way back starts from mm", hint=leave)
    if end.slide is not None and note.get("Slide") == end.slide != start.slide:
        raise InputError(f"is in pixels of {end.slide} already", hint=hint)


def _geometries(content: Any) -> list[dict[str, Any]]:
    """Return every geometry in a GeoJSON document, the nuclei that QuPath keeps beside the cells included."""
    found, waiting = [], [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += [entry for entry in item if isinstance(entry, dict)]
        elif isinstance(item, dict):
            if item.get("type") in _GEOMETRIES and isinstance(item.get("coordinates"), list):
                found.append(item)
            else:
                waiting += [entry for key, entry in item.items() if key != "properties"]
                if isinstance(properties := item.get("properties"), dict):  # QuBaLab keeps the nucleus of a cell here
                    waiting.append(properties.get("extra_geometries"))
    if not found:
        raise InputError("holds no GeoJSON geometry")
    return found


def _positions(coordinates: list[Any]) -> list[list[float]]:
    """Return the innermost lists of nested coordinates, each a position."""
    found, waiting = [], [coordinates]
    while waiting:
        item = waiting.pop()
        if item and all(isinstance(entry, list) for entry in item):
            waiting += item
        elif len(item) >= 2 and all(isinstance(entry, int | float) and np.isfinite(entry) for entry in item):
            found.append(item)
        else:
            raise InputError("has a position that is not two or three finite numbers")
    return found
