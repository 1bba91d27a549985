"""`histomri apply`, in-process."""

import json

import nibabel as nib
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from histomri.registration import Transform
from histomri_cli.apply import apply
from histomri_cli.common import HistomriGroup

# A quarter turn counter-clockwise, then a shift: (x, y, z) -> (1 - y, 2 + x, 3 + z).
QUARTER = np.array([[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


def run(*arguments):
    app = typer.Typer(cls=HistomriGroup)
    app.command()(apply)
    app.command(name="other")(lambda: None)
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
        ("p.csv", "x_mm,y_mm\n1,\n", [], "row 1"),
        ("p.csv", "", [], "empty"),
        ("p.txt", "1 2", [], "kind of file"),
        ("r.geojson", '{"type": "Point", "coordinates": [1, 2]}', [], "--mpp"),
        ("r.geojson", '{"type": "Point", "coordinates": [1, 2]}', ["--mpp", "0"], "impossible"),
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
    result = run(xfm, source, *options, "-o", tmp_path / "out.nii.gz")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert not (tmp_path / "out.nii.gz").exists()


def test_help_has_an_example():
    result = run("--help")
    assert result.exit_code == 0
    assert "Example" in result.output
