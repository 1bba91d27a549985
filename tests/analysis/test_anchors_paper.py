"""More numbers of the paper that follow from each other (tests/data/reference/paper_numbers.csv)."""

import csv
import re

import pytest

from histomri.analysis import correlation_power, critical_correlation


@pytest.fixture
def printed(reference):
    with (reference / "paper_numbers.csv").open(encoding="utf-8") as file:
        return {row["quantity"]: row["printed"] for row in csv.DictReader(file)}


def test_power_of_25_cases(printed):
    percent = float(re.match(r"~(\d+)%", printed["power N=25 r=0.4"])[1])
    assert 100 * correlation_power(0.4, 25) == pytest.approx(percent, abs=4)  # printed as "about"


def test_critical_correlation(printed):
    assert critical_correlation(25) == pytest.approx(float(printed["critical |r| p<0.05 N=25"]), abs=5e-4)
