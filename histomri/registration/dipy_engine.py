"""The engine of DIPY: its mutual information and SyN, started where the outlines agree best.

Mutual information is given no masks: with masks it drifts. SyN runs on the masks, not on the maps: on the maps it folds
at the edge of the tissue, and makes the correlation that is tested afterwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import map_coordinates

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.outline_engine import Match, OutlineEngine
from histomri.registration.planes import Plane
from histomri.registration.refine import Deformed, Pose, Problem

_BINS, _BLUR = 32, 1.0
SMOOTH_AREA = (0.6, 1.67)
"""Change of area that SyN may make and still be called good; its outlines agree well wherever it drags the tissue."""


class DipyEngine(OutlineEngine):
    """Refines the best outline match by mutual information and, as "bspline", by SyN on the masks."""

    def finish(self, matches: Sequence[Match], moving: Image, kind: str) -> list[Match]:
        """Return the matches, the best of them refined; orientations are compared by their outlines."""
        return [_refined(matches[0], moving, kind), *matches[1:]]

    def without_refinement(self) -> OutlineEngine:
        """Return the engine that gives the starts: mutual information from every orientation would take too long."""
        return OutlineEngine()

    def objection(self, qc: Mapping[str, Any]) -> str | None:
        """Object where areas change too much."""
        (low, high), (least, most) = qc.get("jacobian", (1.0, 1.0)), SMOOTH_AREA
        if least <= low and high <= most:
            return None
        factors = f"factors of {low:.2f} to {high:.2f}, as where it pulls tissue into missing pieces"
        return f"SyN changes areas by {factors}; trusted are {least} to {most}"


def _refined(match: Match, moving: Image, kind: str) -> Match:
    fixed = match.target.fixed
    pose = mutual_information(moving, fixed, match.planes, match.pose, kind)
    deformation = warp(match.problem, match.planes, fixed.data.shape, pose) if kind == "bspline" else None
    return replace(match, pose=pose, deformation=deformation)


@dataclass(frozen=True, eq=False)
class Warped(Deformed):
    """A deformation whose `field` (I, J, 2) is d, mm, on the pixel grid of `plane`."""

    plane: Plane
    field: FloatArray

    def displacement(self, points: FloatArray) -> FloatArray:
        """Return d at points of the fixed plane, (N, 2) mm."""
        index = np.linalg.inv(self.plane.grid[:2, :2]) @ (points - self.plane.grid[:2, 2]).T
        p, q = (map_coordinates(self.field[..., axis], index, order=1, mode="nearest") for axis in (0, 1))
        return np.column_stack([p, q])

    def cost(self, unit_mm: float) -> float:
        """Return 0: SyN deforms freely."""
        return 0.0

    def jacobian(self) -> FloatArray:
        """Return the area ratio of x -> x + d(x) at the pixels."""
        along, across = (np.gradient(self.field, axis=axis) for axis in (0, 1))
        slope = np.stack([along, across], axis=-1) @ np.linalg.inv(self.plane.grid[:2, :2])
        return np.asarray(np.linalg.det(np.eye(2) + slope))


def mutual_information(moving: Image, fixed: Image, planes: tuple[Plane, Plane], pose: Pose, kind: str) -> Pose:
    """Refine a pose by DIPY's mutual information of the two images, as a rotation with size and shift, or an affine."""
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric
    from dipy.align.transforms import AffineTransform2D, RigidIsoScalingTransform2D

    step = RigidIsoScalingTransform2D() if kind == "similarity" else AffineTransform2D()
    static, other = (np.nan_to_num(np.asarray(image.data, dtype=float)) for image in (fixed, moving))
    levels: dict[str, Any] = {"level_iters": [100, 50], "sigmas": [2.0, 1.0], "factors": [2, 1]}
    engine = AffineRegistration(metric=MutualInformationMetric(nbins=_BINS), verbosity=0, **levels)
    grids = {"static_grid2world": planes[1].grid, "moving_grid2world": planes[0].grid}
    found = engine.optimize(static, other, step, None, starting_affine=pose.matrix, **grids)
    matrix = np.asarray(found.affine)
    if not np.all(np.isfinite(matrix)) or abs(np.linalg.det(matrix)) < 1e-3:
        raise GeometryError("mutual information lost the section", hint="use the engine 'robust'")
    return pose.with_matrix(matrix)


def warp(problem: Problem, planes: tuple[Plane, Plane], shape: tuple[int, ...], pose: Pose) -> Warped:
    """Return the deformation that DIPY's SyN finds between the filled masks, from a pose; GeometryError if it folds."""
    from dipy.align.imwarp import SymmetricDiffeomorphicRegistration
    from dipy.align.metrics import SSDMetric

    step = max(1, round(problem.unit_mm / planes[1].voxel_mm))
    plane = Plane(planes[1].frame, planes[1].grid @ np.diag([step, step, 1.0]))
    shape = tuple(-(-size // step) for size in shape)
    points = plane.pixels(shape)
    there = problem.moving.at(pose.points(points), filled=True)[0] / problem.scale
    distances = (problem.fixed.at(points, filled=True)[0], there)
    static, drawn = (0.5 - 0.5 * np.tanh(each / (_BLUR * problem.unit_mm)).reshape(shape) for each in distances)
    engine = SymmetricDiffeomorphicRegistration(SSDMetric(2, smooth=4), level_iters=[50, 25], inv_iter=20)
    engine.verbosity = 0
    mapping: Any = engine.optimize(static, drawn)  # both on the fixed grid, in pixels
    # Where the mapping sends each pixel is read from warped pictures of the coordinates, whatever its conventions are.
    indices = np.indices(shape).astype(float)
    moved = np.array([mapping.transform(index, interpolation="linear") for index in indices]) - indices
    inside = mapping.transform(np.ones(shape), interpolation="linear") > 1 - 1e-6
    moved = np.where(inside, moved, 0.0)
    found = Warped(pose, plane, np.moveaxis(moved, 0, -1) @ plane.grid[:2, :2].T)
    if found.jacobian().min() <= 0:
        raise GeometryError("SyN folds the section", hint="use the engine 'robust', or kind='affine'")
    return found
