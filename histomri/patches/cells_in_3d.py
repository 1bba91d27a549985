"""The cells of a section measured in three dimensions: what is said of it, the outlines inside, and the results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray
from histomri.core.errors import InputError
from histomri.core.options import SizeName
from histomri.patches.options import OutlineKind, PatchOptions
from histomri.patches.outlines import Outlines, known_nuclei, settle_outlines
from histomri.patches.stereology import Kind, Profiles, Stereology, Tolerances, covered_share, measure
from histomri.patches.tissue import Extent, extent_of, points_inside

_OFFSET = "nucleus_offset_um"  # distance between the centroids of the nucleus and of its cell
_THICK_UM = 20.0
FEW_ZONES = "the field holds too few zones for an interval"
_NUMBERS = ("Value", "StatSE", "Syst", "Low95", "High95", "Upper")


@dataclass(frozen=True)
class VolumeSettings:
    """What is stated about a section to measure in three dimensions; see `stereology.measure`."""

    kind: OutlineKind
    thickness_um: float | None
    smallest_um2: float | None = None
    cell_fraction: float | None = None
    tolerances: Tolerances = field(default_factory=Tolerances)
    binucleate_share: float | None = None  # of the cells that have two nuclei
    size: SizeName | None = None  # what is compared with MRI; by default volume, if it is known
    centroid_noise_um: float = 0.0


@dataclass(frozen=True)
class Measured:
    """The cells of a section, or of a part of it, in three dimensions."""

    found: Stereology
    outlines: Outlines
    notes: tuple[str, ...]  # what to know of the results
    area_um2: float  # that was looked at

    @property
    def kind(self) -> Kind:
        """The kind of the outlines."""
        return self.found.kind


def volume_settings(options: PatchOptions) -> VolumeSettings | None:
    """Return what options state for maps in 3D; None if none are to be made."""
    if options.outline_kind is None:
        return None
    tolerances = Tolerances(
        options.section_thickness_error_um, options.shrinkage_error, options.nucleus_limit_error,
        options.cell_fraction_error,
    )  # fmt: skip
    thickness, limit = options.section_thickness_um, options.nucleus_limit_um2
    return VolumeSettings(
        options.outline_kind, thickness, limit, options.cell_fraction, tolerances, options.binucleate_share,
        options.size, options.centroid_noise_um,
    )  # fmt: skip


def measure_cells(
    cells: CellTable, tissue: BaseGeometry | None, settings: VolumeSettings, shrinkage: float
) -> Measured:
    """Measure the cells of a table inside the tissue and the region of interest in three dimensions.

    Raises
    ------
    InputError
        If the kind is not clear, or a fact that is needed is missing; see `stereology.measure`.
    """
    (kind, outlines), extent = settle_outlines(cells, settings.kind), extent_of(cells, tissue)
    inside = _inside(cells, extent)
    profiles, lost = _profiles(cells, kind, inside)
    covered, overlap = covered_share(cells, inside, extent) if kind in ("M", "E") else (None, 0.0)
    if kind == "M" and known_nuclei(cells)[inside].all():
        covered = None  # masks only where nuclei are seen: more cells cover the section
    found = measure(
        profiles, kind=kind, thickness_um=settings.thickness_um, smallest_um2=settings.smallest_um2,
        shrinkage=shrinkage, field_um2=extent.area_um2, cell_fraction=settings.cell_fraction,
        tolerances=settings.tolerances, extent=extent, mask_coverage=covered, overlap=overlap,
        offset_noise_um2=settings.centroid_noise_um**2,
    )  # fmt: skip
    if settings.thickness_um is not None and settings.thickness_um > _THICK_UM:
        lost.append(f"a section of {settings.thickness_um:g} µm is unusually thick: is that its thickness as cut?")
    return Measured(found, outlines, (*found.flags, *lost), extent.area_um2)


def results_of(found: Stereology) -> dict[str, dict[str, Any]]:
    """Return the results of a section as plain data; numbers that are not known are None."""
    results = {}
    for name, one in found.estimates.items():
        entry = {"Value": one.value, "Units": one.unit, "StatSE": one.stat, "StatDF": one.freedom, "Syst": one.syst}
        entry |= {"Low95": one.low, "High95": one.high, "Upper": one.upper, "Reason": one.reason}
        if name in found.settings.get("FewZones", ()):  # its blocks are too alike within, and its interval too narrow
            entry |= {"Low95": None, "High95": None, "Reason": FEW_ZONES}
        results[name] = {key: as_plain(value) for key, value in entry.items()}
    return results


def as_plain(value: Any) -> Any:
    """Return a number that is not known as None."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def cells_per_nuclei(kind: Kind, share: float) -> dict[str, float]:
    """Return the factors by which results of nuclei become those of cells, of which a share has two nuclei.

    The density of cells, under the name of that of nuclei, and the sizes that follow from it.
    """
    per_cell = 1.0 + share
    sizes = {"Dvol": float(np.cbrt(per_cell)), "vCSvol": float(np.cbrt(per_cell))} if kind in ("N", "R") else {}
    return {"nucleiNV": 1.0 / per_cell, **sizes}


def count_cells(results: Mapping[str, dict[str, Any]], kind: Kind, share: float) -> dict[str, dict[str, Any]]:
    """Return results with the density of cells, where a share of the cells has two nuclei."""
    factors = cells_per_nuclei(kind, share)
    new = {"cellNV": _scaled(results["nucleiNV"], factors.pop("nucleiNV"))}
    new |= {name: _scaled(results[name], factor) for name, factor in factors.items() if name in results}
    return {**results, **new}


def _scaled(result: dict[str, Any], by: float) -> dict[str, Any]:
    return {key: value * by if key in _NUMBERS and value is not None else value for key, value in result.items()}


def _inside(cells: CellTable, extent: Extent) -> BoolArray:
    """Return which cells lie inside the extent, (N,)."""
    x, y = (cells.data[name].to_numpy(dtype=float) for name in ("x_um", "y_um"))
    return points_inside(x, y, extent)


def _profiles(cells: CellTable, kind: Kind, inside: BoolArray) -> tuple[Profiles, list[str]]:
    """Return the profiles of the cells that are inside, and what was left out."""
    data, said = cells.data, []
    x, y = (data[name].to_numpy(dtype=float) for name in ("x_um", "y_um"))
    nucleus = data["area_um2" if cells.metadata.compartment == "nucleus" else "nucleus_area_um2"].to_numpy(dtype=float)
    if kind != "E":
        known = np.isfinite(nucleus) if kind == "N" else known_nuclei(cells)
        if not known.any():
            raise InputError(
                "the table has no areas of nuclei, which outlines of this kind need",
                hint="export them from QuPath, or pass --outline-kind E if every cell was outlined",
            )
        if lost := int(np.count_nonzero(inside & ~known)):
            said.append(f"{lost:,} cells without the area of their nucleus were left out of the maps in 3D")
        inside = inside & known
    area = data["area_um2"].to_numpy(dtype=float)[inside]
    own = None if kind == "E" else nucleus[inside]
    known_offset = kind == "M" and _OFFSET in data
    offset = data[_OFFSET].to_numpy(dtype=float)[inside] if known_offset else None
    return Profiles(own, None if kind == "N" else area, x[inside], y[inside], offset), said
