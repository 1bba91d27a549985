"""Outlines of cells: area and centroid, and polygons where they are asked for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.errors import GEOSException

from histomri.arrays import FloatArray, IntArray
from histomri.cells.geojson_stream import Batch
from histomri.errors import InputError

Geometries = NDArray[np.object_]
_DEPTHS = {"Polygon": 3, "MultiPolygon": 4}
# A ring has three corners and comes back to the first; a ring of fewer points is passed over.
_SHORTEST = 4


@dataclass
class Measured:
    """Outlines of one batch in pixels, NaN where an object has none: x, y, area (n, 3)."""

    values: FloatArray
    mended: int
    geometries: Geometries | None


def measure_outlines(path: Path, batch: Batch, outlines: Sequence[Any], *, geometries: bool = False) -> Measured:
    """Measure the outlines of the objects of a batch.

    Most outlines are one ring that surely does not cross itself; they are measured by the shoelace formula. Those with
    holes or several parts, and those that may cross themselves, go through shapely, and are mended where needed.

    Parameters
    ----------
    path : Path
        The file, for messages.
    batch : Batch
        Holds the coordinates.
    outlines : sequence of length n
        GeoJSON geometry of each object, or None.
    geometries : bool
        Whether to return the polygons too.

    Raises
    ------
    InputError
        If an outline cannot be read.
    """
    from histomri.cells.geojson_scan import measure_rings

    measures, simple = np.zeros((batch.ring_ends.size, 3)), np.zeros(batch.ring_ends.size, dtype=bool)
    measure_rings(batch.points, batch.ring_ends, measures, simple)
    first_rings = np.concatenate([[0], batch.array_ends[:-1]]) if batch.array_ends.size else batch.array_ends
    plain = (batch.array_ends - first_rings) == 1
    plain[plain] = simple[first_rings[plain]]
    arrays = np.array([_array_of(outline, batch.depths) for outline in outlines], dtype=np.intp)
    rows = np.flatnonzero(arrays >= 0)
    easy = rows[plain[arrays[rows]]]
    values = np.full((len(outlines), 3), np.nan)
    values[easy] = measures[first_rings[arrays[easy]]]
    hard = [row for row, outline in enumerate(outlines) if outline is not None]
    if not geometries:
        hard = sorted(set(hard).difference(easy.tolist()))
    polygons = [list(_polygons(outlines[row], int(arrays[row]), first_rings, batch)) for row in hard]
    shapes, mended = _build(path, polygons)
    with np.errstate(over="ignore", invalid="ignore"):  # of coordinates beyond all sense; such cells are dropped later
        sizes, centres = shapely.area(shapes), shapely.centroid(shapes)
    there, target = sizes > 0, np.array(hard, dtype=np.intp)
    values[target[there]] = np.stack(
        [shapely.get_x(centres[there]), shapely.get_y(centres[there]), sizes[there]], axis=1
    )
    if not geometries:
        return Measured(values, mended, None)
    kept = np.full(len(outlines), None, dtype=object)
    kept[target[there]] = shapes[there]
    return Measured(values, mended, kept)


def _array_of(outline: Any, depths: IntArray) -> int:
    """Return the number of the array that holds an outline, -1 if there is none or it is not the right kind."""
    if outline is None:
        return -1
    number = outline.get("coordinates")
    if not isinstance(number, int) or isinstance(number, bool):
        return -1
    return number if depths[number] == _DEPTHS.get(outline.get("type")) else -1


def _polygons(outline: Any, array: int, first_rings: IntArray, batch: Batch) -> Iterator[list[Any]]:
    """Yield the polygons of an outline, each a list of closed rings."""
    if array >= 0:
        polygons: dict[int, list[Any]] = {}
        for ring in range(int(first_rings[array]), int(batch.array_ends[array])):
            start = int(batch.ring_ends[ring - 1]) if ring else 0
            points = batch.points[start : int(batch.ring_ends[ring])]
            if len(points) >= _SHORTEST:
                closed = points if (points[0] == points[-1]).all() else np.concatenate([points, points[:1]])
                polygons.setdefault(int(batch.ring_polygons[ring]), []).append(closed)
        yield from polygons.values()
        return
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
    rings = [ring for polygons in objects for polygon in polygons for ring in polygon]
    if not rings:
        return np.full(len(objects), shapely.MultiPolygon(), dtype=object), 0
    try:
        parts = [
            ring if isinstance(ring, np.ndarray) else np.array([point[:2] for point in ring], dtype=float)
            for ring in rings
        ]
        offsets = (
            _ends(len(ring) for ring in rings),
            _ends(len(polygon) for polygons in objects for polygon in polygons),
            _ends(len(polygons) for polygons in objects),
        )
        shapes = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, np.concatenate(parts), offsets)
        wrong = ~shapely.is_valid(shapes)
        shapes[wrong] = shapely.make_valid(shapes[wrong])
    except (GEOSException, TypeError, ValueError, KeyError, OverflowError) as error:
        raise InputError(f"holds an outline that cannot be read ({error})", path=path) from error
    return shapes, int(np.count_nonzero(wrong))


def _ends(lengths: Iterator[int]) -> IntArray:
    return np.cumsum([0, *lengths])
