"""Regions of interest: holes, several polygons, every GeoJSON form, pixels to µm."""

import json

import numpy as np
import pytest
from shapely.geometry import box

from histomri.cells import read_cells, read_regions
from histomri.core.errors import InputError, UnitError

RING = [[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]]
HOLE = [[40, 40], [60, 40], [60, 60], [40, 60], [40, 40]]
POLYGON = {"type": "Polygon", "coordinates": [RING, HOLE]}
FAR = {"type": "Polygon", "coordinates": [[[200, 0], [300, 0], [300, 100], [200, 100], [200, 0]]]}
BOW_TIE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]}


def feature(geometry, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", **properties}}


def save(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "document",
    [
        POLYGON,
        feature(POLYGON),
        [feature(POLYGON)],
        {
            "type": "FeatureCollection",
            "features": [feature(POLYGON), feature({"type": "Point", "coordinates": [1, 2]})],
        },
        [feature(POLYGON), feature(FAR, objectType="cell"), {"type": "Feature", "geometry": None, "properties": None}],
    ],
)
def test_every_form_gives_the_same_region_in_micrometres(tmp_path, document):
    region = read_regions(save(tmp_path / "roi.geojson", document), (0.5, 0.25))
    assert region.area == pytest.approx((100 * 100 - 20 * 20) * 0.125)
    assert region.bounds == (0, 0, 50, 25)


def test_a_bow_tie_is_mended(tmp_path):
    assert read_regions(save(tmp_path / "roi.geojson", BOW_TIE), (1, 1)).area == pytest.approx(50)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{", "is not valid GeoJSON"),
        ("[]", "holds no region"),
        ('{"type": "Point", "coordinates": [1, 2]}', "holds no region"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "holds a polygon that cannot be read"),
        ('{"type": "Polygon", "coordinates": "x"}', "holds a polygon that cannot be read"),
        ('{"type": "Polygon"}', "holds a polygon that cannot be read|holds no region"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_region_is_refused(tmp_path, content, message):
    path = tmp_path / "roi.geojson"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"roi\.geojson: .*({message})"):
        read_regions(path, (1, 1))


def test_a_region_needs_the_pixel_size(tmp_path):
    with pytest.raises(UnitError, match=r"roi\.geojson: its polygons are in pixels .*pass --mpp"):
        read_regions(save(tmp_path / "roi.geojson", POLYGON), None)


def test_cells_outside_the_region_are_dropped_and_counted(tmp_path, rng):
    x, y = rng.uniform(0, 400, 500), rng.uniform(0, 120, 500)
    table = tmp_path / "cells.tsv"
    rows = "".join(f"{a:.4f}\t{b:.4f}\t50\n" for a, b in zip(x, y))
    table.write_text("Centroid X µm\tCentroid Y µm\tCell: Area\n" + rows, encoding="utf-8")
    roi = save(tmp_path / "roi.geojson", [feature(POLYGON), feature(FAR)])
    cells = read_cells(table, roi=roi, mpp=1.0)
    inside = (y < 100) & ((x < 100) | ((x > 200) & (x < 300)))
    inside &= ~((x > 40) & (x < 60) & (y > 40) & (y < 60))
    np.testing.assert_allclose(cells.data["x_um"], np.round(x[inside], 4))
    assert cells.metadata.dropped == {"outside the region of interest": int((~inside).sum())}
    assert cells.metadata.sources == ("cells.tsv", "roi.geojson")
    assert box(0, 0, 300, 100).area > 0 < len(cells.metadata.roi_wkt)


def test_real_regions(real_data):
    folder = real_data / "qupath"
    for name in (
        "lmd_Liposarcoma_HE_annotations.geojson",
        "wsireg_polygons_LIST.geojson",
        "qupath_core_bare_geometry.geojson",
    ):
        region = read_regions(folder / name, (0.5, 0.5))
        assert region.is_valid
        assert region.area > 1000


@pytest.mark.parametrize(("scale", "told"), [(1.0, False), (0.5, True), (2.0, True)])
def test_a_region_in_another_unit_is_told(tmp_path, rng, scale, told):
    # Two biopsies in pixels of 0.5 µm; their region as it should be, in µm, and multiplied the wrong way.
    at = np.array([[1000, 1000], [3000, 1500]])
    cells = (at[:, None] + rng.uniform(0, 400, (2, 300, 2))).reshape(-1, 2)
    rows = "".join(f"{x}\t{y}\t400\n" for x, y in cells)
    (tmp_path / "a.tsv").write_text("Centroid X px\tCentroid Y px\tCell: Area px^2\n" + rows)
    rings = [np.array(box(x, y, x + 400, y + 400).exterior.coords) * scale for x, y in at]
    # A corner of the slide, so that some cells lie in every one of the regions.
    rings.append(np.array(box(1000, 1000, 1100, 1400).exterior.coords))
    roi = save(tmp_path / "r.geojson", [feature({"type": "Polygon", "coordinates": [ring.tolist()]}) for ring in rings])
    warnings = read_cells(tmp_path / "a.tsv", mpp=0.5, roi=roi).metadata.warnings
    assert any("of 600 cells, and would hold 100%" in text for text in warnings) is told


@pytest.mark.parametrize(("mpp", "told"), [(0.5, False), (500, True), (0.0005, True)])
def test_cells_of_an_impossible_size_are_told(tmp_path, rng, mpp, told):
    rows = "".join(f"{x}\t{y}\t400\n" for x, y in rng.uniform(0, 1000, (60, 2)))
    (tmp_path / "a.tsv").write_text("Centroid X px\tCentroid Y px\tCell: Area px^2\n" + rows)
    warnings = read_cells(tmp_path / "a.tsv", mpp=mpp).metadata.warnings
    words = "where 3-100 is usual: check the unit of the areas (px2, by the name of column"
    assert any(words in text and f"pixel size of {mpp:g} x {mpp:g} µm (--mpp)" in text for text in warnings) is told
