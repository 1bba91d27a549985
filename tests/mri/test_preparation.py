"""Preprocessing, each step against a truth that was put in."""

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from histomri.core.errors import InputError, ProtocolError
from histomri.mri import (
    Acquisition,
    FieldMap,
    correct_drift,
    correct_motion,
    denoise,
    estimate_drift,
    estimate_noise,
    preprocess,
    tissue_mask,
    undistort,
    unring,
)

BODY = Acquisition.preset("invivo-3t")
MOUSE = Acquisition.preset("mouse-exvivo")
AFFINE = np.array([[-1.9, 0.3, 0, 10], [0.3, 1.9, 0, -20], [0, 0, 5, 3], [0, 0, 0, 1.0]])


def _smooth_series(shape, acquisition):
    """Decays whose rate and T2 change smoothly over the field of view."""
    x, y, z = (grid / max(n - 1, 1) for grid, n in zip(np.indices(shape), shape))
    b, te = acquisition.b_smm2 / 1000, acquisition.te_ms
    adc, t2 = (0.4 + 0.9 * x + 0.2 * z)[..., None], (30 + 20 * y)[..., None]
    return 2000 * (0.4 * np.exp(-b * adc) + 0.6 * np.exp(-0.3 * b * adc)) * np.exp(-te / t2)


@pytest.mark.parametrize("shape", [(13, 11, 5), (16, 14, 1)])
def test_denoising_lowers_the_error_and_finds_the_noise(shape, rng, magnitude):
    clean = _smooth_series(shape, MOUSE)
    noisy = magnitude(clean, 10.0, rng)
    cleaned, noise = denoise(noisy)
    # What magnitudes tend to is the floor, not zero: denoising cannot know of that.
    target = np.sqrt(clean**2 + 10.0**2)
    before, after = (np.sqrt(np.mean((each - target) ** 2)) for each in (noisy, cleaned))
    assert after < 0.4 * before
    # Patches of some hundred voxels: MP-PCA underestimates by 1 to 3 % here.
    assert np.median(noise.sigma) == pytest.approx(10.0, rel=0.05)
    assert np.all(np.isfinite(noise.sigma)) and noise.sigma.shape == shape


def test_noise_is_estimated_within_a_mask_that_touches_the_corner(rng, magnitude):
    noisy = magnitude(_smooth_series((13, 11, 5), MOUSE), 10.0, rng)
    mask = np.zeros((13, 11, 5), dtype=bool)
    mask[:3, :2, 0] = True
    noise = estimate_noise(noisy, mask)
    np.testing.assert_array_equal(np.isfinite(noise.sigma), mask)
    assert np.median(noise.sigma[mask]) == pytest.approx(10.0, rel=0.1)
    cleaned, _ = denoise(noisy, mask)
    np.testing.assert_allclose(cleaned[~mask], noisy[~mask].astype(np.float32))


def test_a_background_of_zeros_does_not_spoil_the_noise_beside_it(rng, magnitude):
    noisy = magnitude(_smooth_series((16, 11, 5), MOUSE), 10.0, rng)
    noisy[:7] = 0
    cleaned, noise = denoise(noisy)
    # Patches that are partly filled lose some of the noise.
    assert np.all(np.isfinite(noise.sigma[7:])) and np.all(np.isnan(noise.sigma[:4]))
    assert np.median(noise.sigma[7:]) == pytest.approx(10.0, rel=0.1)
    assert np.all(cleaned[:4] == 0) and noise.details["VoxelsNotReached"] >= 4 * 55


def test_background_tells_the_noise_and_its_absence_is_noticed(rng, magnitude):
    clean = _smooth_series((26, 21, 3), MOUSE)
    clean[:8] = 0
    noise = estimate_noise(magnitude(clean, 10.0, rng), method="piesno")
    # 8 x 21 voxels x 50 volumes of background per slice: known to better than 1 %.
    np.testing.assert_allclose(noise.sigma, 10.0, rtol=0.02)
    with pytest.raises(InputError, match="no background"):
        estimate_noise(magnitude(clean[8:], 10.0, rng), method="piesno")
    with pytest.raises(InputError, match="too small"):
        estimate_noise(np.ones((2, 2, 1, 50)))
    with pytest.raises(InputError, match="choose among mppca, piesno"):
        estimate_noise(clean, method="median")


def test_ringing_of_an_edge_is_reduced():
    truth = np.zeros((96, 96))
    truth[30:66, 24:72] = 100.0
    # Cutting k-space to half in both directions is what makes an edge ring.
    spectrum = np.fft.fftshift(np.fft.fft2(truth))[24:72, 24:72]
    ringing = np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum))) / 4
    # Bins of two pixels, centred where the cut spectrum puts them.
    smooth = unring(np.repeat(ringing[:, :, None, None], 2, axis=3))
    inside = (slice(18, 30), slice(15, 33))
    for volume in range(2):
        assert np.std(smooth[..., 0, volume][inside]) < 0.5 * np.std(ringing[inside])


@pytest.mark.parametrize("drift", [-0.06, 0.0, 0.1])
def test_drift_is_recovered_though_the_echo_time_varies(drift, rng, magnitude):
    b, te = MOUSE.b_smm2 / 1000, MOUSE.te_ms
    time = np.arange(len(MOUSE)) / (len(MOUSE) - 1)
    clean = np.broadcast_to(1000 * np.exp(-2.4 * b - te / 300), (6, 5, 2, len(MOUSE)))
    drifting = magnitude(clean * (1 + drift) ** time, 5.0, rng)
    found = estimate_drift(drifting, np.ones((6, 5, 2), bool), MOUSE)
    assert found.details["LevelsFrom"] == "volumes of equal weighting"
    # 60 voxels, noise 0.5 to 1 %: the mean of a volume is known to 0.1 %, the drift to some tenths.
    assert found.details["DriftPercent"] == pytest.approx(100 * drift, abs=0.8)
    corrected = correct_drift(drifting, found)
    for pair in ((10, 30), (20, 40)):
        first, second = (corrected[..., i].mean() for i in pair)
        assert second / first == pytest.approx(1, abs=0.01)


def test_drift_without_repeated_volumes_comes_from_the_decay_or_not_at_all(rng, magnitude):
    order = rng.permutation(np.flatnonzero(MOUSE.te_ms == 45)[:10])
    order = np.r_[order, rng.permutation(np.flatnonzero(MOUSE.te_ms == 31))]
    order = rng.permutation(order)
    scan = MOUSE.select(order)
    b, time = scan.b_smm2 / 1000, np.arange(20) / 19
    clean = np.broadcast_to(1000 * np.exp(-0.7 * b - scan.te_ms / 60), (6, 5, 2, 20))
    found = estimate_drift(magnitude(clean * 1.08**time, 2.0, rng), np.ones((6, 5, 2), bool), scan)
    assert found.details["LevelsFrom"] == "decay with TE and b"
    assert found.details["DriftPercent"] == pytest.approx(8, abs=1)
    body = np.broadcast_to(1000 * np.exp(-BODY.b_smm2 / 1000 - BODY.te_ms / 60), (6, 5, 2, 21))
    with pytest.raises(ProtocolError, match="cannot be separated from T2 and diffusion"):
        estimate_drift(magnitude(body, 5.0, rng), np.ones((6, 5, 2), bool), BODY)
    with pytest.raises(InputError, match="empty"):
        estimate_drift(clean, np.zeros((6, 5, 2), bool), scan)
    with pytest.raises(InputError, match="no signal"):
        estimate_drift(0 * clean, np.ones((6, 5, 2), bool), scan)
    with pytest.raises(InputError, match="order 3"):
        estimate_drift(clean, np.ones((6, 5, 2), bool), scan, order=3)


def _organ(shape, rng):
    centre = (np.array(shape) - 1) / 2
    axes = np.indices(shape) - centre[:, None, None, None]
    radius = sum((axis / (n * share)) ** 2 for axis, n, share in zip(axes, shape, (0.38, 0.34, 0.6)))
    texture = gaussian_filter(rng.standard_normal(shape), (2, 2, 1)) * 6
    return gaussian_filter((radius < 1) * (1 + texture), (0.7, 0.7, 0.3)).clip(0) * 300, radius < 0.8


@pytest.mark.parametrize("slices", [3, 9])
def test_motion_is_recovered_and_undone(slices, rng, magnitude):
    shape, scan = (30, 27, slices), BODY.select([0, 3, 4])
    image, inside = _organ(shape, rng)
    centre = (np.array(shape) - 1) / 2
    shifts = np.array([[0, 0, 0], [1.4, -0.8, 0.5], [-1.1, 1.7, -0.4]])
    shifts[:, 2] *= slices > 8
    turns = [0, 0.04, -0.03]
    clean = image[..., None] * np.exp(-0.8 * scan.b_smm2 / 1000)
    moved = clean.copy()
    for volume, (shift, turn) in enumerate(zip(shifts, turns)):
        back = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        offset = centre - back @ (centre + shift)
        moved[..., volume] = affine_transform(clean[..., volume], back, offset=offset, mode="nearest").clip(0)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    turned = AFFINE[:3, :3] / np.sqrt((AFFINE[:3, :3] ** 2).sum(axis=0))
    affine[:3, :3] = turned @ affine[:3, :3]
    aligned, motion = correct_motion(magnitude(moved, 4.0, rng), affine, scan)
    assert motion.by_slice == (slices == 3) and not motion.rejected.any()
    # In mm along the axes of the world; a fifth of a voxel in plane, a fifth of the thick slices across.
    expected = shifts * [2, 2, 5] @ turned.T
    np.testing.assert_allclose(
        np.median(motion.matrices[:, :, :3, 3], axis=1) @ turned, expected @ turned, atol=0.4 if slices == 3 else 1.0
    )
    before, after = (np.sqrt(np.mean((each - clean)[inside] ** 2)) for each in (moved, aligned))
    assert after < 0.4 * before


def test_an_image_without_structure_is_left_alone(rng):
    scan = BODY.select([0, 3])
    flat = np.stack([np.full((14, 12, 2), 100.0), np.full((14, 12, 2), 60.0)], axis=3)
    aligned, motion = correct_motion(flat, AFFINE, scan)
    np.testing.assert_array_equal(aligned, flat)
    assert np.all(motion.matrices == np.eye(4))


def test_mask_finds_the_organ_and_fills_its_holes(rng, magnitude):
    image, _ = _organ((38, 32, 9), rng)
    truth = image > 60
    holed = image.copy()
    holed[18:21, 15:18, 4] = 0
    found = tissue_mask(magnitude(holed, 5.0, rng))
    overlap = 2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum())
    assert overlap > 0.85 and found[19, 16, 4]
    with pytest.raises(InputError, match="constant"):
        tissue_mask(np.ones((9, 7, 2)))


def test_steps_are_done_in_order_and_recorded(rng, magnitude):
    scan = MOUSE.select(np.r_[10:14, 20:24, 30:34, 40:44])
    clean = _smooth_series((13, 11, 5), scan)
    clean[:3] = 0
    result = preprocess(
        magnitude(clean, 10.0, rng), AFFINE, scan, steps=("mask", "drift", "unring", "denoise"),
        reference=clean[..., 0] > 0,
    )  # fmt: skip
    assert [step["Step"] for step in result.steps] == ["denoise", "unring", "drift", "mask"]
    assert result.motion is None and result.noise is not None and result.mask is not None
    assert result.signals.dtype == np.float32 and np.all(result.signals >= 0)
    still = preprocess(np.where(clean[..., :1] > 0, 100.0, 0.0) + 0 * clean, AFFINE, scan, steps=("denoise",))
    assert still.messages()[0].endswith("median sigma unknown") and "noise map is empty" in still.warnings[0]
    only = preprocess(clean, AFFINE, scan, steps=("mask",))
    np.testing.assert_allclose(only.signals, clean, rtol=1e-6)
    for signals, options, message in (
        (clean, {"steps": ("smooth",)}, "no step 'smooth'"),
        (clean, {"steps": ("drift",)}, "needs a reference region"),
        (clean[..., 0], {}, "3 axes"),
        (clean - 900, {}, "negative"),
        (np.where(clean > 100, np.nan, clean), {}, "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            preprocess(signals, AFFINE, scan, **options)


def test_the_error_of_a_drift_is_that_of_repeated_scans(rng):
    """Thirty volumes, noise of 1 %, a drift of 5 %: its error is the spread of 300 scans."""
    acquisition = Acquisition([0] * 15 + [1000] * 15, 10, 30)
    time = np.arange(30) / 29
    reference = np.ones((1, 1, 1), bool)
    drifts, errors = [], []
    for _ in range(300):
        signals = 100 * np.exp(0.05 * time) * (1 + 0.01 * rng.standard_normal(30))
        found = estimate_drift(signals.reshape(1, 1, 1, 30), reference, _mixed(acquisition))
        drifts.append(np.log(found.factor[-1]))
        errors.append(found.standard_error)
    assert np.mean(drifts) == pytest.approx(0.05, abs=0.003)
    assert np.median(errors) == pytest.approx(np.std(drifts), rel=0.12)


def _mixed(acquisition):
    """Return the protocol with b = 0 and the weighted volumes in turn, so that time does not follow b."""
    return acquisition.select(np.arange(30).reshape(2, 15).T.ravel())


def test_a_stretched_volume_is_brought_back_by_an_affine_motion_only(rng, magnitude):
    shape, scan = (30, 27, 3), BODY.select([0, 3])
    image, inside = _organ(shape, rng)
    clean = image[..., None] * np.exp(-0.8 * scan.b_smm2 / 1000)
    matrix = np.array([[1.06, 0.04, 0], [0, 1, 0], [0, 0, 1]])
    centre = (np.array(shape) - 1) / 2
    moved = clean.copy()
    moved[..., 1] = affine_transform(clean[..., 1], matrix, offset=centre - matrix @ centre, mode="nearest").clip(0)
    noisy, wrong = magnitude(moved, 2.0, rng), {}
    for kind in ("rigid", "affine"):
        aligned, motion = correct_motion(noisy, np.diag([2.0, 2.0, 5.0, 1.0]), scan, kind=kind)
        wrong[kind] = np.sqrt(np.mean((aligned - clean)[inside, 1] ** 2))
    assert wrong["affine"] < 0.5 * wrong["rigid"]
    # The matrix leads to where the tissue is: the inverse of what sampled it, within a third.
    inverse = np.median(motion.matrices[1], axis=0)[:3, :3]
    np.testing.assert_allclose(inverse[:2, :2], np.linalg.inv(matrix)[:2, :2], atol=0.02)


@pytest.mark.parametrize("direction", ["i", "j-"])
def test_distortion_by_a_field_is_undone(direction):
    """Water at y appears at y + field times readout: moved bin by bin, which keeps the signal."""
    axis, sign = "ij".index(direction[0]), -1 if direction.endswith("-") else 1
    n, fine = 40, 40 * 400
    y = (np.arange(fine) + 0.5) / 400 - 0.5
    tissue, field = 100 * np.exp(-(((y - 19) / 9) ** 4)), 60 * np.exp(-(((y - 16) / 6) ** 2))
    bins = np.round(y + sign * 0.05 * field).astype(int)
    seen = np.bincount(np.clip(bins, 0, n - 1), tissue / 400, minlength=n)
    true = np.bincount(np.round(y).astype(int).clip(0, n - 1), tissue / 400, minlength=n)
    at = 60 * np.exp(-(((np.arange(n) - 16) / 6) ** 2))
    shape = (n, 1, 1) if axis == 0 else (1, n, 1)
    mended = undistort(seen.reshape(*shape, 1), FieldMap(at.reshape(shape), 0.05, direction)).ravel()
    # Three voxels of displacement put signals wrong by a half; splines between bins bring them back within 3 %.
    assert np.abs(seen - true).max() > 40 and np.abs(mended - true).max() < 3
    with pytest.raises(InputError, match="voxels of 40"):
        undistort(seen.reshape(*shape, 1), FieldMap(10 * at.reshape(shape), 0.05, direction))


@pytest.mark.parametrize(("patch", "radius"), [("7x7x3", [3, 3, 1]), ("7x7", [3, 3, 0]), (None, [2, 2, 2])])
def test_the_patch_of_denoising_is_chosen(patch, radius, rng, magnitude):
    scan = MOUSE.select(np.arange(16))
    noisy = magnitude(_smooth_series((13, 11, 5), scan), 10.0, rng)
    _, noise = denoise(noisy, patch=patch)
    assert noise.details["PatchRadius"] == radius
    assert np.median(noise.sigma) == pytest.approx(10.0, rel=0.08)


def test_volumes_that_are_excluded_take_part_in_nothing(rng, magnitude):
    scan = MOUSE.select(np.r_[10:14, 20:24, 30:34, 40:44])
    noisy = magnitude(_smooth_series((13, 11, 5), scan), 10.0, rng)
    broken = noisy.copy()
    broken[..., 5] = 7000 * rng.random(noisy.shape[:3])
    result = preprocess(broken, AFFINE, scan, steps=("denoise", "spoilt"), exclude=[5])
    others = np.arange(16) != 5
    alone = preprocess(noisy[..., others], AFFINE, scan.select(others), steps=("denoise", "spoilt"))
    np.testing.assert_array_equal(result.signals[..., others], alone.signals)
    np.testing.assert_array_equal(result.signals[..., 5], broken[..., 5].astype(np.float32))
    assert result.steps[-1]["Found"] == "none found" and result.messages()[0].endswith("volumes [5]")
