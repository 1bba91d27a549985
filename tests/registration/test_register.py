"""register: known transforms recovered, doubts told, bad input refused."""

from functools import partial

import numpy as np
import pytest

from histomri import registration
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.bspline import ControlGrid
from histomri.registration.planes import Plane, lift

register = partial(registration.register, kind="affine")  # the quicker one; bending has tests of its own

# Tolerances. With the fine mask both outlines are known to a fraction of an MRI pixel (386 µm): 60 µm is a sixth of it.
# From the map alone the section's outline is a staircase of such pixels too: 120 µm.
FINE_UM, COARSE_UM = 60, 120


@pytest.mark.parametrize(
    ("angle", "flip", "scale", "shift"),
    [
        (0, False, 1 / 1.148, (0, 0)),
        (37, True, 1 / 1.148, (1.5, -1.2)),
        (135, False, 0.92, (-2, 1)),
        (-160, True, 0.82, (3, 2)),
        (-85, False, 1 / 1.148, (-1, -2.5)),
    ],
)
def test_known_transform_recovered(make_pair, angle, flip, scale, shift):
    pair = make_pair(angle, flip, scale, shift)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask)
    assert pair.error_um(found) < FINE_UM
    assert found.verdict == "good"
    assert found.qc["turned_over"] is flip
    assert found.qc["size"] == pytest.approx(scale, rel=0.01)
    assert abs((found.qc["angle_deg"] - angle + 180) % 360 - 180) < 1
    assert np.linalg.det(found.matrix[:3, :3]) > 0


def test_a_fine_mri_gives_what_a_coarse_one_gives(make_pair):
    pair = make_pair(130, True, finer=4)
    assert pair.fixed.data.shape == (320, 296)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask)
    assert pair.error_um(found) < FINE_UM
    assert found.verdict == "good"


def test_the_map_alone_is_enough(make_pair):
    pair = make_pair(200, True)
    found = register(pair.moving, pair.fixed)
    assert pair.error_um(found) < COARSE_UM
    assert found.verdict == "good"


@pytest.mark.parametrize("flip", [False, True])
def test_missing_tissue_does_not_pull(make_pair, flip):
    pair = make_pair(-50, flip, missing=True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask)
    assert pair.error_um(found) < FINE_UM
    assert found.verdict == "good"


def test_affine_takes_up_shear_and_similarity_does_not(make_pair):
    pair = make_pair(20, shear=0.08)
    affine = register(pair.moving, pair.fixed, moving_mask=pair.mask, kind="affine")
    rigid = register(pair.moving, pair.fixed, moving_mask=pair.mask, kind="similarity")
    assert pair.error_um(affine) < FINE_UM
    assert pair.error_um(rigid) > 2 * pair.error_um(affine)
    assert rigid.qc["stretch"] < 0.005 < affine.qc["stretch"]


def test_the_same_input_gives_the_same_result(make_pair):
    pair = make_pair(64, True, missing=True)
    first, second = (register(pair.moving, pair.fixed, kind="bspline") for _ in range(2))
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert first.candidates == second.candidates


def test_input_is_left_alone(make_pair):
    pair = make_pair()
    before = pair.moving.data.copy(), pair.fixed.data.copy(), pair.mask.data.copy()
    register(pair.moving, pair.fixed, moving_mask=pair.mask)
    for old, new in zip(before, (pair.moving.data, pair.fixed.data, pair.mask.data), strict=True):
        np.testing.assert_array_equal(old, new)


def stored_as(image, axes):
    """Store the same picture with other array axes; every voxel stays where it is in the world."""
    data, affine = image.data, image.affine.copy()
    if "transposed" in axes:
        data, affine = data.T, affine[:, [1, 0, 2, 3]]
    if "reversed" in axes:
        affine[:, 3] += affine[:, 0] * (data.shape[0] - 1)
        affine[:, 0] *= -1
        data = data[::-1]
    return Image(data, affine)


@pytest.mark.parametrize(
    ("moving_axes", "fixed_axes"),
    [("as is", "reversed"), ("reversed", "transposed"), ("transposed", "as is"), ("transposed", "transposed reversed")],
)
def test_storage_order_makes_no_difference(make_pair, moving_axes, fixed_axes):
    pair = make_pair(110, True)
    found = register(stored_as(pair.moving, moving_axes), stored_as(pair.fixed, fixed_axes))
    assert pair.error_um(found) < COARSE_UM
    assert found.qc["turned_over"] is True


def test_oblique_slice(make_pair):
    pair = make_pair(-30)
    motion = np.eye(4)
    motion[:3, :3] = np.linalg.qr(np.array([[1.0, 0.4, 0.2], [-0.5, 1, 0.3], [0.2, -0.3, 1]]))[0]
    motion[:3, :3] *= np.sign(np.linalg.det(motion[:3, :3]))
    motion[:3, 3] = (30, -12, 55)
    tilted = Image(pair.fixed.data, motion @ pair.fixed.affine)
    found = register(pair.moving, tilted, moving_mask=pair.mask)
    points = np.array([[1.0, 2, 0], [-3, 4, 0], [5, -1, 0]])
    expected = pair.truth.points(points) @ motion[:3, :3].T + motion[:3, 3]
    assert np.linalg.norm(found.points(points) - expected, axis=1).max() < 0.15


def test_the_right_slice_is_found(make_pair):
    pair = make_pair(80)
    shrinking = [
        Image(np.where(np.roll(pair.fixed.data, k, 0) * pair.fixed.data > 0, 1.0, 0), np.eye(4)) for k in (9, 5)
    ]
    empty = np.zeros_like(pair.fixed.data)
    stack = np.stack([empty, shrinking[1].data, pair.fixed.data, shrinking[0].data], axis=2)
    affine = pair.fixed.affine.copy()
    affine[2] = (0, 0, 2.2, -4)
    found = register(pair.moving, Image(stack, affine), moving_mask=pair.mask, kind="similarity")
    assert found.slice == 2
    assert found.qc["slices_refused"][0]["slice"] == 0
    np.testing.assert_allclose(found.points([[0, 0]])[0, 2], 2 * 2.2 - 4, atol=1e-9)
    pinned = register(pair.moving, Image(stack, affine), moving_mask=pair.mask, slices=1, kind="similarity")
    assert pinned.slice == 1
    with pytest.raises(GeometryError, match="no slice 9"):
        register(pair.moving, Image(stack, affine), slices=[1, 9])


def test_noise_around_the_tissue_is_no_tissue(make_pair, rng):
    pair = make_pair(25)
    noisy = np.hypot(
        pair.fixed.data + rng.normal(0, 0.05, pair.fixed.data.shape), rng.normal(0, 0.05, pair.fixed.data.shape)
    )
    found = register(pair.moving, Image(noisy, pair.fixed.affine), moving_mask=pair.mask)
    assert pair.error_um(found) < FINE_UM


def test_a_round_section_is_not_called_good(make_pair):
    pair = make_pair(75, True, round_=True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask)
    assert found.qc["agreement"] > 0.7  # the overlap is nearly perfect, and says nothing
    assert found.confidence < 0.04
    assert found.verdict == "check"
    assert any("orientation" in reason for reason in found.qc["reasons"])


def test_size_at_its_bound_is_told(make_pair):
    pair = make_pair(scale=0.66)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask)
    assert found.verdict != "good"
    assert any("pixel sizes" in reason for reason in found.qc["reasons"])


def test_no_correlation_is_made(make_pair, rng):
    # The outline alone decides: other values inside the tissue change nothing.
    pair = make_pair(15)
    other = np.where(np.isfinite(pair.moving.data), rng.random(pair.moving.data.shape), np.nan)
    changed = np.where(pair.fixed.data > 0, 1 + rng.random(pair.fixed.data.shape), 0.0)
    first = register(pair.moving, pair.fixed, kind="bspline")
    second = register(Image(other, pair.moving.affine), Image(changed, pair.fixed.affine), kind="bspline")
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert len(first.displacements) == len(second.displacements)


def test_saved_with_its_record(make_pair, tmp_path):
    from histomri.core.files import read_json
    from histomri.registration import Transform

    pair = make_pair()
    found = register(pair.moving, pair.fixed)
    path = found.save(tmp_path / "x")[0]
    record = read_json(path)["Info"]["Registration"]
    assert record["QualityControl"]["verdict"] == "good"
    assert len(record["Candidates"]) == len(found.candidates)
    np.testing.assert_array_equal(Transform.load(path).matrix, found.matrix)


def scaled(image, factor):
    return Image(image.data, np.diag([factor, factor, factor, 1.0]) @ image.affine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"moving": Image(np.full((7, 9), np.nan), np.eye(4))}, "no finite value"),
        (lambda p: {"moving": Image(np.ones((7, 9)), np.eye(4))}, "constant"),
        (lambda p: {"fixed": Image(np.zeros((7, 9)), np.eye(4))}, "constant"),
        (lambda p: {"moving_mask": Image(np.zeros((7, 9)), np.eye(4))}, "moving mask is empty"),
        (lambda p: {"fixed_mask": Image(np.ones((80, 74)), p.fixed.affine)}, "whole image"),
        (lambda p: {"moving": scaled(p.moving, 1000)}, "µm"),
        (lambda p: {"moving": scaled(p.moving, 0.001)}, "µm"),
        (lambda p: {"moving": scaled(p.moving, 2.2)}, "twice"),
        (lambda p: {"fixed": scaled(p.fixed, 2.2)}, "twice"),
        (lambda p: {"moving": Image(p.moving.data[:, :, None], p.moving.affine)}, "two-dimensional"),
        (lambda p: {"fixed_mask": Image(p.fixed.data[:, :, None], p.fixed.affine)}, "three-dimensional"),
        (lambda p: {"fixed_mask": Image(p.fixed.data, p.fixed.affine[[0, 2, 1, 3]])}, "tilted"),
        (lambda p: {"kind": "rigid"}, "kind='similarity'"),
        (lambda p: {"moving": p.moving.data}, "an Image or the path of a NIfTI file is needed"),
        (lambda p: {"engine": "ants"}, "engine='robust'"),
        (lambda p: {"shrinkage": 12.9}, "implausible"),
        (lambda p: {"slices": 3}, "only one"),
    ],
)
def test_bad_input(make_pair, change, message):
    pair = make_pair()
    options = {"moving": pair.moving, "fixed": pair.fixed, **change(pair)}
    with pytest.raises(InputError, match=message):
        register(options.pop("moving"), options.pop("fixed"), **options)


def test_lift_maps_planes_onto_each_other(rng):
    affines = [np.eye(4), np.eye(4)]
    for affine in affines:
        affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * (0.5, 0.7, 2)
        affine[:3, 3] = rng.normal(size=3)
    moving, fixed = (Plane.of(Image(np.zeros((7, 9)), affine)) for affine in affines)
    for mirrored in (1, -1):
        pull = np.eye(3)
        pull[:2] += rng.normal(0, 0.2, (2, 3))
        pull[:2, 1] *= mirrored
        points = rng.normal(size=(6, 2))
        there = points @ pull[:2, :2].T + pull[:2, 2]
        matrix = lift(pull, moving, fixed)
        back = moving.to_world(there) @ matrix[:3, :3].T + matrix[:3, 3]
        np.testing.assert_allclose(back, fixed.to_world(points), atol=1e-12)
        assert np.linalg.det(matrix[:3, :3]) > 0


def test_spline_reproduces_what_it_must():
    # A cubic B-spline with coefficients on a straight line is that line; its bending energy is zero in the interior.
    points = np.random.default_rng(0).uniform(-5, 5, (40, 2))
    grid = ControlGrid.covering(points, 2.5)
    assert np.asarray(grid.basis(points).sum(axis=1)) == pytest.approx(1.0)
    p, q = np.meshgrid(grid.p, grid.q, indexing="ij")
    line = (0.3 * p - 0.7 * q + 2).ravel()
    np.testing.assert_allclose(grid.basis(points) @ line, points @ [0.3, -0.7] + 2, atol=1e-12)
    bending, change = grid.roughness(2).toarray(), grid.roughness(3).toarray()
    assert np.linalg.eigvalsh(bending).min() > -1e-9
    assert np.linalg.eigvalsh(change).min() > -1e-9
    wave = np.zeros((len(grid.p), len(grid.q)))
    wave[3, 3] = 1.0
    # One function alone: the integral of (b_pp^2 + 2 b_pq^2 + b_qq^2), from the known integrals of the cubic B-spline
    # (151/315, 2/3, 8/3) and the spacing h: (2 * 8/3 * 151/315 + 2 * (2/3)^2) / h^2.
    expected = (2 * 8 / 3 * 151 / 315 + 2 * (2 / 3) ** 2) / 2.5**2
    assert wave.ravel() @ bending @ wave.ravel() == pytest.approx(expected, rel=1e-12)
    # Likewise the integral of b_ppp^2 + 3 b_ppq^2 + 3 b_pqq^2 + b_qqq^2; that of the third derivative is 20.
    expected = (2 * 20 * 151 / 315 + 2 * 3 * 8 / 3 * 2 / 3) / 2.5**4
    assert wave.ravel() @ change @ wave.ravel() == pytest.approx(expected, rel=1e-12)


def bent_pair(make_pair):
    """Return a pair whose section is bent by up to 0.9 mm, and the truth as a function of section points."""
    pair = make_pair(0, False, 1 / 1.148, (0, 0))
    i, j = np.indices(pair.mask.data.shape)
    points = (np.stack([i, j, 0 * i, 0 * i + 1], axis=-1) @ pair.mask.affine.T)[..., :3]

    def truth(xyz):
        xyz = pair.truth.points(xyz.reshape(-1, 3))
        return xyz + 0.9 * np.column_stack([np.sin(xyz[:, 1] / 4), np.sin(xyz[:, 0] / 5 + 1), 0 * xyz[:, 0]])

    from scipy.ndimage import map_coordinates

    there = truth(points)
    index = np.linalg.inv(pair.fixed.affine) @ np.column_stack([there, np.ones(len(there))]).T
    mask = map_coordinates(pair.fixed.data, index[:2], order=1).reshape(i.shape)
    return pair, Image((mask > 0.5).astype(float), pair.mask.affine), truth, points[mask > 0.5]


def test_a_bent_section_is_straightened(make_pair, tmp_path):
    pair, mask, truth, tissue = bent_pair(make_pair)
    section = Image(np.where(mask.data > 0, 1.0, np.nan), mask.affine)
    tissue = tissue[::37]

    def error(found):
        return 1000 * np.median(np.linalg.norm(found.points(tissue) - truth(tissue), axis=1))

    affine = register(section, pair.fixed, kind="affine")
    spline = register(section, pair.fixed, kind="bspline")
    assert spline.qc["deformed"]
    assert error(spline) < 0.6 * error(affine)
    assert error(spline) < 200  # half an MRI pixel
    assert spline.qc["jacobian"][0] > 0.3
    np.testing.assert_allclose(spline.inverse().points(spline.points(tissue)), tissue, atol=1e-3)
    from histomri.registration import Transform

    again = Transform.load(spline.save(tmp_path / "x")[0])
    np.testing.assert_allclose(again.points(tissue), spline.points(tissue), atol=1e-3)


def test_no_deformation_where_there_is_none(make_pair):
    pair = make_pair(60, missing=True)
    found = register(pair.moving, pair.fixed, moving_mask=pair.mask, kind="bspline")
    assert found.is_affine
    assert found.qc["deformed"] is False
