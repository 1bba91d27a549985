"""Where refinements start: every rotation and both sides are searched, or landmarks give the orientation.

The search finds the best shift of each by Fourier correlation. Landmarks are pairs of points seen in both images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.outlines import Outline
from histomri.registration.planes import Plane, on_planes

_ANGLES, _KEPT, _PIXELS_ACROSS = 36, 24, 48
_KNOWN_DEG, _DISTINCT_DEG = 15.0, 25.0
CHECK_PAIRS = "check that the pairs are in the same order, in mm, and moving and fixed are not swapped"
_COLLINEAR, _LARGEST_MISFIT, _MARGIN = 0.02, 0.25, 0.1


@dataclass(frozen=True, eq=False)
class Start:
    """Where a refinement begins."""

    angle: float  # of the pull, fixed plane to moving plane, rad
    flip: bool  # whether the section is turned over
    shift: FloatArray  # (2,) mm, added to the moving centroid to get the image of the fixed centroid
    overlap: float = float("nan")  # Dice coefficient of the filled masks, NaN for a start that was given


def linear(angle: float, flip: bool) -> FloatArray:
    """Return the rotation, after a reflection of q if `flip`, as (2, 2)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([1.0, -1.0 if flip else 1.0])


def apart_deg(one: float, other: float) -> float:
    """Return the angle between two rotations, degrees in 0..180."""
    return float(np.degrees(np.abs((one - other + np.pi) % (2 * np.pi) - np.pi)))


def distinct(one: Start, other: Start) -> bool:
    """Whether two starts are different orientations, not two shades of one."""
    return one.flip != other.flip or apart_deg(one.angle, other.angle) >= _DISTINCT_DEG


def search(
    moving: Outline, fixed: Outline, scale: float, sides: Sequence[bool] = (False, True), angle_deg: float | None = None
) -> list[Start]:
    """Return the most promising distinct starts, 24 at most, best overlap first.

    `scale` is the expected size of the section relative to the MRI, `sides` whether it is tried turned over, as it
    lies, or both, and `angle_deg` its rotation if it is known.
    """
    step = np.sqrt(max(fixed.area_mm2, moving.area_mm2 / scale**2)) / _PIXELS_ACROSS
    still = _coarse(fixed, step)
    # The turned section fits into a square of its diagonal, and the sum of both sizes keeps shifts from wrapping.
    reach = int(np.ceil(0.5 * np.hypot(*moving.filled.shape) * moving.step_mm / scale / step)) + 1
    size = [fft.next_fast_len(length + 2 * reach + 1, real=True) for length in still.shape]
    offsets = step * np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T @ fixed.axes.T
    spectrum = fft.rfft2(still, s=size)
    filled = moving.filled.astype(float)
    starts = []
    for angle, flip in [(angle, side) for side in sides for angle in _angles(angle_deg, side)]:
        matrix = scale * linear(angle, flip)
        index = moving.index(moving.centre + offsets @ matrix.T).T
        turned = map_coordinates(filled, index, order=1).reshape(2 * reach + 1, 2 * reach + 1)
        overlap = fft.irfft2(spectrum * np.conj(fft.rfft2(turned, s=size)), s=size)
        best = np.unravel_index(np.argmax(overlap), overlap.shape)
        where = np.array([at - full if at >= length else at for at, full, length in zip(best, size, still.shape)])
        # `where` is the place of the turned section's first pixel on the fixed grid; its centre is `reach` further.
        centre = fixed.place((where + reach) * step / fixed.step_mm)
        dice = 2 * overlap[best] / (still.sum() + turned.sum())
        starts.append(Start(angle, flip, matrix @ (fixed.centre - centre), float(dice)))
    kept: list[Start] = []
    for start in sorted(starts, key=lambda start: -start.overlap):
        if len(kept) < _KEPT and all(distinct(start, other) for other in kept):
            kept.append(start)
    return kept


def _angles(angle_deg: float | None, flip: bool) -> FloatArray:
    """Return the rotations to try, of the pull: the section itself turns the other way, unless it is turned over."""
    if angle_deg is None:
        return 2 * np.pi * np.arange(_ANGLES) / _ANGLES
    return np.radians((angle_deg if flip else -angle_deg) + np.linspace(-_KNOWN_DEG, _KNOWN_DEG, 7))


def _coarse(outline: Outline, step: float) -> FloatArray:
    count = np.ceil(np.array(outline.filled.shape) * outline.step_mm / step).astype(int) + 1
    index = np.stack(np.meshgrid(*(np.arange(n) * step / outline.step_mm for n in count), indexing="ij"))
    return np.asarray(map_coordinates(outline.filled.astype(float), index, order=1))


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
    check_spread(moving, fixed)
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


def check_spread(moving: FloatArray, fixed: FloatArray) -> None:
    """Raise a GeometryError if points of one of two planes coincide, or more than two lie on one line."""
    for points, what in ((moving, "moving"), (fixed, "fixed")):
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
