"""The columns of an export: their names in every version and spelling of QuPath, and the result of every reader."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from histomri.core.arrays import FloatArray

Kind = Literal["text", "id", "number"]

# A micro sign after decoding with the wrong table, worst first.
_MOJIBAKE = (
    ("Ã‚Âµ", "µ"), ("Ã‚Â²", "²"), ("Âµ", "µ"), ("Â²", "²"), ("┬╡", "µ"), ("┬Á", "µ"), ("¬µ", "µ"), ("\ufffdm", "µm"),
    ("碌m", "µm"), ("ﾂｵm", "µm"), ("?m", "µm"), ("\u03bc", "µ"),
)  # fmt: skip
_COMPARTMENT = r"(?P<comp>Nucleus|Cell|Cytoplasm|Membrane)"
_STAT = r"(?P<stat>Mean|Median|Min|Max|Std\.Dev\.|Variance)"
_SHAPE = re.compile(
    rf"(?:{_COMPARTMENT}: )?(?P<feat>Area|Perimeter|Length|Circularity|Solidity|Eccentricity|Max caliper|Min caliper"
    r"|Max diameter|Min diameter)(?: (?P<unit>µm\^2|px\^2|µm|px))?",
    re.IGNORECASE,
)
_INTENSITIES = (
    re.compile(rf"(?P<chan>.+): {_COMPARTMENT}: {_STAT}"),  # extensions up to 0.5
    re.compile(rf"{_COMPARTMENT}: (?P<chan>.+): {_STAT}"),  # extensions from 0.6
    re.compile(rf"{_COMPARTMENT}: (?P<chan>.+?)(?: OD)? (?P<stat>mean|sum|std dev|max|min|range)"),  # built in
    re.compile(rf"(?P<chan>(?!Cluster|Subcellular).+): {_STAT}"),  # objects without compartments
)
_CENTROID = re.compile(r"Centroid (?P<axis>[XY]) (?P<unit>µm|px)", re.IGNORECASE)
_OWN = re.compile(r"(?P<name>[xy]|(?:cell_|nucleus_)?area|nucleus_offset)_(?P<unit>um2|px2|um|px)")
_UNITS = {"µm^2": "um2", "px^2": "px2", "µm": "um", "px": "px", "um2": "um2", "px2": "px2", "um": "um", None: None}
_FEATURES = {"length": "perimeter", "max_diameter": "max_caliper", "min_diameter": "min_caliper"}
_STATS = {"std.dev.": "std", "std dev": "std", "median": "median", "variance": "variance"}
_SPELLINGS: dict[tuple[str, Kind], tuple[str, ...]] = {
    ("image", "text"): ("image",), ("object_id", "id"): ("object id", "object_id", "id"),
    ("object_type", "text"): ("object type", "objecttype", "object_type"),
    ("classification", "text"): ("classification", "class"), ("name", "text"): ("name",),
    ("parent", "text"): ("parent",), ("parent_id", "text"): ("parent_id",),
    ("z", "text"): ("z index", "z-slice"), ("t", "text"): ("time index", "timepoint"),
    ("nucleus_cell_ratio", "number"): ("nucleus/cell area ratio",),
    ("detection_probability", "number"): ("detection probability",), ("num_detections", "number"): ("num detections",),
}  # fmt: skip
_IDENTITY = {spelling: meaning for meaning, spellings in _SPELLINGS.items() for spelling in spellings}
# The first spelling wins when a table has two columns for one thing: `Object ID` before the `ID` of an atlas.
_RANK = {"object id": 0, "object_id": 0, "id": 2, "classification": 0, "class": 1}
_UNIT_RANK = {"um2": 0, "um": 0, "px2": 1, "px": 1, None: 2}
POSITION = ("x", "y")
AREAS = ("cell_area", "nucleus_area", "area")
NUCLEUS_OFFSET = "nucleus_offset"  # distance between the centroids of the nucleus and of its cell
_COMPARED = 100_000
OUTLINE_AREA = "outline_area"  # of the polygon, for rows that lack the measured area that is used


@dataclass(frozen=True)
class Column:
    """A column that was recognised."""

    index: int  # place in the table, from 0
    raw: str  # the name as the file writes it
    name: str  # canonical name without a unit, such as ``cell_area``
    kind: Kind  # how to read it
    unit: str | None = None  # the unit that the name states


@dataclass(frozen=True)
class Header:
    """The recognised columns of a table, by canonical name, and the names that were passed over."""

    columns: dict[str, Column]
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    places: dict[str, int] = field(default_factory=dict)  # of the ignored ones


def normalise(name: str) -> str:
    """Return a column name as QuPath writes it: U+00B5 for micro, ``^2`` for squares, single blanks."""
    for wrong, right in _MOJIBAKE:
        name = name.replace(wrong, right)
    name = re.sub(r"\s+", " ", name.strip().strip("\ufeff\"'").strip())
    name = re.sub(r"(?<![^\W_])um(?=\b|\^?2|²)", "µm", name) if not _OWN.fullmatch(name) else name
    return re.sub(r"\b(µm|px)(?:2|²|\^ 2)(?!\w)", r"\1^2", name)


def unmangle(name: str) -> str:
    """Undo the changes that R's ``make.names`` and similar tools make to a name: ``Cell..Area`` is `Cell: Area`."""
    name = re.sub(r"^(Centroid[._][XY])[._]{2}m$", r"\1.µm", name)
    name = re.sub(r"((?:Area|Length|caliper|diameter|Perimeter))[._]{2}m(?=[._]2|$)", r"\1.µm", name)
    name = re.sub(r"[._](µm|um|px)[._]2$", r".\1^2", name)
    name = name.replace("Std.Dev.", "Std\0Dev\0")
    name = re.sub(r"^Nucleus[._]Cell[._]area[._]ratio$", "Nucleus/Cell area ratio", name)
    name = re.sub(r"[._]{2}", ": ", name)
    return re.sub(r"[._]", " ", name).replace("\0", ".")


def recognise(names: Sequence[str]) -> Header:
    """Recognise the columns of a table.

    Where a table has several columns for one thing, the one with a unit in its name is taken, µm before pixels.
    """
    found = [_column(index, raw, normalise(raw)) for index, raw in enumerate(names)]
    warnings: list[str] = []
    if not _has_position(found) and not any(" " in name.strip() for name in names):
        mangled = [_column(index, raw, normalise(unmangle(raw))) for index, raw in enumerate(names)]
        if _has_position(mangled):
            found = mangled
            read = ", ".join(f"{c.raw!r} = {c.name}" for c in mangled if c and c.name in (*POSITION, *AREAS))
            warnings.append(f"the column names were changed by another program (such as R); they were read as {read}")
    columns: dict[str, Column] = {}
    known = [column for column in found if column is not None]
    for column in sorted(known, key=lambda c: (_RANK.get(normalise(c.raw).lower(), 1), _UNIT_RANK[c.unit], c.index)):
        first = columns.setdefault(column.name, column)
        own = _OWN.fullmatch(normalise(first.raw)) and _OWN.fullmatch(normalise(column.raw))  # both, on purpose
        if first is not column and column.name in ("cell_area", "nucleus_area") and not own:
            warnings.append(f"both {first.raw!r} and {column.raw!r} are there; {first.raw!r} was used")
    used = {column.index for column in columns.values()}
    ignored = tuple(name for index, name in enumerate(names) if index not in used)
    places = {name: index for index, name in enumerate(names) if index not in used}
    return Header(columns, ignored, tuple(warnings), places)


def _has_position(columns: Sequence[Column | None]) -> bool:
    return {"x", "y"} <= {column.name for column in columns if column is not None}


def _column(index: int, raw: str, name: str) -> Column | None:
    if (identity := _IDENTITY.get(name.lower())) is not None:
        return Column(index, raw, *identity)
    if (match := _CENTROID.fullmatch(name)) is not None:
        return Column(index, raw, match["axis"].lower(), "number", _UNITS[match["unit"].lower()])
    if (match := _OWN.fullmatch(name)) is not None:
        return Column(index, raw, match["name"], "number", _UNITS[match["unit"]])
    if (match := _SHAPE.fullmatch(name)) is not None:
        return _shape(index, raw, match)
    return _intensity(index, raw, name)


def _shape(index: int, raw: str, match: re.Match[str]) -> Column:
    feature = match["feat"].lower().replace(" ", "_")
    # Of objects without compartments, annotations have `Perimeter`; the others have `Length`.
    plain = "annotation_perimeter" if feature == "perimeter" else _FEATURES.get(feature, feature)
    name = f"{match['comp'].lower()}_{_FEATURES.get(feature, feature)}" if match["comp"] else plain
    return Column(index, raw, name, "number", _UNITS[match["unit"].lower() if match["unit"] else None])


def _intensity(index: int, raw: str, name: str) -> Column | None:
    match = next(filter(None, (pattern.fullmatch(name) for pattern in _INTENSITIES)), None)
    if match is not None:
        groups = match.groupdict()
        channel = re.sub(r"[^0-9a-z]+", "_", groups["chan"].lower()).strip("_")
        if not channel:
            return None
        statistic, prefix = groups["stat"].lower(), f"{groups['comp'].lower()}_" if groups.get("comp") else ""
        return Column(index, raw, f"{prefix}{channel}_od_{_STATS.get(statistic, statistic)}", "number")
    if re.fullmatch(r"(?:nucleus|cell|cytoplasm)_[a-z0-9_]+_(?:od_)?(?:mean|std|min|max|sum|median)", name):
        return Column(index, raw, name, "number")  # histomri's own export
    return None


@dataclass(frozen=True)
class ScaleFact:
    """How a measured area compares with that of the outlines in pixels, or with another measured area."""

    raw: str  # name of the measurement
    unit: str | None  # that its name states
    ratio: float  # median of measured area / area of the outline in px², or the other area
    spread: float  # interquartile range of log(ratio)
    n: int  # number of objects that have both
    other: str = ""  # name of the other measurement, if it is not compared with outlines
    other_unit: str | None = None

    @classmethod
    def of(
        cls, column: Column, measured: FloatArray, other: FloatArray, beside: Column | None = None
    ) -> "list[ScaleFact]":
        """Compare two areas of the same objects, (N,), or a hundred thousand of them; empty if none has both."""
        some = slice(None, None, -(-measured.size // _COMPARED) or 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = measured[some] / other[some]
            known = np.log(ratio[np.isfinite(ratio) & (ratio > 0)])
        if not known.size:
            return []
        low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
        names = ("", None) if beside is None else (beside.raw, beside.unit)
        return [cls(column.raw, column.unit, float(np.exp(middle)), float(high - low), known.size, *names)]


@dataclass(frozen=True)
class Wanted:
    """Beside identity, position and areas: all known measurements, or those of `also`; the outlines.

    `layout` is a layout of other programs by name, `columns` a table of column names, and `outline_areas` asks for the
    areas of the outlines in place of measured ones.
    """

    measurements: bool = True
    geometries: bool = False
    also: tuple[str, ...] = ()
    outline_areas: bool = False
    layout: str | None = None
    columns: Path | None = None
    split_labels: bool = False
    nuclei_mask: Path | None = None

    def takes(self, measurement: str) -> bool:
        """Whether to read a measurement, by its canonical name."""
        return self.measurements or measurement in (NUCLEUS_OFFSET, *self.also)


@dataclass(frozen=True)
class ParsedExport:
    """One export as it was read."""

    path: Path  # the file
    n_rows: int  # number of objects in it
    # canonical name (``image``, ``object_type``, ``object_id``, ...) to Arrow column of n_rows strings
    text: dict[str, pa.ChunkedArray]
    # canonical name without unit (``x``, ``cell_area``, ...) to (n_rows,) float array; a missing value is NaN
    numbers: dict[str, FloatArray]
    units: dict[str, str | None]  # name in `numbers` to "um", "um2", "px", "px2", or None where the file does not say
    raw_names: dict[str, str] = field(default_factory=dict)  # canonical name to the name in the file, for messages
    ignored: tuple[str, ...] = ()  # columns that were not read
    warnings: tuple[str, ...] = ()
    # (n_rows,): outline of each object in pixels (shapely), None where it has none; only if asked for
    outlines: NDArray[np.object_] | None = None
    pixel_size_um: tuple[float, float] | None = None  # (x, y), as the file itself states it; only pictures do
    size_px: tuple[int, int] | None = None
    n_cut: int = 0  # rows cut short in the last line of the file; they are not among the n_rows
    n_headers: int = 0  # lines that repeat the header; they are not among the n_rows, either
    by_type: bool = False  # whether only its type says what an object is: its area is that of its outline
    scales: tuple["ScaleFact", ...] = ()  # how measured areas compare with those of the outlines
    cells_are: Literal["nuclei", "cells"] | None = None  # of objects with one outline, by the layout of the file
