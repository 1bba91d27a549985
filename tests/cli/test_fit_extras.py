"""What `histomri fit` writes besides its maps, `histomri crlb`, and dictionaries, as users type them."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from histomri.core.images import read_sidecar
from histomri.fitting import predict
from histomri.mri import Acquisition

AFFINE = np.diag([0.4, 0.4, 2.0, 1.0])
SHAPE = (7, 9, 1)
MOUSE = Acquisition.preset("mouse-exvivo")
SIGMA = 4.0


@pytest.fixture
def scan(tmp_path, rng):
    """Spheres of 14 µm, a fraction that grows along i, noise of 4 on signals of 1000; the last row is background."""
    fraction = np.broadcast_to(np.linspace(0.4, 0.8, 7)[:, None, None], SHAPE).ravel()
    clean = 1000 * predict("diff-in", {"fI": fraction, "D0I": 1.6, "vCS": 14.0}, MOUSE)
    clean[:, MOUSE.is_b0] = 1000
    noise = SIGMA * rng.standard_normal((2, *clean.shape))
    signals = np.hypot(clean + noise[0], noise[1]).reshape(*SHAPE, 50)
    signals[-1] = 0
    nib.save(nib.Nifti1Image(signals.astype(np.float32), AFFINE), tmp_path / "dwi.nii.gz")
    return tmp_path, fraction.reshape(SHAPE)


def _read(path):
    return nib.load(path).get_fdata()


def test_two_strategies_in_one_run_are_those_of_two_runs(run, scan):
    folder, _ = scan
    base = ("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--sigma", SIGMA)
    assert run(*base, "--strategy", "whole", "--strategy", "high-b", "-o", folder / "both").exit_code == 0
    for strategy in ("whole", "high-b"):
        assert run(*base, "--strategy", strategy, "-o", folder / "one").exit_code == 0
        for path in sorted((folder / "one").glob("*.nii.gz")):
            np.testing.assert_array_equal(_read(path), _read(folder / "both" / strategy / path.name))
            assert read_sidecar(folder / "both" / strategy / path.name)["Strategy"] == strategy
            path.unlink()
            path.with_name(path.name.replace(".nii.gz", ".json")).unlink()


def test_the_bic_of_the_paper_has_the_likelihood_once(run, scan):
    folder, _ = scan
    base = ("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--sigma", SIGMA)
    for bic in ("schwarz", "paper"):
        assert run(*base, "--bic", bic, "--strategy", "whole", "-o", folder / bic).exit_code == 0
        assert read_sidecar(folder / bic / "model-diffin_param-BIC_dwimap.nii.gz")["BICDefinition"] == bic
    one, two = (_read(folder / bic / "model-diffin_param-BIC_dwimap.nii.gz") for bic in ("schwarz", "paper"))
    likelihood = _read(folder / "paper" / "model-diffin_param-logL_dwimap.nii.gz")
    np.testing.assert_allclose(two - one, likelihood, rtol=1e-5, atol=1e-4)  # maps are of single precision


def test_residuals_are_the_noise_and_the_bootstrap_its_effect(run, scan):
    folder, _ = scan
    out = folder / "out"
    result = run("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--sigma", SIGMA, "--residuals",
                 "--bootstrap", 60, "--crlb", "--sub", "m1", "-o", out, "--model", "diff-in",
                 "--strategy", "whole")  # fmt: skip
    assert result.exit_code == 0, result.output
    volumes = nib.load(out / "sub-m1_model-diffin_param-residual_desc-volumes_dwimap.nii.gz")
    assert volumes.shape == (*SHAPE, 30)
    left = volumes.get_fdata()
    assert np.isnan(left[-1]).all() and np.isfinite(left[:-1]).all()
    # 27 of 30 degrees of freedom are left of the noise, 0.4 % of the signal; what is divided by scatters too.
    assert np.sqrt((left[:-1] ** 2).mean()) == pytest.approx(0.004 * np.sqrt(27 / 30), rel=0.05)
    assert len(read_sidecar(volumes.get_filename())["BValues"]) == 30
    rms = _read(out / "sub-m1_model-diffin_param-residual_stat-rms_dwimap.nii.gz")
    np.testing.assert_allclose(rms, np.sqrt((left**2).mean(axis=-1)), rtol=1e-5)
    table = pd.read_csv(out / "sub-m1_model-diffin_residuals.csv")
    assert len(table) == 30 and set(table.n) == {54} and table.z_sd.mean() == pytest.approx(0.95, abs=0.08)
    name = out / "sub-m1_model-diffin_param-vCS_stat-{}_dwimap.nii.gz"
    spread, error = (_read(str(name).format(stat))[:-1] for stat in ("bootse", "se"))
    assert np.median(spread / error) == pytest.approx(1, abs=0.15)
    low, high = (_read(str(name).format(stat))[:-1] for stat in ("low", "high"))
    assert 0.85 < np.mean((low < 14) & (high > 14)) < 1
    assert "97.5 percentile" in read_sidecar(str(name).format("high"))["Description"]
    assert pd.read_csv(out / "crlb.csv").snr[0] == pytest.approx(250, rel=0.02)


def test_a_dictionary_is_fitted_like_a_model(run, scan, rng):
    folder, fraction = scan
    places = np.array([(f, d, s) for f in (0.3, 0.5, 0.7, 0.9) for d in (1.2, 1.5, 1.8, 2.1) for s in range(10, 20, 2)])
    np.save(folder / "s.npy", predict("diff-in", dict(zip(("fI", "D0I", "vCS"), places.T)), MOUSE))
    np.save(folder / "p.npy", places)
    base = ("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--sigma", SIGMA, "--strategy", "whole",
            "-o", folder / "out")  # fmt: skip
    both = ("--dictionary", folder / "s.npy", folder / "p.npy", "--names", "fI,D0I,vCS")
    result = run(*base, *both, "--model", "diff-in", "--residuals")
    assert result.exit_code == 0, result.output
    assert "Dictionary (whole" in result.output and "Diff-in (whole" in result.output
    size = _read(folder / "out" / "model-dictionary_param-vCS_dwimap.nii.gz")
    assert np.isnan(size[-1]).all() and np.abs(np.median(size[:-1]) - 14) < 0.3
    found = _read(folder / "out" / "model-dictionary_param-F_dwimap.nii.gz")[:-1]
    assert np.abs(found - fraction[:-1]).max() < 0.06
    table = pd.DataFrame(places, columns=["fI", "D0I", "vCS"])
    table[[f"s{i}" for i in range(50)]] = np.load(folder / "s.npy")
    table.to_csv(folder / "t.csv", index=False)
    result = run(*base[:-1], folder / "again", "--dictionary-table", folder / "t.csv")
    assert result.exit_code == 0 and not (folder / "again" / "model-diffin_param-F_dwimap.nii.gz").exists()
    sidecar = read_sidecar(folder / "again" / "model-dictionary_param-vCS_dwimap.nii.gz")
    assert sidecar["Units"] == "um" and sidecar["Sources"][-1] == "t.csv"


def test_the_report_before_a_scan(run, tmp_path):
    """Independent numbers: SNR 30, f 0.6, D0 1.5, L 18 on the high b-values ex vivo."""
    result = run("crlb", "mouse-exvivo", "-o", tmp_path, "--strategy", "high-b")
    assert result.exit_code == 0, result.output
    assert "fI ± 0.16, D0I ± 0.29, vCS ± 2.8" in result.output
    table = pd.read_csv(tmp_path / "crlb.csv").query("vCS_um == 18").set_index("parameter")
    assert table.sd["vCS"] == pytest.approx(2.8, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bootstrap", 50), "give --sigma, or --bootstrap-kind residual"),
        (("--bootstrap", 1, "--sigma", 4), "no spread"),
        (("--bootstrap", 50, "--bootstrap-kind", "jackknife"), "is not one of"),
        (("--crlb",), "--crlb needs the noise level; give --sigma"),
        (("--noise", "poisson", "--t2ivim"), "is not one of"),
        (("--bic", "akaike"), "is not one of"),
        (("--noise", "rician"), "needs the noise level"),
        (("--dictionary", "s.npy", "p.npy", "--dictionary-table", "t.csv"), "two dictionaries"),
        (("--dictionary", "s.npy", "p.npy"), "no such dictionary"),
        (("--strategy", "whole", "--strategy", "half"), "is not one of"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(run, tmp_path, options, message):
    result = run("fit", tmp_path / "missing.nii.gz", "--protocol", "mouse-exvivo", "-o", tmp_path / "out", *options)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()
