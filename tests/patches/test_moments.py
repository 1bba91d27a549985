"""Sizes of spheres from sizes of their profiles: identities, simulation of the cut, and standard errors."""

import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchGrid, summarise_patches
from histomri.patches.moments import section_coefficient, unfold, volume_weighted, volume_weighted_unfolded

ONE = PatchGrid((0.0, 0.0), (1000.0, 1000.0), (1, 1))


def cut(rng, n, cv, thickness, mean=20.0):
    """Cut lognormal spheres by a section: of each that is touched, the largest disc within the section is seen."""
    sigma = np.sqrt(np.log(1 + cv**2))
    profiles = []
    while len(profiles) < n:
        diameter = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, 20 * n)
        # Centres are uniform across a slab wide enough for every sphere to miss the section on both sides.
        reach = thickness / 2 + diameter.max() / 2
        distance = np.abs(rng.uniform(-reach, reach, diameter.size)) - thickness / 2
        seen = distance < diameter / 2
        height = np.clip(distance[seen], 0, None)
        profiles.extend(2 * np.sqrt((diameter[seen] / 2) ** 2 - height**2))
    return np.array(profiles[:n]), mean * (1 + cv**2) ** 4.5  # (<D^7>/<D^3>)^(1/4) of a lognormal, by its moments


def powers(size):
    return np.array([np.mean(size**k) for k in range(15)])[:, None]


def test_the_true_size_of_lognormal_spheres_is_as_claimed(rng):
    sigma = np.sqrt(np.log(1 + 0.2**2))
    size = rng.lognormal(np.log(20) - sigma**2 / 2, sigma, 2_000_000)
    # Two million draws leave 0.1 % on a seventh moment.
    assert volume_weighted(powers(size))[0] == pytest.approx(20 * (1.04) ** 4.5, rel=2e-3)


@pytest.mark.parametrize(("order", "value"), [(0, 1), (1, np.pi / 4), (2, 2 / 3), (3, 3 * np.pi / 16), (6, 16 / 35)])
def test_section_coefficients_are_those_of_a_sphere(order, value):
    assert section_coefficient(order) == pytest.approx(value, rel=1e-12)
    # By definition: mean of (1 - u^2)^(k/2) over u in [0, 1], here by midpoints.
    u = (np.arange(200_000) + 0.5) / 200_000
    assert section_coefficient(order) == pytest.approx(np.mean((1 - u**2) ** (order / 2)), rel=1e-6)


@pytest.mark.parametrize("thickness", [0.0, 4.0])
@pytest.mark.parametrize("cv", [0.0, 0.1, 0.2, 0.3])
def test_cut_spheres_give_back_their_size(rng, cv, thickness):
    size, truth = cut(rng, 400 * 400, cv, thickness)
    # Averaged over 400 patches of 400 profiles, as a map would be: within 1 % of the spheres' own value.
    raw = np.array([np.mean(size.reshape(400, 400) ** k, axis=1) for k in range(15)])
    assert np.mean(volume_weighted_unfolded(raw, thickness)) == pytest.approx(truth, rel=0.01)
    moments = unfold(raw, thickness)
    assert np.mean(moments[1]) == pytest.approx(20, rel=0.02)
    if cv >= 0.2:
        assert np.mean(np.sqrt(np.maximum(moments[2] - moments[1] ** 2, 0))) == pytest.approx(20 * cv, rel=0.1)


def test_the_published_factor_is_exact_for_the_mean_of_equal_spheres_only(rng):
    size, _ = cut(rng, 200_000, 0.0, 0.0)
    assert 4 / np.pi * size.mean() == pytest.approx(20, rel=0.005)
    assert (48 / 35) ** 0.25 * volume_weighted(powers(size))[0] == pytest.approx(20, rel=0.005)
    assert 4 / np.pi * volume_weighted(powers(size))[0] == pytest.approx(20 * 1.1766, rel=0.005)


def test_unfolding_inverts_the_moments_exactly():
    # Moments of a lognormal, pushed through the formula of the section, must come back to rounding.
    mu, sigma, t = np.log(18), 0.25, 4.0
    true = np.array([np.exp(k * mu + (k * sigma) ** 2 / 2) for k in range(9)])
    profiles = [(t * true[k] + section_coefficient(k) * true[k + 1]) / (t + true[1]) for k in range(8)]
    raw = np.array(profiles + [np.nan] * 7)[:, None]
    np.testing.assert_allclose(unfold(raw, t)[:, 0], true[:8], rtol=1e-9)
    # At zero thickness the closure plays no part in the volume-weighted size.
    thin = np.array([section_coefficient(k) * true[k + 1] / true[1] for k in range(8)] + [np.nan] * 7)[:, None]
    assert volume_weighted_unfolded(thin, 0.0)[0] == pytest.approx((true[7] / true[3]) ** 0.25, rel=1e-12)
    assert volume_weighted_unfolded(thin, 1e-9)[0] == pytest.approx((true[7] / true[3]) ** 0.25, rel=1e-6)


def test_volume_density_of_cut_spheres(rng):
    # N_V spheres per volume show N_A = N_V (<D> + t) profiles per area.
    n_volume, t = 2e4, 4.0
    size, _ = cut(rng, int(n_volume * 1e-3 * (20 + t)), 0.2, t)
    cells = CellTable.from_columns(
        rng.uniform(0, 1000, size.size), rng.uniform(0, 1000, size.size), np.pi / 4 * size**2,
        metadata=CellMetadata(field_um=(1000, 1000)),
    )  # fmt: skip
    plain = summarise_patches(cells, ONE, preset="none", section="wicksell", section_thickness_um=t)
    assert plain.maps["CDvol"][0, 0] == pytest.approx(n_volume, rel=0.05)  # 480 profiles
    shrunk = summarise_patches(cells, ONE, shrinkage=0.2, section="wicksell", section_thickness_um=t)
    # All lengths of the tissue were 1 / 0.8 times longer.
    assert shrunk.maps["CDvol"][0, 0] == pytest.approx(0.8**3 * plain.maps["CDvol"][0, 0])
    assert shrunk.maps["CD"][0, 0] == pytest.approx(0.8**2 * plain.maps["CD"][0, 0])
    for name in ("vCS", "aCS", "sdCS"):
        assert shrunk.maps[name][0, 0] == pytest.approx(plain.maps[name][0, 0] / 0.8)
    assert shrunk.maps["F"][0, 0] == plain.maps["F"][0, 0]


@pytest.mark.parametrize("options", [{}, {"section": "wicksell"}, {"section": "wicksell", "section_thickness_um": 0.0}])
def test_standard_errors_match_the_spread_over_patches(rng, options):
    rows, columns, n = 20, 60, 150
    size, _ = cut(rng, rows * columns * n, 0.2, options.get("section_thickness_um", 4.0) if options else 0.0)
    j, i = np.tile(np.arange(columns), rows), np.repeat(np.arange(rows), columns)
    x, y = np.repeat(j * 100 + 50.0, n), np.repeat(i * 100 + 50.0, n)
    cells = CellTable.from_columns(x, y, np.pi / 4 * size**2, metadata=CellMetadata(field_um=(6000, 2000)))
    result = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (rows, columns)), **options)
    # 1200 patches tell a standard deviation to 2 %; the delta method itself is off by a few per cent at 150 profiles.
    spread = np.std(result.maps["vCS"])
    assert np.sqrt(np.mean(result.errors["vCS"] ** 2)) == pytest.approx(spread, rel=0.1)


def test_standard_errors_of_fraction_and_density_hold_for_cells_at_random(rng):
    n = 60_000
    x, y = rng.uniform(0, 6000, n), rng.uniform(0, 2000, n)
    size = rng.lognormal(np.log(10), 0.3, n)
    cells = CellTable.from_columns(x, y, np.pi / 4 * size**2, metadata=CellMetadata(field_um=(6000, 2000)))
    result = summarise_patches(cells, PatchGrid((0, 0), (100, 100), (20, 60)))
    for name in ("F", "CD"):
        spread = np.std(result.maps[name])
        assert np.sqrt(np.mean(result.errors[name] ** 2)) == pytest.approx(spread, rel=0.08)  # 1200 patches: 2 %


def test_profiles_of_no_sphere_give_no_size(rng):
    cells = CellTable.from_columns(
        [10, 20, 610], [10, 20, 10], [100, 100, 120], metadata=CellMetadata(field_um=(1000, 1000))
    )
    result = summarise_patches(cells, PatchGrid((0, 0), (500, 500), (2, 2)), section="wicksell", section_thickness_um=8)
    # Equal discs cannot be cuts through spheres of any size: the spread would be imaginary.
    assert np.isnan(result.maps["sdCS"]).all()
    assert result.maps["nCells"].tolist() == [[2, 1], [0, 0]]
