import json

import nibabel as nib
import numpy as np
import pytest

from histomri.core.images import read_sidecar
from histomri.fitting import predict
from histomri.mri import Acquisition

AFFINE = np.array([[-1.9, 0, 0, 10], [0, 1.9, 0, -20], [0, 0, 6.0, 3], [0, 0, 0, 1.0]])
SHAPE = (13, 11, 2)
BODY = Acquisition.preset("invivo-3t")
SIGMA = 4.0


@pytest.fixture
def scan(tmp_path, rng):
    """A liver at 3 T: blood along i, T2 along j, one size; noise of 4, SNR 100 at the shortest echo."""
    i, j, _ = (grid.ravel() / (n - 1) for grid, n in zip(np.indices(SHAPE), SHAPE))
    fv, t2 = 0.05 + 0.25 * i, 38 + 14 * j
    truth = {"fI": np.full(i.size, 0.6), "D0I": 1.5, "vCS": 18.0, "DEinf": 2.0}
    tissue = predict("diff-in-ex", truth, BODY) * np.exp(-BODY.te_ms / t2[:, None])
    blood = np.exp(-BODY.b_smm2 / 1000 * 30 - BODY.te_ms / 200)
    clean = 2500 * (fv[:, None] * blood + (1 - fv[:, None]) * tissue)
    noise = SIGMA * rng.standard_normal((2, *clean.shape))
    noisy = np.hypot(clean + noise[0], noise[1]).reshape(*SHAPE, 21).astype(np.float32)
    mask = np.ones(SHAPE, np.uint8)
    mask[0, :, 0] = 0
    nib.save(nib.Nifti1Image(noisy, AFFINE), tmp_path / "dwi.nii.gz")
    nib.save(nib.Nifti1Image(mask, AFFINE), tmp_path / "mask.nii.gz")
    return tmp_path, mask > 0, fv.reshape(SHAPE), t2.reshape(SHAPE)


def _read(folder, name):
    return nib.load(folder / f"{name}_dwimap.nii.gz").get_fdata()


def test_t2ivim_writes_its_maps_and_they_are_right(run, scan):
    folder, mask, fv, t2 = scan
    out = folder / "out"
    result = run("t2ivim", folder / "dwi.nii.gz", "--protocol", "invivo-3t", "-o", out, "--mask",
                 folder / "mask.nii.gz", "--sigma", SIGMA, "--sub", "p1")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "K fitted, 21 volumes): 275 voxels fitted" in result.output
    names = ["S0", "fV", "T2T", "DV", "T2V", "DT", "KT"]
    expected = {f"sub-p1_param-{name}_{stat}desc-t2ivim_dwimap" for name in names for stat in ("", "stat-se_")}
    expected |= {f"sub-p1_param-{name}_desc-t2ivim_dwimap" for name in ("cost", "exit")}
    assert {p.name for p in out.iterdir()} == {f"{name}{end}" for name in expected for end in (".nii.gz", ".json")}
    found = _read(out, "sub-p1_param-T2T_desc-t2ivim")
    np.testing.assert_array_equal(np.isnan(found), ~mask)
    # The tissue is no perfect kurtosis: fV comes out some percent too large, T2 a little too long.
    assert np.median(np.abs(found - t2)[mask]) < 3
    assert abs(np.median((_read(out, "sub-p1_param-fV_desc-t2ivim") - fv)[mask])) < 0.04
    sidecar = read_sidecar(out / "sub-p1_param-fV_desc-t2ivim_dwimap.nii.gz")
    assert sidecar["Parameters"]["kurtosis"] == "fitted" and sidecar["NoiseLevel"] == {"Method": "number", "Sigma": 4}
    told = read_sidecar(out / "sub-p1_param-DT_stat-se_desc-t2ivim_dwimap.nii.gz")["Description"]
    assert "held there as if known" in told and "79 % of true values at SNR 30" in told
    held = run("t2ivim", folder / "dwi.nii.gz", "--protocol", "invivo-3t", "-o", folder / "held", "--kurtosis", "0")
    assert "K held at 0" in held.output
    larger = _read(folder / "held", "param-fV_desc-t2ivim") - _read(out, "sub-p1_param-fV_desc-t2ivim")
    assert np.nanmedian(larger) > 0.01


def test_one_command_does_all_steps_and_equals_them_one_by_one(run, scan):
    folder, mask, fv, _ = scan
    base = ("--protocol", "invivo-3t", "--mask", folder / "mask.nii.gz", "--sigma", SIGMA)
    body = (folder / "dwi.nii.gz", *base, "--strategy", "whole")
    one, two, without = (folder / name for name in ("one", "two", "without"))
    result = run("fit", *body, "-o", one)
    assert result.exit_code == 0, result.output
    assert "T2-IVIM" in result.output and "Diff-in" in result.output
    run("t2ivim", folder / "dwi.nii.gz", *base, "-o", two)
    maps = [two / f"param-{name}_desc-t2ivim_dwimap.nii.gz" for name in ("S0", "fV", "T2T")]
    result = run("fit", *body, "-o", two, "--s0", maps[0], "--fv", maps[1], "--t2t", maps[2])
    assert result.exit_code == 0 and "T2-IVIM" not in result.output
    # By way of files the maps are rounded to single precision.
    np.testing.assert_allclose(_read(one, "model-diffin_param-F"), _read(two, "model-diffin_param-F"), atol=2e-3)
    fi, f = _read(one, "model-diffin_param-fI"), _read(one, "model-diffin_param-F")
    assert np.median((f / fi)[mask]) == pytest.approx(1 - np.median(fv[mask]), abs=0.05)
    sidecar = read_sidecar(one / "model-diffin_param-F_dwimap.nii.gz")
    assert sidecar["VascularStep"]["kurtosis"] == "fitted" and "Note" not in sidecar
    assert sidecar["Preset"] == "invivo-3t"  # that of the protocol, as none was given
    assert sidecar["Normalisation"] == "S0 (1 - fV) exp(-TE/T2)"
    result = run("fit", *body, "-o", without, "--no-t2ivim")
    assert "T2-IVIM" not in result.output
    sidecar = read_sidecar(without / "model-diffin_param-F_dwimap.nii.gz")
    assert sidecar["VascularStep"] is None and "fI then stands for F" in sidecar["Note"]
    result = run("fit", *body, "-o", folder / "x", "--t2ivim", "--s0", maps[0])
    assert result.exit_code == 2 and "leave --t2ivim or the maps out" in " ".join(result.output.split())
    assert not (folder / "x").exists()


def test_the_noise_is_estimated_on_demand(run, scan):
    folder, _, _, _ = scan
    result = run("fit", folder / "dwi.nii.gz", "--protocol", "invivo-3t", "--preset", "invivo-3t", "--no-t2ivim",
                 "--mask", folder / "mask.nii.gz", "--sigma", "estimate", "-o", folder / "out",
                 "--strategy", "whole")  # fmt: skip
    assert result.exit_code == 0, result.output
    sidecar = read_sidecar(folder / "out" / "model-diffin_param-F_dwimap.nii.gz")
    assert sidecar["Noise"] == "offset-gaussian" and sidecar["NoiseLevel"]["Method"].startswith("MP-PCA (DIPY")
    assert sidecar["NoiseLevel"]["MedianSigma"] == pytest.approx(SIGMA, rel=0.08)
    assert "estimate" not in sidecar["Sources"]


def test_preprocess_writes_series_noise_mask_and_record(run, scan):
    folder, _, _, _ = scan
    out = folder / "out"
    result = run("preprocess", folder / "dwi.nii.gz", "--protocol", "invivo-3t", "-o", out, "--no-motion",
                 "--no-unring", "--sub", "p1")  # fmt: skip
    assert result.exit_code == 0, result.output
    # Magnitudes in air scatter by less, so sigma is that of the mask.
    assert "median sigma" in result.output and " in the mask" in result.output
    assert {path.name for path in out.iterdir()} == {
        f"sub-p1_{name}{end}" for name in ("desc-preproc_dwi", "param-sigma_dwimap", "desc-tissue_mask")
        for end in (".nii.gz", ".json")
    } | {"sub-p1_desc-spoilt_volumes.tsv", "sub-p1_desc-steps_preproc.png"}  # fmt: skip
    record = json.loads((out / "sub-p1_desc-preproc_dwi.json").read_text())
    assert [step["Step"] for step in record["Steps"]] == ["denoise", "mask", "spoilt"]
    assert np.median(nib.load(out / "sub-p1_param-sigma_dwimap.nii.gz").get_fdata()) == pytest.approx(SIGMA, rel=0.08)
    image = nib.load(out / "sub-p1_desc-preproc_dwi.nii.gz")
    assert image.shape == (*SHAPE, 21)
    np.testing.assert_allclose(image.affine, AFFINE, atol=1e-6)
    # What comes out goes into the fit as it is.
    result = run("fit", out / "sub-p1_desc-preproc_dwi.nii.gz", "--protocol", "invivo-3t", "--preset", "invivo-3t",
                 "--sigma", out / "sub-p1_param-sigma_dwimap.nii.gz", "-o", folder / "fit", "--no-t2ivim")  # fmt: skip
    assert result.exit_code == 0, result.output


def test_motion_is_listed_and_mistakes_leave_nothing(run, scan):
    folder, _, _, _ = scan
    dwi, out = folder / "dwi.nii.gz", folder / "out"
    short = nib.load(dwi).slicer[..., :3]
    nib.save(short, folder / "short.nii.gz")
    (folder / "short.txt").write_text("0 50 400\n0 4 9\n0 28 33\n")
    result = run("preprocess", folder / "short.nii.gz", "--protocol", folder / "short.txt", "-o", out, "--no-denoise",
                 "--no-unring", "--no-mask")  # fmt: skip
    assert result.exit_code == 0, result.output
    table = (out / "desc-motion_timeseries.tsv").read_text().splitlines()
    assert table[0].split("\t")[:3] == ["volume", "slice", "x_mm"] and len(table) == 1 + 3 * SHAPE[2]
    off = ("--no-denoise", "--no-unring", "--no-motion", "--no-mask", "--no-spoilt")
    for arguments, message in (
        ((dwi, *off), "every step is switched off"),
        ((dwi, *off, "--drift-reference", folder / "mask.nii.gz"), "cannot be separated from T2 and diffusion"),
        ((folder / "short.nii.gz",), "has 3 volumes"),
    ):
        result = run("preprocess", *arguments, "--protocol", "invivo-3t", "-o", folder / "none")
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
        assert not (folder / "none").exists()
    for arguments, message in (
        (
            ("t2ivim", dwi, "--protocol", "invivo-3t", "--kurtosis", "high"),
            "--kurtosis: must be 'free', or must be a number",
        ),
        (("t2ivim", folder / "short.nii.gz", "--protocol", folder / "short.txt"), "3 different b-values at one"),
        (("fit", dwi, "--protocol", "invivo-3t", "--sigma", "piesno"), "no background"),
    ):
        result = run(*arguments, "-o", folder / "none")
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
        assert not (folder / "none").exists()


def test_volumes_are_left_out_and_the_results_of_fsl_are_taken(run, scan):
    folder, _, _, _ = scan
    dwi, out, off = folder / "dwi.nii.gz", folder / "out", ("--no-denoise", "--no-unring", "--no-motion")
    field = np.full(SHAPE, 40.0, np.float32)
    nib.save(nib.Nifti1Image(field, AFFINE), folder / "field.nii.gz")
    (folder / "dwi.json").write_text('{"TotalReadoutTime": 0.05, "PhaseEncodingDirection": "j-"}')
    np.savetxt(folder / "e.eddy_parameters", np.tile([0.3, -0.4, 0, 0, 0, 0.01, 0, 0], (21, 1)))
    flagged = np.zeros((21, 2), int)
    flagged[12, 1] = 1
    np.savetxt(folder / "e.eddy_outlier_map", flagged, fmt="%d", header="one row per scan", comments="")
    given = ("preprocess", dwi, "--protocol", "invivo-3t", "--field-map", folder / "field.nii.gz",
             "--eddy", folder / "e.eddy_parameters", "--exclude-volumes", "3,20")  # fmt: skip
    done = run(*given, *off, "-o", out)
    assert done.exit_code == 0, done.output
    assert "eddy: largest shift 0.5 mm, largest turn 0.57°; 1 slices" in done.output
    assert (out / "desc-spoilt_volumes.tsv").read_text().splitlines()[1:] == ["12\t1\tn/a\teddy"]
    before, after = (nib.load(path).get_fdata() for path in (dwi, out / "desc-preproc_dwi.nii.gz"))
    # 40 Hz for 50 ms are two voxels down the axis j; volumes left out stay as they are.
    np.testing.assert_allclose(after[:, 2:, :, 0], before[:, :-2, :, 0], rtol=1e-5)
    np.testing.assert_array_equal(after[..., [3, 20]], before[..., [3, 20]])
    for arguments, message in (
        ((*given, "--no-motion"), "would come too late; give --no-denoise --no-unring"),
        ((*given, *off, "--readout-ms", 20), "is 0.05 in the sidecar, and 0.02 is given"),
        ((*given[:4], *off, "--exclude-volumes", "21"), "there is no volume 21"),
        ((*given[:4], *off, "--phase-encoding", "j"), "belong to --field-map"),
        ((*given[:4], *off, "--eddy", folder / "e.eddy_outlier_map"), "give what eddy wrote"),
        ((*given[:4], "--patch", "4x4"), "'4x4' is no patch"),
        ((*given[:4], "--patch", "5x5x3"), "does not fit into an image of 13 x 11 x 2"),
    ):
        done = run(*arguments, "-o", folder / "none")
        assert done.exit_code == 2 and message in " ".join(done.output.split()), done.output
        assert not (folder / "none").exists()
    (folder / "dwi.json").write_text('{"TotalReadoutTime": "50 ms", "PhaseEncodingDirection": "j-"}')
    done = run(*given, *off, "-o", folder / "none")
    assert done.exit_code == 2 and "TotalReadoutTime is '50 ms'" in done.output and not (folder / "none").exists()
