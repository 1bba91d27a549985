"""The engine that matches outlines of tissue, and the interface that every engine has."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.bspline import fit_bspline
from histomri.registration.match import Match
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, build_problem
from histomri.registration.refine import Problem

TOO_FAR_BEHIND = 0.25
"""Of the score: what is further behind the best cannot become the best."""
_DEFORMED = 6
_LEAST_GAIN = 0.03


class OutlineEngine:
    """Matches the outlines of the tissue, and deforms the section where that clearly helps."""

    def problem(
        self, moving: Image, section: Image, target: Target, scale: float
    ) -> tuple[Problem, tuple[Plane, Plane]]:
        """Return what is to be matched on one slice; `section` is the tissue of `moving`."""
        return build_problem(moving, section, target, scale)

    def finish(self, matches: Sequence[Match], moving: Image, kind: str) -> list[Match]:
        """Return affine matches, best first, as this engine finishes them."""
        if kind != "bspline":
            return list(matches)
        hopeful = [match for match in matches[:_DEFORMED] if match.score > matches[0].score - TOO_FAR_BEHIND]
        return [_deformed(match) for match in hopeful] + list(matches[len(hopeful) :])

    def without_refinement(self) -> "OutlineEngine":
        """Return the engine whose scores orientations are compared by."""
        return self

    def objection(self, qc: Mapping[str, Any]) -> str | None:
        """Return why a result of this engine is no better than "check", None if there is no reason."""
        return None


def _deformed(match: Match) -> Match:
    """Deform a match if that earns its freedom: where nothing is deformed, it only costs accuracy."""
    try:
        deformation = fit_bspline(match.problem, match.pose)
    except GeometryError:
        return match
    score = match.problem.score(deformation)
    return replace(match, deformation=deformation, score=score) if score >= match.score + _LEAST_GAIN else match
