"""Cells of GeoJSON files that QuPath wrote, any version, streamed into columns that grow.

Many arrays that grow by turns leave the heap full of holes, which no other array fits into. So each column has a
mapping of its own, which is given back whole, and whose pages cost nothing until they are written.
"""

import gc
import mmap
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from histomri.cells.geojson_stream import stream_batches
from histomri.cells.layouts.registry import ShapeLayout, names_of, shape_layout, similar_shapes
from histomri.cells.outlines import Geometries, measure_outlines
from histomri.cells.parsed_export import (
    AREAS,
    NUCLEUS_OFFSET,
    OUTLINE_AREA,
    POSITION,
    ParsedExport,
    ScaleFact,
    Wanted,
    recognise,
)
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

_FIRST_BYTES = 1 << 16
_TEXTS_AT_ONCE = 1 << 14
_TYPES = {"pathcellobject": "cell", "pathdetectionobject": "detection", "pathtileobject": "tile"}
_SHOWN = 50
_MOST_NAMES = 5000  # QuPath measures some hundred things at most; every name costs a column


class ColumnBuffer:
    """Numbers, one after the other."""

    def __init__(self, kind: DTypeLike = np.float64) -> None:
        self.kind, self.size = np.dtype(kind), 0
        self._pages = mmap.mmap(-1, _FIRST_BYTES, access=mmap.ACCESS_COPY)

    def append(self, values: NDArray[Any]) -> None:
        """Add numbers at the end."""
        self._lengthen(self.size + values.size)
        self._view(self.size - values.size)[:] = values

    def put(self, rows: NDArray[np.intp], values: FloatArray) -> None:
        """Set the numbers of some rows; rows that were never set, before them or between them, are NaN."""
        self.pad(int(rows.max()) + 1)
        with np.errstate(over="ignore"):  # beyond single precision is beyond all sense, and becomes infinite
            self._view(0)[rows] = values

    def pad(self, size: int) -> None:
        """Fill with NaN up to this size."""
        start = self.size
        if size > start:
            self._lengthen(size)
            self._view(start)[:] = np.nan

    def finished(self) -> NDArray[Any]:
        """Return the column, (size,); nothing is copied."""
        return self._view(0)

    def _view(self, start: int) -> NDArray[Any]:
        return np.frombuffer(self._pages, self.kind, self.size - start, start * self.kind.itemsize)

    def _lengthen(self, size: int) -> None:
        needed = size * self.kind.itemsize
        if needed > len(self._pages):
            larger = mmap.mmap(-1, max(2 * len(self._pages), needed), access=mmap.ACCESS_COPY)
            np.frombuffer(larger, self.kind, self.size)[:] = self._view(0)
            self._pages = larger  # the old ones go with the last view of them
        self.size = size


class TextsBuffer:
    """Texts that mostly differ, such as identifiers."""

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._chunks: list[pa.Array] = []

    def extend(self, texts: list[str]) -> None:
        """Add texts at the end."""
        self._waiting += texts
        if len(self._waiting) >= _TEXTS_AT_ONCE:
            self._pack()

    def finished(self) -> pa.ChunkedArray:
        """Return the texts."""
        self._pack()
        return pa.chunked_array(self._chunks, pa.large_string())

    def _pack(self) -> None:
        # Arrow's own builder asks for up to twice the memory, and does not give all of it back.
        spelled = [text.encode("utf-8", "replace") for text in self._waiting]
        ends = np.cumsum([0, *map(len, spelled)], dtype=np.int64)
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(spelled))]
        self._chunks.append(pa.Array.from_buffers(pa.large_string(), len(spelled), buffers))
        self._waiting = []


class WordsBuffer:
    """Texts of which there are few different ones, such as classes."""

    def __init__(self) -> None:
        self._codes, self._known = ColumnBuffer(np.int32), dict[str, int]()

    def extend(self, texts: list[str]) -> None:
        """Add texts at the end."""
        known = self._known
        self._codes.append(np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int32))

    def finished(self) -> pa.ChunkedArray:
        """Return the texts, each distinct one stored once."""
        # Halves of surrogate pairs, which JSON can spell and UTF-8 cannot, are replaced.
        spelled = pa.array([text.encode("utf-8", "replace").decode() for text in self._known], pa.large_string())
        # Two texts may become one when they are spelled in UTF-8.
        distinct = spelled.dictionary_encode()
        codes = self._codes.finished()
        if len(distinct.dictionary) < len(spelled):
            codes = distinct.indices.to_numpy()[codes]
        return pa.chunked_array([pa.DictionaryArray.from_arrays(pa.array(codes), distinct.dictionary)])


class _Object(NamedTuple):
    """One feature in today's words."""

    object_id: str = ""
    object_type: str = "unknown"
    classification: str = ""
    outline: Any = None
    nucleus: Any = None
    values: Any = None

    @property
    def is_cell(self) -> bool:
        return self.object_type in ("cell", "detection")


class _Collected:
    """The columns read so far."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self.path, self.wanted, self.layout = path, wanted, _layout(path, wanted)
        self.first = list[Any]()  # the first objects that are no cells, for a message
        self.total = self.repaired = 0
        self.kinds = set[str]()
        self.words: dict[str, TextsBuffer | WordsBuffer] = {"object_id": TextsBuffer()}
        self.words |= {"object_type": WordsBuffer(), "classification": WordsBuffer()}
        # x, y, area; area of the nucleus, distance of its centroid from that of the cell; pixels
        self.shapes = tuple(ColumnBuffer(kind) for kind in (*4 * (np.float64,), np.float32))
        self.outlines = list[Geometries]()
        self.measured = dict[str, ColumnBuffer]()  # raw name -> values
        self.names = dict[str, bool]()  # raw name -> whether to keep it


def read_geojson(path: Path, wanted: Wanted, text: IO[bytes] | None = None) -> ParsedExport:
    """Read the objects of a GeoJSON file; positions and areas are those of the polygons, in pixels.

    A measured area is used in place of the polygon's only if its name states the unit: GeoJSON holds no calibration,
    so a plain ``Cell: Area`` may be in either. The text is that of the file, unless another is given.
    """
    collected = _Collected(path, wanted)
    was_on = gc.isenabled()
    gc.disable()  # parsed JSON has no cyclic garbage, and the search for it takes a quarter of the time
    try:
        for features in stream_batches(path, text):
            _collect(features, collected)
            del features  # before the next are made: they then take the same place, and stay in the cache
    finally:
        if was_on:
            gc.enable()
    total = collected.total
    if not collected.kinds & {"cell", "detection"}:
        raise _no_cells(collected)
    x, y, area, nucleus, offset = (column.finished() for column in collected.shapes)
    is_cell = "cell" in collected.kinds
    numbers: dict[str, FloatArray] = {"x": x, "y": y, "cell_area" if is_cell else "area": area}
    if is_cell and np.isfinite(nucleus).any():
        numbers |= {"nucleus_area": nucleus, NUCLEUS_OFFSET: offset}
    units: dict[str, str | None] = {name: "px" if name in (*POSITION, NUCLEUS_OFFSET) else "px2" for name in numbers}
    labels = dict.fromkeys(numbers, "geometry")
    ignored, scales = _add_measurements(collected, numbers, units, labels)
    notes = (f"{collected.repaired:,} outlines crossed themselves and were mended",) if collected.repaired else ()
    outlines = np.concatenate(collected.outlines) if wanted.geometries else None
    words = {name: buffer.finished() for name, buffer in collected.words.items()}
    return ParsedExport(
        path, total, words, numbers, units, labels, ignored, notes, outlines, by_type=True, scales=scales,
        cells_are=collected.layout.cells_are if collected.layout is not None else None,
    )  # fmt: skip


def _layout(path: Path, wanted: Wanted) -> ShapeLayout | None:
    if wanted.columns is not None:
        raise InputError("is GeoJSON, and --columns names those of a table", path=path, hint="pass --layout NAME")
    layout = shape_layout(wanted.layout)
    if layout is None and wanted.layout is not None:
        problem = f"is JSON, and the layout {wanted.layout!r} is one of tables"
        raise InputError(problem, path=path, hint=f"layouts of outlines are {names_of('outlines')}")
    return layout


def _no_cells(collected: _Collected) -> InputError:
    """Return the error for a file without cells; it names the layouts that the file may have."""
    problem = f"holds no cells: none of its {collected.total:,} objects is a cell or detection"
    hint = "in QuPath select the cells and use File > Export objects as GeoJSON"
    if found := similar_shapes(collected.first):
        more = "".join(f", or {one.name}" for one in found[1:])
        named = f"--layout {found[0].name} ({found[0].program}){more}"
        hint = f"if its outlines are cells or nuclei, pass {named}; if not, {hint}"
    elif collected.total:
        hint += f"; a file of another program is read with --layout NAME ({names_of('outlines')})"
    return InputError(problem, path=collected.path, hint=hint)


def _collect(features: list[Any], collected: _Collected) -> None:
    everything = _with_children(features)
    if (layout := collected.layout) is not None:
        known = (layout.expand(one) if isinstance(one, dict) else iter([one]) for one in everything)
        everything = [one for group in known for one in group]
    objects = [_parse(feature) for feature in everything]
    if len(collected.first) < _SHOWN:
        others = (feature for feature, item in zip(everything, objects) if not item.is_cell)
        collected.first += islice(others, _SHOWN)
    for name, buffer in collected.words.items():
        buffer.extend([getattr(item, name) for item in objects])
    collected.kinds.update(item.object_type for item in objects)
    n = len(objects)
    outlines = [item.outline if item.is_cell else None for item in objects]
    outlines += [item.nucleus if item.is_cell else None for item in objects]
    values, mended, geometries = measure_outlines(collected.path, outlines, n if collected.wanted.geometries else 0)
    with np.errstate(over="ignore", invalid="ignore"):  # of coordinates beyond all sense; such cells are dropped later
        offset = np.hypot(*(values[n:, :2] - values[:n, :2]).T)
    for column, measured in zip(collected.shapes, (*values[:n].T, values[n:, 2], offset)):
        column.append(measured)
    collected.repaired += mended
    collected.outlines.append(geometries)
    measured_of = [(row, _measurements(item.values)) for row, item in enumerate(objects) if item.is_cell]
    _collect_measurements(collected, measured_of)
    collected.total += n


def _with_children(features: list[Any]) -> list[Any]:
    """Return features and the objects inside them, which QuPath may write as a list within the feature."""
    found = list(features)
    for feature in found:  # which grows on the way
        if isinstance(feature, dict) and isinstance(feature.get("childObjects"), list):
            found += feature["childObjects"]
    return found


def _collect_measurements(collected: _Collected, values: list[tuple[int, dict[Any, Any]]]) -> None:
    """Put the measurements of a batch into columns; objects with the same names, as most have, go together."""
    groups: dict[tuple[Any, ...], list[tuple[int, dict[Any, Any]]]] = {}
    for row, found in values:
        groups.setdefault(tuple(found), []).append((row, found))
    for names, members in groups.items():
        kept = [at for at, name in enumerate(names) if _is_wanted(collected, name)]
        if not kept:
            continue
        table = _table([list(found.values()) for _, found in members], kept)
        rows = collected.total + np.array([row for row, _ in members], dtype=np.intp)
        for name, column in zip((names[at] for at in kept), table.T):
            if name not in collected.measured:
                # Measurements have four decimals at most: single precision holds them and halves the memory.
                collected.measured[name] = ColumnBuffer(np.float64 if "Area" in name else np.float32)
            collected.measured[name].put(rows, column)


def _is_wanted(collected: _Collected, name: str) -> bool:
    if name not in collected.names:
        if len(collected.names) >= _MOST_NAMES:
            raise InputError(f"holds more than {_MOST_NAMES:,} different measurements", path=collected.path)
        numbers = [column.name for column in recognise([name]).columns.values() if column.kind == "number"]
        wanted = [one in AREAS or collected.wanted.takes(one) for one in numbers if one not in POSITION]
        collected.names[name] = any(wanted)
    return collected.names[name]


def _table(rows: list[list[Any]], kept: list[int]) -> FloatArray:
    """Return (rows, kept) numbers; texts such as "NaN" are read as numbers, anything else is NaN."""
    try:
        with np.errstate(over="ignore"):
            return np.array(rows, dtype=float)[:, kept]
    except (ValueError, TypeError, OverflowError):
        return np.array([[_number(row[at]) for at in kept] for row in rows])


def _number(value: Any) -> float:
    try:
        return np.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        return np.nan


def _add_measurements(
    collected: _Collected, numbers: dict[str, FloatArray], units: dict[str, str | None], labels: dict[str, str],
) -> tuple[tuple[str, ...], tuple[ScaleFact, ...]]:  # fmt: skip
    """Add the measured columns; return the names of those not used, and how measured areas compare with outlines."""
    header = recognise(list(collected.names))
    ignored, scales = list(header.ignored), list[ScaleFact]()
    drawn = {name: numbers[name] for name in AREAS if name in numbers}
    for name, column in header.columns.items():
        measured = collected.measured.pop(column.raw, None)
        if measured is None or name in POSITION:
            ignored.append(column.raw)
            continue
        measured.pad(collected.total)
        values = measured.finished()
        if name in AREAS and name in drawn:
            scales += ScaleFact.of(column, values, drawn[name])
        if name in AREAS and (column.unit not in ("um2", "um") or name not in drawn or collected.wanted.outline_areas):
            ignored.append(column.raw)
            continue
        if name in AREAS and name != "nucleus_area" and np.isnan(values[np.isfinite(drawn[name])]).any():
            numbers[OUTLINE_AREA], units[OUTLINE_AREA] = drawn[name], "px2"
        # A length without a unit may be in either, so it must not be converted.
        numbers[name], units[name], labels[name] = values, column.unit or "unknown", column.raw
    return tuple(ignored), tuple(scales)


def _parse(feature: Any) -> _Object:
    if not isinstance(feature, dict):
        return _Object()
    properties = feature["properties"] if isinstance(feature.get("properties"), dict) else {}
    label = feature["id"] if isinstance(feature.get("id"), str) else ""
    kind = properties.get("objectType") or properties.get("object_type") or properties.get("type")
    if not isinstance(kind, str):
        kind = _TYPES.get(label.lower(), "annotation")
        label = "" if label.lower().startswith("path") else label
    nucleus = feature.get("nucleusGeometry")
    if nucleus is None and isinstance(extra := properties.get("extra_geometries"), dict):
        nucleus = extra.get("nucleus")
    kind, class_ = kind.lower(), _class(properties.get("classification"))
    outline, nucleus = (shape if isinstance(shape, dict) else None for shape in (feature.get("geometry"), nucleus))
    return _Object(label, _TYPES.get(kind, kind), class_, outline, nucleus, properties.get("measurements"))


def _class(value: Any, depth: int = 0) -> str:
    if not isinstance(value, dict):
        return value if isinstance(value, str) else ""
    if isinstance(names := value.get("names"), list):
        return ": ".join(map(str, names))
    name = str(value.get("name") or "")
    parent = _class(value.get("parentClass"), depth + 1) if depth < 20 else ""
    return f"{parent}: {name}" if parent else name


def _measurements(values: Any) -> dict[Any, Any]:
    """Return measurements by name; until 0.3 they were a list of names and values."""
    if isinstance(values, dict):
        return values
    items = [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []
    return {item["name"]: item.get("value") for item in items if isinstance(item.get("name"), str)}
