"""What a ranking would be without one of its cases, or patients."""

from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.pseudovalues import ScoredCases
from histomri.analysis.ranking import EQUAL, common_cases
from histomri.core.arrays import FloatArray
from histomri.core.columns import PAIRED, PATIENT

INFLUENCE_COLUMNS = (
    "left_out", "unit", "n_rows", "model", "strategy", "TCS", "TCS_without", "change", "rank", "rank_without",
)  # fmt: skip


def score_influence(table: pd.DataFrame, *, patient: str | None = PATIENT) -> pd.DataFrame:
    """Return TCS and rank of every compared row without each case, or each patient with all their cases, in turn.

    Parameters
    ----------
    table : DataFrame
        One row per sample x model x strategy; columns sample, model, strategy and `PAIRED`.
    patient : str, optional
        Column of patients, used if the table has it.

    Returns
    -------
    DataFrame
        `INFLUENCE_COLUMNS`: what is left out, whether it is a sample or a patient, and how many cases it has; TCS with
        and without it, and the difference; ranks by TCS, the same for equal scores. NaN where TCS is undefined.

    Examples
    --------
    >>> cases = pd.DataFrame({'sample': list('abcde'), 'model': 'x', 'strategy': 'whole',
    ...     'vCS_mri_um': [18, 20, 23, 24, 40], 'vCS_histo_um': [17, 20, 22, 25, 10],
    ...     'F_mri': [.5, .6, .7, .7, .6], 'F_histo': [.5, .6, .6, .7, .5]})
    >>> found = score_influence(cases)
    >>> found.loc[found["change"].abs().idxmax(), "left_out"]
    'e'
    """
    table = as_cases(table, ("sample", "model", "strategy", *PAIRED))
    if not len(table):
        return pd.DataFrame(columns=list(INFLUENCE_COLUMNS))
    table = table.reset_index(drop=True)
    rows, samples = common_cases(table)
    among = pd.MultiIndex.from_frame(table[["model", "strategy"]]).isin(rows)
    shared = table[among & table["sample"].isin(samples)]
    if not len(shared):
        return pd.DataFrame(columns=list(INFLUENCE_COLUMNS))
    cases = ScoredCases.of(shared, patient)
    weights = np.vstack([np.ones(len(cases.samples)), (1.0 - np.eye(len(cases.units)))[:, cases.codes]])
    tcs = cases.tcs(weights)
    ranks = np.stack([_ranks(scores) for scores in tcs])
    sizes = np.bincount(cases.codes)
    found: list[dict[str, Any]] = []
    for unit, name in enumerate(cases.units):
        about = {"left_out": name, "unit": "patient" if cases.clustered else "sample", "n_rows": int(sizes[unit])}
        for row, (model, strategy) in enumerate(cases.rows):
            both = {"TCS": tcs[0, row], "TCS_without": tcs[unit + 1, row], "change": tcs[unit + 1, row] - tcs[0, row]}
            places = {"rank": ranks[0, row], "rank_without": ranks[unit + 1, row]}
            found.append({**about, "model": model, "strategy": strategy, **both, **places})
    return pd.DataFrame(found, columns=list(INFLUENCE_COLUMNS)).astype({"rank": "Int64", "rank_without": "Int64"})


def _ranks(scores: FloatArray) -> FloatArray:
    """Return the rank of each score, the highest first; NaN for NaN."""
    better = (scores[:, None] > scores + EQUAL).sum(axis=0)
    return np.where(np.isfinite(scores), 1.0 + better, np.nan)


def influence_notes(found: pd.DataFrame, most: int = 5) -> list[str]:
    """Say whether the first row stays first without each of the cases, and which of them it hangs on."""
    first = found[found["rank"] == 1]
    if first.empty or found.drop_duplicates(["model", "strategy"]).shape[0] < 2:
        return []
    falls = first[first["rank_without"].ne(1)].drop_duplicates("left_out")
    unit, n = first["unit"].iloc[0], first["left_out"].nunique()
    name = f"{first['model'].iloc[0]}, {first['strategy'].iloc[0]}"
    if falls.empty:
        return [f"{name} has the highest TCS whichever of the {n} {unit}s is left out"]
    names = ", ".join(map(str, falls["left_out"].head(most))) + (" and others" if len(falls) > most else "")
    return [f"{name} does not have the highest TCS without one of {len(falls)} of the {n} {unit}s: {names}"]
