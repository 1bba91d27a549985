"""Whether the verdict knows which way a section lies, which slice it is from, and whether a side of it is missing."""

import numpy as np
import pytest

from histomri.core.images import Image
from histomri.registration import register
from histomri.registration.alternatives import side_in_pictures
from histomri.simulation.section_kinds import FAIR, OPEN, RIMS, make_kind

_PIXEL_MM = 0.386


def errors_of(transform, pair):
    return np.linalg.norm(transform.points(pair.points_moving) - pair.points_fixed, axis=1)


def found_in(pair, **options):
    return register(pair.moving, pair.fixed, moving_mask=pair.moving_mask, **options)


def turned(image, degrees):
    """Return an image with another frame in its header: the same pixels."""
    turn, angle = np.eye(4), np.radians(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Image(image.data, turn @ image.affine)


def test_the_frame_of_the_header_changes_nothing():
    pair = make_kind("brain", 90003)
    upright = found_in(pair)
    for degrees in (5, 37, 180):
        found = register(pair.moving, turned(pair.fixed, degrees), moving_mask=pair.moving_mask)
        assert found.qc["slice_agreement"][0]["agreement"] == pytest.approx(
            upright.qc["slice_agreement"][0]["agreement"], abs=1e-3
        )
        assert found.verdict == upright.verdict


@pytest.mark.parametrize(("kind", "seed"), [("block", 90001), ("kidney", 90001)])
def test_a_section_that_fits_in_two_ways_is_asked_about(kind, seed):
    pair = make_kind(kind, seed)
    found = found_in(pair)
    assert found.verdict == "check"
    places = [found, *(each.transform for each in found.alternatives if each.is_open)]
    (question,) = [reason for reason in found.qc["reasons"] if "which of these" in reason]
    assert f"which of these {len(places)} orientations" in question
    # One of those that are offered is right: within two pixels.
    assert min(np.median(errors_of(place, pair)) for place in places) < 2 * _PIXEL_MM


def test_the_way_that_was_chosen_is_taken():
    pair = make_kind("block", 90001)
    found = found_in(pair)
    other = next(each for each in found.alternatives if each.is_open)
    chosen = found_in(pair, angle_deg=other.candidate.angle_deg, turned_over=other.candidate.turned_over)
    assert not any("which of these" in reason for reason in chosen.qc["reasons"])
    apart = chosen.points(pair.points_moving) - other.transform.points(pair.points_moving)
    assert np.median(np.linalg.norm(apart, axis=1)) < _PIXEL_MM / 2
    assert found.instead(other).verdict == "check"


def test_a_missing_side_is_named_and_can_be_left_out():
    pair = make_kind("rim", 70000)
    found = found_in(pair)
    assert found.verdict == "check"
    side = found.qc["missing_side"]
    (other,) = [each for each in found.alternatives if each.kind == "missing side"]
    assert np.percentile(errors_of(other.transform, pair), 95) < 0.75 * np.percentile(errors_of(found, pair), 95)
    # The side that was cut off is the first number drawn; the one that is named lies within 45 degrees.
    true = np.random.default_rng([70000, 6]).uniform(-np.pi, np.pi)
    assert np.dot(side["direction"][:2], (np.cos(true), np.sin(true))) > np.cos(np.pi / 4)
    assert any(f"{side['side']} side of the pictures" in reason for reason in found.qc["reasons"])


def test_sides_are_named_as_the_pictures_show_them():
    flat = Image(np.zeros((4, 4)), np.eye(4))  # in the pictures x grows to the left, and y upwards
    names = {(1, 0): "left", (-1, 0): "right", (0, 1): "upper", (0, -1): "lower", (1, 1): "upper left"}
    for (x, y), name in names.items():
        assert side_in_pictures(np.array([x, y, 0.0]), flat) == name


_SEEDS = range(99000, 99060)  # other than those that the limits were set on
_NEARLY_SYMMETRIC = ("bean", "star")


@pytest.mark.slow
def test_what_is_called_good_lies_right():
    # Of sections that fit in several ways.
    wrong = []
    for kind in OPEN:
        for seed in _SEEDS:
            pair = make_kind(kind, seed)
            found = found_in(pair)
            wrong.append(found.verdict == "good" and np.median(errors_of(found, pair)) > 1.0)
    assert np.mean(wrong) <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        tuple(kind for kind in FAIR if kind not in _NEARLY_SYMMETRIC),
        pytest.param(
            _NEARLY_SYMMETRIC, marks=pytest.mark.xfail(reason="half of those that lie right are asked about: 21 of 43")
        ),
    ],
)
def test_what_fits_in_one_way_is_hardly_asked_about(kinds):
    asked = []
    for kind in kinds:
        for seed in _SEEDS:
            pair = make_kind(kind, seed)
            found = found_in(pair)
            if np.median(errors_of(found, pair)) <= 1.0:
                asked.append(any("which of these" in reason for reason in found.qc["reasons"]))
    assert np.mean(asked) <= 0.05


def flagged(kinds):
    """Return in how many of sections that lie right, or lack a side, one is said to be missing."""
    said = []
    for kind in kinds:
        for seed in _SEEDS[:30]:
            pair = make_kind(kind, seed)
            found = found_in(pair)
            if kind in RIMS or np.median(errors_of(found, pair)) <= 1.0:
                said.append(found.qc["missing_side"] is not None)
    return np.mean(said)


@pytest.mark.slow
def test_missing_sides_are_found():
    assert flagged(RIMS) >= 0.7


@pytest.mark.slow
@pytest.mark.xfail(reason="a side that is there is said to be missing in 13 of 110, 12 %")
def test_a_side_that_is_there_is_hardly_said_to_be_missing():
    assert flagged(("standard", "hard", "bean")) <= 0.1
