"""Landmark files and what is wrong with them."""

from functools import partial

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from histomri import registration
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration import Transform, read_landmarks

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
        ("moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm\n1,2,3,left\n", "line 2: 'left' is not a finite number"),
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


PIXEL = 0.386
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
        (lambda p: np.stack([p[:, 0], p[:, 1] * 0 + (3, 3, 0)], axis=1), "one place"),
        (lambda p: np.repeat(p[:2], 2, axis=0), "one line"),
        (lambda p: np.stack([p[:, 0], np.roll(p[:, 1], 1, axis=0)], axis=1), "do not fit"),
        (lambda p: p[:, ::-1], "do not fit"),
        (lambda p: p * [[[1000.0], [1.0]]], "4 of 4 moving landmarks lie outside the moving image"),
        (lambda p: np.add(p, [[0, 0, 0], [0, 0, 50.0]]), "50 mm off this slice"),
        (lambda p: p + np.eye(4)[0][:, None, None] * [[0, 0, 0], [0, 0, 8.0]], r"pair 1 8 mm"),
        (lambda p: np.full_like(p, np.nan), "finite"),
        (lambda p: p[:, 0], "shape"),
    ],
)
def test_contradictions_are_errors(make_pair, change, message):
    pair = make_pair()
    with pytest.raises((GeometryError, InputError), match=message):
        register(pair.moving, pair.fixed, landmarks=change(landmarks(pair, CORNERS)))


TILT = np.eye(4)
TILT[:3, :3] = Rotation.from_euler("xyz", [25, -20, 30], degrees=True).as_matrix()
TILT[:3, 3] = (5, -7, 20)


def oblique_stack(pair):
    """Return three slices in a tilted world, of which the last shows the section, and the others half of it."""
    half = pair.fixed.data * (np.arange(pair.fixed.data.shape[0])[:, None] > 40)
    affine = TILT @ pair.fixed.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -2], [0, 0, 0, 1.0]])
    return Image(np.stack([half, half, pair.fixed.data], axis=2), affine), Transform(TILT @ pair.truth.matrix)


def test_without_z_they_lie_on_every_slice_that_is_tried(make_pair):
    # The world is oblique and the slice 20 mm from z = 0: z follows from the plane of the slice.
    pair = make_pair(40)
    stack, truth = oblique_stack(pair)
    given = landmarks(pair, CORNERS)
    given[:, 1] = truth.points(given[:, 0])
    known = given[:, 1, 2].copy()
    for slices in (None, 2):
        given[:, 1, 2] = np.nan
        found = register(pair.moving, stack, landmarks=given, slices=slices)
        assert found.slice == 2
        assert len(found.qc["slice_agreement"]) == (3 if slices is None else 1)
        assert np.linalg.norm(found.points(given[:, 0]) - truth.points(given[:, 0]), axis=1).max() < PIXEL / 2
        np.testing.assert_allclose(registration.located(found, given)[:, 1, 2], known, atol=1e-6)
        assert registration.tre(found, given).max() < PIXEL / 2
    alone = registration.fit_landmarks(given, moving=pair.moving, fixed=stack.slice(2))
    np.testing.assert_allclose(alone.points(given[:, 0]), truth.points(given[:, 0]), atol=1e-6)
    given[:, 1, 2] = known + 2 * np.cos(np.radians(25)) * np.cos(np.radians(20))  # two slices on
    with pytest.raises(GeometryError, match="mm off this slice"):
        register(pair.moving, stack, landmarks=given, slices=2)


def test_on_a_slice_that_stands_upright_z_is_needed(make_pair):
    pair = make_pair(40)
    upright = np.array([[1.0, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    coronal = Image(pair.fixed.data, upright @ pair.fixed.affine)
    given = landmarks(pair, CORNERS)
    given[:, 1] = given[:, 1] @ upright[:3, :3].T
    found = register(pair.moving, coronal, landmarks=given)
    assert registration.tre(found, given).max() < PIXEL / 2
    given[:, 1, 2] = np.nan
    with pytest.raises(GeometryError, match="give z in mm as well"):
        register(pair.moving, coronal, landmarks=given)


@pytest.mark.parametrize("options", [{"kind": "syn"}, {"engine": "dipy"}])
def test_dipy_does_not_take_them(make_pair, options):
    pair = make_pair()
    with pytest.raises(InputError, match="cannot hold landmarks"):
        register(pair.moving, pair.fixed, landmarks=landmarks(pair, CORNERS), **options)


def test_they_choose_the_slice(make_pair):
    pair = make_pair(40)
    stack = Image(np.repeat(pair.fixed.data[:, :, None], 3, axis=2), pair.fixed.affine)
    given = landmarks(pair, CORNERS)
    given[:, 1, 2] = 1.2
    assert register(pair.moving, stack, landmarks=given).slice == 1
    given[:, 1, 2] = 40
    with pytest.raises(GeometryError, match="outside"):
        register(pair.moving, stack, landmarks=given)


def body(points):
    """Return which points, (..., 3) mm, are tissue of an organ that changes from slice to slice."""
    x, y, z = np.moveaxis(points, -1, 0)
    angle = np.arctan2(y, x)
    edge = (9 + 2 * np.cos(2 * angle + 0.4) + 1.2 * np.cos(3 * angle - 1)) * (1 + 0.05 * z) + 0.8 * z * np.cos(angle)
    return np.hypot(x, y) < edge


def test_a_tilted_slice_holds_them_as_well(make_pair):
    # A section cut at 8 degrees, and landmarks that say it lies 0.3 mm aside of where its outline does.
    affine = np.diag([0.386, 0.386, 1, 1.0])
    affine[:3, 3] = (-15, -15, -4)
    index = np.moveaxis(np.indices((79, 79, 9)), 0, -1)
    volume = Image(body(index @ affine[:3, :3].T + affine[:3, 3]).astype(float), affine)
    truth = np.eye(4)
    truth[:3, :3] = Rotation.from_euler("xyz", [8, 0, 40], degrees=True).as_matrix() * 1.148
    flat = np.diag([-0.386, -0.386, 1, 1.0])
    flat[:2, 3] = 15
    i, j = np.indices((79, 79))
    points = np.stack([i, j, 0 * i], axis=-1) @ flat[:3, :3].T + flat[:3, 3]
    section = Image(np.where(body(points @ truth[:3, :3].T), 1.0, np.nan), flat)
    moving = np.column_stack([np.random.default_rng(0).uniform(-5, 5, (12, 2)), np.zeros(12)])
    given = np.stack([moving, np.add(Transform(truth).points(moving), (0.3, 0, 0))], axis=1)
    off = []
    for pairs in (None, given):
        found = register(section, volume, slices=4, tilts_deg=(-8, 8), landmarks=pairs)
        assert np.any(found.qc["tilt_deg"])
        back = found.inverse().points(given[:, 1])[:, :2]  # along the section: the depth is not what landmarks hold
        off.append(np.median(np.linalg.norm(back - given[:, 0, :2], axis=1)))
    assert off[1] < 0.9 * off[0]
