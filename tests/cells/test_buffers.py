"""Columns that grow while a file is streamed hold what was put in, wherever the borders of their memory are."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells.geojson import ColumnBuffer, TextsBuffer, WordsBuffer
from histomri.cells.outlines import flattened, measure_rings


def test_a_column_holds_all_numbers_in_order(rng):
    parts = [rng.random(size) for size in (0, 1, 8000, 300, 70_000, 5)]
    column = ColumnBuffer()
    for part in parts:
        column.append(part)
    np.testing.assert_array_equal(column.finished(), np.concatenate(parts))
    column.finished()[0] = 7  # sizes are converted in place
    assert column.finished()[0] == 7


def test_rows_that_were_never_put_are_nan():
    column = ColumnBuffer(np.float32)
    column.put(np.array([2, 1]), np.array([5.0, 1e300]))
    column.put(np.array([40_000]), np.array([7.0]))
    column.pad(40_003)
    values = column.finished()
    assert values.shape == (40_003,)
    assert (values[2], values[1], values[40_000]) == (5, np.inf, 7)
    assert np.isnan(values).sum() == 40_000


def test_texts_and_words_come_back():
    texts = [f"id-{i}µ" for i in range(40_000)] + ["", "half \ud800 a pair"]
    identifiers, classes = TextsBuffer(), WordsBuffer()
    for start in range(0, len(texts), 999):
        identifiers.extend(texts[start : start + 999])
    assert identifiers.finished().to_pylist() == [*texts[:-1], "half ? a pair"]
    # Two halves of pairs become the same text, and then they are one class.
    classes.extend(["Tumor", "a\ud800", "Tumor", "a\udfff"])
    column = classes.finished()
    assert column.to_pylist() == ["Tumor", "a?", "Tumor", "a?"]
    assert len(column.chunk(0).dictionary) == 2


def star(data, corners):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    far = np.array(data.draw(st.lists(st.floats(0.2, 5), min_size=corners, max_size=corners)))
    sense = data.draw(st.sampled_from([1, -1]))
    shift = data.draw(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)))
    return np.stack([far * np.cos(sense * angle), far * np.sin(sense * angle)], axis=1) + shift


@settings(deadline=None, max_examples=60)
@given(data=st.data(), counts=st.lists(st.integers(3, 9), min_size=1, max_size=4), closed=st.booleans())
def test_rings_are_measured_as_shapely_measures_them(data, counts, closed):
    rings = [star(data, corners) for corners in counts]
    listed = [[*ring.tolist(), ring[0].tolist()] if closed else ring.tolist() for ring in rings]
    measures, simple = measure_rings(*flattened(listed))
    for ring, (x, y, area), plain in zip(rings, measures, simple):
        polygon = shapely.Polygon(ring)
        # Coordinates of 1e4 with areas near 1 leave some ten digits.
        assert area == pytest.approx(polygon.area, rel=1e-6)
        assert (x, y) == pytest.approx((polygon.centroid.x, polygon.centroid.y), rel=1e-6, abs=1e-4)
        assert polygon.is_valid or not plain


@pytest.mark.parametrize(
    ("ring", "plain"),
    [
        ([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], True),
        ([[0, 0], [0, 4], [4, 4], [4, 0]], True),
        ([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]], False),  # a bow tie
        ([[0, 0], [4, 0], [4, 4], [0, 4]] * 2, False),  # twice around
        ([[0, 0], [1, 1], [2, 2], [0, 0]], False),  # flat
        ([[0, 0], [4, 0], [4, 4]], False),  # three points, which GeoJSON does not call a ring
    ],
)
def test_what_may_cross_itself_is_told(ring, plain):
    assert measure_rings(*flattened([ring]))[1].tolist() == [plain]


@pytest.mark.parametrize(
    "rings",
    [[], [[]], [[[1, 2, 3]] * 4], [[[1], [2, 3]]], [["ab", "cd"]], [[[1, None]]], [[[1, float("nan")]]], [[1, 2]]],
)
def test_anything_but_pairs_of_numbers_is_left_to_others(rings):
    assert flattened(rings) is None
