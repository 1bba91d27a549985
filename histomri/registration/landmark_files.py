"""Points that people set in other programs: tables, QuPath's GeoJSON, and the markups of 3D Slicer."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.array_files import as_numbers
from histomri.core.arrays import FloatArray
from histomri.core.calibration import check_pixel_size
from histomri.core.door import reading
from histomri.core.errors import InputError, UnitError
from histomri.core.files import read_json, require_file
from histomri.core.tables import Table, read_table

_WHAT = "file of landmarks"
_PAIR_COLUMNS = "moving_x_mm, moving_y_mm, fixed_x_mm, fixed_y_mm and .._z_mm; .._um for µm of a slide"
_TABLES = (".csv", ".tsv", ".xlsx", ".parquet")
_LEAST_NAMES = 2
_SLICER_DEFINED = "2"
"""Status of a point that has a place, the first of two values that 3D Slicer 5 appends without naming a column."""
_SLICER_SYSTEMS = {**dict.fromkeys(("0", "RAS"), (1.0, 1.0, 1.0)), **dict.fromkeys(("1", "LPS"), (-1.0, -1.0, 1.0))}
Mpp = float | tuple[float, float] | None


@dataclass(frozen=True, eq=False)
class Points:
    """Named points, (N, 3) RAS+ mm, in the world of one image; a name or a z that is not given is empty or NaN."""

    names: tuple[str, ...]
    xyz_mm: FloatArray


def read_landmarks(
    path: str | Path, fixed: str | Path | None = None, *, mpp: Mpp = None, fixed_mpp: Mpp = None
) -> FloatArray:
    """Read landmark pairs (N, 2, 3), moving and fixed points, from one table, or from one file of points per image.

    Where z is not given, it is 0 in the moving image, which is the plane of a slide, and NaN in the fixed one: on which
    slice the points lie is not known. An InputError is raised if a column is missing, a cell is no number, or the two
    files do not pair.

    Parameters
    ----------
    path : path-like
        Table with the columns moving_x_mm, moving_y_mm, fixed_x_mm, fixed_y_mm, and optionally moving_z_mm, fixed_z_mm
        (world coordinates of the two images, RAS+ mm), or on either side .._x_um, .._y_um (µm from the top left corner
        of a slide); or, if `fixed` is given, the points of the moving image in any form that `read_points` takes.
    fixed : path-like, optional
        The points of the fixed image. Points are paired by name if, in either file, all have names and no two the same,
        and two or more names are in both; `unpaired_landmarks` gives those that are then left out. Else by order.
    mpp, fixed_mpp : float or (x, y), optional
        Pixel sizes in µm of the two slides, for points in pixels.
    """
    if fixed is None:
        pairs = _pairs_of_table(require_file(path, "landmark file"))
    else:
        pairs = _paired(read_points(path, mpp=mpp), read_points(fixed, mpp=fixed_mpp), Path(path), Path(fixed))
    pairs[:, 0] = np.where(np.isnan(pairs[:, 0]), 0.0, pairs[:, 0])
    return pairs


def _pairs_of_table(path: Path) -> FloatArray:
    if path.suffix.lower() in (".json", ".geojson", ".fcsv"):
        hint = "give the file of the other image with --fixed-landmarks"
        raise InputError("holds the points of one image", path=path, hint=hint)
    table = read_table(path, comment="#")
    sides = []
    for side in ("moving_", "fixed_"):
        if (points := _world(table, side)) is None:
            absent = next(name for name in (f"{side}x_mm", f"{side}y_mm") if name not in table)
            raise InputError(f"lacks the column {absent}", path=path, hint=f"the columns are {_PAIR_COLUMNS}")
        sides.append(points)
    if not len(table):
        raise InputError("holds no landmarks", path=path)
    return np.stack(sides, axis=1)


def read_points(path: str | Path, *, mpp: Mpp = None) -> Points:
    """Read points of one image.

    The file is a table with x_mm, y_mm[, z_mm][, name], or with x_um, y_um, or x, y in pixels, of the slide; GeoJSON of
    QuPath (points and multipoints, pixels of the slide); or 3D Slicer's .fcsv or .mrk.json, whose coordinate system is
    taken from it. World x and y of a slide run against its pixels, of which `mpp` is the size in µm.

    Raises
    ------
    InputError
        If the file is damaged or holds no points.
    UnitError
        If the points are in pixels and `mpp` is not given, or in a unit other than mm.
    """
    name = (path := require_file(path, "point file")).name.lower()
    if name.endswith(".fcsv"):
        found = _from_fcsv(path)
    elif name.endswith(_TABLES):
        found = _from_table(read_table(path, comment="#"), mpp)
    elif name.endswith((".json", ".geojson")):
        content = read_json(path, "point file")
        markups = isinstance(content, dict) and "markups" in content
        found = _from_markups(content["markups"], path) if markups else _from_geojson(content, path, mpp)
    else:
        raise InputError("is no file of points", path=path, hint="give .csv, .geojson, .fcsv or .mrk.json")
    if not len(found.xyz_mm):
        raise InputError("holds no points", path=path)
    if not np.all(np.isfinite(found.xyz_mm) | np.isnan(found.xyz_mm) & (0, 0, 1)):
        raise InputError("has an empty or infinite coordinate", path=path)
    return found


def unpaired_landmarks(
    path: str | Path, fixed: str | Path, *, mpp: Mpp = None, fixed_mpp: Mpp = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that only one of two files of points has, where `read_landmarks` pairs them by name."""
    moving, other = read_points(path, mpp=mpp), read_points(fixed, mpp=fixed_mpp)
    shared = _shared_names(moving, other)
    left, right = (tuple(name for name in side.names if shared and name not in shared) for side in (moving, other))
    return left, right


def _shared_names(moving: Points, fixed: Points) -> list[str]:
    """Return the names by which two sets of points are paired, in the order of the first; none if not by name."""
    sides = moving.names, fixed.names
    if any("" in names or len(set(names)) < len(names) for names in sides):
        return []
    shared = [name for name in moving.names if name in set(fixed.names)]
    return shared if len(shared) >= _LEAST_NAMES else []


def _paired(moving: Points, fixed: Points, path: Path, other: Path) -> FloatArray:
    if shared := _shared_names(moving, fixed):
        left, right = ({n: p for n, p in zip(side.names, side.xyz_mm, strict=True)} for side in (moving, fixed))
        return np.array([[left[name], right[name]] for name in shared])
    if len(moving.names) != len(fixed.names):
        problem = f"has {len(moving.names)} points and {other.name} has {len(fixed.names)}"
        hint = "give the pairs the same names, or both files the same number of points in the same order"
        raise InputError(problem, path=path, hint=hint)
    return np.stack([moving.xyz_mm, fixed.xyz_mm], axis=1)


def _numbers(table: Table, columns: list[str]) -> FloatArray:
    values = table.numbers(columns).to_numpy(dtype=float)
    if not np.all(np.isfinite(values)):
        raise InputError("has an empty or infinite cell", path=table.path)
    return np.asarray(values)


def _from_table(table: Table, mpp: Mpp) -> Points:
    lower = {name.lower(): name for name in table.names}
    label = next((lower[name] for name in ("name", "label") if name in lower), None)
    names = ("",) * len(table) if label is None else tuple(table.text(label))
    if (world := _world(table, "")) is not None:
        return Points(names, world)
    if {"x", "y"} <= set(lower):
        return Points(names, _from_pixels(_numbers(table, [lower["x"], lower["y"]]), mpp, table.path))
    raise InputError("lacks the columns x_mm and y_mm (or x_um and y_um, or x and y in pixels)", path=table.path)


def _world(table: Table, side: str) -> FloatArray | None:
    """Return world mm of the columns of one image, given in mm or in µm of its slide; None if there are none."""
    if f"{side}x_mm" in table and f"{side}y_mm" in table:
        points = _numbers(table, [f"{side}{axis}_mm" for axis in "xyz" if axis != "z" or f"{side}z_mm" in table])
        return np.column_stack([points, np.full(len(points), np.nan)])[:, :3]
    if f"{side}x_um" in table and f"{side}y_um" in table:
        slide = _numbers(table, [f"{side}x_um", f"{side}y_um"])
        return np.column_stack([-slide / 1000, np.zeros(len(slide))])
    return None


def _from_pixels(pixels: FloatArray, mpp: Mpp, path: Path) -> FloatArray:
    if (size := check_pixel_size(mpp)) is None:
        raise UnitError("the points are in pixels of the slide", path=path, hint="pass --mpp with its pixel size")
    return np.column_stack([-pixels * np.array(size) / 1000, np.zeros(len(pixels))])


def _from_geojson(content: Any, path: Path, mpp: Mpp) -> Points:
    features = content.get("features", [content]) if isinstance(content, dict) else content
    names: list[str] = []
    pixels: list[Any] = []
    for feature in features if isinstance(features, list) else []:
        geometry = feature.get("geometry", feature) if isinstance(feature, dict) else None
        if not isinstance(geometry, dict) or geometry.get("type") not in ("Point", "MultiPoint"):
            continue
        several, name = geometry["type"] == "MultiPoint", _geojson_name(feature)
        points = geometry.get("coordinates") or []
        points = points if several and isinstance(points, list) else [points]
        pixels += [point[:2] if isinstance(point, list) else point for point in points]
        names += [f"{name} {n + 1}" if name and several else name for n in range(len(points))]
    with reading(path, _WHAT, says="has a position that is not two numbers ({})", unchecked=True):
        array = as_numbers(pixels).reshape(-1, 2)
    return Points(tuple(names), _from_pixels(array, mpp, path))


def _geojson_name(feature: dict[str, Any]) -> str:
    """Return the name of an annotation, or else its class: one name, or the parts of a derived class as a list."""
    if not isinstance(properties := feature.get("properties"), dict):
        return ""
    kind = properties.get("classification") or ""
    if isinstance(kind, dict):
        parts = kind.get("names")
        kind = ": ".join(map(str, parts)) if isinstance(parts, list) else kind.get("name")
    return str(properties.get("name") or kind or "")


def _from_markups(markups: Any, path: Path) -> Points:
    names, places = [], []
    with reading(path, _WHAT, says="is no markups file of 3D Slicer ({})", unchecked=True):
        for markup in markups:
            units = markup.get("coordinateUnits", "mm")
            if (units[0] if isinstance(units, list) else units) != "mm":
                raise UnitError(f"the points are in {units}", path=path, hint="save them in mm")
            sign = _sign(str(markup.get("coordinateSystem", "LPS")), path)
            for point in markup["controlPoints"]:
                if point.get("positionStatus", "defined") == "defined":
                    names.append(str(point.get("label", "")))
                    if (place := as_numbers(point["position"])).shape != (3,):
                        raise InputError(f"has a position that is not three numbers, {point['position']}")
                    places.append(place * sign)
    return Points(tuple(names), np.array(places).reshape(-1, 3))


def _from_fcsv(path: Path) -> Points:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    headers = (line[1:].split("=", 1) for line in lines if line.startswith("#") and "=" in line)
    words = {key.strip().lower(): value.strip() for key, value in headers}
    if not {"coordinatesystem", "columns"} <= set(words):
        raise InputError("lacks the header of a .fcsv file of 3D Slicer", path=path)
    sign = _sign(words["coordinatesystem"], path)
    columns = [name.strip() for name in words["columns"].split(",")]
    with reading(path, ".fcsv file"):
        cells = list(csv.reader(line for line in lines if line.strip() and line[0] != "#"))
    # The values after the last column are the status and whether a program made the point; see _SLICER_DEFINED.
    defined = [each for each in cells if each[len(columns) : len(columns) + 1] in ([], [""], [_SLICER_DEFINED])]
    rows = [dict(zip(columns, each, strict=False)) for each in defined]
    with reading(path, _WHAT, says="has a row without three coordinates ({})"):
        places = np.array([[float(row[axis]) for axis in "xyz"] for row in rows]).reshape(-1, 3)
    return Points(tuple(row.get("label", "").strip() for row in rows), places * sign)


def _sign(system: str, path: Path) -> FloatArray:
    """Return what turns a coordinate system of 3D Slicer into RAS."""
    if system.upper() not in _SLICER_SYSTEMS:
        raise InputError(f"the points are in the system {system}", path=path, hint="save them in RAS or LPS")
    return np.array(_SLICER_SYSTEMS[system.upper()])
