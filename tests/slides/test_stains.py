"""Stains, regions and the stained area: mixtures with known amounts, scikit-image, shapely."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
import tifffile
from skimage.color import hdx_from_rgb, separate_stains

from histomri.core.errors import InputError
from histomri.slides import Raster, Stains, estimate_background, find_tissue, mask_polygons, open_slide, stained_area
from histomri.slides.stains import estimate_stains

GLASS = np.array([236.0, 230.0, 241.0])


def mixed(amounts, background=GLASS):
    """Pixels with known amounts of hematoxylin and DAB, (..., 2), by Beer and Lambert."""
    vectors = np.array([[0.650, 0.704, 0.286], [0.268, 0.570, 0.776]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.round(background * 10 ** -(amounts @ vectors)).astype(np.uint8)


def test_known_mixtures_are_told_apart(rng):
    amounts = rng.uniform(0, 0.6, (40, 30, 2))
    found = replace(Stains.h_dab(), background_rgb=GLASS).amounts(mixed(amounts))
    # Values are rounded to whole numbers; at 0.6 + 0.6 blue is about 30, where a half is 0.007.
    np.testing.assert_allclose(found[..., :2], amounts, atol=0.03)
    np.testing.assert_allclose(found[..., 2], 0, atol=0.03)


def test_scikit_image_gives_the_same_in_its_own_unit(rng):
    rgb = rng.integers(20, 256, (9, 7, 3), dtype=np.uint8)
    ours = replace(Stains.h_dab(), background_rgb=np.full(3, 255.0)).amounts(rgb)
    theirs = separate_stains(rgb, hdx_from_rgb) * 6  # its logarithm is to the base of 10^-6
    # It cuts negative amounts, and its vectors are a thousandth from length 1.
    np.testing.assert_allclose(np.maximum(ours[..., :2], 0), theirs[..., :2], atol=0.01)


def test_qupaths_text_is_read():
    text = '{"Name" : "H-DAB", "Stain 1" : "Hematoxylin", "Values 1" : "0.65111 0.70119 0.29049 ", '
    text += '"Stain 2" : "DAB", "Values 2" : "0.26917 0.56824 0.77759 ", "Background" : " 243 241 245 "}'
    stains = Stains.from_qupath(text)
    assert stains.dab == 1
    np.testing.assert_allclose(stains.vectors[1], [0.26917, 0.56824, 0.77759], rtol=1e-4)
    np.testing.assert_allclose(stains.vectors[2] @ stains.vectors[:2].T, 0, atol=1e-12)
    np.testing.assert_array_equal(stains.background_rgb, [243, 241, 245])
    assert Stains.from_qupath(text.replace("243 241 245", "255 255 255")).background_rgb is None
    for old, new, message in (
        ("0.65111 0.70119", "0.65111", "three numbers at 'Values 1'"),
        ("0.26917 0.56824 0.77759", "0.65111 0.70119 0.29049", "too alike"),
        ("243", "0", "a background of"),
        ("{", "", "no JSON"),
        ("0.26917", "NaN", "three numbers at 'Values 2'"),
    ):
        with pytest.raises(InputError, match=message):
            Stains.from_qupath(text.replace(old, new))
    with pytest.raises(InputError, match="do not have one that is called DAB"):
        _ = Stains.from_qupath(text.replace("DAB", "Eosin")).dab


def test_the_background_is_the_glass():
    rgb = np.full((90, 120, 3), 255, np.uint8)  # a part was never scanned
    rgb[:, 20:] = GLASS
    rgb[20:60, 50:110] = (150, 100, 60)
    tissue = (rgb == (150, 100, 60)).all(axis=2)
    background, how = estimate_background(rgb, tissue)
    np.testing.assert_array_equal(background, GLASS)
    assert how == "median of the glass"
    rgb[(rgb == GLASS).all(axis=2)] = 255
    assert estimate_background(rgb, tissue) == (pytest.approx([255, 255, 255]), "white glass")
    assert "shows no glass" in estimate_background(rgb[20:60, 50:110], tissue[20:60, 50:110])[1]


def test_rasters_agree_with_shapely(rng):
    angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
    radius = rng.uniform(20, 60, 40)
    star = shapely.Polygon(np.stack([70 + radius * np.cos(angle), 65 + radius * np.sin(angle)], axis=1))
    holed = star.difference(shapely.box(60.3, 50, 75, 71)).union(shapely.box(5, 5, 12.5, 110))
    x, y = np.arange(0, 150) * 0.9 + 0.31, np.arange(0, 120) * 1.1 + 0.17
    for shape in (holed, shapely.box(-50, -50, 500, 40), shapely.box(300, 300, 400, 400), shapely.Polygon()):
        expected = shapely.contains_xy(shape, x[None, :], y[:, None])
        np.testing.assert_array_equal(Raster(shape).inside(x, y), expected)
    # A corner on a row of pixel centres is crossed once, not twice or never.
    diamond = shapely.Polygon([(5, 1), (9, 5), (5, 9), (1, 5)])
    inside = Raster(diamond).inside(np.arange(0.25, 10, 0.5), np.arange(0.0, 10))
    np.testing.assert_array_equal(inside.sum(axis=1), [0, 0, 4, 8, 12, 16, 12, 8, 4, 0])


def test_outlines_of_a_mask_have_its_area_and_place():
    mask = np.zeros((9, 7), bool)
    mask[1:6, 2:6] = True
    mask[3, 4] = False
    mask[7:, 0] = True
    region = mask_polygons(mask, (2.0, 3.0))
    assert region.is_valid and region.area == pytest.approx(mask.sum() * 6)
    assert sum(len(part.interiors) for part in region.geoms) == 1
    assert region.bounds == (0, 3, 12, 27)
    centres = np.arange(7) * 2.0 + 1, np.arange(9) * 3.0 + 1.5
    np.testing.assert_array_equal(Raster(region).inside(*centres), mask)
    assert mask_polygons(np.zeros((3, 4), bool)).is_empty


@pytest.fixture
def stained_slide(tmp_path):
    """Tissue of 1600 x 800 px, its lower left quarter brown; glass around; 0.5 x 0.5 µm."""
    amounts = np.zeros((1100, 2000, 2))
    amounts[150:950, 200:1800] = (0.25, 0.0)
    amounts[550:950, 200:1000] = (0.2, 0.5)
    path = tmp_path / "ki67.ome.tif"
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "axes": "YXS"}
    tifffile.imwrite(path, mixed(amounts), photometric="rgb", tile=(256, 256), metadata=size, compression="zlib")
    return path


@pytest.mark.parametrize("tile_px", [97, 512])
@pytest.mark.parametrize("um_per_px", [0.5, 1.0])
def test_a_known_fraction_is_found(stained_slide, tile_px, um_per_px):
    with open_slide(stained_slide) as slide:
        tissue = find_tissue(slide)
        stains = replace(Stains.h_dab(), background_rgb=GLASS)
        options = {"um_per_px": um_per_px, "tile_px": tile_px}
        area = stained_area(slide, stains, tissue=tissue, **options)
        # The blur moves the outline of the tissue out by a few µm of 800 x 400.
        assert area.fraction == pytest.approx(0.25, abs=0.01)
        # A region across the border of the stain, its edges on pixels: exact. 300 x 200 µm, 200 of 300 are brown.
        region = shapely.box(300, 275, 600, 475)
        inside = stained_area(slide, stains, tissue=tissue, region=region, **options)
        assert inside.fraction == pytest.approx(2 / 3, abs=1e-12)
        assert inside.area_mm2 == pytest.approx(0.06, rel=1e-12)
        # All of the slide, glass too: 800 x 400 of 2000 x 1100 pixels.
        everything = stained_area(slide, stains, **options)
        assert everything.fraction == pytest.approx(800 * 400 / (2000 * 1100), abs=1e-12)
        stained, counted = everything.blocks(3)
        assert stained.sum() == everything.stained.sum() and counted.sum() == everything.counted.sum()
        with pytest.raises(InputError, match="no tissue to count in"):
            stained_area(slide, stains, tissue=tissue, region=shapely.box(0, 0, 20, 20), **options)


def test_the_wrong_background_would_be_wrong(stained_slide):
    """Why the glass is measured: with 255 every pixel gets stain that is not there."""
    with open_slide(stained_slide) as slide:
        picture = slide.thumbnail(1.0)
    glass = picture[:50]
    assert replace(Stains.h_dab(), background_rgb=GLASS).amount(glass, 1).max() < 1e-6
    assert abs(replace(Stains.h_dab(), background_rgb=np.full(3, 255.0)).amounts(glass)).max() > 0.03


def test_the_standard_error_is_that_of_a_ratio(stained_slide, rng):
    """Repeated draws of blocks scatter as the formula says, within a fifth."""
    from histomri.slides import StainedArea

    draws, errors = [], []
    for _ in range(400):
        counted = rng.integers(20, 100, (12, 15))
        stained = rng.binomial(counted, np.clip(rng.normal(0.3, 0.15, counted.shape), 0, 1))
        area = StainedArea(stained, counted, (25.0, 25.0), (1.0, 1.0), 0.2)
        draws.append(area.fraction)
        errors.append(area.standard_error(1))
    assert np.mean(errors) == pytest.approx(np.std(draws), rel=0.15)


OTHER = np.array([[0.60, 0.72, 0.35], [0.32, 0.62, 0.72]])  # another scanner's hematoxylin and DAB
OTHER /= np.linalg.norm(OTHER, axis=1, keepdims=True)


def two_stains(rng, brown, n=60_000):
    """Pixels of which some are blue, a fraction brown, and some both; with noise of the camera, and pale ones."""
    amounts = np.zeros((n, 2))
    amounts[:, 0] = rng.lognormal(np.log(0.3), 0.4, n) * (rng.random(n) < 0.8)
    only, both = rng.random(n) < brown, rng.random(n) < brown / 2
    amounts[only] = 0
    amounts[only | both, 1] = rng.lognormal(np.log(0.5), 0.3, n)[only | both]
    pixels = GLASS * 10 ** -(amounts @ OTHER) + rng.normal(0, 2, (n, 3))
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8), amounts


@pytest.mark.parametrize("brown", [0.03, 0.1, 0.4])
def test_stains_are_estimated_from_their_mixture(rng, brown):
    rgb, amounts = two_stains(rng, brown)
    stains = estimate_stains(rgb, GLASS)
    assert (stains.names[stains.dab], stains.dab) == ("DAB", 1)
    angles = np.rad2deg(np.arccos(np.clip((stains.vectors[:2] * OTHER).sum(axis=1), -1, 1)))
    # The edges lie a little outside, as noise widens the wedge; the usual vectors are 5 and 6 degrees off.
    assert angles.max() < 3.5
    usual = replace(Stains.h_dab(), background_rgb=GLASS)
    ours, theirs = (((one.amount(rgb, 1) >= 0.2) != (amounts[:, 1] >= 0.2)).mean() for one in (stains, usual))
    assert ours < 0.02 and ours <= theirs + 0.002


def test_one_stain_is_not_two(rng):
    blue = two_stains(rng, 0.0)[0]
    with pytest.raises(InputError, match="as if there were one only; leave out --stains"):
        estimate_stains(blue, GLASS)
    with pytest.raises(InputError, match="0 stained pixels are too few"):
        estimate_stains(np.full((5000, 3), 236, np.uint8), GLASS)
