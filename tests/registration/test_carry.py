"""Points, annotations and pictures carried in memory, as in a notebook."""

import copy
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import tifffile

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Canvas, Route, Transform, carry_geojson, carry_slide, carry_table

# A quarter turn counter-clockwise, then a shift: (x, y, z) -> (1 - y, 2 + x, 3 + z).
QUARTER = Transform([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])


def test_a_frame_there_and_back():
    table = pd.DataFrame({"name": ["a", "b"], "x_mm": [1.0, -3.0], "y_mm": [2.0, 0.5]})
    there, columns, _ = carry_table(Route.of(QUARTER), table)
    assert columns == ["x_mm", "y_mm", "z_mm"]
    np.testing.assert_allclose(there[columns], [[-1, 3, 3], [0.5, -1, 3]])
    back, _, _ = carry_table(Route.of(QUARTER, inverse=True), there)
    np.testing.assert_allclose(back[["x_mm", "y_mm"]], table[["x_mm", "y_mm"]])
    with pytest.raises(InputError, match="line 3 holds no finite number"):
        carry_table(Route.of(QUARTER), table.assign(y_mm=[1.0, np.nan]))


def test_annotations_stay_as_they_are_unless_in_place():
    content = {"type": "Polygon", "coordinates": [[[0, 0], [2000, 0], [0, 1000]]]}
    before = copy.deepcopy(content)
    carried = carry_geojson(Route.of(QUARTER, mpp=(0.5, 0.25)), content)
    assert content == before
    np.testing.assert_allclose(carried.content["coordinates"][0], [[1, 2, 3], [1, 1, 3], [1.25, 2, 3]])
    assert (carried.n_geometries, carried.n_points, carried.units["Units"]) == (1, 3, "mm")
    assert carry_geojson(Route.of(QUARTER, mpp=1), content, in_place=True).content is content
    with pytest.raises(InputError, match="pass --mpp"):
        carry_geojson(Route.of(QUARTER), before)


@dataclass
class Picture:
    rgb: np.ndarray
    um_per_px: tuple[float, float] = (100.0, 100.0)

    @property
    def size_px(self):
        return self.rgb.shape[1], self.rgb.shape[0]

    def read(self, x, y, width, height):
        return self.rgb[y : y + height, x : x + width]


def test_a_picture_on_a_canvas(tmp_path, rng):
    rgb = rng.integers(0, 200, (12, 17, 3), np.uint8)
    picture = Picture(rgb)
    canvas = Canvas.over_slide((1700.0, 1200.0), 100.0)
    assert canvas.shape == (12, 17)
    assert carry_slide(Transform.identity(), picture, canvas, tmp_path / "x.ome.tif", order=0) == 1.0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "x.ome.tif"), rgb)
    volume = Image(np.zeros((5, 6, 3)), np.diag([-0.2, 0.2, 1, 1]))
    over = Canvas.over_slice(volume, 100.0, Transform.identity(), 1)
    assert over.shape == (12, 10)
    assert over.affine[2, 3] == 1.0
    with pytest.raises(InputError, match="pass --slice"):
        Canvas.over_slice(volume, 100.0, Transform.identity())
