"""Outlines along rays against a fine raster."""

import numpy as np
import pytest

from histomri.simulation.outlines import grown_areas, nearest_profiles, power_areas

FREE = np.full(2, np.inf)
PIXEL = 0.1


def _raster(centre, radius, grown, distance, period=None):
    """Areas by the raster: each pixel within the grown disc belongs to the disc with the smallest distance."""
    low, high = (centre.min(axis=0) - 20, centre.max(axis=0) + 20) if period is None else (np.zeros(2), period)
    x, y = (np.arange(low[k] + PIXEL / 2, high[k], PIXEL) for k in range(2))
    best, owner = np.full((y.size, x.size), np.inf), np.full((y.size, x.size), -1)
    for i in range(len(radius)):
        dx, dy = x - centre[i, 0], y - centre[i, 1]
        if period is not None:
            dx, dy = dx - period[0] * np.rint(dx / period[0]), dy - period[1] * np.rint(dy / period[1])
        squared = dx[None, :] ** 2 + dy[:, None] ** 2
        value = np.where(squared <= grown[i] ** 2, distance(squared, radius[i]), np.inf)
        nearer = value < best
        best[nearer], owner[nearer] = value[nearer], i
    return np.bincount(owner[owner >= 0], minlength=len(radius)) * PIXEL**2


def _discs(rng, number=60, side=100.0):
    """Discs of 2 to 5 µm that do not overlap, many of them close."""
    centre, radius = np.empty((0, 2)), np.empty(0)
    while len(radius) < number:
        place, size = rng.uniform(0, side, 2), rng.uniform(2, 5)
        away = centre - place
        away -= side * np.rint(away / side)
        if np.all(np.hypot(*away.T) > radius + size):
            centre, radius = np.vstack([centre, place]), np.append(radius, size)
    return centre, radius


@pytest.mark.parametrize("periodic", [False, True])
def test_growth_stops_where_the_raster_says(periodic, rng):
    centre, radius = _discs(rng)
    period = np.full(2, 100.0) if periodic else FREE
    expected = _raster(centre, radius, radius + 5, lambda s, r: np.sqrt(s) - r, period if periodic else None)
    found = grown_areas(centre, radius, period, 5.0)
    assert np.sum(found) < 0.9 * np.sum(np.pi * (radius + 5) ** 2)  # growth does meet
    np.testing.assert_allclose(found, expected, rtol=0.02)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.002)


@pytest.mark.parametrize("periodic", [False, True])
def test_overlap_is_divided_along_power_lines(periodic, rng):
    centre, radius = rng.uniform(0, 100, (60, 2)), rng.uniform(3, 12, 60)
    period = np.full(2, 100.0) if periodic else FREE
    expected = _raster(centre, radius, radius, lambda s, r: s - r**2, period if periodic else None)
    found = power_areas(centre, radius, period, np.arange(60))
    assert np.sum(found) < 0.8 * np.sum(np.pi * radius**2)
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=3.0)
    assert found.sum() == pytest.approx(expected.sum(), rel=0.005)
    np.testing.assert_array_equal(power_areas(centre, radius, period, np.array([7, 3])), found[[7, 3]])


def test_a_disc_alone_is_whole():
    centre, radius = np.array([[0.0, 0.0], [100.0, 0.0]]), np.array([3.0, 4.0])
    np.testing.assert_allclose(grown_areas(centre, radius, FREE, 5.0), np.pi * np.array([8.0, 9.0]) ** 2)
    np.testing.assert_allclose(power_areas(centre, radius, FREE, np.array([1])), np.pi * 16)
    assert grown_areas(np.empty((0, 2)), np.empty(0), FREE, 5.0).size == 0


def test_nearest_profile_and_gap(rng):
    centre, radius = _discs(rng)
    nearest, gap = nearest_profiles(centre, radius, FREE, 3.0)
    space = np.hypot(*(centre[:, None] - centre[None]).transpose(2, 0, 1)) - radius[:, None] - radius
    np.fill_diagonal(space, np.inf)
    near = space.min(axis=1) < 3.0
    assert 20 < near.sum() < 60
    np.testing.assert_allclose(gap[near], space.min(axis=1)[near])
    np.testing.assert_array_equal(nearest[near], space.argmin(axis=1)[near])
    assert np.all(nearest[~near] == -1)
