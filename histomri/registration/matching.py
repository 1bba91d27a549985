"""From the starts on one slice to refined matches, ranked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.bspline import bend
from histomri.registration.dipy_engine import mutual_information, warp
from histomri.registration.landmarks import landmark_starts, place_landmarks
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, build_problem
from histomri.registration.quality import Candidate
from histomri.registration.refine import Deformed, Pose, Problem, approach, refine
from histomri.registration.search import Start, apart_deg, distinct, search
from histomri.registration.tilts import tilted_targets

_REFINED = 10
_BENT = 6
_HOPELESS = 0.25
_SAME_DEG = 2.0
_LEAST_GAIN = 0.03
_TILTED = 2
_TILTED_STARTS = 3
_LEAST_TILT_GAIN = 0.02
_BENDING_COST = 5e-4


@dataclass(frozen=True, eq=False)
class Match:
    """A refined orientation on one slice."""

    target: Target
    start: Start
    pose: Pose
    bent: Deformed | None
    score: float
    problem: Problem
    planes: tuple[Plane, Plane]

    @property
    def slice(self) -> int | None:
        """Number of the slice."""
        return self.target.slice

    @property
    def mapping(self) -> Deformed | Pose:
        """The map from the fixed to the moving plane."""
        return self.pose if self.bent is None else self.bent

    @property
    def agreement(self) -> float:
        """Robust agreement of the outlines."""
        return self.problem.agreement(self.mapping)

    @property
    def stretch(self) -> float:
        """How much longer the section became along one direction than on average, as a logarithm."""
        return float(np.hypot(self.pose.stretch, self.pose.shear))

    @cached_property
    def jacobian(self) -> tuple[float, float] | None:
        """Smallest and largest change of area of the deformation, None where there is none."""
        areas = None if self.bent is None else self.bent.jacobian()
        return None if areas is None else (float(areas.min()), float(areas.max()))

    @property
    def strain(self) -> float:
        """How much was stretched and bent, as a logarithm."""
        return self.stretch + float(np.abs(np.log(self.jacobian or (1.0,))).max())

    @property
    def worth(self) -> float:
        """What slices are ranked by: the score, less what the bending that it took costs."""
        return self.score - _BENDING_COST * (0.0 if self.bent is None else self.bent.cost(self.problem.unit_mm))

    def candidate(self) -> Candidate:
        """Return what is told about it."""
        # The pose pulls, fixed to moving; the section itself turns the other way, unless it is turned over.
        angle = self.pose.angle if self.pose.flip else -self.pose.angle
        size = float(np.exp(self.pose.size))
        overlap = self.start.overlap
        share = self.problem.share(self.mapping)
        return Candidate(
            self.slice, _degrees(angle), self.pose.flip, size, self.agreement, overlap, share, self.target.tilt_deg
        )

    def differs(self, other: "Match") -> bool:
        """Whether the two ended in different orientations."""
        return distinct(self.as_start(), other.as_start())

    def as_start(self) -> Start:
        """Return where the refinement ended, as a start."""
        return Start(self.pose.angle, self.pose.flip, self.pose.shift)


@dataclass(frozen=True, eq=False)
class Matcher:
    """What is the same for every slice.

    Attributes
    ----------
    moving, section : Image
        The map, and its tissue.
    maps : tuple of Image
        Maps whose content is matched; empty if none is.
    scale : float
        Expected size of the section relative to the MRI.
    kind : str
        similarity, affine or bspline.
    sides : tuple of bool
        Whether the section is tried turned over, or not, or both.
    angle_deg : float or None
        Rotation of the section if it is known.
    pairs : (N, 2, 3) ndarray or None
        Landmarks to start from.
    engine : str
        robust or dipy.
    """

    moving: Image
    section: Image
    maps: tuple[Image, ...]
    scale: float
    kind: str
    sides: tuple[bool, ...]
    angle_deg: float | None
    pairs: FloatArray | None
    engine: str = "robust"

    def search(self, target: Target) -> list[Match]:
        """Return the refined matches on one slice."""
        problem, planes = build_problem(self.moving, self.section, target, self.scale, self.maps)
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
                    problem, planes = build_problem(self.moving, self.section, target, self.scale, self.maps)
                    problem = problem if pairs is None else _held(problem, planes, pairs)
                    tilted = self._matches(problem, planes, target, near)
                except InputError:  # a plane that leaves the organ is no rival of the upright one
                    continue
                found += [match for match in tilted if match.score >= upright.score + _LEAST_TILT_GAIN]
        return found

    def ruled_out(self, best: Match) -> float:
        """Return by how much an orientation that was not to be tried fits better than the best; 0 if none does."""
        if self.pairs is not None or (self.angle_deg is None and len(self.sides) == 2):
            return 0.0
        free = replace(self, sides=(False, True), angle_deg=None, engine="robust")
        return max([0.0, *(match.score - best.score for match in free.search(best.target))])

    def _matches(
        self, problem: Problem, planes: tuple[Plane, Plane], target: Target, starts: Sequence[Start]
    ) -> list[Match]:
        """Bring every start near, and refine the few best to the end."""
        poses = [(start, approach(problem, start)) for start in starts]
        scores = [problem.score(near) for _, near in poses]
        order = [n for n in np.argsort(scores)[::-1] if scores[n] > max(scores) - _HOPELESS]
        matches = []
        for start, near in _unlike([poses[n] for n in order], problem.unit_mm)[:_REFINED]:
            pose = refine(problem, near, self.kind)
            matches.append(Match(target, start, pose, None, problem.score(pose), problem, planes))
        matches.sort(key=lambda match: -match.score)
        if self.engine == "dipy":
            rivals = [match for match in matches if match.differs(matches[0])]
            return [self._by_dipy(matches[0]), *(self._rival_by_dipy(match) for match in rivals[:1])]
        if self.kind == "bspline":
            hopeful = [match for match in matches[:_BENT] if match.score > matches[0].score - _HOPELESS]
            matches = [_bent(match) for match in hopeful] + matches[len(hopeful) :]
        return matches

    def _rival_by_dipy(self, match: Match) -> Match:
        """Refine a rival as well; where that is not possible it stays a rival as it is."""
        try:
            return self._by_dipy(match)
        except GeometryError:
            return match

    def _by_dipy(self, match: Match) -> Match:
        problem = match.problem
        pose = mutual_information(self.moving, match.target.fixed, match.planes, match.pose, self.kind)
        bent = warp(problem, match.planes, match.target.fixed.data.shape, pose) if self.kind == "bspline" else None
        return replace(match, pose=pose, bent=bent, score=problem.score(pose if bent is None else bent))


def _held(problem: Problem, planes: tuple[Plane, Plane], pairs: FloatArray) -> Problem:
    """Return the problem with landmarks that hold it."""
    return problem.anchored(*(plane.to_plane(pairs[:, side]) for side, plane in enumerate(planes)))


def best_of_slices(matches: Sequence[Match]) -> list[Match]:
    """Return the best match on each slice, that of the most likely slice first."""
    best = {match.slice: match for match in sorted(matches, key=lambda match: match.score)}
    return sorted(best.values(), key=lambda match: -match.worth)


def _unlike(poses: list[tuple[Start, Pose]], unit_mm: float) -> list[tuple[Start, Pose]]:
    """Leave out poses that have arrived where a better one is, which comes before them."""
    kept: list[tuple[Start, Pose]] = []
    for start, pose in poses:
        here = [near for _, near in kept if near.flip == pose.flip and apart_deg(near.angle, pose.angle) < _SAME_DEG]
        if all(np.linalg.norm(near.shift - pose.shift) > unit_mm for near in here):
            kept.append((start, pose))
    return kept


def _bent(match: Match) -> Match:
    """Deform a match if that earns its freedom: where nothing is deformed, it only costs accuracy."""
    try:
        bent = bend(match.problem, match.pose)
    except GeometryError:
        return match
    score = match.problem.score(bent)
    return replace(match, bent=bent, score=score) if score >= match.score + _LEAST_GAIN else match


def _degrees(angle: float) -> float:
    return float(np.degrees((angle + np.pi) % (2 * np.pi) - np.pi))
