"""Stain per cell: against shapely's and brute-force pixels, and against scikit-image's own colour deconvolution."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import tifffile
from skimage.color import hdx_from_rgb, rgb_from_hdx, separate_stains

from histomri.slides import Stains, open_slide
from histomri.slides.cell_stain import pixels_inside, stain_of_labels, stain_of_outlines

GLASS = np.array([236.0, 230.0, 241.0])
UM = 0.5


@pytest.fixture
def scene(tmp_path, rng):
    """60 discs of known DAB on a slide of 600 x 500 px, overlapping nowhere; labels, outlines (µm) and truth."""
    truth, labels = rng.uniform(0.02, 0.8, 61), np.zeros((500, 600), np.int32)
    y, x = np.mgrid[:500, :600]
    outlines = []
    for number in range(1, 61):
        column, row = (number - 1) % 10, (number - 1) // 10
        middle = 30 + 58 * column + rng.uniform(-5, 5), 40 + 80 * row + rng.uniform(-5, 5)
        radius = rng.uniform(8, 20)
        labels[np.hypot(x + 0.5 - middle[0], y + 0.5 - middle[1]) < radius] = number
        outlines.append(shapely.Point(*middle).buffer(radius, quad_segs=64))
    amounts = np.zeros((500, 600, 2))
    amounts[..., 0] = 0.25
    amounts[..., 1] = np.where(labels > 0, truth[labels], 0.0)
    rgb = np.round(GLASS * 10 ** -(amounts @ Stains.h_dab().vectors[:2])).astype(np.uint8)
    path = tmp_path / "slide.ome.tif"
    size = {"PhysicalSizeX": UM, "PhysicalSizeY": UM, "axes": "YXS"}
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(128, 128), metadata=size)
    in_um = shapely.transform(np.array(outlines, dtype=object), lambda points: points * UM)
    return path, labels, in_um, truth[1:], rgb


STAINS = replace(Stains.h_dab(), background_rgb=GLASS)


def test_known_stain_is_found_in_masks_and_outlines(scene):
    path, labels, outlines, truth, _ = scene
    with open_slide(path) as slide:
        view = slide.at(UM)
        by_mask = stain_of_labels(view, STAINS, [(labels[:250], 0, 0), (labels[250:], 0, 250)], (UM, UM), 61)
        by_outline = stain_of_outlines(view, STAINS, outlines)
    # Dark pixels of 8 bits round to some 0.01 of density.
    np.testing.assert_allclose(by_mask.od_mean[1:, 1], truth, atol=0.01)
    np.testing.assert_allclose(by_outline.od_mean[:, 1], truth, atol=0.02)
    np.testing.assert_allclose(by_mask.od_mean[1:, 0], 0.25, atol=0.01)
    np.testing.assert_array_equal(by_mask.n_pixels[1:], np.bincount(labels.ravel(), minlength=61)[1:])
    assert np.isfinite(by_mask.od_mean[0]).sum() == 0  # 0 is no cell


def test_it_is_the_mean_that_scikit_image_gives(scene):
    path, labels, _, _, rgb = scene
    white = replace(Stains.h_dab(), background_rgb=np.full(3, 255.0))
    with open_slide(path) as slide:
        found = stain_of_labels(slide.at(UM), white, [(labels, 0, 0)], (UM, UM), 61)
    # Its amounts are logarithms over that of 1e-6, and of vectors that are not of length 1.
    amount = separate_stains(rgb, hdx_from_rgb)[..., 1] * np.linalg.norm(rgb_from_hdx[1]) * -np.log(1e-6) / np.log(10)
    expected = np.bincount(labels.ravel(), amount.ravel(), 61) / np.bincount(labels.ravel(), minlength=61)
    np.testing.assert_allclose(found.od_mean[1:, 1], expected[1:], atol=1e-4)


def test_pixels_inside_are_those_whose_centre_is_inside(rng):
    shapes = [shapely.Point(*rng.uniform(0, 60, 2)).buffer(rng.uniform(0.3, 12)) for _ in range(40)]
    shapes.append(shapely.box(10, 10, 30, 30) - shapely.box(15, 15, 20, 22))
    shapes.append(shapely.MultiPolygon([shapely.box(0, 0, 3, 3), shapely.box(40, 5, 44, 9)]))
    shapes = np.array(shapes, dtype=object)
    cell, column, row = pixels_inside(shapes, np.array([0, 0]), np.array([60, 60]))
    got = np.zeros((len(shapes), 60, 60), int)
    np.add.at(got, (cell, row, column), 1)
    x, y = np.meshgrid(np.arange(60) + 0.5, np.arange(60) + 0.5)
    for number, shape in enumerate(shapes):
        np.testing.assert_array_equal(got[number], shapely.contains_xy(shape, x, y))


def test_a_mask_may_be_coarser_or_finer_than_the_slide(scene):
    path, labels, _, truth, _ = scene
    coarse, fine = labels[1::2, 1::2], np.repeat(np.repeat(labels, 2, 0), 2, 1)
    with open_slide(path) as slide:
        for mask, pixel in ((coarse, 2 * UM), (fine, UM / 2)):
            found = stain_of_labels(slide.at(UM), STAINS, [(mask, 0, 0)], (pixel, pixel), 61)
            np.testing.assert_allclose(found.od_mean[1:, 1], truth, atol=0.01)


def test_cells_beside_the_slide_have_no_stain(scene):
    path, *_ = scene
    outlines = np.array([shapely.box(5000, 5000, 5010, 5010), shapely.box(290, 10, 320, 20)], dtype=object)
    with open_slide(path) as slide:
        found = stain_of_outlines(slide.at(UM), STAINS, outlines)
    assert found.n_pixels.tolist() == [0, 20 * 20] and np.isnan(found.od_mean[0]).all()
