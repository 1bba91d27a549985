"""`histomri qupath-grid` against corners computed one by one."""

import gzip
import json
from functools import partial

import numpy as np
import pytest

from histomri.core.images import write_map
from histomri.patches import PatchGrid
from histomri.registration import Transform

MPP = (0.25, 0.5)
MRI = np.array([[0.2, 0, 0, 5], [0, 0.2, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def histomri(run):
    return partial(run, "qupath-grid")


@pytest.fixture
def section(tmp_path, rng):
    """Two maps of 4 x 3 patches that begin 50 and 20 µm from the corner of the slide."""
    grid = PatchGrid((50.0, 20.0), (100.0, 60.0), (4, 3), 4.0)
    size, density = rng.uniform(10, 20, (2, 4, 3))
    size[1, 2] = size[3, 0] = density[3, 0] = np.nan
    paths = [tmp_path / f"param-{name}_histomap.nii.gz" for name in ("vCS", "CD")]
    for path, values in zip(paths, (size, density)):
        write_map(path, values, grid.affine)
    return paths, size, density


def tiles(path):
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as stream:
        document = json.load(stream)
    assert document["type"] == "FeatureCollection"
    found = {}
    for feature in document["features"]:
        assert feature["type"] == "Feature" and feature["properties"]["objectType"] == "tile"
        (ring,) = feature["geometry"]["coordinates"]
        assert len(ring) == 5 and ring[0] == ring[-1]
        corners = np.array(ring[:4])
        found[tuple(np.round(corners.mean(axis=0), 1))] = (corners, feature["properties"]["measurements"])
    assert len(found) == len(document["features"])
    return found, document


@pytest.mark.parametrize("ending", [".geojson", ".geojson.gz"])
def test_patches_lie_where_they_were_made(histomri, section, tmp_path, ending):
    paths, size, density = section
    done = histomri(*paths, "-o", tmp_path / f"A{ending}", "--mpp", "0.25,0.5")
    assert done.exit_code == 0, done.output
    assert "11 tiles with vCS_histo_um, CD_histo_mm2; left out: 1 without a value" in done.stdout
    found, document = tiles(tmp_path / f"A{ending}")
    assert document["histomri"]["PixelSize_um"] == [0.25, 0.5]
    assert len(found) == 11
    for row in range(4):
        for column in range(3):
            left, top = 50 + 100 * column, 20 + 60 * row
            centre = ((left + 50) / MPP[0], (top + 30) / MPP[1])
            if (row, column) == (3, 0):
                assert centre not in found
                continue
            corners, measured = found[centre]
            expected = {(x / MPP[0], y / MPP[1]) for x in (left, left + 100) for y in (top, top + 60)}
            assert {tuple(corner) for corner in corners} == expected
            # Neighbours in the ring share an edge: no bow tie.
            assert all((abs(np.diff(corners[[i, i - 1]], axis=0)) > 0).sum() == 1 for i in range(4))
            assert measured["CD_histo_mm2"] == pytest.approx(density[row, column], rel=1e-6)
            # A value that is missing is left out of its tile, not written as NaN.
            assert ("vCS_histo_um" in measured) == ((row, column) != (1, 2))
            if "vCS_histo_um" in measured:
                assert measured["vCS_histo_um"] == pytest.approx(size[row, column], rel=1e-6)


def rotation(axis, degrees):
    turn, (a, b) = np.radians(degrees), [n for n in range(3) if n != axis]
    matrix = np.eye(4)
    matrix[[a, a, b, b], [a, b, a, b]] = np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)
    return matrix


AFFINES = {
    "RAS": np.array([[0.3, 0, 0, -1], [0, 0.2, 0, 2], [0, 0, 0.5, 3], [0, 0, 0, 1.0]]),
    "LAS": np.array([[-0.3, 0, 0, 1], [0, 0.2, 0, 2], [0, 0, 0.5, 3], [0, 0, 0, 1.0]]),
    "LPS": np.array([[-0.3, 0, 0, 1], [0, -0.2, 0, 2], [0, 0, -0.5, 3], [0, 0, 0, 1.0]]),
    "coronal": np.array([[0.3, 0, 0, 1], [0, 0, 0.5, 2], [0, 0.2, 0, 3], [0, 0, 0, 1.0]]),
    "oblique": rotation(0, 25) @ rotation(2, 40) @ np.diag([0.3, 0.2, 0.5, 1]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("tilt", [0, 12])
def test_voxels_lie_where_the_transform_puts_them(histomri, tmp_path, rng, name, tilt):
    affine, shape = AFFINES[name], (5, 4, 3)
    # The section: turned, shrunk, in slice 1 or, tilted, across the slices, somewhere in the middle of the image.
    middle = affine @ [2.1, 1.4, 1.1, 1]
    placed = np.eye(4)
    placed[:3, :3] = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    placed[:3, 3] = middle[:3]
    back_to_corner = np.eye(4)
    back_to_corner[:3, 3] = (1.0, 1.0, 0.0)  # 1000 µm right of and below the corner is the middle
    xfm = placed @ rotation(2, 30) @ rotation(0, tilt) @ np.diag([1.15, 1.1, 1.2, 1]) @ back_to_corner
    Transform(xfm).save(tmp_path / "xfm.json")
    data = rng.uniform(1, 2, shape)
    data[0, 0, :] = np.nan
    path = tmp_path / "sub-1_model-diffin_param-vCS_dwimap.nii.gz"
    write_map(path, data, affine)
    done = histomri(path, "-o", tmp_path / "A.geojson", "--mpp", "0.25,0.5", "--xfm", tmp_path / "xfm.json")
    assert done.exit_code == 0, done.output
    found, _ = tiles(tmp_path / "A.geojson")

    def on_section(i, j):
        """Where the line of voxel column (i, j) meets the section: in pixels of the slide, and in slices."""
        base, step = affine @ [i, j, 0, 1], affine @ [0, 0, 1, 0]
        there = np.linalg.inv(xfm)
        k = -(there @ base)[2] / (there @ step)[2]
        x, y, z, _ = there @ (base + k * step)
        assert abs(z) < 1e-9
        return np.array([-x * 1000 / MPP[0], -y * 1000 / MPP[1]]), k

    expected = {}
    for i in range(shape[0]):
        for j in range(shape[1]):
            _, k = on_section(i, j)
            k = round(k)
            if 0 <= k < shape[2] and np.isfinite(data[i, j, k]):
                corners = [on_section(i + a, j + b)[0] for a, b in ((-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5))]
                if (np.max(corners, axis=0) > 0).all():
                    expected[i, j] = (np.array(corners), data[i, j, k])
    assert len(found) == len(expected) >= 12
    centres = np.array(list(found))
    for corners, value in expected.values():
        nearest = int(np.argmin(np.linalg.norm(centres - corners.mean(axis=0), axis=1)))
        ring, measured = found[tuple(centres[nearest])]
        np.testing.assert_allclose(ring, corners, atol=0.006)  # written with two decimals
        assert measured == {"vCS_mri_um": pytest.approx(value, rel=1e-6)}


def test_several_models_and_statistics_have_names_of_their_own(histomri, tmp_path, rng):
    names = [
        "model-diffin_param-vCS_dwimap",
        "model-diffinex_param-vCS_dwimap",
        "model-diffin_param-vCS_stat-se_dwimap",
        "model-diffin_param-BIC_dwimap",
        "model-diffin_param-ADC_dwimap",
    ]
    affine = np.diag([-0.2, -0.2, 0.2, 1])
    for name in names:
        write_map(tmp_path / f"{name}.nii.gz", rng.uniform(1, 2, (3, 2, 1)), affine)
    Transform.identity().save(tmp_path / "xfm.json")
    paths = [tmp_path / f"{name}.nii.gz" for name in names]
    done = histomri(*paths, "-o", tmp_path / "A.geojson", "--mpp", 1, "--xfm", tmp_path / "xfm.json")
    assert done.exit_code == 0, done.output
    found, _ = tiles(tmp_path / "A.geojson")
    measured = next(iter(found.values()))[1]
    sizes = ["MRI vCS µm (diffin)", "MRI vCS µm (diffinex)", "MRI vCS µm (se, diffin)"]
    assert list(measured) == [*sizes, "BIC", "ADC_mri_um2_ms"]


def test_the_sidecar_tells_pixel_size_and_where_the_slide_ends(histomri, section, tmp_path):
    paths, _, _ = section
    content = {"schema": "histomri.qupath/1", "pixel_width_um": 0.25, "pixel_height_um": 0.5}
    sidecar = tmp_path / "A.histomri.json"
    # The slide ends in the second column of patches (150 to 250 µm) and below the third row (200 µm).
    sidecar.write_text(json.dumps(content | {"width_px": 700, "height_px": 400}))
    done = histomri(*paths, "-o", tmp_path / "A.geojson", "--slide", sidecar)
    assert done.exit_code == 0 and "6 tiles" in done.stdout and "5 beside the slide" in done.stdout
    assert "by A.histomri.json" in done.stdout
    wrong = histomri(*paths, "-o", tmp_path / "B.geojson", "--slide", sidecar, "--mpp", 0.3)
    assert wrong.exit_code == 2 and "0.3 x 0.3 by --mpp, 0.25 x 0.5 by A.histomri.json" in wrong.stderr
    assert not (tmp_path / "B.geojson").exists()


def test_mistakes_are_told(histomri, section, tmp_path, rng):
    paths, size, _ = section
    other = tmp_path / "param-F_histomap.nii.gz"
    write_map(other, size.T, PatchGrid((50.0, 20.0), (100.0, 60.0), (3, 4), 4.0).affine)
    mri = tmp_path / "param-ADC_dwimap.nii.gz"
    write_map(mri, rng.uniform(1, 2, (3, 4, 2)), MRI)
    empty = tmp_path / "param-K_dwimap.nii.gz"
    write_map(empty, np.full((3, 4, 2), np.nan), MRI)
    far = np.eye(4)
    far[2, 3] = 50
    Transform(far).save(tmp_path / "far.json")
    Transform.identity().save(tmp_path / "xfm.json")
    steep = rotation(0, 85)
    steep[:2, 3] = 5.3
    Transform(steep).save(tmp_path / "steep.json")
    out, xfm = tmp_path / "out" / "A.geojson", tmp_path / "xfm.json"
    moved = tmp_path / "sub-1_space-dwi_param-F_histomap.nii.gz"
    write_map(moved, rng.uniform(1, 2, (4, 3, 1)), MRI)
    cases = [
        ((moved, "-o", out, "--mpp", 1), "lies in the space dwi, and where the section lies in it is not known; pass"),
        ((*paths, "-o", out, "--mpp", 345), "would be 0.29 px wide with pixels of 345 x 345 µm; pass the pixel size"),
        ((*paths, "-o", out), "the pixel size of the slide is not known; pass --mpp"),
        ((*paths, "-o", out, "--mpp", "0"), "--mpp: must be greater than 0"),
        ((*paths, "-o", out, "--mpp", "x"), "--mpp x is not a number"),
        ((*paths, other, "-o", out, "--mpp", 1), "has 3 x 4 voxels, and param-vCS_histomap.nii.gz has 4 x 3"),
        ((mri, "-o", out, "--mpp", 1), "is an MRI map, and where the section lies in it is not known; pass"),
        ((*paths, "-o", out, "--mpp", 1, "--xfm", xfm), "needs no transform; leave out --xfm"),
        ((mri, "-o", out, "--mpp", 1, "--xfm", tmp_path / "far.json"), "does not pass through a voxel that has a"),
        ((mri, "-o", out, "--mpp", 1, "--xfm", tmp_path / "steep.json"), "the section stands across the slices"),
        ((mri, "-o", out, "--mpp", 1, "--xfm", xfm), "none of 12 tiles lies on the slide"),
        ((empty, "-o", out, "--mpp", 1, "--xfm", xfm), "holds no value: all of it is background"),
        ((paths[0], paths[0], "-o", out, "--mpp", 1), "would be the second measurement called vCS_histo_um"),
        ((*paths, "-o", tmp_path / "A.csv", "--mpp", 1), "let --out end in .geojson"),
        ((tmp_path / "no.nii.gz", "-o", out, "--mpp", 1), "no such NIfTI image"),
    ]
    for arguments, message in cases:
        done = histomri(*arguments)
        assert done.exit_code == 2 and message in done.stderr, (arguments, done.output)
        assert not out.parent.exists()
    small = histomri(*paths, "-o", out, "--mpp", 30)
    assert small.exit_code == 0 and "the tiles are 3.3 px wide" in small.stderr


def test_many_tiles_come_in_pieces(histomri, tmp_path, rng):
    """More tiles than one piece holds, of several patterns of missing values: all are there, each once."""
    grid = PatchGrid((0.0, 0.0), (10.0, 10.0), (210, 130), 4.0)
    first, second = rng.uniform(1, 2, (2, *grid.shape))
    first[rng.random(grid.shape) < 0.1] = np.nan
    second[rng.random(grid.shape) < 0.1] = np.nan
    paths = [tmp_path / "param-aCS_histomap.nii.gz", tmp_path / "100%.nii.gz"]
    write_map(paths[0], first, grid.affine)
    write_map(paths[1], second, grid.affine, Units="1", Description="x")
    assert histomri(*paths, "-o", tmp_path / "A.geojson", "--mpp", 1).exit_code == 0
    found, _ = tiles(tmp_path / "A.geojson")
    assert len(found) == np.count_nonzero(np.isfinite(first) | np.isfinite(second))
    for name, values in (("aCS_histo_um", first), ("100%", second)):
        wanted = {
            (float(10 * column + 5), float(10 * row + 5)): values[row, column]
            for row, column in np.argwhere(np.isfinite(values))
        }
        got = {centre: measured[name] for centre, (_, measured) in found.items() if name in measured}
        assert got.keys() == wanted.keys()
        assert all(got[key] == pytest.approx(wanted[key], rel=1e-6) for key in wanted)
