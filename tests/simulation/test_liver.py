"""The phantom: MRI against brute force, noise, slide geometry, and seeds."""

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.fitting import sphere_adc
from histomri.mri import Acquisition
from histomri.registration import Transform
from histomri.simulation import simulate_liver
from histomri.simulation.signals import T2_SALINE_MS, T2_TISSUE_MS, add_rician, scan_lobe
from histomri.simulation.tissue import WATER_UM2_MS


@pytest.fixture(scope="module")
def liver():
    return simulate_liver("necrotic", seed=4, area_mm2=16.0, flipped=True, orientation=2, physics="simple")


@pytest.fixture(scope="module")
def signals(liver):
    voxels = scan_lobe(liver.lobe, liver.tissue, liver.scan, liver.acquisition)
    return voxels.signals.reshape(*liver.scan.shape, -1)


def _brute_force(liver, voxel, rng, number=6000):
    """Sum random points of a voxel, each with one random cell, water weighed by volume."""
    index = np.asarray(voxel) + rng.uniform(-0.5, 0.5, (number, 3))
    points = (index - liver.scan.index(np.zeros((1, 3)))) * liver.scan.voxel_mm
    inside = liver.lobe.inside(*points.T)
    fields = liver.tissue.at(points[inside])
    spread = np.sqrt(np.log1p(fields.cv**2))
    diameter = rng.lognormal(np.log(fields.mean_um) - 0.5 * spread**2, spread)
    weight = fields.fraction * diameter**3 / fields.moment(3)
    acquisition = liver.acquisition
    b = acquisition.b_smm2 / 1000.0
    intra = np.exp(-b * sphere_adc(diameter, fields.d0i_um2_ms, acquisition))
    extra = np.exp(-b * (fields.deinf_um2_ms[:, None] + fields.beta_um2[:, None] / acquisition.Delta_ms))
    tissue = weight[:, None] * intra + (1 - fields.fraction[:, None]) * extra
    saline = np.sum(~inside) * np.exp(-b * WATER_UM2_MS - acquisition.te_ms / T2_SALINE_MS)
    signal = (tissue.sum(axis=0) * np.exp(-acquisition.te_ms / T2_TISSUE_MS) + saline) / number
    density = fields.density_um3.sum()
    size = ((fields.density_um3 * fields.moment(7)).sum() / (fields.density_um3 * fields.moment(3)).sum()) ** 0.25
    return signal, {"F": fields.fraction.sum() / number, "vCS": size, "CD": 1e9 * density / number}


def test_signals_and_truth_match_brute_force(liver, signals, rng):
    full = np.argwhere(liver.truth["tissueFraction"] == 1)
    edge = np.argwhere((liver.truth["tissueFraction"] > 0.4) & (liver.truth["tissueFraction"] < 0.6))
    for voxel in (*full[:: len(full) // 3], edge[0], edge[-1]):
        expected, truth = _brute_force(liver, voxel, rng)
        # Four standard errors of 6,000 random points; at the edge the filling of the voxel (64 pieces) decides.
        partial = liver.truth["tissueFraction"][tuple(voxel)] < 1
        scale = expected.max()
        np.testing.assert_allclose(signals[tuple(voxel)], expected, atol=(0.08 if partial else 0.012) * scale)
        if not partial:
            for name, value in truth.items():
                assert liver.truth[name][tuple(voxel)] == pytest.approx(value, rel=0.02), name


def test_noise_is_rician_and_as_strong_as_stated(liver, signals):
    volume = signals[..., :1]
    twice = [add_rician(volume, 0.01, np.random.default_rng(seed)) for seed in (0, 1)]
    assert np.std(twice[0] - twice[1]) / np.sqrt(2) == pytest.approx(0.01, rel=0.05)
    none = add_rician(np.zeros(200_000), 2.0, np.random.default_rng(2))
    assert none.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.005)
    unweighted = liver.acquisition.b_smm2 == 0
    full = liver.truth["tissueFraction"] == 1
    shortest = unweighted & (liver.acquisition.te_ms == 31.0)
    assert np.median(liver.dwi[full][:, shortest]) / liver.sigma == pytest.approx(50.0, rel=0.03)
    same = unweighted & (liver.acquisition.te_ms == 45.0)
    first, second = liver.dwi[..., same].astype(float).transpose(3, 0, 1, 2)
    assert np.std(first - second) / np.sqrt(2) == pytest.approx(liver.sigma, rel=0.06)


def test_cells_shrink_and_the_smallest_are_missed(liver):
    section, placement = liver.section, liver.placement
    present = placement.present(np.column_stack([section.u_mm, section.v_mm]))
    area = np.pi / 4 * section.profile_um[present] ** 2 * 0.871**2
    np.testing.assert_allclose(liver.cells["area_um2"], area[area >= 10.0], rtol=1e-9)
    assert liver.lost == np.sum(~present) and liver.missed == np.sum(area < 10.0)
    assert len(section) == len(liver.cells) + liver.lost + liver.missed
    assert 0.03 < liver.lost / len(section) < 0.05
    assert area[area < 10.0].sum() < 0.003 * area.sum()
    assert abs(np.linalg.det(placement.matrix)) == pytest.approx(0.871**2)
    assert np.linalg.det(placement.matrix) < 0  # flipped
    assert liver.cells[["x_um", "y_um"]].min().min() > 0


def test_deformation_is_slight_and_has_no_affine_part(liver):
    moving, fixed = liver.landmarks(400)
    error = np.linalg.norm(Transform(liver.affine_truth()).points(moving) - fixed, axis=1)
    assert 0.03 < np.median(error) < error.max() < 0.3  # mm


@pytest.mark.parametrize(("orientation", "flipped"), [(0, False), (1, True), (2, False), (3, True)])
def test_cells_lie_where_the_transform_says(orientation, flipped):
    liver = simulate_liver(
        "necrotic", seed=9, area_mm2=30.0, flipped=flipped, orientation=orientation, physics="simple"
    )
    matrix = liver.affine_truth()
    assert np.linalg.det(matrix) > 0
    x, y = liver.cells["x_um"].to_numpy(), liver.cells["y_um"].to_numpy()
    world = np.column_stack([-x, -y, np.zeros_like(x)]) / 1000.0
    index = np.rint(
        np.linalg.solve(liver.affine, np.column_stack([Transform(matrix).points(world), np.ones_like(x)]).T)
    )
    assert np.all(index[2] == 2)
    area = liver.cells["area_um2"].to_numpy() / 0.871**2
    seen = np.zeros(liver.scan.shape[:2])
    np.add.at(seen, (index[0].astype(int), index[1].astype(int)), area / 386.0**2)
    truth = liver.truth["F"][:, :, 2]
    inner = (liver.truth["tissueFraction"][:, :, 2] == 1) & (seen > 0.1)  # lost tissue left out
    assert inner.sum() > 60
    # The plane is not the slab, deformation moves cells by up to half a voxel: not 1, but no other geometry comes near.
    assert np.corrcoef(seen[inner], truth[inner])[0, 1] > 0.85
    assert np.median(seen[inner] / truth[inner]) == pytest.approx(1.0, abs=0.06)


def test_groups_differ_as_they_should():
    livers = {
        g: simulate_liver(g, seed=3, area_mm2=16.0, physics="simple") for g in ("control", "infiltrated", "necrotic")
    }
    full = {g: liver.truth["tissueFraction"] == 1 for g, liver in livers.items()}
    size = {g: liver.truth["vCS"][full[g]] for g, liver in livers.items()}
    packing = {g: liver.truth["F"][full[g]] for g, liver in livers.items()}
    assert size["infiltrated"].min() < 16 < 20 < size["control"].min()
    assert packing["necrotic"].min() < 0.4 < 0.55 < packing["control"].min()
    for group in livers:
        assert np.all((packing[group] > 0.2) & (packing[group] < 0.85))
        assert np.all((size[group] > 11) & (size[group] < 30))


def test_the_same_seed_gives_the_same_liver_and_noise_does_not_change_tissue():
    first, second = (simulate_liver("control", seed=8, area_mm2=6.0, physics="simple") for _ in range(2))
    louder, other = (
        simulate_liver("control", seed=8, area_mm2=6.0, snr=20, physics="simple"),
        simulate_liver("control", seed=9, area_mm2=6, physics="simple"),
    )
    assert first.cells.equals(second.cells) and np.array_equal(first.dwi, second.dwi)
    assert first.cells.equals(louder.cells) and not np.array_equal(first.dwi, louder.dwi)
    assert len(first.cells) != len(other.cells)


def test_other_protocols_can_be_scanned():
    liver = simulate_liver(
        "control", seed=1, area_mm2=5.0, acquisition=Acquisition.preset("invivo-1.5t"), physics="simple"
    )
    assert liver.dwi.shape[-1] == 21 and np.all(np.isfinite(liver.dwi))


@pytest.mark.parametrize(
    "wrong", [{"group": "fatty"}, {"area_mm2": 0.5}, {"snr": 0.0}, {"snr": float("nan")}, {"shrinkage": 1.0}]
)
def test_impossible_livers_are_refused(wrong):
    with pytest.raises(InputError):
        simulate_liver(**{"group": "control", **wrong})
