"""Regions that are left out of a registration."""

import json

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Transform, register, register_without
from histomri.registration.planes import Plane
from histomri.simulation.section_kinds import make_kind
from histomri_cli.app import app


def errors_of(transform, pair):
    return np.linalg.norm(transform.points(pair.points_moving) - pair.points_fixed, axis=1)


@pytest.fixture(scope="module")
def lacking():
    """A section that lacks 1 to 1.5 mm along one side, that side drawn on the MRI, and the plain registration."""
    pair = make_kind("rim", 70000)
    rng = np.random.default_rng([70000, 6])
    middle, half = rng.uniform(-np.pi, np.pi), rng.uniform(np.pi / 4, 1.4)
    p, q = Plane.of(pair.fixed).to_world(Plane.of(pair.fixed).pixels(pair.fixed.data.shape))[:, :2].T
    away = np.abs((np.arctan2(q, p) - middle + np.pi) % (2 * np.pi) - np.pi)
    drawn = ((away < half + 0.1) & (np.hypot(p, q) > 4)).reshape(pair.fixed.data.shape)
    side = Image(drawn.astype(float), pair.fixed.affine)
    return pair, side, register(pair.moving, pair.fixed, moving_mask=pair.moving_mask)


def test_without_the_side_that_is_missing_the_rest_lies_right(lacking):
    pair, side, plain = lacking
    found = register_without(pair.moving, pair.fixed, moving_mask=pair.moving_mask, fixed_exclude=side)
    worst, before = (np.percentile(errors_of(each, pair), 95) for each in (found, plain))
    assert before > 1.0
    assert worst < 0.65 * before
    assert found.qc["missing_side"] is None
    own, other = found.qc["excluded_mm2"]
    # On either side the same tissue is left out, less what the section lacks, and smaller by its shrinkage.
    assert 0.4 * other < own < other


def test_a_region_may_be_drawn_on_either_side(lacking):
    pair, side, plain = lacking
    on_section = plain.inverse().resample(side, pair.moving_mask)
    region = Image(np.nan_to_num(on_section.data), on_section.affine)
    one, other = (
        register_without(pair.moving, pair.fixed, moving_mask=pair.moving_mask, **given)
        for given in ({"fixed_exclude": side}, {"moving_exclude": region})
    )
    apart = one.points(pair.points_moving) - other.points(pair.points_moving)
    assert np.median(np.linalg.norm(apart, axis=1)) < 0.386 / 2


def test_regions_that_leave_nothing_or_lie_elsewhere(lacking):
    pair, _, _ = lacking
    everything = Image(np.ones(pair.fixed.data.shape), pair.fixed.affine)
    with pytest.raises(InputError, match="leave less than 20%"):
        register_without(pair.moving, pair.fixed, moving_mask=pair.moving_mask, fixed_exclude=everything)
    elsewhere = Image(everything.data, Transform.shift([500.0, 0, 0]).matrix @ pair.fixed.affine)
    with pytest.raises(InputError, match="no part of the excluded region"):
        register_without(pair.moving, pair.fixed, moving_mask=pair.moving_mask, fixed_exclude=elsewhere)


def test_a_region_of_qupath_on_the_section(lacking, tmp_path):
    # A square of 6 mm drawn on the slide: it is left out of the section, and of the MRI where it lies there.
    pair, _, plain = lacking
    paths = {"moving": tmp_path / "F.nii.gz", "fixed": tmp_path / "dwi.nii.gz", "mask": tmp_path / "mask.nii.gz"}
    shift = np.eye(4)
    shift[:2, 3] = -20.0  # into the world of a slide, where x and y are below 0
    for path, image in zip(paths.values(), (pair.moving, pair.fixed, pair.moving_mask), strict=True):
        affine = image.affine if path == paths["fixed"] else shift @ image.affine
        nib.save(nib.Nifti1Image(image.data.astype(np.float32)[:, :, None], affine), path)
    centre = pair.points_moving[:, :2].mean(axis=0) - 20.0
    corners = [
        (-1000 * (centre + 3 * np.array(corner)) / 0.5).tolist() for corner in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}}
    (tmp_path / "x.geojson").write_text(json.dumps({**feature, "properties": {"objectType": "annotation"}}))
    command = [
        "register",
        paths["moving"],
        paths["fixed"],
        "--moving-mask",
        paths["mask"],
        "--no-figures",
        "-o",
        tmp_path,
    ]
    result = CliRunner().invoke(app, [*map(str, command), "--exclude", str(tmp_path / "x.geojson")])
    assert result.exit_code == 2
    assert "pass --mpp" in result.output
    result = CliRunner().invoke(app, [*map(str, command), "--exclude", str(tmp_path / "x.geojson"), "--mpp", "0.5"])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "from-histo_to-dwi_mode-image_xfm.json").read_text())
    own, other = record["Info"]["Registration"]["QualityControl"]["excluded_mm2"]
    mask = pair.moving_mask
    places = np.argwhere(mask.data > 0.5) @ mask.affine[:2, :2].T + mask.affine[:2, 3] - 20.0
    true = 0.0965**2 * np.all(np.abs(places - centre) < 3, axis=1).sum()
    assert own == pytest.approx(true, rel=0.03)
    assert other == pytest.approx(36 / plain.qc["size"] ** 2, rel=0.15)  # the section may have holes, and is bent
