"""Scores and ranking against direct formulas."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import bic_votes, histology_fidelity, rank_models, ranking_warnings, total_correlation_score
from histomri.analysis.ranking import RANKING_KEYS
from histomri.core.errors import InputError

MODELS = (
    ("diff-in", "whole", 0.1),
    ("diff-in", "high-b", 0.3),
    ("diff-in-ex", "whole", 1.0),
    ("diff-in-ex", "high-b", 3.0),
)


def cases(rng, n=25):
    """A table in which the noise of the MRI grows from model to model."""
    size, fraction = rng.uniform(14, 28, n), rng.uniform(0.4, 0.8, n)
    rows = []
    for model, strategy, noise in MODELS:
        vote = rng.uniform(size=n)
        for case in range(n):
            rows.append(
                {
                    "sample": f"s{case:02d}",
                    "model": model,
                    "strategy": strategy,
                    "vCS_mri_um": size[case] + noise * 4 * rng.normal(),
                    "F_mri": fraction[case] + noise * 0.1 * rng.normal(),
                    "vCS_histo_um": size[case],
                    "F_histo": fraction[case],
                    "BIC_vote": vote[case],
                }
            )
    return pd.DataFrame(rows).sample(frac=1, random_state=1, ignore_index=True)


def test_tcs_is_the_sum_of_two_correlations(rng):
    table = cases(rng)
    for row in total_correlation_score(table).itertuples():
        mine = table[(table["model"] == row.model) & (table["strategy"] == row.strategy)]
        size = stats.pearsonr(mine["vCS_mri_um"], mine["vCS_histo_um"]).statistic
        fraction = stats.pearsonr(mine["F_mri"], mine["F_histo"]).statistic
        np.testing.assert_allclose([row.r_vCS, row.r_F, row.TCS], [size, fraction, size + fraction], rtol=1e-10)
        assert row.n == 25


def test_tcs_uses_cases_with_all_four_values(rng):
    table = cases(rng, 10)
    table.loc[(table["sample"] == "s03") & (table["model"] == "diff-in"), "F_mri"] = np.nan
    row = total_correlation_score(table).set_index(["model", "strategy"]).loc[("diff-in", "whole")]
    mine = table.query("model == 'diff-in' and strategy == 'whole' and sample != 's03'")
    assert (row["n"], row["n_missing"]) == (9, 1)
    np.testing.assert_allclose(row["r_vCS"], np.corrcoef(mine["vCS_mri_um"], mine["vCS_histo_um"])[0, 1], rtol=1e-10)


def test_fidelity_and_its_wins(rng):
    table = cases(rng)
    table.loc[0, "F_histo"] = 0.0  # cannot be divided by
    table.loc[1, "vCS_mri_um"] = np.nan
    found = histology_fidelity(table)
    wins = dict.fromkeys([(model, strategy) for model, strategy, _ in MODELS], 0)
    truth = []
    for row in table.itertuples():
        error = abs(row.vCS_mri_um - row.vCS_histo_um) / row.vCS_histo_um
        truth.append(error + abs(row.F_mri - row.F_histo) / row.F_histo if row.F_histo > 0 else np.nan)
    np.testing.assert_allclose(found["HFC"], truth, rtol=1e-12)
    for _, part in table.assign(HFC=truth).groupby("sample"):
        best = part.loc[part["HFC"].idxmin()]
        wins[best["model"], best["strategy"]] += 1
    total = found.groupby(["model", "strategy"])["win"].sum()
    assert {key: total[key] for key in wins} == wins
    assert total.sum() == 25


def test_equal_fidelity_shares_the_win():
    rows = [("a", model, 20.0, 0.5, 22.0, 0.6) for model in ("m1", "m2")] + [("a", "m3", 20.0, 0.5, 30.0, 0.6)]
    table = pd.DataFrame(rows, columns=["sample", "model", "vCS_histo_um", "F_histo", "vCS_mri_um", "F_mri"])
    assert histology_fidelity(table.assign(strategy="whole"))["win"].tolist() == [0.5, 0.5, 0.0]


def test_bic_is_a_majority_of_cases_within_a_strategy(rng):
    table = cases(rng)
    table.loc[table["sample"] == "s00", "BIC_vote"] = np.nan  # nobody voted
    found = bic_votes(table).set_index(["model", "strategy"])
    for strategy, part in table.groupby("strategy"):
        wide = part.pivot(index="sample", columns="model", values="BIC_vote").dropna()
        for model in wide:
            assert found.loc[(model, strategy), "n"] == 24
            np.testing.assert_allclose(found.loc[(model, strategy), "share"], (wide.idxmax(axis=1) == model).mean())
    assert np.isnan(bic_votes(table.assign(BIC_vote=np.nan))["share"]).all()


def test_ranking_has_the_keys_of_the_contract_best_first(rng):
    table = cases(rng)
    ranking = rank_models(table)
    assert all(tuple(row) == RANKING_KEYS for row in ranking)
    assert [(row["model"], row["strategy"]) for row in ranking] == [row[:2] for row in MODELS]
    scores = [row["TCS"] for row in ranking]
    assert scores == sorted(scores, reverse=True)
    assert all(row["TCS_ci"][0] <= row["TCS"] <= row["TCS_ci"][1] for row in ranking)
    assert sum(row["p_best"] for row in ranking) == pytest.approx(1) and ranking[0]["p_best"] > 0.9
    assert sum(row["HFC_wins"] for row in ranking) == 25
    assert ranking_warnings(ranking) == []


def test_ranking_is_reproducible_and_ignores_the_order_of_rows(rng):
    table = cases(rng, n=6)  # so few that the best model is not certain
    one, two = rank_models(table, seed=4), rank_models(table.sample(frac=1, random_state=9), seed=4)
    for first, second in zip(one, two):
        assert [*first["TCS_ci"], first["p_best"]] == pytest.approx([*second["TCS_ci"], second["p_best"]])
    few = cases(rng, 5)  # so that chances are neither 0 nor 1
    first, same, other = ([row["p_best"] for row in rank_models(few, seed=seed)] for seed in (4, 4, 5))
    assert first == same != other


def test_aic_votes_as_bic_does(rng):
    table = cases(rng, 9)
    for criterion in ("AIC", "BIC"):
        table[f"{criterion}_vote"] = rng.random(len(table))
    swapped = table.rename(columns={"AIC_vote": "BIC_vote", "BIC_vote": "AIC_vote"})
    one, other = rank_models(table, n_boot=100), rank_models(swapped, n_boot=100)
    assert [row["AIC_share"] for row in one] == [row["BIC_share"] for row in other]
    assert [row["AIC_share"] for row in one] != [row["BIC_share"] for row in one]
    assert rank_models(table.drop(columns="AIC_vote"), n_boot=100)[0]["AIC_share"] is None


def test_p_best_compares_models_on_the_same_resamples(rng):
    """Against a loop that draws cases and ranks the models each time."""
    table = cases(rng, 12)
    ranking = {(row["model"], row["strategy"]): row["p_best"] for row in rank_models(table, n_boot=300, seed=7)}
    wide = {key: part.set_index("sample").sort_index() for key, part in table.groupby(["model", "strategy"])}
    wins = dict.fromkeys(wide, 0)
    for drawn in np.random.default_rng(7).integers(0, 12, size=(300, 12)):
        scores = {}
        for key, part in wide.items():
            some = part.iloc[drawn]
            scores[key] = (
                np.corrcoef(some["vCS_mri_um"], some["vCS_histo_um"])[0, 1]
                + np.corrcoef(some["F_mri"], some["F_histo"])[0, 1]
            )
        wins[max(scores, key=scores.get)] += 1
    assert ranking == pytest.approx({key: count / 300 for key, count in wins.items()})


def test_nothing_undefined_is_ranked_first(rng):
    table = cases(rng, 8)
    table.loc[(table["model"] == "diff-in") & (table["strategy"] == "whole"), "vCS_mri_um"] = 40.0  # all at a bound
    ranking = rank_models(table)
    last = ranking[-1]
    assert (last["model"], last["strategy"]) == ("diff-in", "whole")
    assert last["TCS"] is None and last["TCS_ci"] is None and last["p_best"] is None
    assert all(row["TCS"] is not None for row in ranking[:-1])
    assert sum(row["p_best"] for row in ranking[:-1]) == pytest.approx(1)
    assert any("diff-in, whole: TCS is undefined" in text for text in ranking_warnings(ranking))


@pytest.mark.parametrize(
    ("n", "text"),
    [(1, "needs at least 3"), (2, "needs at least 3"), (3, "neither a confidence interval"), (5, "only 5 cases")],
)
def test_few_cases_say_what_is_missing(rng, n, text):
    ranking = rank_models(cases(rng, n))
    assert any(text in warning for warning in ranking_warnings(ranking))
    for row in ranking:
        assert (row["TCS"] is None) == (n < 3)
        assert (row["TCS_ci"] is None) == (n < 4) and (row["p_best"] is None) == (n < 4)
        assert row["n"] == n and row["HFC_mean"] is not None


def test_duplicates_and_missing_columns(rng):
    table = cases(rng, 5)
    with pytest.raises(InputError, match="comes twice"):
        rank_models(pd.concat([table, table.head(1)]))
    with pytest.raises(InputError, match="column 'F_histo' is missing"):
        rank_models(table.drop(columns="F_histo"))
    assert rank_models(table.head(0)) == []


def test_interval_of_tcs_by_hand(rng):
    """Pseudo-values of Fisher's z of TCS/2, written out."""
    table = one_model(rng, 9)

    def half(rows):
        r = [
            np.corrcoef(rows[f"{name}_histo{unit}"], rows[f"{name}_mri{unit}"])[0, 1]
            for name, unit in (("vCS", "_um"), ("F", ""))
        ]
        return np.arctanh(sum(r) / 2)

    z = half(table)
    pseudo = np.array([9 * z - 8 * half(table.drop(index=index)) for index in table.index])
    reach = stats.t.ppf(0.975, 8) * pseudo.std(ddof=1) / 3
    found = rank_models(table, n_boot=100)[0]["TCS_ci"]
    np.testing.assert_allclose(found, [2 * np.tanh(z - reach), 2 * np.tanh(z + reach)], rtol=1e-10)


def one_model(rng, n, r_vcs=0.5, r_f=0.3):
    """Cases of one model with known correlations."""
    x, y = rng.normal(size=(2, n))
    return pd.DataFrame(
        {
            "sample": np.arange(n).astype(str),
            "model": "m",
            "strategy": "whole",
            "vCS_histo_um": 20 + x,
            "F_histo": 10 + y,
            "vCS_mri_um": 20 + r_vcs * x + np.sqrt(1 - r_vcs**2) * rng.normal(size=n),
            "F_mri": 10 + r_f * y + np.sqrt(1 - r_f**2) * rng.normal(size=n),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 12, 25, 60])
@pytest.mark.parametrize(("r_vcs", "r_f"), [(0.5, 0.3), (0.9, 0.6), (0.0, 0.0)])
def test_interval_of_tcs_covers_the_truth(n, r_vcs, r_f):
    """500 studies with known correlations; the binomial standard error is 1 %."""
    rng = np.random.default_rng(n)
    covered = 0
    for _ in range(500):
        low, high = rank_models(one_model(rng, n, r_vcs, r_f), n_boot=100)[0]["TCS_ci"]
        covered += low <= r_vcs + r_f <= high
    # With five cases the interval is a little wider than it must be.
    assert 0.92 <= covered / 500 <= (0.995 if n == 5 else 0.98)
