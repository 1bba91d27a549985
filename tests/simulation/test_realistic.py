"""Realistic sections of lobes and cores: their truth against the fields, their counts against the kernel."""

import csv
import json
from math import pi, sqrt

import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

from histomri.core.errors import InputError
from histomri.mri import Acquisition
from histomri.simulation import Tumour, simulate_biopsy, simulate_liver
from histomri.simulation.biopsy import CORE_MM, SHRINKAGE
from histomri.simulation.realism import Detector, Realism
from histomri.simulation.realistic import cut_realistic_section
from histomri.simulation.tissue import GROUPS, Texture, Tissue, random_lobe, random_tissue
from histomri.simulation.write import write_sample

MEAN, CV, FRACTION, FAT = 20.0, 0.2, 0.56, 0.04


def _zero(points):
    return np.zeros(len(points))


UNIFORM = Tissue("control", MEAN, FRACTION, (_zero,) * 4, _zero, None, Texture(_zero, FAT))


@pytest.fixture(scope="module")
def lobe():
    return random_lobe(np.random.default_rng(5), 8.0)


@pytest.fixture(scope="module")
def section(lobe):
    return cut_realistic_section(lobe, UNIFORM, 0.0, np.random.default_rng(7), thickness_um=4.0, shrinkage=0.13)


def _tissue_area_um2(lobe, w=0.0):
    half = lobe.extent_mm[:2]
    u, v = np.meshgrid(*(np.linspace(-width, width, 1500) for width in half))
    return float(lobe.inside(u, v, w).mean() * 4e6 * half[0] * half[1])


def test_the_volume_is_that_of_the_fields(section):
    volume, share = section.volume, FRACTION * (1 - FAT)
    density = 1e9 * share / (pi / 6 * MEAN**3 * (1 + CV**2) ** 3)
    assert volume.nuclei_per_mm3 == pytest.approx(density, rel=1e-6)
    assert volume.fraction == pytest.approx(share, rel=0.01) and volume.fat == pytest.approx(FAT, rel=0.1)
    assert volume.mean_um == pytest.approx(MEAN, rel=0.005) and volume.nucleus_um == pytest.approx(
        0.42 * MEAN, rel=0.01
    )
    assert volume.vcs_um == pytest.approx(MEAN * (1 + CV**2) ** 4.5, rel=0.015)


def test_counts_of_nuclei_and_cells_are_those_of_the_kernel(lobe, section):
    area = 0.87**2 * _tissue_area_um2(lobe)
    density, rng = 1e-9 * section.volume.nuclei_per_mm3 / 0.87**3, np.random.default_rng(1)
    spread = sqrt(np.log1p(CV**2))
    cell = 0.87 * MEAN * np.exp(spread * rng.standard_normal(400_000) - 0.5 * spread**2)
    nucleus = cell * (0.42 + 0.05 * rng.standard_normal(cell.size))
    for limit in (10.0, 30.0):
        least = 4 * limit / pi
        kernel = np.where(nucleus**2 > least, 4.0 + np.sqrt(np.maximum(nucleus**2 - least, 0.0)), 0.0)
        found = np.sum(section.nuclei["nucleus_area_um2"] >= limit)
        # 0.7 and 1.1 % are one standard deviation between sections of this lobe.
        assert found == pytest.approx(density * kernel.mean() * area, rel=0.025)
    assert len(section) == pytest.approx(density * (cell.mean() + 4.0) * area, rel=0.015)


def test_vacuoles_push_cells_away_and_have_no_nucleus(section):
    slab = section.slab
    fat = ~section.cell
    assert fat.sum() > 50 and np.all(slab.nucleus_radius_um[fat] == 0)
    tree = cKDTree(section.nuclei[["x_um", "y_um"]])
    largest = fat & (slab.radius_um > 6.0)
    within = tree.query_ball_point(slab.centre_um[largest], 0.5 * slab.radius_um[largest], return_length=True)
    everywhere = len(section.nuclei) / (0.87**2 * _tissue_area_um2(random_lobe(np.random.default_rng(5), 8.0)))
    # Nuclei above or below a vacuole are seen through it, yet few.
    assert within.sum() < 0.3 * everywhere * np.sum(pi * (0.5 * slab.radius_um[largest]) ** 2)


def test_areas_are_ordered_and_the_truth_belongs_to_them(section):
    table = section.nuclei
    assert np.all(table["rim_cell_area_um2"] >= table["nucleus_area_um2"] - 1e-9)
    assert np.all(table["mask_cell_area_um2"] <= table["outline_cell_area_um2"] + 1e-9)
    assert np.all(table["nucleus_area_um2"] <= pi / 4 * (0.87 * table["nucleus_um"]) ** 2 + 1e-9)
    assert np.all(table["nucleus_um"] < table["cell_um"])
    # The rim says little of the cell: it has the size of the nucleus, grown.
    assert np.all(table["rim_cell_area_um2"] <= pi * (0.435 * table["nucleus_um"] + 5.0) ** 2 + 1e-9)
    filled = section.outlines()["mask_cell_area_um2"].sum() / (
        0.87**2 * _tissue_area_um2(random_lobe(np.random.default_rng(5), 8.0))
    )
    assert FRACTION * (1 - FAT) < filled < 1.35 * FRACTION


@pytest.mark.parametrize("group", GROUPS)
def test_realistic_groups_can_be_packed_and_differ(group, lobe, rng):
    tissue = random_tissue(np.random.default_rng(2), group, lobe.extent_mm, "realistic")
    points = rng.uniform(-1, 1, (20_000, 3)) * lobe.extent_mm
    fields = tissue.at(points[lobe.inside(*points.T)])
    assert fields.fraction.max() <= 0.62 and fields.fraction.min() > 0.2
    volume = cut_realistic_section(lobe, tissue, 0.0, rng).volume
    grid = np.stack(np.meshgrid(*(np.linspace(-w, w, 300) for w in lobe.extent_mm[:2]), [0.0]), -1).reshape(-1, 3)
    own = tissue.at(grid[lobe.inside(*grid.T)])
    assert volume.fraction == pytest.approx(own.fraction.mean(), rel=0.015)
    assert volume.nuclei_per_mm3 == pytest.approx(1e9 * own.density_um3.mean(), rel=0.015)
    assert volume.mean_um == pytest.approx(np.average(own.mean_um, weights=own.density_um3), rel=0.01)


@pytest.fixture(scope="module")
def liver():
    return simulate_liver("infiltrated", seed=3, area_mm2=6.0, realism=Realism(3.0))


def test_a_realistic_liver_is_written_with_its_truth(liver, tmp_path):
    write_sample(tmp_path, "one", liver)
    with (tmp_path / "one_cells.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    columns = {"Nucleus: Area": "nucleus_area_um2", "Cell: Area": "rim_cell_area_um2", "Centroid X µm": "x_um"}
    for name, column in columns.items():
        np.testing.assert_allclose([float(row[name]) for row in rows], liver.cells[column], atol=0.0501)
    truth = json.loads((tmp_path / "truth" / "sub-one_truth.json").read_text(encoding="utf-8"))
    assert truth["ThicknessUm"] == 3.0 and truth["Physics"] == "realistic" and truth["Cells"] == len(rows)
    volume = liver.section.volume
    assert truth["NucleiPerMm3"] == pytest.approx(volume.nuclei_per_mm3)
    assert truth["vCSUm"] == pytest.approx(volume.vcs_um) and truth["F"] == pytest.approx(volume.fraction)
    found = len(liver.cells) + liver.lost
    assert found == len(liver.section.nuclei) and 0.02 < liver.lost / found < 0.06


def test_the_same_seed_gives_the_same_realistic_liver(liver):
    again = simulate_liver("infiltrated", seed=3, area_mm2=6.0, realism=Realism(3.0), snr=30.0)
    pd.testing.assert_frame_equal(liver.cells, again.cells)
    thin = simulate_liver("infiltrated", seed=3, area_mm2=6.0, realism=Realism(0.0))
    assert len(thin.cells) < 0.75 * len(liver.cells)
    flawed = simulate_liver("infiltrated", seed=3, area_mm2=6.0, realism=Realism(3.0, Detector(missed=0.2)))
    assert len(flawed.cells) == pytest.approx(0.8 * len(liver.cells), rel=0.03)
    masks = simulate_liver("infiltrated", seed=3, area_mm2=6.0, realism=Realism(3.0, Detector(outline="mask")))
    np.testing.assert_array_equal(masks.cells["area_um2"], liver.cells["mask_cell_area_um2"])
    np.testing.assert_array_equal(masks.cells["x_um"], liver.cells["x_um"])
    with pytest.raises(InputError, match="no physics 'real'"):
        simulate_liver("control", physics="real")


def test_a_realistic_core_holds_the_nuclei_of_the_tumour():
    tumour = Tumour(mean_um=16.0, cv=0.17, fraction=0.55, vascular=0.1, d0i_um2_ms=1.5)
    acquisition = Acquisition.preset("invivo-3t")
    biopsy = simulate_biopsy(tumour, acquisition, seed=4, physics="realistic")
    keep, rng = 1 - SHRINKAGE, np.random.default_rng(0)
    spread = sqrt(np.log1p(0.17**2))
    nucleus = keep * 16.0 * np.exp(spread * rng.standard_normal(200_000) - 0.5 * spread**2)
    nucleus *= 0.55 + 0.05 * rng.standard_normal(nucleus.size)
    kernel = 4.0 + np.sqrt(np.maximum(nucleus**2 - 40 / pi, 0.0))
    density = 1e-9 * 0.9 * 0.55e9 / (pi / 6 * 16.0**3 * (1 + 0.17**2) ** 3) / keep**3
    area = 1e6 * keep**2 * CORE_MM[0] * CORE_MM[1]
    # Sizes and packing vary along the core by a few per cent.
    assert len(biopsy.cells) == pytest.approx(density * kernel.mean() * area, rel=0.15)
    assert biopsy.truth["thickness_um"] == 4.0 and np.all(biopsy.cells["x_um"] > 450)
    with pytest.raises(InputError, match="balls cannot fill"):
        simulate_biopsy(Tumour(16.0, 0.17, 0.75, 0.1, 1.5), acquisition, physics="realistic")
