"""Transform: algebra, files, the ITK convention, resampling."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration import Displacement, Registration, Transform, quality_warnings

numbers = st.floats(-1, 1, allow_nan=False)


@st.composite
def affines(draw):
    matrix = np.eye(4)
    matrix[:3, :3] += 0.25 * draw(arrays(float, (3, 3), elements=numbers))  # diagonally dominant, so invertible
    matrix[:3, 3] = 20 * draw(arrays(float, 3, elements=numbers))
    return Transform(matrix)


def wavy(seed=0, inverted=True, depth=1):
    rng = np.random.default_rng(seed)
    vectors = rng.uniform(-0.5, 0.5, (7, 9, depth, 3))  # at most 1 mm between neighbours 4 mm apart: cannot fold
    affine = np.diag([4.0, 4.0, 2.0, 1.0])
    affine[:3, 3] = (-12, -16, 0)
    return Displacement(vectors, affine, inverted)


@settings(deadline=None, max_examples=40)
@given(affines(), affines(), arrays(float, (5, 3), elements=st.floats(-50, 50)))
def test_compose_is_one_after_the_other_and_inverse_undoes(first, second, points):
    both = second.compose(first)
    # 1e-9 mm: rounding of coordinates below 100 mm through matrices of condition below 10.
    np.testing.assert_allclose(both.points(points), second.points(first.points(points)), atol=1e-9)
    np.testing.assert_allclose(both.inverse().points(both.points(points)), points, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(affines(), affines(), st.integers(0, 1000), st.booleans())
def test_the_same_with_displacements(first, second, seed, inverted):
    points = np.random.default_rng(seed).uniform(-15, 15, (20, 3))
    bent = Transform(first.matrix, (wavy(seed, inverted),))
    more = Transform(second.matrix, (wavy(seed + 1, not inverted, depth=3),))
    chain = more.compose(bent)
    np.testing.assert_allclose(chain.points(points), more.points(bent.points(points)), atol=1e-5)
    # 1 µm there and back, the promise of the format.
    np.testing.assert_allclose(chain.inverse().points(chain.points(points)), points, atol=1e-3)


def judged(verdict, moving, fixed):
    quality = {"verdict": verdict, "reasons": ["the outlines agree poorly"]}
    sides = {"Moving": {"Slide": moving, "PixelSize_um": [0.5, 0.5]}, "Fixed": {"Slide": fixed}}
    return {**sides, "Registration": {"Slice": 4, "QualityControl": quality}}


def test_what_is_known_of_a_transform_survives_inverse_and_chain(tmp_path):
    failed = Transform(np.eye(4), info=judged("failed", "HE.svs", "Ki67.svs"))
    good = Transform(np.eye(4), info=judged("good", "Ki67.svs", "CD3.svs"))
    chain = good.compose(failed)
    assert (chain.info["Moving"]["Slide"], chain.info["Fixed"]["Slide"]) == ("HE.svs", "CD3.svs")
    back = chain.inverse()
    assert (back.info["Moving"]["Slide"], back.info["Fixed"]["Slide"]) == ("CD3.svs", "HE.svs")
    assert back.inverse().info == chain.info
    assert failed.inverse().compose(back.compose(good)).info["Moving"]["Slide"] == "Ki67.svs"
    for name, transform, count in (
        ("c", chain, 1),
        ("b", back, 1),
        ("i", failed.inverse(), 1),
        ("g", good.inverse(), 0),
    ):
        again = Transform.load(transform.save(tmp_path / name)[0])
        assert [text.count("the outlines agree poorly") for text in quality_warnings(again, "x.json")] == [1] * count
    # Where the second end is not known, the chain does not end where the first did.
    assert "Fixed" not in Transform.identity().compose(good).info
    assert not Transform.identity().compose(Transform.identity()).info


def test_displacement_against_its_definition():
    # At the grid points themselves nothing is interpolated: y + d(y) is known exactly.
    field = wavy(inverted=False)
    index = np.argwhere(np.ones((7, 9), bool))
    points = np.column_stack([index, np.zeros(len(index))]) @ field.affine[:3, :3].T + field.affine[:3, 3]
    expected = points + field.vectors[index[:, 0], index[:, 1], 0]
    np.testing.assert_allclose(Transform(np.eye(4), (field,)).points(points), expected, atol=1e-12)


def test_a_fold_is_an_error():
    vectors = np.zeros((9, 9, 1, 3))
    vectors[4, :, 0, 0] = 30.0
    folded = Transform(np.eye(4), (Displacement(vectors, np.eye(4), inverted=True),))
    with pytest.raises(GeometryError, match="folds"):
        folded.points([[4.4, 4.0, 0.0]])


def test_jacobian_of_a_linear_field():
    # d = (0.1 x, -0.2 y, 0): the determinant is 1.1 * 0.8 everywhere, whatever the grid.
    affine = np.diag([-2.0, 3.0, 1.0, 1.0])
    i, j = np.indices((7, 9))
    vectors = np.stack([0.1 * -2 * i, -0.2 * 3 * j, 0 * i], axis=-1)[:, :, None]
    np.testing.assert_allclose(Displacement(vectors, affine).jacobian(), 1.1 * 0.8, atol=1e-12)


def test_points_without_z_lie_in_the_plane_of_the_slide():
    matrix = np.eye(4)
    matrix[:3, 3] = (1, 2, 3)
    np.testing.assert_array_equal(Transform(matrix).points([[10, 20]]), [[11, 22, 3]])


@pytest.mark.parametrize("bad", [np.zeros((3, 4)), [[np.nan, 0, 0]], [1, 2, 3]])
def test_bad_points(bad):
    with pytest.raises(GeometryError):
        Transform.identity().points(bad)


@pytest.mark.parametrize("bad", [np.eye(3), np.diag([1, 1, 0, 1]), np.full((4, 4), np.nan), np.diag([1, 1, 1, 2])])
def test_bad_matrices(bad):
    with pytest.raises(GeometryError):
        Transform(bad)


def test_cannot_be_changed_from_outside():
    matrix = np.eye(4)
    transform = Transform(matrix)
    matrix[0, 3] = 5
    assert transform.matrix[0, 3] == 0
    with pytest.raises(ValueError, match="read-only"):
        transform.matrix[0, 3] = 1


@pytest.mark.parametrize("ending", ["json", "tfm"])
def test_round_trip_through_files(tmp_path, rng, ending):
    matrix = np.eye(4)
    matrix[:3] += rng.normal(0, 0.3, (3, 4))
    transform = Transform(matrix, info={"Sources": ["a.nii.gz"]})
    files = transform.save(tmp_path / "sub-1_from-histo_to-dwi_mode-image_xfm.json")
    assert [file.name for file in files] == [
        "sub-1_from-histo_to-dwi_mode-image_xfm.json",
        "sub-1_from-histo_to-dwi_mode-image_xfm.tfm",
    ]
    again = Transform.load(files[0].with_suffix("." + ending))
    np.testing.assert_allclose(again.matrix, matrix, atol=1e-12)


def test_round_trip_with_displacements(tmp_path, rng):
    transform = Transform(np.eye(4), (wavy(1), wavy(2, inverted=False, depth=2))).inverse()
    files = transform.save(tmp_path / "x")
    assert [file.name for file in files] == ["x.json", "x.tfm", "x_warp0.nii.gz", "x_warp1.nii.gz"]
    points = rng.uniform(-10, 10, (50, 3))
    # 1 µm; the header of NIfTI keeps the affine in single precision.
    np.testing.assert_allclose(Transform.load(files[0]).points(points), transform.points(points), atol=1e-3)


def test_itk_convention_by_hand(tmp_path):
    # Moving to fixed in RAS: a quarter turn counter-clockwise (x -> y, y -> -x), then a shift by (10, 20, 30).
    matrix = np.array([[0.0, -1, 0, 10], [1, 0, 0, 20], [0, 0, 1, 30], [0, 0, 0, 1]])
    path = Transform(matrix).save(tmp_path / "x")[1]
    lines = path.read_text().splitlines()
    assert lines[0] == "#Insight Transform File V1.0"
    assert lines[2] == "Transform: AffineTransform_double_3_3"
    values = np.array(lines[3].removeprefix("Parameters:").split(), dtype=float)
    # The moving point (1, 2, 3) RAS goes to (10 - 2, 20 + 1, 33) = (8, 21, 33) RAS, which is (-8, -21, 33) LPS.
    # ITK asks the other way: where in the moving image is the fixed point (-8, -21, 33)? At (-1, -2, 3) LPS.
    found = values[:9].reshape(3, 3) @ [-8, -21, 33] + values[9:]
    np.testing.assert_allclose(found, [-1, -2, 3], atol=1e-12)
    assert lines[4] == "FixedParameters: 0 0 0"


def test_itk_centre_of_rotation(tmp_path):
    # y = A (x - c) + t + c with A a half turn about z, c = (5, 0, 0), t = (1, 0, 0): LPS (5, 1, 0) -> (6, -1, 0).
    path = tmp_path / "ants.tfm"
    path.write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: MatrixOffsetTransformBase_double_3_3\n"
        "Parameters: -1 0 0 0 -1 0 0 0 1 1 0 0\nFixedParameters: 5 0 0\n"
    )
    np.testing.assert_allclose(Transform.load(path).points([[-6, 1, 0]]), [[-5, -1, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{}", "not a transform"),
        ("a.json", '{"Format": "histomri-transform", "Units": "mm", "CoordinateSystem": "RAS+"}', "incomplete"),
        ("a.json", "[1", "not valid JSON"),
        ("a.tfm", "hello", "not an ITK"),
        ("a.tfm", "#Insight Transform File V1.0\nTransform: Euler3DTransform_double_3_3\nParameters: 0", "Euler3D"),
        ("a.tfm", "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: 1 2", "2 param"),
        (
            "a.tfm",
            "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: " + "0 " * 12,
            "inverted",
        ),
        ("a.xfm", "x", "no ending"),
        ("a.json", "", "empty"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Transform.load(path)
    assert name in str(caught.value)


def test_transform_with_a_field_missing(tmp_path):
    files = Transform(np.eye(4), (wavy(),)).save(tmp_path / "x")
    files[2].unlink()
    with pytest.raises(InputError, match=r"x_warp0.nii.gz: no such"):
        Transform.load(files[0])


def test_flattened_matrix_in_json(tmp_path):
    path = Transform.identity().save(tmp_path / "x")[0]
    content = json.loads(path.read_text())
    content["MatrixMovingToFixed"][0] = [0, 0, 0, 0]
    path.write_text(json.dumps(content))
    with pytest.raises(GeometryError, match=r"x.json.*inverted"):
        Transform.load(path)


def brute_force(transform, image, like):
    """Normalised bilinear interpolation, one voxel at a time."""
    out = np.full(like.data.shape, np.nan)
    back = np.linalg.inv(image.affine) @ np.linalg.inv(transform.matrix) @ like.affine
    for i, j in np.ndindex(out.shape):
        u, v, *_ = back @ [i, j, 0, 1]
        value = weight = 0.0
        for a in (int(np.floor(u)), int(np.floor(u)) + 1):
            for b in (int(np.floor(v)), int(np.floor(v)) + 1):
                inside = 0 <= a < image.data.shape[0] and 0 <= b < image.data.shape[1]
                if inside and np.isfinite(image.data[a, b]):
                    share = (1 - abs(u - a)) * (1 - abs(v - b))
                    value, weight = value + share * image.data[a, b], weight + share
        if weight >= 0.5:
            out[i, j] = value / weight
    return out


@pytest.mark.parametrize("deformable", [False, True])
def test_resampling_with_gaps_against_brute_force(rng, deformable):
    data = rng.random((7, 9))
    data[rng.random(data.shape) < 0.2] = np.nan
    image = Image(data, np.array([[-2.0, 0, 0, 5], [0, 3, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1]]))
    like = Image(np.zeros((8, 5)), np.array([[0, 1.7, 0, -8.0], [2.1, 0.3, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]))
    matrix = np.array([[0.9, 0.2, 0, 0.31], [-0.1, 1.1, 0, 0.77], [0, 0, 1, 0], [0, 0, 0, 1]])
    still = Displacement(np.zeros((2, 2, 1, 3)), np.eye(4))  # takes the path of deformable transforms, moves nothing
    transform = Transform(matrix, (still,) if deformable else ())
    expected = brute_force(transform, image, like)
    assert 10 < np.isfinite(expected).sum() < expected.size
    np.testing.assert_allclose(transform.resample(image, like).data, expected, atol=1e-9)


def test_labels_stay_labels(rng):
    labels = rng.integers(1, 5, (7, 9)).astype(float)
    image = Image(labels, np.eye(4))
    shifted = Transform(np.array([[1, 0, 0, 0.4], [0, 1, 0, -0.4], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    result = shifted.resample(image, image, order=0).data
    np.testing.assert_array_equal(result, labels)  # less than half a voxel


def test_constant_stays_constant_up_to_its_edge(rng):
    data = np.where(rng.random((7, 9)) < 0.4, np.nan, 3.5)
    result = Transform(np.array([[1, 0.1, 0, 0.3], [0, 1, 0, 0.2], [0, 0, 1, 0], [0, 0, 0, 1.0]])).resample(
        Image(data, np.eye(4)), Image(np.zeros((9, 11)), np.eye(4))
    )
    assert np.isfinite(result.data).any()
    np.testing.assert_allclose(result.data[np.isfinite(result.data)], 3.5, atol=1e-12)


ORIENTATIONS = {
    "RAS": np.diag([1.0, 1, 1]),
    "LAS": np.diag([-1.0, 1, 1]),
    "LPS": np.diag([-1.0, -1, 1]),
    "ARS": np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 1]]),
    "oblique": np.linalg.qr(np.array([[1.0, 0.3, 0.2], [-0.2, 1, 0.1], [0.1, -0.3, 1]]))[0],
}


@pytest.mark.parametrize("fixed_axes", ORIENTATIONS)
@pytest.mark.parametrize("moving_axes", ORIENTATIONS)
@pytest.mark.parametrize("deformable", [False, True])
def test_a_blob_lands_where_its_centre_is_mapped(moving_axes, fixed_axes, deformable):
    moving_affine, fixed_affine = np.eye(4), np.eye(4)
    moving_affine[:3, :3] = ORIENTATIONS[moving_axes] @ np.diag([0.5, 0.6, 1.0])
    moving_affine[:3, 3] = (3, -2, 1)
    fixed_affine[:3, :3] = ORIENTATIONS[fixed_axes] @ np.diag([0.4, 0.7, 0.9])
    fixed_affine[:3, 3] = (-1, 4, 2)
    i, j = np.indices((27, 35))
    blob = Image(np.exp(-((i - 12.3) ** 2 + (j - 19.6) ** 2) / 8), moving_affine)
    centre = moving_affine @ [12.3, 19.6, 0, 1]
    # In the plane of the fixed image: its index (17.2, 11.4) receives the centre, turned by 25 degrees.
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.44), -np.sin(0.44)], [np.sin(0.44), np.cos(0.44)]]
    matrix = np.eye(4)
    matrix[:3, :3] = (ORIENTATIONS[fixed_axes] @ turn[:3, :3] @ ORIENTATIONS[moving_axes].T) / 0.9
    matrix[:3, 3] = (fixed_affine @ [17.2, 11.4, 0, 1])[:3] - matrix[:3, :3] @ centre[:3]
    transform = Transform(matrix)
    if deformable:
        bend = np.zeros((5, 5, 1, 3)) + fixed_affine[:3, :2] @ (0.8, -1.1)
        transform = Transform(matrix, (Displacement(bend, fixed_affine, inverted=True),))
    result = np.nan_to_num(transform.resample(blob, Image(np.zeros((33, 25)), fixed_affine)).data)
    i, j = np.indices(result.shape)
    found = fixed_affine @ [(i * result).sum() / result.sum(), (j * result).sum() / result.sum(), 0, 1]
    # 0.03 mm: the tail of the blob is cut by the edge of the image and interpolated linearly.
    np.testing.assert_allclose(found[:3], transform.points(centre[None, :3])[0], atol=0.03)


def test_a_section_fills_one_slice_of_a_stack(rng):
    image = Image(rng.random((7, 9)), np.diag([1.0, 1, 2.2, 1]))
    matrix = np.eye(4)
    matrix[2, 3] = 2 * 2.2
    stack = Image(np.zeros((7, 9, 5)), np.diag([1.0, 1, 2.2, 1]))
    result = Transform(matrix).resample(image, stack).data
    assert [bool(np.isfinite(result[:, :, k]).any()) for k in range(5)] == [False, False, True, False, False]
    np.testing.assert_allclose(result[:, :, 2], image.data)
    back = Transform(matrix).inverse().resample(stack, image)
    assert back.data.shape == (7, 9)
    assert np.isfinite(back.data).all()


def test_shows_itself_in_short_and_draws_an_overlay(make_pair):
    pair = make_pair(30)
    assert repr(Transform.identity()) == "Transform(kind: affine, origin goes to: 0.00, 0.00, 0.00 mm, from: memory)"
    found = Registration(pair.truth.matrix, qc={"verdict": "good", "angle_deg": 30.0, "turned_over": False}, slice=3)
    assert repr(found).startswith("Registration(verdict: good, slice: 3, angle: 30.0°, turned over: False, ")
    assert "<td>good</td>" in found._repr_html_()
    from matplotlib.figure import Figure

    axes = found.plot(pair.moving, pair.fixed, Figure().add_subplot())
    below, above = (np.ma.filled(picture.get_array(), np.nan) for picture in axes.images)
    assert below.shape == above.shape == pair.fixed.data.T.shape
    assert np.isfinite(above).sum() > 0.9 * (below > 0).sum()
    volume = Image(np.stack([pair.fixed.data] * 3, axis=2), pair.fixed.affine)
    assert found.plot(pair.moving, volume, Figure().add_subplot()).images[0].get_array().shape == below.shape
