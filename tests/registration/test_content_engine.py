"""Matching content: the regression against a library's, its slope against differences, and what it may not do."""

from functools import partial

import numpy as np
import pytest

from histomri import registration
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration.content import Content
from histomri.registration.planes import Plane

register = partial(registration.register, kind="affine")  # the quicker one; bending has tests of its own


def smooth(seed, points):
    """Three smooth maps of points, (..., 2) mm, by a formula."""
    rng = np.random.default_rng(seed)
    waves, phases = rng.normal(0, 1.2, (3, 6, 2)), rng.uniform(0, 6.3, (3, 6))
    return np.stack([np.cos(points @ waves[n].T + phases[n]).sum(axis=-1) for n in range(3)])


def centres(image):
    i, j = np.indices(image.data.shape)
    return (np.stack([i, j, 0 * i, 0 * i + 1], axis=-1) @ image.affine.T)[..., :3]


def filled(pair, seed=1, related=True):
    """Give the section three maps, and the MRI a curved function of them (or of other maps)."""
    there = pair.truth.points(centres(pair.moving).reshape(-1, 3))[:, :2].reshape(*pair.moving.data.shape, 2)
    known = np.isfinite(pair.moving.data)
    maps = [Image(np.where(known, values, np.nan), pair.moving.affine) for values in smooth(seed, there)]
    first, second, third = smooth(seed if related else seed + 100, centres(pair.fixed)[..., :2])
    signal = 1 + 0.05 * (first + 0.1 * first * second - third)
    return maps, Image(np.where(pair.fixed.data > 0, signal, 0.0), pair.fixed.affine)


@pytest.fixture
def content(make_pair):
    pair = make_pair(0, False, 1.0, (0, 0))
    maps, fixed = filled(pair)
    planes = Plane.of(pair.moving), Plane.of(fixed)
    points = planes[1].pixels(fixed.data.shape)
    return Content.of(maps, planes, fixed, fixed.data > 0, points), points, planes


def mapped(points, planes, shift=(0.0, 0.0)):
    return planes[0].to_plane(planes[1].to_world(points)) + shift


def test_all_is_explained_at_the_truth_and_less_elsewhere(content):
    found, points, planes = content
    shares = [found.fit(mapped(points, planes, (shift, 0))).share for shift in (0.0, 0.4, 0.8, 1.6)]
    assert shares[0] > 0.95  # what is left is the interpolation of pixels
    assert shares == sorted(shares, reverse=True)


def test_slope_against_differences(content):
    found, points, planes = content
    fit = found.fit(mapped(points, planes, (0.3, -0.2)))
    step = 1e-5
    # The regression is held as it is: only the maps' values move. Bilinear interpolation has kinks, so most, not all.
    for axis in (0, 1):
        moves = []
        for sign in (1, -1):
            where = mapped(points, planes, (0.3, -0.2)).copy()
            where[fit.rows[::50], axis] += sign * step
            again = found.fit(where)
            moves.append(np.interp(fit.rows[::50], again.rows, again.residual))
        slope = (moves[0] - moves[1]) / (2 * step)
        np.testing.assert_allclose(slope, fit.slope[axis, ::50], atol=0.1 * np.abs(fit.slope[axis]).max())


def test_share_against_a_library(content):
    import statsmodels.api as sm

    found, points, planes = content
    where = mapped(points, planes, (0.5, 0.5))
    fit = found.fit(where)
    from scipy.ndimage import map_coordinates

    index = np.linalg.inv(found.plane.grid) @ np.column_stack([where, np.ones(len(where))])[fit.rows].T
    a, b, c = (map_coordinates(field, index[:2], order=1) for field in found.maps)
    p, q = found.places[fit.rows].T
    trend = np.column_stack([np.ones_like(p), p, q, p * p, p * q, q * q])
    full = np.column_stack([trend, a, b, c, a * a, a * b, a * c, b * b, b * c, c * c])
    signal = found.values[fit.rows]
    rest = [sm.OLS(signal, design).fit().ssr for design in (trend, full)]
    assert fit.share == pytest.approx(1 - rest[1] / rest[0], rel=1e-4)


def test_content_settles_what_a_round_outline_leaves_open(make_pair):
    pair = make_pair(75, True, round_=True)
    maps, fixed = filled(pair)
    found = register(pair.moving, fixed, moving_mask=pair.mask, maps=maps, drive="both")
    assert pair.error_um(found) < 60  # a sixth of a pixel
    assert found.verdict == "good"
    assert found.qc["explained"] > 0.8
    assert found.info["Parameters"]["Drive"] == "both"
    assert found.info["Parameters"]["ContentMaps"] == 3


def share_of(maps, image):
    known = np.isfinite(maps).all(axis=0) & (image > 0)
    a, b, c = maps[:, known]
    design = np.column_stack([np.ones_like(a), a, b, c, a * a, a * b, a * c, b * b, b * c, c * c])
    rest = image[known] - design @ np.linalg.lstsq(design, image[known], rcond=None)[0]
    return 1 - rest.var() / image[known].var()


def test_unrelated_images_are_not_made_related_by_the_outline(make_pair):
    # The true alignment of unrelated smooth images shows some R² by chance; the found one must not show more.
    gains = {"outline": [], "both": []}
    for seed in range(2):
        pair = make_pair(40.0 + 70 * seed, seed % 2 == 0)
        maps, fixed = filled(pair, seed, related=False)
        for drive, gain in gains.items():
            found = register(pair.moving, fixed, moving_mask=pair.mask, maps=maps, drive=drive)
            shares = [
                share_of(np.stack([way.resample(each, fixed).data for each in maps]), fixed.data)
                for way in (pair.truth, found)
            ]
            gain.append(shares[1] - shares[0])
    assert np.mean(gains["outline"]) < 0.005
    assert np.mean(gains["both"]) < 0.02


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda maps: maps * 2, "1 to 5 maps"),
        (lambda maps: [maps[0], Image(maps[1].data[:-1], maps[1].affine)], "different grids"),
        (lambda maps: [Image(maps[0].data * 0 + 3, maps[0].affine)], "constant"),
        (lambda maps: [Image(maps[0].data * np.nan, maps[0].affine)], "too few"),
    ],
)
def test_bad_maps(make_pair, change, message):
    pair = make_pair()
    maps, fixed = filled(pair)
    with pytest.raises(InputError, match=message):
        register(pair.moving, fixed, maps=change(maps), drive="both")
