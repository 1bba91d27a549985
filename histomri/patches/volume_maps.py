"""Maps of cells in three dimensions: density of nuclei and cells, volume per cell, and sizes from outlines of cells.

They are made where the kind of outline is said, and then stand in place of the maps of profiles, which keep the name of
the paper (`PatchMaps.paper`). Kinds M and E give vCS and F of cells; kinds N and R never do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from shapely.geometry.base import BaseGeometry

from histomri.cells import CellTable
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import sidecar_path
from histomri.core.images import HISTOLOGY_MAPS, PAPER, PAPER_UNCORRECTED, map_name
from histomri.core.options import SizeName
from histomri.patches.cells_in_3d import (
    VolumeSettings,
    as_plain,
    cells_per_nuclei,
    count_cells,
    measure_cells,
    results_of,
)
from histomri.patches.maps import SHARED, PatchMaps
from histomri.patches.outlines import WORDS
from histomri.patches.stereology import Stereology
from histomri.patches.summarise import unfold_sizes

_MEANINGS = {
    "vCS": "Volume-weighted cell size from outlines of cells, in three dimensions",
    "F": "Share of the volume that is cells, from outlines of cells, in three dimensions",
}
_OF_PROFILES = (
    "Section", "SectionFactor", "SizeFactor", "SectionThickness_um", "SizeErrors", "DispersionOfCount",
    "DispersionOfArea", "DispersionTiles", "Cell",
)  # fmt: skip
_SIZES = ("vCS", "vCSvol")  # what may be compared with the cell size of MRI


def add_volume_maps(
    maps: PatchMaps, cells: CellTable, tissue: BaseGeometry | None, settings: VolumeSettings
) -> PatchMaps:
    """Return the maps of cells in three dimensions, with those of profiles beside them as `paper`.

    Parameters
    ----------
    maps : PatchMaps
        Maps of the profiles; their grid and shrinkage count here too.
    cells : CellTable
        The cells they were made of.
    tissue : shapely geometry, optional
        Outline of the tissue, µm.
    settings : VolumeSettings
        The kind of outline and the facts of the section.

    Returns
    -------
    PatchMaps
        nucleiNV (kind E: cellNV, 1/mm³); kinds M and E: vCS (µm) and F of cells, M also Dvol (µm); kinds N and R:
        Dvol and vCSvol (µm) if a cell fraction is given, R also rimSize (µm) and rimFraction. With a share of
        binucleate cells cellNV too. `errors` are those of sampling, `systematic` those by what was said.

    Raises
    ------
    InputError
        If the patches overlap, the kind is not clear, or a fact that is needed is missing.
    """
    if maps.grid.window_um != maps.grid.patch_um:
        raise InputError("patches that overlap have no maps in 3D", hint="leave out --step-um or --outline-kind")
    measured = measure_cells(cells, tissue, settings, maps.parameters["Shrinkage"])
    found, outlines = measured.found, measured.outlines
    new = _Volume(maps, found)
    for name in found.estimates:
        new.add(name)
    if found.kind == "E" and maps.grid.shape != (1, 1) and found.found is not None:
        new.take_sizes(*unfold_sizes(cells, maps, tissue, found.settings["Thickness_um"]))
    if settings.binucleate_share is not None:
        new.count_cells(settings.binucleate_share)
    size = _choose_size(settings.size, tuple(new.maps))
    said = (*measured.notes, *new.said)
    record = new.record | {"Missing": new.missing(), "Notes": list(said)}
    kept = {key: value for key, value in maps.parameters.items() if key not in _OF_PROFILES}
    about = {**outlines.record(), **size}
    return PatchMaps(
        {**new.maps, **{name: maps.maps[name] for name in SHARED}}, {}, maps.grid,
        {**kept, **about, "Stereology": record}, said, new.errors, new.systematic,
        {name: text for name, text in _MEANINGS.items() if name in new.maps},
        replace(maps, parameters={**maps.parameters, **about}, meanings=outlines.meanings()),
    )  # fmt: skip


def _choose_size(asked: SizeName | None, names: tuple[str, ...]) -> dict[str, Any]:
    """Return which numbers are compared with MRI, and why, for the sidecars."""
    if asked == "paper":
        return {"Size": "paper", "SizeWhy": "asked for"}
    if any(name in names for name in _SIZES):
        return {"Size": "volume", "SizeWhy": "asked for" if asked else "kind of outline and thickness are known"}
    if asked == "volume":
        raise InputError(
            "nuclei alone give no cell size: it needs the share of the tissue's volume that is cells",
            hint="pass --cell-fraction, or --size paper",
        )
    return {"Size": "paper", "SizeWhy": "there is no size of cells in 3D without --cell-fraction"}


class _Volume:
    """The maps in three dimensions while they are put together, with the numbers of the whole for the sidecars."""

    def __init__(self, maps: PatchMaps, found: Stereology) -> None:
        self.of, self.found = maps, found
        self.maps: dict[str, FloatArray] = {}
        self.errors: dict[str, FloatArray] = {}
        self.systematic: dict[str, FloatArray] = {}
        self.said: list[str] = []
        self.record = _record(found)
        self.valid = np.isfinite(maps.maps["nCells"])
        self.few = maps.maps["nCells"] < maps.parameters["MinCells"]

    def add(self, name: str) -> None:
        """Add a quantity; nucD and nucCV, and others that no patch has, are in the sidecars only."""
        one, found = self.found[name], self.found.found
        if name not in HISTOLOGY_MAPS:
            return
        if self.of.grid.shape != (1, 1) and found is not None and not found.products[name].powers:
            return
        value, stat, flags = _in_patches(self.found, name, self.of)
        self._put(name, value, stat, one.syst / one.value)
        self.said += [flag for flag in flags if flag not in self.said]

    def take_sizes(self, vcs: FloatArray, error: FloatArray) -> None:
        """Add the cell size of patches, which was unfolded by moments: that needs every profile, as kind E has them."""
        one = self.found["vCS"]
        self._put("vCS", vcs.ravel(), error.ravel(), one.syst / one.value)
        self.said.append("vCS of patches is unfolded by moments (wicksell), that of the whole by its distribution")

    def count_cells(self, share: float) -> None:
        """Turn nuclei into cells, of which a share has two."""
        factors = cells_per_nuclei(self.found.kind, share)
        per_nucleus = factors.pop("nucleiNV")
        for group in (self.maps, self.errors, self.systematic):
            if "nucleiNV" in group:
                group["cellNV"] = group["nucleiNV"] * per_nucleus
            group |= {name: group[name] * factor for name, factor in factors.items() if name in group}
        self.record["Results"] = count_cells(self.record["Results"], self.found.kind, share)
        self.record["BinucleateShare"] = share

    def missing(self) -> dict[str, str]:
        """Return, for each map that lacks a value in patches that were looked at, how many and why."""
        texts = {}
        for name, values in self.maps.items():
            lost = self.valid & np.isnan(values)
            result = self.record["Results"].get(name, {})
            if not lost.any():
                continue
            why = result.get("Reason") if result.get("Value") is None else None
            few = int((lost & self.few).sum())
            other = "too few cells for unfolding" if name == "vCS" else "no nucleus was seen in them"
            parts = [f"{few} have fewer cells than --min-cells"] if few else []
            parts += [other] if few < lost.sum() else []
            texts[name] = f"{int(lost.sum())} patches: {why or '; '.join(parts)}"
        return texts

    def _put(self, name: str, value: FloatArray, stat: FloatArray, relative_syst: float) -> None:
        shape = self.of.grid.shape
        value = np.asarray(value, dtype=float).reshape(shape)
        counted = name.endswith("NV")
        value = np.where(self.valid & (counted | ~self.few), value, np.nan)
        self.maps[name] = value
        self.errors[name] = np.where(np.isfinite(value), np.asarray(stat, dtype=float).reshape(shape), np.nan)
        self.systematic[name] = value * relative_syst


def _in_patches(found: Stereology, name: str, maps: PatchMaps) -> tuple[FloatArray, FloatArray, tuple[str, ...]]:
    """Return values and errors of sampling, flat; one patch has those of the whole section."""
    one, size = found[name], int(np.prod(maps.grid.shape))
    if size == 1 or found.found is None:
        return np.full(size, one.value), np.full(size, one.stat), ()
    part = found.patches(name, maps.grid, maps.maps["tissueFraction"])
    return part.value, part.stat, part.flags


def _record(found: Stereology) -> dict[str, Any]:
    """Return settings and results of the whole section for the sidecars; numbers that are not known are None."""
    settings = {key: as_plain(value) for key, value in found.settings.items()}
    return {**settings, "Outlines": WORDS[found.kind], "Results": results_of(found)}


def stale_files(folder: Path, sub: str | None, written: Iterable[Path]) -> Iterator[Path]:
    """Yield the maps that an earlier run left, with their sidecars: beside those of this run they would mix."""
    new = set(written)
    kinds = [{"desc": desc, "stat": stat} for desc in (None, PAPER) for stat in (None, "se", "syst")]
    kinds += [{"desc": "uncorrected"}, {"desc": PAPER_UNCORRECTED}]
    for name in HISTOLOGY_MAPS:
        for entities in kinds:
            path = folder / map_name(name, "histomap", sub=sub, **entities)
            yield from (one for one in (path, sidecar_path(path)) if path not in new and one.is_file())


def volume_message(maps: PatchMaps) -> tuple[str, ...]:
    """Return lines for the user: the whole section in three dimensions, and which numbers go with MRI."""
    record = maps.parameters.get("Stereology")
    if record is None:
        return ()
    lines = [f"in 3D (outlines of kind {record['Kind']}: {record['Outlines']}), whole section:"]
    for name, one in record["Results"].items():
        if one["Value"] is not None:
            lines.append(f"  {name} {_with_errors(one)}")
    if len(lines) == 1:
        lines[0] += " no numbers"
    return (*lines, size_message(maps))


def _with_errors(one: dict[str, Any]) -> str:
    """Return a result with its unit and both errors in percent, to print."""
    value, upper = one["Value"], one["Upper"]
    text = f"{value:,.4g}" if value < 1e4 else f"{float(f'{value:.4g}'):,.0f}"
    text += f" to {upper:.2g}" if upper is not None else ""
    text += {"1/mm^3": " /mm³", "um": " µm"}.get(one["Units"], "")
    shares = {word: one[key] for key, word in (("StatSE", "stat"), ("Syst", "syst")) if one[key]}
    errors = [f"{100 * share / value:.1f} % ({word})" for word, share in shares.items()]
    return text + (f" ± {' ± '.join(errors)}" if errors else "")


def size_message(maps: PatchMaps) -> str:
    """Say which numbers of a section are compared with MRI."""
    of = maps.parameters
    if of["Size"] == "paper":
        return f"compared with MRI (--size paper; {of['SizeWhy']}): vCS, F and CD as published (desc-paper)"
    if not any(np.isfinite(maps.maps[name]).any() for name in _SIZES if name in maps.maps):
        return "compared with MRI: nothing, as no patch has a size of cells in 3D; --size paper takes vCS as published"
    model_based = "vCSvol, model-based; no F, which was stated and not measured"
    size = "vCS and F of cells" if "vCS" in maps.maps else model_based
    density = "cellNV" if "cellNV" in maps.maps else "nucleiNV"
    return f"compared with MRI (--size volume; {of['SizeWhy']}): {size}; {density}"
