"""Random walks against formulas where there are some, and against reference simulations where there are none."""

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.mri import Acquisition
from histomri.simulation import simulate_permeable_spheres

BOTH = Acquisition([100.0, 1200.0], [5.2, 18.2], [29.0, 31.8])
SHORT = Acquisition([0.0, 400.0, 1500.0], [4.0, 4.0, 4.0], [8.0, 8.0, 8.0])


LONG = [(16, 0.0), (16, 50.0), (8, 25.0), (22, 25.0), (30, 25.0)]


@pytest.mark.parametrize("row", [(16, 25.0), *(pytest.param(row, marks=pytest.mark.slow) for row in LONG)])
def test_signals_match_the_reference(reference, row):
    table = pd.read_csv(reference / "mc_permeable_reference.csv")
    size, kappa = row
    rows = table[(table["L_um"] == size) & (table["kappa_um_per_s"] == kappa) & (table["dt_ms"] == 0.02)]
    first = rows.iloc[0]
    result = simulate_permeable_spheres(
        BOTH, diameter_um=size, fraction=first["F_exact"], d0i_um2_ms=first["D_in"], d0e_um2_ms=first["D_ex"],
        permeability_um_s=kappa, walkers=40_000 if row in LONG else 4_000, seed=1,
    )  # fmt: skip
    for name, value, error in (
        ("total", result.signals, result.standard_error),
        ("seeded_in", result.intra, result.intra_error),
        ("seeded_ex", result.extra, result.extra_error),
    ):
        column = {"total": "SE_total", "seeded_in": "SE_in", "seeded_ex": "SE_ex"}[name]
        spread = np.hypot(error, rows[column])
        # Four standard errors of the difference, and the bias of a finite time step.
        assert np.all(np.abs(value - rows[f"S_{name}"].to_numpy()) < 4 * spread + 5e-4), name
    assert result.fraction_end == pytest.approx(result.fraction_start, abs=0.025)


def test_without_obstacles_diffusion_is_free():
    result = simulate_permeable_spheres(
        SHORT, diameter_um=6.0, fraction=0.001, d0i_um2_ms=1.0, d0e_um2_ms=1.6, walkers=8_000, seed=2
    )
    expected = np.exp(-1.6e-3 * SHORT.b_smm2)
    np.testing.assert_allclose(result.signals, expected, atol=4 * result.standard_error.max() + 2e-3)
    assert result.signals[0] == 1.0


def test_closed_spheres_keep_their_water_and_the_seed_decides():
    settings = {"diameter_um": 10.0, "fraction": 0.5, "d0i_um2_ms": 1.5, "d0e_um2_ms": 2.0, "walkers": 1000}
    first, second = (simulate_permeable_spheres(SHORT, **settings, seed=3) for _ in range(2))
    assert first.fraction_start == first.fraction_end
    np.testing.assert_array_equal(first.signals, second.signals)
    assert np.any(first.signals != simulate_permeable_spheres(SHORT, **settings, seed=4).signals)


@pytest.mark.parametrize(
    "wrong",
    [{"fraction": 0.6}, {"diameter_um": 0.0}, {"permeability_um_s": -1.0}, {"walkers": 3}, {"fine": 0.5}],
)
def test_impossible_simulations_are_refused(wrong):
    settings = {"diameter_um": 10.0, "fraction": 0.5, "d0i_um2_ms": 1.5, "d0e_um2_ms": 2.0, **wrong}
    with pytest.raises(InputError):
        simulate_permeable_spheres(SHORT, **settings)
