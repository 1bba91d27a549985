"""Values of any size: correlations and z-scores do not depend on the unit."""

import warnings

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import combat, correlate, regress
from histomri.analysis.correlation import scaled
from histomri.analysis.units import require_magnitude
from histomri.core.errors import InputError

SIZES = (1e-300, 1e-180, 1.0, 1e180, 1e300)


@pytest.fixture(autouse=True)
def numpy_warns_of_nothing():
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        yield


def test_scaling_rounds_nothing(rng):
    values = rng.normal(size=(9, 4)) * [1e-300, 3.0, 0.0, 1e300]
    values[2, 1] = np.nan
    small, exponent = scaled(values)
    assert np.nanmax(np.abs(small), axis=0).tolist() == pytest.approx([0.75, 0.75, 0.0, 0.75], abs=0.25)
    np.testing.assert_array_equal(np.ldexp(small, exponent), values)
    assert scaled(np.full((3, 1), np.nan))[1].tolist() == [0] and scaled(np.array([1.7e308, 1.0]))[0][0] < 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_a_correlation_does_not_depend_on_the_unit(rng, size, kind):
    x, y = rng.normal(size=(2, 25))
    one, other = correlate(x, y, kind=kind), correlate(x * size, y, kind=kind)
    np.testing.assert_allclose([other.r, other.p, *other.ci], [one.r, one.p, *one.ci], rtol=1e-12)


def test_one_value_without_bounds_is_an_outlier_like_any(rng):
    """r tends to the correlation with an indicator of that case."""
    x, y = rng.normal(size=(2, 12))
    x[3] = 1e300
    truth = np.corrcoef(np.arange(12) == 3, y)[0, 1]
    assert correlate(x, y).r == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_standardised_coefficients_do_not_depend_on_the_unit(rng, size):
    table = pd.DataFrame(rng.normal(size=(20, 3)), columns=["a", "b", "c"])
    truth = regress(table, {"a": ["b", "c"]}).coefficients.select_dtypes("number")
    found = regress(table * [size, 1.0, size], {"a": ["b", "c"]}).coefficients.select_dtypes("number")
    slopes = ["slope", "slope_se"]  # in units, so that the first one has that of a
    truth[slopes] = truth[slopes].mul([size, 1.0], axis=0)
    np.testing.assert_allclose(found, truth, rtol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_harmonised_values_keep_their_unit(rng, size):
    table = pd.DataFrame(rng.normal(5.0, 1.0, size=(20, 2)), columns=["a", "b"])
    batch = np.repeat(["x", "y"], 10)
    truth, found = combat(table, batch).values, combat(table * size, batch).values
    np.testing.assert_allclose(found / size, truth, rtol=1e-9)


def test_what_cannot_be_computed_with_is_named():
    with pytest.raises(InputError, match=r"column 'K', line 3: -1e\+60 is too large"):
        require_magnitude(pd.DataFrame({"K": [1.0, -1e60]}))
    with pytest.raises(InputError, match="column 'K' has no value above 1e-60"):
        require_magnitude(pd.DataFrame({"K": [0.0, 1e-60]}))
    require_magnitude(pd.DataFrame({"K": [0.0, np.nan, 1e-60, 5.0], "F": [0.0, 0.0, 0.0, np.nan]}))
