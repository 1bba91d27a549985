"""Fits of regions against the truth, and numbers of cells against counted spheres."""

import numpy as np
import pandas as pd
import pytest

from histomri.fitting import fit, predict
from histomri.fitting.regions import RegionFits, fit_means
from histomri.fitting.results import number_density
from histomri.mri import Acquisition, Labels, mean_of_labels


def test_intervals_of_regions_hold_the_truth(rng):
    # 120 regions of 100 voxels at SNR 30: 95 % intervals hold the truth in 95 ± 2 %; fI is near no bound.
    protocol, regions = Acquisition.preset("mouse-exvivo"), 120
    labels = Labels(np.repeat(np.arange(1, regions + 1), 100).reshape(regions, 100, 1), {}, ())
    clean = predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 18.0}, protocol)[0] * np.exp(-protocol.te_ms / 40)
    noise = np.exp(-31 / 40) / 30 * rng.standard_normal((2, regions * 100, len(protocol)))
    means = mean_of_labels(np.hypot(clean + noise[0], noise[1]), np.exp(-31 / 40) / 30, labels, labels.image > 0)

    def one(signals, acquisition, **how):
        return fit(signals, acquisition, "diff-in", strategy="whole", robust="none", s0=1.0, t2t=40.0, **how)

    result = fit_means(means, protocol, one)
    table = RegionFits(means, (("Diff-in", result),)).to_pandas()
    for column, error, truth in (
        ("vCS_um", "vCS_se_um", 18),
        ("F", "F_se", 0.6),
        ("CDsphere_mm3", "CDsphere_se_mm3", 0),
    ):
        truth = truth or 6e9 * 0.6 / np.pi / 18**3
        away = (table[column] - truth) / table[error]
        assert 0.89 <= np.mean(np.abs(away) < 1.96) <= 1.0, column
        assert abs(away.mean()) < 0.4, column  # 4 standard errors of the mean
    assert table["pMisfit"].lt(0.01).mean() < 0.06 and table["n_voxels"].eq(100).all()
    # Tenfold fewer errors than of single voxels, of which a mean has 100.
    single = fit(means.signals[:1], protocol, "diff-in", strategy="whole", s0=1.0, t2t=40.0, sigma=means.sigma[0] * 10)
    assert table["vCS_se_um"][0] == pytest.approx(single.maps["vCS_se"][0] / 10, rel=0.15)


def test_a_volume_that_is_left_out_of_a_region_is_not_fitted(rng):
    protocol = Acquisition.preset("mouse-exvivo")
    clean = predict("diff-in", {"fI": [0.6, 0.5], "D0I": 1.5, "vCS": [18.0, 14.0]}, protocol)
    clean[:, protocol.is_b0] = 1
    means = mean_of_labels(clean, 1e-3, Labels(np.array([[[1, 2]]]), {2: "liver"}, ()), np.ones((1, 1, 2), bool))
    means.kept[0, 9] = False
    means.signals[0, 9] *= 0.3
    result = fit_means(means, protocol, lambda y, a, **how: fit(y, a, "diff-in", strategy="whole", **how))
    np.testing.assert_allclose(result.maps["vCS"], [18, 14], rtol=1e-3)
    table = RegionFits(means, (("Diff-in", result),)).to_pandas()
    assert table["measurements"].tolist() == [29, 30] and table["name"].tolist() == ["", "liver"]
    assert table["dof"].tolist() == [26, 27]


@pytest.mark.parametrize("cv", [0.0, 0.2, 0.35])
def test_numbers_of_cells_are_those_that_were_put_into_the_tissue(rng, cv):
    spread = np.sqrt(np.log1p(cv**2))
    diameters = 15 * rng.lognormal(-(spread**2) / 2, spread, 2_000_000)
    volume = np.sum(np.pi / 6 * diameters**3) / 0.6  # µm³ of tissue of which 0.6 is cells
    vcs = (np.mean(diameters**7) / np.mean(diameters**3)) ** 0.25
    sphere = 6e9 * 0.6 / np.pi / vcs**3
    found = number_density({"CDsphere": np.array([sphere]), "CDsphere_se": np.array([0.1 * sphere])}, cv, 0.02)
    # The seventh moment of two million lognormal diameters of CV 0.35 scatters by 2 %.
    assert found["cellNV"][0] == pytest.approx(1e9 * diameters.size / volume, rel=0.005 if cv < 0.3 else 0.06)
    step = [number_density({"CDsphere": np.array([sphere])}, cv + x)["cellNV"][0] for x in (-1e-4, 1e-4)]
    slope = (step[1] - step[0]) / 2e-4 if cv else 0.0
    assert found["cellNV_se"][0] == pytest.approx(np.hypot(0.1 * found["cellNV"][0], 0.02 * slope), rel=1e-4)


def test_density_maps_differ_by_the_volume_of_a_sphere():
    maps = fit(predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 18.0}, "mouse-exvivo"), "mouse-exvivo", s0=1.0).maps
    cube = 18.0**3
    assert maps["CD"][0] == pytest.approx(1e9 * 0.6 / cube, rel=1e-3)
    assert maps["CDsphere"][0] == pytest.approx(1e9 * 0.6 / (np.pi / 6 * cube), rel=1e-3)


def test_tables_of_several_models_have_the_parameters_of_all(rng):
    protocol = Acquisition.preset("mouse-exvivo")
    clean = predict("diff-in-ex", {"fI": 0.6, "D0I": 1.5, "vCS": 18.0, "DEinf": 1.2}, protocol)
    clean[:, protocol.is_b0] = 1
    means = mean_of_labels(clean, 1e-3, Labels(np.array([[[4]]]), {}, ()), np.ones((1, 1, 1), bool))
    fits = tuple(
        (m, fit_means(means, protocol, lambda y, a, m=m, **how: fit(y, a, m, **how))) for m in ("diff-in", "diff-in-ex")
    )
    table = RegionFits(means, fits).to_pandas()
    assert table["model"].tolist() == ["diff-in", "diff-in-ex"]
    assert pd.isna(table["DEinf_um2_ms"][0]) and table["DEinf_um2_ms"][1] == pytest.approx(1.2, rel=1e-3)
