"""ComBat against a plain implementation of the published steps, and against known effects."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq

from histomri.analysis import combat, confounding, cramers_v
from histomri.core.errors import InputError

METRICS = ["vCS", "F", "CD", "D0I", "ADC", "K"]


def scanners(rng, n=30, effect=0.0):
    """Metrics of two or three scanners with known shifts and scales, a group and an age."""
    batch = np.repeat(["1.5T", "3T", "7T"], [n, n + 4, n - 6])
    group = np.where(rng.uniform(size=batch.size) < 0.4, "a", "b")
    age = rng.normal(60, 10, batch.size)
    shift = pd.DataFrame(rng.normal(0.5, 1.0, (3, 6)), ["1.5T", "3T", "7T"], METRICS)
    scale = pd.DataFrame(rng.uniform(0.6, 1.6, (3, 6)), ["1.5T", "3T", "7T"], METRICS)
    unit = np.array([3, 0.1, 1e4, 0.3, 0.2, 0.1])
    noise = rng.normal(size=(batch.size, 6)) * scale.loc[batch].to_numpy()
    difference = effect * (group == "a")[:, None]
    seen = np.array([20, 0.5, 5e4, 1.8, 1.1, 0.6]) + unit * (noise + difference + shift.loc[batch].to_numpy())
    covariates = pd.DataFrame({"group": group, "age": age})
    return pd.DataFrame(seen, columns=METRICS), batch, covariates


def posterior_mean(scale, n, estimate, prior):
    centre, width, _, _ = prior
    return (n * width * estimate + scale * centre) / (n * width + scale)


def gap(scale, values, estimate, prior):
    """The posterior scale that follows from a scale, less that scale."""
    _, _, a, b = prior
    squares = ((values - posterior_mean(scale, len(values), estimate, prior)) ** 2).sum()
    return (0.5 * squares + b) / (len(values) / 2 + a - 1) - scale


def plain_combat(values, batch, covariates, reference):
    """The steps of Johnson et al. 2007 and Fortin et al. 2017, metric by metric, batch by batch.

    With a reference, its indicator is replaced by the constant, as the public implementations do. The posterior of each
    metric is solved as one equation in its scale, instead of by iteration.
    """
    data = values.to_numpy(dtype=float)
    names = sorted(set(batch))
    design = [(batch == name).astype(float) for name in names]
    if reference is not None:
        design[names.index(reference)] = np.ones(len(batch))
    for name in covariates:
        column = covariates[name]
        if column.dtype.kind in "fi":
            design.append(column.to_numpy(dtype=float))
        else:
            design += [(column == level).to_numpy(dtype=float) for level in sorted(set(column))[1:]]
    design = np.stack(design, axis=1)
    beta = np.linalg.solve(design.T @ design, design.T @ data)
    k = len(names)
    if reference is not None:
        at = names.index(reference)
        mean = beta[at] + design[:, k:] @ beta[k:]
        mine = batch == reference
        variance = ((data[mine] - design[mine] @ beta) ** 2).mean(axis=0)
    else:
        shares = np.array([(batch == name).mean() for name in names])
        mean = shares @ beta[:k] + design[:, k:] @ beta[k:]
        variance = ((data - design @ beta) ** 2).mean(axis=0)
    z = (data - mean) / np.sqrt(variance)
    result = data.copy()
    for name in names:
        if name == reference:
            continue
        mine = z[batch == name]
        n = len(mine)
        g_hat, d_hat = mine.mean(axis=0), mine.var(axis=0, ddof=1)
        g_bar, t2 = g_hat.mean(), g_hat.var(ddof=1)
        m, s2 = d_hat.mean(), d_hat.var(ddof=1)
        a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for f in range(data.shape[1]):
            prior = (g_bar, t2, a, b)
            d_star = brentq(gap, 1e-6, 1e3, args=(mine[:, f], g_hat[f], prior), xtol=1e-14, rtol=1e-15)
            adjusted = (mine[:, f] - posterior_mean(d_star, n, g_hat[f], prior)) / np.sqrt(d_star)
            result[batch == name, f] = adjusted * np.sqrt(variance[f]) + mean[batch == name, f]
    return result


@pytest.mark.parametrize("reference", ["3T", None])
@pytest.mark.parametrize("kept", [[], ["group", "age"]])
def test_against_a_plain_implementation(rng, reference, kept):
    values, batch, covariates = scanners(rng, effect=1.0)
    covariates = covariates[kept]
    found = combat(values, batch, covariates=covariates, reference=reference)
    np.testing.assert_allclose(found.values, plain_combat(values, batch, covariates, reference), rtol=1e-10)


def test_reference_batch_stays_as_it_is(rng):
    values, batch, covariates = scanners(rng)
    found = combat(values, batch, covariates=covariates, reference="3T")
    assert found.values[batch == "3T"].equals(values[batch == "3T"])
    star = found.effects.set_index("batch").loc["3T"]
    assert (star["gamma_star"] == 0).all() and (star["delta_star"] == 1).all()
    assert list(found.effects["metric"][:6]) == METRICS


def test_scanner_effects_disappear_and_the_group_stays(rng):
    values, batch, covariates = scanners(rng, n=300, effect=1.0)
    found = combat(values, batch, covariates=covariates, reference="3T").values
    unit = values[batch == "3T"].std()
    for other in ("1.5T", "7T"):
        for group in "ab":
            mine, theirs = (
                found[(batch == name) & (covariates["group"] == group).to_numpy()] for name in (other, "3T")
            )
            # 300 cases: the standard error of the difference of two group means is about 0.12 units
            assert ((mine.mean() - theirs.mean()).abs() / unit < 0.45).all()
        ratio = found[batch == other].std() / found[batch == "3T"].std()
        assert ratio.between(0.85, 1.18).all()


def test_without_empirical_bayes_moments_match_exactly(rng):
    values, batch, _ = scanners(rng)
    found = combat(values, batch, reference="7T", empirical_bayes=False).values
    for name in ("1.5T", "3T"):
        np.testing.assert_allclose(found[batch == name].mean(), values[batch == "7T"].mean(), rtol=1e-10)
    one = combat(values[["F"]], batch, empirical_bayes=False).values
    # residual variance over N against a batch variance over n - 1: equal up to that
    spread = [one["F"][batch == name].std() for name in ("1.5T", "3T", "7T")]
    np.testing.assert_allclose(spread, spread[0], rtol=1e-10)


def test_mean_only_keeps_the_spread(rng):
    values, batch, _ = scanners(rng)
    found = combat(values, batch, reference="3T", mean_only=True).values
    for name in ("1.5T", "7T"):
        np.testing.assert_allclose(found[batch == name].std(), values[batch == name].std(), rtol=1e-10)
    assert not np.allclose(found[batch == "7T"].mean(), values[batch == "7T"].mean())


def test_missing_values_stay_missing_and_do_not_disturb_the_rest(rng):
    values, batch, covariates = scanners(rng)
    whole = combat(values, batch, covariates=covariates, empirical_bayes=False).values
    holed = values.copy()
    holed.loc[[4, 50], "K"] = np.nan
    found = combat(holed, batch, covariates=covariates, empirical_bayes=False).values
    assert found["K"].isna().sum() == 2
    np.testing.assert_allclose(found.drop(columns="K"), whole.drop(columns="K"), rtol=1e-10)
    kept = holed["K"].notna().to_numpy()
    alone = combat(holed.loc[kept, ["K"]], batch[kept], covariates=covariates[kept], empirical_bayes=False).values
    np.testing.assert_allclose(found.loc[kept, "K"], alone["K"], rtol=1e-10)


def test_confounding_is_said(rng):
    values, batch, covariates = scanners(rng)
    nearly = np.where(batch == "1.5T", "a", "b")
    nearly[:3] = "b"
    found = combat(values, batch, covariates=pd.DataFrame({"group": nearly}))
    assert any("batch and covariate 'group' are confounded" in text for text in found.warnings)
    dated = pd.DataFrame({"age": np.where(batch == "7T", 30.0, 70.0) + rng.normal(size=batch.size)})
    assert any(
        "of the variance of covariate 'age'" in text for text in combat(values, batch, covariates=dated).warnings
    )
    assert combat(values, batch, covariates=covariates).warnings == ()
    assert "occurs in one batch only" in confounding(["x"] * 30 + ["y"] * 30, ["g"] * 28 + ["h", "h"] + ["g"] * 30)
    assert confounding(["x", "y"] * 20, ["g", "g", "h", "h"] * 10) is None


def test_cramers_v_against_scipy(rng):
    from scipy.stats.contingency import association

    one, other = rng.integers(0, 3, 60), rng.integers(0, 4, 60)
    truth = association(pd.crosstab(one, other).to_numpy(), method="cramer")
    assert cramers_v(one, other) == pytest.approx(truth, rel=1e-10)
    assert cramers_v(one, one) == pytest.approx(1) and np.isnan(cramers_v(one, np.zeros(60)))


def test_refused(rng):
    values, batch, covariates = scanners(rng)
    with pytest.raises(InputError, match="cannot be separated: one follows"):
        combat(values, batch, covariates=pd.DataFrame({"site": batch}))
    with pytest.raises(InputError, match="only one batch"):
        combat(values, ["3T"] * len(values))
    with pytest.raises(InputError, match="no batch '9T'"):
        combat(values, batch, reference="9T")
    with pytest.raises(InputError, match="several metrics, and there is one"):
        combat(values[["F"]], batch)
    with pytest.raises(InputError, match="batch '7T' has 1 values of 'K'"):
        combat(values.assign(K=values["K"].where((batch != "7T") | (np.arange(len(batch)) == 70))), batch)
    with pytest.raises(InputError, match="'F' has the same value throughout batch '7T'"):
        combat(values.assign(F=values["F"].where(batch != "7T", 0.5)), batch)
    with pytest.raises(InputError, match="'F' does not vary"):
        combat(values.assign(F=0.5), batch)
    with pytest.raises(InputError, match="covariate 'age' is missing in 1 cases"):
        combat(values, batch, covariates=covariates.assign(age=covariates["age"].where(covariates.index != 3)))
