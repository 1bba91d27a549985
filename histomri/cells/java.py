"""Cells of a QuPath project, read by QuPath itself through paquo; slow, and it needs a QuPath installation.

Every object and every measurement is a call into Java, so for many cells histomri's export script is the better way.
"""

import io
import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import shapely

from histomri.cells.geojson import read_geojson
from histomri.cells.parsed_export import ParsedExport, Wanted
from histomri.cells.regions import Region, region_objects
from histomri.core.door import reading
from histomri.core.errors import InputError
from histomri.core.files import require_file

_SCRIPT = "qupath_scripts/export_for_histomri.groovy"
_HINT = f"install QuPath and `pip install 'histomri[qupath]'`, or export the cells with {_SCRIPT}"
_BATCH = 1000
Result = TypeVar("Result")


def read_project_cells(path: Path, image: str | None, wanted: Wanted) -> ParsedExport:
    """Read the cells and detections of one image of a ``project.qpproj``."""
    return _with_entry(path, image, lambda entry: _read_entry(path, entry, wanted))


def read_project_regions(
    path: Path, image: str | None, pixel_size_um: tuple[float, float] | None
) -> tuple[Region, ...]:
    """Read the annotations and TMA cores of one image of a ``project.qpproj``, in µm."""
    return _with_entry(path, image, lambda entry: region_objects(list(_region_features(entry)), path, pixel_size_um))


def _with_entry(path: Path, image: str | None, read: Callable[[Any], Result]) -> Result:
    """Return what a function reads of one image of a project."""
    require_file(path, "QuPath project")
    try:
        from paquo.projects import QuPathProject
    # Without QuPath, importing paquo.projects raises ValueError.
    except (ImportError, ValueError) as error:
        problem = f"is a QuPath project, and reading cells from it needs paquo and QuPath ({error})"
        raise InputError(problem, path=path, hint=_HINT) from error
    says = "QuPath cannot open it ({})"
    with reading(path, "QuPath project", _HINT, says), QuPathProject(path, mode="r") as project:
        return read(_entry(path, list(project.images), image))


def _read_entry(path: Path, entry: Any, wanted: Wanted) -> ParsedExport:
    """Read the cells and detections of an image entry of paquo (anything with ``hierarchy.detections``)."""
    objects, parts = iter(entry.hierarchy.detections), list[str]()
    while batch := list(islice(objects, _BATCH)):
        parts += map(json.dumps, _features(batch))
    return read_geojson(path, wanted, io.BytesIO(f"[{','.join(parts)}]".encode()))


def _entry(path: Path, entries: list[Any], image: str | None) -> Any:
    found = [entry for entry in entries if image is None or entry.image_name == image]
    if len(found) == 1:
        return found[0]
    names = ", ".join(repr(str(entry.image_name)) for entry in entries[:20])
    problem = f"holds no image {image!r}" if image is not None and not found else f"holds {len(found)} images"
    raise InputError(f"{problem}; its images are {names or 'none'}", path=path, hint="choose one with --image")


def _features(objects: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield the features that QuPath itself would write as GeoJSON."""
    outlines, nuclei = _geojson([item.roi for item in objects]), _geojson([_nucleus(item) for item in objects])
    for item, outline, nucleus in zip(objects, outlines, nuclei):
        is_cell = nucleus is not None or "Cell" in type(item).__name__
        kind = "cell" if is_cell else "tile" if "Tile" in type(item).__name__ else "detection"
        properties = {
            "objectType": kind, "classification": {"names": _class_names(item.path_class)},
            "measurements": {str(name): float(value) for name, value in item.measurements.items()},
        }  # fmt: skip
        yield {"type": "Feature", "geometry": outline, "nucleusGeometry": nucleus, "properties": properties}


def _region_features(entry: Any) -> Iterator[dict[str, Any]]:
    """Yield the annotations and TMA cores of an image entry of paquo as the features that QuPath would write."""
    grid = getattr(entry.hierarchy, "tma_grid", None)
    cores = [item for item in getattr(grid, "cores", None) or () if item is not None]
    for kind, objects in (("annotation", list(entry.hierarchy.annotations)), ("tma_core", cores)):
        for item, outline in zip(objects, _geojson([item.roi for item in objects])):
            properties = {
                "objectType": kind, "name": getattr(item, "name", None),
                "classification": {"names": _class_names(item.path_class)},
                "isMissing": bool(getattr(item, "missing", False)),
            }  # fmt: skip
            yield {"type": "Feature", "geometry": outline, "properties": properties}


def _nucleus(item: Any) -> Any:
    try:
        return getattr(item, "nucleus_roi", None)
    except (TypeError, RuntimeError):  # paquo asks Java for the shape of a nucleus that is not there
        return None


def _geojson(shapes: list[Any]) -> list[Any]:
    return [None if text is None else json.loads(text) for text in shapely.to_geojson(np.array(shapes, dtype=object))]


def _class_names(path_class: Any) -> list[str]:
    names: list[str] = []
    while path_class is not None and len(names) < 20:
        names.insert(0, str(path_class.name))
        path_class = getattr(path_class, "parent", None)
    return names
