"""register: from the starts on every slice to refined matches, and the transform to the MRI that fits best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.alternatives import (
    deformation_facts,
    other_orientations,
    other_slices,
    transform_of,
    without_side,
)
from histomri.registration.bspline import BSplineDeformation
from histomri.registration.files import as_image
from histomri.registration.missing_sides import missing_side
from histomri.registration.on_tissue import tissue_record
from histomri.registration.options import ENGINES, resolve
from histomri.registration.outline_engine import TOO_FAR_BEHIND, Match, OutlineEngine, best_of_slices
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, targets, tilted_targets, tissue_of
from histomri.registration.quality import Alternative, Registration, judge
from histomri.registration.refine import Pose, Problem, approach, at_size_bound, refine
from histomri.registration.starts import Start, apart_deg, check_landmarks, landmark_starts, place_landmarks, search
from histomri.registration.uncertainty import MISSING_SIDE_FACTOR, Posterior, Uncertainty, expected_error

_REFINED, _SAME_DEG = 10, 2.0
_TILTED, _TILTED_STARTS, _LEAST_TILT_GAIN = 2, 3, 0.01
SHRINKAGE = 0.129
"""Linear shrinkage of paraffin sections against the MRI, Grussu et al. 2025, doi 10.1038/s43856-025-01246-2."""


@dataclass(frozen=True, eq=False)
class Matcher:
    """What is the same for every slice: the section, and how it is searched."""

    moving: Image
    section: Image  # its tissue
    scale: float  # its expected size, of the MRI's
    kind: str
    sides: tuple[bool, ...]  # whether it is tried turned over, or not, or both
    angle_deg: float | None
    pairs: FloatArray | None  # (N, 2, 3) landmarks to start from
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
        """Return matches on tilted versions of the two best slices, those that are clearly better for it.

        Bending makes up for a tilt, so that tilts are compared by what is left once it has been paid for.
        """
        ranked = sorted(matches, key=lambda match: -match.score)
        found: list[Match] = []
        for upright in best_of_slices(matches)[:_TILTED]:
            near = [match.as_start() for match in ranked if match.slice == upright.slice][:_TILTED_STARTS]
            images = self.moving, upright.target.fixed
            pairs = None if self.pairs is None else place_landmarks(self.pairs, upright.planes, images)
            better: list[Match] = []
            for target in tilted_targets(fixed, mask, upright.target, tilts_deg):
                try:
                    problem, planes = self.engine.problem(self.moving, self.section, target, self.scale)
                    problem = problem if pairs is None else _held(problem, planes, pairs)
                    tilted = self._matches(problem, planes, target, near)
                except InputError:  # a plane that leaves the organ is no alternative to the upright one
                    continue
                least = upright.adjusted_score + _LEAST_TILT_GAIN
                better += [each for each in tilted if each.adjusted_score >= least and each.score >= upright.score]
            if better:
                tilt = max(better, key=lambda match: match.adjusted_score).target
                found += [match for match in better if match.target is tilt]
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
            matches.append(Match(target, start, pose, None, None, problem.score(pose), problem, planes))
        return self.engine.finish(self.engine.bend(matches), self.moving, self.kind)


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


def register(
    moving: Image | str | Path, fixed: Image | str | Path, *,
    moving_mask: Image | str | Path | None = None, fixed_mask: Image | str | Path | None = None,
    shrinkage: float = SHRINKAGE, flips: bool = True, angle_deg: float | None = None, turned_over: bool | None = None,
    landmarks: FloatArray | None = None, kind: str = "bspline", slices: int | Sequence[int] | None = None,
    tilts_deg: Sequence[float] | None = None, engine: str = "robust", ignored: Image | None = None,
    progress: Callable[[float], None] | None = None,
) -> Registration:  # fmt: skip
    """Find the transform from the world of a histology section to that of an MRI slice.

    All rotations and both sides of the section are searched; each promising one is refined by matching signed distances
    to the outlines of the tissue with a robust loss, so that missing tissue, tears and holes do not pull. The two
    contrasts are never compared, so a correlation between the registered maps is not made by the registration. The same
    input gives the same result: nothing is random.

    Parameters
    ----------
    moving, fixed : Image or path
        2D map of the section, (I, J), background NaN; and MRI, 2D or 3D, of a 4D file the first volume.
    moving_mask, fixed_mask : Image or path, optional
        Tissue (positive values, or covered fractions between 0 and 1), each on a grid of its own in the world of its
        image; a mask finer than the map gives a finer result. Computed from the image if not given.
    shrinkage : float
        Expected linear shrinkage of the section, 0.129 in Grussu et al. 2025, doi 10.1038/s43856-025-01246-2. The size
        found may be 14 % smaller to 15 % larger than that.
    flips, turned_over : bool
        Whether the section may lie on the slide with its other side up; and whether it does, if that is known.
    angle_deg : float, optional
        Rotation of the section, as `qc` gives it, if it is known to within 15 degrees; all are tried if not given.
    landmarks : (N, 2, 3) array-like, optional
        Pairs of moving and fixed points (world mm) to start from, in place of the search. A z that is not known is NaN:
        the point then lies on the slice that is tried.
    kind : {"bspline", "affine", "similarity", "syn"}
        Whether stretch and shear are allowed, and a smooth deformation on top of them where it earns its freedom.
        "syn" is ``kind="bspline", engine="dipy"`` by its usual name.
    slices : int or sequence of int, optional
        Slices of a 3D fixed image to try; if not given, the one nearest to the landmarks that have a z, else all.
    tilts_deg : sequence of float, optional
        Tilts of the two best slices to try about both of their axes, such as (-4, 4).
    engine : {"robust", "dipy"}
        "dipy" refines the best outline match with DIPY's mutual information, and a "bspline" with its SyN on the masks.
    ignored : Image, optional
        On the grid of the fixed image: where it is positive the outlines are not compared; see `register_without`.

    Raises
    ------
    InputError
        If a mask is empty or covers everything, an image is constant, or an option is unknown.
    GeometryError
        If the sizes differ by more than a factor of two, a slice does not exist, or landmarks contradict each other.

    Examples
    --------
    A section that lies on the slice as it was cut, moved by half a millimetre:

    >>> import numpy as np
    >>> from histomri.core.images import Image
    >>> x, y = np.indices((60, 60)) - 30
    >>> tissue = np.where(np.hypot(x, y * 1.3) < 18 + 4 * np.cos(3 * np.arctan2(y, x) + 1), 1.0, 0.0)
    >>> shifted = np.diag([0.4, 0.4, 1, 1]) + np.outer([1, 0, 0, 0], [0, 0, 0, 0.5])
    >>> found = register(Image(np.where(tissue > 0, 1.0, np.nan), np.diag([0.4, 0.4, 1, 1])), Image(tissue, shifted),
    ...                  shrinkage=0, kind="similarity")
    >>> found.verdict
    'good'
    >>> bool(abs(found.points([[0.0, 0.0]])[0, 0] - 0.5) < 0.05)
    True
    """
    moving, fixed = as_image(moving, "moving image"), as_image(fixed, "fixed image")
    moving_mask = None if moving_mask is None else as_image(moving_mask, "moving mask")
    fixed_mask = None if fixed_mask is None else as_image(fixed_mask, "fixed mask")
    kind, engine = resolve(kind, engine)
    matching = _engine(kind, engine, shrinkage, angle_deg, landmarks is not None)
    pairs = None if landmarks is None else check_landmarks(landmarks)
    if moving.data.ndim != 2:
        raise GeometryError("the moving image must be a two-dimensional section", hint="choose one slice of it")
    sides = ((False, True) if flips else (False,)) if turned_over is None else (turned_over,)
    section = tissue_of(moving, moving_mask, "moving")
    matcher = Matcher(moving, section, 1.0 - shrinkage, kind, sides, angle_deg, pairs, matching)
    matches: list[Match] = []
    refused: dict[int | None, InputError] = {}
    chosen = targets(fixed, fixed_mask, slices, pairs, ignored)
    for number, target in enumerate(chosen):
        try:
            matches += matcher.search(target)
        except InputError as error:  # a slice past the end of the organ is no reason to give up the others
            refused[target.slice] = error
        if progress is not None:
            progress((number + 1) / len(chosen))
    if not matches:
        fullest = max(chosen, key=lambda target: float(target.tissue.data.sum()))
        raise refused[fullest.slice]
    if tilts_deg is not None:
        matches += matcher.tilted(matches, fixed, fixed_mask, tilts_deg)
    settings = {"Kind": kind, "Shrinkage": shrinkage, "Flips": flips, "Drive": "outline", "Engine": engine}
    settings |= {"AngleDeg": angle_deg, "TurnedOver": turned_over, "TiltsDeg": list(tilts_deg or ())}
    settings["Landmarks"] = 0 if pairs is None else len(pairs)
    places = {"Moving": {**described(moving), "Tissue": tissue_record(section)}, "Fixed": described(fixed)}
    info = {**places, "Parameters": settings}
    return _result(matches, matcher, fixed, refused, info)


def _engine(kind: str, engine: str, shrinkage: float, angle_deg: float | None, with_landmarks: bool) -> OutlineEngine:
    """Return the engine, once it can hold what is asked of it."""
    if (known := ENGINES.get(engine)) is None:
        raise InputError(f"engine={engine!r} is not available", hint="use engine=" + " or ".join(map(repr, ENGINES)))
    if kind not in known.kinds:
        kinds = " or ".join(map(repr, (*known.kinds, "syn")))
        raise InputError(f"kind={kind!r} is not available", hint=f"use kind={kinds}")
    if not 0 <= shrinkage < 0.5:
        raise InputError(f"a shrinkage of {shrinkage} is implausible", hint="give a fraction of length, such as 0.129")
    if angle_deg is not None and not np.isfinite(angle_deg):
        raise InputError(f"an angle of {angle_deg} means nothing", hint="give degrees")
    if with_landmarks and "landmarks" not in known.holds:
        hint = "use engine='robust' with another kind, or keep the landmarks to measure the error"
        raise InputError(f"the engine {engine!r} cannot hold landmarks", hint=hint)
    loaded: OutlineEngine = known.load()
    return loaded


def _result(
    matches: list[Match], matcher: Matcher, fixed: Image, refused: dict[int | None, InputError], info: dict[str, Any]
) -> Registration:
    """Return the best match, judged against the others."""
    best, *_ = slices = best_of_slices(matches)
    excluded = matcher.excluded_margin(best)
    ranked = sorted(matches, key=lambda match: (match.slice != best.slice, -match.score))
    turned, lead, which_way = other_orientations(best, matches)
    elsewhere, slice_margin, which_slice = other_slices(slices, fixed)
    posterior = Posterior.of(best.problem, best.mapping, best.pose)
    lacking, side, which_side = _missing_side(best)
    uncertainty = Uncertainty.of(posterior.times(MISSING_SIDE_FACTOR if side else 1.0), best.problem, best.target.fixed)
    expected = expected_error(uncertainty, best.problem)
    first, agreement, deformation = best.candidate(), best.problem.agreement(best.mapping), deformation_facts(best)
    signs = {"stretch": best.stretch, "strain": best.strain, "error_px": expected.typical / best.problem.unit_mm}
    objections = [text for text in (which_way, which_slice, which_side, matcher.engine.objection(deformation)) if text]
    at_bound = at_size_bound(best.pose, best.problem.scale)
    verdict, reasons = judge(agreement, at_bound=at_bound, excluded=excluded, objections=objections, **signs)
    by_slice = sorted(slices, key=lambda match: match.slice or 0)
    agreements = [{"slice": each.slice, "agreement": each.score, "adjusted": each.adjusted_score} for each in by_slice]
    qc: dict[str, Any] = {"verdict": verdict, "reasons": reasons, "agreement": agreement, "gap": lead.whole}
    qc |= {"gap_without_a_piece": lead.lowest, "open_orientations": sum(each.is_open for each in turned)}
    qc |= {"open_slices": sum(each.is_open for each in elsewhere), "missing_side": side}
    # Six digits: those after them depend on the number of threads of the linear algebra.
    qc["expected_error_mm"] = float(f"{expected.typical:.6g}")
    qc["expected_error_range_mm"] = [float(f"{value:.6g}") for value in (expected.low, expected.high)]
    qc |= {"ruled_out": excluded, "angle_deg": first.angle_deg}
    qc |= {"turned_over": first.turned_over, "size": first.size, "stretch": best.stretch}
    qc |= {"tilt_deg": list(first.tilt_deg), **deformation, "slice_lead": slice_margin, "slice_agreement": agreements}
    qc["slices_refused"] = [{"slice": k, "reason": str(error)} for k, error in refused.items()]
    where, alternatives = transform_of(best, best.deformation), (*turned, *lacking, *elsewhere)
    known: dict[str, Any] = {"info": info, "candidates": tuple(match.candidate() for match in ranked), "qc": qc}
    known |= {"confidence": lead.whole, "slice": best.slice, "alternatives": alternatives, "uncertainty": uncertainty}
    return Registration(where.matrix, where.displacements, **known)


def _missing_side(best: Match) -> tuple[list[Alternative], dict[str, Any] | None, str]:
    """Return what is found without a side over which the section seems to be stretched, its record, and the reason."""
    if not isinstance(best.deformation, BSplineDeformation):  # what is not bent was not stretched
        return [], None, ""
    side = missing_side(best.problem, best.deformation)
    if side is None or not side.is_clear:
        return [], None, ""
    alternative, record, reason = without_side(best, side)
    return [alternative], record, reason


def described(image: Image) -> dict[str, Any]:
    """Return what a transform keeps of an image: where it lies."""
    return {"Shape": list(image.data.shape), "Affine": image.affine.tolist()}
