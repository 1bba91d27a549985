"""Whether the outlines show which orientation is the right one, or leave open which of several it is.

Two orientations are compared where both were bent as well as they can be, over the same pixels. The lead of the best
must also hold when any piece of 4 mm is left out: a single corner, torn or missing, must not decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from skimage.measure import find_contours

from histomri.core.arrays import FloatArray, IntArray
from histomri.registration.outline_engine import Match
from histomri.registration.refine import HasPoints, Problem

CLEAR_LEAD = 0.03
"""Least sum of the lead and of the lowest lead without a piece of outline."""
_PIECE = 10  # units of the outline, 4 mm at a pixel of 0.386 mm, that may be left out
_LEAST_PIECES = 8


@dataclass(frozen=True)
class Lead:
    """How much better the outlines agree than in another orientation: in all, and at least without any one piece."""

    whole: float
    lowest: float

    @property
    def is_clear(self) -> bool:
        """Whether the other orientation can be excluded."""
        return self.whole + self.lowest >= CLEAR_LEAD


def leads(best: Match, others: Sequence[Match]) -> list[Lead]:
    """Return the lead of a match over others on the same slice, each bent whether or not that earns its freedom."""
    problem = best.problem.nearby
    bins, count = along_outline(problem, problem.points)
    window = max(1, min(_PIECE, count // _LEAST_PIECES))
    own = _by_place(problem, best.compared, bins, count)
    return [_lead(own, _by_place(problem, other.compared, bins, count), window) for other in others]


def along_outline(problem: Problem, points: FloatArray) -> tuple[IntArray, int]:
    """Return in which piece of the outer fixed outline, each one unit long, every point (N, 2) lies, and their number.

    A point lies in the piece that is nearest to it.
    """
    fixed = problem.fixed
    line = fixed.place(max(find_contours(fixed.distance_filled, 0.0), key=len))
    along = np.r_[0.0, np.cumsum(np.hypot(*np.diff(line, axis=0).T))]
    count = max(_LEAST_PIECES, round(float(along[-1]) / problem.unit_mm))
    place = along[cKDTree(line).query(points)[1]]
    return np.minimum((place / along[-1] * count).astype(np.intp), count - 1), count


def _by_place(problem: Problem, mapping: HasPoints, bins: IntArray, count: int) -> FloatArray:
    """Return the weighted agreement and the weight, (2, count), along the outline, of all together 1 in weight."""
    near, agreement, weight = problem.agreements(mapping)
    weight = weight / weight.sum()
    return np.stack([np.bincount(bins[near], values, count) for values in (weight * agreement, weight)])


def _lead(own: FloatArray, other: FloatArray, window: int) -> Lead:
    """Return the lead, and the lowest where any `window` neighbouring pieces of the closed outline are left out."""
    rest = []
    for part in (own, other):
        turned = np.concatenate([part, part[:, :window]], axis=1).cumsum(axis=1)
        left_out = turned[:, window:] - turned[:, :-window]
        total = part.sum(axis=1, keepdims=True) - left_out
        rest.append(total[0] / np.maximum(total[1], 1e-9))
    return Lead(float(own[0].sum() - other[0].sum()), float((rest[0] - rest[1]).min()))
