"""Slides: calibration, thumbnails of the right scale and orientation, tissue."""

import json

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image as Picture

from histomri.core.errors import InputError, UnitError
from histomri.slides import estimate_background, find_tissue, open_slide, tissue_mask
from histomri.slides.openers import OpenSlideSlide


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


@pytest.mark.parametrize("kind", ["zlib", "lzw", "packbits", "jpeg-rgb", "jpeg-ycbcr", "planar", "strips", "plain"])
def test_every_way_of_storing_gives_the_same_picture(tmp_path, kind):
    """Pillow's libtiff writes what tifffile cannot without another package; the pixels are known either way."""
    rgb, path = picture(301, 483), tmp_path / "slide.tif"
    resolution = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    if kind in ("lzw", "packbits"):
        Picture.fromarray(rgb).save(path, compression={"lzw": "tiff_lzw"}.get(kind, kind), dpi=(50800, 50800))
    elif kind.startswith("jpeg"):
        write_jpeg_tiff(path, rgb, ycbcr=kind == "jpeg-ycbcr")
    elif kind == "planar":
        planes = np.moveaxis(rgb, -1, 0)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", tile=(64, 96), **resolution)
    else:
        options = {"zlib": {"compression": "zlib", "tile": (64, 96)}, "strips": {"rowsperstrip": 7}}.get(kind, {})
        tifffile.imwrite(path, rgb, photometric="rgb", **options, **resolution)
    with open_slide(path) as slide:
        assert slide.pixel_size_um == pytest.approx((0.5, 0.5), rel=1e-3)
        tolerance = 6 if kind.startswith("jpeg") else 0  # JPEG is lossy at the edges of blocks
        whole = slide.read(0, 0, 0, 483, 301)
        inner = np.s_[30:90, 310:430] if kind.startswith("jpeg") else np.s_[:, :]
        np.testing.assert_allclose(whole[inner].astype(int), rgb[inner], atol=tolerance)
        # Any part is that part of the whole.
        np.testing.assert_array_equal(slide.read(0, 250, 90, 233, 150), whole[90:240, 250:483])


def write_jpeg_tiff(path, rgb, ycbcr):
    """A TIFF of JPEG tiles without any mark of what the colours are but the TIFF's own."""
    import io
    import struct

    height, width = rgb.shape[:2]
    across, down = -(-width // 96), -(-height // 64)
    padded = np.pad(rgb, ((0, down * 64 - height), (0, across * 96 - width), (0, 0)), mode="edge")
    if ycbcr:
        padded = np.asarray(Picture.fromarray(padded).convert("YCbCr"))
    tiles = []
    for row in range(down):
        for column in range(across):
            part = np.ascontiguousarray(padded[row * 64 : row * 64 + 64, column * 96 : column * 96 + 96])
            stream = io.BytesIO()
            # The three channels are stored as they are; YCbCr was computed above.
            Picture.fromarray(part).save(stream, "JPEG", quality=95, keep_rgb=True, subsampling=0)
            data = stream.getvalue()
            while (place := data.find(b"\xff\xee\x00\x0eAdobe")) >= 0:
                data = data[:place] + data[place + 16 :]
            while (place := data.find(b"\xff\xe0\x00\x10JFIF")) >= 0:
                data = data[:place] + data[place + 18 :]
            # Components called R, G, B would be a mark too.
            frame = data.find(b"\xff\xc0")
            scan = data.find(b"\xff\xda")
            data = bytearray(data)
            for number in range(3):
                data[frame + 10 + 3 * number] = number + 1
                data[scan + 5 + 2 * number] = number + 1
            tiles.append(bytes(data))
    n, body = len(tiles), b"".join(tiles)
    offsets = np.cumsum([0] + [len(tile) for tile in tiles[:-1]]) + 8
    tail = 8 + len(body)
    extras = struct.pack("<3H", 8, 8, 8) + struct.pack(f"<{n}I", *offsets)
    extras += struct.pack(f"<{n}I", *map(len, tiles)) + struct.pack("<4I", 20000, 1, 20000, 1)
    at = [tail, tail + 6, tail + 6 + 4 * n, tail + 6 + 8 * n, tail + 14 + 8 * n]
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, at[0]), (259, 3, 1, 7), (262, 3, 1, 6 if ycbcr else 2)]
    tags += [(277, 3, 1, 3), (282, 5, 1, at[3]), (283, 5, 1, at[4]), (284, 3, 1, 1), (296, 3, 1, 3), (322, 4, 1, 96)]
    tags += [(323, 4, 1, 64), (324, 4, n, at[1]), (325, 4, n, at[2])]
    tags += [(530, 3, 2, 1 | 1 << 16)] if ycbcr else []
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", tail + len(extras)) + body + extras + directory)


@pytest.mark.parametrize("um_per_px", [0.5, 1.0, 1.7, 5.0])
def test_tiles_cover_the_slide_once(pyramid, um_per_px):
    with open_slide(pyramid) as slide:
        view, whole = slide.at(um_per_px), slide.thumbnail(um_per_px)
        put_together, times = np.zeros_like(whole), np.zeros(whole.shape[:2], int)
        for tile in slide.tiles(um_per_px, 37):
            height, width = tile.rgb.shape[:2]
            assert max(height, width) <= 37
            part = np.s_[tile.y : tile.y + height, tile.x : tile.x + width]
            put_together[part] = tile.rgb
            times[part] += 1
            x, y = tile.centres_um
            assert x[0] == pytest.approx((tile.x + 0.5) * view.um_per_px[0])
            assert y[-1] == pytest.approx((tile.y + height - 0.5) * view.um_per_px[1])
        assert (times == 1).all()
        np.testing.assert_array_equal(put_together, whole)
        # The dark block is at x 150 to 220 µm, y 12 to 60 µm, whatever the resolution.
        x, y = ((np.arange(n) + 0.5) * size for n, size in zip(view.size_px, view.um_per_px))
        inner = np.ix_((y > 18) & (y < 54), (x > 156) & (x < 214))
        assert (whole[inner] == (120, 60, 140)).all()
        region = shapely.box(160, 20, 161, 21)
        (only,) = slide.tiles(um_per_px, 37, region)
        assert (abs(only.rgb.astype(int) - (120, 60, 140)).max(axis=2) <= 1).any()


def test_the_level_is_chosen_by_its_size(pyramid):
    with open_slide(pyramid) as slide:
        assert [slide.at(um).level for um in (0.5, 0.99, 1.2, 8)] == [0, 0, 1, 1]


def test_large_reads_come_in_pieces(pyramid, monkeypatch):
    from histomri.slides import slide as module

    with open_slide(pyramid) as slide:
        whole, read = slide.thumbnail(3.1), slide.read
        monkeypatch.setattr(module, "_BLOCK_PIXELS", 2000)
        largest = []
        monkeypatch.setattr(slide, "read", lambda *where: largest.append(where[3] * where[4]) or read(*where))
        np.testing.assert_array_equal(slide.thumbnail(3.1), whole)
        assert len(largest) > 10 and max(largest) < 2600  # the pixels at the border come on top
        with pytest.raises(InputError, match="there is no part of 10 x 10 px at"):
            slide.at(3.1).read(-1, 0, 10, 10)


def test_pixel_sizes_must_agree(pyramid, tmp_path):
    def size(**options):
        with open_slide(pyramid, **options) as slide:
            return slide.pixel_size_um, slide.pixel_size_from

    assert size() == (pytest.approx((0.5, 0.6)), "its OME metadata")
    assert size(mpp=(0.502, 0.6)) == ((0.502, 0.6), "--mpp")
    with pytest.raises(UnitError, match=r"0\.25 x 0\.25 by --mpp, 0\.5 x 0\.6 by its OME metadata; correct the wrong"):
        size(mpp=0.25)
    assert size(mpp=0.25, trust_mpp=True) == ((0.25, 0.25), "--mpp")
    with pytest.raises(UnitError, match="by project"):
        size(known_um={"project.qpproj": (0.4, 0.6)})
    record = {"schema": "histomri.qupath/1", "pixel_width_um": 0.501, "pixel_height_um": 0.6}
    sidecar = tmp_path / "slide.histomri.json"
    sidecar.write_text(json.dumps(record))
    assert size() == ((0.501, 0.6), "slide.histomri.json")
    sidecar.write_text(json.dumps(record | {"width_px": 240, "height_px": 300}))
    with pytest.raises(InputError, match=r"is 480 x 300 px, and slide\.histomri\.json says 240 x 300; in QuPath"):
        size()
    for content, message in (
        ({"schema": "other"}, "is not a sidecar"),
        (record | {"pixel_width_um": 0}, "must be positive numbers"),
    ):
        sidecar.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            size()
    for wrong in (0, -1, float("nan"), (0.5, 0.5, 0.5)):
        with pytest.raises(UnitError, match="is not possible"):
            size(mpp=wrong)


class FakeOpenSlide:
    """What OpenSlide gives for a slide whose scanned part begins at (100, 40): MRXS and the like."""

    dimensions = (1000, 800)
    level_dimensions = ((1000, 800), (250, 200))
    properties = {  # noqa: RUF012
        "openslide.bounds-x": "100",
        "openslide.bounds-y": "40",
        "openslide.bounds-width": "400",
        "openslide.bounds-height": "600",
        "openslide.mpp-x": "0.25",
        "openslide.mpp-y": "0.25",
    }

    def read_region(self, corner, level, size):
        rgba = np.zeros((size[1], size[0], 4), np.uint8)
        rgba[..., 3] = 255
        rgba[0, 0] = 0  # never scanned
        rgba[..., 0], rgba[..., 1] = corner[0] // 4, corner[1] // 4
        return Picture.fromarray(rgba)

    def close(self):
        pass


def test_empty_margins_are_cut_as_in_qupath(tmp_path):
    slide = OpenSlideSlide(tmp_path / "a.mrxs", FakeOpenSlide())
    assert slide.size_px == (400, 600) and slide.level_sizes == ((400, 600), (100, 150))
    part = slide.read(1, 10, 20, 4, 3)
    # 10 pixels of a level of 4 are 40 of the full resolution, from the corner at 100.
    np.testing.assert_array_equal(part[1, 1], (140 // 4, 120 // 4, 0))
    np.testing.assert_array_equal(part[0, 0], (255, 255, 255))


def test_damaged_slides_are_told(tmp_path, pyramid):
    content = pyramid.read_bytes()
    path = tmp_path / "cut.ome.tif"
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(InputError, match=r"cut\.ome\.tif: "), open_slide(path, mpp=0.5) as slide:
            slide.thumbnail(1.0)
    broken = tmp_path / "broken.tif"
    tifffile.imwrite(broken, picture(), photometric="rgb", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(broken) as handle:
        offset = handle.pages[0].dataoffsets[3]
    damaged = bytearray(broken.read_bytes())
    damaged[offset : offset + 6] = b"\xff" * 6
    broken.write_bytes(damaged)
    with pytest.raises(InputError, match=r"broken\.tif: the slide is damaged"), open_slide(broken, mpp=1) as slide:
        slide.thumbnail(1.0)


def test_a_missing_decoder_is_named(tmp_path, monkeypatch):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", tile=(64, 64))
    data = path.read_bytes()
    place = data.find(b"\x03\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # compression, a short, one of them: 1
    path.write_bytes(data[: place + 8] + (34712).to_bytes(2, "little") + data[place + 10 :])

    def decode(*_, **__):
        raise ValueError("<COMPRESSION.JPEG2000: 34712> requires the 'imagecodecs' package")  # as tifffile says it

    monkeypatch.setattr(tifffile.TiffPage, "decode", decode)
    with (
        open_slide(path, mpp=1) as slide,
        pytest.raises(InputError, match=r"slide\.tif: is compressed as JPEG2000, which needs the package imagecodecs"),
    ):
        slide.thumbnail(1.0)


def test_tissue_of_a_slide_in_micrometres(pyramid):
    with open_slide(pyramid) as slide:
        tissue = find_tissue(slide, min_area_um2=500)
        region = tissue.region
    # The blocks are 70 x 48 µm and 80 x 48 µm; the blur of 10 µm moves their edges by a few.
    assert len(region.geoms) == 2
    assert tissue.area_um2 == pytest.approx(region.area)
    for low_x, low_y, high_x, high_y in ((150, 12, 220, 60), (20, 120, 100, 168)):
        part = next(shape for shape in region.geoms if shape.centroid.within(shapely.box(low_x, low_y, high_x, high_y)))
        np.testing.assert_allclose(part.bounds, (low_x, low_y, high_x, high_y), atol=15)
    x, y = np.array([185.0, 60, 185]), np.array([36.0, 144])
    np.testing.assert_array_equal(tissue.inside(x, y), [[True, False, True], [False, True, False]])
    np.testing.assert_allclose(tissue.to_pixels((0.5, 0.6)).bounds, np.array(region.bounds) / [0.5, 0.6, 0.5, 0.6])


def test_a_fluorescence_slide_has_no_glass(real_data):
    with (
        open_slide(real_data / "slides" / "hamamatsu_dapi.ndpi") as slide,
        pytest.raises(InputError, match=r"dapi\.ndpi: is dark: a fluorescence image"),
    ):
        find_tissue(slide)


def test_real_ome_tiffs(real_data):
    """JPEG under the label RGB that is YCbCr in truth: decoded as RGB, this HE would be green."""
    with open_slide(real_data / "slides" / "OS-1-detail.ome.tif") as slide:
        assert slide.pixel_size_um == pytest.approx((0.22710, 0.22710), rel=1e-4)
        small = slide.thumbnail(2.0)
        assert small.shape == (125, 125, 3)
        assert small.reshape(-1, 3).mean(axis=0).argmin() == 1
        assert find_tissue(slide).mask.all()  # the picture is tissue all over
    with open_slide(real_data / "slides" / "OS-2-ndpi.ome.tif") as slide:
        tissue = find_tissue(slide)
        background, how = estimate_background(slide.thumbnail(tissue.um_per_px[0]), tissue.mask)
    # Seen in the picture: pale blue cells fill it but for a bay on the left and one at the top.
    assert 0.82 < tissue.mask.mean() < 0.9
    assert not tissue.inside(np.array([20.0, 60, 400]), np.array([350.0]))[0, :2].any()
    assert not tissue.inside(np.array([400.0]), np.array([20.0])).any()
    assert how == "median of the glass"
    np.testing.assert_allclose(background, (226, 224, 235), atol=1.5)
