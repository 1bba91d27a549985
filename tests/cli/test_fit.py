import json

import nibabel as nib
import numpy as np
import pytest

from histomri.core.images import parse_map_name, read_sidecar
from histomri.fitting import predict
from histomri.mri import Acquisition
from histomri.pairing.maps import read_mri

AFFINE = np.array([[-0.386, 0, 0, 10], [0, 0.386, 0, -20], [0, 0, 2.216, 3], [0, 0, 0, 1.0]])
SHAPE = (7, 9, 2)


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
        "--sigma", folder / "sigma.nii.gz", "--strategy", "whole", "--sub", "m1",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "117 voxels fitted" in result.output
    common = [
        "AIC",
        "BIC",
        "CD",
        "CDsphere",
        "D0I",
        "F",
        "chi2",
        "cost",
        "dropped",
        "exit",
        "fI",
        "logL",
        "pMisfit",
        "vCS",
    ]
    errors = ["CD", "CDsphere", "D0I", "F", "fI", "vCS"]
    expected = {f"sub-m1_model-diffin_param-{name}_dwimap" for name in common}
    expected |= {f"sub-m1_model-diffin_param-{name}_stat-se_dwimap" for name in errors}
    expected |= {f"sub-m1_model-diffinex_param-{name}_dwimap" for name in [*common, "DEinf"]}
    expected |= {f"sub-m1_model-diffinex_param-{name}_stat-se_dwimap" for name in [*errors, "DEinf"]}
    assert {path.name for path in out.iterdir()} == {
        f"{name}{end}" for name in expected for end in (".nii.gz", ".json")
    } | {
        f"sub-m1_model-{name}_{file}"
        for name in ("diffin", "diffinex")
        for file in ("residuals.csv", "residuals.parquet", "misfit.csv", "misfit.json")
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
    values = {f"param-{name}{end}_dwimap.nii.gz" for name in ("ADC", "K", "S0") for end in ("", "_stat-se")}
    assert {path.name for path in out.glob("*.nii.gz")} == values | {"param-exit_desc-dki_dwimap.nii.gz"}
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
    (folder / "p.txt").write_text(f"0{' 1000' * 49}\n0{' .01' * 49}\n0{' .03' * 49}\n")
    for arguments, message in (
        ([folder / "none.nii.gz", "--protocol", "mouse-exvivo"], "no such NIfTI image"),
        ([dwi, "--protocol", "invivo-3t"], "has 50 volumes, and the protocol invivo-3t has 21"),
        ([dwi, "--protocol", folder / "p.txt"], "it looks like seconds"),
        ([dwi, "--protocol", folder / "q.txt"], "no such protocol file or preset"),
        ([dwi, "--protocol", "mouse-exvivo", "--mask", folder / "moved.nii.gz"], "resample it"),
        ([dwi, "--protocol", "mouse-exvivo", "--mask", folder / "empty.nii.gz"], "mask is empty"),
        ([dwi, "--protocol", "mouse-exvivo", "--sigma", "0"], "--sigma: must be greater than 0"),
        ([dwi, "--protocol", "mouse-exvivo", "--sigma", "nowhere.nii"], "no such NIfTI image"),
        ([dwi, "--protocol", "mouse-exvivo", "--sigma", "auto"], "neither a number, estimate nor piesno"),
        ([dwi, "--protocol", "mouse-exvivo", "--names", "fI,vCS"], "no --dictionary whose columns need names"),
        ([dwi, "--protocol", "mouse-exvivo", "--model", "diff-out"], "is not one of"),
        ([dwi, "--protocol", "mouse-exvivo", "--noise", "rician"], "needs the noise level"),
        ([dwi, "--protocol", "mouse-exvivo", "--preset", "rat"], "is not one of"),
    ):
        result = run("fit", *arguments, "-o", out)
        assert result.exit_code == 2, arguments
        assert message in " ".join(result.output.split()), (arguments, result.output)
        assert not out.exists()


def test_real_scan_with_a_protocol_of_another_stem(run, real_data, tmp_path):
    folder = real_data / "dmri"
    dwi, protocol = folder / "derived_genu.nii.gz", folder / "derived_isbi.bval"
    result = run("fit", dwi, "--protocol", protocol, "-o", tmp_path, "--model", "diff-in-ex",
                 "--strategy", "whole")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "6 voxels fitted" in result.output
    values = nib.load(tmp_path / "model-diffinex_param-F_dwimap.nii.gz").get_fdata()
    assert values.shape == (6, 1, 1) and np.all((values >= 0) & (values <= 1))
    result = run("dki", dwi, "--protocol", protocol, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    adc = nib.load(tmp_path / "param-ADC_dwimap.nii.gz").get_fdata()
    # Averages over directions in white matter of the living brain.
    assert np.all((adc > 0.2) & (adc < 2.0))


def _save(path, values):
    nib.save(nib.Nifti1Image(np.asarray(values, np.float32), AFFINE), path)
    return path


@pytest.mark.parametrize("command", ["fit", "dki", "t2ivim"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("value", "message"), [(0, "no value is above 0"), (np.nan, "every value is NaN")])
def test_images_without_signal_are_an_error(run, scan, command, masked, value, message):
    folder, _, _ = scan
    dwi = _save(folder / "blank.nii.gz", np.full((*SHAPE, 50), value))
    mask = ("--mask", folder / "mask.nii.gz") if masked else ()
    result = run(command, dwi, "--protocol", "mouse-exvivo", "-o", folder / "out", *mask)
    text = " ".join(result.output.split())
    assert result.exit_code == 2 and message in text and "check the images" in text, text
    assert ("inside the mask mask.nii.gz" in text) == masked and "blank.nii.gz" in text.replace(" ", "")
    assert not (folder / "out").exists()


def test_maps_without_values_are_an_error_that_names_them(run, scan):
    folder, mask, _ = scan
    outside = np.where(mask, 0.0, 5.0)  # what lies outside the mask must not save it
    for option, values, message in (
        ("--sigma", outside, "the map of sigma has no value above 0 inside the mask"),
        ("--sigma", np.full(SHAPE, -1.0), "the map of sigma has no value above 0"),
        ("--sigma", np.full(SHAPE, np.nan), "the map of sigma has no value above 0"),
        ("--s0", outside, "the map of S0 has no value above 0 inside the mask"),
        ("--t2t", np.full(SHAPE, 0.04), "it looks like seconds"),
    ):
        path = _save(folder / "odd.nii.gz", values)
        more = ("--s0", folder / "sigma.nii.gz") if option == "--t2t" else ()
        result = run("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--mask", folder / "mask.nii.gz",
                     "-o", folder / "out", option, path, *more)  # fmt: skip
        text = " ".join(result.output.split())
        assert result.exit_code == 2 and message in text and "odd.nii.gz" in text, text
        assert not (folder / "out").exists()


def test_a_fit_in_which_no_voxel_succeeds_is_an_error(run, scan):
    folder, _, _ = scan
    values = np.full((*SHAPE, 50), 100.0)
    values[..., Acquisition.preset("mouse-exvivo").is_b0] = 0  # signal, but none to divide by
    dwi = _save(folder / "undivided.nii.gz", values)
    result = run("fit", dwi, "--protocol", "mouse-exvivo", "-o", folder / "out")
    text = " ".join(result.output.split())
    assert result.exit_code == 2 and "could not be fitted in a single voxel (0 background, 126 failed" in text
    assert not (folder / "out").exists()


def test_a_fit_does_not_replace_that_of_another_strategy(run, scan):
    folder, _, _ = scan
    out = folder / "out"
    base = ("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--mask", folder / "mask.nii.gz", "-o", out,
            "--model", "diff-in")  # fmt: skip
    assert run(*base, "--strategy", "whole").exit_code == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    for option in (("--strategy", "high-b"), ("--bmin", "1500")):
        result = run(*base, *option)
        text = " ".join(result.output.split())
        assert result.exit_code == 2 and "give another --out" in text and "strategy whole, b > 1000" in text, text
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert run(*base, "--strategy", "whole").exit_code == 0
    assert run(*base, "--strategy", "high-b", "--sub", "other").exit_code == 0


def test_a_threshold_of_ones_own_is_recorded_as_custom(run, scan):
    folder, _, _ = scan
    base = ("fit", folder / "dwi.nii.gz", "--protocol", "mouse-exvivo", "--mask", folder / "mask.nii.gz")
    for place, options, strategy, bmin in (
        ("a", ("--bmin", "2000"), "custom", 2000),
        ("b", ("--bmin", "1800"), "high-b", 1800),
        ("c", ("--bmin", "1000", "--strategy", "whole"), "whole", 1000),
    ):
        result = run(*base, "-o", folder / "mri" / place, *options)
        assert result.exit_code == 0, result.output
        sidecar = read_sidecar(folder / "mri" / place / "model-diffin_param-F_dwimap.nii.gz")
        assert (sidecar["Strategy"], sidecar["BMin"]) == (strategy, bmin)
    fits, _, _ = read_mri(folder / "mri")
    assert set(fits) == {(m, s) for m in ("diff-in", "diff-in-ex") for s in ("custom", "high-b", "whole")}
    result = run(*base, "-o", folder / "no", "--bmin", "2000", "--strategy", "whole")
    assert result.exit_code == 2 and "give --strategy or --bmin" in " ".join(result.output.split())
    assert not (folder / "no").exists()


def test_a_header_without_a_place_in_the_world_is_warned_of(run, scan):
    folder, _, _ = scan
    image = nib.load(folder / "dwi.nii.gz")
    image.header.set_sform(None, code=0)
    bare = nib.Nifti1Image(image.get_fdata(dtype=np.float32), None, image.header)
    bare.set_qform(None, code=0)
    nib.save(bare, folder / "bare.nii.gz")
    for name, warned in (("bare", True), ("dwi", False)):
        result = run("fit", folder / f"{name}.nii.gz", "--protocol", "mouse-exvivo", "-o", folder / name)
        assert result.exit_code == 0 and ("neither sform nor qform" in result.output) == warned, result.output


def test_messages_name_the_file_or_the_option(run, scan):
    folder, _, _ = scan
    dwi = folder / "dwi.nii.gz"
    no_b0 = folder / "no_b0.txt"
    rows = ["1500 " * 25 + "3000 " * 25, "8 " * 50, "30 " * 50]
    no_b0.write_text("\n".join(rows))
    for arguments, message in (
        (("fit", dwi, "--protocol", no_b0), "no_b0.txt: there is no volume at b = 0"),
        (("fit", dwi, "--protocol", "mouse-exvivo", "--fv", folder / "sigma.nii.gz"), "give S0 too (--s0)"),
        (("fit", dwi, "--protocol", ""), "--protocol: no protocol is named"),
        (("dki", dwi, "--protocol", "mouse-exvivo", "--bmin", "2500"), "mouse-exvivo: fewer than three"),
    ):
        result = run(*arguments, "-o", folder / "out")
        assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output
    for command in ("fit", "dki", "t2ivim"):
        assert run(command, dwi, "--protocol", "mouse-exvivo").exit_code == 2  # --out is never guessed
