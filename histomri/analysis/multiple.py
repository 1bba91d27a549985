"""Many tests at once: p-values adjusted for their number."""

import numpy as np
from numpy.typing import ArrayLike

from histomri.analysis.options import Adjustment
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError


def adjust_p(p: ArrayLike, method: Adjustment = "bh") -> FloatArray:
    """Adjust p-values for the number of tests.

    Parameters
    ----------
    p : (T,) array-like
        Two-sided p-values; a NaN is no test, and stays NaN.
    method : {"bh", "holm", "bonferroni"}
        False discovery rate (Benjamini & Hochberg 1995, doi 10.1111/j.2517-6161.1995.tb02031.x), or family-wise error
        (Holm 1979; Bonferroni).

    Returns
    -------
    (T,) ndarray
        Adjusted values, at most 1, in the order of `p`.
    """
    given = np.asarray(p, dtype=float).ravel()
    adjusted = np.full(given.shape, np.nan)
    tests = np.flatnonzero(np.isfinite(given))
    if not tests.size:
        return adjusted
    order = tests[np.argsort(given[tests], kind="stable")]
    ascending, n = given[order], tests.size
    rank = np.arange(1, n + 1)
    if method == "bh":
        scaled = np.minimum.accumulate((ascending * n / rank)[::-1])[::-1]
    elif method == "holm":
        scaled = np.maximum.accumulate(ascending * (n - rank + 1))
    elif method == "bonferroni":
        scaled = ascending * n
    else:
        raise InputError(f"unknown adjustment '{method}'", hint="use bh, holm or bonferroni")
    adjusted[order] = np.minimum(scaled, 1.0)
    return adjusted
