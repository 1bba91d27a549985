"""Transforms from landmarks alone, how far landmarks end from where they belong, and whether that can be believed."""

from typing import Any

import numpy as np
from scipy.interpolate import RBFInterpolator

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.displacement import Displacement
from histomri.registration.estimate import SHRINKAGE, described
from histomri.registration.planes import Plane, lift, located, on_planes
from histomri.registration.prepare import Target, build_problem, tissue_of
from histomri.registration.quality import Registration
from histomri.registration.refine import SIZE_RANGE, Problem
from histomri.registration.starts import CHECK_PAIRS, check_depth, check_landmarks, check_spread, outside
from histomri.registration.transform import Transform

KINDS = {"similarity": 2, "affine": 3, "tps": 4}  # kinds of transform, and the least number of pairs that settles each
Judged = tuple[list[str], dict[str, float]]
_GRID, _LARGEST_MISFIT = 80, 0.25
# Set on pairs of benchmarks/bench_landmarks.py with seeds from 20000, and checked on others.
GOOD_AGREEMENT = 0.40
"""An affine leaves the bending of the section, so that outlines agree less than where they were matched."""
LEAST_AGREEMENT = 0.25
_CLEAR_MARGIN = 0.04
_LARGEST_ERROR_PX, _LARGEST_LEFT_OUT_PX, _LARGEST_LEVERAGE = 1.1, 3.0, 2.0


def tre(transform: Transform, pairs: FloatArray) -> FloatArray:
    """Return the target registration error of landmark pairs, (N,) mm in the fixed world.

    The transform goes from moving to fixed world; where a z of the `pairs` (N, 2, 3), world mm, is NaN, a point lies on
    the plane of the section.

    Examples
    --------
    >>> import numpy as np
    >>> from histomri.registration import Transform, tre
    >>> pairs = np.array([[[1.0, 2.0, 0.0], [1.0, 2.0, 0.3]]])
    >>> tre(Transform.identity(), pairs)
    array([0.3])
    """
    pairs = located(transform, np.asarray(pairs, dtype=float))
    return np.asarray(np.linalg.norm(transform.points(pairs[:, 0]) - pairs[:, 1], axis=1))


def leave_one_out(
    pairs: FloatArray, kind: str = "affine", *, moving: Image | None = None, fixed: Image | None = None
) -> FloatArray:
    """Return the error of each landmark under the transform fitted to all others, (N,) mm."""
    pairs = _placed(pairs, moving, fixed)
    fits = [_fitted(np.delete(pairs, n, axis=0), kind, moving, fixed)[0] for n in range(len(pairs))]
    return np.array([tre(fit, pairs[n : n + 1])[0] for n, fit in enumerate(fits)])


def fit_landmarks(
    pairs: FloatArray, kind: str = "affine", *, moving: Image | None = None, fixed: Image | None = None,
    moving_mask: Image | None = None, fixed_mask: Image | None = None, shrinkage: float = SHRINKAGE,
    slice: int | None = None,
) -> Registration:  # fmt: skip
    """Return the transform that landmark pairs alone settle; `qc` holds the residuals and the verdict.

    Parameters
    ----------
    pairs : (N, 2, 3) ndarray
        Moving and fixed points, world mm; at least 2, 3 or 4 for the three kinds.
    kind : {"similarity", "affine", "tps"}
        Rotation, side, size and shift; also stretch and shear; or a thin-plate spline through every pair.
    moving, fixed, moving_mask, fixed_mask : Image, optional
        The 2D images, for the planes they lie in, of constant z if not given; and their tissue, else found in them.
    shrinkage : float
        Expected linear shrinkage of the section, which the size is held against.
    slice : int, optional
        Number of the slice that `fixed` is, for the record.

    Raises
    ------
    GeometryError
        If there are too few pairs, they lie on one line, contradict each other, or a spline through them folds.
    """
    pairs = _placed(pairs, moving, fixed)
    transform, facts = _fitted(pairs, kind, moving, fixed)
    residuals = tre(transform, pairs)
    spread = float(np.sqrt(np.mean(np.sum((pairs[:, 1] - pairs[:, 1].mean(axis=0)) ** 2, axis=1))))
    if float(np.sqrt(np.mean(residuals**2))) > _LARGEST_MISFIT * spread:
        worst = f"pair {np.argmax(residuals) + 1} is {residuals.max():.2g} mm off"
        raise GeometryError(f"the landmarks do not fit each other: {worst}", hint=CHECK_PAIRS)
    left_out = leave_one_out(pairs, kind, moving=moving, fixed=fixed) if len(pairs) > KINDS[kind] else None
    qc: dict[str, Any] = {**facts, "landmarks": len(pairs), "landmark_residual_mm": residuals.tolist()}
    qc["landmark_left_out_mm"] = None if left_out is None else left_out.tolist()
    if moving is None or fixed is None:
        qc |= {"verdict": "check", "reasons": ["the images are not known, so the landmarks cannot be judged"]}
    else:
        freedom = len(pairs) if kind == "tps" else KINDS[kind]
        seen: dict[str, Any] = {"masks": (moving_mask, fixed_mask), "shrinkage": shrinkage}
        qc |= judge_landmarks(transform, pairs, facts["size"], freedom, left_out, (moving, fixed), **seen)
    known = {"Moving": moving, "Fixed": fixed}
    info = {name: described(image) for name, image in known.items() if image is not None}
    info["Parameters"] = {"Kind": kind, "Drive": "landmarks", "Landmarks": len(pairs)}
    return Registration(transform.matrix, transform.displacements, info, (), 1.0, qc, slice)


def _placed(pairs: FloatArray, moving: Image | None, fixed: Image | None) -> FloatArray:
    pairs = check_landmarks(pairs)
    pairs = on_planes(pairs, (_plane(moving, pairs[:, 0]), _plane(fixed, pairs[:, 1])))
    if fixed is not None:
        check_depth(pairs[:, 1], fixed)
    return pairs


def _fitted(
    pairs: FloatArray, kind: str, moving: Image | None, fixed: Image | None
) -> tuple[Transform, dict[str, Any]]:
    if kind not in KINDS:
        raise InputError(f"kind={kind!r} is not available", hint="use kind=" + " or ".join(map(repr, KINDS)))
    if len(pairs) < KINDS[kind]:
        raise GeometryError(f"{len(pairs)} landmarks are too few for kind={kind!r}", hint=f"give {KINDS[kind]}")
    planes = _plane(moving, pairs[:, 0]), _plane(fixed, pairs[:, 1])
    there, here = planes[0].to_plane(pairs[:, 0]), planes[1].to_plane(pairs[:, 1])
    check_spread(there, here)
    pull = _similarity(here, there) if kind == "similarity" else _affine(here, there)
    linear = pull[:2, :2]
    turned = bool(np.linalg.det(linear) < 0)
    u, size, vt = np.linalg.svd(np.linalg.inv(linear) @ np.diag([1.0, -1.0 if turned else 1.0]))
    rotation = u @ vt
    angle = float(np.degrees(np.arctan2(rotation[1, 0], rotation[0, 0])))
    facts: dict[str, Any] = {"angle_deg": angle, "turned_over": turned, "size": float(1 / np.sqrt(size.prod()))}
    facts["deformed"] = kind == "tps"
    matrix = lift(pull, *planes)
    if kind != "tps":
        return Transform(matrix), facts
    field = _thin_plate(here, there, pull, planes[1], fixed)
    jacobian = field.jacobian()
    facts["jacobian"] = [float(jacobian.min()), float(jacobian.max())]
    if jacobian.min() <= 0:
        raise GeometryError("a thin plate through these landmarks folds", hint="check the pairs, or use kind='affine'")
    return Transform(matrix, (field,)), facts


def _plane(image: Image | None, points: FloatArray) -> Plane:
    if image is not None:
        return Plane.of(image)
    affine = np.eye(4)
    affine[:3, 3] = np.where(np.isnan(points), 0.0, points).mean(axis=0)
    return Plane.of(Image(np.zeros((2, 2)), affine))


def _affine(here: FloatArray, there: FloatArray) -> FloatArray:
    design = np.column_stack([here, np.ones(len(here))])
    pull = np.eye(3)
    pull[:2] = np.linalg.lstsq(design, there, rcond=None)[0].T
    if abs(np.linalg.det(pull)) < 1e-9:
        raise GeometryError("the landmarks flatten the plane", hint="check the pairs")
    return pull


def _similarity(here: FloatArray, there: FloatArray) -> FloatArray:
    """Return the best rotation, side, size and shift; Umeyama 1991, doi 10.1109/34.88573, for either side."""
    middle, goal = here.mean(axis=0), there.mean(axis=0)
    about, target = here - middle, there - goal
    u, strength, vt = np.linalg.svd(target.T @ about)
    linear = u @ vt
    if len(here) == 2 and np.linalg.det(linear) < 0:  # two points fit either side: the section as it lies
        strength[1] *= -1
        linear = u @ np.diag([1.0, -1.0]) @ vt
    linear = linear * strength.sum() / np.sum(about**2)
    pull = np.eye(3)
    pull[:2, :2], pull[:2, 2] = linear, goal - linear @ middle
    return pull


def _thin_plate(
    here: FloatArray, there: FloatArray, pull: FloatArray, plane: Plane, fixed: Image | None
) -> Displacement:
    if fixed is None:
        low, high = here.min(axis=0), here.max(axis=0)
        step = float((high - low).max()) * 2 / _GRID
        corner = (low + high) / 2 - step * _GRID / 2
        affine = plane.frame @ np.diag([step, step, 1.0, 1.0])
        affine[:3, 3] = plane.to_world(corner[None])[0]
        grid, shape = Plane.of(Image(np.zeros((2, 2)), affine)), (_GRID + 1, _GRID + 1)
        points = plane.to_plane(grid.to_world(grid.pixels(shape)))
    else:
        affine, shape, points = fixed.affine, fixed.data.shape[:2], plane.pixels(fixed.data.shape)
    spline = RBFInterpolator(here, there, kernel="thin_plate_spline", degree=1)
    back = np.linalg.inv(pull)
    moved = spline(points) @ back[:2, :2].T + back[:2, 2] - points
    world = moved @ plane.frame[:3, :2].T
    return Displacement(world.reshape(*shape, 1, 3), affine, inverted=True)


def judge_landmarks(
    transform: Transform, pairs: FloatArray, size: float, freedom: int, left_out: FloatArray | None,
    images: tuple[Image, Image], *, masks: tuple[Image | None, Image | None] = (None, None), shrinkage: float,
) -> dict[str, Any]:  # fmt: skip
    """Return what the scatter of the landmarks, the outlines of the tissues, the size and the places say.

    Points can fit each other perfectly and mean something else: moving and fixed swapped, a sign of another convention,
    a wrong pixel size, another unit, another section. The outlines, which had no part in the fit, show it.

    The `pairs` (N, 2, 3) are in mm, `size` is that of the section relative to the MRI, `freedom` how many pairs settle
    the transform (all, if it goes through every one), `left_out` (N,) the error of each pair under the fit to all
    others, None if there are just enough. Images and masks are of the section and of the slice of the MRI. The verdict
    is "failed" if the outlines hardly agree, the tissues differ too much in size, or most points lie outside an image,
    and "check" if anything is uncertain. With it come the reasons, ``outline_agreement``, ``outline_lead`` over another
    sign of x or y, and ``expected_mm``, the error that the scatter leads one to expect.
    """
    reasons, failed = [], False
    for points, image, what in zip(pairs.swapaxes(0, 1), images, ("moving", "fixed"), strict=True):
        if beside := int(outside(points, image).sum()):
            reasons.append(f"{beside} of {len(points)} {what} landmarks lie outside the {what} image: check the units")
        failed |= 2 * beside > len(points)
    low, high = (1 - shrinkage) * np.array(SIZE_RANGE)
    if not low <= size <= high:
        sizes = f"{100 * size:.0f} % of the MRI's size, and shrinkage allows {100 * low:.0f} to {100 * high:.0f} %"
        check = "check the pixel size, and that moving and fixed are not swapped"
        reasons.append(f"the landmarks make the section {sizes}: {check}")
    moving, flat = images
    try:
        section, tissue = tissue_of(moving, masks[0], "moving"), tissue_of(flat, masks[1], "fixed")
        problem, planes = build_problem(moving, section, Target(None, flat, tissue), 1 - shrinkage)
    except GeometryError as error:
        return {"verdict": "failed", "reasons": [*reasons, error.problem]}
    except InputError as error:
        reasons.append(f"the outlines of the tissues are not known ({error.problem})")
        return {"verdict": "failed" if failed else "check", "reasons": reasons}
    more, measured = _outlines(transform, problem, planes)
    residuals = np.linalg.norm(transform.points(pairs[:, 0]) - pairs[:, 1], axis=1)
    place = planes[1].holding(tissue, "fixed mask").pixels(tissue.data.shape)[tissue.data.ravel() > 0.5]
    points = planes[1].to_plane(pairs[:, 1])
    reasons += more
    if left_out is None:
        reasons.append("there are just enough landmarks to settle the transform, and none to test it")
    else:
        more, expected = _dispersion(residuals, points, place, freedom, left_out, problem.unit_mm)
        reasons += more
        measured |= expected
    verdict = "failed" if failed or measured["outline_agreement"] < LEAST_AGREEMENT else "check" if reasons else "good"
    return {**measured, "verdict": verdict, "reasons": reasons}


class _Pull:
    """A transform between two planes, from fixed to moving."""

    def __init__(self, transform: Transform, planes: tuple[Plane, Plane]) -> None:
        self._back, self._planes = transform.inverse(), planes

    def points(self, points: FloatArray) -> FloatArray:
        """Map points, (N, 2)."""
        return self._planes[0].to_plane(self._back.points(self._planes[1].to_world(points)))


def _outlines(transform: Transform, problem: Problem, planes: tuple[Plane, Plane]) -> Judged:
    """Return reasons if the outlines do not agree, or do better with another sign, and how well they do.

    Signs differ between LPS and RAS. A mirrored section is about as large and as central as the true one.
    """
    own = problem.agreement(_Pull(transform, planes))
    tried = []
    for signs, axes in (((-1, 1), "x"), ((1, -1), "y"), ((-1, -1), "x and y")):
        turned = np.diag([*signs, 1.0, 1.0])
        for what, matrix in (("fixed", turned @ transform.matrix), ("moving", transform.matrix @ turned)):
            tried.append((problem.agreement(_Pull(Transform(matrix), planes)), axes, what))
    best, axes, what = max(tried)
    reasons = []
    if own - best < _CLEAR_MARGIN:
        better = f"the outlines agree as well or better ({best:.2f}, {own:.2f} as given)"
        reasons.append(f"with another sign of {axes} in the {what} landmarks {better}: check LPS or RAS")
    if own < GOOD_AGREEMENT:
        poorly = f"the outlines agree poorly ({own:.2f}; good is {GOOD_AGREEMENT:.2f} or more)"
        check = "the pairs, that both images are of this section, the signs (LPS or RAS), the units and the masks"
        reasons.append(f"{poorly}: check {check}")
    return reasons, {"outline_agreement": own, "outline_lead": own - best}


def _dispersion(
    residuals: FloatArray, points: FloatArray, tissue: FloatArray, freedom: int, left_out: FloatArray, pixel_mm: float
) -> Judged:
    """Return reasons if the landmarks scatter too much, or lie so that a little scatter moves the tissue by much.

    `points` and `tissue` are in the fixed plane, (N, 2) and (M, 2) mm. In least squares the error to be expected at a
    place is the scatter times the root of its leverage; it is returned too, where there is any scatter.
    """
    reasons, measured = [], {}
    design, places = (np.column_stack([each, np.ones(len(each))]) for each in (points, tissue))
    leverage = float(np.sqrt(np.mean(np.sum(places @ np.linalg.pinv(design.T @ design) * places, axis=1))))
    if leverage > _LARGEST_LEVERAGE:
        lie = "the landmarks lie nearly on one line or close together: what they are off, the tissue is off"
        reasons.append(f"{lie} {leverage:.1f} times; add a point far from the others")
    if freedom < len(points):
        dispersion = float(np.sqrt(np.sum(residuals**2) / (len(points) - freedom)))
        measured["expected_mm"] = expected = dispersion * leverage
        if expected > _LARGEST_ERROR_PX * pixel_mm:
            limit = f"more than {_LARGEST_ERROR_PX} pixels ({_LARGEST_ERROR_PX * pixel_mm:.2g} mm)"
            scatter = f"the landmarks scatter by {dispersion:.2g} mm"
            reasons.append(f"{scatter}: the tissue is expected {expected:.2g} mm off, {limit}")
    typical, most = float(np.median(left_out)), _LARGEST_LEFT_OUT_PX * pixel_mm
    if typical > most:
        limit, worst = f"more than {_LARGEST_LEFT_OUT_PX:.0f} pixels ({most:.2g} mm)", int(np.argmax(left_out))
        end = f"landmarks left out end {typical:.2g} mm off (median), {limit}"
        reasons.append(f"{end}; pair {worst + 1} is worst, {left_out[worst]:.2g} mm")
    return reasons, measured
