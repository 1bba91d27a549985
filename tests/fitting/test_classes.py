"""Quantiles from counts, against those of the values themselves."""

import numpy as np
import pandas as pd
import pytest

from histomri.fitting.misfit import class_of, quantiles_of_counts

QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


def counted(values, group=0):
    found = pd.DataFrame({"group": group, "class": class_of(np.asarray(values, dtype=float))})
    return found.value_counts().rename("n").reset_index()


@pytest.mark.parametrize("scale", [1e-7, 0.02, 3.0, 1e6])
@pytest.mark.parametrize("n", [1, 2, 5, 4000])
def test_quantiles_are_within_a_class_of_those_of_the_values(rng, scale, n):
    """Every order statistic is known to its class, 1 % wide; a quantile lies between two of them."""
    values = scale * rng.normal(0.3, 1.0, n)
    found = quantiles_of_counts(counted(values), QUARTILES)
    truth = np.quantile(values, QUARTILES)
    near = np.abs(np.quantile(values, QUARTILES, method="lower")) + np.abs(
        np.quantile(values, QUARTILES, method="higher")
    )
    assert (np.abs(found.loc[0] - truth) <= 0.01 * near).all()


def test_counts_of_parts_can_be_added_and_groups_stay_apart(rng):
    parts = [rng.normal(size=n) for n in (30, 7, 400)]
    other = rng.normal(5.0, size=50)
    together = pd.concat([*[counted(part, 3) for part in parts], counted(other, 8)])
    found = quantiles_of_counts(together, QUARTILES)
    np.testing.assert_allclose(found.loc[3], quantiles_of_counts(counted(np.concatenate(parts), 3), QUARTILES).loc[3])
    np.testing.assert_allclose(found.loc[8], np.quantile(other, QUARTILES), rtol=0.01)


def test_zero_and_signs():
    assert class_of(np.array([0.0, 1e-12, -1e-12])).tolist() == [0, 0, 0]
    assert class_of(np.array([-0.2]))[0] == -class_of(np.array([0.2]))[0] < 0
    assert quantiles_of_counts(counted([0.0, 0.0, 0.0]), (0.5,)).loc[0].tolist() == [0.0]
