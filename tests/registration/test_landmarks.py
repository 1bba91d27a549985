"""Landmark files and what is wrong with them."""

from functools import partial

import numpy as np
import pytest

from histomri import registration
from histomri.errors import GeometryError, InputError
from histomri.registration import read_landmarks

register = partial(registration.register, kind="affine")  # the quicker one; bending has tests of its own


def test_read(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text(
        "name, moving_x_mm, moving_y_mm, fixed_x_mm, fixed_y_mm, fixed_z_mm\na, 1, 2, 3, 4, 5\nb,6,7,8,9,10\n"
    )
    np.testing.assert_array_equal(read_landmarks(path), [[[1, 2, 0], [3, 4, 5]], [[6, 7, 0], [8, 9, 10]]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("moving_x_mm,moving_y_mm,fixed_x_mm\n1,2,3\n", "lacks the column fixed_y_mm"),
        ("moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm\n1,2,3,left\n", "no number"),
        ("moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm\n1,2,3,\n", "empty or infinite"),
        ("", "empty"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "l.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_landmarks(path)


def landmarks(pair, moving):
    moving = np.column_stack([np.array(moving, dtype=float), np.zeros(len(moving))])
    return np.stack([moving, pair.truth.points(moving)], axis=1)


CORNERS = [(5, 1), (-4, 3), (0, -5), (2, 4)]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("count", [2, 3])
def test_as_a_start_they_settle_what_the_outline_leaves_open(make_pair, rng, count, flip):
    # A round section: every rotation fits alike, so only the landmarks can tell. They are off by 0.15 mm each.
    pair = make_pair(75, flip, round_=True)
    given = landmarks(pair, CORNERS[:count])
    given[:, :, :2] += rng.normal(0, 0.1, given[:, :, :2].shape)
    found = register(pair.moving, pair.fixed, landmarks=given)
    if count == 3:
        assert pair.error_um(found) < 400
    assert len(found.candidates) == (2 if count == 2 else 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:1], "too few"),
        (lambda p: np.stack([p[:, 0], p[:, 1] * 0 + 3], axis=1), "one place"),
        (lambda p: np.repeat(p[:2], 2, axis=0), "one line"),
        (lambda p: np.stack([p[:, 0], np.roll(p[:, 1], 1, axis=0)], axis=1), "do not fit"),
        (lambda p: p[:, ::-1], "do not fit"),
        (lambda p: p * [[[1000.0], [1.0]]], "do not fit"),
        (lambda p: np.full_like(p, np.nan), "finite"),
        (lambda p: p[:, 0], "shape"),
    ],
)
def test_contradictions_are_errors(make_pair, change, message):
    pair = make_pair()
    with pytest.raises((GeometryError, InputError), match=message):
        register(pair.moving, pair.fixed, landmarks=change(landmarks(pair, CORNERS)))


def test_they_choose_the_slice(make_pair):
    from histomri.maps import Image

    pair = make_pair(40)
    stack = Image(np.repeat(pair.fixed.data[:, :, None], 3, axis=2), pair.fixed.affine)
    given = landmarks(pair, CORNERS)
    given[:, 1, 2] = 1.2
    assert register(pair.moving, stack, landmarks=given).slice == 1
    given[:, 1, 2] = 40
    with pytest.raises(GeometryError, match="outside"):
        register(pair.moving, stack, landmarks=given)
