"""How far off a registration may be: transforms drawn from what the outlines leave open.

The posterior of the coefficients of a smooth deformation on top of the registration is taken as a multivariate t
distribution: how well the outlines agree says how much they are believed, and the heavy tail that this itself is known
only roughly. Its two scales were set on the errors of landmarks of 12 synthetic pairs and checked on 12 others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.array_files import read_arrays
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path
from histomri.core.images import Image
from histomri.registration.bspline import ControlGrid, control_grid_of, paired
from histomri.registration.displacement import Displacement
from histomri.registration.planes import Plane
from histomri.registration.refine import HasPoints, Pose, Problem
from histomri.registration.transform import Transform

ALIKE, SOFTER = 15.0, 40.0
"""Pixels side by side disagree for the same reason, so that fewer count; and tissue bends more easily than what is
fitted, which is held stiff against noise."""
_DEGREES, _WIDTH, _LEAST_NOISE, _SPARSE = 4.0, 1.0, 1e-9, 13
_DRAWS, _SEED, _KEPT = 400, 20250, 0.999
MISSING_SIDE_FACTOR = 1.3
"""By how much more a registration is off where the section was stretched over a side that it lacks."""


@dataclass(frozen=True)
class ExpectedError:
    """Median error of the tissue to be expected, mm, and the range that holds it in nine of ten registrations."""

    typical: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is left open of a deformation: the covariance (2 A B, 2 A B), mm², of the coefficients on a grid.

    The coefficients are in pairs, p and q of one function of the `grid` together.
    """

    grid: ControlGrid
    covariance: FloatArray

    @classmethod
    def of(cls, problem: Problem, mapping: HasPoints, pose: Pose) -> "Posterior":
        """Return what the outlines leave open of a `mapping`, whose affine part is `pose`.

        Where no outline is near the other, that is all that is known beforehand.
        """
        near, grid = problem.nearby, control_grid_of(problem)
        pull = near.pull(mapping.points(near.points), _WIDTH * problem.unit_mm, filled=False)
        precision = np.kron(grid.prior(problem.unit_mm).toarray(), np.eye(2)) / SOFTER
        if len(pull.rows):
            # Of a picture laid on itself nothing is left.
            noise = max(ALIKE * float(np.average(pull.residual**2, weights=pull.weight)), _LEAST_NOISE)
            rows = paired(grid.basis(near.points)[pull.rows], pose.linear.T @ pull.slope)
            precision += (rows.T @ rows.multiply((pull.weight / noise)[:, None]).tocsr()).toarray()
        return cls(grid, np.linalg.inv(precision))

    def times(self, factor: float) -> "Posterior":
        """Return it with all deviations larger by a factor."""
        return Posterior(self.grid, self.covariance * factor**2)

    def modes(self, points: FloatArray) -> FloatArray:
        """Return the independent deformations, (2 A B, M) mm, that almost all of what is open at points is made of."""
        root = np.linalg.cholesky(self.covariance)
        basis = np.kron(self.grid.basis(points).toarray(), np.eye(2))
        _, strength, turned = np.linalg.svd(basis @ root, full_matrices=False)
        explained = np.cumsum(strength**2) / np.sum(strength**2)
        return np.asarray(root @ turned[: int(np.searchsorted(explained, _KEPT)) + 1].T)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """What is kept of a registration so that transforms as likely as the one found can be drawn.

    `modes` (2 A B, M), mm, are independent deformations on the `grid` of the plane of the fixed image, whose `frame`
    (4, 4) leads to its world; a draw adds them all with random weights, and applies to the pixels of an image of this
    `shape` and `affine`.
    """

    grid: ControlGrid
    modes: FloatArray
    frame: FloatArray
    shape: tuple[int, int]
    affine: FloatArray

    @classmethod
    def of(cls, posterior: Posterior, problem: Problem, flat: Image) -> "Uncertainty":
        """Return what is kept of a posterior; `flat` is the slice on which the section was found."""
        modes, (rows, columns) = posterior.modes(tissue_points(problem)), flat.data.shape
        return cls(posterior.grid, modes, Plane.of(flat).frame, (rows, columns), flat.affine)

    def coefficients(self, count: int, seed: int) -> FloatArray:
        """Return coefficients drawn at random, (count, A * B, 2) mm; the same seed gives the same."""
        rng = np.random.default_rng(seed)
        normal = rng.standard_normal((count, self.modes.shape[1]))
        heavy = np.sqrt(_DEGREES / rng.chisquare(_DEGREES, count))  # one factor for all of a draw
        return np.asarray((normal * heavy[:, None] @ self.modes.T).reshape(count, -1, 2))

    def draws(self, found: Transform, count: int, seed: int) -> Iterator[Transform]:
        """Give transforms drawn around the one that was found, `count` of them; the same seed gives the same.

        They lead from the section to the MRI, and are meant for drawing images: a draw far out may fold, and points
        cannot be carried through it then.
        """
        flat = Image(np.zeros(self.shape), self.affine)
        basis = self.grid.basis(Plane.of(flat).pixels(self.shape))
        known = [field.vectors for field in found.displacements]
        if len(known) > 1 or any(vectors.shape != (*self.shape, 1, 3) for vectors in known):
            raise InputError("the uncertainty is not of this transform", hint="register again")
        for drawn in self.coefficients(count, seed):
            moved = (basis @ drawn @ self.frame[:3, :2].T).reshape(*self.shape, 1, 3)
            field = Displacement(moved + sum(known), self.affine, inverted=True)
            yield Transform(found.matrix, (field,), found.info)

    def save(self, path: Path) -> Path:
        """Write it as .npz, arrays only."""
        grid: Any = {"p": self.grid.p, "q": self.grid.q, "spacing_mm": self.grid.spacing_mm, "axes": self.grid.axes}
        place: Any = {"frame": self.frame, "shape": self.shape, "affine": self.affine}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, modes=self.modes.astype(np.float32), **place, **grid)
        return path

    @classmethod
    def load(cls, path: Path) -> "Uncertainty":
        """Read what `save` wrote."""
        held = read_arrays(path, "file of a transform's uncertainty")
        if missing := {"p", "q", "spacing_mm", "axes", "modes", "frame", "shape", "affine"} - set(held):
            raise InputError(f"lacks {min(missing)}", path=path, hint="register again")
        grid = ControlGrid(held["p"], held["q"], float(held["spacing_mm"]), held["axes"])
        modes = held["modes"].astype(float)
        if held["shape"].size != 2 or modes.ndim != 2 or len(modes) != 2 * held["p"].size * held["q"].size:
            raise InputError("is damaged: its arrays do not belong together", path=path, hint="register again")
        rows, columns = (int(length) for length in held["shape"])
        return cls(grid, modes, held["frame"], (rows, columns), held["affine"])


def tissue_points(problem: Problem) -> FloatArray:
    """Return places in the tissue of the fixed image, (N, 2) mm, enough to say what a deformation does to it."""
    return np.asarray(problem.points[problem.own < 0][::_SPARSE])


def expected_error(uncertainty: Uncertainty, problem: Problem) -> ExpectedError:
    """Return how far off the tissue is to be expected, in the plane of the fixed image."""
    tissue = uncertainty.grid.basis(tissue_points(problem))
    drawn = uncertainty.coefficients(_DRAWS, _SEED)
    off = (tissue @ drawn.transpose(1, 0, 2).reshape(tissue.shape[1], -1)).reshape(-1, _DRAWS, 2)
    medians = np.median(np.hypot(off[..., 0], off[..., 1]), axis=0)
    low, typical, high = np.percentile(medians, (5, 50, 95))
    return ExpectedError(float(typical), float(low), float(high))
