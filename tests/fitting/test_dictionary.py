import numpy as np
import pytest
from scipy.stats import qmc

from histomri.core.errors import InputError
from histomri.fitting import Dictionary, fit, predict
from histomri.mri import Acquisition

MOUSE = Acquisition.preset("mouse-exvivo")
PAIR = MOUSE.select(MOUSE.te_ms == 45)
LOW, HIGH = np.array([0.1, 0.8, 8.0]), np.array([1.0, 2.6, 30.0])


@pytest.fixture(scope="module")
def spheres():
    places = LOW + qmc.Sobol(3, seed=3).random(256) * (HIGH - LOW)
    places = np.vstack([places, *(np.where([[i & 1, i & 2, i & 4]], HIGH, LOW) for i in range(8))])
    signals = predict("diff-in", dict(zip(("fI", "D0I", "vCS"), places.T)), PAIR)
    return Dictionary(("fI", "D0I", "vCS"), places, signals)


def test_interpolated_signals_are_those_of_the_formula(spheres, rng):
    values = rng.uniform(LOW + 0.05 * (HIGH - LOW), HIGH - 0.05 * (HIGH - LOW), (200, 3))
    exact = predict("diff-in", dict(zip(("fI", "D0I", "vCS"), values.T)), PAIR)
    assert np.abs(spheres.predict(values) - exact).max() < 4e-3
    np.testing.assert_allclose(spheres.predict(spheres.parameters), spheres.signals, atol=1e-8)


def test_a_dictionary_of_spheres_gives_what_the_formula_gives(spheres, rng):
    """At SNR 200 the interpolation error, 1e-3, is less than the noise."""
    truth = {"fI": rng.uniform(0.4, 0.8, 150), "D0I": rng.uniform(1.2, 2.2, 150), "vCS": rng.uniform(11, 17, 150)}
    signals = np.abs(80 * (predict("diff-in", truth, PAIR) + rng.standard_normal((150, len(PAIR))) / 200))
    given = {"sigma": 0.4, "s0": 80.0}
    ours = fit(signals, PAIR, spheres, **given)
    theirs = fit(signals, PAIR, "diff-in", bounds=dict(list(spheres.bounds.items())), **given)
    both = (ours.maps["exit"] == 1) & (theirs.maps["exit"] == 1)
    assert both.mean() > 0.9
    off = (ours.maps["vCS"] - theirs.maps["vCS"])[both] / theirs.maps["vCS_se"][both]
    assert np.median(np.abs(off)) < 0.5
    assert np.median(ours.maps["vCS_se"][both] / theirs.maps["vCS_se"][both]) == pytest.approx(1, abs=0.1)
    assert np.median(np.abs(ours.maps["cost"] - theirs.maps["cost"])) < 0.3
    np.testing.assert_allclose(ours.maps["CD"], 1e9 * ours.maps["F"] / ours.maps["vCS"] ** 3)
    np.testing.assert_allclose(ours.maps["BIC"], 3 * np.log(12) - 2 * ours.maps["logL"])


@pytest.mark.parametrize("noise", ["none", "rician"])
def test_other_objectives_and_codes(spheres, noise, rng):
    truth = {"fI": np.full(5, 0.6), "D0I": 1.6, "vCS": 14.0}
    signals = np.abs(predict("diff-in", truth, PAIR) + rng.standard_normal((5, len(PAIR))) / 300)
    signals[3], signals[4, 7] = 0, np.nan
    result = fit(signals, PAIR, spheres, s0=1.0, noise=noise, sigma=None if noise == "none" else 1 / 300)
    assert result.maps["exit"].tolist()[3:] == [0, -1] and np.all(result.maps["exit"][:3] > 0)
    np.testing.assert_allclose(result.maps["F"][:3], 0.6, atol=0.1)


def test_dictionaries_from_files(tmp_path, spheres):
    np.save(tmp_path / "s.npy", spheres.signals)
    np.save(tmp_path / "p.npy", spheres.parameters)
    one = Dictionary.load(tmp_path / "s.npy", tmp_path / "p.npy", names=("fI", "D0I", "vCS"))
    np.testing.assert_array_equal(one.signals, spheres.signals)
    assert Dictionary.load(tmp_path / "s.npy", tmp_path / "p.npy").names == ("p1", "p2", "p3")
    import pandas as pd

    table = pd.DataFrame(spheres.parameters, columns=["fI", "D0I", "vCS"])
    table[[f"s{i}" for i in range(len(PAIR))]] = spheres.signals
    table.to_csv(tmp_path / "both.csv", index=False)
    two = Dictionary.load(tmp_path / "both.csv")
    assert two.names == one.names
    np.testing.assert_allclose(two.signals, spheres.signals)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("fI", "D0I")}, "the names are"),
        ({"parameters": np.ones((264, 3))}, "all examples have the same fI"),
        ({"signals": np.ones((3, 20))}, "one row per example"),
        ({"signals": np.full((264, 20), np.nan)}, "not numbers"),
    ],
)
def test_impossible_dictionaries_are_refused(spheres, change, message):
    with pytest.raises(InputError, match=message):
        Dictionary(**{"names": spheres.names, "parameters": spheres.parameters, "signals": spheres.signals, **change})


def test_repeated_examples_other_protocols_and_lone_files_are_refused(tmp_path, spheres):
    twice = np.vstack([spheres.parameters, spheres.parameters[:1]])
    with pytest.raises(InputError, match="same parameters"):
        Dictionary(spheres.names, twice, np.vstack([spheres.signals, spheres.signals[:1]]))
    with pytest.raises(InputError, match="the protocol 50"):
        fit(np.ones((1, 50)), MOUSE, spheres)
    np.save(tmp_path / "s.npy", spheres.signals)
    with pytest.raises(InputError, match="without parameters"):
        Dictionary.load(tmp_path / "s.npy")
    (tmp_path / "bad.npy").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read"):
        Dictionary.load(tmp_path / "bad.npy")


def test_monte_carlo_of_permeable_spheres_becomes_a_model(real_data):
    """Walkers in packed permeable spheres: a dictionary of every second example tells the size of the others."""
    stored = np.load(real_data / "simulated_signals" / "joint_pgse_signals.npz")
    size, exchange = stored["d_um"], stored["Pm"]
    signals = stored["signal"].reshape(size.size, -1) / 27000
    b, delta, separation = (stored[name].ravel() for name in ("b_ms_um2", "delta_ms", "Delta_ms"))
    acquisition = Acquisition(1000 * b, delta, separation)
    places = np.stack([size, exchange], axis=1)
    known = np.isin(size, np.unique(size)[::2])
    dictionary = Dictionary(("vCS", "Pm"), places[known], signals[known])
    result = fit(signals[~known], acquisition, dictionary, bmin_smm2=0, s0=1.0)
    inside = exchange[~known] < 0.05
    assert np.sqrt(np.mean((result.maps["vCS"] - size[~known])[inside] ** 2)) < 1.0
