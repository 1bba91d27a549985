"""Transforms from landmarks alone: recovered, measured, refused."""

import numpy as np
import pytest

from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration import Transform, fit_landmarks, leave_one_out, tre

PLACES = np.array([[5, 1], [-4, 3], [0, -5], [2, 4], [-3, -3], [6, -4.0]])


def pairs_of(truth, places=PLACES):
    moving = np.column_stack([places, np.zeros(len(places))])
    return np.stack([moving, truth.points(moving)], axis=1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("kind", "shear", "count"), [("similarity", 0.0, 3), ("affine", 0.1, 3), ("tps", 0.1, 6)])
def test_exact_pairs_give_back_the_truth(make_pair, kind, shear, count, flip):
    pair = make_pair(70, flip, shear=shear)
    pairs = pairs_of(pair.truth, PLACES[:count])
    found = fit_landmarks(pairs, kind, moving=pair.moving, fixed=pair.fixed)
    tolerance = 1e-9 if kind != "tps" else 1e-5  # a displacement is inverted to 1e-6 mm
    np.testing.assert_allclose(found.points(pairs[:, 0]), pairs[:, 1], atol=tolerance)
    assert pair.error_um(found) < 0.1
    assert found.qc["turned_over"] is flip
    assert np.linalg.det(found.matrix[:3, :3]) > 0
    if kind == "similarity":
        assert abs((found.qc["angle_deg"] - 70 + 180) % 360 - 180) < 1e-6
        assert found.qc["size"] == pytest.approx(1 / 1.148)


def test_thin_plate_against_scipy_and_through_every_pair(make_pair, rng):
    from scipy.interpolate import RBFInterpolator

    pair = make_pair(20)
    pairs = pairs_of(pair.truth)
    pairs[:, 1, :2] += rng.normal(0, 0.2, (len(pairs), 2))
    found = fit_landmarks(pairs, "tps", moving=pair.moving, fixed=pair.fixed)
    # The field is kept on the pixels of the MRI: between them it is a hundredth of a pixel off.
    assert tre(found, pairs).max() < 0.01
    spline = RBFInterpolator(pairs[:, 1, :2], pairs[:, 0, :2], kernel="thin_plate_spline")
    fixed = np.array([[1.0, 2.0], [-2, 5], [4, -3]])
    back = found.inverse().points(fixed)
    np.testing.assert_allclose(back[:, :2], spline(fixed), atol=0.01)
    assert found.qc["jacobian"][0] > 0


def test_left_out_errors_are_those_of_refitting(make_pair, rng):
    pair = make_pair()
    pairs = pairs_of(pair.truth)
    pairs[:, 1, :2] += rng.normal(0, 0.1, (len(pairs), 2))
    errors = leave_one_out(pairs, "affine")
    design = np.column_stack([pairs[1:, 1, :2], np.ones(len(pairs) - 1)])
    pull = np.linalg.lstsq(design, pairs[1:, 0, :2], rcond=None)[0].T
    goal = np.linalg.solve(pull[:, :2], pairs[0, 0, :2] - pull[:, 2])
    assert errors[0] == pytest.approx(np.linalg.norm(goal - pairs[0, 1, :2]), rel=1e-9)


def test_verdict_rests_on_landmarks_left_out(make_pair, rng):
    pair = make_pair()
    pairs = pairs_of(pair.truth)
    images = {"moving": pair.moving, "fixed": pair.fixed}
    assert fit_landmarks(pairs, **images).verdict == "good"
    assert fit_landmarks(pairs).verdict == "check"
    assert fit_landmarks(pairs[:3], **images).verdict == "check"
    pairs[:, 1, :2] += rng.normal(0, 1.2, (len(pairs), 2))
    assert fit_landmarks(pairs, **images).verdict == "check"


def test_expected_error_against_a_simulation(make_pair, rng):
    # Least squares with scatter in the fixed points alone: the error expected in the tissue is that of many drawings.
    pair = make_pair()
    exact, told, true = pairs_of(pair.truth), [], []
    i, j = np.nonzero(np.isfinite(pair.moving.data))
    tissue = (np.column_stack([i, j, 0 * i, 0 * i + 1]) @ pair.moving.affine.T)[:, :3]
    goal = pair.truth.points(tissue)
    for _ in range(10):
        pairs = exact.copy()
        pairs[:, 1, :2] += rng.normal(0, 0.1, (len(pairs), 2))
        found = fit_landmarks(pairs, moving=pair.moving, fixed=pair.fixed)
        told.append(found.qc["expected_mm"] ** 2)
        true.append(np.mean(np.sum((found.points(tissue) - goal) ** 2, axis=1)))
    assert np.mean(told) == pytest.approx(np.mean(true), rel=0.5)  # 60 degrees of freedom: 18 % for either


def test_landmarks_nearly_on_a_line_are_doubted(make_pair, rng):
    pair = make_pair()
    places = np.column_stack([np.linspace(-6, 6, 6), np.array([0.4, -0.4, 0.3, -0.3, 0.4, -0.2])])
    found = fit_landmarks(pairs_of(pair.truth, places), moving=pair.moving, fixed=pair.fixed)
    assert found.verdict == "check"
    assert any("nearly on one line" in reason for reason in found.qc["reasons"])


@pytest.mark.parametrize(
    ("slip", "verdict", "reason"),
    [
        (lambda p: p[:, ::-1], "failed", "not swapped"),
        (lambda p: p * [[[2.0], [1.0]]], "failed", "pixel size"),
        (lambda p: p * [[[0.5], [1.0]]], "failed", "pixel size"),
        (lambda p: p * 1000, "failed", "check the units"),
        (lambda p: p * [[[1.0, 1, 1], [-1, 1, 1]]], "check", "another sign"),
        (lambda p: np.add(p, [[[0.0, 0, 0], [13, 0, 0]]]), "failed", "outlines agree poorly"),
    ],
)
@pytest.mark.parametrize("kind", ["affine", "tps"])
def test_images_contradict_landmarks_that_fit_each_other(make_pair, slip, verdict, reason, kind):
    pair = make_pair()
    found = fit_landmarks(slip(pairs_of(pair.truth)), kind, moving=pair.moving, fixed=pair.fixed)
    assert found.verdict == verdict, found.qc["reasons"]
    assert any(reason in line for line in found.qc["reasons"])


def test_shrinkage_and_masks_of_the_user_count(make_pair):
    pair = make_pair(scale=1.0)
    images = {"moving": pair.moving, "fixed": pair.fixed}
    pairs = pairs_of(pair.truth)
    assert fit_landmarks(pairs, **images, shrinkage=0.0).verdict == "good"
    assert fit_landmarks(pairs, **images, shrinkage=0.3).verdict == "check"
    aside = Image(np.roll(pair.fixed.data, 5, axis=0), pair.fixed.affine)
    assert fit_landmarks(pairs, **images, shrinkage=0.0, fixed_mask=aside).verdict != "good"
    constant = Image(np.ones(pair.fixed.data.shape), pair.fixed.affine)
    unknown = fit_landmarks(pairs, moving=pair.moving, fixed=constant, shrinkage=0.0)
    assert unknown.verdict == "check"
    assert "outlines of the tissues are not known" in unknown.qc["reasons"][0]


def test_tre_by_hand():
    pairs = np.array([[[0, 0, 0], [3, 4, 0]], [[1, 1, 0], [1, 1, 2.0]]])
    np.testing.assert_allclose(tre(Transform.identity(), pairs), [5, 2])


def test_oblique_planes(make_pair):
    pair = make_pair(15)
    turn = np.linalg.qr(np.array([[1.0, 0.4, 0.2], [-0.5, 1, 0.3], [0.2, -0.3, 1]]))[0]
    motion = np.eye(4)
    motion[:3, :3] = turn * np.sign(np.linalg.det(turn))
    motion[:3, 3] = (30, -12, 55)
    pairs = pairs_of(Transform(motion).compose(pair.truth))
    fixed = Image(pair.fixed.data, motion @ pair.fixed.affine)
    for kind in ("affine", "tps"):
        found = fit_landmarks(pairs, kind, moving=pair.moving, fixed=fixed)
        np.testing.assert_allclose(found.points(pairs[:, 0]), pairs[:, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (lambda p: p, "rigid", "not available"),
        (lambda p: p[:2], "affine", "too few"),
        (lambda p: p[:3], "tps", "too few"),
        (lambda p: np.stack([p[:, 0], np.roll(p[:, 1], 1, axis=0)], axis=1), "similarity", "do not fit"),
        (lambda p: p * [[[1.0], [0.0]]], "affine", "one place"),
        (lambda p: p * [1.0, 0, 0], "affine", "one line"),
        (lambda p: np.concatenate([p, np.add(p[:1], [[[0.05, 0, 0], [-3, 0, 0]]])]), "tps", "folds"),
    ],
)
def test_bad_landmarks(make_pair, change, kind, message):
    pair = make_pair()
    with pytest.raises((GeometryError, InputError), match=message):
        fit_landmarks(change(pairs_of(pair.truth)), kind, moving=pair.moving, fixed=pair.fixed)
