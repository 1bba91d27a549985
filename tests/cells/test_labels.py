"""Masks of numbered cells, against scikit-image; every way of storing them, and pictures that are none."""

import json

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.draw import disk
from skimage.measure import regionprops

from histomri.cells import read_cells
from histomri.core.errors import HistomriError, InputError, UnitError


@pytest.fixture(scope="module")
def mask():
    """Return numbered discs on a picture that is not square, with numbers left out."""
    rng = np.random.default_rng(5)
    labels = np.zeros((190, 260), dtype=np.uint16)
    for number in rng.permutation(np.arange(1, 80)):
        rows, columns = disk(rng.uniform(0, labels.shape), rng.uniform(3, 12), shape=labels.shape)
        labels[rows, columns] = 7 * number
    return labels


OME = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 250.0, "PhysicalSizeYUnit": "nm"}


def packed(mask):
    number = mask.astype(np.uint32) * 40  # beyond 255 and 65535
    return np.stack([number >> 16, number >> 8 & 255, number & 255], axis=-1).astype(np.uint8)


def indexed(path, mask):
    picture = Image.fromarray((mask // 7).astype(np.uint8), mode=None)
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768).astype(np.uint8).tobytes())
    picture.save(path)


WRITERS = {
    "m.tif": lambda path, mask: tifffile.imwrite(path, mask),
    "tiled.tif": lambda path, mask: tifffile.imwrite(path, mask, tile=(64, 48), compression="zlib"),
    "strips.tif": lambda path, mask: tifffile.imwrite(path, mask, rowsperstrip=17, bigtiff=True),
    "float.tif": lambda path, mask: tifffile.imwrite(path, mask.astype(np.float32)),
    "long.tif": lambda path, mask: tifffile.imwrite(path, mask.astype(np.int32)),
    "rgb.tif": lambda path, mask: tifffile.imwrite(path, packed(mask), photometric="rgb", tile=(64, 48)),
    "planes.tif": lambda path, mask: tifffile.imwrite(
        path, np.moveaxis(packed(mask), -1, 0), photometric="rgb", planarconfig="separate"
    ),
    "c.ome.tif": lambda path, mask: tifffile.imwrite(
        path, np.moveaxis(packed(mask), -1, 0), photometric="minisblack", metadata={"axes": "CYX"}
    ),
    "m.png": lambda path, mask: path.write_bytes(imagecodecs.png_encode(mask)),
    "rgb.png": lambda path, mask: path.write_bytes(imagecodecs.png_encode(packed(mask))),
    "palette.png": indexed,
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_mask_gives_the_same_cells(tmp_path, mask, name):
    path = tmp_path / name
    WRITERS[name](path, mask)
    table = read_cells(path, mpp=(0.5, 0.25))
    truth = regionprops(mask)
    centres = np.array([region.centroid for region in truth]) + 0.5  # the centre of a pixel lies half a pixel in
    np.testing.assert_allclose(table.data["area_um2"], [region.area * 0.125 for region in truth], rtol=1e-12)
    np.testing.assert_allclose(table.data["x_um"], centres[:, 1] * 0.5, rtol=1e-12)
    np.testing.assert_allclose(table.data["y_um"], centres[:, 0] * 0.25, rtol=1e-12)
    assert table.metadata.field_um == (130, 47.5)
    assert table.metadata.compartment == "nucleus"
    assert set(table.data["object_type"]) == {"detection"}


def test_the_pixel_size_is_that_of_the_file(tmp_path, mask):
    path = tmp_path / "labels.ome.tif"
    tifffile.imwrite(path, mask, metadata=OME)
    table = read_cells(path, detections="cells")
    assert table.metadata.pixel_size_um == (0.5, 0.25)
    assert table.metadata.compartment == "cell"
    assert table.data["nucleus_area_um2"].isna().all()
    assert table.data["object_id"][0] == str(np.unique(mask)[1])
    with pytest.raises(UnitError, match=r"0\.3 x 0\.3 by --mpp, 0\.5 x 0\.25 by the picture itself"):
        read_cells(path, mpp=0.3)
    tifffile.imwrite(path, mask)
    with pytest.raises(UnitError, match="pass --mpp"):
        read_cells(path)


def test_a_mask_larger_than_its_blocks_is_summed(tmp_path, mask, monkeypatch):
    path = tmp_path / "m.png"
    path.write_bytes(imagecodecs.png_encode(np.tile(mask, (30, 30))))
    table = read_cells(path, mpp=1.0)
    count = np.bincount(mask.ravel())
    np.testing.assert_array_equal(table.data["area_um2"], 900.0 * count[count > 0][1:])


def test_a_region_is_in_pixels_of_the_slide(tmp_path, mask):
    path, roi, project = tmp_path / "S.ome.tif", tmp_path / "roi.geojson", tmp_path / "project.qpproj"
    tifffile.imwrite(path, mask, metadata=OME)  # 0.5 x 0.25 µm, and the slide has 0.25 x 0.125 µm
    ring = [[0, 0], [260, 0], [260, 190], [0, 190], [0, 0]]
    roi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    sides = {"pixelWidth": {"value": 0.25, "unit": "µm"}, "pixelHeight": {"value": 0.125, "unit": "µm"}}
    builder = {"builderType": "uri", "metadata": {"width": 520, "height": 380, "pixelCalibration": sides}}
    project.write_text(json.dumps({"images": [{"imageName": "S.ome.tif", "entryID": 1, "serverBuilder": builder}]}))
    table = read_cells(path, roi=roi, project=project)
    assert table.data["x_um"].max() < 65 and table.data["y_um"].max() < 23.75
    assert table.metadata.field_um == (130, 47.5)
    whole = read_cells(path, roi=roi)
    assert len(whole) > len(table)
    assert any("taken to be in pixels of the mask" in text for text in whole.metadata.warnings)


def photo(shape=(60, 80, 3)):
    return np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)


PICTURES = {
    "photo.tif": (lambda path: tifffile.imwrite(path, photo(), photometric="rgb"), "pixels each, as colours have"),
    "jpeg.tif": (
        lambda path: tifffile.imwrite(path, photo((64, 64, 3)), photometric="rgb", compression="jpeg"),
        "its compression, JPEG, is for photographs",
    ),
    "photo.png": (lambda path: path.write_bytes(imagecodecs.png_encode(photo())), "as colours have"),
    "alpha.png": (lambda path: path.write_bytes(imagecodecs.png_encode(photo((9, 9, 4)))), "in mode RGBA"),
    "tissue.tif": (
        lambda path: tifffile.imwrite(path, np.eye(50, dtype=np.uint8) * 255),
        "all its cells have one number",
    ),
    "empty.tif": (lambda path: tifffile.imwrite(path, np.zeros((50, 60), np.uint8)), "all its pixels are 0"),
    "negative.tif": (lambda path: tifffile.imwrite(path, -np.eye(9, dtype=np.int16)), "its pixels run from -1 to 0"),
    "huge.tif": (
        lambda path: tifffile.imwrite(path, np.eye(9, dtype=np.uint32) * 4_000_000_000),
        "its pixels run from 0 to 4000000000",
    ),
    "fraction.tif": (
        lambda path: tifffile.imwrite(path, np.eye(9, dtype=np.float32) / 2),
        "not whole numbers that single precision holds",
    ),
    "nan.tif": (lambda path: tifffile.imwrite(path, np.full((9, 9), np.nan, np.float32)), "not whole numbers"),
    "stack.tif": (
        lambda path: tifffile.imwrite(path, np.ones((5, 9, 9), np.uint8), metadata={"axes": "ZYX"}),
        "its axes are ZYX, of length 5 x 9 x 9",
    ),
    "complex.tif": (lambda path: tifffile.imwrite(path, np.eye(9, dtype=np.complex64)), "its pixels are complex64"),
    "cut.tif": (lambda path: path.write_bytes(b"II*\0" + bytes(40)), "cannot be read"),
    "cut.png": (lambda path: path.write_bytes(imagecodecs.png_encode(photo())[:900]), "cannot be read"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_mask_is_refused(tmp_path, name):
    write, message = PICTURES[name]
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: is .*{message}"):
        read_cells(tmp_path / name, mpp=1.0)


def test_a_mask_cut_anywhere_gives_no_traceback(tmp_path, mask):
    whole = tmp_path / "whole.ome.tif"
    tifffile.imwrite(whole, mask, metadata=OME, compression="zlib", tile=(64, 64))
    content = whole.read_bytes()
    path = tmp_path / "cut.tif"
    for stop in range(4, len(content), 97):
        path.write_bytes(content[:stop])
        try:
            read_cells(path, mpp=0.5)
        except HistomriError as error:
            assert "cut.tif" in str(error)
