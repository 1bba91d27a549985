"""ADC and kurtosis from b alone, the noise floor, and protocol files completed on the command line."""

import nibabel as nib
import numpy as np
import pytest

from histomri.core.images import read_sidecar

B = np.linspace(0, 2800, 10)
SIGMA = 5.0


@pytest.fixture
def scan(tmp_path, rng):
    """400 voxels of ADC 1.2, K 0.6 at SNR 20, and a .bval without times."""
    decay = B / 1000 * 1.2
    clean = np.tile(100 * np.exp(-decay + 0.6 * decay**2 / 6), (20, 20, 1, 1))
    noise = SIGMA * rng.standard_normal((2, *clean.shape))
    nib.save(
        nib.Nifti1Image(np.hypot(clean + noise[0], noise[1]).astype(np.float32), np.eye(4)), tmp_path / "dwi.nii.gz"
    )
    (tmp_path / "dwi.bval").write_text(" ".join(f"{b:g}" for b in B))
    return tmp_path


def test_kurtosis_needs_b_alone_and_takes_the_noise_level(run, scan):
    out = scan / "out"
    result = run("dki", scan / "dwi.nii.gz", "--protocol", scan / "dwi.bval", "-o", out, "--sigma", SIGMA)
    assert result.exit_code == 0, result.output
    assert "its standard error" in result.output
    kurtosis = nib.load(out / "param-K_dwimap.nii.gz").get_fdata()
    # 400 voxels of spread 0.27: the median is known to 0.02.
    assert np.nanmedian(kurtosis) == pytest.approx(0.6, abs=0.05)
    error = nib.load(out / "param-K_stat-se_dwimap.nii.gz").get_fdata()
    assert np.nanmedian(error) == pytest.approx(0.2, abs=0.05)
    sidecar = read_sidecar(out / "param-K_stat-se_dwimap.nii.gz")
    assert sidecar["Noise"] == "offset-gaussian" and sidecar["NoiseLevel"]["Sigma"] == SIGMA
    assert "Standard error of" in sidecar["Description"] and sidecar["Units"] == "1"
    plain = run("dki", scan / "dwi.nii.gz", "--protocol", scan / "dwi.bval", "-o", scan / "plain", "--bound", "K=0,0.5")
    assert "floor passes for kurtosis" in plain.output
    assert np.nanmax(nib.load(scan / "plain" / "param-K_dwimap.nii.gz").get_fdata()) <= 0.5
    assert read_sidecar(scan / "plain" / "param-K_dwimap.nii.gz")["Parameters"]["bounds"]["K"] == [0, 0.5]


def test_a_fit_needs_times_and_takes_them_from_the_command_line(run, scan):
    body = ("fit", scan / "dwi.nii.gz", "--protocol", scan / "dwi.bval", "--model", "diff-in", "--strategy", "whole")
    result = run(*body, "-o", scan / "none")
    assert result.exit_code == 2 and "dwi.gdur and dwi.gsep must lie beside" in result.output
    assert not (scan / "none").exists()
    result = run(*body, "-o", scan / "fit", "--delta", "10", "--Delta", "30", "--te", "45", "--bound", "D0I=1,2")
    assert result.exit_code == 0, result.output
    parameters = read_sidecar(scan / "fit" / "model-diffin_param-vCS_dwimap.nii.gz")["Parameters"]
    assert parameters["bounds"]["D0I"] == [1, 2]
    for options, message in (
        (("--delta", "10", "--Delta", "30", "--te", "35"), "shorter than"),
        (("--delta", "10"), "--Delta"),
        (("--delta", "10", "--Delta", "30", "--bound", "KK=1,2"), "no model fits it"),
        (("--delta", "10", "--Delta", "30", "--bound", "vCS=8"), "NAME=LOW,HIGH"),
        (("--format", "mrtrix"), "read as mrtrix"),
    ):
        result = run(*body, "-o", scan / "none", *options)
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
        assert not (scan / "none").exists()


def test_b_of_imaging_gradients_counts_as_b0_when_asked(run, scan):
    rows = [[15, *B[1:]], [10] * 10, [30] * 10]
    (scan / "p.txt").write_text("\n".join(" ".join(f"{value:g}" for value in row) for row in rows))
    body = ("fit", scan / "dwi.nii.gz", "--protocol", scan / "p.txt", "--model", "diff-in", "--strategy", "whole")
    result = run(*body, "-o", scan / "out")
    assert result.exit_code == 2 and "--b0-below 16" in result.output
    assert run(*body, "-o", scan / "out", "--b0-below", "16").exit_code == 0


def test_ivim_of_one_echo_time(run, scan):
    result = run("t2ivim", scan / "dwi.nii.gz", "--protocol", scan / "dwi.bval", "-o", scan / "out", "--blood-t2", "3t")
    assert result.exit_code == 0, result.output
    assert "IVIM of one echo time" in result.output and "weighted by the T2 of either pool" in " ".join(
        result.output.split()
    )
    assert not list((scan / "out").glob("*T2T*")) and list((scan / "out").glob("*param-fV_desc*"))


def test_volumes_are_left_out_by_their_numbers(run, scan):
    body = ("dki", scan / "dwi.nii.gz", "--protocol", scan / "dwi.bval")
    for text, left in (("9", 9), ("7, 9", 8)):
        result = run(*body, "-o", scan / str(left), "--exclude-volumes", text)
        assert result.exit_code == 0 and f"DKI ({left} measurements)" in result.output, result.output
    for text, message in (("x", "must be a whole number"), ("10", "no volume 10"), ("-1", "--exclude-volumes")):
        result = run(*body, "-o", scan / "none", "--exclude-volumes", text)
        assert result.exit_code == 2 and message in result.output, result.output
    assert not (scan / "none").exists()


@pytest.mark.parametrize(
    ("command", "protocol", "message"),
    [
        (("dki",), "0 " + "1000 " * 9, "one shell determines no kurtosis"),
        (("t2ivim",), " ".join(map(str, range(300, 1300, 100))), "where the fast pool has no signal left"),
        (("fit", "--delta", "10", "--Delta", "30"), " ".join(map(str, range(500, 2500, 200))), "no volume at b = 0"),
        # Neither way round is a protocol: the reason is that of the one which has b-values.
        (("crlb",), "0 0 0 0\n1000 10 30 45\n2000 10 30 45\n3000 10 30 45\n", "a TE of 0 ms (read as columns)"),
        (("crlb",), "1000 1000\n10 10\n20 20\n91.5653 91.5653", "can be TE (ms) and the gradient"),
    ],
)  # fmt: skip
def test_protocols_that_do_not_determine_what_is_wanted(run, scan, command, protocol, message):
    path = scan / ("one.bval" if "\n" not in protocol else "one.txt")
    path.write_text(protocol)
    images = () if command[0] == "crlb" else (scan / "dwi.nii.gz", "--protocol")
    result = run(command[0], *images, path, *command[1:], "-o", scan / "none")
    assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
    assert not (scan / "none").exists()
