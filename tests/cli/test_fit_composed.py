"""`histomri fit` with two T2s and exchange."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from histomri.core.images import read_sidecar
from histomri.fitting import predict
from histomri.mri import Acquisition


def _scan(folder, preset, model, rng, **truth):
    acquisition = Acquisition.preset(preset)
    size = np.linspace(12, 20, 24)
    signals = 900 * predict(model, {"fI": 0.5, "D0I": 1.2, "vCS": size, "DEinf": 2.0, **truth}, acquisition)
    signals = np.abs(signals + rng.standard_normal(signals.shape))
    nib.save(nib.Nifti1Image(signals.reshape(4, 6, 1, -1).astype(np.float32), np.eye(4)), folder / "dwi.nii.gz")
    return folder / "dwi.nii.gz"


def test_two_t2s_are_fitted_to_all_signals_as_they_are(run, tmp_path, rng):
    dwi = _scan(tmp_path, "mouse-exvivo", "diff-in-ex-t2", rng, S0=1.0, T2I=21.0, T2E=42.0)
    words = ["--protocol", "mouse-exvivo", "--sigma", 1, "--model", "diff-in-ex-t2", "--model", "diff-in"]
    result = run("fit", dwi, *words, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Diff-in-exT2 (whole, b > 0 s/mm² and b = 0, 50 measurements): 24 voxels fitted" in result.output
    folder = tmp_path / "out" / "whole"
    # To what the noise, 1/900 of the signal, and its floor allow.
    for name, value in (("S0", 900), ("T2I", 21), ("T2E", 42), ("F", 0.5)):
        path = folder / f"model-diffinext2_param-{name}_dwimap.nii.gz"
        assert np.median(nib.load(path).get_fdata()) == pytest.approx(value, rel=0.05), name
        assert (folder / f"model-diffinext2_param-{name}_stat-se_dwimap.nii.gz").exists()
    assert read_sidecar(folder / "model-diffinext2_param-T2I_dwimap.nii.gz")["Units"] == "ms"
    # The one strategy that it has; diff-in has both.
    assert not list((tmp_path / "out" / "high-b").glob("*diffinext2*"))
    assert list((tmp_path / "out" / "high-b").glob("model-diffin_*"))


def test_permeability_has_no_map_where_the_diffusion_time_is_short(run, tmp_path, rng):
    dwi = _scan(tmp_path, "mouse-exvivo", "exchange", rng, kappa=20.0)
    words = ["--protocol", "mouse-exvivo", "--sigma", 1, "--model", "exchange", "-o", tmp_path / "out"]
    result = run("fit", dwi, *words, "--strategy", "whole")
    assert result.exit_code == 0, result.output
    assert "do not determine kappa" in " ".join(result.output.split())
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert "model-exchange_param-vCS_dwimap.nii.gz" in written
    assert not [name for name in written if "kappa" in name]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "exchange"], "single voxels are too noisy"),
        (["--model", "diff-in-t2"], "single voxels are too noisy"),
        (["--model", "exchange", "--strategy", "high-b"], "has no strategy high-b"),
        (["--model", "diff-in-ex-t2", "--bound", "S0=1,2"], "no model fits it"),
    ],
)
def test_what_makes_no_sense_in_vivo_is_refused_and_nothing_written(run, tmp_path, rng, words, message):
    dwi = _scan(tmp_path, "invivo-3t", "diff-in-ex", rng)
    result = run("fit", dwi, "--protocol", "invivo-3t", "--sigma", 1, *words, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_in_vivo_regions_are_fitted_where_voxels_are_too_noisy(run, tmp_path, rng):
    """Two labels of 12 voxels each, with two T2s and little noise: F and the T2s come back, and there are no maps."""
    dwi = _scan(tmp_path, "invivo-1.5t", "diff-in-ex-t2", rng, S0=1.0, T2I=45.0, T2E=80.0)
    labels = np.repeat([1, 2], 12).reshape(4, 6, 1).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "labels.nii.gz")
    words = ["--protocol", "invivo-1.5t", "--sigma", 1, "--strategy", "whole", "--roi", tmp_path / "labels.nii.gz"]
    models = ["--model", "diff-in-ex-t2", "--model", "exchange", "--model", "diff-in"]
    result = run("fit", dwi, *words, *models, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "Diff-in-exT2: fitted to the labels only" in " ".join(result.output.split())
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert not [name for name in written if "diffinext2" in name] and "model-diffin_param-vCS_dwimap.nii.gz" in written
    table = pd.read_csv(tmp_path / "out" / "roi.csv")
    two = table[table["model"] == "diff-in-ex-t2"]
    # Noise of 1/3000 of the signal: the flat valley of size and D0I in vivo leaves F to 0.1, and the T2s to 15 %.
    np.testing.assert_allclose(two["F"], 0.5, atol=0.1)
    np.testing.assert_allclose(two["T2I_ms"], 45, rtol=0.15)
    np.testing.assert_allclose(two["T2E_ms"], 80, rtol=0.15)
    assert np.isfinite(table.loc[table["model"] == "exchange", "kappa_um_s"]).all()  # its times are long enough
