"""Ranking of models that were not fitted in the same cases: like with like, against tables without the other cases."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import rank_models, ranking_warnings, unlabelled
from histomri.analysis.ranking import common_cases

MODELS = ("a", "b", "c")
MINE = ("n_own", "TCS_own", "n_missing")  # what a row has of its own, whatever the others have


@pytest.fixture
def table(rng):
    size, fraction = rng.uniform(14, 28, 25), rng.uniform(0.4, 0.8, 25)
    parts = []
    for noise, model in enumerate(MODELS, start=1):
        part = {"sample": [f"s{case:02d}" for case in range(25)], "model": model, "strategy": "whole"}
        part |= {"vCS_histo_um": size, "vCS_mri_um": size + 2 * noise * rng.normal(size=25), "F_histo": fraction}
        part |= {"F_mri": fraction + 0.1 * noise * rng.normal(size=25), "BIC_vote": rng.random(25)}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


def without(table, model, samples):
    return table[~((table["model"] == model) & table["sample"].isin(samples))]


def names(first, last):
    return [f"s{case:02d}" for case in range(first, last)]


def scores(rows):
    return [{key: value for key, value in row.items() if key not in MINE} for row in rows]


def tcs(table, model, samples):
    mine = table[(table["model"] == model) & table["sample"].isin(samples)]
    return sum(np.corrcoef(mine[f"{q}_mri{u}"], mine[f"{q}_histo{u}"])[0, 1] for q, u in (("vCS", "_um"), ("F", "")))


def test_one_failed_fit_takes_its_case_from_all(table):
    some = without(table, "a", ["s07"])
    found = rank_models(some, n_boot=200)
    kept = table[table["sample"] != "s07"]
    assert scores(found) == scores(rank_models(kept, n_boot=200))
    for row in found:
        assert row["compared"] and row["n"] == 24 and sum(row["HFC_wins"] for row in found) == 24
        assert (row["n_own"], row["n_missing"]) == ((24, 1) if row["model"] == "a" else (25, 0))
        samples = kept["sample"] if row["model"] == "a" else table["sample"]
        np.testing.assert_allclose(row["TCS_own"], tcs(table, row["model"], samples), rtol=1e-12)
        np.testing.assert_allclose(row["TCS"], tcs(table, row["model"], kept["sample"]), rtol=1e-12)
    assert any("ranked on the 24 cases that all of them have" in text for text in ranking_warnings(found))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 12, 19])
def test_a_model_of_few_cases_takes_nothing_from_the_others_and_is_last(table, n):
    """However well it agrees on those."""
    perfect = table["model"] == "c"
    table.loc[perfect, ["vCS_mri_um", "F_mri"]] = table.loc[perfect, ["vCS_histo_um", "F_histo"]].to_numpy()
    if n == 0:
        table.loc[perfect, "F_mri"] = np.nan
    else:
        table = without(table, "c", names(n, 25))
    found = rank_models(table, n_boot=200)
    assert scores(found[:2]) == scores(rank_models(table[table["model"] != "c"], n_boot=200))
    last = found[2]
    assert last["model"] == "c" and not last["compared"] and last["rank"] is None
    assert last["p_best"] is last["HFC_wins"] is last["BIC_share"] is None
    assert last["n"] == last["n_own"] == n and (last["TCS"] is None if n < 3 else last["TCS"] == pytest.approx(2))
    assert any(f"c, whole: N = {n} (others up to 25), too few" in text for text in ranking_warnings(found))


def test_four_fifths_of_the_cases_are_enough(table):
    found = rank_models(without(table, "c", names(20, 25)), n_boot=100)
    assert [(row["n"], row["compared"]) for row in found] == [(20, True)] * 3


@pytest.mark.parametrize(("n", "missing", "compared"), [(5, 1, True), (6, 1, True), (6, 2, False), (4, 1, False)])
def test_few_cases(table, n, missing, compared):
    """One failed fit is allowed, as long as four cases are left for intervals."""
    table = table[table["sample"].isin(names(0, n))]
    found = rank_models(without(table, "c", names(0, missing)), n_boot=100)
    assert [row["compared"] for row in found] == [True, True, compared]
    assert all(row["n"] == (n - missing if compared else n) and row["TCS_ci"] for row in found[:2])


def test_cases_that_differ_too_much_leave_the_largest_comparison(table):
    """Three models that each lost other cases: the choice that leaves most common cases, by trying all."""
    lost = {"a": names(0, 5), "b": names(5, 10), "c": names(3, 8)}
    table = pd.concat([table, table.loc[table["model"] == "a"].assign(model="d")], ignore_index=True)
    lost["d"] = names(15, 21)
    for model, samples in lost.items():
        table = without(table, model, samples)
    rows, cases = common_cases(table)
    have = {model: set(names(0, 25)) - set(samples) for model, samples in lost.items()}
    best = max(len(set.intersection(*(have[model] for model in some))) for some in combinations("abcd", 3))
    assert len(set.intersection(*have.values())) < 10 <= best == len(cases) and len(rows) == 3
    assert cases == set.intersection(*(have[model] for model, _ in rows))
    found = rank_models(table, n_boot=100)
    assert [row["compared"] for row in found] == [True] * 3 + [False]
    assert any("too few of these in the others" in text for text in ranking_warnings(found))


def test_whoever_is_left_alone_has_beaten_nobody(table):
    pair = table[table["model"] != "b"]
    first, last = rank_models(without(pair, "c", names(3, 25)), n_boot=100)
    assert (first["model"], first["n"], first["rank"], last["rank"]) == ("a", 25, 1, None)
    assert first["p_best"] is first["HFC_wins"] is first["BIC_share"] is None and first["TCS_ci"]
    assert rank_models(table[table["model"] == "a"], n_boot=100)[0]["p_best"] == 1  # who was alone from the start


def test_equal_scores_share_a_rank(table):
    """Also where the order of rows changes the last digits."""
    twin = table[table["model"] == "a"].assign(model="twin").sample(frac=1, random_state=3)
    found = rank_models(pd.concat([table, twin], ignore_index=True), n_boot=100)
    assert [row["rank"] for row in found] == [1, 1, 3, 4] and {row["model"] for row in found[:2]} == {"a", "twin"}
    assert found[0]["p_best"] == found[1]["p_best"]
    assert any("equal, and share rank 1" in text for text in ranking_warnings(found))
    worse = table[table["model"] == "a"].assign(model="twin", vCS_mri_um=lambda part: 2 * part["vCS_mri_um"])
    found = rank_models(pd.concat([worse, table], ignore_index=True), n_boot=100)
    assert [(row["model"], row["rank"]) for row in found[:2]] == [
        ("a", 1),
        ("twin", 2),
    ]  # the same TCS, and a lower HFC


def test_samples_without_a_scanner_are_told(table):
    table["scanner"] = table["sample"].map(lambda name: "" if name < "s03" else "3T" if name < "s12" else "1.5T")
    assert unlabelled(table) == ["3 of 25 samples have no scanner and are in no ranking by scanner: s00, s01, s02"]
    assert unlabelled(table.assign(scanner="3T")) == unlabelled(table.drop(columns="scanner")) == []
