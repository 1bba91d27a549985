"""Correlation of smooth maps: the effective number of voxels against dense matrices, and false positives."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from histomri.analysis import VoxelGrid, effective_sample_size, repeated_correlation, spatial_correlation, voxel_spacing
from histomri.core.errors import InputError


def ellipse(rows, columns):
    i, j = np.indices((rows, columns))
    return ((i - (rows - 1) / 2) / (rows / 2)) ** 2 + ((j - (columns - 1) / 2) / (columns / 2)) ** 2 <= 1


def smooth_field(rng, mask, sigma, pad=12):
    noise = rng.normal(size=[side + 2 * pad for side in mask.shape])
    whole = gaussian_filter(noise, sigma, mode="wrap")
    return whole[tuple(slice(pad, pad + side) for side in mask.shape)][mask]


def dutilleul_by_matrices(x, y, index, spacing):
    """The definition: covariance matrices from autocovariances by rounded distance, traces of dense products.

    Distances beyond 0.6 of the largest count as unrelated.
    """
    points = index * spacing
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) / min(spacing)
    classes = (distance + 0.5 + 1e-9).astype(int)  # rounded, halves up
    n = len(x)
    matrices = []
    for values in (x, y):
        deviation = values - values.mean()
        products = np.outer(deviation, deviation)
        by_class = [products[classes == k].mean() if (classes == k).any() else 0 for k in range(classes.max() + 1)]
        matrices.append(np.array(by_class)[classes] * (classes <= 0.6 * classes.max()))
    centring = np.eye(n) - 1 / n
    one, other = (centring @ matrix for matrix in matrices)
    return 1 + np.trace(one) * np.trace(other) / np.trace(one @ other)


@pytest.mark.parametrize(
    ("mask", "spacing"),
    [
        (ellipse(7, 9), (1.0, 1.0)),
        (ellipse(9, 7), (0.4, 0.9)),
        (np.random.default_rng(3).random((6, 5, 4)) > 0.4, (1.0, 1.0, 2.2)),
    ],
)
def test_effective_size_against_dense_matrices(rng, mask, spacing):
    index = np.argwhere(mask) + 11  # voxels need not start at zero
    x, y = (smooth_field(rng, mask, 1.2, pad=4) for _ in "xy")
    truth = dutilleul_by_matrices(x, y, index, np.array(spacing))
    found = effective_sample_size(x, y, VoxelGrid.of(index, spacing))
    np.testing.assert_allclose(found, min(truth, len(x)), rtol=1e-10)


def test_order_of_voxels_scale_and_offset_do_not_matter(rng):
    mask = ellipse(8, 11)
    index = np.argwhere(mask)
    x, y = (smooth_field(rng, mask, 1.5) for _ in "xy")
    found = spatial_correlation(x, y, index)
    order = rng.permutation(len(x))
    again = spatial_correlation(1e6 * x[order] + 5e6, -1e-6 * y[order], index[order])
    np.testing.assert_allclose([again.r, again.n_eff, again.p], [-found.r, found.n_eff, found.p], rtol=1e-7)


def test_p_and_interval_are_those_of_the_effective_number(rng):
    mask = ellipse(12, 15)
    x, z = (smooth_field(rng, mask, 1.5) for _ in "xz")
    y = x + z
    found = spatial_correlation(x, y, np.argwhere(mask))
    df = found.n_eff - 2
    t = found.r * math.sqrt(df / (1 - found.r**2))
    np.testing.assert_allclose(found.p, 2 * stats.t.sf(abs(t), df), rtol=1e-10)
    half = stats.norm.ppf(0.975) / math.sqrt(found.n_eff - 3)
    np.testing.assert_allclose(np.arctanh(found.ci), np.arctanh(found.r) + np.array([-half, half]), rtol=1e-10)
    truth = stats.pearsonr(x, y)
    np.testing.assert_allclose([found.r, found.p_naive], [truth.statistic, truth.pvalue], rtol=1e-10)
    assert 3 < found.n_eff < found.n / 3


def test_white_noise_keeps_its_number(rng):
    mask = ellipse(20, 23)
    found = [
        spatial_correlation(*rng.normal(size=(2, mask.sum())), np.argwhere(mask)).n_eff / mask.sum() for _ in range(50)
    ]
    assert 0.97 < np.mean(found) <= 1


def test_spearman_is_pearson_of_ranks(rng):
    mask = ellipse(9, 10)
    x, y = (smooth_field(rng, mask, 1.0) for _ in "xy")
    found = spatial_correlation(x, y, np.argwhere(mask), kind="spearman")
    of_ranks = spatial_correlation(stats.rankdata(x), stats.rankdata(y), np.argwhere(mask))
    assert found == of_ranks
    assert found.r == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-10)


def test_missing_voxels_are_left_out_of_the_mask(rng):
    mask = ellipse(9, 12)
    index = np.argwhere(mask)
    x, y = (smooth_field(rng, mask, 1.2) for _ in "xy")
    x[5], y[[9, 40]] = np.nan, np.nan
    kept = np.isfinite(x) & np.isfinite(y)
    grid = VoxelGrid.of(index)
    assert spatial_correlation(x, y, index, grid=grid) == spatial_correlation(x[kept], y[kept], index[kept])


@pytest.mark.parametrize(
    ("x", "y", "note"),
    [
        ([1.0, 2.0], [1.0, 3.0], "2 voxels"),
        ([1.0, 1.0, 1.0, 1.0], [1.0, 2.0, 3.0, 5.0], "constant"),
        (np.arange(30.0), np.arange(30.0) ** 1.1, "too smooth"),
    ],
)
def test_undefined_says_why(x, y, note):
    found = spatial_correlation(x, y, np.arange(len(x))[:, None])
    assert math.isnan(found.p) and found.ci is None and note in found.note


def test_refused(rng):
    with pytest.raises(InputError, match="comes twice"):
        VoxelGrid.of([[0, 0], [0, 1], [0, 0]])
    with pytest.raises(InputError, match="too large"):
        VoxelGrid.of([[0, 0, 0], [9000, 9000, 9000]])
    with pytest.raises(InputError, match="on 3 voxels"):
        spatial_correlation([1, 2], [1, 2], [[0], [1], [2]])


def test_spacing_from_world_coordinates(rng):
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    index = np.argwhere(ellipse(7, 9))
    index = np.column_stack([index, np.full(len(index), 4)])
    world = index @ (turn * [0.4, 0.9, 2.2]).T + [5, -3, 8]
    np.testing.assert_allclose(voxel_spacing(index, world)[:2], [0.4, 0.9], rtol=1e-10)
    with pytest.raises(InputError, match="same place"):
        voxel_spacing(index, world * 0)


def false_positives(rng, mask, sigmas, repeats, kind="pearson"):
    index = np.argwhere(mask)
    grid = VoxelGrid.of(index)
    found = [
        spatial_correlation(*(smooth_field(rng, mask, s) for s in sigmas), index, grid=grid, kind=kind)
        for _ in range(repeats)
    ]
    return np.mean([result.p < 0.05 for result in found]), np.mean([result.p_naive < 0.05 for result in found])


def test_unrelated_smooth_maps_are_rarely_significant():
    """400 pairs of fields: the standard error of a 5 % rate is 1.1 %, so 3 of them on either side are allowed."""
    rate, naive = false_positives(np.random.default_rng(8), ellipse(18, 22), (1.5, 1.5), 400)
    assert 0.017 <= rate <= 0.083
    assert naive > 0.4  # what the correction is for


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mask", "sigmas"),
    [
        (ellipse(26, 24), (0.01, 0.01)),
        (ellipse(26, 24), (1.0, 1.0)),
        (ellipse(26, 24), (2.0, 2.0)),
        (ellipse(26, 24), (1.5, 3.0)),
        (ellipse(18, 18), (3.0, 3.0)),
        (np.ones((12, 20), dtype=bool), (1.5, 1.5)),
        (ellipse(50, 46), (3.0, 3.0)),
    ],
)
def test_the_level_holds(mask, sigmas):
    """5000 pairs of fields: standard error 0.3 %; the level is to lie within 4 to 6.5 %."""
    rate, _ = false_positives(np.random.default_rng(21), mask, sigmas, 5000)
    assert 0.04 <= rate <= 0.065


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_the_interval_covers(sigma):
    """2000 pairs of fields with a true correlation of 0.5: standard error 0.5 %."""
    rng, mask = np.random.default_rng(5), ellipse(26, 24)
    index = np.argwhere(mask)
    grid, covered = VoxelGrid.of(index), 0
    for _ in range(2000):
        x, z = (smooth_field(rng, mask, sigma) for _ in "xz")
        low, high = spatial_correlation(x, 0.5 * x + math.sqrt(0.75) * z, index, grid=grid).ci
        covered += low <= 0.5 <= high
    assert 0.93 <= covered / 2000 <= 0.97


def test_bias_correction_against_dense_matrices(rng):
    """What removing the mean does to a covariance matrix, averaged by distance, and the size that follows from it."""
    mask = ellipse(7, 9)
    index = np.argwhere(mask)
    x, y = (smooth_field(rng, mask, 1.5, pad=6) for _ in "xy")
    distance = np.linalg.norm(index[:, None] - index[None], axis=2)
    classes = (distance + 0.5 + 1e-9).astype(int)
    n = len(x)
    centring = np.eye(n) - 1 / n

    def by_class(matrix):
        return np.array([matrix[classes == k].mean() for k in range(classes.max() + 1)])[classes]

    def size(one, other):
        one, other = centring @ one, centring @ other
        return 1 + np.trace(one) * np.trace(other) / np.trace(one @ other)

    matrices = [by_class(np.outer(v - v.mean(), v - v.mean())) for v in (x, y)]
    seen = size(*matrices)
    again = size(*[by_class(centring @ matrix @ centring) for matrix in matrices])
    found = effective_sample_size(x, y, VoxelGrid.of(index), unbiased=True)
    np.testing.assert_allclose(found, 1 + (seen - 1) ** 2 / (again - 1), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_the_level_holds_over_samples(sigma):
    """2000 studies of six samples with unrelated maps: standard error 0.5 %; within 4 to 6.5 %."""
    rng, mask = np.random.default_rng(13), ellipse(18, 18)
    grid, size, rejected = VoxelGrid.of(np.argwhere(mask)), mask.sum(), 0
    sample = np.repeat(np.arange(6), size)
    for _ in range(2000):
        x, y = ([smooth_field(rng, mask, sigma) for _ in range(6)] for _ in "xy")
        n_eff = [effective_sample_size(a, b, grid, unbiased=True) for a, b in zip(x, y)]
        rejected += repeated_correlation(np.concatenate(x), np.concatenate(y), sample, n_eff=n_eff).p < 0.05
    assert 0.04 <= rejected / 2000 <= 0.065
