"""Every measurement against every other: tables and matrices of correlations."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from histomri.analysis.correlation import Interval, Kind, correlate
from histomri.analysis.multiple import Adjustment, adjust_p

COLUMNS = ("x", "y", "kind", "r", "p", "q", "n", "ci_low", "ci_high", "n_missing", "note")


def correlation_table(
    table: pd.DataFrame,
    x: Sequence[str] | None = None,
    y: Sequence[str] | None = None,
    *,
    kinds: Sequence[Kind] = ("pearson", "spearman"),
    confidence: float = 0.95,
    interval: Interval = "jackknife",
    adjustment: Adjustment = "bh",
) -> pd.DataFrame:
    """Correlate columns of a table in pairs.

    Parameters
    ----------
    table : DataFrame
        One row per case, columns of numbers; NaN is missing.
    x, y : sequence of str, optional
        Every x against every y. Without y every pair of x; without both every pair of columns.
    kinds : sequence of {"pearson", "spearman"}
        Linear and rank correlations.
    confidence, interval
        As in `correlate`.
    adjustment : {"bh", "holm", "bonferroni"}
        Of q, over all tests of one kind.

    Returns
    -------
    DataFrame
        Columns `COLUMNS`, one row per pair and kind; q is the adjusted p. Undefined correlations are NaN with a note,
        and do not count as tests.
    """
    first = list(x) if x is not None else list(table.columns)
    pairs = list(combinations(first, 2)) if y is None else [(a, b) for a in first for b in y if a != b]
    rows = []
    for kind in kinds:
        for one, other in pairs:
            found = correlate(table[one], table[other], kind=kind, confidence=confidence, interval=interval)
            low, high = found.ci or (np.nan, np.nan)
            values = (one, other, kind, found.r, found.p, np.nan, found.n, low, high, found.n_missing, found.note)
            rows.append(dict(zip(COLUMNS, values)))
    result = pd.DataFrame(rows, columns=list(COLUMNS))
    for kind in kinds:
        mine = result["kind"] == kind
        result.loc[mine, "q"] = adjust_p(result.loc[mine, "p"], adjustment)
    return result


def as_matrix(correlations: pd.DataFrame, value: str = "r", kind: Kind = "pearson") -> pd.DataFrame:
    """Return one value of a table of all pairs as a symmetric matrix.

    Parameters
    ----------
    correlations : DataFrame
        From `correlation_table`.
    value : str
        Column to show: r, p, q or n.
    kind : {"pearson", "spearman"}
        Which correlations.

    Returns
    -------
    DataFrame
        Rows and columns are the measurements; pairs not in the table are NaN, the diagonal is 1 for r, NaN otherwise.
    """
    mine = correlations[correlations["kind"] == kind]
    names = list(dict.fromkeys([*mine["x"], *mine["y"]]))
    place = {name: position for position, name in enumerate(names)}
    matrix = np.full((len(names), len(names)), np.nan)
    rows, columns = [place[name] for name in mine["x"]], [place[name] for name in mine["y"]]
    matrix[rows, columns] = matrix[columns, rows] = mine[value].to_numpy(dtype=float)
    if value == "r":
        np.fill_diagonal(matrix, 1.0)
    return pd.DataFrame(matrix, index=names, columns=names)
