"""Score models and fitting strategies by their agreement with histology, and rank them.

TCS, HFC and the vote of BIC are scores of Grussu et al. 2025 (doi 10.1038/s43856-025-01246-2).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import correlate, jackknife_z_interval, resampling_weights, weighted_correlation
from histomri.analysis.fidelity import complete_cases, fidelity_error, histology_fidelity
from histomri.core.arrays import FloatArray
from histomri.core.columns import PAIRED
from histomri.core.errors import InputError

RANKING_KEYS = (
    "model", "strategy", "n", "TCS", "TCS_ci", "r_vCS", "r_F", "HFC_mean", "HFC_wins", "BIC_share", "p_best",
    "AIC_share", "n_missing", "rank", "compared", "n_own", "TCS_own", "HFC_syst",
)  # fmt: skip
FEWEST_FOR_INTERVAL = 4
FEWEST_CASES = 0.8  # of those of the row that has most: a row with fewer is not compared with the others
FEWEST_COMMON = 0.5  # of the same: what the rows that are compared must have in common
EQUAL = 1e-9  # difference up to which two scores are one
_MOST_NAMED = 8
_ROW = ["model", "strategy"]


def require_one_row_each(table: pd.DataFrame) -> None:
    """Raise an InputError if a sample x model x strategy comes twice."""
    twice = table[table.duplicated(["sample", "model", "strategy"])]
    if len(twice):
        row = twice.iloc[0]
        raise InputError(f"sample {row['sample']} comes twice for {row['model']}, {row['strategy']}")


def total_correlation_score(table: pd.DataFrame) -> pd.DataFrame:
    """Return the total correlation score of each model and strategy.

    TCS = r(vCS_mri, vCS_histo) + r(F_mri, F_histo), Pearson over cases, from the cases that have all four values. The
    table has one row per case with the columns `PAIRED`, and optionally model and strategy; the result has model,
    strategy, n, n_missing, TCS, r_vCS, r_F, NaN with fewer than three cases or a constant column.

    Examples
    --------
    >>> cases = pd.DataFrame({"vCS_mri_um": [15, 18, 22], "vCS_histo_um": [14, 19, 21],
    ...                       "F_mri": [0.4, 0.6, 0.5], "F_histo": [0.5, 0.7, 0.6]})
    >>> total_correlation_score(cases)["TCS"].round(2).tolist()
    [1.95]
    """
    table = as_cases(table, PAIRED)
    rows = []
    keys = [name for name in ("model", "strategy") if name in table]
    for key, part in table.groupby(keys, sort=False) if keys else [((), table)]:
        values = part[list(PAIRED)].to_numpy(dtype=float)
        complete = values[np.isfinite(values).all(axis=1)].T
        size, fraction = correlate(complete[0], complete[1]).r, correlate(complete[2], complete[3]).r
        n = complete.shape[1]
        row = {"n": n, "n_missing": len(part) - n, "TCS": size + fraction, "r_vCS": size, "r_F": fraction}
        rows.append({**dict(zip(keys, key)), **row})
    return pd.DataFrame(rows)


def bic_votes(table: pd.DataFrame, criterion: str = "BIC", counted: pd.Series | None = None) -> pd.DataFrame:
    """Return in which fraction of the cases each model wins the vote of the voxels.

    Models are compared within a strategy only: the criterion means nothing between different data.

    Parameters
    ----------
    table : DataFrame
        Columns sample, model, strategy and `<criterion>_vote` (BIC or AIC), the fraction of the case's voxels in which
        the model is the lowest.
    counted : Series of bool, optional
        Rows that count, such as `complete_cases`; the others compete and are not counted. By default all.

    Returns
    -------
    DataFrame
        model, strategy, n (counted cases with a vote), share; equal votes share a case. NaN without a case that voted.
    """
    column = f"{criterion}_vote"
    table = as_cases(table, (column, "sample", "model", "strategy"))
    case = ["sample", "strategy"]
    votes = table[[*case, "model", column]].copy()
    most = votes[column].eq(votes.groupby(case, sort=False)[column].transform("max")) & votes[column].notna()
    votes["win"] = most / most.groupby([votes[name] for name in case], sort=False).transform("sum").clip(lower=1)
    cases = votes[column].notna() & (True if counted is None else counted)
    voted = votes.assign(cases=cases, win=votes["win"].where(cases, 0.0))
    totals = voted.groupby(["model", "strategy"], sort=False).agg(n=("cases", "sum"), wins=("win", "sum")).reset_index()
    totals["share"] = totals["wins"] / totals["n"].where(totals["n"] > 0)
    return totals.drop(columns="wins")


def rank_models(
    table: pd.DataFrame, *, n_boot: int = 2000, seed: int = 0, confidence: float = 0.95
) -> list[dict[str, Any]]:
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

    Returns
    -------
    list of dict
        Keys `RANKING_KEYS`. Of rows that are compared: n common cases; TCS and its interval (jackknife of Fisher's z of
        TCS/2); its two correlations; mean HFC, its error by what slides share (HFC_syst: the columns of histology that
        end in _syst, see `common_error`) and the number of cases with the lowest HFC of all rows; fractions of the
        cases whose voxels vote for the model by BIC and by AIC; p_best, the fraction of resamples in which TCS
        is the highest; rank, the same for scores that are equal within `EQUAL`. Of the others n, TCS and mean HFC are
        of their own cases, and what compares rows is None. Of all: n_missing, cases of the table that are not complete;
        n_own and TCS_own, complete cases of the row, and TCS on all of them. None where it cannot be had: TCS needs
        three cases, interval and bootstrap four. Rows without TCS come last of their kind.

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
    parts = _scored(shared, n_boot, seed, confidence, compared=True)
    for _, part in table[~among].groupby(_ROW, sort=False):
        parts += _scored(part, n_boot, seed, confidence, compared=False)
    scores = pd.DataFrame(parts)
    mine = own.loc[pd.MultiIndex.from_frame(scores[_ROW])]
    scores["n_own"], scores["TCS_own"] = mine["n"].to_numpy(), mine["TCS"].to_numpy()
    scores["n_missing"] = table["sample"].nunique() - scores["n_own"]
    if len(rows) == 1 < len(scores):  # whoever is alone is the best of nobody
        scores.loc[scores["compared"], ["p_best", "HFC_wins", "BIC_share", "AIC_share"]] = np.nan
    return [{name: _plain(row[name]) for name in RANKING_KEYS} for row in _ordered(scores).to_dict("records")]


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


def ranking_warnings(ranking: list[dict[str, Any]]) -> list[str]:
    """Say in words how far a ranking can be trusted."""
    if not ranking:
        return ["there is nothing to rank"]
    compared = [row for row in ranking if row["compared"]]
    texts = []
    n = max(row["n"] for row in compared)
    if n < 3:
        texts.append(f"{n} complete cases: TCS needs at least 3, so no model can be ranked by it")
    elif n < FEWEST_FOR_INTERVAL:
        texts.append(f"{n} cases: TCS has neither a confidence interval nor a probability of being best (4 are needed)")
    elif n < 10:
        texts.append(f"only {n} cases: the order of the models is uncertain")
    if any(row["n_own"] > n for row in compared):
        texts.append(f"the models are ranked on the {n} cases that all of them have; TCS_own has those of each")
    texts += _left_out(ranking)
    for row in ranking:
        if n >= 3 and row["n"] and row["TCS"] is None:
            why = "fewer than 3 complete cases, or a value that never varies"
            texts.append(f"{row['model']}, {row['strategy']}: TCS is undefined ({why})")
    for rank in sorted({row["rank"] for row in compared if row["rank"]}):
        equal = [f"{row['model']}, {row['strategy']}" for row in compared if row["rank"] == rank]
        if len(equal) > 1:
            texts.append(f"{'; '.join(equal)}: equal, and share rank {rank}")
    return texts


def _left_out(ranking: list[dict[str, Any]]) -> list[str]:
    most = max(row["n_own"] for row in ranking)
    texts = []
    for row in ranking:
        if not row["compared"]:
            few = row["n_own"] < fewest_cases(most)
            why = "too few for a comparison" if few else "and too few of these in the others"
            how = "ranked last, on its own cases" if row["n_own"] else "ranked last"
            texts.append(f"{row['model']}, {row['strategy']}: N = {row['n_own']} (others up to {most}), {why}; {how}")
    return texts


def missing_cases(table: pd.DataFrame) -> list[str]:
    """Say which cases each row of a ranking leaves out because a value is missing; equal rows together.

    The table is that of `rank_models`; with a column group, groups of which nothing is left are named.
    """
    samples = list(dict.fromkeys(table["sample"]))
    rows: dict[tuple[Any, ...], list[str]] = {}
    models = table[complete_cases(table)].groupby(["model", "strategy"])["sample"].agg(set)
    for model, strategy in table[["model", "strategy"]].drop_duplicates().itertuples(index=False):
        kept = models.get((model, strategy), set())
        lost = tuple(sample for sample in samples if sample not in kept)
        rows.setdefault(lost, []).append(f"{model}, {strategy}")
    groups = table.groupby("sample")["group"].first().fillna("").astype(str) if "group" in table else None
    texts = []
    for lost, names in rows.items():
        if not lost:
            continue
        text = f"{len(lost)} of {len(samples)} cases left out because a value is missing: {listed(lost)}"
        if groups is not None:
            gone = sorted(set(groups[list(lost)]) - set(groups.drop(list(lost))) - {""})
            text += f"; nothing is left of group {', '.join(gone)}" if gone else ""
        texts.append(text if len(rows) == 1 else f"{'; '.join(names)}: {text}")
    return texts


def _scored(table: pd.DataFrame, n_boot: int, seed: int, confidence: float, *, compared: bool) -> list[dict[str, Any]]:
    """Return the scores of rows that share their cases, or of one row alone."""
    by_row = histology_fidelity(table).groupby(_ROW, sort=False)
    means = by_row.agg(HFC_mean=("HFC", "mean"), HFC_wins=("win", "sum"))
    scores = total_correlation_score(table).merge(means.reset_index(), on=_ROW, how="left")
    counted = complete_cases(table)
    for criterion in ("BIC", "AIC"):
        share = f"{criterion}_share"
        if f"{criterion}_vote" not in table:
            scores[share] = np.nan
            continue
        votes = bic_votes(table, criterion, counted).rename(columns={"share": share})
        scores = scores.merge(votes[[*_ROW, share]], on=_ROW, how="left")
    scores["HFC_syst"] = [fidelity_error(part) for _, part in table.groupby(_ROW, sort=False)]
    scores["TCS_ci"], scores["p_best"] = _bootstrap(table, scores, n_boot, seed, confidence)
    if not compared:
        scores[["p_best", "HFC_wins", "BIC_share", "AIC_share"]] = np.nan
    rows: list[dict[str, Any]] = scores.assign(compared=compared).to_dict("records")
    return rows


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


def listed(samples: Sequence[Any]) -> str:
    """Return the names of samples for a message, the first few of many."""
    return ", ".join(map(str, samples[:_MOST_NAMED])) + (" and others" if len(samples) > _MOST_NAMED else "")


def _bootstrap(
    table: pd.DataFrame, scores: pd.DataFrame, n_boot: int, seed: int, confidence: float
) -> tuple[list[tuple[float, float] | None], list[float | None]]:
    """Return interval and chance of being best of every row of `scores`."""
    samples = sorted(table["sample"].unique(), key=str)
    # scores follows the order of the groups, and so do these.
    parts = (part.set_index("sample")[list(PAIRED)] for _, part in table.groupby(_ROW, sort=False))
    cases = [part.reindex(samples).to_numpy(dtype=float) for part in parts]
    weights = resampling_weights(len(samples), n_boot, seed)
    drawn = np.stack([_tcs(weights, values) for values in cases], axis=1)
    intervals: list[tuple[float, float] | None] = []
    for score, values in zip(scores.to_dict("records"), cases):
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
    size, size_histo, fraction, fraction_histo = np.where(known[:, None], values, np.nan).T
    scored = weighted_correlation(weights, size, size_histo) + weighted_correlation(weights, fraction, fraction_histo)
    return np.asarray(scored)


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
