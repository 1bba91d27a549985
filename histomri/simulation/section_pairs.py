"""Synthetic pairs of a section and an MRI slice with exact truth, for the measurement of registration.

An MRI slice of 86 x 86 pixels of 0.386 mm shows an irregular lobe with holes; the section has three maps of the same
pixel size and a fine tissue mask (0.097 mm). The section is turned by any angle, turned over in half of the cases,
shrunk by 8 to 18 %, sheared, smoothly deformed by up to 1 mm, and lacks a tenth of its tissue. The MRI is a curved
function of the three maps, which explains half to four fifths of it, seen through a coil and with noise. Hard pairs
also have a tear, lack a fifth, lie up to 0.8 mm off the slice, have a rounder outline and more noise, and the maps
explain a third to a half.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.images import Image

PIXEL, FINE, SIZE = 0.386, 0.0965, 86  # mm, mm, pixels
_Rng: TypeAlias = np.random.Generator
Inside: TypeAlias = Callable[[FloatArray, float], BoolArray]


@dataclass(frozen=True)
class Level:
    """How hard a pair is."""

    deform_mm: float
    missing: float
    shear: float
    off_mm: float
    round: float
    tear: bool
    shrinkage: tuple[float, float]
    snr: float
    explained: tuple[float, float]


Outline: TypeAlias = Callable[[_Rng, Level], Inside]
Lacking: TypeAlias = Callable[[_Rng, Inside], Callable[[FloatArray], BoolArray]]
LEVELS = {
    "easy": Level(0.0, 0.0, 0.0, 0.0, 1.0, False, (0.129, 0.129), 30, (0.5, 0.8)),
    "standard": Level(1.0, 0.10, 0.04, 0.0, 1.0, False, (0.08, 0.18), 30, (0.5, 0.8)),
    "hard": Level(1.0, 0.20, 0.04, 0.8, 0.45, True, (0.08, 0.18), 15, (0.33, 0.5)),
}


@dataclass(frozen=True)
class Pair:
    """Two images, the maps of the section, and matching points.

    Attributes
    ----------
    moving, moving_mask, fixed : Image
        First map of the section, its fine mask, the MRI slice.
    maps : tuple of Image
        Three maps of the section.
    aligned : (3, SIZE, SIZE) ndarray
        The maps as they are in the MRI's place, without noise.
    points_moving, points_fixed : (N, 3) ndarray
        Tissue points of the section and where they belong, world mm.
    flipped : bool
        Whether the section was turned over.
    angle_deg : float
        How far the section is turned.
    off_mm : float
        How far beside the MRI slice the section was cut.
    """

    moving: Image
    moving_mask: Image
    fixed: Image
    maps: tuple[Image, ...]
    aligned: FloatArray
    points_moving: FloatArray
    points_fixed: FloatArray
    flipped: bool
    angle_deg: float
    off_mm: float


def make_pair(
    seed: int, level: Level, *, related: bool = True, outline: Outline | None = None, lacking: Lacking | None = None
) -> Pair:
    """Return a pair; without `related` the MRI has nothing to do with the maps but the outline.

    The organ is a lobe, or has another `outline`: a function of the random generator and the level that returns which
    points, (N, 2) mm, of the slice so many mm beside the middle one are tissue. `lacking`, a function of the generator
    and of that one, returns which points the section lacks besides. The same seed gives the same pair, to rounding
    errors.
    """
    rng = np.random.default_rng(seed)
    lobe = (outline or _lobe)(rng, level)
    gone = None if lacking is None else lacking(np.random.default_rng([seed, 6]), lobe)
    wave = _wave(rng, level.deform_mm)
    angle, flip = rng.uniform(0, 2 * np.pi), rng.random() < 0.5
    shear = np.eye(2) + level.shear * rng.uniform(-1, 1, (2, 2))
    scale = 1 - rng.uniform(*level.shrinkage)
    cosine, sine = np.cos(angle), np.sin(angle)
    pull = scale * np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([1, -1 if flip else 1]) @ shear
    shift = rng.uniform(-2, 2, 2)
    push = np.linalg.inv(pull)
    gap = _missing(rng, level)
    tear = _tear(rng) if level.tear else None
    off = level.off_mm * rng.uniform(-1, 1)

    def to_fixed(points: FloatArray) -> FloatArray:  # section mm -> MRI mm
        points = (points - shift) @ push.T
        return np.asarray(points + wave(points))

    def section(points: FloatArray) -> BoolArray:
        there = to_fixed(points)
        present = lobe(there, off) & ~gap(there)
        present = present if gone is None else present & ~gone(there)
        return np.asarray(present if tear is None else present & ~tear(there))

    content = np.random.default_rng([seed, 1])  # of its own, so that geometry and content do not depend on each other
    fields, contrast = _fields(content), _contrast(content, level)
    unrelated = None if related else _fields(np.random.default_rng([seed, 2]))

    fixed_affine = _centred(PIXEL, SIZE, sign=1)
    places = _grid(fixed_affine, SIZE)
    inside = lobe(places, 0.0)
    signal = np.where(inside, contrast(places, (unrelated or fields)(places, 0.0)), 0.0).reshape(SIZE, SIZE)
    noise = content.normal(0, 1 / level.snr, (2, SIZE, SIZE))
    fixed = Image(np.hypot(signal + noise[0], noise[1]), fixed_affine)

    fine = SIZE * 4
    coarse_affine, fine_affine = _centred(PIXEL, SIZE, sign=-1), _centred(FINE, fine, sign=-1)
    mask = section(_grid(fine_affine, fine)).reshape(fine, fine)
    spots = _grid(coarse_affine, SIZE)
    present = section(spots)
    values = fields(to_fixed(spots), off) + content.normal(0, 0.1, (3, len(spots)))
    maps = tuple(Image(np.where(present, row, np.nan).reshape(SIZE, SIZE), coarse_affine) for row in values)
    rows = np.argwhere(mask)[:: max(1, mask.sum() // 400)]
    points = _at(fine_affine, rows)
    truth = np.column_stack([to_fixed(points[:, :2]), np.zeros(len(points))])
    aligned = np.where(inside, fields(places, off), np.nan).reshape(3, SIZE, SIZE)
    turned = float(np.degrees(angle))
    fine_mask = Image(mask.astype(float), fine_affine)
    return Pair(maps[0], fine_mask, fixed, maps, aligned, points, truth, flip, turned, off)


def make_stack(seed: int, level: Level, slices: int = 5, gap_mm: float = 1.0) -> tuple[Pair, Image, int]:
    """Return a pair, an MRI of several slices that holds its fixed image, and the slice nearest to the cut."""
    pair = make_pair(seed, level)
    rng = np.random.default_rng(seed)
    lobe = _lobe(rng, level)
    content = np.random.default_rng([seed, 1])
    fields, contrast = _fields(content), _contrast(content, level)
    right = int(np.random.default_rng([seed, 3]).integers(slices))
    places = _grid(pair.fixed.affine, SIZE)
    drawn = []
    for k in range(slices):
        depth = gap_mm * (k - right)
        signal = np.where(lobe(places, depth), contrast(places, fields(places, depth)), 0.0).reshape(SIZE, SIZE)
        noise = np.random.default_rng([seed, 4, k]).normal(0, 1 / level.snr, (2, SIZE, SIZE))
        drawn.append(np.hypot(signal + noise[0], noise[1]))
    affine = pair.fixed.affine.copy()
    affine[2, 2], affine[2, 3] = gap_mm, -gap_mm * right
    stack = Image(np.stack(drawn, axis=2), affine)
    nearest = int(np.clip(np.rint(right + pair.off_mm / gap_mm), 0, slices - 1))
    return replace(pair, fixed=stack), stack, nearest


def _fields(rng: _Rng) -> Callable[[FloatArray, float], FloatArray]:
    """Three smooth random maps in the body, values about 0 and of spread 1, that also change from slice to slice."""
    count = 24
    length = rng.uniform(2.5, 9.0, (3, count, 1))
    waves = rng.normal(size=(3, count, 3))
    waves *= 2 * np.pi / length / np.linalg.norm(waves, axis=2, keepdims=True)
    phases, heights = rng.uniform(0, 2 * np.pi, (3, count)), rng.normal(size=(3, count)) * np.sqrt(2 / count)
    mix = np.array([[1.0, 0, 0], [0.4, 0.92, 0], [0.6, -0.3, 0.74]])

    def fields(points: FloatArray, depth: float) -> FloatArray:
        points = np.column_stack([points, np.full(len(points), depth)])
        return np.asarray(mix @ np.stack([np.cos(points @ waves[n].T + phases[n]) @ heights[n] for n in range(3)]))

    return fields


def _contrast(rng: _Rng, level: Level) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """How the MRI comes from the maps: a bent function, something of its own beside it, and a coil in front of it."""
    slopes, bends = rng.normal(size=3), 0.4 * rng.normal(size=3)
    share = rng.uniform(*level.explained)
    own, coil = _fields(rng), 0.015 * rng.normal(size=2)

    def contrast(points: FloatArray, maps: FloatArray) -> FloatArray:
        seen = slopes @ maps + bends @ maps**2
        beside = own(points, 0.0)[0]
        seen = (seen - seen.mean()) / seen.std()
        beside = (beside - beside.mean()) / beside.std()
        signal = 1 + 0.2 * (np.sqrt(share) * seen + np.sqrt(1 - share) * beside)
        return np.asarray(np.clip(signal, 0.35, None) * (1 + points @ coil))

    return contrast


def _lobe(rng: _Rng, level: Level) -> Inside:
    orders = np.arange(2, 8)
    amplitude = level.round * 0.28 * rng.normal(size=len(orders)) / orders**0.8
    phase = rng.uniform(0, 2 * np.pi, len(orders))
    drift = 0.10 * rng.normal(size=len(orders)) / orders
    radius = rng.uniform(8.5, 10.5)
    holes = [(rng.uniform(-5, 5, 2), rng.uniform(0.5, 1.2)) for _ in range(rng.integers(2, 6))]

    def inside(points: FloatArray, off: float) -> BoolArray:
        theta, r = np.arctan2(points[:, 1], points[:, 0]), np.hypot(points[:, 0], points[:, 1])
        edge = 1 + ((amplitude + drift * off) * np.cos(orders * theta[:, None] + phase)).sum(axis=1)
        found = r < radius * np.clip(edge, 0.35, 1.45)
        for centre, size in holes:
            found &= np.hypot(*(points - centre - 0.3 * off).T) > size
        return np.asarray(found)

    return inside


def _wave(rng: _Rng, largest: float) -> Callable[[FloatArray], FloatArray]:
    vectors, waves, phases = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.uniform(0, 2 * np.pi, 6)
    waves *= (2 * np.pi / rng.uniform(18, 40, (6, 1))) / np.linalg.norm(waves, axis=1, keepdims=True)
    grid = np.stack(np.meshgrid(np.linspace(-12, 12, 40), np.linspace(-12, 12, 40)), -1).reshape(-1, 2)

    def raw(points: FloatArray) -> FloatArray:
        return np.asarray(np.sin(points @ waves.T + phases) @ vectors)

    top = np.linalg.norm(raw(grid), axis=1).max()
    return lambda points: largest * raw(points) / top


def _missing(rng: _Rng, level: Level) -> Callable[[FloatArray], BoolArray]:
    angle, count = rng.uniform(0, 2 * np.pi, 2), 2
    places = [9.5 * np.array([np.cos(a), np.sin(a)]) for a in angle]
    radius = np.sqrt(level.missing * np.pi * 90 / count / np.pi * 1.7)
    return lambda points: np.any([np.hypot(*(points - place).T) < radius for place in places], axis=0)


def _tear(rng: _Rng) -> Callable[[FloatArray], BoolArray]:
    angle, start = rng.uniform(0, 2 * np.pi), rng.uniform(-4, 4, 2)
    along = np.array([np.cos(angle), np.sin(angle)])

    def torn(points: FloatArray) -> BoolArray:
        t, n = (points - start) @ along, (points - start) @ np.array([-along[1], along[0]])
        return np.asarray((t > 0) & (np.abs(n - 0.6 * np.sin(t / 2)) < 0.05 + 0.05 * t))

    return torn


def _centred(pixel: float, count: int, sign: int) -> FloatArray:
    affine = np.diag([sign * pixel, sign * pixel, 1.0, 1.0])
    affine[:2, 3] = -sign * pixel * (count - 1) / 2
    return affine


def _grid(affine: FloatArray, count: int) -> FloatArray:
    return _at(affine, np.argwhere(np.ones((count, count), bool)))[:, :2]


def _at(affine: FloatArray, rows: IntArray) -> FloatArray:
    return np.asarray(rows @ affine[:3, :2].T + affine[:3, 3])
