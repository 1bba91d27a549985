"""Synthetic sections with exact truth: a lobe given by a formula, so that no picture of it is ever interpolated."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from histomri.core.images import Image
from histomri.registration import Transform

PIXEL = 0.386


@dataclass(frozen=True)
class Pair:
    """A section, its fine mask, an MRI, and the transform between their worlds."""

    moving: Image
    mask: Image
    fixed: Image
    truth: Transform

    def error_um(self, found: Transform) -> float:
        """Return the median error of the mapped tissue points."""
        i, j = np.nonzero(np.isfinite(self.moving.data))
        index = np.column_stack([i, j, np.zeros_like(i), np.ones_like(i)])
        points = (index @ self.moving.affine.T)[:, :3]
        return 1000 * float(np.median(np.linalg.norm(found.points(points) - self.truth.points(points), axis=1)))


def lobe(points: np.ndarray, round_: bool = False) -> np.ndarray:
    """Return which points, (..., 2) mm, are tissue: an irregular outline without symmetry, and three holes."""
    x, y = points[..., 0], points[..., 1]
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    edge = 9 + 2.0 * np.cos(2 * angle + 0.4) + 1.2 * np.cos(3 * angle - 1) + 0.7 * np.sin(5 * angle)
    inside = radius < (9.0 if round_ else edge)
    for centre_x, centre_y, size in () if round_ else ((3, 1, 1.2), (-4, 2, 0.8), (0, -4, 1.0)):
        inside &= np.hypot(x - centre_x, y - centre_y) > size
    return inside


def turned(angle_deg: float, flip: bool, scale: float, shift: tuple[float, float], shear: float = 0.0) -> np.ndarray:
    """Return a (4, 4) matrix, moving to fixed, with positive determinant; `scale` is the size of the section."""
    angle = np.radians(angle_deg)
    matrix = np.eye(4)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix[:2, :2] = rotation @ np.diag([1, -1 if flip else 1]) @ np.array([[1, shear], [0, 1]]) / scale
    matrix[2, 2] = -1 if flip else 1
    matrix[:2, 3] = shift
    return matrix


def grid(shape: tuple[int, int], pixel: tuple[float, float], sign: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Return the affine of an image centred on the origin."""
    affine = np.diag([sign[0] * pixel[0], sign[1] * pixel[1], 1.0, 1.0])
    affine[:2, 3] = [-s * p * (n - 1) / 2 for s, p, n in zip(sign, pixel, shape, strict=True)]
    return affine


def centres(affine: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return the world coordinates of every pixel, (I, J, 3)."""
    i, j = np.indices(shape)
    return (np.stack([i, j, np.zeros_like(i), np.ones_like(i)], axis=-1) @ affine.T)[..., :3]


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    """Return a function that draws the section and the MRI of a given truth."""

    def make(
        angle_deg: float = 100.0,
        flip: bool = False,
        scale: float = 1 / 1.148,
        shift: tuple[float, float] = (0.7, -0.4),
        *,
        shear: float = 0.0,
        missing: bool = False,
        round_: bool = False,
        fixed_shape: tuple[int, int] = (80, 74),
        finer: int = 1,
    ) -> Pair:
        """`finer` is how many pixels of the MRI stand in the length of one."""
        truth = turned(angle_deg, flip, scale, shift, shear)
        fixed_shape = (fixed_shape[0] * finer, fixed_shape[1] * finer)
        fixed_affine = grid(fixed_shape, (PIXEL / finer, PIXEL / finer))
        inside = lobe(centres(fixed_affine, fixed_shape)[..., :2], round_)
        fixed = np.where(inside, 1.0, 0.0)

        def section(affine: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
            points = centres(affine, shape) @ truth[:3, :3].T + truth[:3, 3]
            present = lobe(points[..., :2], round_)
            return present & ~(np.hypot(points[..., 0] - 7, points[..., 1] - 3) < 3.5) if missing else present

        coarse, fine = (70, 76), (280, 304)
        coarse_affine, fine_affine = (
            grid(coarse, (PIXEL, PIXEL), (-1, -1)),
            grid(fine, (PIXEL / 4, PIXEL / 4), (-1, -1)),
        )
        moving = np.where(section(coarse_affine, coarse), 0.5, np.nan)
        mask = section(fine_affine, fine).astype(float)
        return Pair(
            Image(moving, coarse_affine), Image(mask, fine_affine), Image(fixed, fixed_affine), Transform(truth)
        )

    return make
