"""The printed correlations, p-values and numbers of cases of the paper belong together."""

import csv
import re

import pytest

from histomri.analysis.correlation import p_value

N_TUMOURS = 140
# What is printed in one cell for several metrics, and how many cases it is about.
CASES = (("Table 1", 25), ("Fig6", 10), ("Ki67: r ADC", 10), ("TV: r", N_TUMOURS), ("TV CV r", N_TUMOURS))
PAIR = re.compile(r"(-?0\.(\d+)) p=(\d\.(\d+)(?:e(-\d+))?)")


def printed(reference):
    with (reference / "paper_numbers.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            n = next((n for key, n in CASES if key in row["quantity"] or key in row["where"]), None)
            for r, r_digits, p, p_digits, exponent in PAIR.findall(row["printed"]):
                if n is not None:
                    yield row["quantity"], n, float(r), len(r_digits), float(p), len(p_digits) - int(exponent or 0)


def test_p_follows_from_r_and_n(reference):
    """The rounding of r and of p is all the difference there is."""
    checked = 0
    for quantity, n, r, r_digits, p, p_digits in printed(reference):
        half = 0.5 * 10.0**-r_digits
        low, high = p_value(abs(r) + half, n - 2), p_value(max(abs(r) - half, 0.0), n - 2)
        rounding = 0.5 * 10.0**-p_digits
        assert low - rounding <= p <= high + rounding, (quantity, r, p, low, high)
        checked += 1
    assert checked >= 22


def test_significance_begins_where_the_caption_says():
    assert p_value(0.3965, 23) < 0.05 < p_value(0.3955, 23)


@pytest.mark.parametrize(("r_low", "r_high", "tcs"), [(0.19, 0.44, 0.625)])
def test_the_printed_tcs_is_the_sum_of_the_printed_correlations(r_low, r_high, tcs):
    assert abs(r_low + r_high - tcs) <= 0.01 + 1e-12  # both rounded to two digits
