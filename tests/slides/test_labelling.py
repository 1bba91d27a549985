"""Labelling index: QuPath's classes, Wilson's interval, the hot spot by brute force."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from histomri.core.errors import InputError
from histomri.slides import hot_spot, is_positive, labelling_index, wilson_interval


@pytest.mark.parametrize("n", [1, 7, 500, 123_456])
@pytest.mark.parametrize("share", [0, 0.03, 0.5, 1])
def test_wilsons_interval_is_that_of_statsmodels(n, share):
    hits = round(share * n)
    np.testing.assert_allclose(
        wilson_interval(hits, n), proportion_confint(hits, n, method="wilson"), rtol=1e-9, atol=1e-12
    )


def test_no_cells_have_no_index():
    none = labelling_index(np.zeros(3, bool), np.zeros(3, bool))
    assert np.isnan(none.value) and np.isnan(none.ci95).all() and none.n_counted == 0


@pytest.mark.parametrize("make", [list, pd.Series, pd.Categorical, lambda names: pd.Series(pd.Categorical(names))])
def test_classes_count_as_in_qupath(make):
    names = ["Positive", "Negative", "Tumor: Positive", "Tumor:Negative", "1+", "Tumor: 2+", "3+", "Tumor", "", "None"]
    names += ["Ignore*", "Positive: Tumor", "Immune cells: Negative", "Positive*"]
    positive, negative, counts = is_positive(make(names))
    assert [name for name, is_it in zip(names, positive) if is_it] == [
        "Positive",
        "Tumor: Positive",
        "1+",
        "Tumor: 2+",
        "3+",
    ]
    assert [name for name, is_it in zip(names, negative) if is_it] == [
        "Negative",
        "Tumor:Negative",
        "Immune cells: Negative",
    ]
    assert counts["Unclassified"] == 2 and sum(counts.values()) == len(names)
    index = labelling_index(positive, negative)
    assert (index.n_positive, index.n_counted, index.value) == (5, 8, 5 / 8)


def brute_force(x, y, positive, negative, window, min_cells):
    """Every place of the window on a raster of a tenth of its edge, one by one."""
    step, best = window / 10, None
    for row in range(int(y.min() // step) - 10, int(y.max() // step) + 1):
        for column in range(int(x.min() // step) - 10, int(x.max() // step) + 1):
            left, top = column * step, row * step
            inside = (x >= left) & (x < left + window) & (y >= top) & (y < top + window)
            hits, total = (positive & inside).sum(), ((positive | negative) & inside).sum()
            if total >= min_cells:
                key = (hits / total, total, -row, -column)
                best = max(best, key) if best else key
    return best


@pytest.mark.parametrize("seed", range(4))
def test_the_hot_spot_is_that_of_brute_force(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(130, 1100, 900), rng.uniform(-40, 620, 900)
    hot = np.hypot(x - 700, y - 200) < 150
    positive = rng.random(900) < np.where(hot, 0.6, 0.15)
    negative = ~positive & (rng.random(900) < 0.9)
    spot = hot_spot(x, y, positive, negative, window_um=200.0, min_cells=30)
    share, total, row, column = brute_force(x, y, positive, negative, 200.0, 30)
    assert spot.index.value == pytest.approx(share) and spot.index.n_counted == total
    np.testing.assert_allclose(spot.corner_um, (-column * 20.0, -row * 20.0))
    # It lies on the patch that was made hot.
    assert np.hypot(spot.corner_um[0] + 100 - 700, spot.corner_um[1] + 100 - 200) < 150


def test_the_window_fits_the_density():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 3000, (2, 27_000))  # 3000 per mm²: twice 500 cells need 0.33 mm²
    positive = rng.random(27_000) < 0.2
    spot = hot_spot(x, y, positive, ~positive)
    assert spot.window_um == 600 and spot.index.n_counted >= 500
    assert spot.index.value > 0.2


def test_too_few_cells_have_no_hot_spot():
    x = np.linspace(0, 5000, 600)
    positive = np.arange(600) % 2 == 0
    assert hot_spot(x, x, positive, ~positive, window_um=100.0) is None
    assert hot_spot(x[:499], x[:499], positive[:499], ~positive[:499]) is None
    with pytest.raises(InputError, match="which are too many"):
        hot_spot(x, x, positive, ~positive, window_um=0.01)
    with pytest.raises(InputError, match="a window of nan"):
        hot_spot(x, x, positive, ~positive, window_um=float("nan"))
