"""`histomri repeat` as it is typed."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import repeat_table, repeatability


def test_command(histomri, tmp_path, rng):
    table = pd.DataFrame({"sample": np.repeat(list("abcdef"), 2), "visit": [1, 2] * 6, "model": "m"})
    table["vCS_mri_um"] = rng.normal(20, 1, 12)
    table.to_csv(tmp_path / "t.csv", index=False)
    done = histomri("repeat", tmp_path / "t.csv", "-o", tmp_path / "o", "--measure", "vCS_mri_um")
    assert done.exit_code == 0, done.output
    row = pd.read_csv(tmp_path / "o" / "repeatability.csv").iloc[0]
    assert row["rc"] == pytest.approx(repeatability(table["vCS_mri_um"], table["sample"]).rc, rel=1e-12)
    assert "m: vCS_mri_um: wSD" in done.stdout and "6 subjects: QIBA asks for 35" in done.stderr
    assert repeat_table(table, measure=["vCS_mri_um"]).tables["repeatability.csv"]["n_subjects"].tolist() == [6]
    done = histomri("repeat", tmp_path / "t.csv", "-o", tmp_path / "o", "--subject", "visits")
    assert done.exit_code == 2 and "column 'visits' is missing (is it 'visit'?)" in done.stderr


def test_the_number_of_a_visit_is_no_measurement(rng):
    table = pd.DataFrame({"sample": np.repeat(list("abcdef"), 2), "visit": [1, 2, 2, 1] * 3})
    table["vCS_mri_um"] = rng.normal(20, 1, 12)
    found = repeat_table(table)
    assert found.tables["repeatability.csv"]["measure"].tolist() == ["vCS_mri_um"]
    assert any("'visit' numbers the measurements of a subject" in text for text in found.warnings)
    table.loc[0, "visit"] = 3  # a score, perhaps
    assert repeat_table(table).tables["repeatability.csv"]["measure"].tolist() == ["visit", "vCS_mri_um"]
