"""A limit of size keeps the cell that has just that size: smaller and larger ones are dropped."""

import numpy as np
import pytest

from histomri.cells import read_cells


def test_cells_of_just_the_limit_stay(tmp_path):
    path = tmp_path / "cells.tsv"
    areas = [80.0, 120.0, 200.0]
    rows = "".join(f"a\t{10 * i}\t5\t{area}\n" for i, area in enumerate(areas, start=1))
    path.write_text("Image\tCentroid X µm\tCentroid Y µm\tCell: Area µm^2\n" + rows, encoding="utf-8")
    low, middle, high = np.sqrt(4 * np.array(areas) / np.pi).tolist()
    kept = read_cells(path, min_size_um=low, max_size_um=high)
    assert kept.data["area_um2"].tolist() == areas
    inner = read_cells(path, min_size_um=np.nextafter(low, high), max_size_um=np.nextafter(high, low))
    assert inner.data["diameter_um"].tolist() == pytest.approx([middle])
    assert inner.metadata.n_read == inner.metadata.n_kept + sum(inner.metadata.dropped.values()) == 3
