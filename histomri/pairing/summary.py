"""From voxels to samples: means, medians, and the vote of the voxels between models."""

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.pairing.columns import FIT_QUALITY, KEYS, MEASURES, PATIENT, POSITION, keys_of

_CASE = ["sample", "model", "strategy"]
TRIMMED = 0.1  # share of the values cut off at either end for the robust mean


def vote(criterion: FloatArray) -> tuple[FloatArray, int]:
    """Let voxels vote between models.

    Parameters
    ----------
    criterion : (V, M) ndarray
        BIC or AIC of each voxel and model, lower is better.

    Returns
    -------
    shares : (M,) ndarray
        Share of the voting voxels in which the model is the lowest; equal lowest values share the vote. NaN if there
        is no rival or nobody votes.
    n : int
        Voxels that voted: those in which the criterion of every model is finite.
    """
    voting = criterion[np.isfinite(criterion).all(axis=1)]
    if criterion.shape[1] < 2 or not len(voting):
        return np.full(criterion.shape[1], np.nan), len(voting)
    lowest = voting == voting.min(axis=1, keepdims=True)
    return np.asarray((lowest / lowest.sum(axis=1, keepdims=True)).mean(axis=0)), len(voting)


def votes_per_sample(voxels: pd.DataFrame, criterion: str = "BIC") -> pd.DataFrame:
    """Return the vote of the voxels, one row per sample x model x strategy.

    Models are compared within a strategy only, because the criterion means nothing between different data.

    Parameters
    ----------
    voxels : DataFrame
        Columns sample, model, strategy, i, j, k and the criterion.

    Returns
    -------
    DataFrame
        sample, model, strategy, `<criterion>_vote`, `<criterion>_best` (the largest vote; none if tied or no rival).
    """
    rows: list[dict[str, object]] = []
    for (sample, strategy), part in voxels.groupby(["sample", "strategy"], sort=False, observed=True):
        wide = part.set_index(["i", "j", "k", "model"])[criterion].unstack("model")
        shares, _ = vote(wide.to_numpy(dtype=float))
        leads = shares == np.nanmax(shares) if np.isfinite(shares).any() else np.zeros(len(shares), dtype=bool)
        for model, share, leading in zip(wide.columns, shares, leads):
            best = bool(leading and leads.sum() == 1)
            rows.append(
                {
                    "sample": sample,
                    "model": model,
                    "strategy": strategy,
                    f"{criterion}_vote": share,
                    f"{criterion}_best": best,
                }
            )
    return pd.DataFrame(rows, columns=[*_CASE, f"{criterion}_vote", f"{criterion}_best"])


def trimmed_mean(values: FloatArray) -> float:
    """Return the mean of the finite values without the lowest and the highest tenth of them; NaN if there is none."""
    ordered = np.sort(values[np.isfinite(values)])
    cut = int(TRIMMED * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean()) if ordered.size else float("nan")


def measured_columns(table: pd.DataFrame) -> list[str]:
    """Return the columns that can be averaged: measurements, not keys, positions or qualities of a fit."""
    others = {*KEYS, PATIENT, *POSITION, *FIT_QUALITY}
    return [name for name in table.columns if name not in others and pd.api.types.is_numeric_dtype(table[name])]


def summarise_voxels(voxels: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Return one row per sample x model x strategy.

    Parameters
    ----------
    voxels : DataFrame
        Rows of a voxel table.
    counts : DataFrame
        One row per sample x model x strategy that was tried (columns `KEYS`, then counts), so that a case without a
        single paired voxel keeps its row.

    Returns
    -------
    DataFrame
        `KEYS` (and patient, if the counts have it), n_voxels (rows with a cell size by MRI), pairing, means (cell
        density is averaged over voxels, never computed from mean size and fraction), BIC_vote, BIC_best,
        at_bound_share, medians as `.._median`, of `MEASURES` means without the extreme tenths as `.._trimmed`, and the
        counts.
    """
    values = measured_columns(voxels)
    groups = voxels.groupby(_CASE, sort=False, observed=True)
    means = groups[values].mean()
    medians = groups[values].median().add_suffix("_median")
    robust = [name for name in MEASURES if name in values]
    trimmed = groups[robust].agg(lambda column: trimmed_mean(column.to_numpy(dtype=float))).add_suffix("_trimmed")
    extra = pd.DataFrame({"n_voxels": groups["vCS_mri_um"].count()})
    if "at_bound" in voxels:
        extra["at_bound_share"] = groups["at_bound"].mean()
    table = counts.merge(
        extra.join(means).join(medians).join(trimmed).reset_index(), on=_CASE, how="left", validate="one_to_one"
    )
    for criterion in ("BIC", "AIC"):
        if criterion in voxels:
            table = table.merge(votes_per_sample(voxels, criterion), on=_CASE, how="left", validate="one_to_one")
            table[f"{criterion}_best"] = table[f"{criterion}_best"].eq(True)
    table["n_voxels"] = table["n_voxels"].fillna(0).astype(int)
    return order_columns(table.assign(pairing="voxels"))


def order_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Put the columns of the contract first, add those that are missing (empty), and keep the rest behind."""
    first = [*keys_of(table.columns), "n_voxels", *MEASURES, "BIC_vote", "BIC_best", "at_bound_share", "pairing"]
    table = table.reindex(columns=[*first, *[name for name in table.columns if name not in first]])
    table["BIC_best"] = table["BIC_best"].eq(True)
    return table
