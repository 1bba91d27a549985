"""Rings of outlines, many at a time: their coordinates as one array, their areas and centroids."""

import struct
from itertools import chain
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray

_FEWEST_CORNERS = 3


def flattened(rings: list[Any]) -> tuple[FloatArray, FloatArray, IntArray] | None:
    """Return the points of rings of GeoJSON, x (P,) and y (P,), and how many there are up to the end of each ring (R,).

    None if there is no ring, one is empty, or one is anything but a list of pairs of finite numbers.
    """
    try:
        # An array for each ring would take three times as long: making small objects takes the time.
        columns = zip(*chain.from_iterable(rings), strict=True)
        x, y = (np.frombuffer(struct.pack(f"{len(column)}d", *column)) for column in columns)
        ends = np.cumsum([len(ring) for ring in rings], dtype=np.int64)
    except (TypeError, ValueError, OverflowError, struct.error):
        return None
    return (x, y, ends) if all(rings) and np.isfinite(x).all() and np.isfinite(y).all() else None


def measure_rings(x: FloatArray, y: FloatArray, ends: IntArray) -> tuple[FloatArray, BoolArray]:
    """Measure rings by the shoelace formula: centroid x, y and area (R, 3), and whether each is simple for sure (R,).

    `x` and `y` are the points of all rings, `ends` how many there are up to the end of each (R,). A ring whose points
    go once around its centroid, always in the same sense, cannot cross itself; it has at least three corners.
    """
    measures = np.zeros((ends.size, 3))
    starts = np.concatenate([[0], ends[:-1]])
    counts = ends - starts
    following = np.arange(1, x.size + 1)
    following[ends - 1] = starts
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of rings that are flat, or beyond all sense
        left, top = x - np.repeat(x[starts], counts), y - np.repeat(y[starts], counts)
        cross = left * top[following] - left[following] * top
        twice = np.add.reduceat(cross, starts)
        x0 = x[starts] + np.add.reduceat((left + left[following]) * cross, starts) / (3 * twice)
        y0 = y[starts] + np.add.reduceat((top + top[following]) * cross, starts) / (3 * twice)
        measures[:, 0], measures[:, 1], measures[:, 2] = x0, y0, np.abs(twice) / 2
        right, below = x - np.repeat(x0, counts), y - np.repeat(y0, counts)
        turn = (right * below[following] - right[following] * below) * np.repeat(np.sign(twice), counts)
    closing = ends - 1
    turn[closing[(x[closing] == x[starts]) & (y[closing] == y[starts])]] = 1  # the ring is closed: no edge is there
    once = np.add.reduceat((below < 0) & (below[following] >= 0), starts, dtype=np.int64) == 1
    simple = np.logical_and.reduceat(turn > 0, starts) & once & (counts > _FEWEST_CORNERS)
    measures[~simple & (twice == 0)] = 0
    return measures, simple
