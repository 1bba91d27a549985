"""Voxel-wise correlation over many samples: each sample on its own, all together, and between samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis import spatial
from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import Kind, adjust_p
from histomri.analysis.mixed import SLOPES, WITHIN_BETWEEN, mean_correlation, repeated_correlation, within_and_between
from histomri.core.columns import INDEX, PATIENT, WORLD
from histomri.core.errors import InputError

SAMPLE_COLUMNS = ("x", "y", "kind", "sample", "n", "n_eff", "r", "ci_low", "ci_high", "p", "p_naive", "q", "note")
_VALUES = ("n", "n_eff", "r", "ci_low", "ci_high", "p", "p_naive", "note")
POOLED_COLUMNS = (
    "x", "y", "n_samples", "n", "r_within", "ci_low", "ci_high", "df", "p", "q", "p_naive", *WITHIN_BETWEEN, "note",
    *SLOPES,
)  # fmt: skip


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
        `SAMPLE_COLUMNS`: r of each sample with its effective number of voxels; q over all rows of a kind.
    pooled : DataFrame
        `POOLED_COLUMNS`: the repeated-measures correlation within samples, its degrees of freedom and p from the
        effective numbers (p_naive from the voxels); slopes within and between samples of the random-intercept model;
        Pearson's r of the samples' means; and the mean of the samples' r (by Fisher's z) with a one-sample t-test, in
        which the samples and not the voxels are what was observed.

    Raises
    ------
    InputError
        If a column is missing, a voxel comes twice in a sample, or x and y share no pair of different columns.
    """
    table = as_cases(table, ("sample", *INDEX, *x, *y))
    if not (pairs := [(a, b) for a in x for b in y if a != b]):
        raise InputError("there is no pair of different columns to correlate")
    samples = _Samples(table)
    singles: list[dict[str, Any]] = []
    pooled = []
    for one, other in pairs:
        found = {kind: samples.correlations(one, other, kind, confidence) for kind in {*kinds, "pearson"}}
        for kind in kinds:
            head = {"x": one, "y": other, "kind": kind}
            singles += [{**head, "sample": name, **result.row(*_VALUES)} for name, result in found[kind].items()]
        sizes = samples.sizes(one, other, found["pearson"])
        pooled.append({"x": one, "y": other, **_pooled(table, one, other, found["pearson"], sizes, confidence)})
    each, together = pd.DataFrame(singles, columns=SAMPLE_COLUMNS), pd.DataFrame(pooled, columns=POOLED_COLUMNS)
    each["q"], together["q"] = each.groupby("kind")["p"].transform(adjust_p), adjust_p(together["p"])
    together["q_mean"] = adjust_p(together["p_mean"])
    return each, together


class _Samples:
    """The voxels of each sample and their places, laid out once for all pairs of columns."""

    def __init__(self, table: pd.DataFrame) -> None:
        has_world = set(WORLD) <= set(table.columns)
        self.parts = {str(name): part for name, part in table.groupby("sample", sort=True)}
        self.places, self.grids, self.spacing = {}, {}, {}
        for name, part in self.parts.items():
            index = part[list(INDEX)].to_numpy(dtype=float)
            if not np.isfinite(index).all():
                raise InputError(f"sample {name}: a voxel index is missing")
            places = index.astype(int)
            if (places != index).any():
                where = ", ".join(f"{value:g}" for value in index[(places != index).any(axis=1)][0])
                problem = f"sample {name}: voxel index {where} is not whole"
                raise InputError(problem, hint="give i, j, k in voxels, not in mm")
            spacing = spatial.voxel_spacing(places, part[list(WORLD)].to_numpy(dtype=float)) if has_world else None
            try:
                self.grids[name] = spatial.VoxelGrid.of(places, spacing)
            except InputError as error:
                raise InputError(f"sample {name}: {error.problem}", hint=error.hint) from error
            self.places[name], self.spacing[name] = places, spacing

    def correlations(self, x: str, y: str, kind: Kind, confidence: float) -> dict[str, spatial.SpatialCorrelation]:
        return {
            name: spatial.spatial_correlation(
                part[x], part[y], self.places[name], spacing=self.spacing[name], grid=self.grids[name], kind=kind,
                confidence=confidence,
            )
            for name, part in self.parts.items()
        }  # fmt: skip

    def sizes(self, x: str, y: str, found: dict[str, spatial.SpatialCorrelation]) -> dict[str, float]:
        """Return the unbiased effective numbers of the samples that have one."""
        sizes = {}
        for name, part in self.parts.items():
            if found[name].n_eff > 1:
                both = (part[x].notna() & part[y].notna()).to_numpy()
                places, spacing = self.places[name][both], self.spacing[name]
                grid = self.grids[name] if both.all() else spatial.VoxelGrid.of(places, spacing)
                sizes[name] = spatial.effective_sample_size(part[x][both], part[y][both], grid, unbiased=True)
        return {name: size for name, size in sizes.items() if size > 1}


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
    patients = [of_samples[name] or name for name in sizes] if of_samples is not None else None
    singles_r = [singles[name].r for name in sizes]
    return row | mean_correlation(singles_r, patients=patients, confidence=confidence)
