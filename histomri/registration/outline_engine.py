"""The engine that matches outlines of tissue, the interface that every engine has, and the matches that it refines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.bspline import fit_bspline
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, build_problem
from histomri.registration.quality import Candidate
from histomri.registration.refine import Deformed, Pose, Problem
from histomri.registration.starts import Start, distinct

_BENDING_COST, _LEAST_GAIN = 5e-4, 0.03
TOO_FAR_BEHIND = 0.25  # of the score: a match further behind the best cannot become the best


@dataclass(frozen=True, eq=False)
class Match:
    """A refined orientation on one slice.

    All are `bent` as well as they can be, and compared by the `score` of that; the `deformation` is what is kept of it
    (None: the pose alone). The planes are of the moving and the fixed image.
    """

    target: Target
    start: Start
    pose: Pose
    bent: Deformed | None
    deformation: Deformed | None
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
        return self.pose if self.deformation is None else self.deformation

    @property
    def compared(self) -> Deformed | Pose:
        """The same, bent whether or not that earns its freedom: where one is bent and the other not, they differ."""
        return self.pose if self.bent is None else self.bent

    @property
    def stretch(self) -> float:
        """How much longer the section became along one direction than on average, as a logarithm."""
        return float(np.hypot(self.pose.stretch, self.pose.shear))

    @cached_property
    def jacobian(self) -> tuple[float, float] | None:
        """Smallest and largest change of area of the deformation, None where there is none."""
        areas = None if self.deformation is None else self.deformation.jacobian()
        return None if areas is None else (float(areas.min()), float(areas.max()))

    @property
    def strain(self) -> float:
        """How much was stretched and deformed, as a logarithm."""
        return self.stretch + float(np.abs(np.log(self.jacobian or (1.0,))).max())

    @property
    def adjusted_score(self) -> float:
        """What slices are ranked by: the score, less what the bending that it took costs."""
        cost = 0.0 if self.bent is None else self.bent.cost(self.problem.unit_mm)
        return self.score - _BENDING_COST * cost

    def candidate(self) -> Candidate:
        """Return its record for the report."""
        # The pose pulls, fixed to moving; the section itself turns the other way, unless it is turned over.
        angle = self.pose.angle if self.pose.flip else -self.pose.angle
        degrees = float(np.degrees((angle + np.pi) % (2 * np.pi) - np.pi))
        size, agreement = float(np.exp(self.pose.size)), self.problem.agreement(self.compared)
        where = self.slice, degrees, self.pose.flip
        return Candidate(*where, size, agreement, self.start.overlap, self.target.tilt_deg)

    def as_start(self) -> Start:
        """Return where the refinement ended, as a start."""
        return Start(self.pose.angle, self.pose.flip, self.pose.shift)

    def differs(self, other: "Match") -> bool:
        """Whether the two ended in different orientations."""
        return distinct(self.as_start(), other.as_start())


def best_of_slices(matches: Sequence[Match]) -> list[Match]:
    """Return the best match on each slice, that of the most likely slice first."""
    best = {match.slice: match for match in sorted(matches, key=lambda match: match.score)}
    return sorted(best.values(), key=lambda match: -match.adjusted_score)


class OutlineEngine:
    """Matches the outlines of the tissue, and deforms the section where that clearly helps."""

    def problem(
        self, moving: Image, section: Image, target: Target, scale: float
    ) -> tuple[Problem, tuple[Plane, Plane]]:
        """Return what is to be matched on one slice; `section` is the tissue of `moving`."""
        return build_problem(moving, section, target, scale)

    def bend(self, matches: Sequence[Match]) -> list[Match]:
        """Return affine matches, best first, bent: all that may become the best, so that they can be compared."""
        least = max(match.score for match in matches) - TOO_FAR_BEHIND
        bent = [_bent(match) if match.score > least else match for match in matches]
        return sorted(bent, key=lambda match: -match.score)

    def finish(self, matches: Sequence[Match], moving: Image, kind: str) -> list[Match]:
        """Return bent matches, best first, as this engine finishes them."""
        return [_kept(match) for match in matches] if kind == "bspline" else list(matches)

    def without_refinement(self) -> "OutlineEngine":
        """Return the engine whose scores orientations are compared by."""
        return self

    def objection(self, qc: Mapping[str, Any]) -> str | None:
        """Return why a result of this engine is no better than "check", None if there is no reason."""
        return None


def _bent(match: Match) -> Match:
    try:
        bent = fit_bspline(match.problem, match.pose)
    except GeometryError:
        return match
    return replace(match, bent=bent, score=match.problem.score(bent))


def _kept(match: Match) -> Match:
    """Keep the bending if it earns its freedom: where nothing is deformed, it only costs accuracy."""
    gained = match.score - match.problem.score(match.pose)
    return replace(match, deformation=match.bent) if gained >= _LEAST_GAIN else match
