"""Resampling: labels that stay labels, and splines that keep clear of what is unknown."""

import numpy as np
import pytest

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Displacement, Transform


def test_order_is_checked():
    image = Image(np.ones((7, 9)), np.eye(4))
    with pytest.raises(InputError, match="order 2"):
        Transform.identity().resample(image, image, order=2)


def test_integer_labels_stay_what_they_are(rng):
    # Labels above 2^24 and 2^53, which floats do not tell apart.
    labels = rng.choice([2**60 + 1, 2**60 + 2, 2**24 + 1], (7, 9, 5))
    step = np.eye(4)
    step[0, 3] = 2.4
    result = Transform(step).resample(Image(labels, np.eye(4)), Image(np.zeros((7, 9, 5)), np.eye(4)), order=0).data
    assert result.dtype == labels.dtype
    np.testing.assert_array_equal(result[2:], labels[:5])
    assert (result[:2] == 0).all()


SHEAR = np.array([[1, 0.1, 0, 0.3], [0.05, 1, 0, 0.2], [0, 0, 1, 0], [0, 0, 0, 1.0]])


def four_by_four(image, like, matrix):
    """Return where the 4 x 4 pixels around a place are all known, by counting."""
    result = np.zeros(like.data.shape, bool)
    for i, j in np.ndindex(result.shape):
        u, v = np.floor((np.linalg.inv(matrix) @ [i, j, 0, 1])[:2]).astype(int)
        around = [(a, b) for a in range(u - 1, u + 3) for b in range(v - 1, v + 3)]
        inside = all(0 <= a < image.data.shape[0] and 0 <= b < image.data.shape[1] for a, b in around)
        result[i, j] = inside and np.isfinite([image.data[at] for at in around]).all()
    return result


@pytest.mark.parametrize("deformable", [False, True])
def test_cubic_where_all_around_is_known_and_linear_elsewhere(rng, deformable):
    data = rng.random((21, 24))
    data[5, 6] = data[14, 15] = np.nan
    image, like = Image(data, np.eye(4)), Image(np.zeros((20, 22)), np.eye(4))
    still = Displacement(np.zeros((2, 2, 1, 3)), np.eye(4))
    transform = Transform(SHEAR, (still,) if deformable else ())
    cubic, linear = (transform.resample(image, like, order=order).data for order in (3, 1))
    np.testing.assert_array_equal(np.isnan(cubic), np.isnan(linear))
    spline = four_by_four(image, like, SHEAR)
    assert 100 < spline.sum() < spline.size - 100
    np.testing.assert_allclose(cubic[~spline], linear[~spline], atol=1e-9)
    assert np.abs(cubic - linear)[spline].max() > 0.05


def test_cubic_is_the_cubic_spline_and_nearer_to_a_smooth_truth():
    from scipy.interpolate import RectBivariateSpline

    def truth(x, y):
        return np.sin(x / 2.5) * np.cos(y / 3)

    i, j = np.indices((41, 44))
    image, like = Image(truth(i, j), np.eye(4)), Image(np.zeros((40, 40)), np.eye(4))
    found = {order: Transform(SHEAR).resample(image, like, order=order).data for order in (1, 3)}
    a, b = np.indices((40, 40))
    x, y = np.einsum("ij,jab->iab", np.linalg.inv(SHEAR)[:2], np.stack([a, b, 0 * a, 0 * a + 1]))
    inner = (np.minimum(x, y) > 8) & (x < 32) & (y < 35)  # where the conditions at the ends have died away
    expected = RectBivariateSpline(np.arange(41), np.arange(44), image.data, s=0).ev(x, y)
    np.testing.assert_allclose(found[3][inner], expected[inner], atol=1e-4)
    errors = [np.abs(found[order] - truth(x, y))[inner].max() for order in (1, 3)]
    assert errors[1] < 0.1 * errors[0]


def test_cubic_does_not_ring_at_what_is_unknown(rng):
    holes = rng.random((31, 33)) < 0.03
    i, _ = np.indices(holes.shape)
    like = Image(np.zeros((30, 30)), np.eye(4))
    a, b = np.indices((30, 30))
    x = (np.linalg.inv(SHEAR) @ np.stack([a, b, 0 * a, 0 * a + 1]).reshape(4, -1))[0].reshape(30, 30)
    for data, expected, tolerance in ((7.5 + 0 * i, 7.5 + 0 * x, 1e-9), (100.0 * i, 100 * x, 5)):  # 5 % of a step
        result = Transform(SHEAR).resample(Image(np.where(holes, np.nan, data), np.eye(4)), like, order=3).data
        spline = four_by_four(Image(np.where(holes, np.nan, 1.0), np.eye(4)), like, SHEAR)
        assert spline.sum() > 50
        np.testing.assert_allclose(result[spline], expected[spline], atol=tolerance)


def test_cubic_on_a_slice_of_a_thin_stack(rng):
    stack = Image(rng.random((15, 17, 3)), np.eye(4))
    like = Image(np.zeros((15, 17)), np.array([[1.0, 0, 0, 0.4], [0, 1, 0, 0.3], [0, 0, 1, 1], [0, 0, 0, 1]]))
    result = Transform.identity().resample(stack, like, order=3).data
    alone = Transform.identity().resample(stack.slice(1), like, order=3).data
    np.testing.assert_allclose(result, alone, atol=1e-9)
