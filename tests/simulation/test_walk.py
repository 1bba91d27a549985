"""The walker against exact signals, tables of other walkers, and laws that any walk must obey."""

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.mri import Acquisition
from histomri.mri.acquisition import Waveform
from histomri.simulation import Lattice, Packed, Water, pack_spheres, sphere_diameters, walk, walk_permeabilities
from histomri.simulation.benchmarks.liver import read_walks
from histomri.simulation.walker.kernels import CROSSINGS, RECORD, SUMS

MOUSE = Acquisition.preset("mouse-exvivo")
WATER = Water(1.5, 2.0, 25.0)


def z_of(one, other):
    """Return the differences of the weighted volumes over their standard errors."""
    error = np.hypot(one.standard_error, other.standard_error)
    return (one.signals - other.signals)[error > 0] / error[error > 0]


def test_water_in_closed_spheres_has_the_exact_signal(reference):
    """Exact, not in the Gaussian phase approximation, which is off by up to 0.038 here."""
    table = pd.read_csv(reference / "sphere_pgse_reference.csv")
    table = table[table["b_smm2"] > 0]
    rows = table.groupby(["L_um", "D0_um2ms"]).head(6).groupby(["L_um", "D0_um2ms"])
    worst = []
    for (size, diffusivity), part in list(rows)[::4]:
        protocol = Acquisition(part["b_smm2"], part["delta_ms"], part["Delta_ms"])
        found = walk(Lattice(size, 0.5), [protocol], Water(diffusivity, 2.0), walkers=4000, seed=5)[0][0]
        away = np.abs(found.intra - part["S_exact"].to_numpy())
        # Three standard errors, and 0.003 for the steps beside the membrane.
        assert np.all(away < 3.0 * found.intra_error + 0.003), (size, diffusivity)
        worst.append(float(np.max(np.abs(part["S_exact"] - part["S_gpa"]))))
    assert len(worst) >= 3 and max(worst) > 0.003  # the approximation would fail


@pytest.mark.parametrize(
    ("random", "size", "fraction", "cv", "kappa"), [(0, 24, 0.5, 0, 25), (1, 16, 0.6, 0, 0), (1, 16, 0.6, 0, 50)]
)
def test_three_protocols_at_once_match_tables_of_another_walker(random, size, fraction, cv, kappa):
    names = ("mouse-exvivo", "invivo-3t", "invivo-1.5t")
    rng = np.random.default_rng(2)
    diameters = sphere_diameters(400, vcs_um=size, cv=cv, rng=rng, distribution="gamma")
    tissue = Packed(pack_spheres(diameters, fraction, seed=2)) if random else Lattice(size, fraction)
    z, away = [], []
    for name, found in zip(names, walk(tissue, [Acquisition.preset(name) for name in names], Water(1.0, 1.6, kappa),
                                       walkers=6000, seed=4)[0]):  # fmt: skip
        table, signals, errors = walks_of(name)
        alike = (table["random"] == random) & (table["vCS_um"] == size) & (table["kappa_um_s"] == kappa)
        row = np.flatnonzero(alike & ((table["F"] - fraction).abs() < 0.002) & (table["cv"] == cv))[0]
        error = np.hypot(found.standard_error, errors[row])
        away.append((found.signals - signals[row])[error > 1e-6])
        z.append(away[-1] / error[error > 1e-6])
    # The volumes of a protocol share their walkers, so there are only a few independent differences among them.
    assert np.sqrt(np.mean(np.concatenate(z) ** 2)) < 2.0
    assert np.max(np.abs(np.concatenate(z))) < 4.0
    assert abs(np.mean(np.concatenate(away))) < 0.005


def walks_of(name):
    table = read_walks(name)
    number = len(Acquisition.preset(name))
    return table, *(table[[f"{what}{i}" for i in range(number)]].to_numpy(float) for what in ("s", "se"))


@pytest.mark.parametrize(("size", "lowest"), [(10.0, 0.5), (22.0, 0.8)])
def test_other_permeabilities_from_the_same_paths(size, lowest):
    """The weighted paths against walks of their own; and an effective share as small cells and long times allow."""
    tissue = Lattice(size, 0.4)
    first, *others = walk(tissue, [MOUSE], WATER, also=[Water(1.5, 2.0, 10.0), Water(1.5, 2.0, 40.0)], walkers=8000)
    assert first[0].effective_share == 1.0
    for kappa, (found,) in zip((10.0, 40.0), others):
        own = walk(tissue, [MOUSE], Water(1.5, 2.0, kappa), walkers=8000, seed=9)[0][0]
        assert np.max(np.abs(z_of(found, own))) < 3.5
        assert lowest < found.effective_share < 1.0
        # What is lost of the walkers shows in the standard errors.
        assert np.all(found.standard_error[1:10] > 0.97 * own.standard_error[1:10])


def test_a_permeability_that_the_paths_do_not_reach_is_refused_or_walked():
    tissue, asked = Lattice(8.0, 0.52), (5.0, 50.0)
    with pytest.raises(InputError, match=r"say too little about 50 µm/s.*walk it on its own.*under 0.3"):
        walk(tissue, [Acquisition.preset("invivo-1.5t")], Water(1.5, 2.0, 5.0), also=[Water(1.5, 2.0, 50.0)],
             walkers=1000)  # fmt: skip
    found = walk_permeabilities(tissue, [MOUSE], WATER, asked, walkers=1000, enough=0.9)
    assert [one[0].effective_share for one in found] == [1.0, 1.0]


def test_standard_errors_are_those_of_repeated_walks():
    """Mean squared deviation over mean squared error: a chi-square of 40 walks over its degrees of freedom."""
    waters = [Water(1.5, 2.0, 10.0), Water(1.5, 2.0, 40.0)]
    many = [walk(Lattice(16.0, 0.4), [MOUSE], WATER, also=waters, walkers=1000, seed=seed) for seed in range(40)]
    for c in range(3):
        signals = np.array([one[c][0].signals[[3, 9, 35]] for one in many])
        errors = np.array([one[c][0].standard_error[[3, 9, 35]] for one in many])
        ratio = signals.var(axis=0, ddof=1) / np.mean(errors**2, axis=0)
        assert np.all((ratio > 0.45) & (ratio < 1.85))  # 99.9 % of chi-square of 39 over 39


def test_water_crosses_as_often_as_balance_asks():
    """In balance the flux through a membrane is kappa times its surface: a count without any diffusion signal."""
    tissue, walkers, time_ms = Lattice(16.0, 0.4), 4000, 60.0
    compiled, shape = tissue.compiled
    records = np.empty((walkers, 2, RECORD))
    medium = (0.025, np.sqrt(1.2), np.sqrt(2.2))
    compiled(0, walkers, round(0.4 * walkers), np.uint64(3), np.array([time_ms]), shape, medium, 1.0, 0.08, records)
    surface = 6.0 * 0.4 / 16.0  # of the spheres, per volume
    expected = 2.0 * 0.025 * surface * time_ms  # per walker, in both directions
    crossings, local = records[:, 1, CROSSINGS - SUMS], records[:, 1, CROSSINGS - SUMS + 1]
    assert crossings.mean() == pytest.approx(expected, abs=4.0 * crossings.std() / np.sqrt(walkers))
    # The local time over D is crossings over kappa, with less noise: 1 % for the finite steps.
    assert 0.025 * local.mean() == pytest.approx(expected, rel=0.01, abs=4.0 * 0.025 * local.std() / np.sqrt(walkers))
    inside = records[:, 1, 5] / time_ms
    assert inside.mean() == pytest.approx(0.4, abs=4.0 * inside.std() / np.sqrt(walkers))


@pytest.mark.parametrize("kappa", [0.0, 50.0])
def test_equal_t2_is_a_factor_and_unequal_t2_a_mixture(kappa):
    short = MOUSE.select(np.arange(0, 50, 9))
    same, split = walk(Lattice(20.0, 0.5), [short], Water(1.5, 2.0, kappa, 28.0, 28.0),
                       also=[Water(1.5, 2.0, kappa, 21.0, 42.0)], walkers=4000)  # fmt: skip
    plain = walk(Lattice(20.0, 0.5), [short], Water(1.5, 2.0, kappa), walkers=4000)[0][0]
    ratio = same[0].signals / np.exp(-short.te_ms / 28.0)
    np.testing.assert_allclose(ratio, plain.signals, atol=4.0 * np.hypot(plain.standard_error, 0.004).max())
    if kappa == 0:  # then no water changes sides, and the compartments only add up
        np.testing.assert_allclose(split[0].intra / np.exp(-short.te_ms / 21.0), same[0].intra * np.exp(
            short.te_ms / 28.0), rtol=1e-9)  # fmt: skip
        expected = 0.5 * np.exp(-short.te_ms[0] / 21.0) + 0.5 * np.exp(-short.te_ms[0] / 42.0)
        assert split[0].signals[0] == pytest.approx(expected, rel=1e-9)
    else:  # exchange brings the decays of the two sides together
        assert split[0].intra[0] > np.exp(-short.te_ms[0] / 21.0) * 1.02


def test_two_t2_match_tables_of_another_walker(data):
    table = pd.read_csv(data / "mri" / "twoT2.csv")
    for row in table.to_dict("records"):
        protocol = Acquisition.preset(row["protocol"])
        water = Water(row["D0I"], row["D0E"], 0.0, row["T2I"], row["T2E"])
        found = walk(Lattice(row["L"], row["F"]), [protocol], water, walkers=6000, seed=2)[0][0]
        expected = np.array([row[f"s{i}"] for i in range(len(protocol))])
        # The table has 30,000 walkers: half the error of these; four errors of the difference.
        limit = 4.0 * 1.1 * found.standard_error.max() / found.signals[0]
        np.testing.assert_allclose(found.signals / found.signals[0], expected, atol=limit)


def test_a_waveform_spelt_out_is_the_same_pulse_pair():
    pair = Acquisition([1500.0], [10.0], [30.0])
    pieces = Acquisition([1500.0], [10.0], [30.0], None, [
        Waveform((0.0, 4.0, 30.0), (4.0, 6.0, 10.0), (1.0, 1.0, -1.0))])  # fmt: skip
    one, two = (walk(Lattice(16.0, 0.4), [each], WATER, walkers=4000)[0][0] for each in (pair, pieces))
    assert abs(one.signals[0] - two.signals[0]) < 4.0 * np.hypot(one.standard_error[0], two.standard_error[0])


def test_results_do_not_depend_on_the_number_of_threads():
    one, three = (walk(Lattice(12.0, 0.4), [MOUSE], WATER, walkers=1100, jobs=jobs)[0][0] for jobs in (1, 3))
    np.testing.assert_array_equal(one.signals, three.signals)
    np.testing.assert_array_equal(one.standard_error, three.standard_error)


@pytest.mark.parametrize(
    ("protocol", "water", "message"),
    [
        (MOUSE, {"t2i_ms": 20.0}, "T2 is given for one side"),
        (MOUSE, {"t2i_ms": 0.0, "t2e_ms": 30.0}, "no relaxation time"),
        (MOUSE, {"permeability_um_s": -1.0}, "0 or more"),
        (MOUSE, {"d0i_um2_ms": 0.0}, "no diffusivity"),
        (Acquisition([0.0], [0.0], [0.0]), {}, "no gradients"),
        # A volume that counts as b = 0 may have gradients too, which the protocol alone does not check.
        (Acquisition([5.0, 500.0], 10, 30, [35.0, 45.0]), {"t2i_ms": 20.0, "t2e_ms": 30.0}, "shorter than the gradie"),
        (Acquisition([500.0], [10.0], [30.0]), {"t2i_ms": 20.0, "t2e_ms": 30.0}, "needs echo times"),
    ],
)
def test_what_cannot_be_walked_is_refused(protocol, water, message):
    with pytest.raises(InputError, match=message):
        walk(Lattice(12.0, 0.4), [protocol], Water(**{"d0i_um2_ms": 1.5, "d0e_um2_ms": 2.0, **water}), walkers=200)


def test_steps_that_are_too_coarse_are_refused():
    with pytest.raises(InputError, match="too coarse"):
        walk(Lattice(12.0, 0.4), [MOUSE], WATER, walkers=200, fine=0.5)
