"""`histomri apply`, in-process."""

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from histomri.registration import Displacement, Transform
from histomri_cli.app import app

# A quarter turn counter-clockwise, then a shift: (x, y, z) -> (1 - y, 2 + x, 3 + z).
QUARTER = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


def run(*arguments):
    return CliRunner().invoke(app, ["apply", *map(str, arguments)])


@pytest.fixture
def xfm(tmp_path):
    return Transform(QUARTER).save(tmp_path / "x_xfm")[0]


@pytest.mark.parametrize("ending", [".json", ".tfm"])
def test_points(tmp_path, xfm, ending):
    table = tmp_path / "points.csv"
    table.write_text("name,x_mm,y_mm\na,1,2\nb,-3,0.5\n")
    result = run(xfm.with_suffix(ending), table, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.csv").read_text() == "name,x_mm,y_mm,z_mm\na,-1.0,3.0,3.0\nb,0.5,-1.0,3.0\n"
    assert run(xfm, tmp_path / "out.csv", "--inverse", "-o", tmp_path / "back.csv").exit_code == 0
    assert (tmp_path / "back.csv").read_text() == "name,x_mm,y_mm,z_mm\na,1.0,2.0,0.0\nb,-3.0,0.5,0.0\n"


def polygon(ring):
    return {"type": "Polygon", "coordinates": [ring]}


def test_geojson_there_and_back(tmp_path, xfm):
    ring = [[0, 0], [4000, 0], [4000, 2000], [0, 0]]
    cell = {
        "type": "Feature",
        "id": "c1",
        "geometry": polygon(ring),
        "nucleusGeometry": polygon([[10, 20], [30, 20], [30, 40], [10, 20]]),
        "properties": {"name": "ROI", "measurements": [{"type": "Point", "coordinates": [1, 1]}]},
    }
    source = tmp_path / "roi.geojson"
    source.write_text(json.dumps([cell]))
    result = run(xfm, source, "--mpp", "0.5,0.25", "-o", tmp_path / "mm.geojson")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "mm.geojson").read_text())
    assert content["type"] == "FeatureCollection"
    assert content["histomri"]["Units"] == "mm"
    feature = content["features"][0]
    # Pixel (4000, 2000) is 2000 µm right and 500 µm down, world (-2, -0.5, 0), and goes to (1 + 0.5, 2 - 2, 3).
    np.testing.assert_allclose(feature["geometry"]["coordinates"][0][2], [1.5, 0, 3], atol=1e-12)
    np.testing.assert_allclose(feature["nucleusGeometry"]["coordinates"][0][0], [1.005, 1.995, 3], atol=1e-12)
    assert feature["properties"] == cell["properties"]
    assert (
        run(xfm, tmp_path / "mm.geojson", "--mpp", "0.5,0.25", "--inverse", "-o", tmp_path / "px.geojson").exit_code
        == 0
    )
    back = json.loads((tmp_path / "px.geojson").read_text())
    assert back["histomri"]["Units"] == "px"
    np.testing.assert_allclose(back["features"][0]["geometry"]["coordinates"], [ring], atol=1e-9)
    again = run(xfm, tmp_path / "px.geojson", "--mpp", "0.5", "--inverse", "-o", tmp_path / "no.geojson")
    assert again.exit_code == 2
    assert "pixels" in again.stderr


def test_map(tmp_path, xfm, rng):
    data = rng.random((7, 9, 1)).astype(np.float32)
    source = tmp_path / "sub-1_param-vCS_histomap.nii.gz"
    nib.save(nib.Nifti1Image(data, np.eye(4)), source)
    # The grid on which the turned map fits voxel by voxel: index (a, b) lies at x = 1 - b', y = 2 + a'.
    like = tmp_path / "like.nii.gz"
    nib.save(
        nib.Nifti1Image(
            np.zeros((9, 7, 3), np.float32), np.array([[1.0, 0, 0, -7], [0, 1, 0, 2], [0, 0, 1, 2], [0, 0, 0, 1]])
        ),
        like,
    )
    out = tmp_path / "sub-1_space-dwi_param-vCS_histomap.nii.gz"
    result = run(xfm, source, "--like", like, "-o", out)
    assert result.exit_code == 0, result.output
    values = np.asarray(nib.load(out).dataobj)
    np.testing.assert_allclose(values[:, :, 1], data[:, ::-1, 0].T, atol=1e-6)
    assert np.isnan(values[:, :, [0, 2]]).all()
    assert json.loads(out.with_name(out.name.replace(".nii.gz", ".json")).read_text())["Units"] == "um"


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("p.csv", "x,y\n1,2\n", [], "lacks the columns"),
        ("p.csv", "x_mm,y_mm\n1,\n", [], "line 2"),
        ("p.csv", "", [], "empty"),
        ("p.txt", "1 2", [], "kind of file"),
        ("r.geojson", '{"type": "Point", "coordinates": [1, 2]}', [], "--mpp"),
        ("r.geojson", '{"type": "Point", "coordinates": [1, 2]}', ["--mpp", "0"], "--mpp: must be greater than 0"),
        ("r.geojson", '{"type": "Point", "coordinates": [1, 2]}', ["--mpp", "half"], "not a number"),
        ("r.geojson", '{"type": "Point", "coordinates": ["a", 2]}', ["--mpp", "1"], "finite numbers"),
        ("r.geojson", '{"type": "Polygon", "coordinates": [[[1, 2], 3]]}', ["--mpp", "1"], "finite numbers"),
        ("r.geojson", '{"type": "FeatureCollection", "features": []}', ["--mpp", "1"], "no GeoJSON geometry"),
        ("r.geojson", "{", ["--mpp", "1"], "not valid JSON"),
        ("m.nii.gz", "not an image", ["--like", "m.nii.gz"], "readable NIfTI"),
        ("m.nii.gz", "not an image", [], "--like"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(tmp_path, xfm, name, text, options, message):
    source = tmp_path / name
    source.write_text(text)
    out = tmp_path / f"out{name[1:]}"
    result = run(xfm, source, *options, "-o", out)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("p.csv", ["--like", "p.csv"], "--like does nothing to a table"),
        ("p.csv", ["--mpp", "0.5"], "--mpp does nothing"),
        ("p.csv", ["--nearest"], "--interpolation nearest does nothing"),
        ("r.geojson", ["--mpp", "1", "--like", "p.csv"], "--like does nothing"),
        ("m.nii.gz", ["--mpp", "1", "--like", "m.nii.gz"], "--mpp does nothing"),
        ("p.csv", ["-o", "foo.nii.gz"], "end in .csv"),
        ("r.geojson", ["--mpp", "1", "-o", "foo.csv"], "end in .geojson"),
        ("m.nii.gz", ["--like", "m.nii.gz", "-o", "foo.csv"], "end in .nii.gz"),
    ],
)
def test_options_and_endings_that_do_not_fit_the_input(tmp_path, monkeypatch, xfm, name, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("x_mm,y_mm\n1,2\n")
    if "-o" not in options:
        options = [*options, "-o", f"out{name[1:]}"]
    before = sorted(tmp_path.iterdir())
    result = run(xfm, name, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert sorted(tmp_path.iterdir()) == before


def bent(path):
    field = Displacement(np.full((4, 4, 1, 3), 0.1), np.eye(4))
    return Transform(QUARTER, (field,)).save(path)


def test_the_files_of_the_transform_and_the_sidecar_of_the_input_are_kept(tmp_path):
    xfm, _, warp = bent(tmp_path / "t")
    image = tmp_path / "m.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((7, 9, 1), np.float32), np.eye(4)), image)
    (tmp_path / "m.json").write_text("{}")
    slide = tmp_path / "s.tif"
    slide.write_bytes(b"not read")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for source, out in ((image, "t.nii.gz"), (image, warp.name), (image, "m.nii"), (slide, "t.ome.tif")):
        result = run(xfm, source, "--like", image, "-o", tmp_path / out)
        assert result.exit_code == 2, (out, result.output)
        assert "would be overwritten" in result.stderr
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_itk_text_of_a_bent_transform_takes_the_bending_along(tmp_path):
    xfm, itk, warp = bent(tmp_path / "t")
    table = tmp_path / "p.csv"
    table.write_text("x_mm,y_mm\n0.2,0.3\n")
    result = run(itk, table, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert "t_warp0.nii.gz beside it was applied too" in result.stderr
    assert "t_warp0" not in run(xfm, table, "-o", tmp_path / "whole.csv").stderr
    assert (tmp_path / "out.csv").read_text() == (tmp_path / "whole.csv").read_text()
    other = itk.read_text()
    Transform(np.diag([2.0, 1, 1, 1])).save(tmp_path / "other")
    itk.write_text((tmp_path / "other.tfm").read_text())
    assert "another affine" in run(itk, table, "-o", tmp_path / "out.csv").stderr
    itk.write_text(other)
    xfm.rename(tmp_path / "away.json")
    assert "is gone" in run(itk, table, "-o", tmp_path / "out.csv").stderr
    Transform(QUARTER).save(xfm)
    assert not warp.exists()
    assert "t_warp0" not in run(itk, table, "-o", tmp_path / "out.csv").stderr


def test_another_sample_is_refused_and_a_failed_registration_told(tmp_path):
    judged = {"Registration": {"QualityControl": {"verdict": "failed", "reasons": ["the outlines agree poorly"]}}}
    xfm = Transform(QUARTER, info=judged).save(tmp_path / "sub-1_xfm")[0]
    for name in ("sub-1_p.csv", "sub-2_p.csv"):
        (tmp_path / name).write_text("x_mm,y_mm\n1,2\n")
    result = run(xfm, tmp_path / "sub-2_p.csv", "-o", tmp_path / "out.csv")
    assert result.exit_code == 2
    assert "is of sample 2, and sub-1_xfm.json of sample 1" in result.stderr
    assert not (tmp_path / "out.csv").exists()
    result = run(xfm, tmp_path / "sub-1_p.csv", "-o", tmp_path / "out.csv")
    assert result.exit_code == 0
    assert "registration that failed: the outlines agree poorly" in result.stderr


def test_ants_bending_that_is_not_applied_is_told(tmp_path):
    from scipy.io import savemat

    parameters = np.array([*np.eye(3).ravel(), 1, 2, 3.0])[:, None]
    savemat(tmp_path / "a0GenericAffine.mat", {"AffineTransform_double_3_3": parameters, "fixed": np.zeros((3, 1))})
    (tmp_path / "p.csv").write_text("x_mm,y_mm\n1,2\n")
    arguments = tmp_path / "a0GenericAffine.mat", tmp_path / "p.csv", "-o", tmp_path / "out.csv"
    assert "Warp" not in run(*arguments).stderr
    (tmp_path / "a1Warp.nii.gz").write_bytes(b"1")
    assert "a1Warp.nii.gz is not applied" in run(*arguments).stderr


def test_units_of_geojson_and_nuclei_of_qubalab(tmp_path, xfm):
    source = tmp_path / "cells.geojson"
    nucleus = polygon([[10, 20], [30, 20], [30, 40], [10, 20]])
    cell = {
        "type": "Feature",
        "geometry": polygon([[0, 0], [4000, 0], [4000, 2000], [0, 0]]),
        "properties": {"object_type": "cell", "extra_geometries": {"nucleus": nucleus}},
    }
    source.write_text(json.dumps([cell]))
    refused = run(xfm, source, "--mpp", "0.5", "--inverse", "-o", tmp_path / "no.geojson")
    assert refused.exit_code == 2
    assert "leave --inverse out" in refused.stderr
    out = tmp_path / "mm.geojson"
    assert run(xfm, source, "--mpp", "0.5", "-o", out).exit_code == 0
    moved = json.loads(out.read_text())["features"][0]["properties"]["extra_geometries"]["nucleus"]
    # Pixel (10, 20) is world (-0.005, -0.01, 0), and goes to (1 + 0.01, 2 - 0.005, 3).
    np.testing.assert_allclose(moved["coordinates"][0][0], [1.01, 1.995, 3], atol=1e-12)
    twice = run(xfm, out, "--mpp", "0.5", "-o", tmp_path / "no.geojson")
    assert twice.exit_code == 2
    assert "in mm already" in twice.stderr
    assert not (tmp_path / "no.geojson").exists()


def test_help_has_an_example():
    result = run("--help")
    assert result.exit_code == 0
    assert "Example" in result.output


def test_slide_on_the_mri(tmp_path, xfm):
    import tifffile

    # A slide of 600 x 400 pixels of 5 µm; red grows to the right, green downwards, blue marks one corner.
    rgb = np.zeros((400, 600, 3), np.uint8)
    rgb[..., 0] = np.linspace(0, 240, 600)
    rgb[..., 1] = np.linspace(0, 240, 400)[:, None]
    rgb[:40, :60, 2] = 250
    slide = tmp_path / "slide.tif"
    tifffile.imwrite(slide, rgb, photometric="rgb", resolution=(2000, 2000), resolutionunit="CENTIMETER")
    # The world of the slide: x from 0 to -3, y from 0 to -2. Turned: x = 1 - y from 1 to 3, y = 2 + x from 2 to -1.
    like = np.diag([0.5, 0.5, 1.0, 1.0])
    like[:3, 3] = (0.25, -1.75, 3)
    mri = tmp_path / "mri.nii.gz"
    nib.save(nib.Nifti1Image(np.ones((7, 9, 1), np.float32), like), mri)
    out = tmp_path / "out.ome.tif"
    result = run(xfm, slide, "--like", mri, "--um-per-px", "20", "-o", out)
    assert result.exit_code == 0, result.output
    picture = tifffile.imread(out)
    assert picture.shape == (225, 175, 3)  # 4.5 x 3.5 mm, y upright
    record = json.loads((tmp_path / "out.json").read_text())
    affine = np.array(record["AffineRowColumnToWorld"])
    for row, column in ((70, 60), (100, 100), (150, 30)):
        x, y, _ = (affine @ [row, column, 0, 1])[:3]
        at_x, at_y = -(y - 2), -(1 - x)  # the slide's own mm, by hand from QUARTER
        expected = rgb[int(at_y * 200), int(at_x * 200)] if 0 <= at_x < 3 and 0 <= at_y < 2 else (255, 255, 255)
        np.testing.assert_allclose(picture[row, column].astype(int), expected, atol=4)
    assert affine[0, 1] < 0 > affine[1, 0]  # as a radiologist sees it
    with tifffile.TiffFile(out) as file:
        assert 'PhysicalSizeX="20.0"' in file.ome_metadata
        assert file.pages[0].is_tiled
    assert "white:" not in result.stderr
    for shift, message in (
        (-3.46, "% of the picture is not white: check that far.nii.gz"),
        (-50, "nothing of the slide"),
    ):
        far = like.copy()
        far[1, 3] += shift  # what is drawn of the slide shrinks to a strip of 0.04 mm, then to nothing
        nib.save(nib.Nifti1Image(np.ones((7, 9, 1), np.float32), far), tmp_path / "far.nii.gz")
        result = run(xfm, slide, "--like", tmp_path / "far.nii.gz", "--um-per-px", "20", "-o", tmp_path / "f.ome.tif")
        assert result.exit_code == 0, result.output
        assert message in result.stderr.replace("\n", " ")
    for words, message in (
        ((xfm, slide, "-o", out), "--like"),
        ((xfm, slide, "--like", mri, "-o", tmp_path / "x.png"), ".ome.tif"),
        ((xfm, slide, "--like", mri, "--um-per-px", "0", "-o", out), "greater than 0"),
        ((xfm, slide, "--like", mri, "--inverse", "-o", out), "leave --inverse out"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert message in result.stderr


def test_matrix_of_fsl(tmp_path):
    for name, shape in (("moving", (8, 9, 2)), ("fixed", (6, 7, 2))):
        data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        nib.save(nib.Nifti1Image(data, np.diag([-1, 1, 1, 1.0])), tmp_path / f"{name}.nii.gz")
    matrix = (
        tmp_path / "flirt.mat"
    )  # with left-handed voxel axes FSL counts from the first voxel: two voxels to the right
    matrix.write_text("1 0 0 2\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    moving, fixed = tmp_path / "moving.nii.gz", tmp_path / "fixed.nii.gz"
    result = run(matrix, moving, "--like", fixed, "-o", tmp_path / "out.nii.gz")
    assert result.exit_code == 0, result.output
    found = np.asarray(nib.load(tmp_path / "out.nii.gz").dataobj)
    np.testing.assert_allclose(found[2:], np.asarray(nib.load(moving).dataobj)[:4, :7], atol=1e-4)
    assert np.isnan(found[:1]).all()


def test_a_table_of_excel_with_decimal_commas(tmp_path, xfm):
    table = tmp_path / "points.csv"
    table.write_text("name;x_mm;y_mm\na;1,5;2\n")
    result = run(xfm, table, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out.csv").read_text() == "name,x_mm,y_mm,z_mm\na,-1.0,3.5,3.0\n"
