"""Power by simulation against loops over the tests themselves, with other random numbers."""

import numpy as np
import pytest

from histomri.analysis import cluster_power, correlate, difference_power, first_power, plan_table, williams_test
from histomri.analysis.options import PowerOptions
from histomri.analysis.power_simulated import smallest
from histomri.core.errors import InputError


def test_difference_of_two_models():
    """1500 studies: standard error 1.3 %, of the other side 0.8 %; three of both together are 4.5 %."""
    rng = np.random.default_rng(91)
    matrix = [[1, 0.6, 0.3], [0.6, 1, 0.8], [0.3, 0.8, 1]]
    found = []
    for _ in range(1500):
        y, one, other = rng.multivariate_normal([0, 0, 0], matrix, 25).T
        found.append(williams_test(one, other, y).p < 0.05)
    assert difference_power(0.6, 0.3, 0.8, 25) == pytest.approx(np.mean(found), abs=0.045)
    assert difference_power(0.5, 0.5, 0.8, 25) == pytest.approx(0.05, abs=0.012)  # the level
    with pytest.raises(InputError, match=r"two models with r = 0\.9 and 0\.8 cannot"):
        difference_power(0.9, 0.8, -0.8, 25)


def test_the_best_of_several_models():
    """2000 studies: standard error 1.1 %; three of both sides together are 4 %. All alike, each is first in turn."""
    rng, first = np.random.default_rng(92), 0
    for _ in range(2000):
        scores = np.zeros(4)
        for _ in range(2):
            truth, common = rng.normal(size=(2, 18))
            for model, r in enumerate((0.6, 0.4, 0.4, 0.4)):
                error = np.sqrt(0.7) * common + np.sqrt(0.3) * rng.normal(size=18)
                scores[model] += np.corrcoef(r * truth + np.sqrt(1 - r * r) * error, truth)[0, 1]
        first += scores.argmax() == 0
    assert first_power(0.6, 0.4, 4, 18) == pytest.approx(first / 2000, abs=0.04)
    assert first_power(0.4, 0.4, 5, 18) == pytest.approx(0.2, abs=0.02)


def test_rows_of_patients():
    """300 studies by the program's own interval: standard error 2.9 %, so 9 % are allowed; at r = 0, 3 to 8 %."""
    rng, found = np.random.default_rng(93), 0
    patients = np.repeat(np.arange(10), 3)
    for _ in range(300):
        x, e = (np.sqrt(0.6) * rng.normal(size=10)[patients] + np.sqrt(0.4) * rng.normal(size=30) for _ in "xe")
        low, high = correlate(x, 0.6 * x + 0.8 * e, patients=patients).ci
        found += not low <= 0 <= high
    assert cluster_power(0.6, 10, 3, 0.6) == pytest.approx(found / 300, abs=0.09)
    assert 0.03 <= cluster_power(0.0, 12, 3, 0.5) <= 0.08
    assert cluster_power(0.5, 12, 3, 0.8) < cluster_power(0.5, 12, 3, 0.2)  # rows that repeat each other tell less
    with pytest.raises(InputError, match="5 patients are too few"):
        cluster_power(0.5, 5, 3, 0.5)


def test_the_smallest_number():
    assert smallest(lambda n: n / 100, 0.8, 5) == 80 and smallest(lambda n: 0.9, 0.8, 5) == 5
    assert smallest(lambda n: 0.1, 0.8, 5) is None


def test_plans_of_the_command():
    options = PowerOptions(r=(0.6,), n=(25,), rival=0.3, models=3, rows=2)
    found = plan_table(options)
    table = found.tables["power_simulated.csv"]
    assert table["needed"].sum() == 3 and table["question"].nunique() == 3
    for row in table[table["needed"]].itertuples():
        assert row.power >= 0.8
    assert any("to rank first of 3 models, the others with r = 0.3: needs" in line for line in found.lines)
    assert "power_simulated.csv" not in plan_table(PowerOptions(r=(0.6,))).tables
    with pytest.raises(InputError, match="models needs a rival"):
        PowerOptions.read(r=(0.6,), models=3)
