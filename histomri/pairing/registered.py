"""What is known of the registration of paired voxels: how it was judged, and what its error does to correlations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.correlation import constant, pearson
from histomri.analysis.registration_error import registration_effect, with_sampling
from histomri.analysis.spatial import effective_sample_size, voxel_spacing
from histomri.analysis.voxel_grid import VoxelGrid
from histomri.core.arrays import FloatArray
from histomri.core.columns import CASE, INDEX, REGISTRATION, WORLD, registration_sd
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.pairing.maps import onto_slice
from histomri.registration import Transform, registration_facts

COMPARED = {"vCS": ("vCS_mri_um", "vCS_histo_um"), "F": ("F_mri", "F_histo"), "CD": ("CD_mri_mm3", "CD_histo_mm2")}
"""The measurements that both sides have, and their columns."""
SEED = 0
_LEAST_VOXELS = 10


@dataclass(frozen=True, eq=False)
class Drawn:
    """Histology maps on the MRI slice at transforms drawn around the one that was found: (N, I, J) by name."""

    maps: Mapping[str, FloatArray]

    @classmethod
    def of(cls, histology: Mapping[str, Image], like: Image, transform: Transform, count: int, seed: int) -> "Drawn":
        """Draw the maps that are compared, every one as `onto_slice` draws it; see `draws_refused`."""
        if (reason := draws_refused(transform)) is not None:
            problem, hint = reason
            raise InputError(problem, hint=hint)
        assert transform.uncertainty is not None  # else it is refused
        names = [name for name in COMPARED if name in histology]
        drawn: dict[str, list[FloatArray]] = {name: [] for name in names}
        for draw in transform.uncertainty.draws(transform, count, seed):
            for name in names:
                drawn[name].append(onto_slice(histology[name], like, draw)[0].astype(np.float32))
        return cls({name: np.stack(each) for name, each in drawn.items()})


def draws_refused(transform: Transform | None) -> tuple[str, str] | None:
    """Return why no transforms can be drawn, and what to do, None if they can."""
    if transform is None:
        return "there is no transform, so none can be drawn", "leave --draws out, or give --xfm"
    facts = registration_facts(transform)
    if facts is not None and facts["open"]:
        hint = "choose one with histomri register --angle, --turned-over or --slice, then pair"
        return "the registration leaves open which of several orientations or slices is right", hint
    if facts is not None and facts["verdict"] == "failed":
        return "the registration failed, so its error is not known", "register again"
    if transform.uncertainty is None:
        known = "it is of landmarks alone, of another program or of an older version, or lacks its _uncertainty.npz"
        hint = "register by the images (landmarks may give the start), or leave --draws out"
        return f"the transform does not say what others are as likely: {known}", hint
    return None


def with_registration(
    table: pd.DataFrame, transform: Transform | None, drawn: Drawn | None, k: int
) -> tuple[pd.DataFrame, dict[str, Any] | None]:
    """Return voxels of one sample with columns of its registration behind them, and what is recorded of it.

    Without a transform neither is changed. Where there are draws, the record has ``correlations`` as `_effects` gives
    them, and the table the standard deviation that the registration gives the means of the sample.
    """
    facts = None if transform is None else registration_facts(transform)
    if facts is None:
        return table, None
    record: dict[str, Any] = {**facts, "slice": k if facts["slice"] is None else facts["slice"]}
    columns = {"verdict": facts["verdict"], "drive": facts["drive"], "error_mm": facts["expected_error_mm"]}
    columns["slice"] = record["slice"]
    table = table.assign(**{f"{REGISTRATION}{name}": value for name, value in columns.items()})
    table[f"{REGISTRATION}error_mm"] = table[f"{REGISTRATION}error_mm"].astype(float)
    if drawn is None:
        return table, record
    effects = []
    for key, part in table.groupby(list(CASE), sort=False):
        found, spread = _effects(part, drawn)
        effects += [{**dict(zip(CASE, key, strict=True)), **each} for each in found]
        for name, sd in spread.items():
            table.loc[part.index, registration_sd(name)] = sd
    return table, {**record, "n_draws": len(next(iter(drawn.maps.values()), ())), "correlations": effects}


def _effects(part: pd.DataFrame, drawn: Drawn) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return what the registration does to the correlations of the voxels of a fit, and to the means of the histology.

    r is at the registration; r_corrected is without what its error takes off, with the interval that the registration
    alone gives (registration_low, .._high) and the one that has the sampling of voxels in it too (ci_low, ci_high).
    """
    i, j, places = part["i"].to_numpy(), part["j"].to_numpy(), part[list(INDEX)].to_numpy()
    rows, spread = [], {}
    for name, (mri, histology) in COMPARED.items():
        if name not in drawn.maps or mri not in part or histology not in part:
            continue
        at = drawn.maps[name][:, i, j].astype(float)
        spread[histology] = float(np.nanstd(np.nanmean(at, axis=1))) if np.isfinite(at).any() else np.nan
        x, y = (part[column].to_numpy(dtype=float) for column in (mri, histology))
        known = np.isfinite(x) & np.isfinite(y)
        if known.sum() < _LEAST_VOXELS or constant(x[known]) or constant(y[known]):
            continue
        effect = registration_effect(r := pearson(x[known], y[known]), _correlations(x, at))
        grid = VoxelGrid.of(places[known], voxel_spacing(places[known], part[list(WORLD)].to_numpy(dtype=float)[known]))
        low, high = with_sampling(effect, effective_sample_size(x[known], y[known], grid)) or (None, None)
        row = {"map": name, "n": int(known.sum()), "r": r, "r_corrected": effect.corrected, "factor": effect.factor}
        row |= {"registration_sd": effect.sd, "registration_low": effect.low, "registration_high": effect.high}
        rows.append({**row, "ci_low": low, "ci_high": high})
    return rows, spread


def _correlations(x: FloatArray, drawn: FloatArray) -> FloatArray:
    """Return r of a map, (V,), with every draw of another, (N, V), each over the voxels that both have."""
    known = np.isfinite(drawn) & np.isfinite(x)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    own, other = np.where(known, x, 0.0), np.where(known, drawn, 0.0)
    own, other = (np.where(known, each - each.sum(axis=1, keepdims=True) / count, 0.0) for each in (own, other))
    scale = np.sqrt((own**2).sum(axis=1) * (other**2).sum(axis=1))
    enough = (known.sum(axis=1) >= _LEAST_VOXELS) & (scale > 0)
    return np.asarray(((own * other).sum(axis=1) / np.where(scale > 0, scale, 1.0))[enough])


def registration_lines(record: Mapping[str, Any], best: Sequence[str] = ("vCS", "F")) -> list[str]:
    """Say in words what the registration does to the correlations of a sample."""
    lines = []
    for row in record.get("correlations", ()):
        if row["map"] in best:
            fit = f"{row['model']}, {row['strategy']}: r of {row['map']} {row['r']:.2f}"
            between = f"{row['registration_low']:.2f} to {row['registration_high']:.2f} from the registration alone"
            text = f"{fit}, {row['r_corrected']:.2f} without the error of the registration ({between}"
            both = "" if row["ci_low"] is None else f"; {row['ci_low']:.2f} to {row['ci_high']:.2f} with the sampling"
            lines.append(f"{text}{both})")
    return lines
