"""Warnings about a cell table: duplicates, impossible sizes, wrong units."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from histomri.cells.filters import RowFilter, categories, object_types
from histomri.cells.parsed_export import ParsedExport
from histomri.cells.sidecar import Calibration
from histomri.cells.spacing import check_giants
from histomri.cells.table import CellMetadata, CellTable, Compartment
from histomri.core.arrays import BoolArray

NUCLEUS_UM2 = (10.0, 200.0)  # the detector keeps 10-400 µm²; a median beyond this is most likely a wrong unit
DIAMETER_UM = (3.0, 100.0)  # cells of mammals are some 5-60 µm wide; a median beyond this is a wrong unit
# Areas are measured on the detector's outline, the ratio on the simplified polygon: they differ by a few per cent.
TOLERANCE = 1.05
_HASHED_AT_ONCE = 1 << 16
_NUCLEI_ONLY = (
    "the table has no cell outlines, only nuclei (or plain detections): all sizes and fractions are of NUCLEI; "
    "for cells, use a cell expansion above 0 in QuPath, or say --detections cells if the outlines are of cells"
)


def check_table(table: CellTable) -> tuple[str, ...]:
    """Return warnings about a table."""
    data, is_cell = table.data, table.metadata.compartment == "cell"
    area, nucleus = data["area_um2"].to_numpy(), data["nucleus_area_um2"].to_numpy()
    same_id = _count_repeats(data["object_id"])
    larger = int(np.count_nonzero(nucleus > TOLERANCE * area)) if is_cell else 0  # not where the nucleus is unknown
    found = (
        None if is_cell else _NUCLEI_ONLY, _duplicates(data),
        f"{same_id:,} cells have the object ID of another cell: some rows may be there twice" if same_id else None,
        f"{larger:,} cells have a nucleus larger than the cell" if larger else None, _nucleus_size(nucleus),
        _cell_size(data["diameter_um"].to_numpy(), table.metadata), check_giants(area),
        _expansion(area, nucleus) if is_cell else None,
    )  # fmt: skip
    return tuple(text for text in found if text is not None)


def check_planes(export: ParsedExport, rows: RowFilter) -> Iterator[str]:
    """Warn if cells of several focal planes or times lie on top of each other."""
    for name, kind in (("z", "focal planes"), ("t", "time points")):
        if name in export.text and (count := np.unique(categories(export.text[name])[1][rows.keep]).size) > 1:
            yield f"{export.path.name}: cells of {count} {kind} lie on top of each other and are all counted"


def check_count(export: ParsedExport, calibration: Calibration, compartment: Compartment) -> Iterator[str]:
    """Warn if the export holds another number of objects than its sidecar or its QuPath project says."""
    name, n_rows, project = export.path.name, export.n_rows, calibration.project
    if calibration.n_cells not in (None, n_rows):
        stated = f"the JSON file beside it says {calibration.n_cells:,}"
        yield f"{name} has {n_rows:,} rows, and {stated}: the export is not complete"
    if project is None:
        return
    types, codes = object_types(export) or (["cell"], np.zeros(n_rows, dtype=np.int32))
    ours = np.array([kind in ("cell", "detection", "") for kind in types], dtype=bool)
    found = int(np.count_nonzero(ours[codes]))
    if (held := project.n_cells if compartment == "cell" else project.n_detections) and held != found:
        causes = "a part was exported, or the image was changed after the export"
        yield f"{name} has {found:,} cells, and the QuPath project holds {held:,}: {causes}"


def _duplicates(data: pd.DataFrame) -> str | None:
    x, y, area = (data[name].to_numpy(dtype=float).view(np.uint64) for name in ("x_um", "y_um", "area_um2"))
    # In place: with millions of cells, memory runs short.
    key, other = x * np.uint64(0x9E3779B97F4A7C15), y * np.uint64(0xC2B2AE3D27D4EB4F)
    key ^= other
    key ^= np.right_shift(key, np.uint64(29), out=other)
    key *= np.uint64(0xBF58476D1CE4E5B9)
    key ^= area
    text = "cells have the position and area of another cell: detected or exported twice, so they count twice"
    return f"{count:,} {text}" if (count := _repeats(key)) else None


def _repeats(key: NDArray[np.uint64]) -> int:
    """Return how many keys are there before; they are sorted in place."""
    key.sort()
    return int(np.count_nonzero(key[1:] == key[:-1]))


def repeated_ids(ids: pd.Series) -> BoolArray | None:
    """Return which rows have the identifier of an earlier one, None if none has.

    QuPath's identifiers are unique, so a copy of rows made such a row. Plain numbers are passed over: masks, and tables
    of other programs, count from 1 in each file, so one number does not mean one cell.
    """
    if not _count_repeats(ids):
        return None
    texts = ids.fillna("").astype(str)
    named = (texts != "") & ~texts.str.fullmatch(r"\d+(?:\.0*)?").astype(bool)
    repeats = np.asarray(texts.duplicated() & named, dtype=bool)
    return repeats if repeats.any() else None


def _count_repeats(ids: pd.Series) -> int:
    """Return how many rows have the identifier of another; fast, as nearly every table has none."""
    column = pa.chunked_array(pa.array(ids, from_pandas=True))
    lengths = pc.min_max(pc.binary_length(column)).as_py()
    if not lengths["max"]:
        return 0
    if lengths["min"] == lengths["max"]:
        starts = ((chunk, at) for chunk in column.chunks for at in range(0, len(chunk), _HASHED_AT_ONCE))
        parts = [_hashed(chunk.slice(at, _HASHED_AT_ONCE), lengths["max"]) for chunk, at in starts]
        return _repeats(np.concatenate(parts))
    known = column.filter(pc.greater(pc.binary_length(column), 0))
    return len(known) - int(pc.count_distinct(known).as_py())


def _hashed(chunk: pa.Array, length: int) -> np.ndarray:
    """Return a number for each of some texts of one length; eight times faster than comparing them as texts."""
    width = np.int64 if pa.types.is_large_string(chunk.type) else np.int32
    start = int(np.frombuffer(chunk.buffers()[1], width)[chunk.offset])
    letters = np.frombuffer(chunk.buffers()[2], np.uint8, len(chunk) * length, start).reshape(len(chunk), length)
    key = np.zeros(len(chunk), dtype=np.uint64)
    for word in np.pad(letters, ((0, 0), (0, -length % 8))).view(np.uint64).T:
        key = (key ^ word) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    return key


def _nucleus_size(nucleus: np.ndarray) -> str | None:
    known = nucleus[np.isfinite(nucleus)]
    if not known.size or NUCLEUS_UM2[0] <= (median := float(np.median(known))) <= NUCLEUS_UM2[1]:
        return None
    return f"the median nucleus has {median:.3g} µm², where 10-200 is usual: the unit or the pixel size may be wrong"


def _cell_size(diameter: np.ndarray, metadata: CellMetadata) -> str | None:
    if not diameter.size or DIAMETER_UM[0] <= (median := float(np.median(diameter))) <= DIAMETER_UM[1]:
        return None
    size, also = metadata.pixel_size_um, ""
    if size is not None and metadata.area_unit_from.startswith("px2"):
        also = f", and the pixel size of {size[0]:g} x {size[1]:g} µm (--mpp)"
    found = f"the median diameter is {median:.3g} µm, where {DIAMETER_UM[0]:g}-{DIAMETER_UM[1]:g} is usual"
    return f"{found}: check the unit of the areas ({metadata.area_unit_from}){also}"


def _expansion(area: np.ndarray, nucleus: np.ndarray) -> str | None:
    """Warn of cell outlines that are the nucleus plus a constant rim, as QuPath's expansion makes them."""
    with np.errstate(invalid="ignore"):
        rim = np.sqrt(area / np.pi) - np.sqrt(nucleus / np.pi)
    rim = rim[np.isfinite(rim)]
    low, middle, high = np.quantile(rim, [0.25, 0.5, 0.75]) if rim.size >= 50 else np.zeros(3)
    if middle <= 0 or high - low > 0.1 * middle:
        return None
    rest = "QuPath expanded the nuclei and saw no membrane, so cell sizes follow nuclear sizes"
    return f"most cell outlines are the nucleus plus {middle:.1f} µm: {rest}"
