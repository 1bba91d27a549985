"""register: find the transform from a histology section to an MRI slice."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.displacement import Displacement
from histomri.registration.expected import expected_error
from histomri.registration.landmarks import check_landmarks
from histomri.registration.matching import Match, Matcher, best_of_slices
from histomri.registration.planes import lift
from histomri.registration.prepare import targets, tissue_of
from histomri.registration.quality import CLEAR_SLICE_LEAD, CLEAR_SLICE_PIXELS, LARGEST_SLIP_PX, Registration, judge
from histomri.registration.refine import at_size_bound

KINDS = ("similarity", "affine", "bspline", "syn")
DRIVES = ("outline", "both")
ENGINES = ("robust", "dipy")
SMOOTH_AREA = (0.6, 1.67)
"""Change of area that SyN may make and still be called good; its outlines agree well wherever it drags the tissue."""
SHRINKAGE = 0.129
"""Linear shrinkage of paraffin sections against the MRI, Grussu et al. 2025, doi 10.1038/s43856-025-01246-2."""


def register(
    moving: Image,
    fixed: Image,
    *,
    moving_mask: Image | None = None,
    fixed_mask: Image | None = None,
    maps: Sequence[Image] | None = None,
    shrinkage: float = SHRINKAGE,
    flips: bool = True,
    angle_deg: float | None = None,
    turned_over: bool | None = None,
    landmarks: FloatArray | None = None,
    kind: str = "bspline",
    slices: int | Sequence[int] | None = None,
    tilts_deg: Sequence[float] | None = None,
    drive: str = "outline",
    engine: str = "robust",
    progress: Callable[[float], None] | None = None,
) -> Registration:
    """Find the transform from the world of a histology section to that of an MRI slice.

    All rotations and both sides of the section are searched; each promising one is refined by matching signed distances
    to the outlines of the tissue with a robust loss, so that missing tissue, tears and holes do not pull. Unless
    `drive` is "both", the two contrasts are never compared, so a correlation between the registered maps is not made by
    the registration.

    Parameters
    ----------
    moving : Image
        2D map of the section, (I, J), background NaN.
    fixed : Image
        MRI, 2D or 3D.
    moving_mask, fixed_mask : Image, optional
        Tissue (positive values, or covered fractions between 0 and 1), each on a grid of its own in the world of its
        image; a mask finer than the map gives a finer result. Computed from the image if not given.
    maps : sequence of Image, optional
        Maps of the section on one grid, 1 to 5, whose content is matched if `drive` is "both"; `moving` if not given.
    shrinkage : float
        Expected linear shrinkage of the section, 0.129 in Grussu et al. 2025, doi 10.1038/s43856-025-01246-2. The size
        found may be 14 % smaller to 15 % larger than that.
    flips : bool
        Whether the section may lie on the slide with its other side up.
    angle_deg : float, optional
        Rotation of the section, as `qc` tells it, if it is known to within 15 degrees; all are tried if not given.
    turned_over : bool, optional
        Whether the section lies with its other side up, if it is known; overrules `flips`.
    landmarks : (N, 2, 3) array-like, optional
        Pairs of moving and fixed points (world mm) to start from, in place of the search. A z that is not known is NaN:
        the point then lies on the slice that is tried.
    kind : {"bspline", "affine", "similarity", "syn"}
        Whether stretch and shear are allowed, and a smooth deformation on top of them where it earns its freedom.
        "syn" is ``kind="bspline", engine="dipy"`` by its usual name.
    slices : int or sequence of int, optional
        Slices of a 3D fixed image to try; if not given, the one nearest to the landmarks that have a z, else all.
    tilts_deg : sequence of float, optional
        Tilts of the two best slices to try about both of their axes, such as (-4, 4); none if not given.
    drive : {"outline", "both"}
        What is matched. "both" adds what the maps explain of the MRI, refitted at every step together with a smooth
        trend. It is more accurate in tissue with little outline, and it raises the correlation between maps and MRI a
        little above the true one; do not test that correlation without its null.
    engine : {"robust", "dipy"}
        How it is matched; "dipy" refines the best outline match with DIPY's mutual information and, for
        ``kind="bspline"``, its SyN on the masks.
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
    if angle_deg is not None and not np.isfinite(angle_deg):
        raise InputError(f"an angle of {angle_deg} means nothing", hint="give degrees")
    if kind == "syn":
        kind, engine = "bspline", "dipy"
    if engine == "dipy" and landmarks is not None:
        raise InputError(
            "DIPY (engine='dipy', kind='syn') cannot hold landmarks",
            hint="use engine='robust' with another kind, or keep the landmarks to measure the error, with "
            "--landmarks-check",
        )
    pairs = None if landmarks is None else check_landmarks(landmarks)
    if moving.data.ndim != 2:
        raise GeometryError("the moving image must be a two-dimensional section", hint="choose one slice of it")
    sides = ((False, True) if flips else (False,)) if turned_over is None else (turned_over,)
    section = tissue_of(moving, moving_mask, "moving")
    content = tuple(maps or (moving,)) if drive == "both" else ()
    matcher = Matcher(moving, section, content, 1.0 - shrinkage, kind, sides, angle_deg, pairs, engine)
    matches: list[Match] = []
    refused: dict[int | None, InputError] = {}
    chosen = targets(fixed, fixed_mask, slices, pairs)
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
    ruled_out = matcher.ruled_out(best_of_slices(matches)[0])
    settings = {"Kind": kind, "Shrinkage": shrinkage, "Flips": flips, "Drive": drive, "Engine": engine}
    settings |= {"AngleDeg": angle_deg, "TurnedOver": turned_over, "TiltsDeg": list(tilts_deg or ())}
    settings |= {"ContentMaps": len(content), "Landmarks": 0 if pairs is None else len(pairs)}
    return _result(matches, moving, fixed, refused, ruled_out, settings)


def _check_options(kind: str, drive: str, engine: str, shrinkage: float) -> None:
    for name, value, known in (("kind", kind, KINDS), ("drive", drive, DRIVES), ("engine", engine, ENGINES)):
        if value not in known:
            raise InputError(f"{name}={value!r} is not available", hint=f"use {name}=" + " or ".join(map(repr, known)))
    if not 0 <= shrinkage < 0.5:
        raise InputError(f"a shrinkage of {shrinkage} is implausible", hint="give a fraction of length, such as 0.129")


def _result(
    matches: list[Match],
    moving: Image,
    fixed: Image,
    refused: dict[int | None, InputError],
    ruled_out: float,
    parameters: dict[str, Any],
) -> Registration:
    """Return the best match, judged against its rivals."""
    slices = best_of_slices(matches)
    best = slices[0]
    ranked = sorted(matches, key=lambda match: (match.slice != best.slice, -match.score))
    rivals = [match for match in ranked if match.slice == best.slice and match.differs(best)]
    gap = best.score - rivals[0].score if rivals else 1.0
    candidates = tuple(match.candidate() for match in ranked)
    told = candidates[0]
    bending = _bending(best)
    # Six digits: those after them depend on the number of threads of the linear algebra.
    expected = float(f"{expected_error(best.problem, best.mapping, best.pose):.6g}")
    verdict, reasons = judge(
        told.agreement,
        gap,
        at_bound=at_size_bound(best.pose, best.problem.scale),
        stretch=best.stretch,
        strain=best.strain,
        ruled_out=ruled_out,
        error_px=expected / best.problem.unit_mm,
    )
    lead, doubt = _slice_lead(slices, fixed)
    if doubt:
        verdict = "check" if verdict == "good" else verdict
        reasons.append(doubt)
    if parameters["Engine"] == "dipy" and not _smooth(bending):
        verdict = "check" if verdict == "good" else verdict
        low, high = bending["jacobian"]
        reasons.append(
            f"SyN changes areas by factors of {low:.2f} to {high:.2f}, as where it pulls tissue into missing pieces; "
            f"trusted are {SMOOTH_AREA[0]} to {SMOOTH_AREA[1]}"
        )
    by_slice = sorted(slices, key=lambda match: match.slice or 0)
    qc: dict[str, Any] = {
        "verdict": verdict,
        "reasons": reasons,
        "agreement": told.agreement,
        "explained": told.explained,
        "gap": gap,
        "expected_error_mm": expected,
        "ruled_out": ruled_out,
        "angle_deg": told.angle_deg,
        "turned_over": told.turned_over,
        "size": told.size,
        "stretch": best.stretch,
        "tilt_deg": list(told.tilt_deg),
        **bending,
        "slice_lead": lead,
        "slice_agreement": [{"slice": each.slice, "agreement": each.score, "worth": each.worth} for each in by_slice],
        "slices_refused": [{"slice": k, "reason": str(error)} for k, error in refused.items()],
    }
    info = {"Moving": described(moving), "Fixed": described(fixed), "Parameters": parameters}
    matrix = lift(best.pose.matrix, *best.planes)
    return Registration(matrix, _field(best), info, candidates, gap, qc, best.slice)


def _slice_lead(slices: Sequence[Match], fixed: Image) -> tuple[float, str]:
    """Return the lead of the best over every slice that lies too far from it to be as good, and what is in doubt."""
    best = slices[0]
    apart = [(_slices_mm(fixed, each, best), each) for each in slices[1:]]
    far = [(mm, each) for mm, each in apart if mm > LARGEST_SLIP_PX * best.problem.unit_mm]
    if not far:
        return 1.0, ""
    mm, rival = far[0]
    lead = best.worth - rival.worth
    clear = CLEAR_SLICE_LEAD * float(np.sqrt(CLEAR_SLICE_PIXELS / best.problem.compared(best.mapping)))
    if lead >= clear:
        return lead, ""
    return lead, (
        f"slice {rival.slice}, {mm:.2g} mm away, fits nearly as well as slice {best.slice} (a lead of {lead:.3f}, "
        f"clear is {clear:.3f}): look at both, and choose the slice if you know it"
    )


def _slices_mm(fixed: Image, one: Match, other: Match) -> float:
    return abs((one.slice or 0) - (other.slice or 0)) * float(np.linalg.norm(fixed.affine[:3, 2]))


def _field(best: Match) -> tuple[Displacement, ...]:
    """Return the deformation as a displacement on the grid of the fixed slice; it pulls, so points go the other way."""
    if best.bent is None:
        return ()
    flat, plane = best.target.fixed, best.planes[1]
    moved = best.bent.displacement(plane.pixels(flat.data.shape)) @ plane.frame[:3, :2].T
    return (Displacement(moved.reshape(*flat.data.shape, 1, 3), flat.affine, inverted=True),)


def _bending(best: Match) -> dict[str, Any]:
    if best.bent is None:
        return {"deformed": False}
    moved = np.hypot(*best.bent.displacement(best.problem.nearby.points).T)
    return {"deformed": True, "jacobian": list(best.jacobian or ()), "bent_mm": float(moved.max())}


def _smooth(bending: dict[str, Any]) -> bool:
    low, high = bending.get("jacobian", (1.0, 1.0))
    return bool(SMOOTH_AREA[0] <= low and high <= SMOOTH_AREA[1])


def described(image: Image) -> dict[str, Any]:
    """Return what a transform keeps of an image: where it lies."""
    return {"Shape": list(image.data.shape), "Affine": image.affine.tolist()}
