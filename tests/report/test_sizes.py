"""The histograms behind a click: counted by hand, and found again at the places they belong to."""

import base64
import zlib

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration import Transform
from histomri.report import pictures
from histomri.report.pictures import BINS, count_sizes, patches_of_section, patches_under

# 7 rows x 9 columns of 100 x 200 µm patches whose first has its middle at x = 1050, y = 2100.
AFFINE = np.array([[0, -0.1, 0, -1.05], [-0.2, 0, 0, -2.1], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.fixture
def section():
    return Image(np.zeros((7, 9)), AFFINE)


@pytest.fixture
def table(rng, tmp_path):
    cells = pd.DataFrame(
        {
            "x_um": rng.uniform(900, 2000, 500),
            "y_um": rng.uniform(1900, 3500, 500),
            "diameter_um": rng.gamma(40, 0.3, 500),
        }
    )
    cells.to_parquet(tmp_path / "cells.parquet")
    return cells, tmp_path / "cells.parquet"


def test_counts_are_those_of_a_loop(section, table):
    cells, path = table
    found = count_sizes(path, section, {"SizeFactor": 1.5})
    expected = np.zeros((63, BINS), int)
    for x, y, size in cells.itertuples(index=False):
        column, row = int((x - 1000) // 100), int((y - 2000) // 200)
        if 0 <= row < 7 and 0 <= column < 9:
            bin_ = min(np.searchsorted(found.edges_um, 1.5 * size, "right") - 1, BINS - 1)
            expected[row * 9 + column, bin_] += 1
    np.testing.assert_array_equal(found.counts, expected)
    assert found.counts.sum() < 500


def unpack(text):
    return zlib.decompress(base64.b64decode(text))


def test_the_page_gets_the_patch_of_each_pixel(section, table):
    found = count_sizes(table[1], section, {})
    found.patches["section"] = patches_of_section(section)[::-1, 2:]
    page = found.embed()
    counts = np.frombuffer(unpack(page["counts"]), "<u2").reshape(-1, BINS)
    place = np.frombuffer(unpack(page["pixels"]["section"]), "<u2").reshape(7, 7)
    for row in range(7):
        for column in range(7):
            patch = (6 - row) * 9 + column + 2
            shown = counts[place[row, column] - 1] if place[row, column] else np.zeros(BINS)
            np.testing.assert_array_equal(shown, found.counts[patch])


def test_the_patch_under_a_voxel_is_where_the_transform_says(section):
    matrix = np.eye(4)
    matrix[:3, 3] = [5.0, -3.0, 1.0]
    like = Image(np.zeros((4, 5)), np.array([[-0.3, 0, 0, 3.46], [0, -0.3, 0, -5.43], [0, 0, 2, 1.0], [0, 0, 0, 1]]))
    under = patches_under(like, section, Transform(matrix))
    for i in range(4):
        for j in range(5):
            x, y = -1000 * (3.46 - 0.3 * i - 5.0), -1000 * (-5.43 - 0.3 * j + 3.0)
            row, column = int((y - 2000) // 200), int((x - 1000) // 100)
            assert under[i, j] == (row * 9 + column if 0 <= row < 7 and 0 <= column < 9 else -1)
    assert (under >= 0).any() and (under < 0).any()


def test_too_many_patches_or_no_table_are_refused(section, table, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such cell table"):
        count_sizes(tmp_path / "none.parquet", section, {})
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is none")
    with pytest.raises(InputError, match="is not a readable cell table"):
        count_sizes(tmp_path / "bad.parquet", section, {})
    monkeypatch.setattr(pictures, "MOST_PATCHES", 62)
    with pytest.raises(InputError, match="too large"):
        count_sizes(table[1], section, {})
