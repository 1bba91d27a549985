"""Scores of models and fitting strategies by their agreement with histology, case by case and over cases.

TCS, HFC and the vote of BIC are scores of Grussu et al. 2025 (doi 10.1038/s43856-025-01246-2).
"""

import math

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import correlate
from histomri.analysis.systematic import common_error, shared_errors
from histomri.core.arrays import FloatArray
from histomri.core.columns import PAIRED
from histomri.core.errors import InputError


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


def histology_fidelity(table: pd.DataFrame) -> pd.DataFrame:
    """Return the histology-fidelity criterion of each case, lower is better.

    HFC = |vCS_mri - vCS_histo| / vCS_histo + |F_mri - F_histo| / F_histo, from columns `PAIRED`, sample, model,
    strategy. The result has sample, model, strategy, HFC, and win: 1 for the lowest HFC of the sample over all models
    and strategies, shared by those that are equal. HFC is NaN where a value is missing or the histology is not
    positive.

    Examples
    --------
    >>> import pandas as pd
    >>> from histomri.analysis import histology_fidelity
    >>> cases = pd.DataFrame({'sample': list('abcd') * 2, 'model': ['x'] * 4 + ['y'] * 4, 'strategy': 'whole',
    ...     'vCS_mri_um': [18, 20, 23, 24, 21, 19, 25, 20], 'vCS_histo_um': [17, 20, 22, 25] * 2,
    ...     'F_mri': [.5, .6, .7, .7, .6, .5, .7, .5], 'F_histo': [.5, .6, .6, .7] * 2})
    >>> histology_fidelity(cases)[['sample', 'model', 'HFC', 'win']].round(2).head(2)
      sample model   HFC  win
    0      a     x  0.06  1.0
    1      b     x  0.00  1.0
    """
    table = as_cases(table, (*PAIRED, "sample", "model", "strategy"))
    result = table[["sample", "model", "strategy"]].assign(HFC=fidelity(table[list(PAIRED)].to_numpy(dtype=float).T))
    lowest = result["HFC"].eq(result.groupby("sample", sort=False)["HFC"].transform("min"))
    result["win"] = lowest / lowest.groupby(result["sample"], sort=False).transform("sum").clip(lower=1)
    return result


def fidelity(values: FloatArray) -> FloatArray:
    """Return HFC, (N,), of the values in the order of `PAIRED`, (4, N); NaN where histology is not positive."""
    size, size_histo, fraction, fraction_histo = values
    size_histo, fraction_histo = (np.where(truth > 0, truth, np.nan) for truth in (size_histo, fraction_histo))
    return np.asarray(np.abs(size - size_histo) / size_histo + np.abs(fraction - fraction_histo) / fraction_histo)


def fidelity_error(table: pd.DataFrame) -> float:
    """Return the systematic error of the mean HFC of the complete cases of one row; NaN where none is known."""
    cases = table[complete_cases(table)]
    if not len(cases):
        return math.nan
    values = cases[list(PAIRED)].astype(float)
    return float(common_error(lambda one: fidelity(one.to_numpy().T).mean(), values, shared_errors(cases, PAIRED))[0])


def complete_cases(table: pd.DataFrame) -> pd.Series:
    """Return which rows have all four values that are scored."""
    return pd.Series(np.isfinite(table[list(PAIRED)].to_numpy(dtype=float)).all(axis=1), index=table.index)


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
