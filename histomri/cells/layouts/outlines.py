"""Outlines of other programs: GeoJSON that is not laid out as QuPath's, and JSON with contours."""

from collections.abc import Iterator
from typing import Any

from histomri.cells.layouts.registry import Feature, ShapeLayout, register

_QUPATH = ("cell", "detection", "annotation", "tile", "root", "tmacore", "tma_core", "unknown")
_CLASS_KEYS = ("classification", "class", "cell_type", "celltype", "type", "label", "name")


def _properties(feature: Feature) -> dict[str, Any]:
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def _geometry(feature: Feature) -> dict[str, Any]:
    """Return the geometry of a feature, or of a bare geometry."""
    found = feature.get("geometry") if feature.get("type") == "Feature" else feature
    return found if isinstance(found, dict) else {}


def _class(properties: dict[str, Any]) -> Any:
    """Return the class of an object, under whatever key; a name that QuPath has for its kinds is none."""
    for key in _CLASS_KEYS:
        value = properties.get(key)
        if isinstance(value, dict) or (isinstance(value, str) and value and value.lower() not in _QUPATH):
            return value
    return None


def _detection(feature: Feature, geometry: Any, number: int | None = None) -> Feature:
    """Return an object as QuPath would write it."""
    properties = _properties(feature)
    label = feature.get("id", properties.get("id", ""))
    label = str(label) if isinstance(label, str | int) else ""
    measured: dict[str, Any] = {}
    for key in ("prob", "probability", "type_prob", "Detection probability"):
        if isinstance(value := properties.get(key), int | float):
            measured["Detection probability"] = value
    return {
        "type": "Feature", "id": label if number is None else f"{label}:{number}", "geometry": geometry,
        "properties": {"objectType": "detection", "classification": _class(properties), "measurements": measured},
    }  # fmt: skip


def _is_areal(feature: Feature) -> bool:
    return _geometry(feature).get("type") in ("Polygon", "MultiPolygon")


def _one_each(feature: Feature) -> Iterator[Feature]:
    """Yield every polygon as an object; what is no polygon is passed on, and counted as no cell."""
    if _is_areal(feature):
        yield _detection(feature, _geometry(feature))
    else:
        yield feature


def _part_each(feature: Feature) -> Iterator[Feature]:
    """Yield every polygon of a MultiPolygon as an object."""
    geometry = _geometry(feature)
    if geometry.get("type") != "MultiPolygon" or not isinstance(geometry.get("coordinates"), list):
        yield from _one_each(feature)
        return
    for number, rings in enumerate(geometry["coordinates"]):
        yield _detection(feature, {"type": "Polygon", "coordinates": rings}, number)


def _contours(document: Feature) -> Iterator[Feature]:
    """Yield the nuclei of a document with contours: ``{"nuc": {"1": {..}}}`` (HoverNet), ``{"cells": [..]}``."""
    found = document.get("nuc", document.get("cells"))
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    if found is None:
        yield from _one_each(document)
    for name, item in items:
        contour = item.get("contour") if isinstance(item, dict) else None
        if isinstance(contour, list) and contour:
            kind = item.get("type")
            about = {"class": str(kind) if kind is not None else None, "prob": item.get("type_prob")}
            feature = {"id": str(name), "properties": about}
            yield _detection(feature, {"type": "Polygon", "coordinates": [[*contour, contour[0]]]})


def _names_a_class(feature: Feature) -> bool:
    properties = _properties(feature)
    kind = properties.get("type")
    is_kind = "objectType" in properties or "object_type" in properties
    return isinstance(kind, str) and kind.lower() not in _QUPATH and not is_kind and _is_areal(feature)


def _has_many_parts(feature: Feature) -> bool:
    geometry = _geometry(feature)
    parts = geometry.get("coordinates")
    return geometry.get("type") == "MultiPolygon" and isinstance(parts, list) and len(parts) > 1


def _is_annotation(feature: Feature) -> bool:
    properties = _properties(feature)
    kind = properties.get("objectType", properties.get("object_type"))
    return str(kind).lower() == "annotation" and _geometry(feature).get("type") == "Polygon"


def _is_plain(feature: Feature) -> bool:
    kinds = {"objectType", "object_type", "type"} & set(_properties(feature))
    return not kinds and _geometry(feature).get("type") == "Polygon"


register(ShapeLayout("cellvit", "CellViT: one MultiPolygon per class", _part_each, _has_many_parts, "nuclei"))
register(ShapeLayout("tiatoolbox", "tiatoolbox: the type is a class", _one_each, _names_a_class, "nuclei"))
register(
    ShapeLayout(
        "hovernet", "HoverNet, HoverFast, cells.json of CellViT: contours of nuclei, or nuclei called cells", _contours,
        lambda feature: isinstance(feature.get("nuc"), dict) or isinstance(feature.get("cells"), list), "nuclei",
    )
)  # fmt: skip
register(ShapeLayout("annotations", "cells that were turned into annotations", _one_each, _is_annotation))
register(ShapeLayout("polygons", "plain polygons (Cellpose, geopandas, openDVP)", _one_each, _is_plain))
