"""Pair histology maps with MRI maps: voxel by voxel through a transform, or means of whole samples."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from histomri.analysis.summary import error_of_mean, order_columns, summarise_voxels, trimmed_mean
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.columns import (
    COUNTS,
    FIT_QUALITY,
    KEYS,
    MEASUREMENTS,
    MEASURES,
    POSITION,
    STAT,
    SYST,
    column_of,
    latest_last,
)  # fmt: skip
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.pairing.maps import find_slice, onto_slice, read_mri, require_same_grid, slice_of
from histomri.pairing.registered import SEED, Drawn, with_registration
from histomri.pairing.section import Section, read_section
from histomri.pairing.table import PairedTable
from histomri.registration import Transform

Fits = Mapping[tuple[str, str], Mapping[str, Image]]
_NEEDED = ("vCS", "F")
_FEW_VOXELS = 30
_VOLUMES = ("vCSvol", "vCS", "Dvol", "F", "cellNV")


class _Case(NamedTuple):
    sample: str
    group: str | None
    scanner: str | None


def pair_maps(
    histology: Section | Mapping[str, Image] | str | Path, mri: Fits | str | Path,
    transform: Transform | str | Path | None = None, *, mri_slice: int | None = None, sample: str = "sample",
    group: str | None = None, scanner: str | None = None, mask: Image | str | Path | None = None,
    common: Mapping[str, Image] | None = None, draws: int = 0,
) -> PairedTable:  # fmt: skip
    """Pair every voxel of an MRI slice with the histology at the same place: one row per voxel x model x strategy.

    A voxel is paired if vCS and F are finite on both sides (a section in 3D may have no F), it was fitted (exit code
    1, or 2: a parameter at its bound, which stays in and is flagged in `at_bound`), it lies in the mask, and at least
    half of the interpolation weights of the histology fell on measured patches. What is left out is counted by reason
    in `counts`.

    Parameters
    ----------
    histology : Section, mapping of str to Image, or path-like
        (ny, nx) maps by name, all on one grid, of which vCS and F are needed; what `read_section` returns, which says
        whether they are as published or in 3D; or the folder of `histomri patches`. Standard errors (vCS_se) and
        errors that all patches share (vCS_syst) become columns of their own; between patches they are interpolated.
    mri : mapping of (model, strategy) to mapping of str to Image, or path-like
        (I, J) or (I, J, K) fitted maps by name, all on one grid, of which vCS and F are needed, exit and BIC are used;
        or the folder of `histomri fit`. Standard errors (vCS_se) of what is measured become columns of their own.
    transform : Transform or path-like, optional
        Histology world to MRI world. Without it both sides must share one grid.
    mri_slice : int, optional
        Slice of the MRI; by default the one in which the transform puts the histology.
    mask : Image or path-like, optional
        On the grid of the MRI; voxels that are zero or NaN are left out.
    common : mapping of str to Image, optional
        MRI maps that belong to no model, such as ADC and K.
    draws : int
        Transforms to draw around the one that was found, so that `parameters` say what the error of the registration
        does to the correlations: see `registered.with_registration`.

    Raises
    ------
    InputError
        If a map is missing, or no transforms can be drawn; GeometryError if grids differ without a transform, or the
        slice does not exist.

    Examples
    --------
    >>> import numpy as np
    >>> from histomri.core.images import Image
    >>> from histomri.pairing import pair_maps
    >>> here = lambda value: Image(np.full((2, 3), value), np.eye(4))
    >>> histology = {'vCS': here(20.0), 'F': here(0.6)}
    >>> mri = {('diff-in', 'high-b'): {'vCS': here(19.0), 'F': here(0.5), 'exit': here(1.0)}}
    >>> pair_maps(histology, mri, sample='m1')
    PairedTable(rows: 6, a row is a: voxel, samples: 1, models: 1)
    """
    case, section = _Case(sample, group, scanner), _section(histology)
    histology, mri, common, mask, reference = _checked(section, mri, common, mask)
    transform = Transform.load(transform) if isinstance(transform, str | Path) else transform
    first = next(iter(histology.values()))
    k = find_slice(first, reference, transform) if mri_slice is None else mri_slice
    like = slice_of(reference, k)
    if transform is None:
        find_slice(first, like, None)  # raises if the grids differ
    resampled: dict[str, FloatArray] = {}
    coverage: FloatArray = np.zeros(like.data.shape)
    for name, image in histology.items():
        resampled[column_of(name, "histo")], covered = onto_slice(image, like, transform)
        coverage = covered if name == "vCS" else coverage
    inside = np.ones(like.data.shape, bool) if mask is None else np.nan_to_num(slice_of(mask, k).data) > 0
    needed = [column_of(name, "histo") for name in _needed(section)]
    measured = np.all([np.isfinite(resampled[name]) for name in needed], axis=0)
    frames, counts, shape = [], [], _size_over_volume(histology)
    for key, maps in mri.items():
        slices = {name: slice_of(image, k).data for name, image in {**common, **maps}.items() if _is_paired(name)}
        values = {column_of(name, "mri"): np.asarray(data, dtype=float) for name, data in slices.items()}
        values = _with_number(values, shape)
        fitted, failed = _fitted(values)
        keep = fitted & measured & inside
        columns = {**values, **resampled, "coverage_histo": coverage}
        frames.append(_rows(case, key, columns, keep, like, k if reference.data.ndim == 3 else 0))
        used = (fitted & inside, failed & inside, fitted & inside & ~measured, measured & inside & ~fitted)
        counts.append(_count(case, key, (*used, ~inside & (fitted | measured))))
    how: dict[str, Any] = {"mri_slice": {sample: k}, "pairing": {sample: "voxels"}, **section.about(sample)}
    drawn = Drawn.of(section.maps, like, transform, draws, SEED) if draws and transform is not None else None
    data, record = with_registration(pd.concat(frames, ignore_index=True), transform, drawn, k)
    how |= {} if record is None else {"registration": {sample: record}}
    tally = pd.DataFrame(counts, columns=list(COUNTS))
    table = PairedTable(data, "voxel", tally, how, described=section.columns())
    return replace(table, warnings=(*_lacks(case, section), *_warn(case, table.per_sample())))


def pair_means(
    histology: Section | Mapping[str, Image] | str | Path, mri: Fits | str | Path, *, sample: str = "sample",
    group: str | None = None, scanner: str | None = None, mask: Image | str | Path | None = None,
    common: Mapping[str, Image] | None = None,
) -> PairedTable:  # fmt: skip
    """Pair the mean of all patches with the mean of all voxels, where nothing can be registered (biopsies).

    Parameters are those of `pair_maps`; the mask says which voxels belong to the biopsied tissue. There is one row per
    model x strategy, with n_voxels of the MRI and n_patches of the histology.
    """
    case, section = _Case(sample, group, scanner), _section(histology)
    histology, mri, common, mask, reference = _checked(section, mri, common, mask)
    volume = reference.data.shape
    inside = np.ones(volume, bool) if mask is None else np.nan_to_num(mask.data) > 0
    frames, counts, shape = [], [], _size_over_volume(histology)
    for key, maps in mri.items():
        present = {name: image for name, image in {**common, **maps}.items() if _is_paired(name)}
        values = {column_of(name, "mri"): np.asarray(image.data) for name, image in present.items()}
        values = _with_number(values, shape)
        fitted, failed = _fitted(values)
        frames.append(_rows(case, key, values, fitted & inside, reference, 0))
        nothing = np.zeros(volume, bool)
        counts.append(_count(case, key, (fitted & inside, failed & inside, nothing, nothing, fitted & ~inside)))
    tally = pd.DataFrame(counts, columns=list(COUNTS))
    table = summarise_voxels(pd.concat(frames, ignore_index=True), tally)
    for name, image in histology.items():
        column, measured = column_of(name, "histo"), image.data[np.isfinite(image.data)]
        if name.endswith((STAT, SYST)):
            table[column] = _error_of_mean(name, image, histology)
            continue
        table[column] = measured.mean() if measured.size else np.nan
        table[f"{column}_median"] = np.median(measured) if measured.size else np.nan
        if column in MEASURES:
            table[f"{column}_trimmed"] = trimmed_mean(measured)
    table["n_patches"] = int(np.isfinite(histology["vCS"].data).sum())
    warnings = (*_lacks(case, section), *_warn(case, table))
    if mask is None:
        text = f"the MRI is the mean of all {int(table['n_voxels'].max())} fitted voxels, of whatever tissue"
        warnings += (f"{sample}: without a mask {text}: give a mask of the region that the section was taken from",)
    table["pairing"] = "means"
    how = {"pairing": {sample: "means"}, **section.about(sample)}
    return PairedTable(order_columns(table), "sample", tally, how, warnings, section.columns())


def _error_of_mean(name: str, image: Image, histology: Mapping[str, Image]) -> float:
    """Return the error of the mean of all patches: independent of each other by sampling, the same systematically."""
    of = histology.get(name.removesuffix(STAT).removesuffix(SYST))
    errors = np.asarray(image.data if of is None else image.data[np.isfinite(of.data)], dtype=float)
    if name.endswith(STAT):
        return error_of_mean(errors)
    return float(errors.mean()) if errors.size else float("nan")


def _section(histology: Section | Mapping[str, Image] | str | Path) -> Section:
    """Return the histology with what it is; maps that are given by name are taken as published."""
    if isinstance(histology, str | Path):
        return read_section(Path(histology), errors=True)
    return histology if isinstance(histology, Section) else Section(dict(histology), [], "paper", {}, {})


def _needed(section: Section) -> tuple[str, ...]:
    """Return the maps of histology without which a voxel is not paired."""
    return _NEEDED if section.size == "paper" or section.has_fraction else _NEEDED[:1]


def _checked(
    section: Section, mri: Fits | str | Path, common: Mapping[str, Image] | None, mask: Image | str | Path | None,
) -> tuple[Mapping[str, Image], Fits, Mapping[str, Image], Image | None, Image]:  # fmt: skip
    """Return the maps, read from their folders where those were given, and one on the grid that all of MRI share."""
    histology = section.maps
    if isinstance(mri, str | Path):
        mri, of_no_model, _ = read_mri(Path(mri), errors=True, within_bounds=True)
        common = {**of_no_model, **(common or {})}
    common, mask = common or {}, Image.load(mask) if isinstance(mask, str | Path) else mask
    if not mri:
        raise InputError("there are no fitted MRI maps to pair", hint="run histomri fit first")
    for name in _needed(section):
        if name not in histology:
            raise InputError(f"histology: the map {name} is missing")
    for (model, strategy), maps in mri.items():
        for name in _NEEDED:
            if name not in maps:
                raise InputError(f"MRI, {model}, {strategy}: the map {name} is missing")
    require_same_grid(histology, "histology")
    everything = {f"{' '.join(key)} {name}": image for key, maps in mri.items() for name, image in maps.items()}
    everything |= dict(common) | ({} if mask is None else {"the mask": mask})
    return histology, mri, common, mask, require_same_grid(everything, "MRI")


def _size_over_volume(histology: Mapping[str, Image]) -> float | None:
    """Return vCS³ over the mean cube of the diameters of the cells, (1 + CV²)^10.5 of lognormal ones.

    From medians over the section of its stereology: vCSvol or vCS, and Dvol, or F and cellNV. None without them, as in
    maps as published.
    """
    middle = {name: float(np.nanmedian(histology[name].data)) for name in _VOLUMES if _measured(histology.get(name))}
    size = middle.get("vCSvol", middle.get("vCS"))
    cube = middle["Dvol"] ** 3 if "Dvol" in middle else None
    if cube is None and {"F", "cellNV"} <= set(middle) and middle["cellNV"] > 0:
        cube = 6e9 * middle["F"] / (np.pi * middle["cellNV"])
    return size**3 / cube if size is not None and cube is not None and size**3 >= cube > 0 else None


def _measured(image: Image | None) -> bool:
    return image is not None and bool(np.isfinite(image.data).any())


def _with_number(values: dict[str, FloatArray], shape: float | None) -> dict[str, FloatArray]:
    """Return the values with the number of cells per volume, where the section shows how diameters scatter."""
    if shape is None or "CDsphere_mri_mm3" not in values or "cellNV_mri_mm3" in values:
        return values
    return values | {"cellNV_mri_mm3": shape * values["CDsphere_mri_mm3"]}


def _is_paired(name: str) -> bool:
    """Return whether a map of MRI has a column: of errors, only those of what is correlated with histology have."""
    return not name.endswith(STAT) or column_of(name.removesuffix(STAT), "mri") in MEASUREMENTS


def _fitted(values: Mapping[str, FloatArray]) -> tuple[BoolArray, BoolArray]:
    """Return which voxels were fitted and which were tried in vain; background is neither."""
    finite = np.isfinite(values["vCS_mri_um"]) & np.isfinite(values["F_mri"])
    if "exit" not in values:
        return finite, np.zeros(finite.shape, bool)
    code = np.nan_to_num(values["exit"])
    fitted = finite & np.isin(code, (1, 2))
    return fitted, (code != 0) & ~fitted


def _rows(
    case: _Case, key: tuple[str, str], columns: Mapping[str, FloatArray], keep: BoolArray, grid: Image, k: int
) -> pd.DataFrame:
    index = np.nonzero(keep)
    ijk = np.stack(index if len(index) == 3 else (*index, np.zeros(len(index[0]), int)))
    world = grid.affine[:3, :3] @ ijk + grid.affine[:3, 3:]
    if len(index) == 2:
        ijk[2] = k  # the grid is that slice already, so its own third index is 0
    n = ijk.shape[1]
    data: dict[str, object] = dict(zip(KEYS, (*case, *key)))
    data |= dict(zip(POSITION, (*ijk, *world)))
    data |= {name: np.full(n, np.nan) for name in (*MEASURES, "BIC", "exit")}
    data |= {name: np.asarray(values, dtype=float)[keep] for name, values in columns.items()}
    frame = pd.DataFrame(data, index=range(n))
    frame["at_bound"] = frame["exit"].eq(2)
    first = [*KEYS, *POSITION, *MEASURES, *[name for name in FIT_QUALITY if name in frame]]
    return frame[[*first, *latest_last(name for name in frame.columns if name not in first)]]


def _count(case: _Case, key: tuple[str, str], masks: tuple[BoolArray, ...]) -> tuple[object, ...]:
    return (*case, *key, *(int(mask.sum()) for mask in masks))


def _lacks(case: _Case, section: Section) -> tuple[str, ...]:
    return tuple(f"{case.sample}: {text}" for text in section.lack())


def _warn(case: _Case, rows: pd.DataFrame) -> tuple[str, ...]:
    """Say what makes the pairs of a sample weak."""
    texts = []
    if (least := rows["n_voxels"].min()) < _FEW_VOXELS:
        texts.append(f"{case.sample}: only {int(least)} voxels are measured on both sides")
    if (failed := rows["n_failed"].max()) > 0:
        texts.append(f"{case.sample}: up to {int(failed)} voxels could not be fitted")
    return tuple(texts)
