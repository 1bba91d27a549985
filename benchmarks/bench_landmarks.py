"""How often the verdict on landmarks alone is right: synthetic pairs with exact truth, and known mistakes.

Run ``python benchmarks/bench_landmarks.py [N] [--first SEED] [--kind similarity|affine|tps]``. The pairs are those of
histomri/simulation/section_pairs.py, half of them "standard" and half "hard". Six points are set far apart in the
tissue. A verdict is right if "good" goes with a median error of the tissue below one MRI pixel, and anything else does
not. The limits were chosen with seeds from 20000; the default is others, from 21000.
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from machine import describe

from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration import fit_landmarks
from histomri.simulation.section_pairs import LEVELS, PIXEL, Pair, make_pair

POINTS, JITTER_MM = 6, 0.15


class Case(NamedTuple):
    """Landmarks as somebody might give them, the MRI they are given with, and whether they are of this MRI."""

    mistake: str
    pairs: np.ndarray
    fixed: Image
    belongs: bool = True


def cases(pair: Pair, strange: Pair, seed: int) -> Iterator[Case]:
    """Give the landmarks of a pair, exact, set by hand, and with one mistake each; `strange` is another organ."""
    rng = np.random.default_rng([seed, 7])
    exact = spread(pair, POINTS, rng)
    by_hand = jittered(exact, JITTER_MM, rng)
    yield Case("exact", exact, pair.fixed)
    yield Case(f"{JITTER_MM} mm off", by_hand, pair.fixed)
    yield Case(f"{2 * JITTER_MM} mm off", jittered(exact, 2 * JITTER_MM, rng), pair.fixed)
    yield Case("moving and fixed swapped", by_hand[:, ::-1], pair.fixed)
    for axis in (0, 1):
        mirrored = by_hand.copy()
        mirrored[:, 1, axis] *= -1
        yield Case(f"sign of {'xy'[axis]} wrong", mirrored, pair.fixed)
    wrong = by_hand.copy()
    number = rng.integers(POINTS)
    far = np.linalg.norm(pair.points_fixed - exact[number, 1], axis=1) > 4
    wrong[number, 1] = rng.choice(pair.points_fixed[far])
    yield Case("one of six wrong", wrong, pair.fixed)
    order = by_hand.copy()
    order[[0, 1], 1] = order[[1, 0], 1]
    yield Case("two of six exchanged", order, pair.fixed)
    yield Case("on one line", jittered(along_a_line(pair), JITTER_MM, rng), pair.fixed)
    yield Case("MRI of another section", by_hand, strange.fixed, belongs=False)


def spread(pair: Pair, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return points far from each other, (count, 2, 3)."""
    chosen = [int(rng.integers(len(pair.points_fixed)))]
    while len(chosen) < count:
        away = np.linalg.norm(pair.points_fixed[:, None] - pair.points_fixed[chosen], axis=2).min(axis=1)
        chosen.append(int(np.argmax(away)))
    return np.stack([pair.points_moving[chosen], pair.points_fixed[chosen]], axis=1)


def along_a_line(pair: Pair) -> np.ndarray:
    """Return the points next to a line through the tissue, (POINTS, 2, 3)."""
    middle = pair.points_fixed.mean(axis=0)
    goals = middle + np.linspace(-6, 6, POINTS)[:, None] * [0.8, 0.6, 0]
    near = [int(np.argmin(np.linalg.norm(pair.points_fixed - goal, axis=1))) for goal in goals]
    return np.stack([pair.points_moving[near], pair.points_fixed[near]], axis=1)


def jittered(pairs: np.ndarray, error_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return pairs as a hand sets them: `error_mm` off (root mean square) in either image."""
    noise = np.zeros(pairs.shape)
    noise[..., :2] = rng.normal(0, error_mm / np.sqrt(2), (*pairs.shape[:2], 2))
    return pairs + noise


def judged(case: Case, pair: Pair, kind: str) -> tuple[str, float]:
    """Return the verdict, "refused" where there is an error, and the median error of the tissue in mm."""
    try:
        found = fit_landmarks(case.pairs, kind, moving=pair.moving, fixed=case.fixed, moving_mask=pair.moving_mask)
    except GeometryError:
        return "refused", np.inf
    if not case.belongs:
        return found.verdict, np.inf
    return found.verdict, float(np.median(np.linalg.norm(found.points(pair.points_moving) - pair.points_fixed, axis=1)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=40)
    parser.add_argument("--first", type=int, default=21000, help="first seed")
    parser.add_argument("--kind", choices=["similarity", "affine", "tps"], default="affine")
    given = parser.parse_args()
    print(describe("scipy"))
    rows: dict[str, list[tuple[str, float]]] = {}
    for seed in range(given.first, given.first + given.count):
        level = LEVELS["hard" if seed % 2 else "standard"]
        pair, strange = make_pair(seed, level), make_pair(seed + 100_000, level)
        for case in cases(pair, strange, seed):
            rows.setdefault(case.mistake, []).append(judged(case, pair, given.kind))
    rows["all"] = [row for each in rows.values() for row in each]
    print(f"{'landmarks':26} {'n':>5} right % good % check % failed % refused %   below a pixel %  worst good mm")
    for name, each in rows.items():
        verdict, error = (np.array(column) for column in zip(*each, strict=True))
        right = 100 * np.mean((verdict == "good") == (error < PIXEL))
        shares = "  ".join(f"{100 * np.mean(verdict == word):5.0f}" for word in ("good", "check", "failed", "refused"))
        worst = error[verdict == "good"].max(initial=0)
        print(f"{name:26} {len(each):5} {right:6.1f}  {shares}   {100 * np.mean(error < PIXEL):9.0f} {worst:14.2f}")


if __name__ == "__main__":
    main()
