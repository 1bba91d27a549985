"""From the starts on one slice to refined matches, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration.landmarks import landmark_starts, place_landmarks
from histomri.registration.outline_engine import TOO_FAR_BEHIND, Match, OutlineEngine, best_of_slices
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target
from histomri.registration.refine import Pose, Problem, approach, refine
from histomri.registration.search import Start, apart_deg, search
from histomri.registration.tilts import tilted_targets

_REFINED = 10
_SAME_DEG = 2.0
_TILTED = 2
_TILTED_STARTS = 3
_LEAST_TILT_GAIN = 0.02


@dataclass(frozen=True, eq=False)
class Matcher:
    """What is the same for every slice: the section and its tissue, its expected size, and how it is searched.

    `sides` says whether it is tried turned over, or not, or both; `pairs` (N, 2, 3) are landmarks to start from.
    """

    moving: Image
    section: Image
    scale: float
    kind: str
    sides: tuple[bool, ...]
    angle_deg: float | None
    pairs: FloatArray | None
    engine: OutlineEngine

    def search(self, target: Target) -> list[Match]:
        """Return the refined matches on one slice."""
        problem, planes = self.engine.problem(self.moving, self.section, target, self.scale)
        if self.pairs is None:
            starts = search(problem.moving, problem.fixed, problem.scale, sides=self.sides, angle_deg=self.angle_deg)
        else:
            centres = (problem.moving.centre, problem.fixed.centre)
            pairs = place_landmarks(self.pairs, planes, (self.moving, target.fixed))
            starts = landmark_starts(pairs, planes, centres, problem.scale, sides=self.sides)
            problem = _held(problem, planes, pairs)
        return self._matches(problem, planes, target, starts)

    def tilted(
        self, matches: Sequence[Match], fixed: Image, mask: Image | None, tilts_deg: Sequence[float]
    ) -> list[Match]:
        """Return matches on tilted versions of the two best slices, those that are clearly better for it."""
        ranked = sorted(matches, key=lambda match: -match.score)
        found = []
        for upright in best_of_slices(matches)[:_TILTED]:
            near = [match.as_start() for match in ranked if match.slice == upright.slice][:_TILTED_STARTS]
            images = self.moving, upright.target.fixed
            pairs = None if self.pairs is None else place_landmarks(self.pairs, upright.planes, images)
            for target in tilted_targets(fixed, mask, upright.target, tilts_deg):
                try:
                    problem, planes = self.engine.problem(self.moving, self.section, target, self.scale)
                    problem = problem if pairs is None else _held(problem, planes, pairs)
                    tilted = self._matches(problem, planes, target, near)
                except InputError:  # a plane that leaves the organ is no alternative to the upright one
                    continue
                found += [match for match in tilted if match.score >= upright.score + _LEAST_TILT_GAIN]
        return found

    def excluded_margin(self, best: Match) -> float:
        """Return by how much an orientation that was not to be tried fits better than the best; 0 if none does."""
        if self.pairs is not None or (self.angle_deg is None and len(self.sides) == 2):
            return 0.0
        free = replace(self, sides=(False, True), angle_deg=None, engine=self.engine.without_refinement())
        return max([0.0, *(match.score - best.score for match in free.search(best.target))])

    def _matches(
        self, problem: Problem, planes: tuple[Plane, Plane], target: Target, starts: Sequence[Start]
    ) -> list[Match]:
        """Bring every start near, and refine the few best to the end."""
        poses = [(start, approach(problem, start)) for start in starts]
        scores = [problem.score(near) for _, near in poses]
        order = [n for n in np.argsort(scores)[::-1] if scores[n] > max(scores) - TOO_FAR_BEHIND]
        matches = []
        for start, near in _unlike([poses[n] for n in order], problem.unit_mm)[:_REFINED]:
            pose = refine(problem, near, self.kind)
            matches.append(Match(target, start, pose, None, problem.score(pose), problem, planes))
        matches.sort(key=lambda match: -match.score)
        return self.engine.finish(matches, self.moving, self.kind)


def _held(problem: Problem, planes: tuple[Plane, Plane], pairs: FloatArray) -> Problem:
    """Return the problem with landmarks that hold it."""
    return problem.anchored(*(plane.to_plane(pairs[:, side]) for side, plane in enumerate(planes)))


def _unlike(poses: list[tuple[Start, Pose]], unit_mm: float) -> list[tuple[Start, Pose]]:
    """Leave out poses that have arrived where a better one is, which comes before them."""
    kept: list[tuple[Start, Pose]] = []
    for start, pose in poses:
        here = [near for _, near in kept if near.flip == pose.flip and apart_deg(near.angle, pose.angle) < _SAME_DEG]
        if all(np.linalg.norm(near.shift - pose.shift) > unit_mm for near in here):
            kept.append((start, pose))
    return kept
