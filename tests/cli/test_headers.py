"""Headers that mirror: what is said of them, and where points of the slide end up."""

import json

import nibabel as nib
import numpy as np
import pytest
import tifffile

from histomri.registration import Transform
from histomri.registration.files import handedness_warnings, section_warnings

RAS = np.array([[0.4, 0, 0, -11], [0, 0.4, 0, -17], [0, 0, 2, 16], [0, 0, 0, 1]])
LAS = np.diag([-1.0, 1, 1, 1]) @ RAS
LPS = np.diag([-1.0, -1, 1, 1]) @ RAS
# A map of 20 x 30 patches of 0.2 mm, from the top left corner of its slide; and with its rows or its columns mirrored.
SLIDE = np.array([[0, -0.2, 0, -0.1], [-0.2, 0, 0, -0.1], [0, 0, 0.004, 0], [0, 0, 0, 1]])
UPSIDE_DOWN = np.array([[0, -0.2, 0, -0.1], [0.2, 0, 0, -3.9], [0, 0, 0.004, 0], [0, 0, 0, 1]])
LEFT_RIGHT = np.array([[0, 0.2, 0, 0.1], [-0.2, 0, 0, -0.1], [0, 0, 0.004, 0], [0, 0, 0, 1]])
HISTOMAP = "sub-1_param-F_histomap.nii.gz"


def nifti(path, sform, qform, codes=(1, 1)):
    image = nib.Nifti1Image(np.ones((5, 6, 3), np.float32), None)
    image.set_sform(sform, code=codes[0])
    image.set_qform(qform, code=codes[1])
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("sform", "qform", "codes", "said"),
    [
        (RAS, RAS, (1, 1), None),
        (LAS, LAS, (2, 1), None),
        (RAS, RAS @ np.diag([1.01, 1, 1, 1]), (1, 1), None),
        (RAS, LAS, (1, 0), None),
        (LAS, RAS, (0, 1), None),
        (LAS, RAS, (1, 1), "sform LAS is mirrored against qform RAS; the sform was used"),
        (RAS, LAS, (1, 2), "sform RAS is mirrored against qform LAS; the sform was used"),
        (LPS, RAS, (1, 1), "sform LPS is turned against qform RAS; the sform was used"),
        (LAS, RAS, (0, 0), "states no orientation"),
    ],
)
def test_two_orientations_in_one_header(tmp_path, sform, qform, codes, said):
    path = nifti(tmp_path / "dwi.nii.gz", sform, qform, codes)
    if codes[0]:  # what is said to be used is used: nibabel takes the sform where there is one
        np.testing.assert_allclose(nib.load(path).affine, sform, atol=1e-6)
    warnings = handedness_warnings([path])
    assert len(warnings) == (said is not None)
    assert all("dwi.nii.gz" in warning and said in warning for warning in warnings)


def test_analyze_tells_no_orientation(tmp_path):
    path = tmp_path / "old.img"
    nib.save(nib.AnalyzeImage(np.ones((5, 6, 3), np.float32), np.diag([-1.0, 1, 1, 1])), path)
    assert "old.img states no orientation" in handedness_warnings([path])[0]


@pytest.mark.parametrize(
    ("name", "affine", "said"),
    [
        (HISTOMAP, SLIDE, None),
        (HISTOMAP, SLIDE @ np.diag([1, 1, -1, 1]), None),  # the depth of a section shows nothing of its side
        (HISTOMAP, UPSIDE_DOWN, "shows the section mirrored"),
        (HISTOMAP, LEFT_RIGHT, "shows the section mirrored"),
        (HISTOMAP, np.diag([-1, -1, 1, 1]) @ SLIDE, "shows the section turned"),
        (HISTOMAP, RAS, "shows the section mirrored"),
        ("sub-1_space-dwi_param-F_histomap.nii.gz", RAS, "a world of its own"),
        ("other.nii.gz", SLIDE, None),
        ("other.nii.gz", LPS, None),  # columns first, as ITK writes a picture
        ("other.nii.gz", RAS, "a world of its own"),
        ("HE.svs", RAS, None),
    ],
)
def test_the_world_of_a_section(tmp_path, name, affine, said):
    warnings = section_warnings(tmp_path / name, affine)
    assert len(warnings) == (said is not None)
    assert all(warning.startswith(name) and said in warning for warning in warnings)


def registered(tmp_path, affine, name=HISTOMAP):
    """Return a transform (x, y, z) -> (x + 5, y - 3, z + 18) of a map, as `register` records it."""
    matrix = np.eye(4)
    matrix[:3, 3] = (5, -3, 18)
    info = {
        "Moving": {"Shape": [20, 30], "Affine": affine.tolist()},
        "Fixed": {"Shape": [60, 60, 3], "Affine": LAS.tolist()},
        "Sources": [name, "dwi.nii.gz"],
    }
    return Transform(matrix, info=info).save(tmp_path / "x_xfm")[0]


def cells(path, points):
    features = [{"type": "Feature", "geometry": {"type": "Point", "coordinates": point}} for point in points]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def coordinates(path):
    return [feature["geometry"]["coordinates"] for feature in json.loads(path.read_text())["features"]]


def test_points_of_the_slide_where_the_header_is_that_of_the_slide(run, tmp_path):
    # The centre of the patch in row 3, column 7 is at 1.5, 0.7 mm of the slide: pixel 3000, 1400 of 0.5 µm.
    source = cells(tmp_path / "cells.geojson", [[3000, 1400]])
    done = run("apply", registered(tmp_path, SLIDE), source, "--mpp", 0.5, "-o", tmp_path / "out.geojson")
    assert done.exit_code == 0, done.output
    assert "warning" not in done.stderr
    np.testing.assert_allclose(coordinates(tmp_path / "out.geojson"), [[-1.5 + 5, -0.7 - 3, 18]], atol=1e-9)


def test_points_of_the_slide_through_a_mirrored_map(run, tmp_path):
    xfm = registered(tmp_path, UPSIDE_DOWN)
    # The patch in row 3, column 7 lies at y = -3.3 by this header, and the cell in it goes to y = -0.7: 2.6 mm off.
    source = cells(tmp_path / "cells.geojson", [[3000, 1400]])
    table = tmp_path / "cells.csv"
    table.write_text("x_um,y_um\n1500,700\n")
    world = tmp_path / "world.csv"
    world.write_text("x_mm,y_mm\n-1.5,-3.3\n")
    for file, options, warned in ((source, ("--mpp", 0.5), True), (table, (), True), (world, (), False)):
        out = tmp_path / f"out{file.suffix}"
        done = run("apply", xfm, file, "-o", out, *options)
        assert done.exit_code == 0, done.output
        assert ("shows the section mirrored against the slide" in done.stderr) is warned
    back = run("apply", xfm, tmp_path / "out.geojson", "--inverse", "--mpp", 0.5, "-o", tmp_path / "back.geojson")
    assert "shows the section mirrored" in back.stderr
    assert "lies on" not in back.stderr


@pytest.mark.parametrize("affine", [LEFT_RIGHT, np.diag([-1, -1, 1, 1]) @ SLIDE])
def test_points_of_the_slide_are_refused_where_the_map_lies_beside_every_slide(run, tmp_path, affine):
    xfm = registered(tmp_path, affine)
    source = cells(tmp_path / "cells.geojson", [[3000, 1400]])
    table = tmp_path / "cells.csv"
    table.write_text("Centroid X µm,Centroid Y µm\n1500,700\n")
    slide, mri = tmp_path / "slide.tif", nifti(tmp_path / "dwi.nii.gz", LAS, LAS)
    tifffile.imwrite(slide, np.zeros((300, 400, 3), np.uint8))
    for file, options in (
        (source, ("--mpp", 0.5)),
        (table, ()),
        (slide, ("--mpp", 10, "--like", mri, "--slice", 1)),
    ):
        out = tmp_path / f"out{file.suffix}"
        done = run("apply", xfm, file, "-o", out, *options)
        assert done.exit_code == 2, done.output
        assert "puts it where no slide is" in done.stderr.replace("\n", " ")
        assert not out.exists()


def test_points_beside_the_section_are_told(run, tmp_path):
    xfm = registered(tmp_path, SLIDE)
    source = cells(tmp_path / "cells.geojson", [[3000, 1400], [10, 10]])
    done = run("apply", xfm, source, "--mpp", 5, "-o", tmp_path / "out.geojson")  # for 0.5
    assert "lies on" not in done.stderr  # one of the two still does
    source = cells(tmp_path / "cells.geojson", [[3000, 1400], [2000, 1500]])
    done = run("apply", xfm, source, "--mpp", 5, "-o", tmp_path / "out.geojson")
    assert f"none of the 2 points lies on {HISTOMAP}" in done.stderr.replace("\n", " ")
    around = cells(tmp_path / "around.geojson", [[-9000, -9000], [21000, -9000], [21000, 15000], [-9000, 15000]])
    assert "lies on" not in run("apply", xfm, around, "--mpp", 0.5, "-o", tmp_path / "out.geojson").stderr
    lps = tmp_path / "lps.csv"
    lps.write_text("x_mm,y_mm\n1.5,0.7\n")  # the same place with the signs of LPS
    assert "none of the 1 points" in run("apply", xfm, lps, "-o", tmp_path / "o.csv").stderr.replace("\n", " ")
    mm = tmp_path / "mm.csv"
    mm.write_text("x_mm,y_mm,z_mm\n3,-2,18\n")
    assert "lies on" not in run("apply", xfm, mm, "--inverse", "-o", tmp_path / "o.csv").stderr
    mm.write_text("x_mm,y_mm,z_mm\n3,-2,180\n")
    far = run("apply", xfm, mm, "--inverse", "-o", tmp_path / "o.csv")
    assert "lies on dwi.nii.gz" in far.stderr.replace("\n", " ")
