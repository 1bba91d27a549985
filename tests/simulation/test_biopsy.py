"""A core and a scan of one tumour: each, read by an independent formula, gives the truth that is said of it."""

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.mri import Acquisition
from histomri.simulation import Tumour, simulate_biopsy, write_paper_study
from histomri.simulation.biopsy import CORE_MM, SHRINKAGE

TUMOUR = Tumour(mean_um=16.0, cv=0.17, fraction=0.6, vascular=0.1, d0i_um2_ms=1.5)


@pytest.fixture(scope="module")
def biopsy():
    return simulate_biopsy(TUMOUR, Acquisition.preset("invivo-3t"), snr=1e6, seed=4, physics="simple")


def test_the_truth_is_that_of_lognormal_spheres(biopsy):
    # Fields vary by a few percent around the tumour's means; vCS = m (1 + c²)^4.5 and <D³> = m³ (1 + c²)³.
    assert biopsy.truth["vCS_um"] == pytest.approx(16 * (1 + 0.17**2) ** 4.5, rel=0.05)
    assert biopsy.truth["F"] == pytest.approx(0.9 * 0.6, rel=0.06)
    volume = np.pi / 6 * 16**3 * (1 + 0.17**2) ** 3
    assert biopsy.truth["CD_mm3"] == pytest.approx(1e9 * 0.54 / volume, rel=0.2)


def test_the_core_shows_the_truth(biopsy):
    """Area fraction equals volume fraction (Delesse), and the moments of profiles of thin cuts give vCS exactly."""
    size = np.sqrt(4 * biopsy.cells["area_um2"] / np.pi) / (1 - SHRINKAGE)
    # (35/24 <l^6>/<l^2>)^(1/4), whatever the distribution; 1 % for some 10,000 profiles.
    assert (35 / 24 * (size**6).mean() / (size**2).mean()) ** 0.25 == pytest.approx(biopsy.truth["vCS_um"], rel=0.06)
    area = 1e6 * np.prod(CORE_MM) * (1 - SHRINKAGE) ** 2
    assert biopsy.cells["area_um2"].sum() / area == pytest.approx(biopsy.truth["F"], rel=0.08)


def test_the_scan_shows_vessels_and_restricted_cells(biopsy):
    acquisition = Acquisition.preset("invivo-3t")
    mean = biopsy.dwi[biopsy.mask].mean(axis=0)
    shortest = acquisition.te_ms == 75
    at = {b: mean[shortest & (acquisition.b_smm2 == b)][0] for b in (0, 100, 400, 1500)}
    # Blood (25 µm²/ms) is gone at b = 100: what is lost up to there is mostly its part, more of it at 75 ms than at 0.
    blood = 0.1 * np.exp(-75 / 180)
    tissue = 0.9 * np.exp(-75 / 60)
    lost = 1 - at[100] / at[0]
    assert blood / (blood + tissue) * (1 - np.exp(-2.5)) < lost < blood / (blood + tissue) + 0.15
    # Free water of 1.5 µm²/ms would have fallen to 0.19 between 400 and 1500; cells hold it back.
    assert at[1500] / at[400] > 0.3
    assert biopsy.sigma == pytest.approx(at[0] / 1e6, rel=0.2)


def test_the_same_seed_gives_the_same_biopsy():
    one, other = (
        simulate_biopsy(TUMOUR, Acquisition.preset("invivo-1.5t"), seed=9, physics="simple") for _ in range(2)
    )
    np.testing.assert_array_equal(one.dwi, other.dwi)
    assert one.cells.equals(other.cells)
    assert not one.cells.equals(
        simulate_biopsy(TUMOUR, Acquisition.preset("invivo-1.5t"), seed=8, physics="simple").cells
    )


def test_too_few_samples_are_refused(tmp_path):
    for wrong in ({"mice": 1}, {"biopsies": 0}):
        with pytest.raises(InputError, match="two mice and two biopsies"):
            write_paper_study(tmp_path / "study", **wrong)
    assert not (tmp_path / "study").exists()
