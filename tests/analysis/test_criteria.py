"""TCS, HFC and BIC: which disagreements are named, where the answer is built in, and how often by chance."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import compare_criteria


def cases(rng, n, models, strategy="whole"):
    """Models by name: noise, factor of the size, and share of the votes of BIC."""
    size, fraction = rng.normal(20.0, 3.0, n), rng.normal(0.6, 0.1, n)
    parts = []
    for model, (noise, factor, votes) in models.items():
        values = {"vCS_mri_um": factor * (size + 3.0 * noise * rng.normal(size=n)), "vCS_histo_um": size}
        values |= {"F_mri": fraction + 0.1 * noise * rng.normal(size=n), "F_histo": fraction}
        votes = votes + 0.02 * rng.normal(size=n)
        parts.append(pd.DataFrame({"sample": [f"s{i}" for i in range(n)], "model": model, **values, "BIC_vote": votes}))
    return pd.concat(parts, ignore_index=True).assign(strategy=strategy)


@pytest.mark.parametrize(
    ("models", "rule", "text"),
    [
        ({"a": (0.2, 1.0, 0.7), "b": (1.5, 1.0, 0.3)}, "none", "a is among the best by all"),
        ({"a": (0.3, 1.5, 0.7), "b": (0.3, 1.0, 0.3), "c": (0.3, 1.5, 0.5)}, "calibration", "needs calibration"),
        ({"a": (0.1, 1.6, 0.7), "b": (1.0, 1.0, 0.3)}, "contradiction", "no model is best for both"),
        ({"a": (0.2, 1.0, 0.2), "b": (1.5, 1.0, 0.8)}, "fit", "the better fit is not the better histology"),
    ],
)
def test_the_rule_that_holds_is_named(rng, models, rule, text):
    (found,) = compare_criteria(cases(rng, 40, models))
    assert (found.rule, found.n, found.models) == (rule, 40, len(models))
    assert text in found.text and all(f"first by {name}: " in found.text for name in ("TCS", "HFC", "BIC"))
    assert "N = 40" in found.text


def test_equals_are_said_to_be_equal_and_strategies_stay_apart(rng):
    # The same cases under two names that differ by a hair.
    one = cases(rng, 12, {"a": (1.0, 1.0, 0.5)})
    twin = one.assign(model="b", F_mri=one["F_mri"] + 1e-3 * rng.normal(size=12))
    table = pd.concat([one, twin, one.assign(strategy="high-b")])
    (found,) = compare_criteria(table)  # of high-b there is one model only
    assert found.strategy == "whole" and "TCS cannot tell the models apart: choose by HFC, then BIC" in found.text
    assert compare_criteria(table[table["sample"].isin([f"s{i}" for i in range(5)])]) == []


def test_a_case_without_error_has_a_logarithm(rng):
    table = cases(rng, 10, {"a": (0.5, 1.0, 0.5), "b": (0.5, 1.0, 0.5)})
    exact = (table["sample"] == "s3") & (table["model"] == "a")
    table.loc[exact, ["vCS_mri_um", "F_mri"]] = table.loc[exact, ["vCS_histo_um", "F_histo"]].to_numpy()
    (found,) = compare_criteria(table)
    assert found.first["HFC"] in ("a", "b") and len(found.sets) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("n", "models"), [(7, 5), (18, 10), (25, 5)])
def test_false_alarms_are_rare(n, models):
    """One model is the best by all three, or all are alike: 200 studies each; at most 2 % plus two standard errors."""
    rng = np.random.default_rng([n, models])
    for best in ((0.7, 1.0, 0.5), (1.2, 1.0, 0.2)):
        named = []
        for _ in range(200):
            others = {f"m{k}": (1.2, 1.0, 0.2) for k in range(1, models)}
            (found,) = compare_criteria(cases(rng, n, {"m0": best} | others))
            named.append(found.rule in ("contradiction", "fit", "calibration"))
        assert np.mean(named) <= 0.04
