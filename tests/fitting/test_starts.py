"""The starts of the descents, against the same by brute force."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from histomri.fitting import MODELS, predict
from histomri.fitting.composed_tables import engine_of
from histomri.fitting.starts import FACES, MOST_MINIMA, add_faces, local_grid_minima, restart_at_bound, score_grid
from histomri.mri import Acquisition


def _valleys(scores):
    found = []
    for place in itertools.product(*map(range, scores.shape)):
        neighbours = [tuple(np.add(place, step * np.eye(4, dtype=int)[axis])) for axis in range(4) for step in (-1, 1)]
        inside = [n for n in neighbours if all(0 <= i < size for i, size in zip(n, scores.shape))]
        if all(scores[n] > scores[place] for n in inside):
            found.append(place)
    return sorted(found, key=lambda place: scores[place])


@pytest.mark.parametrize("shape", [(7, 3, 4, 2), (5, 6, 1, 1), (4, 3, 5, 1)])
def test_valleys_and_faces(shape, rng):
    scores = rng.uniform(size=shape)
    places, lowest = np.empty(MOST_MINIMA + FACES, np.int64), np.empty(MOST_MINIMA)
    count = local_grid_minima(scores, 0.0, places, lowest)
    expected = [np.ravel_multi_index(place, shape) for place in _valleys(scores)][:MOST_MINIMA]
    assert places[:count].tolist() == expected
    total = add_faces(scores, places, count)
    faces = []
    for axis, side in itertools.product(range(4), (0, -1)):
        if shape[axis] > 1:
            flat = np.arange(scores.size).reshape(shape).take(side, axis=axis).ravel()
            faces.append(flat[np.argmin(scores.ravel()[flat])])
    assert set(places[:total]) == {*expected, *faces} and len(set(places[:total])) == total


def test_a_plateau_is_one_valley():
    """A fraction of 0 makes all sizes alike, up to rounding."""
    scores = np.ones((6, 5, 2, 1)) + 1e-14 * np.random.default_rng(0).uniform(size=(6, 5, 2, 1))
    places, lowest = np.empty(MOST_MINIMA, np.int64), np.empty(MOST_MINIMA)
    assert local_grid_minima(scores, 1e-12, places, lowest) == 1


def test_the_fraction_of_every_pair_is_the_best(rng):
    inside, outside = rng.uniform(0.3, 1, (4, 8)), rng.uniform(0, 0.5, (8, 3))
    data = np.stack([rng.uniform(0.2, 0.9, 8), np.full(8, 0.01), rng.uniform(1, 3, 8)])
    data[0, :2], data[:2, 3] = (-0.3, 0.05), (-0.02, 0.0)  # below zero, below the noise, and without a noise level
    aim = np.sqrt(np.maximum(data[0] ** 2 - 0.01, 0))
    aim[[0, 3]] = 0, -0.02
    scores, fractions = np.empty((2, 4, 3))
    room = (np.empty(8), np.empty(3), np.empty(3), np.empty(3))
    score_grid(data, (inside, outside), 0.1, 0.9, room, scores, fractions)
    for p, q in itertools.product(range(4), range(3)):

        def cost(f, p=p, q=q):
            return (data[2] * (f * inside[p] + (1 - f) * outside[:, q] - aim) ** 2).sum()

        best = minimize_scalar(cost, bounds=(0.1, 0.9), method="bounded", options={"xatol": 1e-10})
        assert fractions[p, q] == pytest.approx(best.x, abs=1e-6)
        assert scores[p, q] + (data[2] * aim**2).sum() == pytest.approx(best.fun, abs=1e-7)


@pytest.mark.parametrize("protocol", ["mouse-exvivo", "invivo-3t", "invivo-1.5t"])
def test_tabulated_signals_are_those_of_the_formula(protocol, rng):
    """The engine's spline tables, evaluated here, against direct sums: within 1e-6 of the signal, and mostly 1e-8."""
    whole = Acquisition.preset(protocol)
    acquisition = whole.select(whole.b_smm2 > 50)
    bounds = MODELS["diff-in"].bounds(protocol)
    engine = engine_of(MODELS["diff-in"], acquisition, bounds)
    truth = {name: rng.uniform(*pair, 400) for name, pair in bounds.items()} | {"fI": np.ones(400)}
    table, log0, _, _ = engine._rows
    position = (np.log(4 * truth["D0I"] / truth["vCS"] ** 2) - log0) / 0.02
    knot = position.astype(int)
    z = (position - knot)[:, None]
    c = table[knot]
    exponent = truth["D0I"][:, None] * (c[:, 0] + z * (c[:, 1] + z * (c[:, 2] + z * c[:, 3])))
    expected = predict("diff-in", truth, acquisition)
    np.testing.assert_allclose(np.exp(-exponent)[:, engine.row], expected, atol=3e-8)


def test_a_restart_puts_the_hardly_seen_compartment_at_each_extreme():
    limits, theta = np.array([[0, 0.8, 8, 0.8, 0], [1, 2.6, 40, 2.6, 10.0]]), np.empty(5)
    much, little = np.array([0.6, 1.5, 18, 2, 3]), np.array([0.2, 1.5, 18, 2, 3])
    for best, chance, expected in (
        (much, 0, [0.6, 1.5, 18, 0.8, 3]), (much, 1, [0.6, 1.5, 18, 2.6, 3]), (little, 2, [0.2, 2.6, 8, 2, 3]),
        (little, 3, [0.2, 2.6, 40, 2, 3]), (little, 4, [0.2, 0.8, 40, 2, 3]), (much, 5, [0.6, 1.5, 18, 2, 0]),
        (much, 6, [0.6, 1.5, 18, 2, 10]),
    ):  # fmt: skip
        assert restart_at_bound(chance, best, limits, theta)
        assert theta.tolist() == expected
    assert not restart_at_bound(0, little, limits, theta) and not restart_at_bound(2, much, limits, theta)
