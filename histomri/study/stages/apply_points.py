"""Stage: a transform applied to points: tables, cells, regions of interest."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import atomic_path, provenance, read_json, write_text
from histomri.core.orientation import beside_warnings, slide_warnings
from histomri.registration import Transform, with_depth
from histomri.study.result import StepResult
from histomri.study.stages.register_inputs import Mpp

_GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
_SLIDE_COLUMNS = (("x_um", "y_um"), ("Centroid X µm", "Centroid Y µm"), ("Centroid X um", "Centroid Y um"))
_WORLD_COLUMNS = ["x_mm", "y_mm", "z_mm"]


@dataclass(frozen=True)
class End:
    """Where points come from or go to: a slide, whose points are in pixels or µm, or a world, in mm.

    Attributes
    ----------
    slide : str or None
        Name of the slide, if it is known.
    mpp : (x, y) or None
        Its pixel size in µm, if it is known.
    is_slide : bool
    option : str
        The option that tells the pixel size.
    """

    slide: str | None
    mpp: tuple[float, float] | None
    is_slide: bool
    option: str

    def px_to_world(self, points: FloatArray, path: Path) -> FloatArray:
        """Return world mm; x and y of a slide run against those of its world."""
        return -points[:, :2] * self._size(path) / 1000

    def world_to_px(self, points: FloatArray, path: Path) -> FloatArray:
        """Return pixels of the slide, (N, 2)."""
        return np.asarray(-points[:, :2] * 1000 / self._size(path))

    def _size(self, path: Path) -> FloatArray:
        if self.mpp is None:
            raise InputError(
                "the coordinates are pixels of the slide", path=path, hint=f"pass {self.option} with its pixel size"
            )
        return np.array(self.mpp)


def ends_of(transform: Transform, inverse: bool, mpp: Mpp, fixed_mpp: Mpp) -> tuple[End, End]:
    """Return where points start and where they end, by what the transform tells of its slides, and the options.

    Raises
    ------
    InputError
        If a pixel size is not positive.
    """
    given = {"Moving": (mpp, "--mpp"), "Fixed": (fixed_mpp, "--fixed-mpp")}
    ends = []
    for side, (size, option) in given.items():
        record = transform.info.get(side)
        record = record if isinstance(record, dict) else {}
        size = record.get("PixelSize_um") if size is None else size
        pair = None if size is None else tuple(float(value) for value in np.broadcast_to(np.asarray(size, float), 2))
        if pair is not None and not all(np.isfinite(value) and value > 0 for value in pair):
            raise InputError(f"a pixel size of {size} µm is impossible", hint=f"pass {option} X or X,Y in µm")
        slide = record.get("Slide")
        # Without a word on it, the section is on a slide and the fixed image is an MRI.
        ends.append(End(slide, pair, side == "Moving" or slide is not None or size is not None, option))  # type: ignore[arg-type]
    return (ends[1], ends[0]) if inverse else (ends[0], ends[1])


def apply_to_table(
    transform: Transform, ends: tuple[End, End], plane: tuple[FloatArray, FloatArray], input: Path, out: Path
) -> StepResult:
    """Move the points of a table: mm of a world to mm, or µm of a slide to µm of the other, or to mm if there is none.

    Parameters
    ----------
    transform : Transform
        In the direction wanted.
    ends : (End, End)
        Where the points start and end.
    plane : (origin, normal) of (3,) ndarray
        Where points without z start.
    input, out : Path
        CSV or TSV; all other columns are kept.

    Raises
    ------
    InputError
        If columns are missing, a cell is no number, or z is needed and absent.
    """
    import pandas as pd

    separator = "\t" if input.name.lower().endswith(".tsv") else ","
    try:
        table = pd.read_csv(input, sep=separator, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"is not a readable table ({error})", path=input) from error
    columns = _columns(table, ends[0], input)
    points = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise InputError(f"row {bad[0] + 1} holds no finite number ({len(bad)} such rows)", path=input)
    in_um = columns[0] not in _WORLD_COLUMNS
    points = -points / 1000 if in_um else _with_depth(points, plane, input)
    warnings = (*(slide_warnings(transform.info) if in_um else ()), *beside_warnings(transform.info, points))
    moved = transform.points(points)
    names = columns if in_um and ends[1].is_slide else _WORLD_COLUMNS
    values = -1000 * moved if names is columns and in_um else moved
    for name, column in zip(names, values.T, strict=False):
        table[name] = column
    with atomic_path(out) as temporary:
        table.to_csv(
            temporary, sep="\t" if out.name.lower().endswith(".tsv") else ",", index=False, lineterminator="\n"
        )
    message = f"{len(table)} points, now in {' and '.join(names[:2])}"
    return StepResult((out,), (message,), warnings, {"n_points": len(table)})


def _columns(table: Any, start: End, path: Path) -> list[str]:
    """Return the columns that hold the points, in mm of a world or µm of a slide."""
    world = [name for name in _WORLD_COLUMNS if name in table]
    slide = next((list(pair) for pair in _SLIDE_COLUMNS if set(pair) <= set(table.columns)), None)
    if world[:2] == _WORLD_COLUMNS[:2]:
        return world
    if slide is None:
        raise InputError(
            "lacks the columns x_mm and y_mm",
            path=path,
            hint="give points in mm of the image's world, or x_um and y_um of a slide",
        )
    if not start.is_slide:
        raise InputError(
            f"{slide[0]} is in µm of a slide, and the way back starts from the MRI",
            path=path,
            hint="give x_mm and y_mm, or leave --inverse out",
        )
    return slide


def _with_depth(points: FloatArray, plane: tuple[FloatArray, FloatArray], path: Path) -> FloatArray:
    """Return points of a world, (N, 3), those without z on the plane from which they start."""
    try:
        return with_depth(points, *plane, "points")
    except GeometryError as error:
        raise GeometryError(error.problem, path=path, hint=error.hint) from error


def apply_to_geojson(
    transform: Transform,
    xfms: Sequence[Path],
    ends: tuple[End, End],
    plane: tuple[FloatArray, FloatArray],
    input: Path,
    out: Path,
    inverse: bool,
) -> StepResult:
    """Move every geometry of a GeoJSON file, from pixels of a slide or mm to pixels of a slide or mm.

    Parameters
    ----------
    transform : Transform
        In the direction wanted.
    xfms : sequence of Path
        Its files.
    ends : (End, End)
        Where the points start and end.
    plane : (origin, normal) of (3,) ndarray
        Where points in mm without z start.
    input, out : Path
    inverse : bool
        For the record.

    Raises
    ------
    InputError
        If a pixel size is missing, the coordinates are not where they are to start from, or one is no number.
    """
    start, end = ends
    content = read_json(input, "GeoJSON file")
    _check_start(content, start, end, input)
    geometries = _geometries(content, input)
    positions = [position for geometry in geometries for position in _positions(geometry["coordinates"], input)]
    if not positions:
        raise InputError("holds no coordinates", path=input)
    points = np.array([[*position[:3], np.nan][:3] for position in positions], dtype=float)
    points = start.px_to_world(points, input) if start.is_slide else _with_depth(points, plane, input)
    warnings = (*slide_warnings(transform.info), *beside_warnings(transform.info, points))
    moved = transform.points(points)
    moved = end.world_to_px(moved, input) if end.is_slide else moved
    for position, point in zip(positions, moved.tolist(), strict=True):
        position[:] = point
    if isinstance(content, list):
        content = {"type": "FeatureCollection", "features": content}
    units = (
        {"Units": "px", "PixelSize_um": end.mpp, **({"Slide": end.slide} if end.slide else {})}
        if end.is_slide
        else {"Units": "mm", "CoordinateSystem": "fixed world, RAS+"}
    )
    pixel_sizes = {each.option: each.mpp for each in ends if each.is_slide}
    content["histomri"] = {**units, **provenance([input, *xfms], {"Inverse": inverse, "PixelSizes_um": pixel_sizes})}
    write_text(out, json.dumps(content, ensure_ascii=False) + "\n")
    where = units["Units"] if not end.slide else f"pixels of {end.slide}"
    message = f"{len(geometries)} geometries with {len(positions)} points, now in {where}"
    return StepResult((out,), (message,), warnings, {"n_geometries": len(geometries), "n_points": len(positions)})


def _check_start(content: Any, start: End, end: End, path: Path) -> None:
    """Refuse coordinates that are not, or not known to be, in the units of where they start."""
    note = content.get("histomri") if isinstance(content, dict) else None
    note = note if isinstance(note, dict) else {}
    if start.is_slide and note.get("Units") == "mm":
        hint = "leave --inverse out" if end.option == "--mpp" else "pass --inverse to go back"
        raise InputError("is in mm already, and pixels are expected", path=path, hint=hint)
    if not start.is_slide and note.get("Units") != "mm":
        raise InputError(
            "is in pixels, as far as is known, and the way back starts from mm",
            path=path,
            hint='leave --inverse out, or, if it is in mm of the MRI, add "histomri": {"Units": "mm"} to it',
        )
    if end.slide is not None and note.get("Slide") == end.slide != start.slide:
        hint = "leave --inverse out" if end.option == "--mpp" else "pass --inverse to go back"
        raise InputError(f"is in pixels of {end.slide} already", path=path, hint=hint)


def _geometries(content: Any, path: Path) -> list[dict[str, Any]]:
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
                properties = item.get("properties")
                if isinstance(properties, dict):  # QuBaLab keeps the nucleus of a cell here
                    waiting.append(properties.get("extra_geometries"))
    if not found:
        raise InputError("holds no GeoJSON geometry", path=path)
    return found


def _positions(coordinates: list[Any], path: Path) -> list[list[float]]:
    """Return the innermost lists of nested coordinates, each a position."""
    found, waiting = [], [coordinates]
    while waiting:
        item = waiting.pop()
        if item and all(isinstance(entry, list) for entry in item):
            waiting += item
        elif len(item) >= 2 and all(isinstance(entry, int | float) and np.isfinite(entry) for entry in item):
            found.append(item)
        else:
            raise InputError("has a position that is not two or three finite numbers", path=path)
    return found
