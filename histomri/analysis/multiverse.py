"""Scores of every way to analyse the same study: how much of a result hangs on choices that could have been others."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.ranking import EQUAL, common_cases
from histomri.analysis.scores import total_correlation_score
from histomri.analysis.summary import counted_cases, summarise_voxels
from histomri.analysis.within import scores_within, within_column
from histomri.core.columns import PAIRED
from histomri.core.errors import InputError

# Choices between tables of voxels and scores; the first of each is what `histomri run` reports.
ANALYSIS: Mapping[str, tuple[str, ...]] = {
    "at_bound": ("in", "out"),  # voxels with a parameter at its bound
    "average": ("mean", "median", "trimmed"),  # of the voxels of a sample
    "registration": ("all", "good"),  # samples whose registration is not judged good
    "scores": ("pooled", "within"),  # TCS over all samples, or within groups
}
SPECIFICATION_COLUMNS = ("model", "strategy", "n", "TCS", "rank", "note")
SUMMARY_COLUMNS = (
    "model", "strategy", "n_specifications", "TCS_reported", "rank_reported", "TCS_min", "TCS_q25", "TCS_median",
    "TCS_q75", "TCS_max", "share_below_reported", "share_first", "rank_min", "rank_max",
)  # fmt: skip
_CASE = ["model", "strategy"]


def analyse_every_way(
    voxels: pd.DataFrame | None, in_doubt: Iterable[str] = (), choices: Mapping[str, Sequence[str]] = ANALYSIS, *,
    whole: pd.DataFrame | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Score every model and strategy of a table of voxels in every combination of choices.

    Parameters
    ----------
    voxels : DataFrame or None
        One row per voxel, sample, model and strategy, with `PAIRED`, and at_bound, group and scanner if there are.
    in_doubt : iterable of str
        Samples whose registration is not judged good.
    choices : mapping
        Values of each choice of `ANALYSIS`.
    whole : DataFrame, optional
        Samples that were paired as a whole, a row per sample, model and strategy, with medians and trimmed means: they
        are in every combination, with their voxels at a bound.

    Returns
    -------
    DataFrame
        A row per combination, model and strategy: the choices, then `SPECIFICATION_COLUMNS`. TCS is on the samples that
        all models have, rank 1 the highest; NaN with a note where it is undefined.
    """
    doubtful = {str(name) for name in in_doubt}
    tables: dict[str, pd.DataFrame] = {}
    found = []
    for values in product(*(choices[name] for name in ANALYSIS)):
        chosen = dict(zip(ANALYSIS, values))
        if (at_bound := chosen["at_bound"]) not in tables:
            tables[at_bound] = pd.concat([*_summarised(voxels, at_bound), *([] if whole is None else [whole])])
        cases = _averaged(tables[at_bound], chosen["average"])
        if chosen["registration"] == "good" and len(cases):
            cases = cases[~cases["sample"].astype(str).isin(doubtful)]
        found.append(_scored(cases.reset_index(drop=True), chosen["scores"] == "within").assign(**chosen))
    table = pd.concat(found, ignore_index=True)
    return table[[*ANALYSIS, *SPECIFICATION_COLUMNS]]


def _summarised(voxels: pd.DataFrame | None, at_bound: str) -> list[pd.DataFrame]:
    """Return the cases of a table of voxels, with or without those at a bound; nothing if none is left."""
    if voxels is None:
        return []
    kept = voxels[~voxels["at_bound"].astype(bool)] if at_bound == "out" and "at_bound" in voxels else voxels
    return [summarise_voxels(kept, counted_cases([], kept)) if len(kept) else kept]


def _averaged(cases: pd.DataFrame, average: str) -> pd.DataFrame:
    """Return the cases with medians or trimmed means in place of means."""
    if average == "mean" or not len(cases):
        return cases
    return cases.assign(**{name: cases[f"{name}_{average}"] for name in PAIRED})


def _scored(cases: pd.DataFrame, within: bool) -> pd.DataFrame:
    """Return TCS and rank of each row on the samples that all have, with a note where there is none."""
    empty: dict[str, Any] = {"model": "", "strategy": "", "n": 0, "TCS": np.nan, "rank": np.nan}
    if not len(cases):
        return pd.DataFrame([empty | {"note": "no voxel is left"}])
    rows, samples = common_cases(cases)
    among = pd.MultiIndex.from_frame(cases[_CASE]).isin(rows)
    shared = cases[among & cases["sample"].isin(samples)]
    if not len(shared):
        return pd.DataFrame([empty | {"note": "no sample is complete"}])
    scores = total_correlation_score(shared)
    scores["note"] = np.where(scores["TCS"].isna(), f"{len(samples)} samples are too few, or do not vary", "")
    if within:
        by, _ = within_column(shared, None)
        column = scores_within(shared, by).set_index(_CASE)["TCS_within"] if by is not None else None
        scores["note"] = scores["note"] if column is not None else "no groups of two samples or more to look within"
        scores["TCS"] = np.nan if column is None else column.reindex(pd.MultiIndex.from_frame(scores[_CASE])).to_numpy()
    higher = [(scores["TCS"] > score + EQUAL).sum() for score in scores["TCS"]]
    scores["rank"] = np.where(scores["TCS"].notna(), 1.0 + np.array(higher), np.nan)
    return scores[list(SPECIFICATION_COLUMNS)]


def summarise_specifications(found: pd.DataFrame) -> pd.DataFrame:
    """Return where the reported specification lies among all, per model and strategy.

    Parameters
    ----------
    found : DataFrame
        Rows of `analyse_every_way` with the columns specification (number) and reported (bool).

    Returns
    -------
    DataFrame
        `SUMMARY_COLUMNS`, the highest reported TCS first: the number of specifications with a TCS; TCS and rank as
        reported; the range of TCS; in which share of the specifications TCS is below the reported one (0.5 is the
        middle; near 1 the reported one is among the most favourable), and in which the row is the first.

    Raises
    ------
    InputError
        If no specification gives a TCS.
    """
    known = found[found["TCS"].notna()]
    if known.empty:
        reasons = ", ".join(dict.fromkeys(found.loc[found["note"].ne(""), "note"].astype(str)))
        problem = f"none of the {found['specification'].nunique()} specifications gives a TCS: {reasons}"
        raise InputError(problem, hint="give other choices under [multiverse], or more samples")
    rows = []
    for (model, strategy), part in known.groupby(_CASE, sort=False):
        tcs = part["TCS"].to_numpy()
        mine = part[part["reported"]]
        row = {"model": model, "strategy": strategy, "n_specifications": len(part)}
        row |= {"TCS_reported": np.nan, "rank_reported": np.nan, "share_below_reported": np.nan}
        if len(mine):
            reported = float(mine["TCS"].iloc[0])
            row |= {"TCS_reported": reported, "rank_reported": mine["rank"].iloc[0]}
            others = part.loc[~part["reported"], "TCS"].to_numpy()
            below = (others < reported - EQUAL).sum() + 0.5 * (np.abs(others - reported) <= EQUAL).sum()
            row["share_below_reported"] = float(below / others.size) if others.size else np.nan
        quantiles = np.quantile(tcs, (0.0, 0.25, 0.5, 0.75, 1.0))
        row |= dict(zip(("TCS_min", "TCS_q25", "TCS_median", "TCS_q75", "TCS_max"), quantiles))
        row |= {"share_first": float((part["rank"] == 1).mean())}
        rows.append(row | {"rank_min": part["rank"].min(), "rank_max": part["rank"].max()})
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    return table.sort_values(["TCS_reported", "TCS_median"], ascending=False, kind="stable", ignore_index=True)
