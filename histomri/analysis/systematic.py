"""Errors that all rows of a slide share, carried onto biases, slopes, intercepts and HFC.

What is assumed of a section (its thickness, shrinkage, smallest nucleus, cell fraction) and the model of stereology
shift all of its patches, and all sections that were prepared alike, in one direction. No average makes that smaller
and no scatter shows it, so it is no weight, and no part of the intervals by sampling. It stands in columns of its own
(``vCS_histo_um_syst``); a result is computed again with all values moved up, then down, by their error together.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.columns import SYST

LINE_COLUMNS = ("slope", "intercept", "slope_syst", "intercept_syst")


def shared_errors(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    """Return the systematic errors of those of the columns that have any, under the names of these columns."""
    known = {name: f"{name}{SYST}" for name in names}
    return pd.DataFrame({name: table[own].astype(float) for name, own in known.items() if own in table}, table.index)


def of_pair(first: pd.Series, second: pd.Series, errors: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the complete rows of two columns, and the systematic errors of those that have any."""
    both = pd.concat([first, second], axis=1).dropna()
    return both, errors.loc[both.index, [name for name in both if name in errors]]


def common_error(
    result: Callable[[pd.DataFrame], FloatArray], values: pd.DataFrame, errors: pd.DataFrame
) -> FloatArray:
    """Return by how much results move where the values of a column are off together.

    Parameters
    ----------
    result : callable
        Takes values like `values`, returns K numbers.
    values : DataFrame
        (N, M) numbers, none missing.
    errors : DataFrame
        (N, up to M) systematic errors, in columns of the same names; see `shared_errors`.

    Returns
    -------
    (K,) array
        Of a shift up and one down the larger effect; those of several columns are added in quadrature. NaN where the
        error of a value is missing, and where no column has errors.

    Examples
    --------
    >>> values = pd.DataFrame({"a": [10.0, 12.0], "b": [9.0, 10.0]})
    >>> common_error(lambda one: one["a"].mean() - one["b"].mean(), values, pd.DataFrame({"b": [0.9, 1.0]}))
    array([0.95])
    """
    base = np.atleast_1d(np.asarray(result(values), dtype=float))
    if not errors.shape[1]:
        return np.full(base.shape, math.nan)
    squares = np.zeros(base.shape)
    for name, error in errors.items():
        if error.isna().any():
            return np.full(base.shape, math.nan)
        moved = (result(values.assign(**{str(name): values[name] + sign * error})) for sign in (1.0, -1.0))
        squares += np.max([np.abs(np.atleast_1d(one) - base) for one in moved], axis=0) ** 2
    return np.sqrt(squares)


def line(values: pd.DataFrame, response: str, terms: list[str]) -> FloatArray:
    """Return slopes and then the intercept of a straight line by least squares, in the units of the columns, (P + 1,).

    NaN where the rows do not settle them.
    """
    design = np.column_stack([values[terms].to_numpy(dtype=float), np.ones(len(values))])
    found, _, rank, _ = np.linalg.lstsq(design, values[response].to_numpy(dtype=float), rcond=None)
    return np.asarray(found) if rank == design.shape[1] else np.full(design.shape[1], math.nan)


def with_lines(found: pd.DataFrame, table: pd.DataFrame, errors: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Return Pearson correlations of a table with the line of y on x, and its systematic errors.

    `found` has columns x, y and kind (and `by`, which names the rows of `table` that a correlation is of). Where no
    column of the table has systematic errors, it is returned as it is.
    """
    if not errors.shape[1]:
        return found
    parts = {"": table} if by is None else {str(key): part for key, part in table.groupby(by)}
    rows = [_line_row(row, parts["" if by is None else str(row[by])], errors) for row in found.to_dict("records")]
    return found.assign(**{name: [row[place] for row in rows] for place, name in enumerate(LINE_COLUMNS)})


def _line_row(row: Mapping[str, object], table: pd.DataFrame, errors: pd.DataFrame) -> tuple[float, ...]:
    x, y = str(row["x"]), str(row["y"])
    values = table[[x, y]].astype(float).dropna()
    if row["kind"] != "pearson" or len(values) < 3:
        return (math.nan,) * len(LINE_COLUMNS)
    mine = errors.loc[values.index, [name for name in (x, y) if name in errors]]
    both = common_error(lambda one: line(one, y, [x]), values, mine) if mine.shape[1] else np.zeros(2)
    return (*line(values, y, [x]), *both)


def missing_errors(values: pd.DataFrame, errors: pd.DataFrame) -> list[str]:
    """Say of which columns the systematic error is known for some rows only, so that no result can have one."""
    texts = []
    for name in errors:
        lost = int((values[name].notna() & errors[name].isna()).sum())
        if lost:
            texts.append(f"the systematic error of {name} is missing in {lost} of {len(values)} rows: none is given")
    return texts
