"""From voxels to samples: means, medians, and the vote of the voxels between models."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.columns import (
    CASE,
    COUNTS,
    FIT_QUALITY,
    KEYS,
    MEASURES,
    PATIENT,
    POSITION,
    REGISTRATION,
    STAT,
    SYST,
    keys_of,
    latest_last,
)

_CASE = list(CASE)
TRIMMED = 0.1  # fraction of the values cut off at either end for the robust mean


def vote(criterion: FloatArray) -> FloatArray:
    """Return in which fraction of the voxels each model is the lowest, (M,).

    Those vote in which the criterion (N, M) of every model is finite; equal lowest values split the vote. The fractions
    are NaN if there is one model only, or no voxel votes.
    """
    voting = criterion[np.isfinite(criterion).all(axis=1)]
    if criterion.shape[1] < 2 or not len(voting):
        return np.full(criterion.shape[1], np.nan)
    lowest = voting == voting.min(axis=1, keepdims=True)
    return np.asarray((lowest / lowest.sum(axis=1, keepdims=True)).mean(axis=0))


def votes_per_sample(voxels: pd.DataFrame, criterion: str = "BIC") -> pd.DataFrame:
    """Return the vote of the voxels per sample x model x strategy, and which model has most (none if tied or alone).

    Models are compared within a strategy only, because the criterion means nothing between different data.
    """
    rows = []
    for (sample, strategy), part in voxels.groupby(["sample", "strategy"], sort=False, observed=True):
        wide = part.set_index(["i", "j", "k", "model"])[criterion].unstack("model")
        fractions = vote(wide.to_numpy(dtype=float))
        first = fractions == np.nanmax(fractions) if np.isfinite(fractions).any() else np.zeros(len(fractions), bool)
        for model, fraction, is_first in zip(wide.columns, fractions, first):
            rows.append((sample, model, strategy, fraction, bool(is_first and first.sum() == 1)))
    return pd.DataFrame(rows, columns=[*_CASE, f"{criterion}_vote", f"{criterion}_best"])


def trimmed_mean(values: FloatArray) -> float:
    """Return the mean of the finite values without the lowest and the highest tenth of them; NaN if there is none."""
    ordered = np.sort(values[np.isfinite(values)])
    cut = int(TRIMMED * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean()) if ordered.size else float("nan")


def measured_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that can be averaged: measurements, not keys, positions or qualities of a fit."""
    others = {*KEYS, PATIENT, *POSITION, *FIT_QUALITY}
    names = [name for name in table.columns if name not in others and not name.startswith(REGISTRATION)]
    return [name for name in names if pd.api.types.is_numeric_dtype(table[name])]


def error_of_mean(errors: FloatArray) -> float:
    """Return the standard error of the mean of N values from their own, (N,); missing ones are as large as the others.

    Errors of different voxels are taken as independent.
    """
    known = errors[np.isfinite(errors)]
    return float(np.sqrt((known**2).mean() / errors.size)) if known.size else float("nan")


def summarise_voxels(voxels: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per sample x model x strategy.

    Parameters
    ----------
    voxels, counts : DataFrame
        Rows of a voxel table; one row per sample x model x strategy that was tried (columns `KEYS`, then counts), so
        that a case without a single paired voxel keeps its row.

    Returns
    -------
    DataFrame
        `KEYS` (and patient, if the counts have it), n_voxels (rows with a cell size by MRI), pairing, means (cell
        density is averaged over voxels, never computed from mean size and fraction), BIC_vote, BIC_best,
        at_bound_share, medians as `.._median`, of `MEASURES` means without the extreme tenths as `.._trimmed`, the
        counts, and what is known of the registration. Standard errors (`.._se`) become those of the means, of
        independent voxels; systematic errors (`.._syst`), which voxels share, are averaged.
    """
    measured = measured_columns(voxels)
    sampling = [name for name in measured if name.endswith(STAT)]
    values = [name for name in measured if not name.endswith((STAT, SYST))]
    groups = voxels.groupby(_CASE, sort=False, observed=True)
    means = groups[values].mean()
    medians = groups[values].median().add_suffix("_median")
    robust = [name for name in MEASURES if name in values]
    trimmed = groups[robust].agg(lambda column: trimmed_mean(column.to_numpy(dtype=float))).add_suffix("_trimmed")
    errors = groups[[name for name in measured if name.endswith(SYST)]].mean()
    errors = errors.join(groups[sampling].agg(lambda column: error_of_mean(column.to_numpy(dtype=float))))
    extra = pd.DataFrame({"n_voxels": groups["vCS_mri_um"].count()})
    if "at_bound" in voxels:
        extra["at_bound_share"] = groups["at_bound"].mean()
    how: dict[str, Any] = {"on": _CASE, "how": "left", "validate": "one_to_one"}
    table = counts.merge(extra.join(means).join(medians).join(trimmed).join(errors).reset_index(), **how)
    for criterion in ("BIC", "AIC"):
        if criterion in voxels:
            table = table.merge(votes_per_sample(voxels, criterion), **how)
            table[f"{criterion}_best"] = table[f"{criterion}_best"].eq(True)
    table["n_voxels"] = table["n_voxels"].fillna(0).astype(int)
    if same := [name for name in voxels.columns if name.startswith(REGISTRATION)]:
        table = table.merge(groups[same].first().reset_index(), **how)
    return order_columns(table.assign(pairing="voxels"))


def counted_cases(counts: Iterable[Mapping[str, Any]], data: pd.DataFrame) -> pd.DataFrame:
    """Return a row per case: those that the sidecar of a table counts, if it has one, and those of the table itself."""
    labels = [name for name in keys_of(data.columns) if name in data]
    present = data[labels].drop_duplicates(_CASE).astype(object).set_index(_CASE)
    if not (counted := list(counts)):
        return present.reset_index().reindex(columns=list(COUNTS)).astype({"group": object, "scanner": object})
    table = pd.DataFrame(counted).set_index(_CASE)
    cases = pd.MultiIndex.from_tuples(dict.fromkeys([*table.index, *present.index]), names=_CASE)
    table, present = table.reindex(cases), present.reindex(cases)
    for name in present:
        table[name] = present[name].where(present[name].notna(), table.get(name))
    others = [name for name in table.columns if name not in COUNTS]
    return table.reset_index().reindex(columns=[*COUNTS, *others]).infer_objects()


def order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Put the columns of the contract first, add those that are missing (empty), and keep the rest behind."""
    first = [*keys_of(table.columns), "n_voxels", *MEASURES, "BIC_vote", "BIC_best", "at_bound_share", "pairing"]
    table = table.reindex(columns=[*first, *latest_last(name for name in table.columns if name not in first)])
    table["BIC_best"] = table["BIC_best"].eq(True)
    return table
