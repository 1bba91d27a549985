"""Masks: numbers in several places, maps of classes, two masks, pixel sizes, classes of numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from histomri.cells import read_cells
from histomri.core.errors import InputError, UnitError

DATA = Path(__file__).parents[1] / "data" / "histology"


def masks(radius=9, inner=5, n=6, step=30):
    """Return masks of nuclei and of cells, with other numbers for the nuclei."""
    cells, nuclei = (np.zeros((n * step, (n + 1) * step), np.uint16) for _ in range(2))
    for number in range(n * (n + 1)):
        centre = (number // (n + 1) * step + 15, number % (n + 1) * step + 15)
        cells[disk(centre, radius, shape=cells.shape)] = number + 1
        nuclei[disk(centre, inner, shape=cells.shape)] = n * (n + 1) - number
    return nuclei, cells


def test_the_case_files():
    with pytest.raises(InputError, match=r"300 of its 300 numbers are in several places .* 600 parts .*--split-labels"):
        read_cells(DATA / "mask_reused_labels.tif", mpp=0.5)
    table = read_cells(DATA / "mask_reused_labels.tif", mpp=0.5, split_labels=True)
    assert len(table) == 600
    assert np.median(table.data["diameter_um"]) == pytest.approx(6, abs=0.1)
    assert table.data["object_id"].is_unique
    with pytest.raises(InputError, match=r"its 3 numbers fill 100% of it: a map of classes"):
        read_cells(DATA / "class_map.png", mpp=0.5)
    assert len(read_cells(DATA / "mask_palette.png", mpp=0.5)) == 199


def test_numbers_cut_to_eight_bits(tmp_path):
    _, cells = masks(6, 3, 20, 15)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, cells.astype(np.uint8))
    with pytest.raises(InputError, match="numbers above 255 were cut to 8 bits"):
        read_cells(path, mpp=0.5)
    table = read_cells(path, mpp=0.5, split_labels=True)
    assert len(table) == 420 - 1  # number 256 became the background


def test_specks_are_no_second_place(tmp_path):
    _, cells = masks()
    cells[0, -1] = 3
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, cells)
    assert len(read_cells(path, mpp=0.5)) == 42
    table = read_cells(path, mpp=0.5, split_labels=True)
    assert len(table) == 42
    assert any("1 specks" in text for text in table.metadata.warnings)


def test_how_far_nuclei_lie_off_the_middle_of_their_cell_is_measured(tmp_path):
    nuclei, cells = masks()
    nuclei = np.roll(nuclei, (3, 4), axis=(0, 1))
    nuclei[36:38, 36:38] = 99  # a smaller one in the same cell as another does not count
    np.save(tmp_path / "both.npy", np.stack([nuclei, cells]))
    offset = read_cells(tmp_path / "both.npy", mpp=0.5).data["nucleus_offset_um"]
    assert len(offset) == 42 and np.median(offset) == pytest.approx(2.5, abs=1e-6)
    assert offset.between(2.4, 2.6).all()


@pytest.mark.parametrize("form", ["files", "planes", "samples", "npy", "tiles", "swapped"])
def test_nuclei_are_paired_with_their_cells(tmp_path, form):
    nuclei, cells = masks()
    nuclei[:30, :30] = 0  # the first cell holds no nucleus
    cells[cells == 42] = 0  # and the last nucleus has no cell
    path, options = tmp_path / "both.tif", {}
    if form == "files":
        tifffile.imwrite(path, cells)
        tifffile.imwrite(tmp_path / "n.tif", nuclei, tile=(32, 32))
        options = {"nuclei_mask": tmp_path / "n.tif"}
    elif form == "npy":
        path = tmp_path / "both.npy"
        np.save(path, np.stack([nuclei, cells]))
    elif form == "samples":
        tifffile.imwrite(path, np.stack([nuclei, cells], axis=-1), planarconfig="contig", photometric="minisblack")
    else:
        planes = [cells, nuclei] if form == "swapped" else [nuclei, cells]
        tile = {"tile": (32, 48), "compression": "zlib"} if form == "tiles" else {}
        tifffile.imwrite(path, np.stack(planes), photometric="minisblack", **tile)
    table = read_cells(path, mpp=0.5, **options)
    assert table.metadata.compartment == "cell"
    ratio = table.data["nucleus_area_um2"] / table.data["area_um2"]
    np.testing.assert_allclose(ratio[1:], np.sum(nuclei == 20) / np.sum(cells == 20), rtol=0.02)
    assert np.isnan(ratio[0])
    assert table.metadata.dropped == {"a detection without a cell outline, beside cells": 1}
    assert any("1 cells hold no nucleus" in text for text in table.metadata.warnings)
    assert table.data["object_id"].tolist() == [str(number) for number in range(1, 42)]


def test_masks_that_do_not_fit_are_refused(tmp_path):
    nuclei, cells = masks()
    tifffile.imwrite(tmp_path / "c.tif", cells)
    tifffile.imwrite(tmp_path / "n.tif", nuclei[:-2])
    with pytest.raises(InputError, match=r"n\.tif: is 210 x 178 pixels in 1 planes, and the mask of cells 210 x 180"):
        read_cells(tmp_path / "c.tif", mpp=0.5, nuclei_mask=tmp_path / "n.tif")
    tifffile.imwrite(tmp_path / "n.tif", np.pad(nuclei, ((0, 0), (15, 0)))[:, :-15])
    with pytest.raises(InputError, match="nuclei lie in a cell, so the two masks do not fit"):
        read_cells(tmp_path / "c.tif", mpp=0.5, nuclei_mask=tmp_path / "n.tif")
    tifffile.imwrite(tmp_path / "n.tif", nuclei)
    with pytest.raises(InputError, match="has larger outlines than the mask of cells"):
        read_cells(tmp_path / "n.tif", mpp=0.5, nuclei_mask=tmp_path / "c.tif")
    with pytest.raises(InputError, match="no such mask of nuclei"):
        read_cells(tmp_path / "c.tif", mpp=0.5, nuclei_mask=tmp_path / "gone.tif")
    (tmp_path / "t.tsv").write_text("Centroid X µm\tCentroid Y µm\tCell: Area\n1\t2\t40\n", encoding="utf-8")
    with pytest.raises(InputError, match="is no mask, so --nuclei-mask does not apply"):
        read_cells(tmp_path / "t.tsv", nuclei_mask=tmp_path / "n.tif")


@pytest.mark.parametrize(
    ("about", "size"),
    [
        ({"imagej": True, "resolution": (2.0, 4.0), "metadata": {"unit": "um"}}, (0.5, 0.25)),
        ({"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "micron"}}, (0.5, 0.5)),
        ({"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}, (0.5, 0.5)),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "NONE"}, None),
        ({"imagej": True, "resolution": (1.0, 1.0), "metadata": {"unit": "pixel"}}, None),
    ],
)
def test_the_pixel_size_of_a_tiff(tmp_path, about, size):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, masks()[1], **about)
    if size is None:
        with pytest.raises(UnitError, match="pass --mpp with the pixel size of the mask") as caught:
            read_cells(path)
        assert "pixel size of the slide in" not in str(caught.value)
    else:
        assert read_cells(path).metadata.pixel_size_um == pytest.approx(size)


def test_the_mask_and_the_slide_have_pixels_of_their_own(tmp_path):
    path, project = tmp_path / "S.tif", tmp_path / "project.qpproj"
    tifffile.imwrite(path, masks()[1])  # 210 x 180 pixels
    sides = {name: {"value": 0.2271, "unit": "µm"} for name in ("pixelWidth", "pixelHeight")}
    builder = {"builderType": "uri", "metadata": {"width": 462, "height": 396, "pixelCalibration": sides}}
    project.write_text(json.dumps({"images": [{"imageName": "S.tif", "entryID": 1, "serverBuilder": builder}]}))
    table = read_cells(path, mpp=0.5, project=project)
    assert (table.metadata.pixel_size_um, table.metadata.grid) == ((0.5, 0.5), "mask")
    with pytest.raises(
        InputError, match=r"has a field of 52 x 45 µm, and the slide one of 105 x 90 µm; pass --mpp 0\.49"
    ):
        read_cells(path, mpp=0.25, project=project)


def test_classes_of_numbers_from_a_table(tmp_path):
    path, classes = tmp_path / "m.tif", tmp_path / "classes.csv"
    tifffile.imwrite(path, masks()[1])
    classes.write_text("label,class\n" + "".join(f"{n},{'Tumor' if n % 2 else 'Stroma'}\n" for n in range(1, 41)))
    table = read_cells(path, mpp=0.5, label_classes=classes)
    assert table.data["classification"].value_counts().to_dict() == {"Tumor": 20, "Stroma": 20, "": 2}
    assert any("2 numbers of the mask have no class" in text for text in table.metadata.warnings)
    assert len(read_cells(path, mpp=0.5, label_classes=classes, classes=["Tumor"])) == 20
    for text, message in (
        ("a,b\n1,2\n", "has no columns label and class"),
        ("label,class\n1,A\n1,B\n", "has two classes for label 1"),
        ("label,class\nx,A\n", "holds the label 'x', which is no whole number"),
        ("label,class\n900,A\n", "are not among them"),
    ):
        classes.write_text(text)
        with pytest.raises(InputError, match=message):
            read_cells(path, mpp=0.5, label_classes=classes)


def test_numpy_files(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, masks()[1])
    assert len(read_cells(path, mpp=0.5)) == 42
    np.save(path, {"masks": masks()[1]}, allow_pickle=True)
    with pytest.raises(InputError, match=r"holds Python objects, as the _seg\.npy of Cellpose"):
        read_cells(path, mpp=0.5)
    np.save(path, np.zeros((4, 5, 6)))
    with pytest.raises(InputError, match="its shape is 4 x 5 x 6"):
        read_cells(path, mpp=0.5)


def test_regions_are_no_cells(tmp_path):
    regions = np.zeros((400, 400), np.uint8)
    for number, corner in enumerate(((0, 0), (0, 200), (200, 0), (200, 200)), 1):
        regions[corner[0] : corner[0] + 120, corner[1] : corner[1] + 120] = number
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, regions)
    with pytest.raises(InputError, match="a map of classes or regions"):
        read_cells(path, mpp=1.0)
