"""Rank models and fitting strategies by their agreement with histology, and say how sure the order is."""

import math
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import resampling_weights
from histomri.analysis.patients import FEWEST_UNITS
from histomri.analysis.pseudovalues import FEWEST_FOR_INTERVAL, ScoredCases, fisher_z
from histomri.analysis.registration_error import with_registration
from histomri.analysis.scores import (
    bic_votes,
    complete_cases,
    fidelity_error,
    histology_fidelity,
    require_one_row_each,
    total_correlation_score,
)  # fmt: skip
from histomri.analysis.selection import IN_SET, Rivals, optimism
from histomri.analysis.within import scores_within
from histomri.core.arrays import FloatArray
from histomri.core.columns import PAIRED, PATIENT

RANKING_KEYS = (
    "model", "strategy", "n", "TCS", "TCS_ci", "r_vCS", "r_F", "HFC_mean", "HFC_wins", "BIC_share", "p_best",
    "AIC_share", "n_missing", "rank", "compared", "n_own", "TCS_own", "HFC_wins_within", "share_first", "n_patients",
    "TCS_corrected", "TCS_corrected_ci", "mcs_p", "in_set", "rank_low", "rank_high", "TCS_within", "HFC_syst",
    "TCS_registration", "TCS_registration_ci",
)  # fmt: skip
FEWEST_CASES = 0.8  # of those of the row that has most: a row with fewer is not compared with the others
FEWEST_COMMON = 0.5  # of the same: what the rows that are compared must have in common
EQUAL = 1e-9  # difference up to which two scores are one
_FEWEST_DISTINCT = 4  # units in a resample, of which optimism is taken
_ROW = ["model", "strategy"]
_COMPARING = ["share_first", "HFC_wins", "HFC_wins_within", "BIC_share", "AIC_share"]


def rank_models(
    table: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0, confidence: float = 0.95, patient: str | None = PATIENT,
    within: str | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rank every model x strategy of a table, best first, on the cases that all of them have.

    A row with too few cases (see `common_cases`) would take them from all others: it is scored on its own cases, and
    comes after those that are compared.

    Parameters
    ----------
    table : DataFrame
        One row per sample x model x strategy; columns sample, model, strategy, `PAIRED`, and if there are any BIC_vote
        and AIC_vote.
    n_boot, seed : int
        Resamples of the cases; the same cases are drawn for all models, so that they are compared like with like.
    patient : str, optional
        Column of patients, used if the table has it. Those with several cases are left out, and drawn, whole.
    within : str, optional
        Column of groups, for TCS within them.

    Returns
    -------
    list of dict
        Keys `RANKING_KEYS`. Of rows that are compared: n common cases; TCS and its interval (jackknife of Fisher's z of
        TCS/2); its two correlations; mean HFC and the number of cases with the lowest HFC of all rows; fractions of the
        cases whose voxels vote for the model by BIC and by AIC; share_first (and p_best, its old name), the fraction of
        resamples in which TCS is the highest, which is no probability of being best; rank, the same for scores that are
        equal within `EQUAL`; HFC_wins_within, cases with the lowest HFC of the strategy; n_patients. TCS_corrected and
        its interval are of the first only: TCS without the luck of being the highest (`optimism`,
        `Rivals.first_interval`). mcs_p and in_set: the model confidence set; rank_low and rank_high: the ranks it may
        have, all rows at once (`Rivals`). TCS_within: `scores_within`. HFC_syst: error of the mean HFC that slides
        share (columns of histology that end in _syst, see `common_error`). Of the others n, TCS and mean HFC are
        of their own cases, and what compares rows is None. Of all: n_missing, cases of the table that are not complete;
        n_own and TCS_own, complete cases of the row, and TCS on all of them; TCS_registration and its interval, see
        `registration_error.with_registration`. None where it cannot be had: TCS needs three cases, interval and
        bootstrap four, what is said of the first, set and ranks six (as all intervals where a patient has several
        cases). Rows without TCS come last of their kind.

    Raises
    ------
    InputError
        If a column is missing, or a sample x model x strategy comes twice.

    Examples
    --------
    >>> import pandas as pd
    >>> from histomri.analysis import rank_models
    >>> cases = pd.DataFrame({'sample': list('abcd') * 2, 'model': ['x'] * 4 + ['y'] * 4, 'strategy': 'whole',
    ...     'vCS_mri_um': [18, 20, 23, 24, 21, 19, 25, 20], 'vCS_histo_um': [17, 20, 22, 25] * 2,
    ...     'F_mri': [.5, .6, .7, .7, .6, .5, .7, .5], 'F_histo': [.5, .6, .6, .7] * 2})
    >>> [(row['model'], round(row['TCS'], 2)) for row in rank_models(cases)]
    [('x', 1.82), ('y', -0.35)]
    """
    table = as_cases(table, ("sample", "model", "strategy", *PAIRED))
    require_one_row_each(table)
    if not len(table):
        return []
    table = table.reset_index(drop=True)
    own = total_correlation_score(table).set_index(_ROW)
    rows, cases = common_cases(table)
    key = pd.MultiIndex.from_frame(table[_ROW])
    among = pd.Series(key.isin(rows), index=table.index)
    shared = table[among & table["sample"].isin(cases)] if cases else table[among]
    compared, others = ScoredCases.of(shared, patient), []
    scores = _scored(shared, compared, confidence).assign(compared=True)
    drawn = compared.tcs(resampling_weights(len(compared.units), n_boot, seed)[:, compared.codes])
    scores["share_first"] = _chances(drawn, [interval is not None for interval in scores["TCS_ci"]])
    for _, part in table[~among].groupby(_ROW, sort=False):
        mine = _scored(part, ScoredCases.of(part, patient), confidence).assign(compared=False)
        others.append(mine.assign(**dict.fromkeys(_COMPARING, np.nan)))
    scores = pd.concat([scores, *others], ignore_index=True) if others else scores
    mine = own.loc[pd.MultiIndex.from_frame(scores[_ROW])]
    scores["n_own"], scores["TCS_own"] = mine["n"].to_numpy(), mine["TCS"].to_numpy()
    scores["n_missing"] = table["sample"].nunique() - scores["n_own"]
    if len(rows) == 1 < len(scores):  # whoever is alone is the best of nobody
        scores.loc[scores["compared"], _COMPARING] = np.nan
    scores["TCS_within"] = _within(table, scores, shared, within, patient)
    ordered = _ordered(scores.assign(p_best=scores["share_first"]))
    found = [dict.fromkeys(RANKING_KEYS) | row for row in ordered.to_dict("records")]
    for place, entries in _compared(compared, drawn, ordered, seed, confidence).items():
        found[place] |= entries
    return [{name: _plain(row[name]) for name in RANKING_KEYS} for row in found]


def _compared(
    cases: ScoredCases, drawn: FloatArray, ordered: pd.DataFrame, seed: int, confidence: float
) -> dict[int, dict[str, Any]]:
    """Return what comparing the rows says of each, by its place in the ranking: the set, ranks, and the first."""
    places = [place for place, row in enumerate(ordered.index) if row < len(cases.rows) and ordered.at[row, "TCS_ci"]]
    if not places or len(ordered) > len(cases.rows) == 1:
        return {}
    rows = [int(ordered.index[place]) for place in places]  # best first, so that the first is 0
    pseudo, units = cases.pseudo_values(rows)
    if len(units) < FEWEST_UNITS:
        return {}
    rivals = Rivals(pseudo, seed)
    p, (low, high) = rivals.set_p(), rivals.ranks(confidence)
    found: dict[int, dict[str, Any]] = {
        place: {"mcs_p": p[k], "in_set": bool(p[k] > IN_SET), "rank_low": int(low[k]), "rank_high": int(high[k])}
        for k, place in enumerate(places)
    }
    first = ordered.iloc[places[0]]
    corrected, ci = first["TCS"], first["TCS_ci"]
    if len(rows) > 1:
        weights = resampling_weights(len(cases.units), len(drawn), seed)
        usable = drawn[(weights > 0).sum(axis=1) >= _FEWEST_DISTINCT][:, rows]
        corrected = 2.0 * math.tanh(pseudo.estimates[0] - optimism(pseudo.estimates, fisher_z(usable / 2.0)))
        ci = tuple(2.0 * math.tanh(limit) for limit in rivals.first_interval(0, confidence))
    found[places[0]] |= {"TCS_corrected": corrected, "TCS_corrected_ci": ci}
    return found


def _within(
    table: pd.DataFrame, scores: pd.DataFrame, shared: pd.DataFrame, within: str | None, patient: str | None
) -> Any:
    """Return TCS within groups of each row, on the cases that it is scored on; NaN without groups."""
    if within is None:
        return np.nan
    alone = pd.MultiIndex.from_frame(table[_ROW]).isin(list(zip(*scores.loc[~scores["compared"], _ROW].to_numpy().T)))
    found = scores_within(pd.concat([shared, table[alone]]), within, patient=patient).set_index(_ROW)["TCS_within"]
    return found.reindex(pd.MultiIndex.from_frame(scores[_ROW])).to_numpy()


def common_cases(table: pd.DataFrame) -> tuple[list[tuple[Any, ...]], set[Any]]:
    """Return the rows (model, strategy) of a ranking that are compared, and the samples that all of them have.

    A row is compared if it has at least `FEWEST_CASES` of the complete cases of the fullest row, or all but one. Where
    such rows still have fewer than `FEWEST_COMMON` of them in common (or than `FEWEST_FOR_INTERVAL`, if there are as
    many), the row without which most are common is left out, again and again.
    """
    complete = complete_cases(table)
    cases = {key: set(part.loc[complete[part.index], "sample"]) for key, part in table.groupby(_ROW, sort=False)}
    most = max(map(len, cases.values()))
    rows = [key for key, mine in cases.items() if len(mine) >= fewest_cases(most)]
    fewest = max(FEWEST_COMMON * most, min(FEWEST_FOR_INTERVAL, most))
    while len(common := set.intersection(*(cases[key] for key in rows))) < fewest and len(rows) > 1:

        def left(key: tuple[Any, ...], rows: list[tuple[Any, ...]] = rows) -> tuple[int, int]:
            others = (cases[other] for other in rows if other != key)
            return len(set.intersection(*others)), -len(cases[key])

        rows = [key for key in rows if key != max(reversed(rows), key=left)]
    return rows, common


def fewest_cases(most: int) -> float:
    """Return how many complete cases a row must have to be compared with one that has `most`."""
    return min(FEWEST_CASES * most, most - 1)


def _scored(table: pd.DataFrame, cases: ScoredCases, confidence: float) -> pd.DataFrame:
    """Return the scores of rows that share their cases, or of one row alone."""
    fidelity = histology_fidelity(table)
    means = fidelity.groupby(_ROW, sort=False).agg(HFC_mean=("HFC", "mean"), HFC_wins=("win", "sum")).reset_index()
    scores = total_correlation_score(table).merge(means, on=_ROW, how="left")
    counted = complete_cases(table)
    for criterion in ("BIC", "AIC"):
        share = f"{criterion}_share"
        if f"{criterion}_vote" not in table:
            scores[share] = np.nan
            continue
        votes = bic_votes(table, criterion, counted).rename(columns={"share": share})
        scores = scores.merge(votes[[*_ROW, share]], on=_ROW, how="left")
    scores = with_registration(scores, table, confidence)
    scores["HFC_syst"] = [fidelity_error(part) for _, part in table.groupby(_ROW, sort=False)]
    scores["TCS_ci"] = [cases.interval(row, confidence) for row in range(len(scores))]
    scores["HFC_wins_within"] = _wins_within(table, scores)
    return scores.assign(n_patients=[len(np.unique(cases.codes[known])) for known in cases.complete])


def _wins_within(table: pd.DataFrame, scores: pd.DataFrame) -> FloatArray:
    """Return in how many cases each row has the lowest HFC of its strategy; NaN where it is alone in it."""
    wins = pd.concat([histology_fidelity(part) for _, part in table.groupby("strategy", sort=False)])
    won = wins.groupby(_ROW)["win"].sum().reindex(pd.MultiIndex.from_frame(scores[_ROW])).to_numpy(dtype=float)
    return np.where(scores.groupby("strategy")["model"].transform("size") > 1, won, np.nan)


def _ordered(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the rows best first, with their ranks; scores that are equal share one."""
    classes = scores.assign(agreement=_classes(-scores["TCS"]), fidelity=_classes(scores["HFC_mean"]))
    keys = ["compared", "agreement", "fidelity"]
    order = classes.sort_values(keys, ascending=[False, True, True], na_position="last", kind="stable")
    ranks: list[int | None] = []
    before: tuple[float, float] | None = None
    for place, row in enumerate(order.to_dict("records"), start=1):
        mine = (row["agreement"], -1.0 if math.isnan(row["fidelity"]) else row["fidelity"])
        if not row["compared"] or math.isnan(row["agreement"]):
            ranks.append(None)
        else:
            ranks.append(ranks[-1] if mine == before else place)
        before = mine
    return order.assign(rank=pd.Series(ranks, index=order.index, dtype=object))


def _classes(values: pd.Series) -> FloatArray:
    """Return the place of each value among the different ones, values within `EQUAL` being one; NaN for NaN."""
    order = np.argsort(values.to_numpy(), kind="stable")
    ordered = values.to_numpy()[order]
    classes = np.empty(len(ordered))
    classes[order] = np.where(np.isnan(ordered), np.nan, np.cumsum(np.diff(ordered, prepend=ordered[:1]) > EQUAL))
    return classes


def _chances(drawn: FloatArray, ranked: list[bool]) -> list[float | None]:
    """Return in which fraction of the resamples that all can be scored in each one has the highest TCS."""
    chances: list[float | None] = [None] * len(ranked)
    usable = drawn[:, ranked]
    usable = usable[np.isfinite(usable).all(axis=1)]
    if usable.size:
        highest = usable == usable.max(axis=1, keepdims=True)
        fractions = (highest / highest.sum(axis=1, keepdims=True)).mean(axis=0)
        for position, fraction in zip(np.flatnonzero(ranked), fractions):
            chances[position] = float(fraction)
    return chances


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold, None for NaN."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return int(value) if isinstance(value, np.integer) else value
