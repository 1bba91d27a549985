"""Landmarks: pairs of points that a person has seen in both images."""

from collections.abc import Sequence

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import GeometryError, InputError
from histomri.registration.planes import Plane
from histomri.registration.search import Start, linear

_COLLINEAR = 0.02
_LARGEST_MISFIT = 0.25


def check_landmarks(landmarks: FloatArray) -> FloatArray:
    """Return landmarks as (N, 2, 3).

    Raises
    ------
    InputError
        If the shape is another, there are fewer than two pairs, or a coordinate is not finite.
    """
    pairs = np.asarray(landmarks, dtype=float)
    if pairs.ndim != 3 or pairs.shape[1] != 2 or pairs.shape[2] not in (2, 3):
        raise InputError(
            f"landmarks must have the shape (N, 2, 3), pairs of moving and fixed points, not {pairs.shape}"
        )
    if not np.all(np.isfinite(pairs)):
        raise InputError("landmarks must be finite")
    if len(pairs) < 2:
        raise InputError(f"{len(pairs)} landmark pairs are too few", way_out="give two, better three or more")
    if pairs.shape[2] == 2:
        pairs = np.concatenate([pairs, np.zeros((*pairs.shape[:2], 1))], axis=2)
    return pairs


def landmark_starts(
    pairs: FloatArray,
    planes: tuple[Plane, Plane],
    centres: tuple[FloatArray, FloatArray],
    scale: float,
    *,
    sides: Sequence[bool] = (False, True),
) -> list[Start]:
    """Return the orientations that landmarks allow: one, or both sides if there are only two pairs.

    Parameters
    ----------
    pairs : (N, 2, 3) ndarray
        Moving and fixed points, world mm.
    planes : (moving, fixed) Plane
        The two planes.
    centres : (moving, fixed) (2,) ndarray
        Centroids of the tissue in their planes.
    scale : float
        Expected size of the section relative to the MRI.
    sides : sequence of bool
        Whether to try the section turned over (True), as it lies (False), or both.

    Raises
    ------
    GeometryError
        If the points coincide, lie on one line, or cannot be matched at a plausible size.
    """
    moving, fixed = (plane.to_plane(pairs[:, side]) for side, plane in enumerate(planes))
    for points, what in ((moving, "moving"), (fixed, "fixed")):
        check_spread(points, what)
    fits = [_rigid(moving, fixed, scale, flip) for flip in sides]
    if len(pairs) > 2:
        fits = [min(fits, key=lambda fit: fit[1])]
    spread = scale * np.sqrt(np.mean(np.sum((fixed - fixed.mean(axis=0)) ** 2, axis=1)))
    _check_misfit(moving, fixed, fits[0], spread, scale)
    starts = []
    for (angle, flip), _ in fits:
        matrix = scale * linear(angle, flip)
        image = moving.mean(axis=0) + matrix @ (centres[1] - fixed.mean(axis=0))
        starts.append(Start(angle, flip, image - centres[0]))
    return starts


def check_spread(points: FloatArray, what: str) -> None:
    """Raise a GeometryError if points of a plane coincide, or more than two lie on one line."""
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if singular[0] < 1e-6:
        raise GeometryError(f"the {what} landmarks all lie at one place")
    if len(points) > 2 and singular[1] < _COLLINEAR * singular[0]:
        raise GeometryError(
            f"the {what} landmarks lie on one line, which does not tell the two sides of the section apart",
            way_out="add a point away from the line",
        )


def _rigid(moving: FloatArray, fixed: FloatArray, scale: float, flip: bool) -> tuple[tuple[float, bool], float]:
    """Return the rotation (after a reflection if `flip`) that fits best at the expected size, and its RMS misfit."""
    centred = moving - moving.mean(axis=0)
    about = (fixed - fixed.mean(axis=0)) @ np.diag([1.0, -1.0 if flip else 1.0])
    cross = about[:, 0] * centred[:, 1] - about[:, 1] * centred[:, 0]
    angle = float(np.arctan2(cross.sum(), (about * centred).sum()))
    rest = centred - scale * about @ linear(angle, False).T
    return (angle, flip), float(np.sqrt(np.mean(np.sum(rest**2, axis=1))))


def _check_misfit(
    moving: FloatArray, fixed: FloatArray, fit: tuple[tuple[float, bool], float], spread: float, scale: float
) -> None:
    (angle, flip), misfit = fit
    if misfit <= _LARGEST_MISFIT * spread:
        return
    rest = moving - moving.mean(axis=0) - scale * (fixed - fixed.mean(axis=0)) @ linear(angle, flip).T
    worst = int(np.argmax(np.sum(rest**2, axis=1)))
    raise GeometryError(
        f"the landmarks do not fit each other: {misfit:.2g} mm apart on average, pair {worst + 1} worst "
        f"({np.hypot(*rest[worst]):.2g} mm)",
        way_out="check that the pairs are in the same order, in mm, and moving and fixed are not swapped",
    )
