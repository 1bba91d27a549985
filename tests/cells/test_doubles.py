"""Cells inside other cells are found, explained, and dropped on request; sizes that do not fit the spacing are told."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histomri.cells import read_cells
from histomri.cells.overlaps import find_overlaps, to_drop
from histomri.cells.spacing import check_giants, check_spacing, find_lumps
from histomri.core.errors import InputError


def by_brute_force(x, y, area):
    reach = area / np.pi
    near = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < np.where(reach <= 400 * np.median(reach), reach, 0)[:, None]
    np.fill_diagonal(near, False)
    return np.triu(near | near.T)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(2, 300), side=st.floats(1, 2000), spread=st.floats(0, 1.2), seed=st.integers(0, 1000),
    flat=st.booleans(),
)  # fmt: skip
def test_the_grid_finds_the_pairs_that_all_distances_show(n, side, spread, seed, flat):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, side, n), np.zeros(n) if flat else rng.uniform(0, side, n)
    area = rng.lognormal(4, spread, n)
    found, near = find_overlaps(x, y, area), by_brute_force(x, y, area)
    pairs = np.sort(np.column_stack([found.inner, found.outer]), axis=1)
    assert {tuple(pair) for pair in pairs.tolist()} == set(zip(*(index.tolist() for index in np.nonzero(near))))
    assert len(pairs) == near.sum()
    keep = ~to_drop(found)
    assert not (near & keep[:, None] & keep).any()
    assert keep.any()


def grid(n=20, step=12.0):
    x, y = (axis.ravel() * step for axis in np.meshgrid(np.arange(n), np.arange(n)))
    return x, y, np.full(n * n, 80.0)


def table(path, x, y, area):
    rows = "".join(f"A\t{a}\t{b}\t{c}\n" for a, b, c in zip(x.tolist(), y.tolist(), area.tolist()))
    path.write_text("Image\tCentroid X µm\tCentroid Y µm\tCell: Area µm^2\n" + rows, encoding="utf-8")
    return path


def test_a_second_run_is_reported_and_dropped_on_request(tmp_path):
    x, y, area = grid()
    path = table(tmp_path / "a.tsv", np.r_[x, x + 0.7], np.r_[y, y - 0.4], np.r_[area, area * 1.05])
    kept = read_cells(path)
    assert len(kept) == 800
    (text,) = [text for text in kept.metadata.warnings if "lie inside another cell" in text]
    assert "400 of 800 cells" in text and "a second run of the detection" in text and "--doubles drop" in text
    dropped = read_cells(path, doubles="drop")
    assert dropped.data["area_um2"].tolist() == area.tolist()  # about equal, so the first stays
    assert dropped.metadata.dropped == {"inside another cell": 400}
    assert dropped.metadata.n_read == 800
    with pytest.raises(InputError, match=r"400 of 800 cells lie inside another cell.*pass --doubles drop"):
        read_cells(path, doubles="error")


def test_the_larger_of_two_stays(tmp_path):
    x, y, area = grid()
    path = table(tmp_path / "a.tsv", np.r_[x + 0.2, x], np.r_[y, y], np.r_[area / 3, area])
    dropped = read_cells(path, doubles="drop")
    assert dropped.data["area_um2"].tolist() == area.tolist()
    assert any("smaller outlines within larger ones" in text for text in read_cells(path).metadata.warnings)


def test_overlapping_files_and_seams_are_named(tmp_path):
    x, y, area = grid(30)
    paths = [table(tmp_path / "s.a.tsv", x, y, area)]
    paths.append(table(tmp_path / "s.b.tsv", x + 240.5, y, area))
    assert any("the files overlap" in text for text in read_cells(*paths).metadata.warnings)
    seam = np.abs(x - 12 * 15) < 1
    path = table(tmp_path / "c.tsv", np.r_[x, x[seam] + 1], np.r_[y, y[seam]], np.r_[area, area[seam]])
    (text,) = [text for text in read_cells(path).metadata.warnings if "lie inside" in text]
    assert "30 of 930" in text and "seams of tiles" in text


def test_cells_that_touch_are_no_doubles(tmp_path):
    x, y, area = grid(20, 10.0)
    assert not any("inside" in text for text in read_cells(table(tmp_path / "a.tsv", x, y, area)).metadata.warnings)


def test_positions_and_areas_of_two_calibrations(tmp_path):
    x, y, area = grid(20, 11.0)
    assert check_spacing(pd.DataFrame({"x_um": x, "y_um": y, "area_um2": area, "nucleus_area_um2": np.nan})) is None
    warnings = read_cells(table(tmp_path / "a.tsv", x / 2, y / 2, area)).metadata.warnings
    assert any("times as far from their neighbour" in text for text in warnings)
    warnings = read_cells(table(tmp_path / "b.tsv", x / 20, y / 20, area)).metadata.warnings
    assert any("cannot both be in the unit" in text for text in warnings)
    with pytest.raises(InputError, match="check the unit of positions and areas"):
        read_cells(tmp_path / "b.tsv", doubles="drop")


def test_two_measurements_of_one_area_must_agree(tmp_path):
    head = "Centroid X µm\tCentroid Y µm\tCell: Area\tCell: Area µm^2\n"
    path = tmp_path / "a.tsv"
    path.write_text(head + "".join(f"{20 * i}\t0\t{100 + i}\t{4 * (100 + i)}\n" for i in range(9)), encoding="utf-8")
    assert any("is 4 times 'Cell: Area'" in text for text in read_cells(path).metadata.warnings)
    path.write_text(head + "".join(f"{20 * i}\t0\t{100 + i}\t{101 + i}\n" for i in range(9)), encoding="utf-8")
    assert not any("times 'Cell: Area'" in text for text in read_cells(path).metadata.warnings)


def test_lumps_are_flagged_by_size_and_shape(tmp_path):
    head = "Object type\tCentroid X µm\tCentroid Y µm\tArea µm^2\tSolidity\n"
    rows = [(40, 0.97)] * 20 + [(85, 0.8), (85, 0.96), (30, 0.7)]
    path = tmp_path / "n.tsv"
    text = "".join(f"Detection\t{30 * i}\t0\t{area}\t{solid}\n" for i, (area, solid) in enumerate(rows))
    path.write_text(head + text, encoding="utf-8")
    found = read_cells(path)
    assert found.data["lump"].tolist() == [False] * 20 + [True, False, False]
    assert list(found.data)[-1] == "lump"
    assert any("1 of 23 nuclei are large and dented" in text for text in found.metadata.warnings)
    assert find_lumps(found.data.drop(columns="solidity")) is None


def test_objects_far_larger_than_cells_are_told():
    assert "2 objects have more than 100 times" in (check_giants(np.r_[np.full(50, 60.0), 9e3, 9e4]) or "")
    assert check_giants(np.full(50, 60.0)) is None
