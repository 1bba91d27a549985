"""What analyses give a notebook: tables in memory or files, short texts, figures."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import (
    agree_table,
    compare_table,
    correlate_table,
    harmonise_table,
    histology_fidelity,
    plan_table,
    rank_models,
    regress_table,
    score_table,
    total_correlation_score,
)  # fmt: skip
from histomri.analysis.options import ScoreOptions
from histomri.core.errors import InputError


@pytest.fixture
def cases(rng):
    size, fraction = rng.uniform(14, 28, 12), rng.uniform(0.4, 0.8, 12)
    parts = [
        pd.DataFrame(
            {
                "sample": [f"s{case}" for case in range(12)],
                "group": ["a", "b", "b"] * 4,
                "scanner": ["3T", "1.5T"] * 6,
                "model": model,
                "strategy": "whole",
                "vCS_mri_um": size + noise * rng.normal(size=12),
                "F_mri": fraction + 0.05 * noise * rng.normal(size=12),
                "vCS_histo_um": size,
                "F_histo": fraction,
            }
        )
        for model, noise in (("diff-in", 1), ("diff-in-ex", 2))
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("analyse", [agree_table, compare_table, correlate_table, regress_table, score_table])
def test_a_table_in_memory_says_what_its_file_says_and_can_be_drawn(cases, tmp_path, analyse):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    cases.to_csv(tmp_path / "t.csv", index=False)
    found, from_file = analyse(cases), analyse(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(found.to_pandas(), from_file.to_pandas())
    assert found.lines == from_file.lines and len(repr(found)) < 1200 and "<table" in found._repr_html_()
    assert found.plot().get_xlabel() in found.to_pandas()
    pyplot.close("all")


def test_what_has_no_intervals_is_not_drawn(cases):
    for found in (harmonise_table(cases), plan_table(cases)):
        with pytest.raises(InputError, match="no estimates with intervals"):
            found.plot()


def test_scores_take_a_path_and_say_what_they_need(cases, tmp_path):
    cases.to_csv(tmp_path / "t.csv", index=False)
    pd.testing.assert_frame_equal(total_correlation_score(tmp_path / "t.csv"), total_correlation_score(cases))
    assert rank_models(tmp_path / "t.csv", n_boot=100) == rank_models(cases, n_boot=100)
    assert np.isfinite(histology_fidelity(str(tmp_path / "t.csv"))["HFC"]).all()
    with pytest.raises(InputError, match="a dict is no table of pairs; give a DataFrame with the columns vCS_mri_um"):
        total_correlation_score({})
    with pytest.raises(InputError, match="a list is no table; give a DataFrame, or the path"):
        agree_table([])
    with pytest.raises(InputError, match="boot: must be at least 100"):
        score_table(cases, boot=3)


def test_all_that_is_opened_is_read(cases, tmp_path):
    """A sidecar can refuse a table, and its counts are used, so that a change of it changes the result."""
    for name in ("t.csv", "t.json", "map.toml"):
        (tmp_path / name).write_text("{}")
    options = ScoreOptions(table=tmp_path / "t.csv", columns=tmp_path / "map.toml")
    assert {path.name for path in options.reads()} == {"t.csv", "t.json", "map.toml"}
