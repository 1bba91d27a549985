"""`histomri register` with landmarks that lack z or lie off the slice, and options that landmarks exclude."""

import nibabel as nib
import numpy as np
import pytest

from histomri.registration import Transform

# Section world to MRI world: turned by 25 degrees, larger by 1.148, at z = 20, which is slice 2 of four.
TRUTH = np.eye(4)
TRUTH[:2, :2] = 1.148 * np.array([[np.cos(0.44), -np.sin(0.44)], [np.sin(0.44), np.cos(0.44)]])
TRUTH[:3, 3] = (12, -5, 20)
MOVING = np.array([[0.0, 0, 0], [5, 2, 0], [-3, -4, 0], [1, 5, 0]])
QUICK = "--kind", "similarity", "--no-figures"


def tissue(x, y):
    angle = np.arctan2(y, x)
    return np.hypot(x, y) < 8 + 2 * np.cos(2 * angle) + 1.5 * np.cos(3 * angle + 1)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")

    def save(name, data, affine):
        nib.save(nib.Nifti1Image(data.astype(np.float32), affine), folder / name)
        return folder / name

    section, mri = np.diag([-0.4, -0.4, 1, 1]), np.diag([0.4, 0.4, 2, 1])
    section[:2, 3], mri[:3, 3] = 12, (-2, -19, 16)
    i, j = np.indices((61, 61))
    x, y = 12 - 0.4 * i, 12 - 0.4 * j
    moving = np.where(tissue(x, y), 0.6, np.nan)[..., None]
    i, j = np.indices((70, 70))
    x, y = np.einsum("ij,jab->iab", np.linalg.inv(TRUTH[:2, :2]), np.stack([0.4 * i - 14, 0.4 * j - 14]))
    whole, part = tissue(x, y), tissue(1.3 * x, 1.3 * y) & (y > -2)
    stack = np.stack([part, part, whole, part], axis=2)
    return {
        "moving": save("sub-7_param-F_histomap.nii.gz", moving, section),
        "fixed": save("dwi.nii.gz", stack, mri),
        "other": save("sub-9_mask.nii.gz", stack, mri),
    }


def landmarks(path, z=None):
    fixed = Transform(TRUTH).points(MOVING)
    rows = [[*m[:2], *f[:2], *([] if z is None else [z])] for m, f in zip(MOVING, fixed, strict=True)]
    names = ["moving_x_mm", "moving_y_mm", "fixed_x_mm", "fixed_y_mm", "fixed_z_mm"][: len(rows[0])]
    path.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")
    return path


@pytest.mark.parametrize("mode", [["--slice", "2"], [], ["--slice", "2", "--landmarks-only"]])
def test_without_z_the_slice_is_not_the_one_nearest_to_0(run, images, tmp_path, mode):
    options = ["--landmarks", landmarks(tmp_path / "l.csv"), *mode, *QUICK]
    result = run("register", images["moving"], images["fixed"], "-o", tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert "slice 2" in result.output
    found = Transform.load(tmp_path / "sub-7_from-histo_to-dwi_mode-image_xfm.json")
    goal = Transform(TRUTH).points(MOVING)
    assert np.linalg.norm(found.points(MOVING) - goal, axis=1).max() < 0.2  # half a voxel
    assert max(found.info["Registration"]["QualityControl"]["landmark_error_mm"]) < 0.2


def test_far_off_the_slice_they_are_refused(run, images, tmp_path):
    path = landmarks(tmp_path / "far.csv", z=70)
    for mode in ([], ["--landmarks-only"], ["--slice", "2"], ["--slice", "2", "--landmarks-only"]):
        result = run("register", images["moving"], images["fixed"], "-o", tmp_path / "out", "--landmarks", path, *mode)
        assert result.exit_code == 2, result.output
        assert ("50 mm off this slice" if "--slice" in mode else "outside the fixed image") in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--angle", "90"], "--angle does nothing where landmarks replace the search"),
        (["--landmarks-only", "--engine", "dipy"], "--engine does nothing where landmarks alone"),
        (["--landmarks-only", "--tilts", "-4,4"], "--tilts does nothing"),
        (["--landmarks-only", "--as-it-lies"], "--turned-over does nothing"),
        (["--landmarks-only", "--no-flip"], "--flip does nothing"),
        (["--landmarks-only"], "give --slice, or the column fixed_z_mm"),
        (["--kind", "syn"], 'let --landmarks-for be "check"'),
        (["--engine", "dipy"], "cannot hold --landmarks"),
        (["--mpp", "0.5"], "--mpp does nothing"),
        (["--fixed-mask", "other"], "of sample 7; give files of one sample, or pass --sub NAME"),
    ],
)
def test_what_landmarks_exclude(run, images, tmp_path, arguments, message):
    words = [images.get(word, word) for word in arguments]
    path = landmarks(tmp_path / "l.csv")
    result = run("register", images["moving"], images["fixed"], "-o", tmp_path / "out", "--landmarks", path, *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_samples_of_one_study_need_not_share_a_name(run, images, tmp_path):
    options = ["--fixed-mask", images["other"], "--sub", "7", "--slice", "2", *QUICK]
    result = run("register", images["moving"], images["fixed"], "-o", tmp_path, *options)
    assert result.exit_code == 0, result.output
