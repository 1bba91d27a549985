"""Sections of other shapes: those whose orientation the outline leaves open, fair ones, and those that lack a side."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.simulation.section_pairs import LEVELS, Inside, Level, Outline, Pair, make_pair

_Rng = np.random.Generator
Edge = Callable[[FloatArray], FloatArray]

_MISSING = (0.0, 0.10, 0.20)


def _wrapped(angle: FloatArray) -> FloatArray:
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def _radial(edge: Edge, holes: Sequence[tuple[FloatArray, float]] = ()) -> Inside:
    """Return the tissue within a radius that is a function of the angle, mm."""

    def inside(points: FloatArray, off: float) -> BoolArray:
        theta, r = np.arctan2(points[:, 1], points[:, 0]), np.hypot(*points.T)
        found = r < edge(theta) * (1 + 0.02 * off * np.cos(theta - 1))
        for centre, size in holes:
            found &= np.hypot(*(points - centre).T) > size
        return np.asarray(found)

    return inside


def block(rng: _Rng, level: Level, size: float = 1.0) -> Inside:
    """Return cut tissue: a rectangle with rounded corners."""
    a, b = size * rng.uniform(7.5, 9), size * rng.uniform(5.5, 7)
    return _radial(lambda t: (np.abs(np.cos(t) / a) ** 8 + np.abs(np.sin(t) / b) ** 8) ** (-1 / 8))


def ellipse(rng: _Rng, level: Level) -> Inside:
    """Return an ellipse."""
    a, b = rng.uniform(8.5, 10.5), rng.uniform(6, 7.5)
    return _radial(lambda t: a * b / np.hypot(b * np.cos(t), a * np.sin(t)))


def brain(rng: _Rng, level: Level) -> Inside:
    """Return two like halves with a notch between them."""
    wide, deep, flat = rng.uniform(0.05, 0.15), rng.uniform(0.08, 0.2), rng.uniform(0.02, 0.08)

    def edge(t: FloatArray) -> FloatArray:
        notch = deep * np.exp(-((_wrapped(t - np.pi / 2) / 0.25) ** 2))
        return np.asarray(9 * (1 + wide * np.cos(2 * t) - flat * np.sin(t) - notch))

    return _radial(edge)


def kidney(rng: _Rng, level: Level) -> Inside:
    """Return an outline with one hollow, the same on either side of it."""
    deep, wide = rng.uniform(0.2, 0.4), rng.uniform(0.5, 0.8)
    return _radial(lambda t: 9 * (1 + 0.2 * np.cos(2 * t) - deep * np.exp(-((_wrapped(t - np.pi / 2) / wide) ** 2))))


def threefold(rng: _Rng, level: Level) -> Inside:
    """Return an outline that a third of a turn takes onto itself."""
    deep = rng.uniform(0.1, 0.25)
    return _radial(lambda t: 9 * (1 + deep * np.cos(3 * t)))


def half_disc(rng: _Rng, level: Level) -> Inside:
    """Return a disc cut straight."""
    radius, cut = rng.uniform(9, 11), rng.uniform(2, 4)
    return lambda points, off: (np.hypot(*points.T) < radius) & (points[:, 1] > -cut)


def bean(rng: _Rng, level: Level) -> Inside:
    """Return a kidney whose two ends differ: the third wave is odd about the hollow."""
    deep, skew, phase = rng.uniform(0.15, 0.35), rng.uniform(0.10, 0.20), rng.uniform(-0.3, 0.3)

    def edge(t: FloatArray) -> FloatArray:
        hollow = deep * np.exp(-((_wrapped(t - 1.7) / 0.6) ** 2))
        return np.asarray(9 * (1 + 0.15 * np.cos(2 * t) + skew * np.cos(3 * t + phase) - hollow))

    return _radial(edge)


def star(rng: _Rng, level: Level) -> Inside:
    """Return five arms, none as long as another."""
    arms = rng.permutation(np.linspace(0.15, 0.6, 5))

    def edge(t: FloatArray) -> FloatArray:
        return np.asarray(
            6 * (1 + sum(a * np.exp(-((_wrapped(t - 2 * np.pi * n / 5) / 0.35) ** 2)) for n, a in enumerate(arms)))
        )

    return _radial(edge)


def two_pieces(rng: _Rng, level: Level) -> Inside:
    """Return a section of two unlike pieces."""
    one, other = rng.uniform(6, 7), rng.uniform(3.5, 4.5)
    side, tail = rng.uniform(8.5, 9.5), rng.uniform(2, 3)

    def inside(points: FloatArray, off: float) -> BoolArray:
        x, y = points.T
        first = np.hypot((x + 4) / one, y / (one - 1)) < 1
        second = np.hypot(x - side + 3, (y - tail) * 0.8) < other
        return np.asarray(first | second | ((np.abs(x + 5) < 1.2) & (y > 0) & (y < 8)))

    return inside


def holed(rng: _Rng, level: Level) -> Inside:
    """Return a nearly round outline with holes."""
    holes = [(rng.uniform(-5.5, 5.5, 2), rng.uniform(0.8, 1.8)) for _ in range(5)]
    return _radial(lambda t: 9 + 0.15 * np.cos(2 * t), holes)


def rim(rng: _Rng, inside: Inside) -> Callable[[FloatArray], BoolArray]:
    """Return where a section lacks 1 to 1.5 mm along one side."""
    middle, half, depth = rng.uniform(-np.pi, np.pi), rng.uniform(np.pi / 4, 1.4), rng.uniform(1.0, 1.5)

    def gone(points: FloatArray) -> BoolArray:
        r = np.hypot(*points.T)
        here = np.abs(_wrapped(np.arctan2(points[:, 1], points[:, 0]) - middle)) < half
        return here & ~inside(points * (1 + depth / np.maximum(r, 1e-6))[:, None], 0.0)

    return gone


def bubbles(rng: _Rng, inside: Inside) -> Callable[[FloatArray], BoolArray]:
    """Return where a section has twelve bubbles."""
    centres, sizes = rng.uniform(-8, 8, (12, 2)), rng.uniform(0.3, 0.8, 12)
    return lambda points: np.any([np.hypot(*(points - c).T) < s for c, s in zip(centres, sizes)], axis=0)


OPEN: dict[str, Outline] = {
    "block": block, "big block": partial(block, size=1.15), "brain": brain, "ellipse": ellipse, "kidney": kidney,
    "three-fold": threefold, "half disc": half_disc,
}  # fmt: skip
"""The outline leaves two or more orientations open."""
FAIR: dict[str, dict[str, Any]] = {
    "standard": {}, "hard": {}, "bean": {"outline": bean}, "star": {"outline": star},
    "two pieces": {"outline": two_pieces}, "holes": {"outline": holed}, "bubbles": {"lacking": bubbles},
}  # fmt: skip
RIMS: dict[str, dict[str, Any]] = {"rim": {"lacking": rim}, "rim of a bean": {"outline": bean, "lacking": rim}}


def make_kind(kind: str, seed: int) -> Pair:
    """Return a pair of a kind; of those that are open 0, 10 or 20 % is missing."""
    if kind in OPEN:
        return make_pair(seed, replace(LEVELS["standard"], missing=_MISSING[seed % 3]), outline=OPEN[kind])
    level = LEVELS["hard" if kind == "hard" else "standard"]
    if kind in RIMS:  # a bite besides in every third
        level = replace(level, missing=0.05 if seed % 3 == 0 else 0.0)
    return make_pair(seed, level, **{**FAIR, **RIMS}[kind])
