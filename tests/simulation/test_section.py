"""The section against stereology: theory for spheres cut by a plane, and a box of spheres cut by brute force."""

from math import gamma, pi, sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import cKDTree

from histomri.simulation.section import Section, cut_section, separate
from histomri.simulation.tissue import Tissue, lognormal_moment, random_lobe

MEAN, CV, FRACTION = 18.0, 0.19, 0.65


def _zero(points):
    return np.zeros(len(points))


UNIFORM = Tissue("control", MEAN, FRACTION, (_zero,) * 4, _zero, None)


@pytest.fixture(scope="module")
def lobe():
    return random_lobe(np.random.default_rng(5), 12.0)


@pytest.fixture(scope="module")
def section(lobe) -> Section:
    return cut_section(lobe, UNIFORM, 0.0, np.random.default_rng(6))


def _tissue_area_um2(lobe) -> float:
    half = lobe.extent_mm[:2]
    u, v = np.meshgrid(*(np.linspace(-width, width, 1500) for width in half))
    return float(lobe.inside(u, v, 0.0).mean() * 4e6 * half[0] * half[1])


def test_lognormal_moments_match_scipy():
    spread = sqrt(np.log1p(CV**2))
    law = stats.lognorm(spread, scale=MEAN * np.exp(-0.5 * spread**2))
    assert law.mean() == pytest.approx(MEAN) and law.std() == pytest.approx(CV * MEAN)
    for k in (2, 3, 7):
        assert lognormal_moment(k, np.array(MEAN), np.array(CV)) == pytest.approx(law.moment(k), rel=1e-9)


def test_number_and_area_of_profiles_are_those_of_the_volume(lobe, section):
    area = _tissue_area_um2(lobe)
    cubes = lognormal_moment(3, np.array(MEAN), np.array(CV))
    density = FRACTION / (pi / 6 * cubes)
    # Stratified: the number is exact but for the edge.
    assert len(section) == pytest.approx(density * MEAN * area, rel=0.01)
    # Delesse: area fraction is volume fraction. 1 % is three standard errors of 40,000 areas.
    assert np.sum(pi / 4 * section.profile_um**2) / area == pytest.approx(FRACTION, rel=0.015)


def test_profile_moments_are_those_of_wicksell(section):
    def moment(k):
        return float(lognormal_moment(k, np.array(MEAN), np.array(CV)))

    for k, tolerance in ((1, 0.01), (2, 0.015), (3, 0.02), (6, 0.06)):  # three standard errors or so
        c = sqrt(pi) / 2 * gamma(k / 2 + 1) / gamma(k / 2 + 1.5)
        assert np.mean(section.profile_um**k) == pytest.approx(c * moment(k + 1) / MEAN, rel=tolerance)
    size = (35 / 24 * np.mean(section.profile_um**6) / np.mean(section.profile_um**2)) ** 0.25
    assert size == pytest.approx((moment(7) / moment(3)) ** 0.25, rel=0.02)


def test_profiles_are_those_of_a_box_of_spheres_cut_by_brute_force(section, rng):
    spread = sqrt(np.log1p(CV**2))
    diameter = rng.lognormal(np.log(MEAN) - 0.5 * spread**2, spread, 400_000)
    height = rng.uniform(-60.0, 60.0, diameter.size)
    cut = np.abs(height) < diameter / 2
    profile = np.sqrt(diameter[cut] ** 2 - 4 * height[cut] ** 2)
    assert stats.ks_2samp(profile, section.profile_um).pvalue > 1e-3
    assert stats.ks_2samp(diameter[cut], section.sphere_um).pvalue > 1e-3


def test_each_profile_belongs_to_its_sphere(section):
    expected = np.sqrt(section.sphere_um**2 - 4 * section.height_um**2)
    np.testing.assert_allclose(section.profile_um, expected, rtol=1e-12)
    assert np.all(np.abs(section.height_um) <= section.sphere_um / 2)


def test_counts_vary_far_less_than_a_poisson_number(lobe, section):
    edges = np.arange(-0.9, 0.95, 0.3)
    counts = np.histogram2d(section.u_mm, section.v_mm, [edges, edges])[0]
    u, v = np.meshgrid(np.arange(-0.895, 0.9, 0.01), np.arange(-0.895, 0.9, 0.01), indexing="ij")
    whole = lobe.inside(u, v, 0.0).reshape(6, 30, 6, 30).all(axis=(1, 3))
    assert whole.sum() >= 8
    assert counts[whole].var() < 0.3 * counts[whole].mean()


def test_profiles_hardly_overlap(section):
    points = 1000.0 * np.column_stack([section.u_mm, section.v_mm])
    pairs = cKDTree(points).query_pairs(25.0, output_type="ndarray")
    radius = section.profile_um / 2
    reach = radius[pairs].sum(axis=1)
    overlap = reach - np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    assert np.mean(overlap[overlap > 0]) < 0.5  # µm
    assert np.sum(overlap > 2.0) < 0.01 * len(points)


def test_overlapping_discs_come_to_touch_and_others_stay():
    x, y = separate(np.array([0.0, 6.0, 100.0]), np.array([0.0, 8.0, 0.0]), np.array([14.0, 14.0, 14.0]))
    assert np.hypot(x[1] - x[0], y[1] - y[0]) == pytest.approx(14.0)
    assert x[0] + x[1] == pytest.approx(6.0) and y[0] + y[1] == pytest.approx(8.0)
    assert (x[2], y[2]) == (100.0, 0.0)


def test_outline_has_the_area_asked_for_and_tapers():
    lobe = random_lobe(np.random.default_rng(1), 40.0, half_height_mm=5.0)
    u, v = np.meshgrid(np.linspace(-9, 9, 901), np.linspace(-9, 9, 901))
    solid = type(lobe)(lobe.radius_mm, lobe.half_height_mm, np.empty((0, 6)))
    areas = [solid.inside(u, v, w).sum() * 0.02**2 for w in (0.0, 3.0, 5.1)]
    assert areas[0] == pytest.approx(40.0, rel=0.01)
    assert areas[1] == pytest.approx(40.0 * (1 - 0.36), rel=0.01)
    assert areas[2] == 0
    assert 0.005 < 1 - lobe.inside(u, v, 0.0).sum() * 0.02**2 / areas[0] < 0.08  # vessels
