"""How far off a registration is to be expected."""

import numpy as np
import pytest

from histomri.registration.bspline import ALIKE, CALIBRATION, control_grid_of, expected_error
from histomri.registration.prepare import build_problem, targets
from histomri.registration.refine import approach, refine
from histomri.registration.starts import search


def matched(pair):
    """Return the problem of a pair and its affine match."""
    problem, _ = build_problem(pair.moving, pair.mask, targets(pair.fixed, None, None, None)[0], 1 / 1.148)
    poses = [approach(problem, start) for start in search(problem.moving, problem.fixed, problem.scale)]
    return problem, refine(problem, max(poses, key=problem.score), "affine")


def test_a_round_outline_holds_loosely(make_pair):
    lobed, round_ = (
        expected_error(problem, pose, pose)
        for problem, pose in (matched(make_pair(75, True)), matched(make_pair(75, True, round_=True)))
    )
    assert round_ > 1.3 * lobed


def test_expected_error_against_simulated_errors(make_pair, rng):
    # Bayes by brute force: deformations drawn from the prior, seen through noisy outlines, and estimated. Slopes are
    # finite differences of the residuals. 400 draws give the median of the standard deviations to about 3 %.
    pair = make_pair(40)
    problem, pose = matched(pair)
    near, grid = problem.nearby, control_grid_of(problem)
    basis = grid.basis(near.points)
    size = basis.shape[1]

    def residuals(coefficients):
        mapped = pose.points(near.points + basis @ coefficients.reshape(size, 2))
        pull = near.pull(mapped, problem.unit_mm, filled=False)
        found = np.full(len(near.points), np.nan)
        found[pull.rows] = pull.residual
        return found, pull

    still, pull = residuals(np.zeros(2 * size))
    step = 1e-6
    slopes = np.stack([(residuals(step * row)[0] - still) / step for row in np.eye(2 * size)])
    known = np.isfinite(slopes).all(axis=0) & np.isfinite(still)
    weight = np.zeros(len(near.points))
    weight[pull.rows] = pull.weight
    rows, weight = slopes.T[known], weight[known]
    spread = np.sqrt(ALIKE * np.average(still[known] ** 2, weights=weight) / weight)
    prior = np.kron(grid.prior(problem.unit_mm).toarray(), np.eye(2))
    true = np.linalg.solve(np.linalg.cholesky(prior).T, rng.normal(size=(2 * size, 400)))
    seen = rows @ true + spread[:, None] * rng.normal(size=(len(rows), 400))
    believed = rows / spread[:, None] ** 2
    error = np.linalg.solve(rows.T @ believed + prior, believed.T @ seen) - true
    tissue = grid.basis(problem.points[problem.own < 0]).toarray()
    off = np.hypot(tissue @ error[::2], tissue @ error[1::2])
    expected = CALIBRATION * np.median(np.sqrt((off**2).mean(axis=1)))
    assert expected_error(problem, pose, pose) == pytest.approx(expected, rel=0.06)
