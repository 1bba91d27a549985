"""Smooth deformations by cubic B-splines, on top of an affine pose."""

from dataclasses import dataclass, field, replace
from math import comb
from typing import Any

import numpy as np
from scipy.sparse import csr_array, diags_array, eye_array, kron
from scipy.sparse.linalg import splu

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.registration.refine import Deformed, Pose, Problem

_KNOTS, _WIDTHS = 7.0, (1.0, 0.6)
# Long waves bend cheaply, short ones hardly: the third derivatives cost most.
_SECOND, _THIRD, _COEFFICIENT_SD = 20.0, 6700.0, 4.0
_ITERATIONS, _STEP_TOLERANCE = 8, 5e-3
_LEAST_JACOBIAN, _STIFFER, _ATTEMPTS = 0.3, 4.0, 4


@dataclass(frozen=True, eq=False)
class ControlGrid:
    """Cubic B-splines on a regular grid of the fixed plane: centres (A,) and (B,), and their distance, mm.

    The grid runs along the two columns of `axes` (2, 2).
    """

    p: FloatArray
    q: FloatArray
    spacing_mm: float
    axes: FloatArray = field(default_factory=lambda: np.eye(2))

    @classmethod
    def covering(cls, points: FloatArray, spacing_mm: float, axes: FloatArray | None = None) -> "ControlGrid":
        """Return the grid whose functions all reach `points`, (N, 2)."""
        axes = np.eye(2) if axes is None else axes
        points = points @ axes
        low, high = points.min(axis=0) - spacing_mm, points.max(axis=0) + spacing_mm
        count = np.ceil((high - low) / spacing_mm).astype(int) + 1
        start = (low + high - (count - 1) * spacing_mm) / 2
        p, q = (start[axis] + spacing_mm * np.arange(count[axis]) for axis in (0, 1))
        return cls(p, q, spacing_mm, axes)

    def basis(self, points: FloatArray) -> Any:
        """Return the value of every function at every point, a sparse matrix (N, A * B) with 16 entries per row."""
        columns, values = [], []
        points = points @ self.axes
        for axis, centres in enumerate((self.p, self.q)):
            place = (points[:, axis, None] - centres[0]) / self.spacing_mm
            column = np.floor(place).astype(np.intp) + np.arange(-1, 3)
            known = (column >= 0) & (column < len(centres))
            columns.append(np.clip(column, 0, len(centres) - 1))
            values.append(np.where(known, _cubic(place - column, 0), 0.0))
        column = columns[0][:, :, None] * len(self.q) + columns[1][:, None, :]
        value = values[0][:, :, None] * values[1][:, None, :]
        rows, shape = np.arange(0, 16 * len(points) + 1, 16), (len(points), len(self.p) * len(self.q))
        return csr_array((value.ravel(), column.ravel(), rows), shape=shape)

    def roughness(self, order: int) -> Any:
        """Return K with c' K c the integral of a spline's squared derivatives of an order, sparse (A * B, A * B)."""
        p, q = ([_gram(centres, self.spacing_mm, n) for n in range(order + 1)] for centres in (self.p, self.q))
        return sum(comb(order, n) * kron(p[n], q[order - n]) for n in range(order + 1))

    def prior(self, unit_mm: float, stiffness: float = 1.0) -> Any:
        """Return the precision of the coefficients before anything is matched, sparse (A * B, A * B)."""
        rough = _SECOND * self.roughness(2) + _THIRD * unit_mm**2 * self.roughness(3)
        return stiffness * rough + eye_array(rough.shape[0]) / (_COEFFICIENT_SD * unit_mm) ** 2


@dataclass(frozen=True, eq=False)
class BSplineDeformation(Deformed):
    """A deformation of which the coefficients (A * B, 2) are heights of splines, mm."""

    grid: ControlGrid
    coefficients: FloatArray

    def displacement(self, points: FloatArray) -> FloatArray:
        """Return d at points of the fixed plane, (N, 2) mm."""
        return np.asarray(self.grid.basis(points) @ self.coefficients)

    def cost(self, unit_mm: float) -> float:
        """Return what the deformation costs beside the residuals, in units of their variance."""
        prior = self.grid.prior(unit_mm)
        return float(sum(heights @ (prior @ heights) for heights in self.coefficients.T))

    def jacobian(self) -> FloatArray:
        """Return the area ratio of x -> x + d(x) on places four times closer than the control points."""
        step = self.grid.spacing_mm / 4
        axes = [np.arange(centres[0], centres[-1] + step / 2, step) for centres in (self.grid.p, self.grid.q)]
        places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        moved = self.displacement(places.reshape(-1, 2) @ self.grid.axes.T) @ self.grid.axes
        slope = np.stack(np.gradient(moved.reshape(places.shape), step, axis=(0, 1)), axis=-1)
        return np.asarray(np.linalg.det(np.eye(2) + slope))


def fit_bspline(problem: Problem, pose: Pose) -> BSplineDeformation:
    """Add the deformation that matches the outlines better, as stiff as it must be to keep the Jacobian well positive.

    A GeometryError is raised if even a stiff deformation folds.
    """
    near, grid = problem.nearby, control_grid_of(problem)
    basis = grid.basis(near.points)
    for attempt in range(_ATTEMPTS):
        prior = grid.prior(problem.unit_mm, _STIFFER**attempt)
        deformed = BSplineDeformation(pose, grid, np.zeros((basis.shape[1], 2)))
        for width in _WIDTHS:
            deformed = solve_bspline(near, deformed, basis, prior, width * problem.unit_mm)
        if deformed.jacobian().min() > _LEAST_JACOBIAN:
            return deformed
    raise GeometryError("the section cannot be deformed onto the slice without folding", hint="use kind='affine'")


def control_grid_of(problem: Problem) -> ControlGrid:
    """Return the grid of the deformations of a problem."""
    return ControlGrid.covering(problem.nearby.points, _KNOTS * problem.unit_mm, problem.fixed.axes)


def solve_bspline(
    problem: Problem, deformed: BSplineDeformation, basis: Any, prior: Any, width: float
) -> BSplineDeformation:
    """Return the deformation that iterated weighted least squares settles on, from another one."""
    both = kron(prior, eye_array(2), format="csr")  # unknowns in pairs, p and q of one function together
    for _ in range(_ITERATIONS):
        mapped = deformed.pose.points(problem.points + basis @ deformed.coefficients)
        pull = problem.pull(mapped, width, filled=False)
        if not len(pull.rows):
            return deformed
        rows = paired(basis[pull.rows], deformed.pose.linear.T @ pull.slope)
        normal = rows.T @ diags_array(pull.weight) @ rows + both
        slope = rows.T @ (pull.weight * pull.residual) + both @ deformed.coefficients.ravel()
        # Symmetric and positive definite; LAPACK's threads would wait for each other on a matrix this small.
        symmetric: dict[str, Any] = {"permc_spec": "MMD_AT_PLUS_A", "options": {"SymmetricMode": True}}
        step = -splu(normal.tocsc(), diag_pivot_thresh=0.0, **symmetric).solve(slope).reshape(-1, 2)
        deformed = replace(deformed, coefficients=deformed.coefficients + step)
        if np.abs(step).max() < _STEP_TOLERANCE * problem.unit_mm:
            break
    return deformed


def paired(basis: Any, pull: FloatArray) -> Any:
    """Return the derivative by the coefficients, sparse (N, 2 A B), of what has the slope (2, N) in the fixed plane."""
    count, size = basis.shape
    values = basis.data.reshape(count, 16, 1) * pull.T[:, None, :]
    columns = 2 * basis.indices.reshape(count, 16, 1) + np.arange(2)
    rows = np.arange(0, 32 * count + 1, 32)
    return csr_array((values.ravel(), columns.ravel(), rows), shape=(count, 2 * size))


def _gram(centres: FloatArray, spacing: float, order: int) -> Any:
    """Return the integrals of products of derivatives of the given order over the real line, sparse."""
    nodes, weights = np.polynomial.legendre.leggauss(4)  # exact: between knots the products have degree 6 at most
    starts = np.arange(-2, len(centres) + 1)
    place = (starts[:, None] + (nodes + 1) / 2).ravel()
    values = _cubic(place[:, None] - np.arange(len(centres)), order) / spacing**order
    return csr_array((values.T * np.tile(weights * spacing / 2, len(starts))) @ values)


def _cubic(t: FloatArray, order: int) -> FloatArray:
    """Return the cardinal cubic B-spline or its first, second or third derivative."""
    size = np.abs(t)
    inner, outer = size < 1, (size >= 1) & (size < 2)
    rest = np.where(outer, 2 - size, 0.0)
    if order == 0:
        return np.where(inner, 2 / 3 - size**2 + size**3 / 2, rest**3 / 6)
    if order == 1:
        return np.where(inner, -2 * t + 1.5 * t * size, -np.sign(t) * rest**2 / 2)
    if order == 2:
        return np.where(inner, -2 + 3 * size, rest)
    return np.sign(t) * np.where(inner, 3.0, np.where(outer, -1.0, 0.0))
