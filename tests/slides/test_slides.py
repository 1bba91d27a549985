"""Slides: calibration, thumbnails of the right scale and orientation, tissue."""

import numpy as np
import pytest
import tifffile

from histomri.errors import InputError, UnitError
from histomri.slides import open_slide, tissue_mask


def picture(height=300, width=480):
    """Glass with a dark block top right and a pale one bottom left, so that flips and transposes show."""
    rgb = np.full((height, width, 3), 245, np.uint8)
    rgb[20:100, 300:440] = (120, 60, 140)
    rgb[200:280, 40:200] = (220, 150, 190)
    return rgb


@pytest.fixture
def pyramid(tmp_path):
    path = tmp_path / "slide.ome.tif"
    rgb = picture()
    with tifffile.TiffWriter(path, ome=True) as writer:
        size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 600, "PhysicalSizeYUnit": "nm"}
        metadata = {"axes": "YXS", **size}
        writer.write(rgb, subifds=1, photometric="rgb", tile=(64, 64), metadata=metadata)
        writer.write(rgb[::2, ::2], subfiletype=1, photometric="rgb", tile=(64, 64))
    return path


def test_an_ome_pyramid(pyramid):
    with open_slide(pyramid) as slide:
        assert slide.pixel_size_um == pytest.approx((0.5, 0.6))
        assert slide.size_px == (480, 300)
        assert slide.downsamples == (1.0, 2.0)
        small = slide.thumbnail(2.0)
    # 480 x 0.5 µm and 300 x 0.6 µm at 2 µm per pixel.
    assert small.shape == (90, 120, 3)
    np.testing.assert_array_equal(small[15, 90], (120, 60, 140))
    np.testing.assert_array_equal(small[72, 30], (220, 150, 190))
    np.testing.assert_array_equal(small[72, 90], (245, 245, 245))


def test_a_thumbnail_is_never_enlarged(pyramid):
    with open_slide(pyramid) as slide:
        assert slide.thumbnail(0.01).shape == (300, 480, 3)
        with pytest.raises(InputError, match="0 µm per pixel is not possible"):
            slide.thumbnail(0)


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [((44085.0, 22042.0), "CENTIMETER", (0.22683, 0.45368)), ((300, 300), "INCH", None), ((1, 1), "NONE", None)],
)
def test_resolution_tags_count_unless_they_are_a_printers(tmp_path, resolution, unit, expected):
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", resolution=resolution, resolutionunit=unit)
    with open_slide(path) as slide:
        assert slide.pixel_size_um == (None if expected is None else pytest.approx(expected, rel=1e-4))
        if expected is None:
            with pytest.raises(
                UnitError, match=r"plain\.tif: the slide states no pixel size; give the pixel size, --mpp"
            ):
                slide.thumbnail(4)


def test_what_is_no_slide_is_refused(tmp_path):
    path = tmp_path / "slide.svs"
    for content, message in (
        (b"", "the slide is empty"),
        (b"nonsense", "is no slide that OpenSlide or tifffile can read"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"slide\.svs: {message}"):
            open_slide(path)
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((9, 7), np.float32))
    with pytest.raises(InputError, match="no RGB slide of 8 bits"):
        open_slide(tmp_path / "float.tif")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((4, 9, 7), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="a stack, not one slide"):
        open_slide(tmp_path / "stack.tif")


def test_tissue_is_what_is_not_glass():
    rgb = picture()
    rgb[250, 400] = 0  # a speck
    rgb[60:63, 350:353] = 245  # a hole
    truth = np.zeros(rgb.shape[:2], bool)
    truth[20:100, 300:440] = truth[200:280, 40:200] = True
    mask = tissue_mask(rgb)
    # The blur moves edges by a pixel or two; nothing else may differ.
    inner, outer = np.zeros_like(truth), np.zeros_like(truth)
    inner[24:96, 304:436] = inner[204:276, 44:196] = True
    outer[15:105, 295:445] = outer[195:285, 35:205] = True
    assert mask[inner].all() and not mask[~outer].any()


def test_glass_alone_has_no_tissue():
    assert not tissue_mask(np.full((70, 90, 3), 240, np.uint8)).any()
    with pytest.raises(InputError, match=r"a picture of shape \(h, w, 3\), 8 bits"):
        tissue_mask(np.zeros((70, 90), np.uint8))


def test_a_real_he_slide(real_data):
    with open_slide(real_data / "slides" / "CMU-1-Small-Region.svs") as slide:
        assert slide.pixel_size_um == pytest.approx((0.499, 0.499))
        assert slide.size_px == (2220, 2967)
        small = slide.thumbnail(4.0)
    assert small.shape == (370, 277, 3)
    mask = tissue_mask(small)
    # Seen in the picture: a strip of skin fills the middle, bottom centre to top centre, about a third of the area.
    assert 0.30 < mask.mean() < 0.42
    assert mask[330:, 90:190].mean() > 0.9
    assert mask[100:300, 120:160].mean() > 0.8
    assert not mask[:120, :80].any()  # glass, top left
    assert mask[200:, 250:].mean() < 0.05  # glass, bottom right
    # Tissue of HE is pink: less green than red and blue.
    assert small[mask].mean(axis=0).argmin() == 1


def test_a_real_ndpi_pyramid(real_data):
    with open_slide(real_data / "slides" / "hamamatsu_dapi.ndpi") as slide:
        assert slide.pixel_size_um == pytest.approx((0.2282, 0.2282), rel=1e-3)
        assert slide.size_px == (3968, 4864)
        # 4 µm per pixel is 17.5 times coarser: the level of 16 is read.
        assert slide.thumbnail(4.0).shape == (277, 226, 3)


def test_jpeg_in_ome_tiff_says_what_is_missing(real_data):
    with open_slide(real_data / "slides" / "OS-1-detail.ome.tif") as slide:
        assert slide.pixel_size_um == pytest.approx((0.22710, 0.22710), rel=1e-4)
        try:
            assert slide.thumbnail(2.0).shape == (125, 125, 3)
        except InputError as error:
            assert "install imagecodecs" in str(error)
