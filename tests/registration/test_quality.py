"""What is measured after a registration, the second engine, tilts, known orientations, and the pictures."""

from functools import partial

import numpy as np
import pytest

from histomri import registration
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration import assess, write_figures
from histomri.registration.quality import judge, normalised_mutual_information
from histomri.registration.refine import Pose

register = partial(registration.register, kind="affine")  # the quicker one; bending has tests of its own


def test_the_same_is_perfect_and_the_other_is_not(make_pair):
    pair = make_pair(30)
    told = assess(pair.truth, pair.moving, pair.fixed, moving_mask=pair.mask)
    assert told["dice"] > 0.97
    assert told["inverse_um"] < 1e-6
    assert "jacobian" not in told
    wrong = assess(make_pair(120).truth, pair.moving, pair.fixed, moving_mask=pair.mask)
    assert wrong["dice"] < 0.9


def test_mutual_information_against_its_limits(rng):
    values = rng.normal(size=(70, 90))
    assert normalised_mutual_information(values, np.exp(values)) == pytest.approx(2.0)
    unrelated = normalised_mutual_information(values, rng.normal(size=values.shape))
    assert 1.0 < unrelated < 1.005  # the bias of 12 x 12 bins filled by 6300 pixels
    assert normalised_mutual_information(values, np.ones_like(values)) is None


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        ({"agreement": 0.8}, "good"),
        ({"agreement": 0.8, "objections": ["which of these 2 orientations is it?"]}, "check"),
        ({"agreement": 0.8, "error_px": 0.8}, "check"),
        ({"agreement": 0.45}, "check"),
        ({"agreement": 0.3}, "failed"),
        ({"agreement": 0.8, "at_bound": True}, "check"),
        ({"agreement": 0.8, "stretch": 0.2}, "check"),
    ],
)
def test_verdicts(given, verdict):
    found, reasons = judge(**{"at_bound": False, **given})
    assert found == verdict
    assert bool(reasons) is (verdict != "good")


def test_pose_of_a_matrix(rng):
    for flip in (False, True):
        pose = Pose(0.7, np.array([1.0, -2]), -0.1, 0.05, -0.03, flip, rng.normal(size=2), rng.normal(size=2))
        again = Pose(0.0, np.zeros(2), 0.0, 0.0, 0.0, False, pose.moving_centre, pose.fixed_centre).with_matrix(
            pose.matrix
        )
        np.testing.assert_allclose(again.matrix, pose.matrix, atol=1e-12)
        np.testing.assert_allclose(again.parameters, pose.parameters, atol=1e-12)
        assert again.flip is flip


@pytest.mark.parametrize("options", [{"kind": "affine", "engine": "dipy"}, {"kind": "syn"}])
def test_dipy_as_engine(make_pair, options):
    pair = make_pair(50, True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, **options)
    assert pair.error_um(found) < 386  # it is the coarser engine: one pixel
    assert found.info["Parameters"]["Engine"] == "dipy"
    assert assess(found, pair.moving, pair.fixed, moving_mask=pair.mask)["inverse_um"] < 1


def test_syn_that_fills_a_missing_piece_is_not_good(make_pair):
    pair = make_pair(50, missing=True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, kind="syn")
    low, high = found.qc["jacobian"]
    assert low < 0.6 or high > 1.67  # or this pair tests nothing
    assert found.verdict != "good"
    assert any("SyN changes areas" in reason for reason in found.qc["reasons"])


def test_known_orientation_is_kept_to(make_pair):
    pair = make_pair(75, True, round_=True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, angle_deg=70, turned_over=True)
    assert found.qc["turned_over"] is True
    assert abs(found.qc["angle_deg"] - 70) < 25
    assert all(candidate.turned_over for candidate in found.candidates)


def test_a_tilted_section_is_found_tilted(make_pair):
    pair = make_pair(20)
    shape, tilt = pair.fixed.data.shape, np.radians(8)
    affine = pair.fixed.affine.copy()
    affine[2, 2], affine[2, 3] = 1.0, -3.0
    i, j, k = np.indices((*shape, 7))
    x, y, z = (affine @ np.stack([i, j, k, 0 * i + 1]).reshape(4, -1))[:3]
    # An organ that shifts by its height, so that a tilted cut through it is stretched along x, and not upright.
    from histomri.registration.planes import Plane

    assert Plane.of(pair.fixed).frame[0, 0] == pytest.approx(1)
    u = (x * np.cos(tilt) + z * np.sin(tilt)) * (1 + 0.12 * np.sin(z * np.cos(tilt) - x * np.sin(tilt)))
    radius = lobe_of(np.column_stack([u, y]))
    volume = Image(radius.reshape(*shape, 7).astype(float), affine)
    options = {"moving_mask": pair.mask, "slices": 3}
    upright = register(pair.moving, volume, **options)
    tilted = register(pair.moving, volume, tilts_deg=(-8, 8), **options)
    assert upright.qc["tilt_deg"] == [0, 0]
    assert tilted.qc["agreement"] >= upright.qc["agreement"]
    with pytest.raises(GeometryError, match="15 degrees"):
        register(pair.moving, volume, tilts_deg=(30,), **options)
    with pytest.raises(GeometryError, match="cannot be tilted"):
        register(pair.moving, pair.fixed, moving_mask=pair.mask, tilts_deg=(4,), angle_deg=20)


def lobe_of(points):
    x, y = points.T
    angle = np.arctan2(y, x)
    edge = 9 + 2.0 * np.cos(2 * angle + 0.4) + 1.2 * np.cos(3 * angle - 1) + 0.7 * np.sin(5 * angle)
    return np.hypot(x, y) < edge


def test_pictures(make_pair, tmp_path):
    pair = make_pair(50, missing=True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, kind="bspline")
    marks = np.array([[[1.0, 2, 0], [0, 0, 0]], [[3, 4, 0], [1, 1, 0]]])
    marks[:, 1] = found.points(marks[:, 0])
    paths = write_figures(found, pair.moving, pair.fixed, tmp_path, moving_mask=pair.mask, landmarks=marks)
    names = [
        "contours",
        "checkerboard",
        "missing",
        "residual",
        "grid",
        "jacobian",
        "candidates",
        "gallery",
        "landmarks",
    ]
    assert [path.name for path in paths] == ["registration_flipbook.gif", *(f"registration_{n}.png" for n in names)]
    from PIL import Image as Picture

    for path in paths:
        with Picture.open(path) as opened:
            assert getattr(opened, "n_frames", 1) == (2 if path.suffix == ".gif" else 1)
            assert opened.convert("RGB").getcolors(maxcolors=20) is None  # there are more


@pytest.mark.parametrize(("axes", "drawn"), [((0, 1), "xy"), ((0, 2), "xz"), ((1, 2), "yz")])
@pytest.mark.parametrize("signs", [(1, 1), (-1, 1), (-1, -1)])
def test_pictures_are_drawn_in_mm_of_the_world(axes, drawn, signs):
    from histomri.registration.figures import overlay_of
    from histomri.registration.quality import Registration

    affine = np.zeros((4, 4))
    for column, (axis, sign) in enumerate(zip((*axes, 3 - sum(axes)), (*signs, 1), strict=True)):
        affine[axis, column] = 0.5 * sign
    affine[:, 3] = (7, -11, 30, 1)
    data = np.zeros((20, 24))
    data[4:14, 6:20] = 1
    image = Image(data, affine)
    overlay = overlay_of(Registration(np.eye(4)), image, image, (None, None), ("section", "MRI"), None)
    world = affine @ (3, 5, 0, 1)
    expected = [world["xyz".index(name)] for name in drawn]
    np.testing.assert_allclose([overlay.p[3, 5], overlay.q[3, 5]], expected)
    np.testing.assert_allclose(world[:3] @ overlay.axes, expected)
