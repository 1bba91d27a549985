"""Thick sections against formulas for balls in a slab, and tissues whose tables another program made."""

from math import gamma, pi, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.simulation.nuclei import SolidCells, place_nuclei
from histomri.simulation.packing import pack_spheres, sphere_diameters
from histomri.simulation.realism import Detector
from histomri.simulation.slab import all_profiles, cut_slab, detect_nuclei

DATA = Path(__file__).parents[1] / "data" / "stereology"
EVERYTHING = Detector(limit_um2=0.0)
EDGE = 700.0


@pytest.fixture(scope="module")
def strewn() -> SolidCells:
    """60,000 cells at random places, of which a section sees far more independent ones than of a packing."""
    rng = np.random.default_rng(2)
    centre = rng.uniform(0.0, EDGE, (60_000, 3))
    diameter = sphere_diameters(60_000, mean_um=15.0, cv=0.2, rng=rng)
    nucleus, size = place_nuclei(centre, diameter, 0.5, rng, scatter=0.05, eccentricity=0.5)
    return SolidCells(centre, diameter, nucleus, size, np.full(3, EDGE))


def _cuts(cells, thickness, shrinkage=0.0, number=10):
    for axis in range(3):
        for middle in (np.arange(number) + 0.5) * EDGE / number:
            yield cut_slab(cells.along(axis), middle, thickness, shrinkage=shrinkage)


def test_a_plane_shows_the_moments_of_wicksell(strewn):
    radius = np.concatenate([slab.nucleus_radius_um for slab in _cuts(strewn, 0.0, number=30)])
    profile, true = 2 * radius[radius > 0], strewn.nucleus_um
    # N_A = N_V <d>; 0.43 % is one standard error of 54,000 nuclei.
    assert len(profile) / 90 == pytest.approx(len(true) / EDGE**3 * true.mean() * EDGE**2, rel=0.013)
    for k, tolerance in ((1, 0.006), (2, 0.012), (3, 0.02)):
        c = sqrt(pi) / 2 * gamma(k / 2 + 1) / gamma(k / 2 + 1.5)
        assert np.mean(profile**k) == pytest.approx(c * np.mean(true ** (k + 1)) / true.mean(), rel=tolerance)


@pytest.mark.parametrize(("thickness", "shrinkage"), [(0.0, 0.1), (2.0, 0.0), (4.0, 0.15)])
def test_the_number_of_nuclei_is_that_of_the_kernel(strewn, thickness, shrinkage, rng):
    found = np.concatenate(
        [detect_nuclei(slab, Detector(), rng)["nucleus_area_um2"] for slab in _cuts(strewn, thickness, shrinkage, 10)]
    )
    size, density = (1 - shrinkage) * strewn.nucleus_um, len(strewn) / ((1 - shrinkage) * EDGE) ** 3
    for limit in (10.0, 20.0, 40.0):
        least = sqrt(4 * limit / pi)
        kernel = np.where(size > least, thickness + np.sqrt(np.maximum(size**2 - least**2, 0.0)), 0.0)
        expected = 30 * density * kernel.mean() * ((1 - shrinkage) * EDGE) ** 2
        assert np.sum(found >= limit) == pytest.approx(expected, abs=3 * sqrt(expected))


def test_a_nucleus_shows_its_largest_cross_section_within_the_slab():
    far = np.full(3, np.inf)
    cells = SolidCells(
        np.array([[0, 0, 0.0], [30, 0, 5.0], [60, 0, 9.0]]), np.full(3, 20.0),
        np.array([[1, 0, 0.0], [30, 0, 5.0], [60, 0, 9.0]]), np.full(3, 8.0), far,
    )  # fmt: skip
    slab = cut_slab(cells, 0.0, 4.0)
    np.testing.assert_allclose(slab.nucleus_radius_um, [4.0, sqrt(16 - 9), 0.0])
    np.testing.assert_allclose(slab.radius_um, [10.0, sqrt(100 - 9), sqrt(100 - 49)])
    np.testing.assert_allclose(slab.nucleus_centre_um[0], [1.0, 0.0])
    # Thickness is that of tissue which has shrunk: 4 µm of it were 5 µm when fresh.
    shrunk = cut_slab(cells, 0.0, 4.0, shrinkage=0.2)
    np.testing.assert_allclose(shrunk.nucleus_radius_um, 0.8 * np.array([4.0, sqrt(16 - 2.5**2), 0.0]))
    np.testing.assert_allclose(shrunk.centre_um[:, 0], [0.0, 24.0, 48.0])


def test_nuclei_lie_within_their_cells_and_off_their_middle(rng):
    centre, diameter = rng.uniform(0, 50, (50_000, 3)), np.full(50_000, 20.0)
    nucleus, size = place_nuclei(centre, diameter, 0.4, rng, scatter=0.05, eccentricity=0.5)
    away = np.linalg.norm(nucleus - centre, axis=1)
    assert np.all(away + size / 2 <= diameter / 2 + 1e-9)
    assert np.mean(size) == pytest.approx(8.0, rel=2e-3) and np.std(size) == pytest.approx(1.0, rel=0.02)
    # Evenly in a ball of half the room: <r²> = 3/5 of its radius squared.
    assert np.mean(away**2) == pytest.approx(0.6 * np.mean((0.25 * (diameter - size)) ** 2), rel=0.02)
    with pytest.raises(InputError, match="do not fit"):
        place_nuclei(centre, diameter, 0.99, rng)


def test_flaws_of_the_detector_do_what_they_say(strewn, rng):
    slab = cut_slab(strewn, 100.0, 4.0)
    ideal = detect_nuclei(slab, EVERYTHING, rng)
    missed = detect_nuclei(slab, Detector(limit_um2=0.0, missed=0.2), rng)
    assert len(missed) == pytest.approx(0.8 * len(ideal), abs=3 * sqrt(0.16 * len(ideal)))
    noisy = detect_nuclei(slab, Detector(limit_um2=0.0, area_noise=0.1), rng)
    ratio = noisy["nucleus_area_um2"] / ideal["nucleus_area_um2"]
    assert ratio.mean() == pytest.approx(1.0, abs=0.02) and ratio.std() == pytest.approx(0.1, rel=0.15)
    merged = detect_nuclei(slab, Detector(limit_um2=0.0, merged=0.5), rng)
    everything = detect_nuclei(slab, Detector(limit_um2=0.0, merged=1.0 - 1e-9), rng)
    lumped, most = len(ideal) - len(merged), len(ideal) - len(everything)
    assert most > 50 and lumped == pytest.approx(0.5 * most, abs=3 * sqrt(0.25 * most))
    assert merged["nucleus_area_um2"].sum() == pytest.approx(ideal["nucleus_area_um2"].sum())
    with pytest.raises(InputError, match="missed"):
        Detector(missed=1.5)
    with pytest.raises(InputError, match="cannot be cut"):
        cut_slab(strewn, 0.0, 50.0)


def _diameters(truth, number, rng):
    """Diameters with the mean and CV of a tissue; g6 is a mix of cells of 18 and 9 µm."""
    mean, cv = truth["D_mean_um"], truth["D_CV"]
    if truth.name != "g6":
        return sphere_diameters(number, mean_um=mean, cv=cv, rng=rng)
    large = mean / 9.0 - 1.0
    own = sqrt(mean**2 * (1 + cv**2) / (81 * (1 + 3 * large)) - 1)
    first = round(number * large)
    sizes = [sphere_diameters(n, mean_um=m, cv=own, rng=rng) for n, m in ((first, 18.0), (number - first, 9.0))]
    return np.concatenate(sizes)


def _statistics(condition, truth, seed):
    """Pack a tissue, cut it 39 times, and return what the tables of stats.csv say of it."""
    rng, shrinkage = np.random.default_rng(seed), condition["shrinkage_p"]
    number = round(truth["N_V_per_mm3"] * 1e-9 * (condition["tile_side_um"] / (1 - shrinkage)) ** 3)
    packing = pack_spheres(_diameters(truth, number, rng), truth["F"], seed=seed)
    ratio = truth["d_mean_um"] / truth["D_mean_um"]
    scatter = ratio * sqrt((1 + truth["d_CV"] ** 2) / (1 + truth["D_CV"] ** 2) - 1)
    options = {"ratio": ratio, "scatter": scatter, "eccentricity": condition["eccentricity"]}
    cells = SolidCells.from_packing(packing, rng, **options)
    found, every, area = [], [], 0.0
    for axis in range(3):
        for middle in (np.arange(13) + 0.5) / 13 * packing.edge_um:
            slab = cut_slab(cells.along(axis), middle, condition["t_um"], shrinkage=shrinkage)
            found.append(detect_nuclei(slab, Detector(condition["nucleus_limit_um2"]), rng))
            every.append(all_profiles(slab).sum())
            area += float(np.prod(slab.period_um))
    table, sums = pd.concat(found), pd.DataFrame(every).sum()
    means = table[[f"{kind}_area_um2" for kind in ("nucleus", "rim_cell", "mask_cell", "outline_cell")]].mean()
    fractions = sums[["mask_cell_area_um2", "outline_cell_area_um2"]] / area
    return np.array([1e6 * len(table) / area, *means, *fractions])


NAMES = ["nuclei_per_mm2", "nucleus_um2", "rim_cell_um2", "mask_cell_um2", "outline_cell_um2"]
NAMES += ["every_mask_fraction", "every_outline_fraction"]


def _compare(name, seeds):
    conditions, truths, stats = (
        pd.read_csv(DATA / f"{table}.csv", index_col="condition") for table in ("conditions", "truth", "stats")
    )
    simulated = np.mean([_statistics(conditions.loc[name], truths.loc[name], seed) for seed in seeds], axis=0)
    expected = stats.loc[name, NAMES].to_numpy(dtype=float)
    error = stats.loc[name, [f"{column}_se" for column in NAMES]].to_numpy(dtype=float) / expected
    # 2 %, and twice the sampling error of the tables and of as many simulated tissues.
    allowed = 0.02 + 2.0 * error * sqrt(1.0 + 1.0 / len(seeds))
    deviation = simulated / expected - 1.0
    assert np.all(np.abs(deviation) < allowed), dict(zip(NAMES, np.round(100 * deviation, 1)))


@pytest.mark.parametrize("name", ["g3", "g4", "g7"])
def test_sections_agree_with_the_tables_of_tissues_whose_truth_is_known(name):
    _compare(name, seeds=(1,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["g1", "g2", "g3", "g4", "g6", "g7"])
def test_all_tissues_of_balls_agree_with_their_tables(name):
    _compare(name, seeds=(1, 2, 3, 4))
