"""How far off a registration is to be expected, and the transforms drawn from that."""

import numpy as np
import pytest

from histomri.registration import Transform, register
from histomri.registration.bspline import control_grid_of
from histomri.registration.prepare import build_problem, targets
from histomri.registration.refine import approach, refine
from histomri.registration.starts import search
from histomri.registration.uncertainty import ALIKE, SOFTER, Posterior, Uncertainty, expected_error


def matched(pair):
    """Return the problem of a pair and its affine match."""
    problem, _ = build_problem(pair.moving, pair.mask, targets(pair.fixed, None, None, None)[0], 1 / 1.148)
    poses = [approach(problem, start) for start in search(problem.moving, problem.fixed, problem.scale)]
    return problem, refine(problem, max(poses, key=problem.score), "affine")


def uncertainty_of(pair):
    problem, pose = matched(pair)
    return Uncertainty.of(Posterior.of(problem, pose, pose), problem, pair.fixed), problem


def test_a_round_outline_holds_loosely(make_pair):
    lobed, round_ = (
        expected_error(*uncertainty_of(pair)).typical
        for pair in (make_pair(75, True), make_pair(75, True, round_=True))
    )
    assert round_ > 1.3 * lobed


def test_expected_error_against_simulated_errors(make_pair, rng):
    # Bayes by brute force: deformations drawn from the prior, seen through noisy outlines, and estimated. Slopes are
    # finite differences of the residuals. 400 draws give the median of the medians to about 3 %, both times; the factor
    # of the heavy tail is the same in both.
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
    prior = np.kron(grid.prior(problem.unit_mm).toarray(), np.eye(2)) / SOFTER
    true = np.linalg.solve(np.linalg.cholesky(prior).T, rng.normal(size=(2 * size, 400)))
    seen = rows @ true + spread[:, None] * rng.normal(size=(len(rows), 400))
    believed = rows / spread[:, None] ** 2
    error = np.linalg.solve(rows.T @ believed + prior, believed.T @ seen) - true
    error *= np.sqrt(4 / rng.chisquare(4, 400))
    tissue = grid.basis(problem.points[problem.own < 0]).toarray()
    medians = np.median(np.hypot(tissue @ error[::2], tissue @ error[1::2]), axis=0)
    found = expected_error(Uncertainty.of(Posterior.of(problem, pose, pose), problem, pair.fixed), problem)
    assert found.typical == pytest.approx(np.median(medians), rel=0.08)
    assert found.high == pytest.approx(np.percentile(medians, 95), rel=0.2)
    assert found.low < found.typical < found.high


def test_draws_scatter_as_much_as_is_expected(make_pair, tmp_path):
    # Drawn transforms, saved and read again, move the tissue by what is printed as the expected error.
    pair = make_pair(75, True)
    register(pair.moving, pair.fixed, moving_mask=pair.mask).save(tmp_path / "xfm.json")
    found = Transform.load(tmp_path / "xfm.json")
    assert found.uncertainty is not None
    at = found.inverse().points(fixed_points(pair.fixed))
    draws = [list(found.uncertainty.draws(found, 60, seed)) for seed in (3, 3, 4)]
    there = [[draw.points(at) for draw in drawn] for drawn in draws]
    np.testing.assert_array_equal(there[0], there[1])
    assert np.abs(np.subtract(there[0], there[2])).max() > 0.05
    off = np.median(np.linalg.norm(np.subtract(there[0], fixed_points(pair.fixed)), axis=2), axis=1)
    printed = found.info["Registration"]["QualityControl"]
    assert np.median(off) == pytest.approx(printed["expected_error_mm"], rel=0.25)  # 60 draws know it to 10 %
    assert found.inverse().uncertainty is None


def fixed_points(image):
    i, j = np.nonzero(image.data > 0.5)
    return (np.column_stack([i, j, 0 * i, 0 * i + 1]) @ image.affine.T)[:, :3]
