"""From an export to its usable rows: everything in µm, and which rows become cells.

An unknown unit is an error that names the option to set. Each row that is no cell is counted under the first reason
that applies. A further filter is one field of `CellOptions` and one entry in `FILTERS`; nothing else changes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells.parsed_export import AREAS, NUCLEUS_OFFSET, OUTLINE_AREA, POSITION, ParsedExport
from histomri.cells.sidecar import Calibration
from histomri.cells.table import Compartment, is_of_class
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError, UnitError

AreaUnit = Literal["um2", "px2"]
MPP = "pass --mpp with the pixel size of the slide in µm (QuPath: Image tab, 'Pixel width')"
MASK_MPP = "pass --mpp with the pixel size of the mask in µm, which is that of the slide x its downsampling"
_LENGTHS = ("perimeter", "caliper", NUCLEUS_OFFSET)
# No section is a metre wide: a position beyond that is a wrong unit or a damaged number.
LARGEST_UM = 1e6
_OUTSIDE_REGION = "outside the region of interest"
_FEW_INSIDE, _NEARLY_ALL = 0.5, 0.9
_LEGACY_TYPES = {f"path{kind}object": kind for kind in ("cell", "detection", "tile", "annotation", "root")}
_LEGACY_TYPES |= dict.fromkeys(("tmacoreobject", "tma_core", "tmacore"), "tma core")


@dataclass(frozen=True)
class Measures:
    """Positions and sizes of one export in µm; arrays of shape (n_rows,)."""

    x_um: FloatArray
    y_um: FloatArray
    area_um2: FloatArray
    nucleus_area_um2: FloatArray
    compartment: Compartment
    area_unit_from: str
    others: dict[str, FloatArray]


def to_micrometres(
    export: ParsedExport, calibration: Calibration, area_unit: AreaUnit | None, compartment: Compartment = "cell"
) -> Measures:
    """Convert an export to µm and µm²; its positions and areas may be converted in place.

    `area_unit` is that of areas whose name states none, and `compartment` that of which the sizes are wanted. A row
    without an area of that kind has the next one that it has: a plain detection may be a cell, or called one.
    """
    x, y = (_position(export, axis, index, calibration) for index, axis in enumerate(POSITION))
    order = ("cell_area", "area") if compartment == "cell" else ("nucleus_area", "area", "cell_area")
    there = [name for name in dict.fromkeys((*order, *AREAS)) if name in export.numbers]
    known = [name for name in there if name in order and np.isfinite(export.numbers[name]).any()] or there[:1]
    area, decided = _area(export, known[0], calibration, area_unit)
    for name in [*known[1:], *([OUTLINE_AREA] if OUTLINE_AREA in export.numbers else [])]:
        if (missing := np.isnan(area)).any():
            other = _area(export, name, calibration, area_unit)[0]
            area = np.where(missing, other, area)
    nucleus = area if compartment == "nucleus" else np.full(export.n_rows, np.nan)
    if compartment == "cell" and "nucleus_area" in export.numbers:
        nucleus = _area(export, "nucleus_area", calibration, area_unit)[0]
    measured = [other for other in export.numbers if other not in (*POSITION, *AREAS, OUTLINE_AREA)]
    others = dict(_measurement(export, other, calibration) for other in measured)
    return Measures(x, y, area, nucleus, compartment, decided, others)


def state_position_unit(export: ParsedExport, unit: Literal["um", "px"] | None) -> None:
    """Set the unit of positions whose column states none; one that it states cannot be changed."""
    if unit is None:
        return
    for axis in POSITION:
        if export.units[axis] not in (None, unit):
            stated = f"column {export.raw_names.get(axis, axis)!r} states its unit"
            problem = f"{stated}, and --position-unit {unit} says otherwise"
            raise UnitError(problem, path=export.path, hint="leave out --position-unit")
        export.units[axis] = unit


def _position(export: ParsedExport, axis: str, index: int, calibration: Calibration) -> FloatArray:
    values, unit = export.numbers[axis], export.units[axis]
    if unit == "um":
        return values
    if unit is None:
        problem = f"column {export.raw_names[axis]!r} has no unit"
        raise UnitError(problem, path=export.path, hint="pass --position-unit um or px, or name it in --columns")
    if calibration.pixel_size_um is None:
        hint = MPP if export.size_px is None else MASK_MPP
        raise UnitError("the positions are in pixels and the pixel size is not known", path=export.path, hint=hint)
    return _scaled(values, calibration.pixel_size_um[index])


def _area(
    export: ParsedExport, name: str, calibration: Calibration, area_unit: AreaUnit | None
) -> tuple[FloatArray, str]:
    """Return an area in µm² and how its unit was decided: name of the column, option, then unit of the position."""
    unit, label = export.units[name], export.raw_names.get(name, name)
    if unit in ("um2", "px2"):
        if area_unit is not None and area_unit != unit:
            problem = f"column {label!r} states its unit, and --area-unit {area_unit} says otherwise"
            raise UnitError(problem, path=export.path, hint="leave out --area-unit")
        decided = "the outlines themselves" if label == "geometry" else f"the name of column {label!r}"
    elif area_unit is not None:
        unit, decided = area_unit, "--area-unit"
    elif export.units["x"] in ("um", "px"):
        # QuPath measures in µm on a calibrated image and in pixels on any other, positions and areas alike.
        unit = "um2" if export.units["x"] == "um" else "px2"
        decided = f"the unit of column {export.raw_names.get('x', 'x')!r}"
    else:
        problem = f"column {label!r} has no unit and the image is not calibrated"
        raise UnitError(problem, path=export.path, hint="pass --area-unit um2, or --mpp with --area-unit px2")
    if unit == "um2":
        return export.numbers[name], f"um2, by {decided}"
    if calibration.pixel_size_um is None:
        raise UnitError(f"column {label!r} is in pixels and the pixel size is not known", path=export.path, hint=MPP)
    scale = calibration.pixel_size_um[0] * calibration.pixel_size_um[1]
    return _scaled(export.numbers[name], scale), f"px2, by {decided}; pixel size from {calibration.source}"


def _scaled(values: FloatArray, scale: float) -> FloatArray:
    """Multiply in place where the array is ours to change: a column of millions of cells is not held twice."""
    return np.multiply(values, scale, out=values if values.flags.writeable else None)


def _measurement(export: ParsedExport, name: str, calibration: Calibration) -> tuple[str, FloatArray]:
    """Name a length with its unit; in pixels it is converted where that is possible, and named ``_px`` otherwise."""
    values, unit = export.numbers[name], export.units[name]
    is_length = name.endswith(_LENGTHS)
    if is_length and unit is None:
        unit = export.units["x"]
    if unit == "um2" or (is_length and unit == "um"):
        return f"{name}_{unit}", values
    if not is_length or unit == "unknown":
        return name, values
    size = calibration.pixel_size_um
    # A length has no direction here, so it can be converted only if pixels are square.
    if unit == "px" and size is not None and abs(size[0] / size[1] - 1) < 1e-3:
        return f"{name}_um", values * np.float32(np.sqrt(size[0] * size[1]))
    return f"{name}_px", values


@dataclass
class RowFilter:
    """The rows that are still there, and how many were dropped for which reason."""

    keep: BoolArray
    dropped: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, rows: BoolArray) -> None:
        """Drop the rows where `rows` is true."""
        dropped = rows & self.keep
        if count := int(np.count_nonzero(dropped)):
            self.dropped[reason] = self.dropped.get(reason, 0) + count
            self.keep = self.keep & ~dropped


@dataclass(frozen=True)
class CellFilter:
    """A filter that an option switches on."""

    option: str  # field of `CellOptions`; the filter is applied unless its value is None
    # called with the export, its measures, the rows, and the value of the option; drops rows
    apply: Callable[[ParsedExport, Measures, RowFilter, Any], None]
    reads: tuple[str, ...] = ()  # measurements that it needs, which are then read in any case


def apply_filters(
    export: ParsedExport, measures: Measures, rows: RowFilter, options: Mapping[str, Any],
    field_um: tuple[float, float] | None = None,
) -> None:  # fmt: skip
    """Drop the rows that have no usable numbers, or are not wanted; other kinds of objects are dropped before.

    `options` maps fields of `CellOptions` to their values; the value of ``roi`` is the region itself, in µm.
    """
    with np.errstate(invalid="ignore"):
        x, y = measures.x_um, measures.y_um
        rows.drop("without a position", np.isnan(x) | np.isnan(y))
        far = (x > LARGEST_UM) | (x < -LARGEST_UM) | (y > LARGEST_UM) | (y < -LARGEST_UM)
        rows.drop("more than a metre off the slide", far)
        area = measures.area_um2
        rows.drop("without an area", np.isnan(area))
        rows.drop("with an infinite area", np.isinf(area))
        rows.drop("with an area of zero or less", area <= 0)
        _drop_outside_field(export, measures, rows, field_um)
        for each in FILTERS:
            if (value := options.get(each.option)) is not None:
                each.apply(export, measures, rows, value)


def measurements_read(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the measurements that the filters switched on by these options need."""
    return tuple(name for each in FILTERS if options.get(each.option) is not None for name in each.reads)


def categories(column: pa.ChunkedArray) -> tuple[list[str], FloatArray]:
    """Return the distinct texts of a column, and the code of each row; equal texts have one code."""
    encoded = column.dictionary_encode() if not pa.types.is_dictionary(column.type) else column
    encoded = encoded.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        if encoded.num_chunks == 0:
            return [], np.zeros(0, dtype=np.int32)
        encoded = encoded.chunk(0)
    return [str(text) for text in encoded.dictionary.to_pylist()], encoded.indices.to_numpy(zero_copy_only=False)


def object_types(export: ParsedExport) -> tuple[list[str], FloatArray] | None:
    """Return the types of the objects in today's words (``cell``, ``detection``, ...), None if they are not known."""
    name = "object_type" if "object_type" in export.text else "name"
    if name not in export.text:
        return None
    texts, codes = categories(export.text[name])
    if name == "object_type":
        return [_LEGACY_TYPES.get(text.strip().lower(), text.strip().lower()) for text in texts], codes
    # Until 0.4 the name fell back to the Java class of the object; any other name is the user's and is no type.
    types = [_LEGACY_TYPES.get(text.strip().lower(), "") for text in texts]
    return (types, codes) if any(types) else None


def region_in_other_unit(
    measures: Measures, rows: RowFilter, region: BaseGeometry, pixel_size_um: tuple[float, float] | None
) -> tuple[str, ...]:
    """Warn of a region that holds few cells, and would hold nearly all in another unit."""
    kept, lost = int(np.count_nonzero(rows.keep)), rows.dropped.get(_OUTSIDE_REGION, 0)
    if pixel_size_um is None or kept >= _FEW_INSIDE * (kept + lost):
        return ()
    x, y = measures.x_um, measures.y_um
    known = np.isfinite(x) & np.isfinite(y)
    for change, factors in (("divided", 1 / np.array(pixel_size_um)), ("multiplied", np.array(pixel_size_um))):
        scaled = shapely.transform(region, lambda points, by=factors: points * by)
        fraction = float(np.mean(shapely.contains_xy(scaled, x[known], y[known])))
        if fraction > _NEARLY_ALL:
            held = f"{kept:,} of {kept + lost:,} cells, and would hold {fraction:.0%} {change} by the pixel size"
            check = "is it in µm, where pixels of the full-resolution image are expected, and are the positions of the"
            return (f"the region of interest holds {held}: {check} cells in the unit that their column states?",)
    return ()


def _drop_outside_field(
    export: ParsedExport, measures: Measures, rows: RowFilter, field_um: tuple[float, float] | None
) -> None:
    if field_um is None:
        return
    x, y = measures.x_um, measures.y_um
    outside = (x < 0) | (y < 0) | (x > field_um[0]) | (y > field_um[1])
    fraction = int(np.count_nonzero(outside & rows.keep)) / max(int(np.count_nonzero(rows.keep)), 1)
    if fraction > 0.5:
        problem = f"{fraction:.0%} of the cells lie outside the slide of {field_um[0]:.0f} x {field_um[1]:.0f} µm"
        causes = "wrong image, wrong unit, or an image that was rotated or cropped in QuPath"
        hint = "check that the table and its JSON file belong together"
        raise InputError(f"{problem}: {causes}", path=export.path, hint=hint)
    rows.drop("outside the slide", outside)


def _drop_other_classes(export: ParsedExport, measures: Measures, rows: RowFilter, classes: Sequence[str]) -> None:
    if "classification" not in export.text:
        raise InputError("has no classification, so --classes cannot be applied", path=export.path)
    texts, codes = categories(export.text["classification"])
    fits = np.array([is_of_class(text, classes) for text in texts], dtype=bool)
    if not fits.any():
        listing = ", ".join(repr(text or "None") for text in texts[:20])
        problem = f"no cell is of class {', '.join(map(repr, classes))}; its classes are {listing}"
        raise InputError(problem, path=export.path, hint="pass --classes with names from that list")
    rows.drop("of another class", ~fits[codes])


def _drop_outside_region(export: ParsedExport, measures: Measures, rows: RowFilter, region: BaseGeometry) -> None:
    shapely.prepare(region)
    inside, left = np.zeros(rows.keep.shape, dtype=bool), np.flatnonzero(rows.keep)
    x, y = measures.x_um[left], measures.y_um[left]
    inside[left] = shapely.contains_xy(region, x, y)
    if left.size and not inside.any():
        low_x, low_y, high_x, high_y = region.bounds
        spans = f"the region spans x {low_x:.0f}-{high_x:.0f}, y {low_y:.0f}-{high_y:.0f} µm"
        cells = f"the cells x {x.min():.0f}-{x.max():.0f}, y {y.min():.0f}-{y.max():.0f} µm"
        hint = "the region must be of this image and, as QuPath writes it, in pixels of the full-resolution image"
        raise InputError(f"no cell lies in the region of interest: {spans}, {cells}", path=export.path, hint=hint)
    rows.drop(_OUTSIDE_REGION, ~inside)


def _drop_improbable(export: ParsedExport, measures: Measures, rows: RowFilter, least: float) -> None:
    probability = measures.others.get("detection_probability")
    if probability is None:
        problem = "has no column 'Detection probability', so --min-probability cannot be applied"
        hint = "leave it out, or detect with StarDist and includeProbability(true)"
        raise InputError(problem, path=export.path, hint=hint)
    rows.drop("without a detection probability", np.isnan(probability))
    rows.drop(f"of a detection probability below {least:g}", probability < np.float32(least))


def _drop_size(
    export: ParsedExport, measures: Measures, rows: RowFilter, least: float = 0, most: float = np.inf
) -> None:
    diameter = np.sqrt(4 * measures.area_um2 / np.pi)
    rows.drop(f"smaller than {least:g} µm", diameter < least)
    rows.drop(f"larger than {most:g} µm", diameter > most)


# In the order in which they are applied, and rows counted.
FILTERS = [
    CellFilter("classes", _drop_other_classes),
    CellFilter("roi", _drop_outside_region),
    CellFilter("min_probability", _drop_improbable, reads=("detection_probability",)),
    CellFilter("min_size_um", _drop_size),
    CellFilter("max_size_um", lambda export, measures, rows, most: _drop_size(export, measures, rows, most=most)),
]
