"""A displacement field: the part of a transform that no matrix can express."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError

TOLERANCE_MM = 1e-6
_MAX_ITERATIONS, _HALVINGS = 100, 12


@dataclass(frozen=True, eq=False)
class Displacement:
    """The map y -> y + d(y), or its inverse, with d known on a grid and continued by its edge values.

    `vectors` (I, J, K, 3) are d in world mm (RAS+) at the grid points, interpolated linearly; a field with K = 1 is the
    same at every depth. `affine` (4, 4) takes the grid index to the world. `inverted` says that the map stands for the
    inverse of y -> y + d(y), found by fixed-point iteration to 1e-6 mm.
    """

    vectors: FloatArray
    affine: FloatArray
    inverted: bool = False

    def __post_init__(self) -> None:
        vectors = np.array(self.vectors, dtype=float)
        if vectors.ndim != 4 or vectors.shape[3] != 3 or not np.all(np.isfinite(vectors)):
            raise GeometryError("a displacement field must be a finite array of shape (I, J, K, 3)")
        for name, array in (("vectors", vectors), ("affine", np.array(self.affine, dtype=float))):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __call__(self, points: FloatArray) -> FloatArray:
        """Map points, (N, 3) world mm."""
        if not self.inverted:
            return points + self.at(points)
        found = points - self.at(points)
        for _ in range(_MAX_ITERATIONS):
            update = points - self.at(found)
            change = np.abs(update - found).max(axis=1, initial=0.0)
            found = update
            if not np.any(change >= TOLERANCE_MM):
                return np.asarray(found)
        if self.jacobian().min() <= 0:
            raise GeometryError("the displacement field folds and has no inverse", hint="use an affine transform")
        # Where the field is steep the iteration circles without meeting, though the map is one to one.
        lost = change >= TOLERANCE_MM
        found[lost] = self._by_newton(points[lost])
        return np.asarray(found)

    def _by_newton(self, points: FloatArray) -> FloatArray:
        found = points - self.at(points)
        step = 1e-3 * float(np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)).min())
        rest = found + self.at(found) - points
        for _ in range(_MAX_ITERATIONS):
            off = np.linalg.norm(rest, axis=1)
            if np.all(off < TOLERANCE_MM):
                return found
            slopes = [(self.at(found + way) - self.at(found - way)) / (2 * step) for way in step * np.eye(3)]
            change = np.linalg.solve(np.eye(3) + np.stack(slopes, axis=2), rest[..., None])[..., 0]
            length = np.ones(len(points))
            for _ in range(_HALVINGS):  # a full step may overshoot a kink of the field
                tried = found - length[:, None] * change
                left = tried + self.at(tried) - points
                worse = np.linalg.norm(left, axis=1) > off
                if not worse.any():
                    break
                length = np.where(worse, length / 2, length)
            found, rest = tried, left
        raise GeometryError("the displacement field folds and has no inverse", hint="use an affine transform")

    def at(self, points: FloatArray) -> FloatArray:
        """Return d at points (N, 3) world mm."""
        index = (np.asarray(points) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T
        flat = self.vectors.shape[2] == 1
        coordinates, vectors = (index[:, :2].T, self.vectors[:, :, 0]) if flat else (index.T, self.vectors)
        parts = [map_coordinates(vectors[..., axis], coordinates, order=1, mode="nearest") for axis in range(3)]
        return np.stack(parts, axis=1)

    def inverse(self) -> "Displacement":
        """Return the inverse map."""
        return Displacement(self.vectors, self.affine, not self.inverted)

    def carried_by(self, matrix: FloatArray) -> "Displacement":
        """Return M o self o M^-1: the same deformation seen in the world that `matrix`, (4, 4), leads to."""
        return Displacement(self.vectors @ matrix[:3, :3].T, matrix @ self.affine, self.inverted)

    def thickened(self) -> "Displacement":
        """Return the same map with a field of one plane stored as three, the middle one in its place."""
        if self.vectors.shape[2] > 1:
            return self
        affine = self.affine.copy()
        affine[:, 3] -= affine[:, 2]
        return Displacement(np.repeat(self.vectors, 3, axis=2), affine, self.inverted)

    def middle(self) -> "Displacement":
        """Return the map of the middle plane, the same at every depth; undoes `thickened`."""
        plane = self.vectors.shape[2] // 2
        affine = self.affine.copy()
        affine[:, 3] += plane * affine[:, 2]
        return Displacement(self.vectors[:, :, plane : plane + 1], affine, self.inverted)

    def jacobian(self) -> FloatArray:
        """Return the determinant of the derivative of y -> y + d(y) at the grid points, (I, J, K)."""
        gradient = np.zeros((*self.vectors.shape, 3))
        for axis in [axis for axis in range(3) if self.vectors.shape[axis] > 1]:
            gradient[..., axis] = np.gradient(self.vectors, axis=axis)
        return np.asarray(np.linalg.det(np.eye(3) + gradient @ np.linalg.inv(self.affine[:3, :3])))
