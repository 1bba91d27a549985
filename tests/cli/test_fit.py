import json

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from histomri.fitting import predict
from histomri.maps import parse_map_name, read_sidecar
from histomri.mri import Acquisition
from histomri_cli.common import HistomriGroup
from histomri_cli.dki import dki
from histomri_cli.fit import fit

AFFINE = np.array([[-0.386, 0, 0, 10], [0, 0.386, 0, -20], [0, 0, 2.216, 3], [0, 0, 0, 1.0]])
SHAPE = (7, 9, 2)


@pytest.fixture
def run():
    app = typer.Typer(cls=HistomriGroup)
    app.command()(fit)
    app.command()(dki)

    def call(*arguments):
        result = CliRunner().invoke(app, [str(each) for each in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return call


@pytest.fixture
def scan(tmp_path, rng):
    """A two-slice scan of the ex-vivo protocol: size grows along i, fraction along j."""
    acquisition = Acquisition.preset("mouse-exvivo")
    size = np.broadcast_to(np.linspace(12, 24, 7)[:, None, None], SHAPE)
    fraction = np.broadcast_to(np.linspace(0.3, 0.7, 9)[None, :, None], SHAPE)
    truth = {"fI": fraction.ravel(), "vCS": size.ravel(), "D0I": 1.4, "DEinf": 2.3}
    signals = 1000 * predict("diff-in-ex", truth, acquisition) * np.exp(-acquisition.te_ms / 40)
    mask = np.ones(SHAPE, np.uint8)
    mask[0, :, 0] = 0
    nib.save(nib.Nifti1Image(signals.reshape(*SHAPE, 50).astype(np.float32), AFFINE), tmp_path / "dwi.nii.gz")
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    nib.save(nib.Nifti1Image(np.full(SHAPE, 1.0, np.float32), AFFINE), tmp_path / "sigma.nii.gz")
    return tmp_path, mask > 0, size


def test_fit_writes_the_maps_it_should_and_they_are_right(run, scan):
    folder, mask, size = scan
    out = folder / "out"
    result = run(
        "fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "-o", out, "--mask", folder / "mask.nii.gz",
        "--sigma", folder / "sigma.nii.gz", "--model", "diff-in", "--model", "diff-in-ex", "--sub", "m1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "117 voxels fitted" in result.output
    common = ["AIC", "BIC", "CD", "D0I", "F", "cost", "exit", "fI", "logL", "vCS"]
    errors = ["CD", "D0I", "F", "fI", "vCS"]
    expected = {f"sub-m1_model-diffin_param-{name}_dwimap" for name in common}
    expected |= {f"sub-m1_model-diffin_param-{name}_stat-se_dwimap" for name in errors}
    expected |= {f"sub-m1_model-diffinex_param-{name}_dwimap" for name in [*common, "DEinf"]}
    expected |= {f"sub-m1_model-diffinex_param-{name}_stat-se_dwimap" for name in [*errors, "DEinf"]}
    assert {path.name for path in out.iterdir()} == {
        f"{name}{end}" for name in expected for end in (".nii.gz", ".json")
    }
    path = out / "sub-m1_model-diffinex_param-vCS_dwimap.nii.gz"
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    values = image.get_fdata()
    np.testing.assert_array_equal(np.isnan(values), ~mask)
    # No noise was added, but the floor of the given sigma is in the objective: 3 % in the median, not more.
    assert np.median(np.abs(values / size - 1)[mask]) < 0.03
    sidecar = read_sidecar(path)
    assert sidecar["Model"] == "diff-in-ex" and sidecar["Strategy"] == "whole" and sidecar["BMin"] == 1000
    assert sidecar["Units"] == "um" and sidecar["Noise"] == "offset-gaussian"
    assert "fI then stands for F" in sidecar["Note"]
    assert sidecar["Sources"] == ["dwi.nii.gz", "mouse-exvivo", "mask.nii.gz", "sigma.nii.gz"]
    assert parse_map_name(path.name) == {"sub": "m1", "model": "diffinex", "param": "vCS", "suffix": "dwimap"}
    codes = nib.load(out / "sub-m1_model-diffin_param-exit_dwimap.nii.gz").get_fdata()
    assert np.all(codes[~mask] == 0) and np.all(codes[mask] > 0)


def test_quiet_says_nothing_and_strategy_is_recorded(run, scan):
    folder, _, _ = scan
    out = folder / "out"
    result = run("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "-o", out, "--strategy", "high-b",
                 "--sigma", "2", "--mask", folder / "mask.nii.gz", "--quiet")  # fmt: skip
    assert result.exit_code == 0 and "wrote" not in result.output
    sidecar = json.loads((out / "model-diffin_param-F_dwimap.json").read_text())
    assert sidecar["Strategy"] == "high-b" and sidecar["BMin"] == 1800


def test_dki_writes_adc_and_kurtosis(run, scan):
    folder, mask, _ = scan
    out = folder / "out"
    result = run(
        "dki", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "-o", out, "--mask", folder / "mask.nii.gz"
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.glob("*.nii.gz")} == {
        "param-ADC_dwimap.nii.gz", "param-K_dwimap.nii.gz", "param-S0_dwimap.nii.gz",
        "param-exit_desc-dki_dwimap.nii.gz",
    }  # fmt: skip
    s0 = nib.load(out / "param-S0_dwimap.nii.gz").get_fdata()[mask]
    # TE 45, T2 40: the b = 0 signal; the series in b is cut after the second term, which costs some percent.
    np.testing.assert_allclose(s0, 1000 * np.exp(-45 / 40), rtol=0.05)
    assert np.all(np.isnan(nib.load(out / "param-K_dwimap.nii.gz").get_fdata()[~mask]))


def test_mistakes_end_with_two_and_leave_nothing(run, scan):
    folder, _, _ = scan
    dwi, out = folder / "dwi.nii.gz", folder / "out"
    other = AFFINE.copy()
    other[0, 3] = 0
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), other), folder / "moved.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), folder / "empty.nii.gz")
    (folder / "p.txt").write_text("0 1000 2000\n0 .01 .01\n0 .03 .03\n")
    for arguments, message in (
        ([folder / "none.nii.gz", "--protocol", "mouse-exvivo"], "no such NIfTI image"),
        ([dwi, "--protocol", "invivo-3t"], "has 50 volumes, and the protocol invivo-3t has 21"),
        ([dwi, "--protocol", folder / "p.txt"], "it looks like seconds"),
        ([dwi, "--protocol", folder / "q.txt"], "no such protocol file or preset"),
        ([dwi, "--protocol", "mouse-exvivo", "--mask", folder / "moved.nii.gz"], "resample it"),
        ([dwi, "--protocol", "mouse-exvivo", "--mask", folder / "empty.nii.gz"], "mask is empty"),
        ([dwi, "--protocol", "mouse-exvivo", "--sigma", "0"], "a noise level is above 0"),
        ([dwi, "--protocol", "mouse-exvivo", "--sigma", "nowhere.nii"], "no such NIfTI image"),
        ([dwi, "--protocol", "mouse-exvivo", "--model", "diff-out"], "choose among diff-in"),
        ([dwi, "--protocol", "mouse-exvivo", "--noise", "rician"], "needs the noise level"),
        ([dwi, "--protocol", "mouse-exvivo", "--preset", "rat"], "choose among mouse-exvivo"),
    ):
        result = run("fit", *arguments, "-o", out)
        assert result.exit_code == 2, arguments
        assert message in " ".join(result.output.split()), (arguments, result.output)
        assert not out.exists()


def test_real_scan_with_a_protocol_of_another_stem(run, real_data, tmp_path):
    folder = real_data / "dmri"
    dwi, protocol = folder / "derived_genu.nii.gz", folder / "derived_isbi.bval"
    result = run("fit", dwi, "--protocol", protocol, "-o", tmp_path, "--model", "diff-in-ex")
    assert result.exit_code == 0, result.output
    assert "6 voxels fitted" in result.output
    values = nib.load(tmp_path / "model-diffinex_param-F_dwimap.nii.gz").get_fdata()
    assert values.shape == (6, 1, 1) and np.all((values >= 0) & (values <= 1))
    result = run("dki", dwi, "--protocol", protocol, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    adc = nib.load(tmp_path / "param-ADC_dwimap.nii.gz").get_fdata()
    # Averages over directions in white matter of the living brain.
    assert np.all((adc > 0.2) & (adc < 2.0))
