"""Cells carried in wrong coordinates are noticed, and the cause is named."""

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration import Route, Transform, carry_geojson, carry_table
from histomri.registration.on_tissue import tissue_record
from histomri.registration.sides import Side

MPP, PATCH_MM = 0.5, 0.4
MAP = np.diag([-PATCH_MM, -PATCH_MM, 1, 1.0])  # x and y of a slide run against its world


@pytest.fixture
def transform():
    """A section of 16 x 12 mm: tissue with one corner missing, so that no turn or flip looks like another."""
    i, j = np.indices((40, 30))
    tissue = (np.hypot(i - 24, (j - 10) * 1.6) < 14) & ~((i < 18) & (j > 10))
    record = {"Shape": [40, 30], "Affine": MAP.tolist(), "Tissue": tissue_record(Image(tissue.astype(float), MAP))}
    return Transform(np.eye(4), (), {"Moving": record, "Sources": ["F.nii.gz"]}), tissue


def cells(tissue, rng, count=200):
    """Return centres of cells, (N, 2) µm from the upper left corner of the slide, on the tissue."""
    places = np.argwhere(tissue)[rng.integers(0, tissue.sum(), count)] + rng.uniform(-0.5, 0.5, (count, 2))
    return 1000 * PATCH_MM * places


def detections(px):
    corners = 8 * np.array([[-1, -1], [1, -1], [1, 1], [-1, -1]])
    return [{"type": "Polygon", "coordinates": [(centre + corners).tolist()]} for centre in px]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda px: px, None),
        (
            lambda px: px / 4,
            "pixels of a coarser level of the pyramid (4 times as large): give --mpp 2 in place of 0.5",
        ),
        (lambda px: px * MPP, "µm, or pixels of a coarser level of the pyramid (2 times as large): give --mpp 1"),
        (lambda px: px[:, ::-1], "x and y were exchanged"),
        (lambda px: px * (1, -1) + (0, 30 * 1000 * PATCH_MM / MPP), "y ran the other way"),
        (lambda px: px - 60000, "check the pixel size"),
    ],
)
def test_the_cause_of_cells_beside_the_tissue_is_named(transform, rng, change, cause):
    found, tissue = transform
    carried = carry_geojson(Route.of(found, mpp=MPP), detections(change(cells(tissue, rng) / MPP)))
    if cause is None:
        assert not carried.warnings
    else:
        (warning,) = carried.warnings
        assert "of the 200 objects lie on the tissue of F.nii.gz" in warning
        assert cause in warning


def test_a_table_in_pixels_that_says_it_is_in_um(transform, rng):
    found, tissue = transform
    um = cells(tissue, rng)
    for factor, wrong in ((1.0, False), (1 / MPP, True)):
        table = pd.DataFrame(um * factor, columns=["x_um", "y_um"])
        warnings = carry_table(Route.of(found), table)[2]
        assert bool(warnings) is wrong
    assert "pixels and not µm" in warnings[0]


def test_an_outline_around_the_tissue_is_not_doubted(transform):
    corners = [[0, 0], [32000, 0], [32000, 24000], [0, 24000], [0, 0]]
    content = {"type": "Polygon", "coordinates": [corners]}
    assert not carry_geojson(Route.of(transform[0], mpp=MPP), content).warnings


def test_a_mask_in_mm_of_an_image_in_um(tmp_path):
    import nibabel as nib

    data = np.zeros((40, 30), np.float32)
    data[10:30, 8:25] = 1
    paths = [tmp_path / "um.nii", tmp_path / "mm.nii"]
    for path, size in zip(paths, (400.0, 0.4), strict=True):
        image = nib.Nifti1Image(data, np.diag([size, size, 1, 1]))
        nib.save(image, path)
    for image, mask in (paths, paths[::-1]):
        with pytest.raises(GeometryError) as raised:
            Side.of_file(image, mask)
        assert "um.nii is probably in µm and mm.nii in mm" in str(raised.value.hint)
