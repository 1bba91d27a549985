"""Cells of GeoJSON files that QuPath wrote, any version, streamed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import shapely
from shapely.errors import GEOSException

from histomri.arrays import FloatArray
from histomri.cells.geojson_stream import stream_features
from histomri.cells.headers import AREAS, POSITION, recognise
from histomri.cells.raw import RawExport
from histomri.errors import InputError

# Few enough that the parsed lists stay small, many enough that shapely's calls do not count.
_BATCH = 1000
_CELLS = ("cell", "detection")
_TYPES = {"pathcellobject": "cell", "pathdetectionobject": "detection", "pathtileobject": "tile"}
_WORDS = ("object_id", "object_type", "classification")


@dataclass
class _Collected:
    """What was read so far; one array per batch."""

    words: dict[str, list[list[str]]] = field(default_factory=lambda: {name: [] for name in _WORDS})
    shapes: list[FloatArray] = field(default_factory=list)  # (n, 4): x, y, area, area of the nucleus; pixels
    measured: dict[str, dict[int, FloatArray]] = field(default_factory=dict)  # raw name -> batch -> values
    sizes: list[int] = field(default_factory=list)
    repaired: int = 0


def read_geojson(path: Path, *, measurements: bool = True) -> RawExport:
    """Read the objects of a GeoJSON file; positions and areas are those of the polygons, in pixels.

    A measured area is used in place of the polygon's only if its name states the unit: GeoJSON holds no calibration,
    so a plain ``Cell: Area`` may be in either.

    Raises
    ------
    InputError
        If the file is no GeoJSON, cut short, or holds no object.
    """
    collected = _Collected()
    features = stream_features(path)
    while batch := list(islice(features, _BATCH)):
        _collect(path, batch, collected, measurements)
    total = sum(collected.sizes)
    if total == 0 or not any(kind in _CELLS for kinds in collected.words["object_type"] for kind in kinds):
        raise InputError(
            f"holds no cells: none of its {total:,} objects is a cell or detection",
            path=path,
            way_out="in QuPath select the cells and use File > Export objects as GeoJSON",
        )
    x, y, area, nucleus = np.concatenate(collected.shapes).T
    is_cell = any(kind == "cell" for kinds in collected.words["object_type"] for kind in kinds)
    numbers: dict[str, FloatArray] = {"x": x, "y": y, "cell_area" if is_cell else "area": area}
    if is_cell and np.isfinite(nucleus).any():
        numbers["nucleus_area"] = nucleus
    units: dict[str, str | None] = {name: "px" if name in POSITION else "px2" for name in numbers}
    labels = dict.fromkeys(numbers, "geometry")
    ignored = _add_measurements(collected, numbers, units, labels, total)
    text = {
        name: pa.chunked_array([pa.array(part, pa.string()) for part in parts])
        for name, parts in collected.words.items()
    }
    notes = (f"{collected.repaired:,} outlines crossed themselves and were mended",) if collected.repaired else ()
    return RawExport(path, total, text, numbers, units, labels, ignored, notes)


def _collect(path: Path, batch: list[Any], collected: _Collected, measurements: bool) -> None:
    place = len(collected.sizes)
    objects = [_parse(feature) for feature in batch]
    for name in _WORDS:
        collected.words[name].append([getattr(item, name) for item in objects])
    outlines = [item.outline if item.object_type in _CELLS else None for item in objects]
    nuclei = [item.nucleus if item.object_type in _CELLS else None for item in objects]
    for row, item in enumerate(objects):
        for name, value in item.values if item.object_type in _CELLS else ():
            if measurements or "Area" in name:
                parts = collected.measured.setdefault(name, {})
                if place not in parts:
                    parts[place] = np.full(len(batch), np.nan)
                parts[place][row] = _number(value)
    x, y, area, mended = _measure(path, outlines)
    nucleus_area, mended_too = _measure(path, nuclei)[2:]
    collected.shapes.append(np.stack([x, y, area, nucleus_area], axis=1))
    collected.repaired += mended + mended_too
    collected.sizes.append(len(batch))


def _add_measurements(
    collected: _Collected,
    numbers: dict[str, FloatArray],
    units: dict[str, str | None],
    labels: dict[str, str],
    total: int,
) -> tuple[str, ...]:
    header = recognise(list(collected.measured))
    ignored = list(header.ignored)
    starts = np.cumsum([0, *collected.sizes])
    for name, column in header.columns.items():
        from_name = column.unit in ("um2", "um")
        if column.kind != "number" or name in POSITION or (name in AREAS and (not from_name or name not in numbers)):
            ignored.append(column.raw)
            continue
        values = np.full(total, np.nan)
        for place, part in collected.measured[column.raw].items():
            values[starts[place] : starts[place] + part.size] = part
        # A length without a unit may be in either, so it must not be converted.
        numbers[name], units[name], labels[name] = values, column.unit or "unknown", column.raw
    return tuple(ignored)


class _Object(NamedTuple):
    """One feature in today's words."""

    object_id: str
    object_type: str
    classification: str
    outline: Any
    nucleus: Any
    values: Iterator[tuple[str, Any]]


def _parse(feature: Any) -> _Object:
    if not isinstance(feature, dict):
        return _Object("", "unknown", "", None, None, iter(()))
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    label = feature.get("id") if isinstance(feature.get("id"), str) else ""
    kind = properties.get("objectType") or properties.get("object_type") or properties.get("type")
    if not isinstance(kind, str):
        legacy = str(label).lower()
        kind = _TYPES.get(legacy, "annotation")
        label = "" if legacy.startswith("path") else label
    extra = properties.get("extra_geometries")
    nucleus = feature.get("nucleusGeometry") or (extra.get("nucleus") if isinstance(extra, dict) else None)
    kind = _TYPES.get(kind.lower(), kind.lower())
    values = _measurements(properties.get("measurements"))
    class_ = _class(properties.get("classification"))
    return _Object(str(label), kind, class_, feature.get("geometry"), nucleus, values)


def _class(value: Any, depth: int = 0) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        return ""
    names = value.get("names")
    if isinstance(names, list):
        return ": ".join(str(name) for name in names)
    name = str(value.get("name") or "")
    parent = _class(value.get("parentClass"), depth + 1) if depth < 20 else ""
    return f"{parent}: {name}" if parent else name


def _measurements(values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        yield from values.items()
    elif isinstance(values, list):
        for item in values:
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                yield item["name"], item.get("value")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


def _measure(path: Path, geometries: list[Any]) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """Return centroid x, y, and area of polygons, NaN where there is none, and how many had to be mended."""
    rings: list[Any] = []
    ring_ends, polygon_ends, owner_ends = [0], [0], [0]
    points = 0
    for geometry in geometries:
        for polygon in _polygons(geometry):
            for ring in polygon:
                rings.extend(ring)
                points += len(ring)
                ring_ends.append(points)
            polygon_ends.append(len(ring_ends) - 1)
        owner_ends.append(len(polygon_ends) - 1)
    x, y, area = (np.full(len(geometries), np.nan) for _ in range(3))
    if not rings:
        return x, y, area, 0
    try:
        flat = all(len(point) == 2 for point in rings)
        coordinates = np.array(rings if flat else [point[:2] for point in rings], dtype=float)
        offsets = tuple(np.array(ends) for ends in (ring_ends, polygon_ends, owner_ends))
        shapes = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, coordinates, offsets)
        wrong = ~shapely.is_valid(shapes)
        shapes[wrong] = shapely.make_valid(shapes[wrong])
    except (GEOSException, TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"holds an outline that cannot be read ({error})", path=path) from error
    sizes, centres = shapely.area(shapes), shapely.centroid(shapes)
    there = sizes > 0
    x[there], y[there], area[there] = shapely.get_x(centres[there]), shapely.get_y(centres[there]), sizes[there]
    return x, y, area, int(np.count_nonzero(wrong))


def _polygons(geometry: Any) -> Iterator[list[list[Any]]]:
    """Yield the polygons of a geometry as lists of closed rings; a ring of fewer than four points is no ring."""
    if not isinstance(geometry, dict) or not isinstance(geometry.get("coordinates"), list):
        return
    kind, coordinates = geometry.get("type"), geometry["coordinates"]
    for polygon in {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(str(kind), []):
        rings = (
            [ring for ring in polygon if isinstance(ring, list) and len(ring) >= 4] if isinstance(polygon, list) else []
        )
        if rings:
            yield [ring if ring[0] == ring[-1] else [*ring, ring[0]] for ring in rings]
