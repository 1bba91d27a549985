"""The bounds that the paper prints (tests/data/reference/paper_numbers.csv) are those of the presets."""

import csv
import re

import pytest

from histomri.fitting import MODELS, PAPER_NAMES


@pytest.fixture
def printed(reference):
    with (reference / "paper_numbers.csv").open(encoding="utf-8") as file:
        return next(row["printed"] for row in csv.DictReader(file) if row["quantity"] == "bounds")


@pytest.mark.parametrize(("preset", "place"), [("mouse-exvivo", 0), ("invivo-3t", 1), ("invivo-1.5t", 1)])
def test_bounds_of_every_model(printed, preset, place):
    number = r"(\d*\.?\d+)"
    fraction = re.search(rf"f_I {number}-{number}", printed).groups()
    size = re.search(rf"vCS {number}-{number}", printed).groups()
    beta = re.search(rf"beta {number}-{number}", printed).groups()
    d0 = re.search(rf"D0I {number}-{number} \(ex vivo\) {number}-{number}", printed).groups()
    low, ex_vivo, in_vivo, fast = re.search(rf"D_E {number}-{number}/{number} or {number}-", printed).groups()
    high = (ex_vivo, in_vivo)[place]
    expected = {"fI": fraction, "D0I": d0[2 * place : 2 * place + 2], "vCS": size, "beta": beta}
    for name in PAPER_NAMES:
        bounds = MODELS[name].bounds(preset)
        known = expected | {"DEinf": (fast if name.endswith("fast") else low, high)}
        assert set(bounds) <= set(known), name
        for parameter, limits in bounds.items():
            assert limits == tuple(float(limit) for limit in known[parameter]), (name, parameter)
