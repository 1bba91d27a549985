"""`histomri register`, in-process."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from histomri.registration import Transform
from histomri_cli.app import app

# Section world (RAS): x and y of the slide run against those of the world. A quarter turn and a shift lead to the MRI.
QUICK = ("--kind", "similarity", "--no-figures")
TRUTH = np.array([[0, -1.148, 0, 12], [1.148, 0, 0, -5], [0, 0, 1, 20], [0, 0, 0, 1.0]])


def tissue(x, y):
    angle = np.arctan2(y, x)
    inside = np.hypot(x, y) < 8 + 2 * np.cos(2 * angle) + 1.5 * np.cos(3 * angle + 1)
    return inside & (np.hypot(x - 2, y - 3) > 1.2)


def write(path, data, affine):
    nib.save(nib.Nifti1Image(data.astype(np.float32), affine), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    fixed_affine = np.array([[-0.4, 0, 0, 26], [0, 0.4, 0, -17], [0, 0, 2, 16], [0, 0, 0, 1]])
    i, j = np.indices((70, 60))
    x, y = 26 - 0.4 * i - 12, -17 + 0.4 * j + 5  # relative to where the truth puts the section's origin
    inside = tissue(x, y).astype(float)
    thin = tissue(1.35 * x, 1.35 * y) & (y > -2)
    stack = np.stack([thin, inside, inside, thin], axis=2) * np.array([0.9, 0, 1, 0.9])
    section_affine = np.array([[0, -0.4, 0, 12], [-0.4, 0, 0, 13], [0, 0, 1, 0], [0, 0, 0, 1]])
    i, j = np.indices((64, 61))
    points = np.stack([12 - 0.4 * j, 13 - 0.4 * i], axis=-1) @ TRUTH[:2, :2].T
    section = np.where(tissue(points[..., 0], points[..., 1]), 0.6, np.nan)
    return {
        "moving": write(folder / "sub-7_param-F_histomap.nii.gz", section[:, :, None], section_affine),
        "fixed": write(folder / "dwi.nii.gz", np.stack([stack, 0.2 * stack], axis=3), fixed_affine),
        "slice": write(
            folder / "b0.nii.gz",
            stack[:, :, 2:3],
            fixed_affine @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]],
        ),
        "nothing": write(folder / "nothing.nii.gz", np.zeros((70, 60, 4)), fixed_affine),
        **hostile(folder, stack[:, :, 2:3], fixed_affine),
    }


def hostile(folder, inside, affine):
    """Write files that nobody means to give."""
    colours = np.zeros((30, 30, 1), dtype=[(name, "u1") for name in "RGB"])
    nib.save(nib.Nifti1Image(colours, affine), folder / "colours.nii.gz")
    nib.save(nib.Nifti1Image(inside.astype(np.complex64), affine), folder / "complex.nii.gz")
    header = "moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm\n"
    texts = {"text.txt": "hello", "none.csv": header, "line.csv": header + "0,0,0,0\n1,1,1,1\n2,2,2,2\n"}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {
        "colours": folder / "colours.nii.gz",
        "complex": folder / "complex.nii.gz",
        "unknown": write(folder / "unknown.nii.gz", np.full(inside.shape, np.nan), affine),
        "micrometres": write(folder / "micrometres.nii.gz", inside, np.diag([1000.0, 1000, 1000, 1]) @ affine),
        "large": write(folder / "large.nii.gz", inside, np.diag([3.0, 3, 3, 1]) @ affine),
        **{name.split(".")[0]: folder / name for name in texts},
    }


def run(*arguments):
    return CliRunner().invoke(app, ["register", *map(str, arguments)])


def test_writes_what_it_promises(images, tmp_path, points):
    _, qupath, markups = points
    check = ["--landmarks", qupath, "--fixed-landmarks", markups, "--mpp", "0.5", "--landmarks-check"]
    result = run(images["moving"], images["fixed"], "-o", tmp_path / "xfm", *check)
    assert result.exit_code == 0, result.output
    stem = "sub-7_from-histo_to-dwi_mode-image_xfm"
    names = [
        f"{stem}.json",
        f"{stem}.tfm",
        f"{stem}.html",
        f"{stem}_uncertainty.npz",
        "sub-7_space-dwi_param-F_histomap.json",
        "sub-7_space-dwi_param-F_histomap.nii.gz",
    ]
    assert sorted(path.name for path in (tmp_path / "xfm").iterdir() if path.is_file()) == sorted(names)
    assert len(list((tmp_path / "xfm" / "figures").iterdir())) == 10
    assert "slice 2" in result.output
    assert "good" in result.output
    found = Transform.load(tmp_path / "xfm" / f"{stem}.json")
    points = np.array([[0.0, 0, 0], [5, 2, 0], [-3, -4, 0]])
    error = np.linalg.norm(found.points(points) - Transform(TRUTH).points(points), axis=1)
    assert error.max() < 0.15  # a third of a voxel
    record = json.loads((tmp_path / "xfm" / f"{stem}.json").read_text())
    assert record["Sources"] == ["sub-7_param-F_histomap.nii.gz", "dwi.nii.gz", qupath.name, markups.name]
    assert record["Info"]["Registration"]["QualityControl"]["verdict"] == "good"
    resampled = nib.load(tmp_path / "xfm" / names[-1])
    values = np.asarray(resampled.dataobj)
    assert values.shape == (70, 60, 4)
    assert np.isfinite(values).any(axis=(0, 1)).tolist() == [False, False, True, False]
    assert np.nanmax(np.abs(values - 0.6)) < 1e-6
    sidecar = json.loads((tmp_path / "xfm" / names[-2]).read_text())
    assert sidecar["RegistrationVerdict"] == "good"
    assert sidecar["Transform"] == f"{stem}.json"


def test_one_slice_and_quiet(images, tmp_path):
    result = run(images["moving"], images["slice"], "-o", tmp_path, "--quiet", "--sub", "x-9", *QUICK)
    assert result.exit_code == 0, result.output
    assert result.output == ""
    names = [f"sub-x9_from-histo_to-dwi_mode-image_xfm{end}" for end in (".json", ".tfm", "_uncertainty.npz")]
    names += [f"sub-x9_space-dwi_param-F_histomap.{end}" for end in ("json", "nii.gz")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_landmarks_file(images, tmp_path):
    moving = np.array([[0.0, 0, 0], [5, 2, 0], [-3, -4, 0]])
    fixed = Transform(TRUTH).points(moving)
    path = tmp_path / "l.csv"
    rows = [f"{m[0]},{m[1]},{f[0]},{f[1]},{f[2]}" for m, f in zip(moving, fixed)]
    path.write_text("moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm,fixed_z_mm\n" + "\n".join(rows) + "\n")
    result = run(images["moving"], images["fixed"], "-o", tmp_path, "--landmarks", path, *QUICK)
    assert result.exit_code == 0, result.output
    found = Transform.load(tmp_path / "sub-7_from-histo_to-dwi_mode-image_xfm.json")
    assert np.linalg.norm(found.points(moving) - fixed, axis=1).max() < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["moving", "absent.nii.gz"], "no such NIfTI image"),
        (["moving", "nothing"], "constant"),
        (["moving", "fixed", "--slice", "4"], "slices run from 0 to 3"),
        (["moving", "fixed", "--slice", "1"], "constant|no tissue"),
        (["moving", "fixed", "--kind", "rigid"], "is not one of"),
        (["fixed", "fixed"], "two-dimensional"),
        (["moving", "fixed", "--moving-mask", "nothing"], "nothing.nii.gz: is empty as a mask"),
        (["moving", "slice", "--fixed-mask", "moving"], "0% of the mask lies within b0.nii.gz"),
        (["moving", "colours"], "colours.nii.gz: holds colours"),
        (["moving", "complex"], "holds complex numbers"),
        (["moving", "unknown"], "no finite value"),
        (["moving", "micrometres"], "micrometres.nii.gz: .* probably in µm"),
        (["moving", "large"], "more than twice"),
        (["moving", "text"], "text.txt: is neither a NIfTI image nor a slide"),
        (["moving", "slice", "--landmarks", "none", "--landmarks-check"], "none.csv: holds no landmarks"),
        (["moving", "slice", "--landmarks", "line"], "on one line"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(images, tmp_path, arguments, message):
    result = run(*(images.get(word, word) for word in arguments), "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "rror" in result.stderr
    assert re.search(message, result.stderr), result.stderr
    assert not (tmp_path / "out").exists()


def test_help_has_an_example():
    result = run("--help")
    assert result.exit_code == 0
    assert "Example" in result.output


def slicer(path, points):
    """Write points, RAS mm, as 3D Slicer does: in LPS."""
    controls = [{"label": f"F-{n}", "position": [-x, -y, z]} for n, (x, y, z) in enumerate(points.tolist())]
    path.write_text(json.dumps({"markups": [{"coordinateSystem": "LPS", "controlPoints": controls}]}))
    return path


@pytest.fixture
def points(tmp_path):
    moving = np.array([[0.0, 0, 0], [5, 2, 0], [-3, -4, 0], [2, -5, 0]])
    features = [
        # In pixels of a slide of 0.5 µm per pixel; world x and y run against them.
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [-2000 * x, -2000 * y]}, "properties": {}}
        for x, y, _ in moving
    ]
    qupath = tmp_path / "points.geojson"
    qupath.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return moving, qupath, slicer(tmp_path / "points.mrk.json", Transform(TRUTH).points(moving))


@pytest.mark.parametrize("kind", ["similarity", "affine", "tps"])
def test_landmarks_alone(images, tmp_path, points, kind):
    moving, qupath, markups = points
    options = [
        "--landmarks",
        qupath,
        "--fixed-landmarks",
        markups,
        "--mpp",
        "0.5",
        "--landmarks-only",
        "--kind",
        kind,
        "--no-figures",
    ]
    result = run(images["moving"], images["fixed"], "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "slice 2" in result.output
    assert "4 landmarks (only): median error" in result.output
    assert "from the landmarks alone" in result.output
    found = Transform.load(tmp_path / "out" / "sub-7_from-histo_to-dwi_mode-image_xfm.json")
    np.testing.assert_allclose(found.points(moving), Transform(TRUTH).points(moving), atol=1e-4)
    record = found.info["Registration"]["QualityControl"]
    assert max(record["landmark_error_mm"]) < 1e-4
    assert record["dice"] > 0.9


def test_landmarks_alone_and_a_mask_of_all_slices(images, tmp_path, points):
    _, qupath, markups = points
    image = nib.load(images["fixed"])
    mask = write(tmp_path / "mask.nii.gz", image.get_fdata()[..., 0] > 0, image.affine)
    files = ["--landmarks", qupath, "--fixed-landmarks", markups, "--mpp", "0.5", "--landmarks-only"]
    verdicts = []
    for number, options in enumerate(([], ["--fixed-mask", mask], ["--fixed-mask", mask, "--slice", 2])):
        result = run(images["moving"], images["fixed"], "-o", tmp_path / str(number), *files, "--no-figures", *options)
        assert result.exit_code == 0, result.output
        verdicts.append(re.search(r"\(Dice\) [\d.]+: (\w+)", result.output)[1])
        assert (tmp_path / str(number) / "sub-7_space-dwi_param-F_histomap.nii.gz").exists()
    assert verdicts[1:] == verdicts[:1] * 2 and "failed" not in verdicts


def test_points_without_a_partner_are_told(images, tmp_path, points):
    moving, _, markups = points
    names = ["F-0", "F-1", "F-2", "F-3", "F-7"]
    rows = [f"{name},{x},{y}" for name, (x, y, _) in zip(names, [*moving, (9, 9, 0)], strict=True)]
    table = tmp_path / "points.csv"
    table.write_text("\n".join(["name,x_mm,y_mm", *rows]))
    files = ["--landmarks", table, "--fixed-landmarks", markups, "--landmarks-only", "--no-figures"]
    result = run(images["moving"], images["slice"], "-o", tmp_path / "out", *files)
    assert result.exit_code == 0, result.output
    assert "4 landmarks (only)" in result.output
    assert "left out: F-7 of points.csv" in " ".join(result.stderr.split())


def test_landmarks_as_a_check_change_nothing(images, tmp_path, points):
    _, qupath, markups = points
    check = ["--landmarks", qupath, "--fixed-landmarks", markups, "--mpp", "0.5", "--landmarks-check"]
    options = ["--no-figures"]
    result = run(images["moving"], images["slice"], "-o", tmp_path / "a", *check, *options)
    assert result.exit_code == 0, result.output
    assert run(images["moving"], images["slice"], "-o", tmp_path / "b", *options).exit_code == 0
    first, second = (
        Transform.load(tmp_path / name / "sub-7_from-histo_to-dwi_mode-image_xfm.json") for name in ("a", "b")
    )
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert max(first.info["Registration"]["QualityControl"]["landmark_error_mm"]) < 0.15
    assert not (tmp_path / "b" / "figures").exists()


def test_landmarks_that_disagree_lower_the_verdict(images, tmp_path, points):
    moving, qupath, _ = points
    wrong = slicer(tmp_path / "wrong.mrk.json", Transform(TRUTH).points(np.add(moving, (0, -1.5, 0))))  # four pixels
    check = ["--landmarks", qupath, "--fixed-landmarks", wrong, "--mpp", "0.5", "--landmarks-check"]
    options = ["--slice", "2", *QUICK]
    result = run(images["moving"], images["fixed"], "-o", tmp_path / "a", *check, *options)
    assert result.exit_code == 0, result.output
    assert "more than two pixels" in result.stderr
    found = Transform.load(tmp_path / "a" / "sub-7_from-histo_to-dwi_mode-image_xfm.json")
    assert found.info["Registration"]["QualityControl"]["verdict"] == "check"


def test_the_landmark_that_is_furthest_off_is_named(images, tmp_path, points):
    # One of four was set 1.5 mm beside its place, four pixels; the others are right.
    moving, qupath, _ = points
    named = json.loads(qupath.read_text())
    for name, feature in zip("abcd", named["features"], strict=True):
        feature["properties"]["name"] = name
    qupath.write_text(json.dumps(named))
    fixed = Transform(TRUTH).points(moving) + np.outer([0, 0, 1, 0], (0, -1.5, 0))
    markups = slicer(tmp_path / "moved.mrk.json", fixed)
    markups.write_text(re.sub(r"F-(\d)", lambda found: "abcd"[int(found[1])], markups.read_text()))
    check = ["--landmarks", qupath, "--fixed-landmarks", markups, "--mpp", "0.5", "--landmarks-check"]
    result = run(images["moving"], images["slice"], "-o", tmp_path / "a", *check, *QUICK)
    assert result.exit_code == 0, result.output
    words = " ".join(result.stderr.split())
    assert "1 of 4 landmarks end more than two pixels (0.8 mm) off" in words
    name, off = re.search(r"the worst is (\S+), ([\d.]+) mm off", words).groups()
    assert name == "c" and float(off) == pytest.approx(1.5, abs=0.15)


def test_swapped_landmarks_write_no_map(images, tmp_path, points):
    moving, _, _ = points
    fixed = Transform(TRUTH).points(moving)
    path = tmp_path / "l.csv"
    rows = [f"{f[0]},{f[1]},{m[0]},{m[1]},20" for m, f in zip(moving, fixed)]
    path.write_text("moving_x_mm,moving_y_mm,fixed_x_mm,fixed_y_mm,fixed_z_mm\n" + "\n".join(rows) + "\n")
    options = ["--landmarks", path, "--landmarks-only", "--no-figures"]
    result = run(images["moving"], images["fixed"], "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "correct the landmarks" in result.stderr
    assert not list((tmp_path / "out").glob("*histomap.nii.gz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--landmarks-only"], "no landmarks"),
        (["--landmarks-only", "--landmarks-check"], "exclude each other"),
        (["--tilts", "a,b"], "--tilts a,b is no list of numbers"),
        (["--engine", "ants"], "'robust' or 'dipy'"),
        (["--drive", "both"], "No such option"),
        (["--turned-over", "--no-flip"], "contradict each other"),
        (["--fixed-mpp", "0.5"], "--fixed-mpp does nothing"),
        (["--mpp", "99"], "--mpp does nothing"),
    ],
)
def test_options_that_contradict(images, tmp_path, arguments, message):
    result = run(images["moving"], images["fixed"], "-o", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_each_landmark_is_left_out_in_turn(images, tmp_path, points):
    _, qupath, markups = points
    options = ["--landmarks", qupath, "--fixed-landmarks", markups, "--mpp", "0.5", *QUICK]
    result = run(images["moving"], images["fixed"], "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "each left out in turn" in result.output
    record = Transform.load(tmp_path / "out" / "sub-7_from-histo_to-dwi_mode-image_xfm.json").info["Registration"]
    errors = record["QualityControl"]["landmark_left_out_mm"]
    assert len(errors) == 4
    assert max(errors) < 0.2  # half a voxel


def test_nothing_of_the_users_is_overwritten(images, tmp_path):
    from shutil import copy

    taken = tmp_path / "taken"
    taken.write_text("a note")
    result = run(images["moving"], images["fixed"], "-o", taken, *QUICK)
    assert result.exit_code == 2
    assert "a folder is needed" in result.stderr
    assert taken.read_text() == "a note"
    own = copy(images["fixed"], tmp_path / "sub-7_space-dwi_param-F_histomap.nii.gz")
    before = own.read_bytes()
    result = run(images["moving"], own, "-o", tmp_path, *QUICK)
    assert result.exit_code == 2
    assert "would be overwritten" in result.stderr
    assert own.read_bytes() == before


def test_an_image_without_orientation_is_warned_of(images, tmp_path):
    image = nib.load(images["slice"])
    image.set_sform(image.affine, code=0)
    image.set_qform(image.affine, code=0)
    bare = tmp_path / "bare.nii.gz"
    nib.save(image, bare)
    options = [*QUICK]
    result = run(images["moving"], bare, "-o", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert "bare.nii.gz states no orientation" in result.stderr
    result = run(images["moving"], images["slice"], "-o", tmp_path / "out", *options)
    assert "states no orientation" not in result.stderr


def test_a_map_of_an_earlier_run_is_told(images, tmp_path):
    bar = np.zeros((70, 60, 1))
    bar[5:65, 27:33] = 1
    other = write(tmp_path / "bar.nii.gz", bar, nib.load(images["slice"]).affine)
    options = ["-o", tmp_path / "out", *QUICK]
    assert run(images["moving"], images["slice"], *options).exit_code == 0
    result = run(images["moving"], other, *options)
    assert result.exit_code == 0, result.output
    assert "registration failed" in result.stderr
    assert "give --fixed-mask if some of it is fluid" in result.stderr
    assert "left from an earlier run" in result.stderr


def test_a_mirrored_header_of_the_section_is_told(images, tmp_path):
    # The voxels of the fixture, and a header that shows them upside down in the same place.
    image = nib.load(images["moving"])
    affine = image.affine.copy()
    affine[1, 3] += (image.shape[0] - 1) * affine[1, 0]
    affine[1, 0] *= -1
    moving = write(tmp_path / images["moving"].name, image.get_fdata(), affine)
    result = run(moving, images["slice"], "-o", tmp_path / "out", *QUICK)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stderr.split())
    assert "sub-7_param-F_histomap.nii.gz: its header shows the section mirrored against the slide" in said
    assert "turned over" in result.stdout
    # Each voxel lies where the truth puts it, to the error of a match of coarse outlines.
    found = Transform.load(tmp_path / "out" / "sub-7_from-histo_to-dwi_mode-image_xfm.json")
    index = np.argwhere(np.isfinite(image.get_fdata()))[::50]
    places, truth = (index @ one[:3, :3].T + one[:3, 3] for one in (affine, image.affine))
    truth = truth @ TRUTH[:3, :3].T + TRUTH[:3, 3]
    off = np.linalg.norm((found.points(places) - truth)[:, :2], axis=1)
    assert np.median(off) < 0.2
    upright = run(images["moving"], images["slice"], "-o", tmp_path / "upright", *QUICK)
    assert "its header" not in upright.stderr
