"""Cells of GeoJSON files that QuPath wrote, any version, streamed."""

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from histomri.cells.buffers import ColumnBuffer, TextsBuffer, WordsBuffer
from histomri.cells.geojson_stream import stream_batches
from histomri.cells.headers import AREAS, POSITION, recognise
from histomri.cells.outlines import Geometries, measure_outlines
from histomri.cells.parsed_export import ParsedExport, Wanted
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

_CELLS = ("cell", "detection")
_TYPES = {"pathcellobject": "cell", "pathdetectionobject": "detection", "pathtileobject": "tile"}
_WORDS = ("object_id", "object_type", "classification")
# QuPath measures some hundred things at most; every name costs a column.
_MOST_NAMES = 5000


class _Object(NamedTuple):
    """One feature in today's words."""

    object_id: str
    object_type: str
    classification: str
    outline: Any
    nucleus: Any
    values: Any


@dataclass
class _Collected:
    """The columns read so far."""

    wanted: Wanted
    object_id: TextsBuffer = field(default_factory=TextsBuffer)
    object_type: WordsBuffer = field(default_factory=WordsBuffer)
    classification: WordsBuffer = field(default_factory=WordsBuffer)
    # x, y, area, area of the nucleus; pixels
    shapes: tuple[ColumnBuffer, ...] = field(default_factory=lambda: tuple(ColumnBuffer() for _ in range(4)))
    outlines: list[Geometries] = field(default_factory=list)
    measured: dict[str, ColumnBuffer] = field(default_factory=dict)  # raw name -> values
    names: dict[str, bool] = field(default_factory=dict)  # raw name -> whether to keep it
    total: int = 0
    kinds: set[str] = field(default_factory=set)
    repaired: int = 0


def read_geojson(path: Path, wanted: Wanted, text: IO[bytes] | None = None) -> ParsedExport:
    """Read the objects of a GeoJSON file; positions and areas are those of the polygons, in pixels.

    A measured area is used in place of the polygon's only if its name states the unit: GeoJSON holds no calibration,
    so a plain ``Cell: Area`` may be in either. The text is that of the file, unless another is given.
    """
    collected = _Collected(wanted)
    was_on = gc.isenabled()
    gc.disable()  # parsed JSON has no cyclic garbage, and the search for it takes a quarter of the time
    try:
        for features in stream_batches(path, text):
            _collect(path, features, collected)
            del features  # before the next are made: they then take the same place, and stay in the cache
    finally:
        if was_on:
            gc.enable()
    total = collected.total
    if not collected.kinds.intersection(_CELLS):
        problem = f"holds no cells: none of its {total:,} objects is a cell or detection"
        raise InputError(problem, path=path, hint="in QuPath select the cells and use File > Export objects as GeoJSON")
    x, y, area, nucleus = (column.finished() for column in collected.shapes)
    is_cell = "cell" in collected.kinds
    numbers: dict[str, FloatArray] = {"x": x, "y": y, "cell_area" if is_cell else "area": area}
    if is_cell and np.isfinite(nucleus).any():
        numbers["nucleus_area"] = nucleus
    units: dict[str, str | None] = {name: "px" if name in POSITION else "px2" for name in numbers}
    labels = dict.fromkeys(numbers, "geometry")
    ignored = _add_measurements(collected, numbers, units, labels, total)
    notes = (f"{collected.repaired:,} outlines crossed themselves and were mended",) if collected.repaired else ()
    outlines = np.concatenate(collected.outlines) if wanted.geometries else None
    words = {name: getattr(collected, name).finished() for name in _WORDS}
    return ParsedExport(path, total, words, numbers, units, labels, ignored, notes, outlines)


def _collect(path: Path, features: list[Any], collected: _Collected) -> None:
    objects = [_parse(feature) for feature in _with_children(features)]
    for name in _WORDS:
        getattr(collected, name).extend([getattr(item, name) for item in objects])
    collected.kinds.update(item.object_type for item in objects)
    n = len(objects)
    wanted = [row for row, item in enumerate(objects) if item.object_type in _CELLS]
    outlines: list[Any] = [None] * (2 * n)
    for row in wanted:
        outlines[row], outlines[n + row] = objects[row].outline, objects[row].nucleus
    measured = measure_outlines(path, outlines, keep=n if collected.wanted.geometries else 0)
    for column, values in zip(collected.shapes, (*measured.values[:n].T, measured.values[n:, 2])):
        column.append(values)
    collected.repaired += measured.mended
    if collected.wanted.geometries:
        collected.outlines.append(measured.geometries)
    _collect_measurements(path, collected, [(row, _measurements(objects[row].values)) for row in wanted])
    collected.total += n


def _with_children(features: list[Any]) -> list[Any]:
    """Return features and the objects inside them, which QuPath may write as a list within the feature."""
    found = children = features
    while children := [
        child
        for feature in children
        if isinstance(feature, dict) and isinstance(feature.get("childObjects"), list)
        for child in feature["childObjects"]
    ]:
        found = [*found, *children]
    return found


def _collect_measurements(path: Path, collected: _Collected, values: list[tuple[int, dict[Any, Any]]]) -> None:
    """Put the measurements of a batch into columns; objects with the same names, as most have, go together."""
    groups: dict[tuple[Any, ...], list[tuple[int, dict[Any, Any]]]] = {}
    for row, found in values:
        if found:
            groups.setdefault(tuple(found), []).append((row, found))
    for names, members in groups.items():
        kept = [at for at, name in enumerate(names) if _is_wanted(path, collected, name)]
        if not kept:
            continue
        table = _table([list(found.values()) for _, found in members], kept)
        rows = collected.total + np.array([row for row, _ in members], dtype=np.intp)
        for at, column in zip(kept, table.T):
            name = names[at]
            if name not in collected.measured:
                # Measurements have four decimals at most: single precision holds them and halves the memory.
                collected.measured[name] = ColumnBuffer(np.float64 if "Area" in name else np.float32)
            collected.measured[name].put(rows, column)


def _is_wanted(path: Path, collected: _Collected, name: str) -> bool:
    known = collected.names.get(name)
    if known is None:
        if len(collected.names) >= _MOST_NAMES:
            raise InputError(f"holds more than {_MOST_NAMES:,} different measurements", path=path)
        columns = recognise([name]).columns
        known = any(
            column.kind == "number"
            and column.name not in POSITION
            and (column.name in AREAS or collected.wanted.takes(column.name))
            for column in columns.values()
        )
        collected.names[name] = known
    return known


def _table(rows: list[list[Any]], kept: list[int]) -> FloatArray:
    """Return (rows, kept) numbers; texts such as "NaN" are read as numbers, anything else is NaN."""
    try:
        with np.errstate(over="ignore"):
            return np.array(rows, dtype=float)[:, kept]
    except (ValueError, TypeError, OverflowError):
        return np.array([[_number(row[at]) for at in kept] for row in rows])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


def _add_measurements(
    collected: _Collected,
    numbers: dict[str, FloatArray],
    units: dict[str, str | None],
    labels: dict[str, str],
    total: int,
) -> tuple[str, ...]:
    header = recognise(list(collected.names))
    ignored = list(header.ignored)
    for name, column in header.columns.items():
        from_name = column.unit in ("um2", "um")
        measured = collected.measured.pop(column.raw, None)
        if measured is None or name in POSITION or (name in AREAS and (not from_name or name not in numbers)):
            ignored.append(column.raw)
            continue
        measured.pad(total)
        # A length without a unit may be in either, so it must not be converted.
        numbers[name], units[name], labels[name] = measured.finished(), column.unit or "unknown", column.raw
    return tuple(ignored)


def _parse(feature: Any) -> _Object:
    if not isinstance(feature, dict):
        return _Object("", "unknown", "", None, None, None)
    properties = feature.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    label = feature.get("id")
    label = label if isinstance(label, str) else ""
    kind = properties.get("objectType") or properties.get("object_type") or properties.get("type")
    if not isinstance(kind, str):
        legacy = label.lower()
        kind = _TYPES.get(legacy, "annotation")
        label = "" if legacy.startswith("path") else label
    nucleus = feature.get("nucleusGeometry")
    if nucleus is None and isinstance(extra := properties.get("extra_geometries"), dict):
        nucleus = extra.get("nucleus")
    kind = kind.lower()
    class_ = properties.get("classification")
    return _Object(
        label,
        _TYPES.get(kind, kind),
        _class(class_) if class_ is not None else "",
        outline if isinstance(outline := feature.get("geometry"), dict) else None,
        nucleus if isinstance(nucleus, dict) else None,
        properties.get("measurements"),
    )


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


def _measurements(values: Any) -> dict[Any, Any]:
    """Return measurements by name; until 0.3 they were a list of names and values."""
    if isinstance(values, dict):
        return values
    items = [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []
    return {item["name"]: item.get("value") for item in items if isinstance(item.get("name"), str)}
