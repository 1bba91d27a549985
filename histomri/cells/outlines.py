"""Outlines of cells: area and centroid, and polygons where they are asked for."""

import struct
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.door import reading

Geometries = NDArray[np.object_]
_FEWEST_CORNERS = 3
_SHORTEST = 4  # a ring comes back to its first corner; one of fewer points is passed over


def flattened(rings: list[Any]) -> tuple[FloatArray, FloatArray, IntArray] | None:
    """Return the points of rings of GeoJSON, x (P,) and y (P,), and how many there are up to the end of each ring (R,).

    None if there is no ring, one is empty, or one is anything but a list of pairs of finite numbers.
    """
    try:
        # An array for each ring would take three times as long: making small objects takes the time.
        columns = zip(*chain.from_iterable(rings), strict=True)
        x, y = (np.frombuffer(struct.pack(f"{len(column)}d", *column)) for column in columns)
        ends = np.cumsum([len(ring) for ring in rings], dtype=np.int64)
    except (TypeError, ValueError, OverflowError, struct.error):
        return None
    return (x, y, ends) if all(rings) and np.isfinite(x).all() and np.isfinite(y).all() else None


def measure_rings(x: FloatArray, y: FloatArray, ends: IntArray) -> tuple[FloatArray, BoolArray]:
    """Measure rings by the shoelace formula: centroid x, y and area (R, 3), and whether each is simple for sure (R,).

    `x` and `y` are the points of all rings, `ends` how many there are up to the end of each (R,). A ring whose points
    go once around its centroid, always in the same sense, cannot cross itself; it has at least three corners.
    """
    measures = np.zeros((ends.size, 3))
    starts = np.concatenate([[0], ends[:-1]])
    counts = ends - starts
    following = np.arange(1, x.size + 1)
    following[ends - 1] = starts
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of rings that are flat, or beyond all sense
        left, top = x - np.repeat(x[starts], counts), y - np.repeat(y[starts], counts)
        cross = left * top[following] - left[following] * top
        twice = np.add.reduceat(cross, starts)
        x0 = x[starts] + np.add.reduceat((left + left[following]) * cross, starts) / (3 * twice)
        y0 = y[starts] + np.add.reduceat((top + top[following]) * cross, starts) / (3 * twice)
        measures[:, 0], measures[:, 1], measures[:, 2] = x0, y0, np.abs(twice) / 2
        right, below = x - np.repeat(x0, counts), y - np.repeat(y0, counts)
        turn = (right * below[following] - right[following] * below) * np.repeat(np.sign(twice), counts)
    closing = ends - 1
    turn[closing[(x[closing] == x[starts]) & (y[closing] == y[starts])]] = 1  # the ring is closed: no edge is there
    once = np.add.reduceat((below < 0) & (below[following] >= 0), starts, dtype=np.int64) == 1
    simple = np.logical_and.reduceat(turn > 0, starts) & once & (counts > _FEWEST_CORNERS)
    measures[~simple & (twice == 0)] = 0
    return measures, simple


def measure_outlines(path: Path, outlines: Sequence[Any], keep: int) -> tuple[FloatArray, int, Geometries]:
    """Measure the outlines of a batch of objects (GeoJSON geometries or None).

    Returns x, y and area in pixels (n, 3), NaN where an object has no outline, how many were mended, and the first
    `keep` as polygons. Most outlines are one ring that surely does not cross itself; they are measured by the shoelace
    formula. Those with holes or several parts, and those that may cross themselves, go through shapely.
    """
    values = np.full((len(outlines), 3), np.nan)
    easy = _measure_plain(outlines, values)
    hard = [row for row, outline in enumerate(outlines) if outline is not None and (row < keep or not easy[row])]
    shapes, mended = _build(path, [list(_polygons(outlines[row])) for row in hard])
    with np.errstate(over="ignore", invalid="ignore"):  # of coordinates beyond all sense; such cells are dropped later
        sizes, centres = shapely.area(shapes), shapely.centroid(shapes)
    there, target = sizes > 0, np.array(hard, dtype=np.intp)
    values[target[there]] = np.column_stack([shapely.get_coordinates(centres[there]), sizes[there]])
    kept = np.full(len(outlines), None, dtype=object)
    kept[target[there]] = shapes[there]
    return values, mended, kept[:keep]


def _measure_plain(outlines: Sequence[Any], values: FloatArray) -> BoolArray:
    """Measure the outlines that are one simple ring; return which they are."""
    done = np.zeros(len(outlines), dtype=bool)
    rows, rings = list[int](), list[Any]()
    for row, outline in enumerate(outlines):
        found = outline.get("coordinates") if outline is not None and outline.get("type") == "Polygon" else None
        if type(found) is list and len(found) == 1 and type(found[0]) is list:
            rows.append(row)
            rings.append(found[0])
    if (flat := flattened(rings)) is not None:
        measures, simple = measure_rings(*flat)
        plain = np.array(rows, dtype=np.intp)[simple]
        values[plain] = measures[simple]
        done[plain] = True
    return done


def _polygons(outline: Any) -> Iterator[list[Any]]:
    """Yield the polygons of an outline, each a list of closed rings."""
    coordinates = outline.get("coordinates")
    if not isinstance(coordinates, list):
        return
    for polygon in {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(str(outline.get("type")), []):
        rings = polygon if isinstance(polygon, list) else []
        rings = [ring for ring in rings if isinstance(ring, list) and len(ring) >= _SHORTEST]
        if rings:
            yield [ring if ring[0] == ring[-1] else [*ring, ring[0]] for ring in rings]


def _build(path: Path, objects: list[list[list[Any]]]) -> tuple[Geometries, int]:
    """Return one geometry for each list of polygons, and how many had to be mended."""
    polygons = [polygon for parts in objects for polygon in parts]
    rings = [ring for polygon in polygons for ring in polygon]
    if not rings:
        return np.full(len(objects), shapely.MultiPolygon(), dtype=object), 0
    with reading(path, "export", None, "holds an outline that cannot be read ({})", unchecked=True):
        points = np.concatenate([np.array([point[:2] for point in ring], dtype=float) for ring in rings])
        offsets = tuple(np.cumsum([0, *map(len, level)]) for level in (rings, polygons, objects))
        shapes = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, points, offsets)
        with np.errstate(invalid="ignore"):  # of corners that are no numbers; such an outline has no area
            wrong = ~shapely.is_valid(shapes)
            shapes[wrong] = shapely.make_valid(shapes[wrong])
    return shapes, int(np.count_nonzero(wrong))
