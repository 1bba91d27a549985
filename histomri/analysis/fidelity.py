"""How far a model is from the histology of each case: the histology-fidelity criterion, HFC.

HFC is a score of Grussu et al. 2025 (doi 10.1038/s43856-025-01246-2).
"""

import math

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.systematic import common_error, errors_of
from histomri.core.arrays import FloatArray
from histomri.core.columns import PAIRED


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
    return float(common_error(lambda one: fidelity(one.to_numpy().T).mean(), values, errors_of(cases, PAIRED))[0])


def complete_cases(table: pd.DataFrame) -> pd.Series:
    """Return which rows have all four values that are scored."""
    return pd.Series(np.isfinite(table[list(PAIRED)].to_numpy(dtype=float)).all(axis=1), index=table.index)
