"""Voxel-wise correlation over many samples: each sample on its own, all together, and between samples."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis import spatial
from histomri.analysis.cases import as_cases, require_labels
from histomri.analysis.correlation import Kind, adjust_p
from histomri.analysis.mixed import SLOPES, WITHIN_BETWEEN, mean_correlation, repeated_correlation, within_and_between
from histomri.analysis.voxel_grid import VoxelGrid
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.columns import INDEX, PATIENT, WORLD
from histomri.core.errors import InputError

_VALUES = (
    "n", "n_eff", "r", "ci_low", "ci_high", "p", "p_naive", "note", "r_edge", "df", "roughness_ratio", "p_block",
)  # fmt: skip
SAMPLE_COLUMNS = ("x", "y", "kind", "sample", *_VALUES[:7], "q", *_VALUES[7:])
POOLED_COLUMNS = (
    "x", "y", "n_samples", "n", "r_within", "ci_low", "ci_high", "df", "p", "q", "p_naive", *WITHIN_BETWEEN, "note",
    "r_mean_edge", "p_mean_edge", *SLOPES,
)  # fmt: skip
_MOST_CELLS = 40_000_000  # of all that is kept of the maps of one sample, 0.3 GB in double precision


def correlate_voxels(
    table: pd.DataFrame, x: Sequence[str], y: Sequence[str], *, kinds: Sequence[Kind] = ("pearson", "spearman"),
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Correlate maps voxel by voxel, allowing for smoothness within samples and for differences between them.

    Parameters
    ----------
    table : DataFrame
        One row per voxel of one model and strategy: sample, i, j, k, x, y, and optionally x_mm, y_mm, z_mm.
    x, y : sequence of str
        Every x against every y.
    kinds : sequence of {"pearson", "spearman"}
        For the correlations of single samples.

    Returns
    -------
    samples : DataFrame
        `SAMPLE_COLUMNS`: r of each sample, and r_edge, which is the partial correlation given the distance to the edge;
        its interval, p and effective number of voxels (`spatial_correlation`); q over all rows of a kind.
    pooled : DataFrame
        `POOLED_COLUMNS`: the repeated-measures correlation within samples, its degrees of freedom and p from the
        effective numbers (p_naive from the voxels); slopes within and between samples of the random-intercept model;
        Pearson's r of the samples' means; and the mean of the samples' r (by Fisher's z) with a one-sample t-test, in
        which the samples and not the voxels are what was observed; once more of r_edge. Only the latter is free of
        what maps have in common along their edges.

    Raises
    ------
    InputError
        If a column is missing, a voxel comes twice in a sample, or x and y share no pair of different columns.
    """
    table = as_cases(table, ("sample", *INDEX, *x, *y))
    require_labels(table, "sample")
    if not (pairs := [(a, b) for a in x for b in y if a != b]):
        raise InputError("there is no pair of different columns to correlate")
    names, singles, sizes = {str(name): part for name, part in table.groupby("sample", sort=True)}, {}, {}
    for name, part in names.items():
        try:
            singles[name], sizes[name] = _of_sample(part, pairs, kinds, confidence)
        except InputError as error:
            raise InputError(f"sample {name}: {error.problem}", hint=error.hint) from error
    rows, pooled = [], []
    for one, other in pairs:
        for kind in kinds:
            head = {"x": one, "y": other, "kind": kind}
            rows += [{**head, "sample": name, **singles[name][one, other, kind].row(*_VALUES)} for name in names]
        mine = {name: found[one, other, "pearson"] for name, found in singles.items()}
        usable = {name: size[one, other] for name, size in sizes.items() if size[one, other] > 1}
        pooled.append({"x": one, "y": other, **_pooled(table, one, other, mine, usable, confidence)})
    each, together = pd.DataFrame(rows, columns=SAMPLE_COLUMNS), pd.DataFrame(pooled, columns=POOLED_COLUMNS)
    each["q"], together["q"] = each.groupby("kind")["p"].transform(adjust_p), adjust_p(together["p"])
    together["q_mean"] = adjust_p(together["p_mean"])
    return each, together


def _of_sample(
    part: pd.DataFrame, pairs: Sequence[tuple[str, str]], kinds: Sequence[Kind], confidence: float
) -> tuple[dict[tuple[str, str, Kind], spatial.SpatialCorrelation], dict[tuple[str, str], float]]:
    """Return the correlations of a sample by columns and kind, and its effective numbers of voxels for the pool."""
    maps = _Maps(part)
    found: dict[tuple[str, str, Kind], spatial.SpatialCorrelation] = {}
    sizes = {}
    for one, other in pairs:
        for kind in dict.fromkeys((*kinds, "pearson")):
            found[one, other, kind] = maps.correlation(one, other, kind, confidence)
        sizes[one, other] = maps.size(one, other)
    return found, sizes


class _Maps:
    """The maps of a sample and their places; what pairs of them have in common is computed once."""

    def __init__(self, part: pd.DataFrame) -> None:
        self.part, self.places = part, _places(part)
        has_world = set(WORLD) <= set(part.columns)
        world = part[list(WORLD)].to_numpy(dtype=float) if has_world else None
        self.spacing = spatial.voxel_spacing(self.places, world) if world is not None else None
        self.layout: tuple[bytes, VoxelGrid] | None = None  # of the voxels that the latest pair has in common
        self.prepared: dict[tuple[str, Kind], spatial.PreparedMap] = {}  # of these voxels, as are the next
        self.pooled: dict[str, spatial.PooledMap] = {}

    def correlation(self, x: str, y: str, kind: Kind, confidence: float) -> spatial.SpatialCorrelation:
        grid, values = self._common(x, y)
        if grid is None:
            one, other = values.values()
            return spatial.SpatialCorrelation(math.nan, math.nan, one.size, note=spatial.undefined_pair(one, other))
        for name, of_voxels in values.items():
            if (name, kind) not in self.prepared:
                self.prepared[name, kind] = spatial.PreparedMap.of(of_voxels, grid, kind)
        return spatial.correlate_prepared(self.prepared[x, kind], self.prepared[y, kind], grid, confidence)

    def size(self, x: str, y: str) -> float:
        """Return the unbiased effective number of voxels, NaN where there is no correlation."""
        grid, values = self._common(x, y)
        if grid is None:
            return math.nan
        for name, of_voxels in values.items():
            if name not in self.pooled:
                self.pooled[name] = spatial.PooledMap.of(of_voxels, grid)
        return spatial.unbiased_size(self.pooled[x], self.pooled[y], grid)

    def _common(self, x: str, y: str) -> tuple[VoxelGrid | None, dict[str, FloatArray]]:
        """Return the voxels that two maps have in common, and the values there; no grid if they do not correlate."""
        values = {name: self.part[name].to_numpy(dtype=float) for name in (x, y)}
        both = np.isfinite(values[x]) & np.isfinite(values[y])
        values = {name: of_voxels[both] for name, of_voxels in values.items()}
        if spatial.undefined_pair(values[x], values[y]):
            return None, values
        key = both.tobytes()
        if self.layout is None or self.layout[0] != key:
            self.layout = (key, VoxelGrid.of(self.places[both], self.spacing))
            self.prepared, self.pooled = {}, {}
        elif (2 * len(self.prepared) + 3 * len(self.pooled) + 10) * self.layout[1].n_pairs.size > _MOST_CELLS:
            self.prepared, self.pooled = {}, {}
        return self.layout[1], values


def _places(part: pd.DataFrame) -> IntArray:
    index: FloatArray = part[list(INDEX)].to_numpy(dtype=float)
    if not np.isfinite(index).all():
        raise InputError("a voxel index is missing")
    places: IntArray = index.astype(int)
    if (places != index).any():
        where = ", ".join(f"{value:g}" for value in index[(places != index).any(axis=1)][0])
        raise InputError(f"voxel index {where} is not whole", hint="give i, j, k in voxels, not in mm")
    return places


def _pooled(
    table: pd.DataFrame, x: str, y: str, singles: dict[str, spatial.SpatialCorrelation], sizes: dict[str, float],
    confidence: float,
) -> dict[str, Any]:  # fmt: skip
    left_out = [name for name in singles if name not in sizes]
    part = table[table["sample"].astype(str).isin(list(sizes))]
    part = part[part[x].notna() & part[y].notna()]
    labels = part["sample"].astype(str)
    row = within_and_between(part[x], part[y], labels, n_eff=list(sizes.values()), confidence=confidence)
    naive = repeated_correlation(part[x], part[y], labels, confidence=confidence)
    notes = [row["note"], f"left out: {', '.join(left_out)}" if left_out else ""]
    row |= {"n_samples": len(sizes), "p_naive": naive.p, "note": "; ".join(note for note in notes if note)}
    of_samples = part.groupby(labels)[PATIENT].first() if PATIENT in part else None
    patients = {name: of_samples[name] or name for name in sizes} if of_samples is not None else {}

    def mean(found: dict[str, float]) -> dict[str, float]:
        units = [patients.get(name, name) for name in found]
        return mean_correlation(list(found.values()), patients=units, confidence=confidence)

    without_edge = mean({name: singles[name].r_edge for name in sizes if math.isfinite(singles[name].r_edge)})
    row |= {f"{name}_edge": value for name, value in without_edge.items()}
    return row | mean({name: singles[name].r for name in sizes})
