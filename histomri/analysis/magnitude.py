"""Values so large or small that their squares are not numbers any more."""

from pathlib import Path

import numpy as np
import pandas as pd

from histomri.analysis.raw import line_of
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError

# The sixth power of a value, which a cubic surface sums, stays a number; no measurement comes near either.
_LARGEST = 1e50
_SMALLEST = 1e-50


def scaled(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return finite values of order 1, and the powers of two by which columns were divided (`numpy.ldexp` undoes it).

    Unlike other factors a power of two rounds nothing.

    Parameters
    ----------
    values : (N,) or (N, P) ndarray
        NaN is left as it is.
    """
    exponent = np.frexp(np.fmax.reduce(np.abs(values), axis=0, initial=0.0))[1]
    # Twice half the way: the power itself need not be a number.
    half = exponent // 2
    return np.asarray(np.ldexp(np.ldexp(values, -half), half - exponent)), np.asarray(exponent)


def require_magnitude(table: pd.DataFrame, path: Path | None = None) -> None:
    """Raise an InputError for a column whose values cannot be computed with; the index counts rows of the file from 0.

    Raises
    ------
    InputError
        Naming column, line and value.
    """
    for name, column in table.items():
        size = column.abs()
        if (size > _LARGEST).any():
            first = column[size > _LARGEST].iloc[0]
            problem = f"column '{name}', line {line_of(size > _LARGEST)}: {first:g} is too large to be a measurement"
            raise InputError(problem, path=path, hint="leave the cell empty if the value is missing")
        if 0 < size.max() < _SMALLEST:
            problem = f"column '{name}' has no value above {size.max():g}, too small to be computed with"
            raise InputError(problem, path=path, hint="give it in another unit")
