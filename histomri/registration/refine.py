"""Robust refinement: signed distances matched by Gauss-Newton with Geman-McClure weights.

Every pixel of the fixed image within a band around either outline compares its signed distance to the fixed outline
with the signed distance of its image to the moving outline. The weight of Geman and McClure, 1 / (1 + (r / c)^2)^2,
takes the voice from pixels whose disagreement r is far above c: a missing lobe, a tear or a hole that only one of the
images has then pulls at nothing. c starts wide and narrows.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.registration.outlines import Outline
from histomri.registration.starts import Start, linear

NOISE, WIDTHS = 0.4, (4.0, 1.5, 0.8)
# A section that is bent cannot agree everywhere under an affine: too narrow a loss would serve one part of it alone.
_HOLES_WIDTH, _AFFINE_WIDTHS = 2.5, (2.5, 1.5)
_BAND, _REACH, _SPARSE = 2.6, 10.0, 3
_ITERATIONS, _STEP_TOLERANCE, _NEAR = 15, 1e-4, 5e-3
# Standard deviations of what is known beforehand, as logarithms: size, and stretch or shear in a section.
_SIZE_SD, _SHEAR_SD, _EARLY_SHEAR_SD = 0.06, 0.05, 2e-3
# A person clicks less precisely than this, but hundreds of pixels side by side would outvote an honest figure.
_ANCHOR_MM, _ANCHOR_WIDTH = 0.07, 2.5
_MISSING_FROM, _MISSING = 1.5, 0.5
_SPILL_FROM, _SPILL = 1.5, 0.1
_QUARTER_TURN = np.array([[0.0, -1.0], [1.0, 0.0]])
SIZE_RANGE = (0.75 / 0.871, 1.0 / 0.871)
"""Allowed size relative to the expected one: 0.75 to 1.0 of the MRI where the section shrinks by 12.9 %."""


@dataclass(frozen=True, eq=False)
class Pose:
    """A 2D affine map from the fixed plane to the moving plane.

    The image of x is ``moving_centre + shift + R(angle) F exp(S) (x - fixed_centre)`` with F the flip and S the
    symmetric matrix ``[[size + stretch, shear], [shear, size - stretch]]``: angle, size, distortion are independent.
    """

    angle: float
    shift: FloatArray
    size: float
    stretch: float
    shear: float
    flip: bool
    moving_centre: FloatArray
    fixed_centre: FloatArray

    @property
    def linear(self) -> FloatArray:
        """The linear part, (2, 2)."""
        return np.asarray(np.exp(self.size) * linear(self.angle, self.flip) @ _distortion(self.stretch, self.shear))

    @property
    def matrix(self) -> FloatArray:
        """The whole map in homogeneous coordinates, (3, 3)."""
        matrix = np.eye(3)
        matrix[:2, :2] = self.linear
        matrix[:2, 2] = self.moving_centre + self.shift - self.linear @ self.fixed_centre
        return matrix

    def with_matrix(self, matrix: FloatArray) -> "Pose":
        """Return the pose of another map, (3, 3), about the same centres."""
        part = matrix[:2, :2]
        flip = bool(np.linalg.det(part) < 0)
        u, strength, vt = np.linalg.svd(part)
        turn = u @ vt @ np.diag([1.0, -1.0 if flip else 1.0])
        shape = vt.T @ np.diag(np.log(strength)) @ vt  # the symmetric factor's logarithm
        shift = matrix[:2, 2] + part @ self.fixed_centre - self.moving_centre
        angle, size = float(np.arctan2(turn[1, 0], turn[0, 0])), float(np.trace(shape) / 2)
        stretch, shear = float((shape[0, 0] - shape[1, 1]) / 2), float(shape[0, 1])
        return replace(self, angle=angle, flip=flip, shift=shift, size=size, stretch=stretch, shear=shear)

    @property
    def parameters(self) -> FloatArray:
        """Angle, shift (2), size, stretch, shear, (6,)."""
        return np.array([self.angle, *self.shift, self.size, self.stretch, self.shear])

    def moved(self, parameters: FloatArray) -> "Pose":
        """Return the pose with other parameters."""
        angle, p, q, size, stretch, shear = map(float, parameters)
        return replace(self, angle=angle, shift=np.array([p, q]), size=size, stretch=stretch, shear=shear)

    def points(self, points: FloatArray) -> FloatArray:
        """Map points of the fixed plane to the moving plane, (N, 2)."""
        return np.asarray(self.moving_centre + self.shift + (points - self.fixed_centre) @ self.linear.T)

    def derivative(self, points: FloatArray, slope: FloatArray) -> FloatArray:
        """Return the derivative by the parameters, (M, 6), of what has the `slope` (2, M) at the images of `points`."""
        here, turned = self.linear, np.exp(self.size) * linear(self.angle, self.flip)
        step, changes = 1e-6, [_QUARTER_TURN @ here, here]
        for p, q in ((step, 0.0), (0.0, step)):
            change = _distortion(self.stretch + p, self.shear + q) - _distortion(self.stretch - p, self.shear - q)
            changes.append(turned @ change / (2 * step))
        products = (slope.T[:, :, None] * (points - self.fixed_centre)[:, None, :]).reshape(len(points), 4)
        result = np.empty((len(points), 6))
        result[:, 1:3], result[:, [0, 3, 4, 5]] = slope.T, products @ np.array(changes).reshape(4, 4).T
        return result


def _distortion(stretch: float, shear: float) -> FloatArray:
    """Return the exponential of ``[[stretch, shear], [shear, -stretch]]``."""
    rho = np.hypot(stretch, shear)
    ratio = np.sinh(rho) / rho if rho > 1e-12 else 1.0
    return np.asarray(np.cosh(rho) * np.eye(2) + ratio * np.array([[stretch, shear], [shear, -stretch]]))


class HasPoints(Protocol):
    """Anything that maps the fixed plane to the moving plane."""

    def points(self, points: FloatArray) -> FloatArray:
        """Map points, (N, 2)."""


@dataclass(frozen=True, eq=False)
class Deformed(ABC):
    """A pose after a deformation of the fixed plane: x -> pose(x + d(x))."""

    pose: Pose

    @abstractmethod
    def displacement(self, points: FloatArray) -> FloatArray:
        """Return d at points of the fixed plane, (N, 2) mm."""

    @abstractmethod
    def cost(self, unit_mm: float) -> float:
        """Return what the deformation costs beside the residuals, in units of their variance."""

    @abstractmethod
    def jacobian(self) -> FloatArray:
        """Return the area ratio of x -> x + d(x) where it is known."""

    def points(self, points: FloatArray) -> FloatArray:
        """Map points of the fixed plane to the moving plane, (N, 2)."""
        return self.pose.points(points + self.displacement(points))


@dataclass(frozen=True, eq=False)
class Pull:
    """What one alignment leaves to be matched, point by point, with the noise as unit.

    Points `rows` (M,) pull with a `residual` (M,), whose derivative by the position in the moving plane is `slope`
    (2, M) per mm, and with the `weight` (M,) by which each is believed. A point may pull several times.
    """

    rows: IntArray
    residual: FloatArray
    slope: FloatArray
    weight: FloatArray

    @classmethod
    def joined(cls, pulls: "Sequence[Pull]") -> "Pull":
        """Return several pulls as one."""
        names = ("rows", "residual", "slope", "weight")
        return cls(*(np.concatenate([getattr(pull, name) for pull in pulls], axis=-1) for name in names))


@dataclass(frozen=True, eq=False)
class Problem:
    """Two outlines to be matched at points of the fixed plane; an engine may match more in a class of its own.

    The `points` (N, 2) are pixels of the fixed image, of which the last K, landmarks, belong at `anchors` (K, 2) in the
    moving plane; `unit_mm` is the length that counts as one pixel, and all widths are multiples of it; `scale` is the
    expected size of the section relative to the MRI.
    """

    moving: Outline
    fixed: Outline
    points: FloatArray
    unit_mm: float
    scale: float
    anchors: FloatArray | None = None

    def pose(self, start: Start) -> Pose:
        """Return the pose of a start, at the expected size."""
        centres = self.moving.centre, self.fixed.centre
        return Pose(start.angle, start.shift, np.log(self.scale), 0.0, 0.0, start.flip, *centres)

    def differ(self, mapped: FloatArray, *, filled: bool) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Compare the two signed distances, with holes or `filled`; `mapped` (N, 2) are the images of `points`.

        Returns which points lie near either outline, (N,); their disagreement, (M,) mm of the fixed image; and the
        slope of the moving distance, (2, M), which is in mm of the moving image.
        """
        own, there = self.own_filled if filled else self.own, self.moving.at(mapped, filled=filled)
        distance = there[0] / self.scale
        near = np.minimum(np.abs(own), np.abs(distance)) < _BAND * self.unit_mm
        return near, distance[near] - own[near], there[1:, near]

    def pull(self, mapped: FloatArray, width_mm: float, *, filled: bool) -> Pull:
        """Return the residuals at the images of `points`."""
        near, residual, gradient = self.differ(mapped, filled=filled)
        noise = NOISE * self.unit_mm
        # Tissue of the section may be missing; it cannot lie where the MRI shows none, and that keeps its voice longer.
        weight = 1 / (1 + (residual / width_mm) ** 2) ** 2
        spilt = (residual < 0) & (self.own_filled[near] > _SPILL_FROM * self.unit_mm)
        weight = np.where(spilt, np.maximum(weight, _SPILL), weight)
        outline = Pull(np.flatnonzero(near), residual / noise, gradient / (self.scale * noise), weight)
        return outline if self.anchors is None else Pull.joined([outline, self._anchored(mapped, self.anchors)])

    def _anchored(self, mapped: FloatArray, anchors: FloatArray) -> Pull:
        """Hold the landmarks, each along both axes, so that an outline that leaves something open cannot drift."""
        rows = np.arange(len(self.points) - len(anchors), len(self.points))
        away = (mapped[rows] - anchors) / self.scale
        weight = 1 / (1 + (np.hypot(*away.T) / (_ANCHOR_WIDTH * self.unit_mm)) ** 2) ** 2
        slope = np.kron(np.eye(2), np.ones(len(anchors))) / (_ANCHOR_MM * self.scale)
        return Pull(np.tile(rows, 2), away.T.ravel() / _ANCHOR_MM, slope, np.tile(weight, 2))

    def anchored(self, moving: FloatArray, fixed: FloatArray) -> "Problem":
        """Return the problem with landmarks, (K, 2) in each plane, that hold it."""
        return replace(self, points=np.concatenate([self.points, fixed]), anchors=moving)

    def score(self, pose: HasPoints) -> float:
        """Return what candidates are ranked by."""
        return self.agreement(pose)

    @cached_property
    def sparse(self) -> "Problem":
        """The nearby problem on one in three of its pixels, enough to come near."""
        near = self.nearby
        last = len(near.points) - (0 if self.anchors is None else len(self.anchors))
        chosen = np.concatenate([np.arange(0, last, _SPARSE), np.arange(last, len(near.points))])
        return replace(near, points=near.points[chosen])

    @cached_property
    def own(self) -> FloatArray:
        """Signed distance of every point to the fixed outline, mm."""
        return np.asarray(self.fixed.at(self.points, filled=False)[0])

    @cached_property
    def own_filled(self) -> FloatArray:
        """The same with holes filled."""
        return np.asarray(self.fixed.at(self.points, filled=True)[0])

    @cached_property
    def nearby(self) -> "Problem":
        """The same problem on the pixels that can pull: those further from the fixed outline have no weight."""
        near = np.minimum(np.abs(self.own), np.abs(self.own_filled)) < _REACH * self.unit_mm
        if self.anchors is not None:
            near[len(near) - len(self.anchors) :] = True
        return replace(self, points=self.points[near])

    def compared(self, pose: HasPoints) -> int:
        """Return how many pixels lie near either outline, 1 at least."""
        return max(1, int(self.differ(pose.points(self.points), filled=False)[0].sum()))

    def agreement(self, pose: HasPoints) -> float:
        """Return the robust agreement of the outlines, holes included: 1 perfect, 0 none.

        Where the section lacks tissue that the MRI shows, the disagreement counts half: that happens to every section.
        """
        _, robust, weight = self.agreements(pose)
        return float(np.average(robust, weights=weight)) if len(robust) else 0.0

    def agreements(self, pose: HasPoints) -> tuple[BoolArray, FloatArray, FloatArray]:
        """Return which points are compared, (N,), how well each of them agrees, 0 to 1 (M,), and its weight (M,)."""
        near, residual, _ = self.differ(pose.points(self.points), filled=False)
        weight = np.where(residual > _MISSING_FROM * self.unit_mm, _MISSING, 1.0)
        return near, 1 / (1 + (residual / (WIDTHS[-1] * self.unit_mm)) ** 2), weight


def approach(problem: Problem, start: Start) -> Pose:
    """Bring a start near: almost a similarity, on the outer outline alone."""
    pose = problem.pose(start)
    for width in WIDTHS[:2]:
        pose = _solve(problem.sparse, pose, width, _EARLY_SHEAR_SD, filled=True, until=_NEAR)
    return _solve(problem.sparse, pose, _HOLES_WIDTH, _EARLY_SHEAR_SD, filled=False, until=_NEAR)


def refine(problem: Problem, pose: Pose, kind: str) -> Pose:
    """Refine a pose to the end as a similarity or affine, holes included."""
    shear_sd = None if kind == "similarity" else _SHEAR_SD
    pose = pose if shear_sd else replace(pose, stretch=0.0, shear=0.0)
    for width in _AFFINE_WIDTHS:
        pose = _solve(problem.nearby, pose, width, shear_sd, filled=False)
    return pose


def _solve(
    problem: Problem, pose: Pose, width: float, shear_sd: float | None, *, filled: bool, until: float = _STEP_TOLERANCE
) -> Pose:
    """Return the pose that iterated weighted least squares settles on; without `shear_sd` its shape is kept."""
    free = slice(0, 6 if shear_sd else 4)
    prior = np.array([0.0, 0.0, 0.0, _SIZE_SD**-2, *2 * [(shear_sd or _SHEAR_SD) ** -2]])
    expected = np.array([0.0, 0.0, 0.0, np.log(problem.scale), 0.0, 0.0])
    for _ in range(_ITERATIONS):
        pull = problem.pull(pose.points(problem.points), width * problem.unit_mm, filled=filled)
        if not len(pull.rows):
            return pose
        rows = pose.derivative(problem.points[pull.rows], pull.slope)
        normal = (rows * pull.weight[:, None]).T @ rows + np.diag(prior)
        slope = rows.T @ (pull.weight * pull.residual) + prior * (pose.parameters - expected)
        normal += 1e-9 * np.trace(normal) * np.eye(6)
        step = np.zeros(6)
        step[free] = -np.linalg.solve(normal[free, free], slope[free])
        # A step turns by at most 6 degrees and shifts by at most three pixels.
        turn, shift = np.abs(step[[0, 3, 4, 5]]).max() / 0.1, np.hypot(step[1], step[2]) / (3 * problem.unit_mm)
        step = step * min(1.0, float(1 / max(turn, shift, 1e-12)))
        parameters = pose.parameters + step
        parameters[3] = np.clip(parameters[3], *_size_bounds(problem.scale))
        parameters[4:] = np.clip(parameters[4:], -0.3, 0.3)
        pose = pose.moved(parameters)
        if np.abs(step).max() < until:
            break
    return pose


def _size_bounds(scale: float) -> FloatArray:
    """Return the smallest and the largest size that is allowed, as logarithms."""
    return np.asarray(np.log(scale) + np.log(SIZE_RANGE))


def at_size_bound(pose: Pose, scale: float) -> bool:
    """Whether the size ended at the edge of what is allowed, a sign of wrong pixel sizes or a wrong match."""
    low, high = _size_bounds(scale)
    return bool(pose.size < low + 1e-3 or pose.size > high - 1e-3)
