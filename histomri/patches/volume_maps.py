"""Maps of cells in three dimensions beside those of a section as it looks: density of nuclei, volume per cell.

They are made where the kind of outline is said; the maps that are made without it stay as they are. Cell sizes and
fractions of kinds M and E are called vCS3D and F3D here, to be told from the vCS and F of profiles.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.core.images import HISTOLOGY_MAPS, map_name
from histomri.patches.maps import PatchMaps
from histomri.patches.options import OutlineKind, PatchOptions
from histomri.patches.stereology import Kind, Profiles, Stereology, Tolerances, covered_share, is_rim, measure
from histomri.patches.tissue import Extent, extent_of, points_inside

_NAMES = {"vCS": "vCS3D", "F": "F3D"}
VOLUME_MAPS = ("nucleiNV", "cellNV", "Dvol", "vCSvol", "vCS3D", "F3D", "rimSize", "rimFraction")
_OFFSET = "nucleus_offset_um"  # distance between the centroids of the nucleus and of its cell
_HOW = {"N": "nuclei only", "R": "nucleus and rim", "M": "cell where its nucleus is seen", "E": "every cell"}


@dataclass(frozen=True)
class VolumeSettings:
    """What is told about a section to measure in three dimensions; see `stereology.measure`."""

    kind: OutlineKind
    thickness_um: float | None
    smallest_um2: float | None = None
    cell_fraction: float | None = None
    tolerances: Tolerances = field(default_factory=Tolerances)
    centroid_noise_um: float = 0.0


def volume_settings(options: PatchOptions) -> VolumeSettings | None:
    """Return what options tell for maps in 3D; None if none are to be made."""
    if options.outline_kind is None:
        return None
    tolerances = Tolerances(
        options.section_thickness_error_um, options.shrinkage_error, options.nucleus_limit_error,
        options.cell_fraction_error,
    )  # fmt: skip
    thickness, limit = options.section_thickness_um, options.nucleus_limit_um2
    noise = options.centroid_noise_um
    return VolumeSettings(options.outline_kind, thickness, limit, options.cell_fraction, tolerances, noise)


def add_volume_maps(
    maps: PatchMaps, cells: CellTable, tissue: BaseGeometry | None, settings: VolumeSettings
) -> PatchMaps:
    """Return the maps of a section with those of cells in three dimensions.

    Parameters
    ----------
    maps : PatchMaps
        Maps of the section; their grid and shrinkage count here too.
    cells : CellTable
        The cells they were made of.
    tissue : shapely geometry, optional
        Outline of the tissue, µm.
    settings : VolumeSettings
        The kind of outline and the facts of the section.

    Raises
    ------
    InputError
        If the patches overlap, the kind is not clear, or a fact that is needed is missing.
    """
    if maps.grid.window_um != maps.grid.patch_um:
        raise InputError("patches that overlap have no maps in 3D", hint="leave out --step-um or --outline-kind")
    kind, extent = _kind_of(cells, settings.kind), extent_of(cells, tissue)
    inside = _inside(cells, extent)
    profiles, lost = _profiles(cells, kind, inside)
    covered, overlap = covered_share(cells, inside, extent) if kind in ("M", "E") else (None, 0.0)
    if kind == "M" and _known_nuclei(cells)[inside].all():
        covered = None  # masks only where nuclei are seen: more cells cover the section
    found = measure(
        profiles, kind=kind, thickness_um=settings.thickness_um, smallest_um2=settings.smallest_um2,
        shrinkage=maps.parameters["Shrinkage"], field_um2=extent.area_um2, cell_fraction=settings.cell_fraction,
        tolerances=settings.tolerances, extent=extent, mask_coverage=covered, overlap=overlap,
        offset_noise_um2=settings.centroid_noise_um**2,
    )  # fmt: skip
    valid = np.isfinite(maps.maps["nCells"]).ravel()
    few = maps.maps["nCells"].ravel() < maps.parameters["MinCells"]
    new: dict[str, dict[str, FloatArray]] = {"maps": {}, "errors": {}, "systematic": {}}
    said = [*found.flags, *lost]
    for name, one in found.estimates.items():
        if _NAMES.get(name, name) not in HISTOLOGY_MAPS:
            continue  # nucD and nucCV: of the whole section only, in the sidecars
        if maps.grid.shape != (1, 1) and found.found is not None and not found.found.products[name].powers:
            said.append(f"{_NAMES.get(name, name)} is of the whole section only; for patches take vCS of wicksell")
            continue
        value, stat, flags = _in_patches(found, name, maps)
        value = np.where(valid & ~(few & (not name.endswith("NV"))), value, np.nan)
        stat = np.where(np.isfinite(value), stat, np.nan)
        syst = value * (one.syst / one.value)
        for group, values in zip(new.values(), (value, stat, syst)):
            group[_NAMES.get(name, name)] = np.asarray(values, dtype=float).reshape(maps.grid.shape)
        said += [flag for flag in flags if flag not in said]
    parameters = {**maps.parameters, "Stereology": _record(found, tuple(said))}
    return replace(
        maps, maps={**maps.maps, **new["maps"]}, errors={**maps.errors, **new["errors"]},
        systematic={**maps.systematic, **new["systematic"]}, parameters=parameters, warnings=(*maps.warnings, *said),
    )  # fmt: skip


def _in_patches(found: Stereology, name: str, maps: PatchMaps) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Return values and errors of sampling, flat; one patch has those of the whole section."""
    one, size = found[name], int(np.prod(maps.grid.shape))
    if size == 1 or found.found is None:
        return np.full(size, one.value), np.full(size, one.stat), ()
    part = found.patches(name, maps.grid, maps.maps["tissueFraction"])
    return part.value, part.stat, part.flags


def _kind_of(cells: CellTable, told: OutlineKind) -> Kind:
    """Return the kind of outline; "auto" says what the table shows beyond doubt, and asks otherwise."""
    if told != "auto":
        if cells.metadata.compartment == "nucleus" and told != "N":
            raise InputError(
                f"the detections are nuclei, so their outlines are not of kind {told}", hint="pass --outline-kind N"
            )
        return told
    if cells.metadata.compartment == "nucleus":
        return "N"
    known = _known_nuclei(cells)
    data = cells.data[known]
    if known.any() and is_rim(data["nucleus_area_um2"].to_numpy(), data["area_um2"].to_numpy()):
        return "R"
    raise InputError(
        "the table does not show what its outlines are",
        hint="pass --outline-kind: R for QuPath's cell detection (nucleus and rim), M for cells outlined by a model "
        "where their nucleus is seen, E for every cell with a nucleus or without",
    )


def _known_nuclei(cells: CellTable) -> BoolArray:
    return np.asarray(np.isfinite(cells.data["nucleus_area_um2"].to_numpy(dtype=float)))


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
        known = np.isfinite(nucleus)
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


def _record(found: Stereology, said: tuple[str, ...]) -> dict[str, Any]:
    """Return settings and results of the whole section for the sidecars; numbers that are not known are None."""
    results = {}
    for name, one in found.estimates.items():
        entry = {"Value": one.value, "Units": one.unit, "StatSE": one.stat, "StatDF": one.freedom, "Syst": one.syst}
        entry |= {"Low95": one.low, "High95": one.high, "Upper": one.upper, "Reason": one.reason}
        results[_NAMES.get(name, name)] = {key: _plain(value) for key, value in entry.items()}
    settings = {key: _plain(value) for key, value in found.settings.items()}
    return {**settings, "Outlines": _HOW[found.kind], "Results": results, "Notes": list(said)}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def stale_files(folder: Path, sub: str | None, written: Iterable[Path]) -> Iterator[Path]:
    """Yield the maps in 3D that an earlier run left, with their sidecars: they belong to other maps."""
    new = set(written)
    for name in VOLUME_MAPS:
        for errors in ({}, {"stat": "se"}, {"stat": "syst"}):
            path = folder / map_name(name, "histomap", sub=sub, **errors)
            both = (path, path.with_name(path.name.removesuffix(".nii.gz") + ".json"))
            yield from (one for one in both if path not in new and one.is_file())


def volume_message(maps: PatchMaps) -> tuple[str, ...]:
    """Return a line for the user: the whole section in three dimensions, each number with both its errors."""
    record = maps.parameters.get("Stereology")
    if record is None:
        return ()
    parts = []
    for name, one in record["Results"].items():
        if one["Value"] is None:
            continue
        shares = {word: one[key] for key, word in (("StatSE", "stat"), ("Syst", "syst")) if one[key] is not None}
        errors = [f"{100 * share / one['Value']:.1f} % ({word})" for word, share in shares.items()]
        unit = {"1/mm^3": " /mm³", "um": " µm"}.get(one["Units"], "")
        parts.append(f"{name} {one['Value']:.4g}{unit}" + (f" ± {' ± '.join(errors)}" if errors else ""))
    return (f"in 3D (outlines of kind {record['Kind']}: {record['Outlines']}): {'; '.join(parts) or 'no numbers'}",)
