"""How often, how well and how fast sections are registered: synthetic pairs with exact truth.

Run ``python benchmarks/bench_registration.py [N] [--kind affine|bspline|similarity] [--level easy|standard|hard]``.

A pair: an MRI slice of 86 x 86 pixels of 0.386 mm showing an irregular lobe with holes, and a section map of the same
pixel size with a fine tissue mask (0.097 mm). The section is turned by any angle, turned over in half of the cases,
shrunk by 8 to 18 %, sheared, smoothly deformed by up to 1 mm, and lacks a tenth of its tissue. Hard pairs also have a
tear, lack a fifth, lie up to 0.8 mm off the slice and have a rounder outline. Success: the median error of the mapped
tissue points is below one MRI pixel.
"""

import argparse
import time
from dataclasses import dataclass

import numpy as np

from histomri.maps import Image
from histomri.registration import register

PIXEL, FINE, SIZE = 0.386, 0.0965, 86


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


LEVELS = {
    "easy": Level(0.0, 0.0, 0.0, 0.0, 1.0, False, (0.129, 0.129)),
    "standard": Level(1.0, 0.10, 0.04, 0.0, 1.0, False, (0.08, 0.18)),
    "hard": Level(1.0, 0.20, 0.04, 0.8, 0.45, True, (0.08, 0.18)),
}


@dataclass(frozen=True)
class Pair:
    """Two images and matching points."""

    moving: Image
    moving_mask: Image
    fixed: Image
    points_moving: np.ndarray
    points_fixed: np.ndarray


def make_pair(seed: int, level: Level) -> Pair:
    """Return a pair with matching points, (N, 3) world mm, from the tissue of the section."""
    rng = np.random.default_rng(seed)
    lobe = _lobe(rng, level)
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

    def to_fixed(points: np.ndarray) -> np.ndarray:  # section mm -> MRI mm
        points = (points - shift) @ push.T
        return points + wave(points)

    def section(points: np.ndarray) -> np.ndarray:
        there = to_fixed(points)
        present = lobe(there, level.off_mm * rng_off) & ~gap(there)
        return present if tear is None else present & ~tear(there)

    rng_off = rng.uniform(-1, 1)
    fixed_affine = _centred(PIXEL, SIZE, sign=1)
    inside = lobe(_grid(fixed_affine, SIZE), 0.0).reshape(SIZE, SIZE)
    noise = np.hypot(np.where(inside, 1 + 0.2 * rng.standard_normal(inside.shape), 0), 0) + 0.0
    mri = np.hypot(
        np.clip(noise, 0.3, None) * inside + rng.normal(0, 1 / 30, inside.shape), rng.normal(0, 1 / 30, inside.shape)
    )
    count, fine = SIZE, SIZE * 4
    coarse_affine, fine_affine = _centred(PIXEL, count, sign=-1), _centred(FINE, fine, sign=-1)
    mask = section(_grid(fine_affine, fine)).reshape(fine, fine)
    present = section(_grid(coarse_affine, count)).reshape(count, count)
    moving = np.where(present, rng.uniform(0.3, 0.7, present.shape), np.nan)
    rows = np.argwhere(mask)[:: max(1, mask.sum() // 400)]
    points = _at(fine_affine, rows)
    truth = np.column_stack([to_fixed(points[:, :2]), np.zeros(len(points))])
    return Pair(
        Image(moving, coarse_affine), Image(mask.astype(float), fine_affine), Image(mri, fixed_affine), points, truth
    )


def _lobe(rng, level):
    orders = np.arange(2, 8)
    amplitude = level.round * 0.28 * rng.normal(size=len(orders)) / orders**0.8
    phase = rng.uniform(0, 2 * np.pi, len(orders))
    drift = 0.10 * rng.normal(size=len(orders)) / orders
    radius = rng.uniform(8.5, 10.5)
    holes = [(rng.uniform(-5, 5, 2), rng.uniform(0.5, 1.2)) for _ in range(rng.integers(2, 6))]

    def inside(points, off):
        theta, r = np.arctan2(points[:, 1], points[:, 0]), np.hypot(points[:, 0], points[:, 1])
        edge = 1 + ((amplitude + drift * off) * np.cos(orders * theta[:, None] + phase)).sum(axis=1)
        found = r < radius * np.clip(edge, 0.35, 1.45)
        for centre, size in holes:
            found &= np.hypot(*(points - centre - 0.3 * off).T) > size
        return found

    return inside


def _wave(rng, largest):
    vectors, waves, phases = rng.normal(size=(6, 2)), rng.normal(size=(6, 2)), rng.uniform(0, 2 * np.pi, 6)
    waves *= (2 * np.pi / rng.uniform(18, 40, (6, 1))) / np.linalg.norm(waves, axis=1, keepdims=True)
    grid = np.stack(np.meshgrid(np.linspace(-12, 12, 40), np.linspace(-12, 12, 40)), -1).reshape(-1, 2)

    def raw(points):
        return np.sin(points @ waves.T + phases) @ vectors

    top = np.linalg.norm(raw(grid), axis=1).max()
    return lambda points: largest * raw(points) / top


def _missing(rng, level):
    angle, count = rng.uniform(0, 2 * np.pi, 2), 2
    places = [9.5 * np.array([np.cos(a), np.sin(a)]) for a in angle]
    radius = np.sqrt(level.missing * np.pi * 90 / count / np.pi * 1.7)
    return lambda points: np.any([np.hypot(*(points - place).T) < radius for place in places], axis=0)


def _tear(rng):
    angle, start = rng.uniform(0, 2 * np.pi), rng.uniform(-4, 4, 2)
    along = np.array([np.cos(angle), np.sin(angle)])

    def torn(points):
        t, n = (points - start) @ along, (points - start) @ np.array([-along[1], along[0]])
        return (t > 0) & (np.abs(n - 0.6 * np.sin(t / 2)) < 0.05 + 0.05 * t)

    return torn


def _centred(pixel, count, sign):
    affine = np.diag([sign * pixel, sign * pixel, 1.0, 1.0])
    affine[:2, 3] = -sign * pixel * (count - 1) / 2
    return affine


def _grid(affine, count):
    return _at(affine, np.argwhere(np.ones((count, count), bool)))[:, :2]


def _at(affine, rows):
    return rows @ affine[:3, :2].T + affine[:3, 3]


def run(level: str, count: int, kind: str, first_seed: int = 0, verbose: bool = False) -> dict[str, float]:
    """Register `count` pairs and return what came of it."""
    errors, tails, seconds, verdicts, gaps = [], [], [], [], []
    for seed in range(first_seed, first_seed + count):
        pair = make_pair(seed, LEVELS[level])
        start = time.perf_counter()
        found = register(pair.moving, pair.fixed, moving_mask=pair.moving_mask, kind=kind)
        seconds.append(time.perf_counter() - start)
        error = 1000 * np.linalg.norm(found.points(pair.points_moving) - pair.points_fixed, axis=1)
        errors.append(np.median(error))
        tails.append(np.percentile(error, 95))
        verdicts.append(found.qc["verdict"])
        gaps.append(found.confidence)
        if verbose:
            print(seed, round(errors[-1]), verdicts[-1], {k: v for k, v in found.qc.items() if isinstance(v, float)})
    errors, verdicts = np.array(errors), np.array(verdicts)
    good = verdicts == "good"
    return {
        "success %": 100 * np.mean(errors < 1000 * PIXEL),
        "median um": float(np.median(errors)),
        "95 % of points um": float(np.median(tails)),
        "s per pair": float(np.median(seconds)),
        "called good %": 100 * good.mean(),
        "worst called good um": float(errors[good].max(initial=0)),
        "failures called good %": 100 * np.mean(good & (errors > 2000 * PIXEL)),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=20)
    parser.add_argument("--kind", choices=["similarity", "affine", "bspline"], action="append")
    parser.add_argument("--level", choices=list(LEVELS), action="append")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    for level in options.level or LEVELS:
        for kind in options.kind or ["affine"]:
            row = run(level, options.count, kind, verbose=options.verbose)
            print(f"{level:9} {kind:10}", "  ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
