"""Several regions per patient: against regressions with a dummy per patient."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import adjust_p, correlate_repeated
from histomri.core.errors import InputError

SIZES = (2, 3, 5, 1, 7, 4)


def regions(rng):
    """Patients with one to seven regions; what holds within them is the opposite of what holds between them."""
    patient = np.repeat([f"p{k}" for k in range(len(SIZES))], SIZES)
    level = np.repeat(np.arange(len(SIZES)) * 10.0, SIZES)
    x = rng.normal(size=patient.size)
    y = 0.8 * x + 0.5 * rng.normal(size=patient.size)
    return pd.DataFrame({"patient": patient, "x": x + level, "y": y - level, "z": rng.normal(size=patient.size)})


def by_dummies(table):
    """Partial correlation of x and y given the patients, from least squares with a column per patient."""
    dummies = pd.get_dummies(table["patient"]).to_numpy(dtype=float)
    left = [
        table[name] - dummies @ np.linalg.lstsq(dummies, table[name].to_numpy(), rcond=None)[0] for name in ("x", "y")
    ]
    r = np.corrcoef(*left)[0, 1]
    df = len(table) - dummies.shape[1] - 1
    return r, df, 2 * stats.t.sf(abs(r) * np.sqrt(df / (1 - r**2)), df)


def test_within_patients_against_dummy_regression(rng):
    table = regions(rng)
    found = correlate_repeated(table, ["x"], ["y"], by="patient").iloc[0]
    np.testing.assert_allclose(found[["r_within", "df", "p"]].astype(float), by_dummies(table), rtol=1e-10)
    assert (found["n"], found["n_groups"], found["n_missing"], found["n_single"]) == (21, 5, 0, 1)
    means = table.groupby("patient")[["x", "y"]].mean()
    assert found["r_between"] == pytest.approx(np.corrcoef(means.T)[0, 1], rel=1e-10)
    assert found["r_within"] > 0.5 > -0.9 > found["r_between"]
    assert found["slope_within"] > 0 > found["slope_between"]
    each = [part[["x", "y"]].corr().iloc[0, 1] for _, part in table.groupby("patient") if len(part) > 2]
    assert found["r_mean"] == pytest.approx(np.tanh(np.arctanh(each).mean()), rel=1e-10)


def test_missing_values_and_all_pairs(rng):
    table = regions(rng)
    table.loc[[0, 5], "y"] = np.nan
    found = correlate_repeated(table, ["x", "y", "z"], by="patient")
    assert found[["x", "y"]].to_numpy().tolist() == [["x", "y"], ["x", "z"], ["y", "z"]]
    assert found["n_missing"].tolist() == [2, 0, 2]
    truth = by_dummies(table.dropna(subset="y"))
    np.testing.assert_allclose(found.loc[0, ["r_within", "df", "p"]].astype(float), truth, rtol=1e-10)
    np.testing.assert_allclose(found["q"], adjust_p(found["p"]))


def test_nothing_repeated_is_told(rng):
    table = regions(rng).drop_duplicates("patient")
    with pytest.raises(InputError, match="every row has a 'patient' of its own"):
        correlate_repeated(table, ["x"], ["y"], by="patient")
