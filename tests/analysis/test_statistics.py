"""The statistics of a run: those of the commands, and what cannot be had is said."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from histomri.analysis import study_statistics
from histomri.analysis.statistics import FILES


@pytest.fixture
def cases(rng):
    size, fraction = rng.uniform(14, 28, 9), rng.uniform(0.4, 0.8, 9)
    return pd.DataFrame(
        {
            "sample": [f"s{case}" for case in range(9)],
            "group": ["a", "b", "b"] * 3,
            "scanner": "3T",
            "model": "diff-in",
            "strategy": "whole",
            "vCS_mri_um": size + rng.normal(size=9),
            "F_mri": fraction + 0.05 * rng.normal(size=9),
            "CD_mri_mm3": 1e9 * fraction / size**3,
            "vCS_histo_um": size,
            "F_histo": fraction,
            "CD_histo_mm2": 1e6 * fraction / size**2,
            "Ki67": rng.random(9),
        }
    )


def test_measurements_given_by_hand_are_correlated_and_compared(cases, tmp_path):
    cases.to_csv(tmp_path / "pairs.csv", index=False)
    assert study_statistics(tmp_path / "pairs.csv", ["Ki67", "not_there"]).write(tmp_path / "out").warnings == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    found = pd.read_csv(tmp_path / "out" / "correlations.csv").query("kind == 'pearson'").set_index(["x", "y"])
    truth = stats.pearsonr(cases["F_mri"], cases["Ki67"])
    np.testing.assert_allclose(found.loc[("F_mri", "Ki67"), ["r", "p"]].astype(float), truth, rtol=1e-10)
    compared = pd.read_csv(tmp_path / "out" / "comparisons.csv").set_index("column")
    groups = (cases.loc[cases["group"] == name, "Ki67"] for name in "ab")
    assert compared.loc["Ki67", "p_welch"] == pytest.approx(stats.ttest_ind(*groups, equal_var=False).pvalue, rel=1e-10)


def test_what_cannot_be_computed_is_said(cases, tmp_path):
    cases.head(2).to_csv(tmp_path / "two.csv", index=False)
    assert study_statistics(tmp_path / "two.csv").problems == ("statistics over samples: 2 are too few",)
    cases.assign(group="a").drop(columns=["vCS_histo_um"]).to_csv(tmp_path / "some.csv", index=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "comparisons.csv").write_text("of an earlier run")
    problems = study_statistics(tmp_path / "some.csv").write(tmp_path / "out").warnings
    assert [text.split(":")[0] for text in problems] == ["regress", "agree"]
    assert "'vCS_histo_um' is missing" in problems[1] and str(tmp_path) not in "".join(problems)
    assert (tmp_path / "out" / "correlations.csv").exists() and not (tmp_path / "out" / "comparisons.csv").exists()


def test_a_statistic_that_breaks_costs_no_other(cases, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise MemoryError("out of memory")

    monkeypatch.setattr("histomri.analysis.statistics.regress_table", broken)
    cases.to_csv(tmp_path / "pairs.csv", index=False)
    found = study_statistics(tmp_path / "pairs.csv")
    assert found.problems == ("regress: it could not be computed (MemoryError: out of memory)",)
    assert set(found.found) == {"correlate", "agree", "compare"}
