"""A layer of cells pushed apart, against a packing that is relaxed to the end."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from histomri.simulation.layer import Matter, draw_layer, push_apart
from histomri.simulation.nuclei import SolidCells, place_nuclei
from histomri.simulation.packing import pack_spheres, sphere_diameters
from histomri.simulation.realism import Detector
from histomri.simulation.slab import all_profiles, cut_slab, detect_nuclei
from histomri.simulation.tissue import lognormal_moment

WIDTH, PITCH, MEAN, CV, FRACTION, MARGIN = 1500.0, 30.0, 20.0, 0.2, 0.58, 120.0
DENSITY = FRACTION / (np.pi / 6 * float(lognormal_moment(3, np.array(MEAN), np.array(CV))))


def _matter(fat=0.0):
    side = (np.arange(int(WIDTH / PITCH)) + 0.5) * PITCH
    x, y = np.meshgrid(side, side)
    x[1::2] = x[1::2, ::-1]
    ones = np.ones(x.size)
    return Matter(np.column_stack([x.ravel(), y.ravel()]), PITCH, DENSITY * ones, MEAN * ones, CV * ones, fat * ones)


@pytest.fixture(scope="module")
def layer():
    return draw_layer(_matter(), np.random.default_rng(1))


@pytest.fixture(scope="module")
def centre(layer):
    return push_apart(layer.centre_um, layer.diameter_um, layer.depth_um)


def test_the_layer_holds_what_was_asked_for(layer):
    volume = WIDTH**2 * layer.depth_um
    assert len(layer.diameter_um) == pytest.approx(DENSITY * volume, abs=1)
    assert np.mean(layer.diameter_um) == pytest.approx(MEAN, rel=0.005)  # 0.16 % is one standard error
    assert np.std(layer.diameter_um) == pytest.approx(CV * MEAN, rel=0.03)
    fat = draw_layer(_matter(0.04), np.random.default_rng(1))
    drops = fat.diameter_um[fat.vacuole]
    assert np.pi / 6 * np.sum(drops**3) / volume == pytest.approx(0.04, rel=0.15)
    assert drops.min() >= 10.0 and drops.max() <= 40.0
    assert np.sum(~fat.vacuole) == len(layer.diameter_um)


def test_cells_hardly_overlap_and_keep_their_density(layer, centre):
    depth = layer.depth_um
    inner = np.all((centre[:, :2] > 400) & (centre[:, :2] < 1100), axis=1)
    assert inner.sum() == pytest.approx(DENSITY * 700**2 * depth, rel=0.015)
    counts = np.histogram(centre[inner, 2], 6, (0.0, depth))[0]
    assert np.std(counts) < 0.6 * np.sqrt(counts.mean())  # far more even than random places
    place, radius = centre[inner], layer.diameter_um[inner] / 2
    pairs = cKDTree(place, boxsize=[0, 0, depth]).query_pairs(45.0, output_type="ndarray")
    away = place[pairs[:, 0]] - place[pairs[:, 1]]
    away[:, 2] -= depth * np.rint(away[:, 2] / depth)
    overlap = radius[pairs].sum(axis=1) - np.linalg.norm(away, axis=1)
    assert np.mean(overlap[overlap > 0]) < 0.5  # µm
    assert np.sum(overlap > 2.0) < 0.1 * inner.sum()
    np.testing.assert_array_equal(centre, push_apart(layer.centre_um, layer.diameter_um, depth))


AREAS = [f"{name}_area_um2" for name in ("nucleus", "rim_cell", "mask_cell", "outline_cell")]


def _statistics(slab, low, high, rng):
    """Nuclei per area, their mean areas, and the shares of the field that masks and outlines fill."""
    table, outlines = detect_nuclei(slab, Detector(), rng), all_profiles(slab)
    place = table[["x_um", "y_um"]].to_numpy()
    own = np.all((place > low) & (place < high), axis=1)
    every = np.all((slab.centre_um > low) & (slab.centre_um < high), axis=1)
    area = (high - low) ** 2
    return [own.sum() / area, *table.loc[own, AREAS].mean(), *outlines[every].sum() / area]


def test_a_section_of_the_layer_is_that_of_a_packing(layer, centre):
    rng = np.random.default_rng(3)
    nucleus, size = place_nuclei(centre, layer.diameter_um, 0.42, rng)
    cells = SolidCells(centre, layer.diameter_um, nucleus, size, np.array([np.inf, np.inf, layer.depth_um]))
    slabs = [cut_slab(cells, middle, 4.0, shrinkage=0.1) for middle in np.arange(4) * layer.depth_um / 4]
    found = np.mean([_statistics(slab, MARGIN, 0.9 * WIDTH - MARGIN, rng) for slab in slabs], axis=0)
    expected = []
    for seed in (1, 2):
        packing = pack_spheres(sphere_diameters(2000, mean_um=MEAN, cv=CV, rng=rng), FRACTION, seed=seed)
        cubes, edge = SolidCells.from_packing(packing, rng, ratio=0.42), packing.edge_um
        for axis in range(3):
            for middle in np.arange(8) * edge / 8:
                slab = cut_slab(cubes.along(axis), middle, 4.0, shrinkage=0.1)
                # The cube repeats, so that what sticks out on one side counts on the other.
                wrapped = replace(slab, centre_um=slab.centre_um % slab.period_um)
                wrapped = replace(wrapped, nucleus_centre_um=slab.nucleus_centre_um % slab.period_um)
                expected.append(_statistics(wrapped, -1e-9, float(slab.period_um[0]), rng))
    # 0.8 % is one standard error of the counts; the rest of the overlap takes up to 1 % of the masks.
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=0.025)
