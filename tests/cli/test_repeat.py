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
