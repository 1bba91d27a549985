"""A dictionary of spheres: each row holds the signals of its own parameters."""

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.mri import Acquisition
from histomri.simulation import simulate_permeable_spheres, simulate_sphere_signals

SHORT = Acquisition([0.0, 400.0, 1500.0], [4.0, 4.0, 4.0], [8.0, 8.0, 8.0])


def test_rows_follow_their_parameters():
    """Nearly without spheres, water is free: exp(-b D0E), whatever the other parameters are."""
    result = simulate_sphere_signals(
        SHORT, diameters_um=[6.0, 12.0], fractions=[0.001], d0i_um2_ms=[1.0], d0e_um2_ms=[0.8, 1.6], walkers=4000
    )
    assert result.parameters["vCS"].tolist() == [6.0, 6.0, 12.0, 12.0]
    expected = np.exp(-1e-3 * np.outer(result.parameters["D0E"], SHORT.b_smm2))
    # Four standard errors, and the bias of a finite time step.
    assert np.all(np.abs(result.signals - expected) <= 4 * result.standard_error + 2e-3)
    assert np.all(result.signals[:, 0] == 1.0)


def test_water_in_closed_spheres_is_the_fraction_that_high_b_leaves():
    """At a b that kills free water, what stays is the fraction inside, less what the small spheres themselves lose."""
    strong = Acquisition([8000.0], [1.0], [10.0])
    result = simulate_sphere_signals(
        strong, diameters_um=[3.0], fractions=[0.2, 0.5], d0i_um2_ms=[0.5], d0e_um2_ms=[3.0], walkers=3000, dt_ms=0.005
    )
    alone = simulate_permeable_spheres(
        strong, diameter_um=3.0, fraction=0.5, d0i_um2_ms=0.5, d0e_um2_ms=3.0, walkers=3000, dt_ms=0.005, seed=9
    ).intra[0]
    np.testing.assert_allclose(result.signals[:, 0], [0.2 * alone, 0.5 * alone], atol=0.035)  # binomial, 4 errors


def test_what_is_saved_is_what_a_dictionary_needs(tmp_path):
    result = simulate_sphere_signals(
        SHORT, diameters_um=[8.0, 10.0], fractions=[0.1, 0.3], walkers=100, permeabilities_um_s=[5.0]
    )
    files = result.save(tmp_path)
    assert [file.name for file in files] == ["signals.npy", "signals_se.npy", "params.csv", "params.json"]
    table = pd.read_csv(tmp_path / "params.csv")
    assert table.to_dict("list") == {"vCS": [8.0, 8.0, 10.0, 10.0], "fI": [0.1, 0.3, 0.1, 0.3]}
    np.testing.assert_array_equal(np.load(tmp_path / "signals.npy", allow_pickle=False), result.signals)
    again = simulate_sphere_signals(
        SHORT, diameters_um=[8.0, 10.0], fractions=[0.1, 0.3], walkers=100, permeabilities_um_s=[5.0]
    )
    np.testing.assert_array_equal(again.signals, result.signals)


@pytest.mark.parametrize("sizes", [[], [8.0, 8.0]])
def test_values_must_be_given_once(sizes):
    with pytest.raises(InputError, match="vCS needs one or more different values"):
        simulate_sphere_signals(SHORT, diameters_um=sizes, fractions=[0.1])
