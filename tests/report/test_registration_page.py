"""The page that `register` writes, in headless Chromium, against the files it was drawn from."""

import io
import re
from base64 import b64decode

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as Picture

from histomri.registration.options import RegisterOptions
from histomri.simulation.section_kinds import make_kind
from histomri.study.steps.register import run

FIXED = np.array([[-0.4, 0, 0, 26.0], [0, 0.4, 0, -17], [0, 0, 2, 16], [0, 0, 0, 1]])
SECTION = np.array([[0, -0.4, 0, 12.0], [-0.4, 0, 0, 13], [0, 0, 1, 0], [0, 0, 0, 1]])
TRUTH = np.array([[0, -1.148, 0, 12], [1.148, 0, 0, -5], [0, 0, 1, 20], [0, 0, 0, 1.0]])
SHAPE = (70, 60)
EXERCISE = """
  const stage = document.querySelector(".stage"), slider = document.querySelector("input[type=range]");
  const top = () => stage.querySelector("img[data-above]:not([hidden])");
  found.before = top().style.clipPath;
  slider.value = 80; slider.dispatchEvent(new Event("input", { bubbles: true }));
  found.after = top().style.clipPath;
  found.heading = document.querySelector(".overlay h3").textContent;
  const box = stage.querySelector("path").getBBox();
  found.outline = [box.x, box.x + box.width, box.y, box.y + box.height];
  const frame = stage.getBoundingClientRect(), said = document.querySelector(".overlay output");
  found.said = PLACES.map(([x, y]) => {
    const at = { clientX: frame.left + frame.width * x, clientY: frame.top + frame.height * y };
    stage.dispatchEvent(new PointerEvent("pointermove", at));
    return said.textContent;
  });
"""


def tissue(points):
    x, y = points[..., 0], points[..., 1]
    angle = np.arctan2(y, x)
    return np.hypot(x, y) < 8 + 2 * np.cos(2 * angle) + 1.5 * np.cos(3 * angle + 1)


def centres(affine, shape):
    i, j = np.indices(shape)
    return np.stack([i, j, 0 * i, 0 * i + 1], axis=-1) @ affine.T


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a section whose cell size grows downwards, 0 on the glass, and an MRI that is brighter to one side."""
    folder = tmp_path_factory.mktemp("page")
    place = centres(FIXED, SHAPE)
    inside = tissue((place - TRUTH[:, 3])[..., :2] @ TRUTH[:2, :2])
    fixed = np.where(inside, 500 + 10 * np.arange(70)[:, None], 0)
    section = tissue(1.318 * centres(SECTION, (64, 61))[..., :2])
    moving = np.where(section, 10 + 0.2 * np.arange(64)[:, None], 0)
    paths = folder / "sub-7_param-vCS_histomap.nii.gz", folder / "b0.nii.gz"
    for path, data, affine in zip(paths, (moving, fixed), (SECTION, FIXED), strict=True):
        nib.save(nib.Nifti1Image(data[:, :, None].astype(np.float32), affine), path)
    return paths


def test_slider_cursor_and_outline(files, tmp_path, browse):
    moving, fixed = files
    options = RegisterOptions.read(moving=moving, fixed=fixed, kind="similarity", shrinkage=0.129)
    result = run(options, tmp_path)
    page = next(path for path in result.outputs if path.suffix == ".html")
    drawn = tmp_path / "sub-7_space-dwi_param-vCS_histomap.nii.gz"
    above, below = (np.asarray(nib.load(path).dataobj)[:, :, 0] for path in (drawn, files[1]))
    # The picture has left and back of the body on the right and below: here i runs to the right and j upwards.
    voxels = [(30, 25), (41, 33), (25, 20)]
    places = [[(i + 0.5) / SHAPE[0], 1 - (j + 0.5) / SHAPE[1]] for i, j in voxels]
    found, console = browse(page, EXERCISE.replace("PLACES", str(places)))
    assert found["faults"] == [] and found["requests"] == [] and console == []
    assert found["before"] == "inset(0px 50% 0px 0px)" and found["after"] == "inset(0px 20% 0px 0px)"
    assert found["heading"] == "Does the histology lie on the MRI?"
    assert "Where does the section lie?" not in page.read_text(encoding="utf-8")  # no doubt
    for voxel, said in zip(voxels, found["said"], strict=True):
        one, other = said.split(" · ")
        assert one.endswith(" µm") and one.startswith("above, vCS: ")
        # 255 levels of what is shown: 1 % of the range of either.
        assert float(one.split(": ")[1].split()[0]) == pytest.approx(above[voxel], abs=0.25)
        assert float("".join(other.split(": ")[1].split())) == pytest.approx(below[voxel], abs=12)
    # The outline is that of the tissue, to two pixels, and not of the glass, which was measured as well.
    i, j = np.nonzero(below > 0)
    edges = [i.min(), i.max() + 1, SHAPE[1] - 1 - j.max(), SHAPE[1] - j.min()]
    np.testing.assert_allclose(found["outline"], edges, atol=2)
    assert np.isfinite(above[edges[0] - 4, :]).any()


def test_an_open_orientation_is_shown_in_page_and_study(tmp_path):
    pair = make_kind("block", 90001)  # fits in four ways
    images = pair.moving, pair.fixed, pair.moving_mask
    paths = [tmp_path / name for name in ("sub-7_param-F_histomap.nii.gz", "b0.nii.gz", "mask.nii.gz")]
    for path, image in zip(paths, images, strict=True):
        nib.save(nib.Nifti1Image(np.atleast_3d(image.data).astype(np.float32), image.affine), path)
    options = {"moving": paths[0], "fixed": paths[1], "moving_mask": paths[2]}
    outputs = run(RegisterOptions.read(**options), tmp_path / "page").outputs
    assert len(set(outputs)) == len(outputs)
    (drawn,) = [path for path in outputs if path.name.endswith("_xfm_gallery.png")]
    (page,) = [path.read_text(encoding="utf-8") for path in outputs if path.suffix == ".html"]
    (carried,) = re.findall(r'class="sheet" src="data:image/jpeg;base64,([^"]+)"', page)
    both = io.BytesIO(b64decode(carried)), drawn
    one, other = (np.asarray(Picture.open(file).convert("L"), float) for file in both)
    assert np.abs(one - other).mean() < 3  # of 255: JPEG
    # Studies run without figures; this one is drawn all the same, and only this one.
    outputs = run(RegisterOptions.read(**options, figures=False), tmp_path / "study").outputs
    (alone,) = [path for path in outputs if path.suffix in (".png", ".gif", ".html")]
    assert alone.read_bytes() == drawn.read_bytes()
