"""Rank models and fitting strategies by how well they agree with histology."""

import math
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.bootstrap import resampling_weights, weighted_correlation
from histomri.analysis.jackknife import jackknife_z_interval
from histomri.analysis.scores import (
    PAIRED,
    bic_votes,
    complete_cases,
    histology_fidelity,
    require_columns,
    require_one_row_each,
    total_correlation_score,
)
from histomri.arrays import FloatArray

RANKING_KEYS = (
    "model",
    "strategy",
    "n",
    "TCS",
    "TCS_ci",
    "r_vCS",
    "r_F",
    "HFC_mean",
    "HFC_wins",
    "BIC_share",
    "p_best",
    "AIC_share",
    "n_missing",
)
FEWEST_FOR_INTERVAL = 4
_MOST_NAMED = 8


def rank_models(
    table: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0, confidence: float = 0.95
) -> list[dict[str, Any]]:
    """Rank every model x strategy of a table, best first.

    Parameters
    ----------
    table : DataFrame
        One row per sample x model x strategy; columns sample, model, strategy, `PAIRED`, and if there are any BIC_vote
        and AIC_vote.
    n_boot, seed : int
        Resamples of the cases; the same cases are drawn for all models, so that they are compared like with like.
    confidence : float
        Of TCS_ci.

    Returns
    -------
    list of dict
        Keys `RANKING_KEYS`: n complete cases; TCS and its interval (jackknife of Fisher's z of TCS/2); its two
        correlations; mean HFC and the number of cases with the lowest HFC of all rows; shares of the complete
        cases whose voxels vote for the model by BIC and by AIC; n_missing, cases of the table that are not
        complete; p_best, the share of bootstrap resamples in which TCS is the highest. None where it cannot be
        had: TCS needs three cases, interval and bootstrap four. Rows without TCS come last.

    Raises
    ------
    InputError
        If a column is missing, or a sample x model x strategy comes twice.
    """
    require_columns(table, ("sample", "model", "strategy", *PAIRED))
    require_one_row_each(table)
    if not len(table):
        return []
    scores = total_correlation_score(table).merge(_fidelity(table), on=["model", "strategy"], how="left")
    scores["n_missing"] = table["sample"].nunique() - scores["n"]
    counted = complete_cases(table)
    for criterion in ("BIC", "AIC"):
        share = f"{criterion}_share"
        if f"{criterion}_vote" not in table:
            scores[share] = np.nan
            continue
        votes = bic_votes(table, criterion, counted).rename(columns={"share": share})
        scores = scores.merge(votes[["model", "strategy", share]], on=["model", "strategy"], how="left")
    intervals, chances = _bootstrap(table, scores, n_boot, seed, confidence)
    scores["TCS_ci"], scores["p_best"] = intervals, chances
    order = scores.sort_values(
        ["TCS", "HFC_mean"], ascending=[False, True], na_position="last", kind="stable", ignore_index=True
    )
    return [{name: _plain(row[name]) for name in RANKING_KEYS} for row in order.to_dict("records")]


def ranking_warnings(ranking: list[dict[str, Any]]) -> list[str]:
    """Say in words how far a ranking can be trusted."""
    if not ranking:
        return ["there is nothing to rank"]
    texts = []
    n = max(row["n"] for row in ranking)
    if n < 3:
        texts.append(f"{n} complete cases: TCS needs at least 3, so no model can be ranked by it")
    elif n < FEWEST_FOR_INTERVAL:
        texts.append(f"{n} cases: TCS has neither a confidence interval nor a probability of being best (4 are needed)")
    elif n < 10:
        texts.append(f"only {n} cases: the order of the models is uncertain")
    for row in ranking:
        name = f"{row['model']}, {row['strategy']}"
        if n >= 3 and row["TCS"] is None:
            texts.append(f"{name}: TCS is undefined (fewer than 3 complete cases, or a value that never varies)")
    return texts


def missing_cases(table: pd.DataFrame) -> list[str]:
    """Say which cases each row of a ranking leaves out because a value is missing; alike rows are told together.

    Parameters
    ----------
    table : DataFrame
        As for `rank_models`; with a column group, groups of which nothing is left are named.
    """
    samples = list(dict.fromkeys(table["sample"]))
    rows: dict[tuple[Any, ...], list[str]] = {}
    models = table[complete_cases(table)].groupby(["model", "strategy"])["sample"].agg(set)
    for model, strategy in table[["model", "strategy"]].drop_duplicates().itertuples(index=False):
        left = models.get((model, strategy), set())
        lost = tuple(sample for sample in samples if sample not in left)
        rows.setdefault(lost, []).append(f"{model}, {strategy}")
    groups = table.groupby("sample")["group"].first().fillna("").astype(str) if "group" in table else None
    texts = []
    for lost, names in rows.items():
        if not lost:
            continue
        named = ", ".join(map(str, lost[:_MOST_NAMED])) + (" and others" if len(lost) > _MOST_NAMED else "")
        text = f"{len(lost)} of {len(samples)} cases left out because a value is missing: {named}"
        if groups is not None:
            gone = sorted(set(groups[list(lost)]) - set(groups.drop(list(lost))) - {""})
            text += f"; nothing is left of group {', '.join(gone)}" if gone else ""
        texts.append(text if len(rows) == 1 else f"{'; '.join(names)}: {text}")
    return texts


def _fidelity(table: pd.DataFrame) -> pd.DataFrame:
    cases = histology_fidelity(table)
    return (
        cases.groupby(["model", "strategy"], sort=False)
        .agg(HFC_mean=("HFC", "mean"), HFC_wins=("win", "sum"))
        .reset_index()
    )


def _bootstrap(
    table: pd.DataFrame, scores: pd.DataFrame, n_boot: int, seed: int, confidence: float
) -> tuple[list[tuple[float, float] | None], list[float | None]]:
    """Return interval and chance of being best of every row of `scores`."""
    samples = sorted(table["sample"].unique(), key=str)
    n = len(samples)
    # scores follows the order of the groups, and so do these.
    cases = [
        part.set_index("sample")[list(PAIRED)].reindex(samples).to_numpy(dtype=float)
        for _, part in table.groupby(["model", "strategy"], sort=False)
    ]
    weights = resampling_weights(n, n_boot, seed)
    drawn = np.stack([_tcs(weights, values) for values in cases], axis=1)
    intervals: list[tuple[float, float] | None] = []
    for position, values in enumerate(cases):
        score = scores.iloc[position]
        if score["n"] < FEWEST_FOR_INTERVAL or not math.isfinite(score["TCS"]):
            intervals.append(None)
            continue
        complete = values[np.isfinite(values).all(axis=1)]
        # All cases first, then all but one: summed in one order, so that the order of the rows changes no digit.
        scored = _tcs(np.vstack([np.ones(len(complete)), 1.0 - np.eye(len(complete))]), complete) / 2.0
        half = jackknife_z_interval(float(scored[0]), scored[1:], confidence)
        intervals.append(None if half is None else (2.0 * half[0], 2.0 * half[1]))
    return intervals, _chances(drawn, [interval is not None for interval in intervals])


def _tcs(weights: FloatArray, values: FloatArray) -> FloatArray:
    known = np.asarray(np.isfinite(values).all(axis=1))
    complete = np.where(known[:, None], values, np.nan)
    return weighted_correlation(weights, complete[:, 0], complete[:, 1]) + weighted_correlation(
        weights, complete[:, 2], complete[:, 3]
    )


def _chances(drawn: FloatArray, ranked: list[bool]) -> list[float | None]:
    """Return in which share of the resamples that all can be scored in each one has the highest TCS."""
    chosen = np.flatnonzero(ranked)
    chances: list[float | None] = [None] * len(ranked)
    if not chosen.size:
        return chances
    usable = drawn[:, chosen]
    usable = usable[np.isfinite(usable).all(axis=1)]
    if not len(usable):
        return chances
    highest = usable == usable.max(axis=1, keepdims=True)
    shares = (highest / highest.sum(axis=1, keepdims=True)).mean(axis=0)
    for position, share in zip(chosen, shares):
        chances[position] = float(share)
    return chances


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold, None for NaN."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    if isinstance(value, np.integer):
        return int(value)
    return value
