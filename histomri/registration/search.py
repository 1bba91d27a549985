"""The search that needs no start: every rotation and both sides, the best shift of each by Fourier correlation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from histomri.core.arrays import FloatArray
from histomri.registration.outlines import Outline

_ANGLES, _KEPT, _PIXELS_ACROSS = 36, 24, 48
_KNOWN_DEG, _DISTINCT_DEG = 15.0, 25.0


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
    offsets = step * np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1).T
    spectrum = fft.rfft2(still, s=size)
    filled = moving.filled.astype(float)
    starts = []
    for angle, flip in [(angle, side) for side in sides for angle in _angles(angle_deg, side)]:
        matrix = scale * linear(angle, flip)
        index = (moving.centre + offsets @ matrix.T - moving.origin).T / moving.step_mm
        turned = map_coordinates(filled, index, order=1).reshape(2 * reach + 1, 2 * reach + 1)
        overlap = fft.irfft2(spectrum * np.conj(fft.rfft2(turned, s=size)), s=size)
        best = np.unravel_index(np.argmax(overlap), overlap.shape)
        where = np.array([at - full if at >= length else at for at, full, length in zip(best, size, still.shape)])
        # `where` is the place of the turned section's first pixel on the fixed grid; its centre is `reach` further.
        centre = fixed.origin + step * (where + reach)
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
