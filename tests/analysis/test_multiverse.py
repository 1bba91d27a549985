"""Every way to analyse the same pairs: each score against one computed by hand from the voxels."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis.multiverse import ANALYSIS, analyse_every_way, summarise_specifications
from histomri.core.errors import InputError


@pytest.fixture
def voxels(rng):
    rows = []
    for case in range(8):
        size, fraction = rng.normal(20, 3), rng.normal(0.6, 0.1)
        for model, noise in (("a", 1.0), ("b", 3.0)):
            for voxel in range(15):
                rows.append(
                    {"sample": f"s{case}", "group": "x" if case < 4 else "y", "scanner": "", "model": model,
                     "strategy": "whole", "i": voxel, "j": 0, "k": 0, "at_bound": voxel % 5 == 0,
                     "vCS_mri_um": size + noise * rng.normal() + 6 * (voxel % 5 == 0), "vCS_histo_um": size,
                     "F_mri": fraction + 0.05 * noise * rng.normal(), "F_histo": fraction}
                )  # fmt: skip
    return pd.DataFrame(rows)


def by_hand(voxels, average, at_bound, left_out, within=False):
    """TCS of model a."""
    kept = voxels[(voxels["model"] == "a") & ~voxels["sample"].isin(left_out)]
    kept = kept[~kept["at_bound"]] if at_bound == "out" else kept
    how = {"mean": np.mean, "median": np.median, "trimmed": lambda v: stats.trim_mean(v, 0.1)}[average]
    columns = ["vCS_mri_um", "vCS_histo_um", "F_mri", "F_histo"]
    cases = kept.groupby("sample")[columns].agg(lambda v: how(v.to_numpy()))
    if within:
        cases = cases - cases.groupby(kept.groupby("sample")["group"].first()).transform("mean")
    return sum(np.corrcoef(cases[x], cases[y])[0, 1] for x, y in (columns[:2], columns[2:]))


def test_every_combination_against_the_voxels(voxels):
    found = analyse_every_way(voxels, ["s2", "s5"])
    assert len(found) == 2 * 3 * 2 * 2 * 2  # of two models
    for row in found[found["model"] == "a"].itertuples():
        left_out = ["s2", "s5"] if row.registration == "good" else []
        truth = by_hand(voxels, row.average, row.at_bound, left_out, row.scores == "within")
        assert pytest.approx(truth, rel=1e-9) == row.TCS
        assert row.n == 8 - len(left_out)
    pairs = found.groupby(list(ANALYSIS))["TCS"]
    higher = found["TCS"].eq(pairs.transform("max"))
    assert (found["rank"].eq(1) == higher).all()


def test_where_the_reported_one_lies(voxels):
    found = analyse_every_way(voxels, ["s2", "s5"])
    number = found.groupby(list(ANALYSIS), sort=False).ngroup() + 1
    table = found.assign(specification=number, reported=number == 1)
    row = summarise_specifications(table).set_index("model").loc["a"]
    tcs = found.loc[found["model"] == "a", "TCS"].to_numpy()
    assert row["n_specifications"] == 24 and row["TCS_reported"] == pytest.approx(tcs[0])
    assert row["share_below_reported"] == pytest.approx(np.mean(tcs[1:] < tcs[0]))
    assert [row["TCS_min"], row["TCS_median"], row["TCS_max"]] == pytest.approx([min(tcs), np.median(tcs), max(tcs)])
    assert row["share_first"] == (found.loc[found["model"] == "a", "rank"] == 1).mean()


def test_what_cannot_be_scored_is_said(voxels):
    two = voxels[voxels["sample"].isin(["s0", "s1"])].assign(group="")
    found = analyse_every_way(two, ["s0", "s1"])
    assert found["TCS"].isna().all() and found["note"].ne("").all()
    assert set(found.loc[found["registration"] == "good", "note"]) == {"no voxel is left"}
    with pytest.raises(InputError, match=r"none of the 1 specifications gives a TCS: .*2 samples are too few"):
        summarise_specifications(found.assign(specification=1, reported=True))
    nothing = analyse_every_way(voxels.assign(at_bound=True), choices={**ANALYSIS, "registration": ("all",)})
    assert nothing.groupby("at_bound")["TCS"].apply(lambda tcs: tcs.isna().all()).to_dict() == {
        "in": False,
        "out": True,
    }


def test_samples_paired_as_a_whole_are_in_every_combination(voxels):
    from histomri.analysis.summary import counted_cases, summarise_voxels

    alone = summarise_voxels(voxels[voxels["sample"] > "s4"], counted_cases([], voxels[voxels["sample"] > "s4"]))
    choices = {**ANALYSIS, "at_bound": ("in",), "registration": ("all",), "scores": ("pooled",)}
    found = analyse_every_way(voxels[voxels["sample"] <= "s4"], choices=choices, whole=alone)
    for row in found[found["model"] == "a"].itertuples():
        assert row.n == 8 and pytest.approx(by_hand(voxels, row.average, "in", []), rel=1e-9) == row.TCS
    only = analyse_every_way(None, choices=choices, whole=alone)
    assert set(only["n"]) == {3}
