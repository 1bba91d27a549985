"""`histomri apply`: chains of transforms, points without z, labels, splines, matrices of FSL."""

import json

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from histomri.registration import Displacement, Transform

# A quarter turn counter-clockwise, then a shift: (x, y, z) -> (1 - y, 2 + x, 3 + z).
QUARTER = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [25, -20, 30], degrees=True).as_matrix() * 1.1
OBLIQUE[:3, 3] = (5, -7, 20)
PLACES = np.array([[-1.0, -2, 0], [-4, -0.5, 0], [-2.5, -6, 0]])


def table(path, points, columns=("x_mm", "y_mm", "z_mm")):
    rows = "\n".join(",".join(repr(float(value)) for value in row) for row in points)
    path.write_text(",".join(columns[: len(points[0])]) + f"\n{rows}\n")
    return path


def read(path):
    return np.genfromtxt(path, delimiter=",", skip_header=1)


def geojson(path, points, **note):
    line = {"type": "LineString", "coordinates": np.asarray(points).tolist()}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [{"geometry": line}], **note}))
    return path


def positions(path):
    return np.array(json.loads(path.read_text())["features"][0]["geometry"]["coordinates"])


def test_points_without_z_start_on_the_plane_of_the_section(run, tmp_path):
    xfm = Transform(OBLIQUE).save(tmp_path / "x_xfm")[0]
    there = Transform(OBLIQUE).points(PLACES)
    for points in (there, there[:, :2]):
        result = run("apply", xfm, table(tmp_path / "p.csv", points), "--inverse", "-o", tmp_path / "back.csv")
        assert result.exit_code == 0, result.output
        np.testing.assert_allclose(read(tmp_path / "back.csv"), PLACES, atol=1e-9)
        marks = geojson(tmp_path / "p.geojson", points, histomri={"Units": "mm"})
        result = run("apply", xfm, marks, "--inverse", "--mpp", "0.5", "-o", tmp_path / "back.geojson")
        assert result.exit_code == 0, result.output
        np.testing.assert_allclose(positions(tmp_path / "back.geojson"), -2000 * PLACES[:, :2], atol=1e-6)


def test_points_without_z_of_a_section_in_a_world_of_its_own(run, tmp_path):
    own = np.array([[0.4, 0, 0, 1], [0, 0.4, 0, 2], [0, 0.3, 1, 30], [0, 0, 0, 1]])
    points = (np.array([[3, 4, 0, 1], [10, 2, 0, 1], [5, 5, 0, 1]]) @ own.T)[:, :3]
    xfm = Transform(OBLIQUE, info={"Moving": {"Shape": [20, 20], "Affine": own.tolist()}}).save(tmp_path / "x")[0]
    there = Transform(OBLIQUE).points(points)
    for options, start, goal in (([], points, there), (["--inverse"], there, points)):
        result = run("apply", xfm, table(tmp_path / "p.csv", start[:, :2]), *options, "-o", tmp_path / "out.csv")
        assert result.exit_code == 0, result.output
        np.testing.assert_allclose(read(tmp_path / "out.csv"), goal, atol=1e-9)


def test_on_a_coronal_slice_z_is_asked_for(run, tmp_path):
    upright = np.array([[1.0, 0, 0, 5], [0, 0, -1, 6], [0, 1, 0, 7], [0, 0, 0, 1]])
    xfm = Transform(upright).save(tmp_path / "x")[0]
    there = Transform(upright).points(PLACES)
    result = run("apply", xfm, table(tmp_path / "p.csv", there[:, :2]), "--inverse", "-o", tmp_path / "back.csv")
    assert result.exit_code == 2
    assert "p.csv: the points have no z" in result.stderr
    assert "give z in mm" in result.stderr
    assert run("apply", xfm, table(tmp_path / "p.csv", there), "--inverse", "-o", tmp_path / "b.csv").exit_code == 0
    np.testing.assert_allclose(read(tmp_path / "b.csv"), PLACES, atol=1e-9)


def sides(moving, fixed):
    """Return what a transform keeps of two slides, or of a map and an MRI (None)."""
    affine = np.diag([-1.0, -1, 1, 1])
    record = {"Shape": [70, 90], "Affine": affine.tolist()}
    ends = {"Moving": record, "Fixed": {**record, "Shape": [70, 90, 5]}}
    for side, name in (("Moving", moving), ("Fixed", fixed)):
        if name:
            ends[side] = {**record, "Slide": name, "PixelSize_um": [0.5, 0.25]}
    return ends


@pytest.fixture
def links(tmp_path):
    """Write a transform from a slide to a slide, which bends, and one from there to an MRI."""
    field = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 6, 1, 3)) * (1, 1, 0)
    bend = Displacement(field, np.diag([3.0, 3, 1, 1]) + np.outer([-8, -8, 0, 0], [0, 0, 0, 1]))
    turn = np.array([[0.0, 1, 0, -4], [-1, 0, 0, -9], [0, 0, 1, 0], [0, 0, 0, 1]])
    first = Transform(turn, (bend,), sides("HE.svs", "Ki67.svs"))
    second = Transform(OBLIQUE, info=sides(None, None))
    return first.save(tmp_path / "first_xfm")[0], second.save(tmp_path / "second_xfm")[0]


def test_points_go_through_one_transform_after_the_other(run, tmp_path, links):
    first, second = links
    one, other = Transform.load(first), Transform.load(second)
    goal = other.points(one.points(PLACES))
    start = table(tmp_path / "p.csv", PLACES[:, :2])
    result = run("apply", first, start, "--then", second, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert "warning" not in result.stderr
    np.testing.assert_allclose(read(tmp_path / "out.csv"), goal, atol=1e-6)
    np.testing.assert_allclose(read(tmp_path / "out.csv"), stepwise(run, tmp_path, start, links), atol=1e-6)
    for points in (goal, goal[:, :2]):
        back = table(tmp_path / "q.csv", points)
        assert run("apply", first, back, "--then", second, "--inverse", "-o", tmp_path / "b.csv").exit_code == 0
        np.testing.assert_allclose(read(tmp_path / "b.csv"), PLACES, atol=1e-4)  # 0.1 µm: the inverse of a bend
    cells = geojson(tmp_path / "c.geojson", -1000 * PLACES[:, :2] / (0.5, 0.25))
    assert run("apply", first, cells, "--then", second, "-o", tmp_path / "mm.geojson").exit_code == 0
    np.testing.assert_allclose(positions(tmp_path / "mm.geojson"), goal, atol=1e-6)
    result = run("apply", first, tmp_path / "mm.geojson", "--then", second, "--inverse", "-o", tmp_path / "c2.geojson")
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(positions(tmp_path / "c2.geojson"), positions(cells), atol=1e-3)
    assert json.loads((tmp_path / "c2.geojson").read_text())["histomri"]["Slide"] == "HE.svs"


def stepwise(run, tmp_path, start, links):
    for n, link in enumerate(links):
        assert run("apply", link, start, "-o", tmp_path / f"step{n}.csv").exit_code == 0
        start = tmp_path / f"step{n}.csv"
    return read(start)


def test_maps_and_slides_go_through_a_chain(run, tmp_path, links, rng):
    import tifffile

    first, second = links
    chain = Transform.load(second).compose(Transform.load(first)).save(tmp_path / "whole_xfm")[0]
    affine = np.array([[0, -0.5, 0, -1], [-0.5, 0, 0, -1], [0, 0, 1, 0], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(rng.random((14, 15, 1)).astype(np.float32), affine), tmp_path / "m.nii.gz")
    like = Transform.load(second).matrix @ np.diag([0.5, 0.5, 1, 1])
    like[:3, 3] = Transform.load(chain).points([[-4, -4, 0]])[0] - like[:3, :2] @ (12, 12)
    nib.save(nib.Nifti1Image(np.ones((25, 26, 1), np.float32), like), tmp_path / "mri.nii.gz")
    rgb = rng.integers(0, 200, (1600, 900, 3), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", rgb, photometric="rgb", resolution=(2000, 2000), resolutionunit="CENTIMETER")
    for name, out, options in (("m.nii.gz", "nii.gz", []), ("s.tif", "ome.tif", ["--um-per-px", "100"])):
        options = [*options, "--like", tmp_path / "mri.nii.gz"]
        chained = run("apply", first, tmp_path / name, "--then", second, *options, "-o", tmp_path / f"a.{out}")
        assert chained.exit_code == 0, chained.output
        assert run("apply", chain, tmp_path / name, *options, "-o", tmp_path / f"b.{out}").exit_code == 0
        load = tifffile.imread if out == "ome.tif" else lambda path: np.asarray(nib.load(path).dataobj)
        one, other = load(tmp_path / f"a.{out}"), load(tmp_path / f"b.{out}")
        np.testing.assert_allclose(one, other, atol=1 if out == "ome.tif" else 1e-4)
        assert np.isfinite(one).sum() > 100
    sources = json.loads((tmp_path / "a.json").read_text())["Sources"]
    assert {"first_xfm.json", "second_xfm.json"} <= set(sources)
    slide = run(
        "apply", first, tmp_path / "s.tif", "--then", second, "--inverse", *options, "-o", tmp_path / "n.ome.tif"
    )
    assert slide.exit_code == 2
    assert "lies in the world of the section" in slide.stderr


def test_what_is_wrong_with_a_chain_is_told(run, tmp_path, links):
    first, second = links
    points = table(tmp_path / "p.csv", PLACES)
    failed = {"Registration": {"QualityControl": {"verdict": "failed", "reasons": ["no outline"]}}}
    bad = Transform(QUARTER, info={**sides("CD3.svs", None), **failed}).save(tmp_path / "bad")[0]
    result = run("apply", first, points, "--then", bad, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0
    assert "bad.json is of a registration that failed: no outline" in result.stderr
    assert "first_xfm.json ends on Ki67.svs, and bad.json begins on CD3.svs" in result.stderr
    result = run("apply", second, points, "--then", first, "-o", tmp_path / "out.csv")
    assert "second_xfm.json ends on an MRI, and first_xfm.json begins on a section" in result.stderr
    other = Transform(QUARTER).save(tmp_path / "sub-3_xfm")[0]
    named = table(tmp_path / "sub-4_p.csv", PLACES)
    assert "of sample" in run("apply", first, named, "--then", other, "-o", tmp_path / "no.csv").stderr
    warp = tmp_path / "first_xfm_warp0.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((3, 3, 1), np.float32), np.eye(4)), tmp_path / "m.nii.gz")
    result = run("apply", second, tmp_path / "m.nii.gz", "--then", first, "--like", tmp_path / "m.nii.gz", "-o", warp)
    assert result.exit_code == 2
    assert "would be overwritten" in result.stderr


def labels(path, data, affine=None):
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine, dtype=data.dtype), path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64, ">i4", np.float64])
def test_nearest_keeps_labels_and_their_type(run, tmp_path, rng, dtype):
    top = 200 if np.dtype(dtype).itemsize == 1 else 2**15 - 1 if np.dtype(dtype).itemsize == 2 else 2**24 + 1
    data = rng.choice([1, 3, top], (7, 9, 1)).astype(dtype)
    source = labels(tmp_path / "l.nii.gz", data)
    step = np.eye(4)
    step[:2, 3] = (2.3, -1.4)
    xfm = Transform(step).save(tmp_path / "x")[0]
    like = labels(tmp_path / "like.nii.gz", np.zeros((9, 9, 1), np.uint8))
    result = run("apply", xfm, source, "--nearest", "--like", like, "-o", tmp_path / "out.nii.gz")
    assert result.exit_code == 0, result.output
    image = nib.load(tmp_path / "out.nii.gz")
    assert image.get_data_dtype() == np.dtype(dtype).newbyteorder("=")
    found = np.asarray(image.dataobj)
    np.testing.assert_array_equal(found[2:9, :8], data[:7, 1:9])
    rest = np.concatenate([found[:2].ravel(), found[:, 8:].ravel()])
    assert np.isnan(rest).all() if np.dtype(dtype).kind == "f" else (rest == 0).all()


def test_cubic(run, tmp_path):
    i, j = np.indices((31, 33))
    data = np.sin(i / 2.5) * np.cos(j / 3)
    source = labels(tmp_path / "m.nii.gz", data[..., None].astype(np.float32))
    step = np.eye(4)
    step[:2, 3] = (0.5, 0.5)
    xfm = Transform(step).save(tmp_path / "x")[0]
    options = "--like", source, "-o", tmp_path / "out.nii.gz"
    errors = []
    for extra in ([], ["--cubic"]):
        assert run("apply", xfm, source, *options, *extra).exit_code == 0
        found = np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)[:, :, 0]
        inner = slice(6, 26)
        errors.append(np.abs(found - np.sin((i - 0.5) / 2.5) * np.cos((j - 0.5) / 3))[inner, inner].max())
    assert errors[1] < 0.1 * errors[0]
    assert "exclude each other" in run("apply", xfm, source, *options, "--cubic", "--nearest").stderr
    (tmp_path / "s.png").write_bytes(b"not read")
    refused = run("apply", xfm, tmp_path / "s.png", "--like", source, "--cubic", "-o", tmp_path / "o.ome.tif")
    assert "--interpolation cubic does nothing to a slide" in refused.stderr


def test_points_through_a_matrix_of_fsl(run, tmp_path):
    # With left-handed voxel axes FSL counts mm from the first voxel along the axes: x of the world runs against that.
    affine = np.diag([-2.0, 3, 1, 1])
    moving, fixed = (labels(tmp_path / f"{name}.nii.gz", np.zeros((8, 9, 2), np.uint8), affine) for name in "mf")
    matrix = tmp_path / "flirt.mat"
    matrix.write_text("1 0 0 4\n0 1 0 -3\n0 0 1 0\n0 0 0 1\n")
    points = table(tmp_path / "p.csv", PLACES)
    refused = run("apply", matrix, points, "-o", tmp_path / "out.csv")
    assert refused.exit_code == 2
    assert "--moving IMAGE and --fixed IMAGE" in refused.stderr
    images = "--moving", moving, "--fixed", fixed
    result = run("apply", matrix, points, *images, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(read(tmp_path / "out.csv"), np.add(PLACES, (-4, -3, 0)), atol=1e-9)
    turned = Transform(QUARTER).save(tmp_path / "q")[0]
    assert run("apply", matrix, points, "--then", turned, *images, "-o", tmp_path / "out.csv").exit_code == 0
    np.testing.assert_allclose(
        read(tmp_path / "out.csv"), Transform(QUARTER).points(np.add(PLACES, (-4, -3, 0))), atol=1e-9
    )
    assert "give it first" in run("apply", turned, points, "--then", matrix, "-o", tmp_path / "out.csv").stderr
    assert (
        "for a matrix of FSL or AFNI alone" in run("apply", turned, points, *images, "-o", tmp_path / "out.csv").stderr
    )
