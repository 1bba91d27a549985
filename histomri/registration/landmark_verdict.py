"""Whether a transform made from landmarks alone can be believed.

Points can fit each other perfectly and mean something else: moving and fixed swapped, a sign of another convention, a
wrong pixel size, another unit, another section. The outlines of the tissue, which had no part in the fit, show it.
"""

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.landmarks import outside
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, build_problem, tissue_of
from histomri.registration.quality import Verdict
from histomri.registration.refine import SIZE_RANGE, Problem
from histomri.registration.transform import Transform

# Set on pairs of benchmarks/bench_landmarks.py with seeds from 20000, and checked on others.
GOOD_AGREEMENT = 0.40
"""An affine leaves the bending of the section, so that outlines agree less than where they were matched."""
LEAST_AGREEMENT = 0.25
_CLEAR_MARGIN = 0.04
_LARGEST_ERROR_PX = 1.1
_LARGEST_LEFT_OUT_PX = 3.0
_LARGEST_LEVERAGE = 2.0


def judge_landmarks(
    transform: Transform,
    pairs: FloatArray,
    size: float,
    freedom: int,
    left_out: FloatArray | None,
    images: tuple[Image, Image],
    *,
    masks: tuple[Image | None, Image | None] = (None, None),
    shrinkage: float,
) -> tuple[Verdict, list[str], dict[str, float]]:
    """Return what the scatter of the landmarks, the outlines of the tissues, the size and the places say.

    The transform goes from moving to fixed world, the `pairs` (N, 2, 3) are in mm, `size` is that of the section
    relative to the MRI, `freedom` how many pairs settle the transform (all, if it goes through every one), and
    `left_out` (N,) the error of each pair under the fit to all others, None if there are just enough. Images and masks
    are of the section and of the slice of the MRI. "failed" is returned if the outlines hardly agree, the tissues
    differ too much in size, or most points lie outside an image, and "check" if anything is in doubt; with the reasons,
    and ``outline_agreement``, ``outline_lead`` over another sign of x or y, and ``expected_mm``, the error that the
    scatter leads one to expect.
    """
    reasons, failed = _places(pairs, images)
    low, high = (1 - shrinkage) * np.array(SIZE_RANGE)
    if not low <= size <= high:
        reasons.append(
            f"the landmarks make the section {100 * size:.0f} % of the MRI's size, and shrinkage allows "
            f"{100 * low:.0f} to {100 * high:.0f} %: check the pixel size, and that moving and fixed are not swapped"
        )
    moving, flat = images
    measured: dict[str, float] = {}
    try:
        section = tissue_of(moving, masks[0], "moving")
        tissue = tissue_of(flat, masks[1], "fixed")
        problem, planes = build_problem(moving, section, Target(None, flat, tissue), 1 - shrinkage)
    except GeometryError as error:
        return "failed", [*reasons, error.problem], measured
    except InputError as error:
        reasons.append(f"the outlines of the tissues are not known ({error.problem})")
        return "failed" if failed else "check", reasons, measured
    agreement, more = _outlines(transform, problem, planes, measured)
    residuals = np.linalg.norm(transform.points(pairs[:, 0]) - pairs[:, 1], axis=1)
    place = planes[1].holding(tissue, "fixed mask").pixels(tissue.data.shape)[tissue.data.ravel() > 0.5]
    points = planes[1].to_plane(pairs[:, 1])
    reasons += more + _dispersion(residuals, points, place, freedom, left_out, problem.unit_mm, measured)
    if failed or agreement < LEAST_AGREEMENT:
        return "failed", reasons, measured
    return ("check" if reasons else "good"), reasons, measured


class _Pull:
    """A transform between two planes, from fixed to moving."""

    def __init__(self, transform: Transform, planes: tuple[Plane, Plane]) -> None:
        self._back, self._planes = transform.inverse(), planes

    def points(self, points: FloatArray) -> FloatArray:
        """Map points, (N, 2)."""
        return self._planes[0].to_plane(self._back.points(self._planes[1].to_world(points)))


def _outlines(
    transform: Transform, problem: Problem, planes: tuple[Plane, Plane], measured: dict[str, float]
) -> tuple[float, list[str]]:
    """Return how well the outlines agree, and reasons if they do not, or do better with another sign.

    Signs differ between LPS and RAS. A mirrored section is about as large and as central as the true one.
    """
    own = problem.agreement(_Pull(transform, planes))
    tried = []
    for signs, axes in (((-1, 1), "x"), ((1, -1), "y"), ((-1, -1), "x and y")):
        turned = np.diag([*signs, 1.0, 1.0])
        for what, matrix in (("fixed", turned @ transform.matrix), ("moving", transform.matrix @ turned)):
            tried.append((problem.agreement(_Pull(Transform(matrix), planes)), axes, what))
    best, axes, what = max(tried)
    measured |= {"outline_agreement": own, "outline_lead": own - best}
    reasons = []
    if own - best < _CLEAR_MARGIN:
        reasons.append(
            f"with another sign of {axes} in the {what} landmarks the outlines agree as well or better ({best:.2f}, "
            f"{own:.2f} as given): check LPS or RAS"
        )
    if own < GOOD_AGREEMENT:
        reasons.append(
            f"the outlines agree poorly ({own:.2f}; good is {GOOD_AGREEMENT:.2f} or more): check the pairs, that both "
            "images are of this section, the signs (LPS or RAS), the units and the masks"
        )
    return own, reasons


def _dispersion(
    residuals: FloatArray,
    points: FloatArray,
    tissue: FloatArray,
    freedom: int,
    left_out: FloatArray | None,
    pixel_mm: float,
    measured: dict[str, float],
) -> list[str]:
    """Return reasons if the landmarks scatter too much, or lie so that a little scatter moves the tissue by much.

    `points` and `tissue` are in the fixed plane, (N, 2) and (M, 2) mm. In least squares the error to be expected at a
    place is the scatter times the root of its leverage.
    """
    if left_out is None:
        return ["there are just enough landmarks to settle the transform, and none to test it"]
    reasons = []
    design, places = (np.column_stack([each, np.ones(len(each))]) for each in (points, tissue))
    leverage = float(np.sqrt(np.mean(np.sum(places @ np.linalg.pinv(design.T @ design) * places, axis=1))))
    if leverage > _LARGEST_LEVERAGE:
        reasons.append(
            f"the landmarks lie nearly on one line or close together: what they are off, the tissue is off "
            f"{leverage:.1f} times; add a point far from the others"
        )
    if freedom < len(points):
        dispersion = float(np.sqrt(np.sum(residuals**2) / (len(points) - freedom)))
        measured["expected_mm"] = dispersion * leverage
        if dispersion * leverage > _LARGEST_ERROR_PX * pixel_mm:
            reasons.append(
                f"the landmarks scatter by {dispersion:.2g} mm: the tissue is expected {dispersion * leverage:.2g} mm "
                f"off, more than {_LARGEST_ERROR_PX} pixels ({_LARGEST_ERROR_PX * pixel_mm:.2g} mm)"
            )
    typical, limit = float(np.median(left_out)), _LARGEST_LEFT_OUT_PX * pixel_mm
    if typical > limit:
        worst = int(np.argmax(left_out))
        reasons.append(
            f"landmarks left out end {typical:.2g} mm off (median), more than {_LARGEST_LEFT_OUT_PX:.0f} pixels "
            f"({limit:.2g} mm); pair {worst + 1} is worst, {left_out[worst]:.2g} mm"
        )
    return reasons


def _places(pairs: FloatArray, images: tuple[Image, Image]) -> tuple[list[str], bool]:
    """Return reasons if points lie beside their image, and whether most of one image do."""
    reasons, failed = [], False
    for points, image, what in zip(pairs.swapaxes(0, 1), images, ("moving", "fixed"), strict=True):
        beside = int(outside(points, image).sum())
        if beside:
            reasons.append(f"{beside} of {len(points)} {what} landmarks lie outside the {what} image: check the units")
        failed |= 2 * beside > len(points)
    return reasons, failed
