"""Regions of interest: annotations and TMA cores that QuPath wrote as GeoJSON, in pixels of the full-resolution image.

A region is an object: polygons with a name, a class, the object around it and the TMA core it lies in. Which of the
regions of a file are used is chosen in `region_choice`; which of them cells were looked for in, in `region_cells`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells.geojson_stream import stream_batches
from histomri.cells.sniff import open_export, refusal
from histomri.core.door import parse_json, reading, require_file
from histomri.core.errors import InputError, UnitError

_EXPORT = "in QuPath select the annotations and use File > Export objects as GeoJSON"
_POLYGONS = ("Polygon", "MultiPolygon")
_NOT_REGIONS = {"cell", "detection", "tile", "pathcellobject", "pathdetectionobject", "pathtileobject"}
_CORES = {"tmacore", "tmacoreobject"}
_DEEPEST = 50
_LARGE = 1 << 26  # bytes: files of annotations only are smaller
_PLACE_OF_CORE = re.compile(r"([A-Za-z]+|\d+)\s*[-_ ]\s*([A-Za-z]+|\d+)")
_UNIQUE_IDS = ("unique id", "uniqueid", "unique_id", "case id", "caseid", "case_id")


@dataclass(frozen=True)
class Region:
    """An annotation or a TMA core."""

    geometry: BaseGeometry  # polygons, µm from the top left corner of the full-resolution image, y down
    name: str = ""  # empty if it has none
    classification: str = ""  # such as ``Tumor: Positive``, empty if it has none
    object_id: str = ""
    parent_id: str = ""  # that of the object around it, as far as the file says so
    kind: Literal["annotation", "core"] = "annotation"
    core: str = ""  # name of the TMA core that it is or lies in
    row: str = ""  # of that core: ``A`` of ``A-1``
    column: str = ""  # of that core: ``1`` of ``A-1``
    missing: bool = False  # whether that core is marked as missing
    unique_id: str = ""  # of that core, such as the number of a patient

    @property
    def area_um2(self) -> float:
        """Area in µm²."""
        return float(shapely.area(self.geometry))

    @property
    def label(self) -> str:
        """What messages call it: its name, its class, or where it lies."""
        if self.name or self.classification:
            named = f"{self.name} ({self.classification})" if self.name and self.classification else ""
            return named or self.name or self.classification
        x, y = self.geometry.bounds[:2] if not self.geometry.is_empty else (np.nan, np.nan)
        return f"the {'core' if self.kind == 'core' else 'annotation'} without a name at x {x:.0f}, y {y:.0f} µm"

    @property
    def is_ignored(self) -> bool:
        """Whether its class ends in ``*``, which by QuPath's convention is out."""
        return any(part.strip().endswith("*") for part in self.classification.split(":"))

    def record(self) -> dict[str, Any]:
        """Return it as plain data, the geometry as well-known text."""
        facts = {name: value for name, value in asdict(replace(self, geometry=None)).items() if value}
        return {"geometry": self.geometry.wkt, **facts}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Region":
        """Return the region that `record` wrote."""
        return cls(**{**record, "geometry": shapely.from_wkt(record["geometry"])})


def read_region_objects(path: str | Path, pixel_size_um: tuple[float, float] | None) -> tuple[Region, ...]:
    """Read the annotations and TMA cores of a GeoJSON file, in µm.

    The file holds a FeatureCollection, list of features, one feature or one geometry; plain, .gz or .zip, with objects
    inside objects (``childObjects``). Cells and detections are passed over, as are points and lines, which have no
    area. Rings that are not closed or cross themselves are mended. `pixel_size_um` is (x, y): GeoJSON of QuPath is in
    pixels and holds no calibration.

    Raises
    ------
    UnitError
        If the pixel size is not known.
    InputError
        If the file cannot be read or holds no polygon.
    """
    path = Path(path)
    return region_objects(_features(path), path, pixel_size_um)


def region_objects(
    features: Sequence[Any], path: Path, pixel_size_um: tuple[float, float] | None
) -> tuple[Region, ...]:
    """Return the annotations and TMA cores among features in pixels, in µm; `path` is theirs, for messages."""
    says = "holds a polygon that cannot be read ({})"
    with reading(path, "region of interest file", _EXPORT, says, unchecked=True):
        found = [_region(feature, parent) for feature, parent in _flat(features)]
        regions = [region for region in found if region is not None]
        sizes = np.array([region.area_um2 for region in regions])
    if not sizes.size or not np.isfinite(sizes).all() or not sizes.any():
        raise refusal("holds no region (polygon) of an annotation", path, _EXPORT)
    if pixel_size_um is None:
        problem = "its polygons are in pixels and the pixel size is not known"
        raise UnitError(problem, path=path, hint="pass --mpp, in µm per pixel")
    scale = np.asarray(pixel_size_um)
    shapes = shapely.transform([region.geometry for region in regions], lambda points: points * scale)
    return _in_cores([replace(region, geometry=shape) for region, shape in zip(regions, shapes) if shape.area > 0])


def _features(path: Path) -> list[Any]:
    """Return the features of a file; of a large one, which holds cells, those that are no cells."""
    if path.is_file() and path.stat().st_size > _LARGE:
        return [feature for batch in stream_batches(path) for feature in batch if not _is_other(feature)]
    with open_export(require_file(path, "region of interest file")) as stream:
        content = stream.read()
    try:
        document = parse_json(content.decode("utf-8-sig"), path)
    except UnicodeDecodeError as error:
        raise refusal("is not a UTF-8 text file", path, _EXPORT) from error
    except InputError as error:
        raise refusal(error.problem.replace("valid JSON", "valid GeoJSON"), path, _EXPORT) from error
    if isinstance(document, dict) and isinstance(document.get("features"), list):
        return list(document["features"])
    return document if isinstance(document, list) else [document]


def _flat(features: Sequence[Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield features and the objects inside them, each with the identifier of the object around it."""
    waiting = [(feature, "") for feature in reversed(features)]
    while waiting:
        feature, parent = waiting.pop()
        if not isinstance(feature, dict):
            continue
        yield feature, parent
        for key, owner in (("childObjects", feature), ("children", feature), ("childObjects", _properties(feature))):
            children = owner.get(key)
            if isinstance(children, list):
                own = str(feature.get("id") or "") or parent
                waiting += [(child, own) for child in reversed(children)]


def _region(feature: dict[str, Any], parent: str) -> Region | None:
    """Return the region that a feature or a bare geometry is, in pixels; None if it has no area or is a cell."""
    shape = feature.get("geometry") if feature.get("type") == "Feature" else feature
    properties, word = _properties(feature), _kind(feature)
    if word in _NOT_REGIONS or not isinstance(shape, dict) or (geometry := _geometry(shape)) is None:
        return None
    label = feature.get("id")
    identifier = label if isinstance(label, str) and not label.lower().startswith("path") else ""
    name = _text(properties.get("name"))
    about: dict[str, Any] = {
        "name": name,
        "classification": _class(properties.get("classification")),
        "object_id": identifier,
        "parent_id": _text(properties.get("parent_id")) or parent,
    }
    if word not in _CORES:
        return Region(geometry, **about)
    return Region(geometry, **about, kind="core", core=name, **_facts_of_core(feature, properties, name))


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    own = feature.get("properties")
    return own if isinstance(own, dict) else {}


def _kind(feature: dict[str, Any]) -> str:
    """Return the word for the type of an object, in small letters without signs."""
    properties = _properties(feature)
    kind = properties.get("objectType") or properties.get("object_type") or properties.get("type") or feature.get("id")
    return re.sub(r"[^a-z]", "", str(kind).lower())


def _is_other(feature: Any) -> bool:
    """Whether a feature is a cell or another detection."""
    return not isinstance(feature, dict) or _kind(feature) in _NOT_REGIONS


def _facts_of_core(feature: dict[str, Any], properties: dict[str, Any], name: str) -> dict[str, Any]:
    """Return row, column, whether it is missing, and the unique identifier of a TMA core."""
    match = _PLACE_OF_CORE.fullmatch(name)
    place = {key: _text(properties.get(key)) or (match[k] if match else "") for k, key in ((1, "row"), (2, "column"))}
    words = [owner.get(key) for owner in (properties, feature) for key in ("isMissing", "is_missing", "missing")]
    facts: dict[str, Any] = {}
    for owner in (properties.get("metadata"), properties):
        facts |= {str(key).lower(): value for key, value in owner.items()} if isinstance(owner, dict) else {}
    unique = next((_text(facts[key]) for key in _UNIQUE_IDS if facts.get(key)), "")
    return {**place, "missing": any(str(word).lower() in ("true", "1") for word in words), "unique_id": unique}


def _geometry(shape: dict[str, Any], depth: int = 0) -> BaseGeometry | None:
    """Return the polygonal part of a GeoJSON geometry, mended; None if there is none."""
    kind = shape.get("type")
    if kind == "GeometryCollection" and depth < _DEEPEST:
        members = shape.get("geometries") or []
        inside = [_geometry(member, depth + 1) for member in members if isinstance(member, dict)]
        parts = [part for part in inside if part is not None]
        return shapely.union_all(parts) if parts else None
    if kind not in _POLYGONS:
        return None
    coordinates = shape.get("coordinates")
    polygons: Any = [coordinates] if kind == "Polygon" else coordinates or []
    closed = [[_closed(ring) for ring in polygon] for polygon in polygons]
    text = json.dumps({"type": kind, "coordinates": closed[0] if kind == "Polygon" else closed})
    parts = shapely.get_parts(shapely.make_valid(shapely.from_geojson(text)))
    areal = parts[shapely.get_dimensions(parts) == 2]
    return shapely.union_all(areal) if areal.size else None


def _closed(ring: Any) -> Any:
    """Return a ring whose last corner is the first: some programs leave it out."""
    is_open = isinstance(ring, list) and len(ring) > 2 and ring[0] != ring[-1]
    return [*ring, ring[0]] if is_open else ring


def _text(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list | bool) else str(value).strip()


def _class(value: Any, depth: int = 0) -> str:
    """Return a classification as QuPath shows it; ``names`` since 0.4, nested ``parentClass`` before."""
    if not isinstance(value, dict):
        return _text(value)
    if isinstance(names := value.get("names"), list):
        return ": ".join(map(str, names))
    name = _text(value.get("name"))
    parent = _class(value.get("parentClass"), depth + 1) if depth < _DEEPEST else ""
    return f"{parent}: {name}" if parent else name


def _in_cores(regions: list[Region]) -> tuple[Region, ...]:
    """Give each annotation the core it lies in: by the object around it, or by its place."""
    cores = [region for region in regions if region.kind == "core"]
    if not cores:
        return tuple(regions)
    by_id = {region.object_id: region for region in regions if region.object_id}
    tree = shapely.STRtree([core.geometry for core in cores])
    return tuple(region if region.kind == "core" else _with_core(region, cores, by_id, tree) for region in regions)


def _with_core(region: Region, cores: list[Region], by_id: dict[str, Region], tree: shapely.STRtree) -> Region:
    around = by_id.get(region.parent_id)
    for _ in range(_DEEPEST):
        if around is None or around.kind == "core":
            break
        around = by_id.get(around.parent_id)
    if around is None:
        at = tree.query(region.geometry.representative_point(), predicate="intersects")
        around = cores[int(at[0])] if at.size else None
    if around is None:
        return region
    facts = ("core", "row", "column", "missing", "unique_id")
    return replace(region, **{name: getattr(around, name) for name in facts})
