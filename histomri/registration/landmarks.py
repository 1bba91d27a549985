"""Landmarks: pairs of points that a person has seen in both images."""

from collections.abc import Sequence

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.planes import Plane, on_planes
from histomri.registration.search import Start, linear

CHECK_PAIRS = "check that the pairs are in the same order, in mm, and moving and fixed are not swapped"
_COLLINEAR, _LARGEST_MISFIT, _MARGIN = 0.02, 0.25, 0.1


def check_landmarks(landmarks: FloatArray) -> FloatArray:
    """Return landmarks as (N, 2, 3), two at least; z is NaN where it is not known."""
    pairs = np.asarray(landmarks, dtype=float)
    if pairs.ndim != 3 or pairs.shape[1] != 2 or pairs.shape[2] not in (2, 3):
        raise InputError(f"landmarks must have the shape (N, 2, 3), moving and fixed points, not {pairs.shape}")
    if not np.all(np.isfinite(pairs[..., :2])) or np.any(np.isinf(pairs)):
        raise InputError("landmarks must be finite; only a z that is not known may be NaN")
    if len(pairs) < 2:
        raise InputError(f"{len(pairs)} landmark pairs are too few", hint="give two, better three or more")
    return np.concatenate([pairs, np.full((*pairs.shape[:2], 1), np.nan)], axis=2)[..., :3]


def place_landmarks(pairs: FloatArray, planes: tuple[Plane, Plane], images: tuple[Image, Image]) -> FloatArray:
    """Return landmarks (N, 2, 3) to start from, with z where they have none, found to lie on their images.

    A GeometryError is raised if a point lies beside its image, or fixed points lie off the slice.
    """
    pairs = on_planes(pairs, planes)
    check_depth(pairs[:, 1], images[1])
    for points, image, what in zip(pairs.swapaxes(0, 1), images, ("moving", "fixed"), strict=True):
        if len(beside := np.flatnonzero(outside(points, image))):
            place = ", ".join(f"{value:.4g}" for value in points[beside[0]])
            many = f"{len(beside)} of {len(points)} {what} landmarks lie outside the {what} image"
            hint = "give RAS+ mm of this very image; check units, signs, and that moving and fixed are not swapped"
            raise GeometryError(f"{many}, pair {beside[0] + 1} first ({place} mm)", hint=hint)
    return pairs


def outside(points: FloatArray, image: Image) -> BoolArray:
    """Return which points, (N, 3), lie beside a 2D image by more than a tenth of its sides."""
    index = (np.linalg.inv(image.affine) @ np.column_stack([points, np.ones(len(points))]).T)[:2].T
    place = (index + 0.5) / np.array(image.data.shape[:2])
    return np.asarray(((place < -_MARGIN) | (place > 1 + _MARGIN)).any(axis=1))


def check_depth(points: FloatArray, flat: Image) -> None:
    """Raise a GeometryError if fixed points, (N, 3), lie off the slice, or one of them far off it.

    A section may be tilted, so only their middle has to lie within a slice (or two pixels), and each within a tenth of
    the image.
    """
    thickness = float(flat.voxel_mm[2])
    off = np.abs((np.linalg.inv(flat.affine) @ np.column_stack([points, np.ones(len(points))]).T)[2]) * thickness
    near = max(thickness, 2 * float(flat.voxel_mm[:2].max()))
    far = max(near, _MARGIN * float((flat.voxel_mm[:2] * flat.data.shape[:2]).max()))
    middle, worst = float(np.median(off)), int(np.argmax(off))
    if middle > near or off[worst] > far:
        lie = f"{middle:.3g} mm off this slice (median; pair {worst + 1} {off[worst]:.3g} mm)"
        problem = f"the fixed landmarks lie {lie}, and it is {thickness:.3g} mm thick"
        raise GeometryError(problem, hint="correct z or the slice, or leave z out")


def landmark_starts(
    pairs: FloatArray, planes: tuple[Plane, Plane], centres: Sequence[FloatArray], scale: float, sides: Sequence[bool]
) -> list[Start]:
    """Return the orientations that landmarks allow: one, or both sides if there are only two pairs.

    The `pairs` (N, 2, 3) are in world mm, `planes` and `centres` (2,) of the tissue those of the moving and the fixed
    image, `scale` is the expected size of the section relative to the MRI. A GeometryError is raised if the points
    coincide, lie on one line, or cannot be matched at a plausible size.
    """
    moving, fixed = (plane.to_plane(pairs[:, side]) for side, plane in enumerate(planes))
    for points, what in ((moving, "moving"), (fixed, "fixed")):
        check_spread(points, what)
    fits = [_rigid(moving, fixed, scale, flip) for flip in sides]
    if len(pairs) > 2:
        fits = [min(fits, key=lambda fit: fit[0])]
    misfit, _, squared = fits[0]
    if misfit > _LARGEST_MISFIT * scale * np.sqrt(np.mean(np.sum((fixed - fixed.mean(axis=0)) ** 2, axis=1))):
        worst = int(np.argmax(squared))
        apart = f"{misfit:.2g} mm apart on average, pair {worst + 1} worst ({np.sqrt(squared[worst]):.2g} mm)"
        raise GeometryError(f"the landmarks do not fit each other: {apart}", hint=CHECK_PAIRS)
    away = centres[1] - fixed.mean(axis=0)
    found = [where for _, where, _ in fits]
    return [Start(*one, moving.mean(axis=0) + scale * linear(*one) @ away - centres[0]) for one in found]


def check_spread(points: FloatArray, what: str) -> None:
    """Raise a GeometryError if points of a plane coincide, or more than two lie on one line."""
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if singular[0] < 1e-6:
        raise GeometryError(f"the {what} landmarks all lie at one place")
    if len(points) > 2 and singular[1] < _COLLINEAR * singular[0]:
        line = f"the {what} landmarks lie on one line, which leaves open which side of the section is up"
        raise GeometryError(line, hint="add a point away from the line")


def _rigid(
    moving: FloatArray, fixed: FloatArray, scale: float, flip: bool
) -> tuple[float, tuple[float, bool], FloatArray]:
    """Return the RMS misfit of the best rotation (after a reflection if `flip`), it, and the squared misfits."""
    centred = moving - moving.mean(axis=0)
    about = (fixed - fixed.mean(axis=0)) @ np.diag([1.0, -1.0 if flip else 1.0])
    cross = about[:, 0] * centred[:, 1] - about[:, 1] * centred[:, 0]
    angle = float(np.arctan2(cross.sum(), (about * centred).sum()))
    squared = np.sum((centred - scale * about @ linear(angle, False).T) ** 2, axis=1)
    return float(np.sqrt(np.mean(squared))), (angle, flip), squared
