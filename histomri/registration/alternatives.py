"""What else might be right: other orientations and slices, each with its transform, and which of them stay open."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.images import Image
from histomri.registration.displacement import Displacement
from histomri.registration.missing_sides import MissingSide
from histomri.registration.orientation import Lead, leads
from histomri.registration.outline_engine import Match
from histomri.registration.planes import lift, picture_axes
from histomri.registration.quality import (
    CLEAR_SLICE_MARGIN,
    CLEAR_SLICE_PIXELS,
    LARGEST_SLIP_PX,
    Alternative,
    orientation_name,
)
from histomri.registration.refine import Deformed
from histomri.registration.transform import Transform

_MOST = 5
_SIDES = ("right", "upper right", "upper", "upper left", "left", "lower left", "lower", "lower right")


def transform_of(match: Match, deformation: Deformed | None) -> Transform:
    """Return where a match puts the section, with its own deformation or another one."""
    displacements: tuple[Displacement, ...] = ()
    if deformation is not None:
        flat, plane = match.target.fixed, match.planes[1]
        moved = deformation.displacement(plane.pixels(flat.data.shape)) @ plane.frame[:3, :2].T
        field = Displacement(moved.reshape(*flat.data.shape, 1, 3), flat.affine, inverted=True)  # it pulls
        displacements = (field,)
    return Transform(lift(match.pose.matrix, *match.planes), displacements)


def other_orientations(best: Match, matches: Sequence[Match]) -> tuple[list[Alternative], Lead, str]:
    """Return the other orientations on the slice of the best match, the least lead over them, and the open question.

    Of orientations that differ little only the best is returned. The question is empty if none can be the right one.
    """
    others = [match for match in matches if match.slice == best.slice and match.differs(best)]
    others.sort(key=lambda match: -match.score)
    found, kept = [], list[Match]()
    for match, lead in zip(others, leads(best, others), strict=True):
        if any(not match.differs(one) for one in kept):
            continue
        kept.append(match)
        transform = transform_of(match, match.compared if isinstance(match.compared, Deformed) else None)
        found.append((lead, Alternative("orientation", match.candidate(), transform, lead.whole, not lead.is_clear)))
    found.sort(key=lambda pair: pair[0].whole + pair[0].lowest)
    alternatives = [each for _, each in found]
    least = found[0][0] if found else Lead(1.0, 1.0)
    return alternatives[: max(_MOST, sum(each.is_open for each in alternatives))], least, _question(best, alternatives)


def _question(best: Match, alternatives: Sequence[Alternative]) -> str:
    still = [each for each in alternatives if each.is_open]
    if not still:
        return ""
    places = [f"{orientation_name(best.candidate())} (taken)"]
    places += [f"{orientation_name(each.candidate)} ({each.behind:.3f} behind)" for each in still]
    which = f"which of these {len(places)} orientations is it: {', '.join(places)}?"
    return f"{which} The outlines fit nearly as well: compare the pictures, then give angle and side, or landmarks"


def other_slices(slices: Sequence[Match], fixed: Image) -> tuple[list[Alternative], float, str]:
    """Return the best matches on other slices, the margin over them, and the open question, empty if there is none.

    Slices so near that to take the wrong one does not matter are left out. `slices` has the best match of each, best
    first.
    """
    best = slices[0]
    step_mm = float(np.linalg.norm(fixed.affine[:3, 2]))
    apart = [(abs((each.slice or 0) - (best.slice or 0)) * step_mm, each) for each in slices[1:]]
    far = [(mm, each) for mm, each in apart if mm > LARGEST_SLIP_PX * best.problem.unit_mm]
    if not far:
        return [], 1.0, ""
    clear = CLEAR_SLICE_MARGIN * float(np.sqrt(CLEAR_SLICE_PIXELS / best.problem.compared(best.compared)))
    alternatives = []
    for _, each in far:
        behind = best.adjusted_score - each.adjusted_score
        transform = transform_of(each, each.deformation)
        alternatives.append(Alternative("slice", each.candidate(), transform, behind, behind < clear))
    (mm, runner_up), margin = far[0], alternatives[0].behind
    still = [each for each in alternatives if each.is_open]
    if not still:
        return alternatives[:_MOST], margin, ""
    nearly = f"fits nearly as well as slice {best.slice} (a margin of {margin:.3f}, clear is {clear:.3f})"
    numbers = ", ".join(map(str, sorted([best.slice or 0, *(each.candidate.slice or 0 for each in still)])))
    which = f"which of these {len(still) + 1} slices is it: {numbers}? Compare the pictures, then give the slice"
    return (
        alternatives[: max(_MOST, len(still))],
        margin,
        f"slice {runner_up.slice}, {mm:.2g} mm away, {nearly}; {which}",
    )


def without_side(best: Match, side: MissingSide) -> tuple[Alternative, dict[str, Any], str]:
    """Return where the section lies if tissue is missing along a side of it, a record of that side, and the reason."""
    transform = transform_of(best, side.mapping)
    behind = best.problem.agreement(best.compared) - best.problem.agreement(side.mapping)
    away = best.planes[1].frame[:3, :2] @ side.direction
    name = side_in_pictures(away, best.target.fixed)
    record = {"side": name, "direction": away.tolist(), "depth_mm": side.depth_mm, "bending_saved": side.gain}
    reason = (
        f"the section may lack tissue along the {name} side of the pictures, about {side.depth_mm:.1f} mm deep, over "
        "which it was stretched: compare the alternative, which leaves that side out"
    )
    return Alternative("missing side", best.candidate(), transform, behind, is_open=True), record, reason


def side_in_pictures(direction: FloatArray, flat: Image) -> str:
    """Name a direction, (3,) of the world, as it is seen in the pictures of a slice."""
    axes = picture_axes(flat)
    angle = np.arctan2(direction @ axes[:, 1], -(direction @ axes[:, 0]))  # the first axis grows to the left
    return _SIDES[round(4 * float(angle) / np.pi) % len(_SIDES)]


def deformation_facts(best: Match) -> dict[str, Any]:
    """Return facts on the deformation of a match."""
    if best.deformation is None:
        return {"deformed": False}
    bent = np.hypot(*best.deformation.displacement(best.problem.nearby.points).T)
    return {"deformed": True, "jacobian": list(best.jacobian or ()), "bent_mm": float(bent.max())}
