"""Regions of interest: polygons of a GeoJSON file that QuPath wrote, in pixels of the full-resolution image."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.errors import GEOSException
from shapely.geometry.base import BaseGeometry

from histomri.cells.sniff import open_export, refusal
from histomri.core.errors import InputError, UnitError
from histomri.core.files import require_file

_EXPORT = "in QuPath select the annotations and use File > Export objects as GeoJSON"


def read_regions(path: str | Path, pixel_size_um: tuple[float, float] | None) -> BaseGeometry:
    """Read the polygons of a GeoJSON file as one region, their union, in µm.

    The file holds a FeatureCollection, list of features, one feature or one geometry; plain, .gz or .zip. Annotations
    are taken; cells and detections are passed over, as are points and lines, which have no area. `pixel_size_um` is
    (x, y): GeoJSON of QuPath is in pixels and holds no calibration.

    Raises
    ------
    UnitError
        If the pixel size is not known.
    InputError
        If the file cannot be read or holds no polygon.
    """
    path = Path(path)
    shapes = [shape for shape in map(_shape_of, _features(path)) if shape is not None]
    try:
        polygons = [shapely.from_geojson(json.dumps(shape)) for shape in shapes]
        region = shapely.union_all(shapely.make_valid(np.array(polygons, dtype=object)))
    except (GEOSException, TypeError, ValueError) as error:
        raise refusal(f"holds a polygon that cannot be read ({error})", path, _EXPORT) from error
    if not polygons or region.area == 0 or not np.isfinite(region.area):
        raise refusal("holds no region (polygon) of an annotation", path, _EXPORT)
    if pixel_size_um is None:
        problem = "its polygons are in pixels and the pixel size is not known"
        raise UnitError(problem, path=path, hint="pass --mpp, in µm per pixel")
    scale = np.asarray(pixel_size_um)
    return shapely.transform(region, lambda points: points * scale)


def _features(path: Path) -> list[Any]:
    with open_export(require_file(path, "region of interest file")) as stream:
        content = stream.read()
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise refusal("is not a UTF-8 text file", path, _EXPORT) from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise refusal(f"is not valid GeoJSON ({where}: {error.msg})", path, _EXPORT) from error
    except RecursionError as error:
        raise InputError("is nested too deeply to be read", path=path) from error
    if isinstance(document, dict) and isinstance(document.get("features"), list):
        return list(document["features"])
    return document if isinstance(document, list) else [document]


def _shape_of(feature: Any) -> dict[str, Any] | None:
    """Return the areal geometry of an annotation, or of a bare geometry."""
    if not isinstance(feature, dict):
        return None
    shape = feature.get("geometry") if feature.get("type") == "Feature" else feature
    if not isinstance(shape, dict) or shape.get("type") not in ("Polygon", "MultiPolygon"):
        return None
    properties = feature.get("properties") or {}
    kind = properties.get("objectType") or properties.get("object_type") or properties.get("type") or feature.get("id")
    if str(kind).lower() in ("cell", "detection", "tile", "pathcellobject", "pathdetectionobject", "pathtileobject"):
        return None
    return {"type": shape["type"], "coordinates": shape.get("coordinates")}
