"""From the units of an export to micrometres; an unknown unit is an error that names the option to set."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from histomri.cells.headers import AREAS, POSITION
from histomri.cells.parsed_export import ParsedExport
from histomri.cells.sidecar import Calibration
from histomri.cells.table import Compartment
from histomri.core.arrays import FloatArray
from histomri.core.errors import UnitError

AreaUnit = Literal["um2", "px2"]
MPP = "pass --mpp with the pixel size of the slide in µm (QuPath: Image tab, 'Pixel width')"
_LENGTHS = ("perimeter", "caliper")


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
    export: ParsedExport,
    calibration: Calibration,
    area_unit: AreaUnit | None,
    detections: Literal["nuclei", "cells"] = "nuclei",
) -> Measures:
    """Convert an export to µm and µm²; its positions and areas may be converted in place.

    `area_unit` is that of areas whose name states none, and `detections` says which outline plain detections have.
    Where the column of cell areas is there and empty, as in histomri's own export of nuclei, those of nuclei are taken.
    """
    x, y = (_position(export, axis, index, calibration) for index, axis in enumerate(POSITION))
    areas = [name for name in AREAS if name in export.numbers]
    name = next((name for name in areas if np.isfinite(export.numbers[name]).any()), areas[0])
    of_cells = name == "cell_area" or (name == "area" and detections == "cells")
    compartment: Compartment = "cell" if of_cells else "nucleus"
    area, decided = _area(export, name, calibration, area_unit)
    nucleus = area if compartment == "nucleus" else np.full(export.n_rows, np.nan)
    if compartment == "cell" and "nucleus_area" in export.numbers:
        nucleus = _area(export, "nucleus_area", calibration, area_unit)[0]
    measured = [other for other in export.numbers if other not in (*POSITION, *AREAS)]
    others = dict(_measurement(export, other, calibration) for other in measured)
    return Measures(x, y, area, nucleus, compartment, decided, others)


def _position(export: ParsedExport, axis: str, index: int, calibration: Calibration) -> FloatArray:
    values, unit = export.numbers[axis], export.units[axis]
    if unit == "um":
        return values
    if unit is None:
        problem = f"column {export.raw_names[axis]!r} has no unit"
        raise UnitError(problem, path=export.path, hint="rename it to say µm or px")
    if calibration.pixel_size_um is None:
        raise UnitError("the positions are in pixels and the pixel size is not known", path=export.path, hint=MPP)
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
