"""Numbers in three dimensions for each region, class of regions or TMA core: the last columns of rois.csv."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.errors import InputError
from histomri.patches.cells_in_3d import Measured, VolumeSettings, count_cells, measure_cells, results_of
from histomri.patches.outlines import settle_outlines
from histomri.patches.stereology import Kind, names_of, part_value

_UNITS = {"nucleiNV": "_mm3", "cellNV": "_mm3", "F": "", "nucCV": "", "rimFraction": ""}  # others are in µm
_PER_PLACE = ("nucleiNV", "cellNV", "F", "rimFraction")  # 0 where there is no cell
_COLUMNS = {"": "Value", "_se": "StatSE", "_syst": "Syst", "_low": "Low95", "_high": "High95"}
_Z95 = 1.959964
_NAN = float("nan")


class RegionsIn3D:
    """Measures the regions of one table; the kind of the outlines is that of all its cells."""

    def __init__(self, cells: CellTable, tissue: BaseGeometry | None, settings: VolumeSettings) -> None:
        self.kind: Kind = settle_outlines(cells, settings.kind)[0]
        self.settings = replace(settings, kind=self.kind)
        self._measure_all: Callable[[float], Measured] = lambda p: measure_cells(cells, tissue, self.settings, p)
        self._all: Measured | None = None

    def columns(self, cells: CellTable | None, part: BaseGeometry, shrinkage: float) -> dict[str, Any]:
        """Return the columns of one region.

        Parameters
        ----------
        cells : CellTable, optional
            The cells in the region, without a region of interest of their own; None if there are none.
        part : shapely geometry
            The region, µm.
        shrinkage : float
            Of the section.

        Returns
        -------
        dict
            Each quantity with its errors of sampling (``_se``) and by what was said (``_syst``), and the 95 % interval
            by the first; for F also the upper end where masks leave only an interval. Then whether the sizes are those
            of the region's own cells or of all cells of the table, which holds for regions with few, and notes.
        """
        names = list(names_of(self.kind, self.settings.cell_fraction is not None))
        share = self.settings.binucleate_share
        results, source, notes = self._results(cells, part, shrinkage)
        if share is not None:
            names.insert(1, "cellNV")
            results = count_cells(results, self.kind, share) if results else {}
        row: dict[str, Any] = {}
        for name in names:
            entry = results.get(name) or {"Value": 0.0 if cells is None and name in _PER_PLACE else _NAN}
            column = f"{name}{_UNITS.get(name, '_um')}"
            row |= {column + end: _number(entry.get(key)) for end, key in _COLUMNS.items()}
            if name == "F":
                row["F_upper"] = _number(entry.get("Upper"))
        return {**row, "sizes_of": source, "notes_3d": "; ".join(notes)}

    def _results(
        self, cells: CellTable | None, part: BaseGeometry, shrinkage: float
    ) -> tuple[dict[str, dict[str, Any]], str, tuple[str, ...]]:
        if cells is None:
            return {}, "", ("no cells",)
        try:
            own = measure_cells(cells, part, self.settings, shrinkage)
        except InputError as error:  # of one region, which does not stop the others
            return {}, "", (error.problem,)
        if own.found.found is not None:
            results = results_of(own.found)
            return results, "region", (*own.notes, *_reasons(results))
        self._all = self._all or self._measure_all(shrinkage)
        pooled = _pooled(self._all, part)
        return (pooled, "all cells", own.notes) if pooled else ({}, "", own.notes)


def _reasons(results: dict[str, dict[str, Any]]) -> list[str]:
    """Return why numbers or their errors are missing."""
    names: dict[str, list[str]] = {}
    for name, entry in results.items():
        if entry["Reason"] is not None:
            names.setdefault(entry["Reason"], []).append(name)
    return [f"{', '.join(members)}: {reason}" for reason, members in names.items()]


def _pooled(whole: Measured, part: BaseGeometry) -> dict[str, dict[str, Any]]:
    """Return the results of a part with the sizes of the whole; empty if the whole has none either."""
    found, profiles = whole.found.found, whole.found.profiles
    if found is None or profiles is None:
        return {}
    inside = shapely.contains_xy(part, profiles.x_um, profiles.y_um)
    results = {}
    for name, one in whole.found.estimates.items():
        value, error = part_value(found, name, inside, float(part.area) / whole.area_um2)
        entry = {"Value": value, "StatSE": error, "Syst": value * one.syst / one.value}
        results[name] = entry | {"Low95": max(value - _Z95 * error, 0.0), "High95": value + _Z95 * error}
        if name in whole.found.settings.get("FewZones", ()):
            results[name] |= dict.fromkeys(("Low95", "High95"), _NAN)
    return results


def _number(value: Any) -> float:
    return _NAN if value is None else float(value)
