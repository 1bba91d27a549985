"""How far off a registration is to be expected, from how firmly the outlines hold the section."""

import numpy as np

from histomri.registration.bspline import control_grid_of, paired
from histomri.registration.refine import HasPoints, Pose, Problem

_WIDTH = 1.0
# Pixels side by side see the same piece of outline, and disagree for the same reason.
ALIKE = 5.0
_SPARSE = 13
_LEAST_NOISE = 1e-9
# On 200 hard synthetic pairs half of the true errors were below what this gives, on 40 standard pairs nine in ten.
CALIBRATION = 2.5


def expected_error(problem: Problem, mapping: HasPoints, pose: Pose) -> float:
    """Return how far off tissue is to be expected, mm: the median over the tissue, in the plane of the fixed image.

    It is the posterior standard deviation of a smooth deformation on top of the `mapping`, whose affine part is `pose`,
    given how firmly the outlines (and what else is matched) hold it, and how well they agree. A nearly round outline,
    say, leaves the rotation loose. The scale is set on synthetic pairs.
    """
    near, grid = problem.nearby, control_grid_of(problem)
    pull = near.pull(mapping.points(near.points), _WIDTH * problem.unit_mm, filled=False)
    if not len(pull.rows):
        return float("inf")
    # Of a picture laid on itself nothing is left.
    noise = max(ALIKE * float(np.average(pull.residual**2, weights=pull.weight)), _LEAST_NOISE)
    rows = paired(grid.basis(near.points)[pull.rows], pose.linear.T @ pull.slope)
    believed = rows.multiply((pull.weight / noise)[:, None]).tocsr()
    precision = (rows.T @ believed).toarray() + np.kron(grid.prior(problem.unit_mm).toarray(), np.eye(2))
    spread = np.linalg.inv(precision)
    tissue = grid.basis(problem.points[problem.own < 0][::_SPARSE]).toarray()
    variance = sum(np.einsum("ni,ij,nj->n", tissue, spread[axis::2, axis::2], tissue, optimize=True) for axis in (0, 1))
    return float(CALIBRATION * np.sqrt(np.median(variance)))
