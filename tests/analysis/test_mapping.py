"""Column maps: other names, constants, and several models in one row per case."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import read_cases, read_measurements
from histomri.core.errors import InputError

SHARED = 'sample = "Case"\nvCS_histo_um = "size HE"\nF_histo = "f HE"\n'
TWO = """
[[models]]
model = "diff-in"
strategy = "high-b"
columns = { vCS_mri_um = "size in", F_mri = "f in" }

[[models]]
model = "diff-in-ex"
strategy = "whole"
columns = { vCS_mri_um = "size ex", F_mri = "f ex" }
"""


@pytest.fixture
def wide(rng):
    names = ("size HE", "f HE", "size in", "f in", "size ex", "f ex")
    values = {name: rng.uniform(15, 25, 6) if "size" in name else rng.uniform(0.4, 0.8, 6) for name in names}
    return pd.DataFrame({"Case": [f"{case:02d}" for case in range(6)], **values, "age": 60})


def write(folder, text):
    path = folder / "map.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_several_models_of_a_wide_table(tmp_path, wide, ending):
    path = tmp_path / f"wide.{ending}"
    wide.to_csv(path, index=False) if ending == "csv" else wide.to_parquet(path)
    table, notes = read_cases(path, write(tmp_path, SHARED + TWO))
    for (model, strategy), short in ((("diff-in", "high-b"), "in"), (("diff-in-ex", "whole"), "ex")):
        mine = table[(table["model"] == model) & (table["strategy"] == strategy)]
        assert mine["sample"].tolist() == wide["Case"].tolist()
        for name, theirs in (("vCS_mri_um", f"size {short}"), ("F_mri", f"f {short}"), ("F_histo", "f HE")):
            np.testing.assert_array_equal(mine[name], wide[theirs])
    assert len(table) == 12 and notes == [f"wide.{ending}: columns not used: age"]  # and none of another model's


def test_the_same_with_sections_and_constants(tmp_path, wide):
    wide.to_csv(tmp_path / "wide.csv", index=False)
    truth, _ = read_cases(tmp_path / "wide.csv", write(tmp_path, SHARED + TWO))
    other = f'[columns]\n{SHARED}\n[constants]\nscanner = "3T"\n{TWO}'
    table, _ = read_cases(tmp_path / "wide.csv", write(tmp_path, other))
    assert table.pop("scanner").eq("3T").all()
    pd.testing.assert_frame_equal(table, truth)


def test_messages_name_the_line_of_the_wide_table(tmp_path, wide):
    wide = wide.astype(object)
    wide.loc[2, "f ex"] = "bad"
    wide.to_csv(tmp_path / "wide.csv", index=False)
    with pytest.raises(InputError, match="column 'F_mri', line 4: 'bad' is not a finite number"):
        read_cases(tmp_path / "wide.csv", write(tmp_path, SHARED + TWO))
    wide.loc[2, "f ex"], wide.loc[4, "Case"] = 0.5, "01"
    wide.to_csv(tmp_path / "wide.csv", index=False)
    with pytest.raises(InputError, match=r"'01' comes twice for diff-in, high-b \(lines 3 and 6\)"):
        read_cases(tmp_path / "wide.csv", write(tmp_path, SHARED + TWO))


def test_rows_of_a_wide_table_are_told_apart(tmp_path, wide):
    """Each model's rows have an index of their own, by which values are found again."""
    wide.to_csv(tmp_path / "wide.csv", index=False)
    sheet = read_measurements(tmp_path / "wide.csv", write(tmp_path, SHARED + TWO))
    values = sheet.numbers(["F_mri"])
    for (_, part), theirs in zip(sheet.parts(), ("f in", "f ex")):
        np.testing.assert_array_equal(values.loc[part.frame.index, "F_mri"], wide[theirs])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('F_mri = "f in"\nF_mri = "f ex"', r"not valid TOML .*columns of several models go into \[\[models\]\]"),
        ('F_mri = ["f in", "f ex"]', r"'F_mri' must be the name of a column, in quotes; .* \[\[models\]\]"),
        ('F_mri = "f in"\nF_histo = "f in"', "column 'f in' is given two names, 'F_mri' and 'F_histo'"),
        ('constants = 3\nsample = "Case"', r"'constants' must be a section, \[constants\]"),
        ('columns = "Case"', r"'columns' must be a section"),
        ('[constants]\nmodel = ["a", "b"]', r"'model' in \[constants\] must be one text or number; .*\[\[models\]\]"),
        ('sample = "Case"\n[columns]\nsample = "Case"', r"'sample' stands at the top and in \[columns\]"),
        ("models = 3", r"must be a list of sections, \[\[models\]\]"),
        ("[[models]]\ncolumns = {}", "number 1 has neither model nor strategy"),
        (
            '[[models]]\nmodel = "a"\nF_mri = "f in"',
            "number 1: unknown key 'F_mri'; it takes model, strategy,",
        ),
        ('[[models]]\nmodel = "a"\ncolumns = 3', "'columns' must be a section"),
        (SHARED + TWO.replace("diff-in-ex", "diff-in").replace("whole", "high-b"), "number 2: diff-in, high-b comes"),
        (SHARED + TWO.replace(', F_mri = "f ex"', ""), "number 2: 'F_mri' is named for some models and not for others"),
        (SHARED + TWO.replace("f ex", "f HE"), "column 'f HE' is given two names, 'F_histo' and 'F_mri'"),
        (SHARED + TWO.replace("f ex", "f exx"), r"column 'f exx' is not in wide.csv \(is it 'f ex'\?\)"),
        (SHARED + TWO.replace("F_mri", "F_MRI"), r"unknown column 'F_MRI' \(is it 'F_mri'\?\)"),
        ('[extra]\nmodel = "a"', "'extra' must be the name of a column"),
    ],
)
def test_wrong_maps_say_what_is_wrong(tmp_path, wide, text, message):
    wide.to_csv(tmp_path / "wide.csv", index=False)
    mapping = write(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        read_cases(tmp_path / "wide.csv", mapping)
    assert caught.value.path == mapping
