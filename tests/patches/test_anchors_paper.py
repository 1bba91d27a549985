"""The correction factors that the paper prints (tests/data/reference/paper_numbers.csv)."""

import csv
import re

import numpy as np
import pytest

from histomri.cells import CellMetadata, CellTable
from histomri.patches import PatchGrid, summarise_patches


@pytest.fixture
def printed(reference):
    """Return the factors of the mouse and of the human: linear, squared, of the section, and of both."""
    with (reference / "paper_numbers.csv").open(encoding="utf-8") as file:
        text = next(row["printed"] for row in csv.DictReader(file) if row["quantity"] == "shrink factors")
    numbers = [float(number) for number in re.findall(r"(?<![\d.])\d\.\d+(?!\d|\.|%)", text)]
    mouse, human, section, products = numbers[0:2], numbers[2:4], numbers[4], numbers[5:7]
    return {"mouse-exvivo": (*mouse, section, products[0]), "human-biopsy": (*human, section, products[1])}


@pytest.mark.parametrize("preset", ["mouse-exvivo", "human-biopsy"])
def test_corrected_maps_are_the_uncorrected_ones_times_the_printed_factors(printed, rng, preset):
    linear, squared, section, product = printed[preset]
    x, y = rng.uniform(0, 500, (2, 300))
    cells = CellTable.from_columns(x, y, rng.uniform(80, 300, 300), metadata=CellMetadata(field_um=(500.0, 500.0)))
    found = summarise_patches(cells, PatchGrid((0, 0), (250, 500), (1, 2)), preset=preset)
    for name, factor in (("vCS", product), ("aCS", product), ("sdCS", product), ("CD", 1 / squared), ("F", 1.0)):
        np.testing.assert_allclose(found.maps[name] / found.uncorrected[name], factor, rtol=5e-4)  # as printed
    np.testing.assert_allclose(found.maps["skewCS"], found.uncorrected["skewCS"], rtol=1e-12)
    # Per volume: per area, divided by a size that the section factor and the stretch have made larger.
    ratio = found.maps["CDvol"] / found.uncorrected["CDvol"]
    np.testing.assert_allclose(ratio, 1 / (squared * product), rtol=1e-3)
    assert product == pytest.approx(linear * section, rel=5e-4)
