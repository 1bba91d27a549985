"""Standardised regressions against matrix formulas."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.outliers_influence import variance_inflation_factor

from histomri.analysis import regress, variance_inflation
from histomri.core.errors import InputError


def cases(rng, n=25):
    size, fraction = rng.uniform(14, 28, n), rng.uniform(0.4, 0.8, n)
    density = 1e6 * fraction / (np.pi / 4 * size**2) * rng.lognormal(0, 0.05, n)
    return pd.DataFrame(
        {
            "vCS_histo_um": size,
            "F_histo": fraction,
            "CD_histo_mm2": density,
            "vCS_mri_um": size + rng.normal(size=n) * size / 10,
            "F_mri": fraction + 0.1 * rng.normal(size=n),
            "CD_mri_mm3": 1e9 * fraction / size**3 * rng.lognormal(0, 0.2, n),
        }
    )


def by_hand(table, response, terms):
    """Ordinary least squares with classical and HC3 covariance, written out."""
    values = table[[response, *terms]].dropna()
    z = ((values - values.mean()) / values.std(ddof=1)).to_numpy()
    y, x = z[:, 0], np.column_stack([np.ones(len(z)), z[:, 1:]])
    n, p = x.shape
    inverse = np.linalg.inv(x.T @ x)
    beta = inverse @ x.T @ y
    residual = y - x @ beta
    leverage = np.diag(x @ inverse @ x.T)
    plain = np.sqrt(np.diag(inverse) * (residual @ residual) / (n - p))
    meat = x.T @ np.diag((residual / (1 - leverage)) ** 2) @ x
    robust = np.sqrt(np.diag(inverse @ meat @ inverse))
    r2 = 1 - residual @ residual / (y @ y)
    return beta[1:], plain[1:], robust[1:], n - p, r2


def test_the_three_models_of_equation_16(rng):
    table = cases(rng)
    table.loc[4, "F_histo"] = np.nan
    found = regress(table)
    expected = {
        "vCS_mri_um": ["vCS_histo_um", "F_histo"],
        "F_mri": ["F_histo", "vCS_histo_um"],
        "CD_mri_mm3": ["CD_histo_mm2", "F_histo", "vCS_histo_um"],
    }
    assert {name: list(part["term"]) for name, part in found.coefficients.groupby("response")} == expected
    for response, terms in expected.items():
        beta, plain, robust, df, r2 = by_hand(table, response, terms)
        part = found.coefficients[found.coefficients["response"] == response]
        np.testing.assert_allclose(part[["beta", "se", "se_hc3"]], np.stack([beta, plain, robust], axis=1), rtol=1e-10)
        np.testing.assert_allclose(part["p"], 2 * stats.t.sf(np.abs(beta / plain), df), rtol=1e-10)
        np.testing.assert_allclose(part["p_hc3"], 2 * stats.t.sf(np.abs(beta / robust), df), rtol=1e-10)
        reach = stats.t.ppf(0.975, df) * robust
        np.testing.assert_allclose(part["ci_low_hc3"], beta - reach, rtol=1e-10)
        np.testing.assert_allclose(part["ci_high_hc3"], beta + reach, rtol=1e-10)
        design = np.column_stack([np.ones(24), table[terms].dropna().to_numpy()])
        vif = [variance_inflation_factor(design, k + 1) for k in range(len(terms))]
        np.testing.assert_allclose(part["VIF"], vif, rtol=1e-10)
        model = found.models.set_index("response").loc[response]
        assert model["r2"] == pytest.approx(r2, rel=1e-10) and (model["n"], model["n_missing"]) == (24, 1)
        p = len(terms)
        f = (r2 / p) / ((1 - r2) / df)
        correlations = np.corrcoef(table[terms].dropna().to_numpy().T)
        spread = np.linalg.eigvalsh(correlations)
        truth = [f, stats.f.sf(f, p, df), 1 - (1 - r2) * 23 / df, np.sqrt(spread[-1] / spread[0])]
        np.testing.assert_allclose(
            model[["f", "p_f", "r2_adjusted", "condition_number"]].astype(float), truth, rtol=1e-10
        )


def test_collinear_predictors_are_named(rng):
    found = regress(cases(rng))
    assert any("variance inflation above 10 for CD_histo_mm2" in text for text in found.warnings)
    assert any("25 cases for 3 variables" in text for text in found.warnings)


def test_units_do_not_matter(rng):
    table = cases(rng)
    scaled = table.assign(CD_mri_mm3=table["CD_mri_mm3"] * 1e9, vCS_histo_um=table["vCS_histo_um"] * 1e-3 + 4)
    one, other = regress(table).coefficients, regress(scaled).coefficients
    np.testing.assert_allclose(one["beta"], other["beta"], rtol=1e-10)
    np.testing.assert_allclose(one["p_hc3"], other["p_hc3"], rtol=1e-10)


def test_variance_inflation_of_unrelated_and_of_equal_columns(rng):
    q = np.linalg.qr(rng.normal(size=(20, 4)) - 0.0)[0]
    q = np.linalg.qr(np.column_stack([np.ones(20), q]))[0][:, 1:]
    np.testing.assert_allclose(variance_inflation(q), 1, rtol=1e-10)
    x = rng.normal(size=20)
    assert np.isinf(variance_inflation(np.column_stack([x, 2 * x]))).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vCS_histo_um": 20.0}, "'vCS_histo_um' is constant"),
        ({"vCS_mri_um": 40.0}, "'vCS_mri_um' is constant"),
        ({"F_histo": np.nan}, "0 complete cases are too few"),
    ],
)
def test_refused(rng, change, message):
    with pytest.raises(InputError, match=message):
        regress(cases(rng).assign(**change))


def test_refused_models(rng):
    table = cases(rng)
    with pytest.raises(InputError, match="combinations of each other"):
        regress(table.assign(twin=table["F_histo"] * 2), {"F_mri": ["F_histo", "twin"]})
    with pytest.raises(InputError, match="comes twice"):
        regress(table, {"F_mri": ["F_histo", "F_histo"]})
    with pytest.raises(InputError, match="column 'Ki67' is missing"):
        regress(table, {"F_mri": ["Ki67"]})
    with pytest.raises(InputError, match="none of the models"):
        regress(table[["F_mri"]])
    with pytest.raises(InputError, match="4 complete cases"):
        regress(table.head(4))
