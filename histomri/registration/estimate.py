"""register: find the transform from a histology section to an MRI slice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import GeometryError, InputError
from histomri.maps import Image
from histomri.registration.bspline import Bent, bend
from histomri.registration.displacement import Displacement
from histomri.registration.landmarks import check_landmarks, landmark_starts
from histomri.registration.outlines import Outline, coverage, tissue_mask
from histomri.registration.planes import Plane, lift
from histomri.registration.quality import Candidate, Registration, judge
from histomri.registration.refine import Pose, Problem, approach, at_size_bound, refine
from histomri.registration.search import Start, distinct, search

KINDS = ("similarity", "affine", "bspline")
SHRINKAGE = 0.129
"""Linear shrinkage of paraffin sections against the MRI, Grussu et al. 2025, doi 10.1038/s43856-025-01246-2."""

_FINE = 4
_MARGIN = 12
_REFINED = 6
_BENT = 3
_LEAST_GAIN = 0.03
_PIXELS_ACROSS = 50
_LARGEST_RATIO = 2.0


@dataclass(frozen=True, eq=False)
class _Match:
    """A refined orientation on one slice."""

    slice: int | None
    start: Start
    pose: Pose
    bent: Bent | None
    agreement: float
    problem: Problem
    planes: tuple[Plane, Plane]

    def candidate(self) -> Candidate:
        """Return what is told about it."""
        # The pose pulls, fixed to moving; the section itself turns the other way, unless it is turned over.
        angle = self.pose.angle if self.pose.flip else -self.pose.angle
        size = float(np.exp(self.pose.size))
        overlap = self.start.overlap
        return Candidate(self.slice, _degrees(angle), self.pose.flip, size, self.agreement, overlap)

    def differs(self, other: "_Match") -> bool:
        """Whether the two ended in different orientations."""
        return distinct(self.as_start(), other.as_start())

    def as_start(self) -> Start:
        """Return where the refinement ended, as a start."""
        return Start(self.pose.angle, self.pose.flip, self.pose.shift)


def register(
    moving: Image,
    fixed: Image,
    *,
    moving_mask: Image | None = None,
    fixed_mask: Image | None = None,
    shrinkage: float = SHRINKAGE,
    flips: bool = True,
    landmarks: FloatArray | None = None,
    kind: str = "affine",
    slices: int | Sequence[int] | None = None,
    drive: str = "outline",
    engine: str = "robust",
    progress: Callable[[float], None] | None = None,
) -> Registration:
    """Find the transform from the world of a histology section to that of an MRI slice.

    All rotations and both sides of the section are searched; each promising one is refined by matching signed distances
    to the outlines of the tissue with a robust loss, so that missing tissue, tears and holes do not pull. The two
    contrasts are never compared, so a correlation between the registered maps is not made by the registration.

    Parameters
    ----------
    moving : Image
        2D map of the section, (I, J), background NaN.
    fixed : Image
        MRI, 2D or 3D.
    moving_mask, fixed_mask : Image, optional
        Tissue (positive values, or covered fractions between 0 and 1), each on a grid of its own in the world of its
        image; a mask finer than the map gives a finer result. Computed from the image if not given.
    shrinkage : float
        Expected linear shrinkage of the section, 0.129 in Grussu et al. 2025, doi 10.1038/s43856-025-01246-2. The size
        found may be 14 % smaller to 15 % larger than that.
    flips : bool
        Whether the section may lie on the slide with its other side up.
    landmarks : (N, 2, 3) array-like, optional
        Pairs of moving and fixed points (world mm) to start from, in place of the search.
    kind : {"affine", "similarity", "bspline"}
        Whether stretch and shear are allowed, and a smooth deformation on top of them.
    slices : int or sequence of int, optional
        Slices of a 3D fixed image to try; all if not given, or the one nearest to the landmarks.
    drive : {"outline"}
        What is matched.
    engine : {"robust"}
        How it is matched.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    Registration
        The transform, with the slice, the rivals, the confidence and the verdict. The same input gives the same result:
        nothing is random.

    Raises
    ------
    InputError
        If a mask is empty or covers everything, an image is constant, or an option is unknown.
    GeometryError
        If the sizes differ by more than a factor of two, a slice does not exist, or landmarks contradict each other.
    """
    _check_options(kind, drive, engine, shrinkage)
    pairs = None if landmarks is None else check_landmarks(landmarks)
    if moving.data.ndim != 2:
        raise GeometryError("the moving image must be a two-dimensional section", way_out="choose one slice of it")
    chosen = _slices(fixed, slices, pairs)
    scale = 1.0 - shrinkage
    section = Image(_values(moving, moving_mask, "moving"), (moving_mask or moving).affine)
    tissue = Image(_values(fixed, fixed_mask, "fixed"), (fixed_mask or fixed).affine)
    matches: list[_Match] = []
    refused: dict[int | None, InputError] = {}
    for number, k in enumerate(chosen):
        try:
            problem, planes = _problem(moving, section, *_at_slice(fixed, tissue, k), scale)
            starts = _starts(problem, planes, pairs, flips=flips)
            matches += _matches(problem, planes, k, starts, kind)
        except InputError as error:  # a slice past the end of the organ is no reason to give up the others
            refused[k] = error
        if progress is not None:
            progress((number + 1) / len(chosen))
    if not matches:
        raise next(iter(refused.values()))
    return _result(matches, moving, fixed, refused, {"Kind": kind, "Shrinkage": shrinkage, "Flips": flips})


def _check_options(kind: str, drive: str, engine: str, shrinkage: float) -> None:
    for name, value, known in (("kind", kind, KINDS), ("drive", drive, ("outline",)), ("engine", engine, ("robust",))):
        if value not in known:
            raise InputError(
                f"{name}={value!r} is not available", way_out=f"use {name}=" + " or ".join(map(repr, known))
            )
    if not 0 <= shrinkage < 0.5:
        raise InputError(
            f"a shrinkage of {shrinkage} is implausible", way_out="give a fraction of length, such as 0.129"
        )


def _slices(fixed: Image, slices: int | Sequence[int] | None, pairs: FloatArray | None) -> list[int | None]:
    """Return the slices to try; None stands for a fixed image that has no third axis."""
    if fixed.data.ndim == 2:
        if slices not in (None, 0, [0], (0,)):
            raise GeometryError(f"slice {slices} was asked for, and the fixed image has only one")
        return [None]
    count = fixed.data.shape[2]
    if slices is not None:
        chosen = [int(slices)] if isinstance(slices, int | np.integer) else [int(k) for k in slices]
        for k in chosen:
            if not 0 <= k < count:
                raise GeometryError(f"there is no slice {k}: slices run from 0 to {count - 1}")
        if not chosen:
            raise InputError("the list of slices is empty")
        return list(dict.fromkeys(chosen))
    if pairs is not None:
        to_index = np.linalg.inv(fixed.affine)
        depth = float(np.median(pairs[:, 1] @ to_index[2, :3] + to_index[2, 3]))
        if not -0.5 <= depth <= count - 0.5:
            raise GeometryError(
                "the fixed landmarks lie outside the fixed image", way_out="give x, y and z in world mm"
            )
        return [int(np.clip(np.rint(depth), 0, count - 1))]
    return list(range(count))


def _values(image: Image, mask: Image | None, what: str) -> FloatArray:
    return tissue_mask(image, f"{what} image") if mask is None else coverage(mask, f"{what} mask")


def _at_slice(fixed: Image, tissue: Image, k: int | None) -> tuple[Image, Image]:
    """Return slice `k` of the fixed image and of its mask."""
    if k is None:
        if tissue.data.ndim == 3:
            raise GeometryError("the fixed mask is three-dimensional, and the fixed image is not")
        return fixed, tissue
    if tissue.data.ndim == 2:
        return fixed.slice(k), tissue
    if tissue.data.shape[2] != fixed.data.shape[2]:
        raise GeometryError(
            f"the fixed mask has {tissue.data.shape[2]} slices and the fixed image {fixed.data.shape[2]}",
            way_out="draw the mask on the fixed image",
        )
    return fixed.slice(k), tissue.slice(k)


def _problem(
    moving: Image, section: Image, fixed: Image, tissue: Image, scale: float
) -> tuple[Problem, tuple[Plane, Plane]]:
    """Return the outlines of both tissues in the planes of their images, once they have been found comparable."""
    planes = Plane.of(moving), Plane.of(fixed)
    own, other = planes[0].holding(section, "moving mask"), planes[1].holding(tissue, "fixed mask")
    _check_sizes(_area(section, own), _area(tissue, other), scale)
    unit = max(planes[1].voxel_mm, np.sqrt(_area(tissue, other)) / _PIXELS_ACROSS)
    target = Outline.of(tissue.data, other, unit / _FINE, _MARGIN * unit, "fixed mask")
    source = Outline.of(section.data, own, scale * unit / _FINE, _MARGIN * unit, "moving mask")
    return Problem(source, target, planes[1].pixels(fixed.data.shape), unit, scale), planes


def _area(mask: Image, plane: Plane) -> float:
    return float((mask.data > 0.5).sum() * abs(np.linalg.det(plane.grid)))


def _check_sizes(moving_mm2: float, fixed_mm2: float, scale: float) -> None:
    if not moving_mm2 or not fixed_mm2:
        raise InputError(f"there is no tissue in the {'fixed' if moving_mm2 else 'moving'} image")
    ratio = float(np.sqrt(moving_mm2 / fixed_mm2) / scale)
    if 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        return
    across = f"the section is about {np.sqrt(moving_mm2):.3g} mm across and the MRI tissue {np.sqrt(fixed_mm2):.3g} mm"
    if not 0.01 < ratio < 100:
        raise GeometryError(across, way_out="one of the two is probably in µm: set its pixel size in mm")
    raise GeometryError(
        f"{across}, more than twice the difference that shrinkage explains", way_out="check pixel sizes and masks"
    )


def _starts(problem: Problem, planes: tuple[Plane, Plane], pairs: FloatArray | None, *, flips: bool) -> list[Start]:
    if pairs is None:
        return search(problem.moving, problem.fixed, problem.scale, flips=flips)
    return landmark_starts(pairs, planes, (problem.moving.centre, problem.fixed.centre), problem.scale, flips=flips)


def _matches(
    problem: Problem, planes: tuple[Plane, Plane], k: int | None, starts: list[Start], kind: str
) -> list[_Match]:
    """Bring every start near, and refine the few best to the end."""
    poses = [(start, approach(problem, start)) for start in starts]
    poses.sort(key=lambda item: -problem.agreement(item[1]))
    matches = []
    for start, near in poses[:_REFINED]:
        pose = refine(problem, near, kind)
        matches.append(_Match(k, start, pose, None, problem.agreement(pose), problem, planes))
    if kind != "bspline":
        return matches
    matches.sort(key=lambda match: -match.agreement)
    return [_bent(match) for match in matches[:_BENT]] + matches[_BENT:]


def _bent(match: _Match) -> _Match:
    """Deform a match if that earns its freedom: where nothing is deformed, it only costs accuracy."""
    try:
        bent = bend(match.problem, match.pose)
    except GeometryError:
        return match
    agreement = match.problem.agreement(bent)
    return replace(match, bent=bent, agreement=agreement) if agreement >= match.agreement + _LEAST_GAIN else match


def _result(
    matches: list[_Match],
    moving: Image,
    fixed: Image,
    refused: dict[int | None, InputError],
    parameters: dict[str, Any],
) -> Registration:
    """Return the best match, judged against its rivals."""
    ranked = sorted(matches, key=lambda match: -match.agreement)
    best = ranked[0]
    rivals = [match for match in ranked if match.slice == best.slice and match.differs(best)]
    gap = best.agreement - rivals[0].agreement if rivals else 1.0
    at_bound = at_size_bound(best.pose, best.problem.scale)
    verdict, reasons = judge(best.agreement, gap, at_bound=at_bound)
    by_slice = {match.slice: match.agreement for match in reversed(ranked)}
    stretch = float(np.hypot(best.pose.stretch, best.pose.shear))
    told = best.candidate()
    qc: dict[str, Any] = {
        "verdict": verdict,
        "reasons": reasons,
        "agreement": best.agreement,
        "gap": gap,
        "angle_deg": told.angle_deg,
        "turned_over": told.turned_over,
        "size": told.size,
        "stretch": stretch,
        **_bending(best),
        "slice_agreement": [{"slice": k, "agreement": by_slice[k]} for k in sorted(by_slice, key=lambda k: k or 0)],
        "slices_refused": [{"slice": k, "reason": str(error)} for k, error in refused.items()],
    }
    info = {"Moving": _described(moving), "Fixed": _described(fixed), "Parameters": parameters}
    matrix = lift(best.pose.matrix, *best.planes)
    candidates = tuple(match.candidate() for match in ranked)
    return Registration(matrix, _field(best, fixed), info, candidates, gap, qc, best.slice)


def _field(best: _Match, fixed: Image) -> tuple[Displacement, ...]:
    """Return the deformation as a displacement on the grid of the fixed slice; it pulls, so points go the other way."""
    if best.bent is None:
        return ()
    flat = fixed if best.slice is None else fixed.slice(best.slice)
    plane = best.planes[1]
    moved = best.bent.displacement(plane.pixels(flat.data.shape)) @ plane.frame[:3, :2].T
    return (Displacement(moved.reshape(*flat.data.shape, 1, 3), flat.affine, inverted=True),)


def _bending(best: _Match) -> dict[str, Any]:
    if best.bent is None:
        return {"deformed": False}
    jacobian = best.bent.jacobian()
    moved = np.hypot(*best.bent.displacement(best.problem.nearby.points).T)
    return {"deformed": True, "jacobian": [float(jacobian.min()), float(jacobian.max())], "bent_mm": float(moved.max())}


def _described(image: Image) -> dict[str, Any]:
    return {"Shape": list(image.data.shape), "Affine": image.affine.tolist()}


def _degrees(angle: float) -> float:
    return float((np.degrees(angle) + 180) % 360 - 180)
