"""Counts of values in classes that grow with their size: they can be added, and quantiles found from the sum.

Class k > 0 holds values above S g^(k-1) up to S g^k with S = 1e-9 and g = 1.01, class -k the same below zero, and class
0 what is smaller: a quantile from counts lies within 1 % of the one of the values, whatever their size.
"""

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray, IntArray

_SMALLEST = 1e-9
_GROWTH = 1.01


def class_of(values: FloatArray) -> IntArray:
    """Return the class of each finite value."""
    size = np.maximum(np.abs(values), _SMALLEST)
    steps = np.ceil(np.log(size / _SMALLEST) / np.log(_GROWTH))
    return np.asarray(np.sign(values) * steps, dtype=np.int32)


def quantiles_of_counts(counts: pd.DataFrame, probabilities: tuple[float, ...]) -> pd.DataFrame:
    """Return quantiles of each group of counts: index group, a column per probability from 0 to 1.

    Counts have the columns group, class and n; a class may come several times. The quantiles are those that
    `numpy.quantile` finds for values spread evenly in their classes.
    """
    added = counts.groupby(["group", "class"], sort=True)["n"].sum()
    groups, classes = (added.index.get_level_values(name).to_numpy() for name in ("group", "class"))
    up_to = np.cumsum(added.to_numpy())
    names, first = np.unique(groups, return_index=True)
    before = np.r_[0, up_to][first]
    sizes = np.r_[before[1:], up_to[-1]] - before
    places = (sizes[:, None] - 1) * np.asarray(probabilities)
    below = np.floor(places)
    low, high = (
        _at(before[:, None] + np.minimum(rank, sizes[:, None] - 1), up_to, added.to_numpy(), classes)
        for rank in (below, below + 1)
    )
    return pd.DataFrame(low + (places - below) * (high - low), pd.Index(names, name="group"), list(probabilities))


def _at(rank: FloatArray, up_to: IntArray, n: IntArray, classes: IntArray) -> FloatArray:
    """Return the values with these ranks, from 0, among all values in the order of groups and classes."""
    place = np.searchsorted(up_to, rank, side="right")
    fraction = (rank - (up_to[place] - n[place]) + 0.5) / n[place]
    # The end that is farther from zero, and the nearer one; class 0 is a point.
    outer = np.sign(classes[place]) * (_SMALLEST * _GROWTH ** np.abs(classes[place]).astype(float))
    lower, upper = np.sort([outer, outer / _GROWTH], axis=0)
    return np.asarray(lower + fraction * (upper - lower))
