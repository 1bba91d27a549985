"""The library of walked signals against walks that it was not made from, and what realistic tissue is made of."""

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.core.presets import PRESET_NAMES
from histomri.mri import Acquisition
from histomri.simulation import Packed, Realism, Water, pack_spheres, simulate_liver, sphere_diameters, walk
from histomri.simulation.library import RANGES, PackedTissue, about, walked_signals
from histomri.simulation.realism import Artefacts
from histomri.simulation.signals import spoil

# vCS, F, CV, D0I, D0E, kappa, T2I, T2E
TISSUES = [
    (15.0, 0.58, 0.2, 1.15, 2.0, 15.0, 26.0, 36.4),
    (27.0, 0.53, 0.22, 1.4, 2.0, 0.0, 26.0, 26.0),
    (20.0, 0.3, 0.15, 1.9, 2.5, 35.0, 50.0, 90.0),
]


def tissue_of(vcs, fraction, cv, d0i, d0e, kappa, t2i, t2e):
    columns = (np.array([value]) for value in (fraction, cv, vcs, d0i, d0e, kappa))
    return PackedTissue(*columns, t2i, t2e)


@pytest.mark.parametrize("values", TISSUES)
def test_signals_are_those_of_a_walk(values):
    vcs, fraction, cv, d0i, d0e, kappa, t2i, t2e = values
    protocols = [Acquisition.preset(name) for name in PRESET_NAMES]
    rng = np.random.default_rng(12)
    packing = pack_spheres(sphere_diameters(400, vcs_um=vcs, cv=cv, rng=rng, largest=None), fraction, seed=12)
    walked = walk(Packed(packing), protocols, Water(d0i, d0e, kappa, t2i, t2e), walkers=6000, seed=12)[0]
    for protocol, found in zip(protocols, walked):
        library = walked_signals(tissue_of(*values), protocol)[0]
        away = (library - found.signals) / np.exp(-protocol.te_ms / t2e)
        error = found.standard_error / np.exp(-protocol.te_ms / t2e)
        # Relative to b = 0. The library itself is right to 0.003 (rms, see below); three of both.
        assert np.all(np.abs(away) < 3.0 * np.hypot(error, 0.003)), np.abs(away).max()
        assert abs(np.mean(away)) < 0.006


def test_the_library_says_how_well_it_agrees_with_other_walks():
    for name in PRESET_NAMES:
        agreement = about()[name]
        # What is left when the noise of the walks that test it is taken off.
        assert agreement["rms"] ** 2 - agreement["rms_of_the_walks"] ** 2 < 0.0036**2
        assert abs(agreement["bias"]) < 0.001


def test_what_was_not_walked_is_refused():
    good = dict(zip(("vcs", "fraction", "cv", "d0i", "d0e", "kappa", "t2i", "t2e"), TISSUES[0]))
    for name, value, message in (
        ("vcs", 5.0, "vcs_um of 5 to 5 is beyond what was walked, 10 to 36"), ("fraction", 0.7, "fraction"),
        ("kappa", 80.0, "permeability"), ("t2e", 20.0, "rate_difference"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            walked_signals(tissue_of(**{**good, name: value}), Acquisition.preset("invivo-3t"))
    with pytest.raises(InputError, match="protocols of the presets alone"):
        walked_signals(tissue_of(**good), Acquisition([500.0], [10.0], [30.0], [50.0]))
    assert RANGES["fraction"][1] == 0.61


def test_t2_and_membranes_change_the_images_and_not_the_section():
    base, leaky, split = (
        simulate_liver("control", seed=5, area_mm2=6.0, snr=1e6, realism=realism)
        for realism in (Realism(), Realism(permeability_um_s=45.0), Realism(t2_ratio=2.0))
    )
    for other in (leaky, split):
        np.testing.assert_array_equal(other.cells, base.cells)
        np.testing.assert_array_equal(other.truth["F"], base.truth["F"])
    inside = base.mask & (base.truth["tissueFraction"] == 1.0)
    b = base.acquisition.b_smm2
    strong, none = (
        np.array([liver.dwi[inside][:, volume].mean() for liver in (base, leaky, split)])
        for volume in (np.flatnonzero(b > 2700)[0], np.flatnonzero(b == 0)[-1])
    )
    assert strong[1] < 0.93 * strong[0]  # leaky cells hold their water less
    assert none[2] > 1.2 * none[0]  # the water outside lives longer, at the longest echo time most


def test_artefacts_are_where_the_truth_says(rng):
    still = np.ones((6, 8, 3, 10)) * np.linspace(1.0, 2.0, 6)[:, None, None, None]
    weighted, slices, size = np.arange(2, 10), np.array([1, 2]), np.array([0.5, 0.5, 2.0])
    spoilt, record = spoil(still, weighted, size, slices, Artefacts(dropouts=3), rng)
    for volume, place, factor in record["Dropouts"]:
        np.testing.assert_allclose(spoilt[:, :, place, volume], factor * still[:, :, place, volume])
        assert volume >= 2 and 0.3 <= factor <= 0.7
    changed = {(m, k) for m in range(10) for k in range(3) if np.any(spoilt[:, :, k, m] != still[:, :, k, m])}
    assert changed == {(int(m), int(k)) for m, k, _ in record["Dropouts"]}
    moved, record = spoil(still, weighted, size, slices, Artefacts(motion_mm=0.2), rng)
    for volume, (i, _) in enumerate(record["MotionMm"]):
        # Along a ramp of 0.2 per voxel, a shift of a millimetre is one of 0.4; the rim is held.
        np.testing.assert_allclose(moved[2:4, :, :, volume] - still[2:4, :, :, volume], -0.4 * i, atol=1e-9)
    with pytest.raises(InputError, match="9 volumes cannot drop out of 8"):
        spoil(still, weighted, size, slices, Artefacts(dropouts=9), rng)


@pytest.mark.parametrize(
    "wrong", [{"thickness_um": -1.0}, {"permeability_um_s": 60.0}, {"t2_ratio": 0.5}, {"artefacts": Artefacts(-1)}]
)
def test_details_out_of_range_are_refused(wrong):
    with pytest.raises(InputError):
        Realism(**wrong)
