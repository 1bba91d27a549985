"""Tables of any columns: what is a number, which rows are meant, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import read_measurements
from histomri.core.errors import InputError, UnitError

LINES = (
    "sample,model,age,stage,vCS_mri_um,i_note",
    "01,a,60,2,20.5,fine",
    "02,a,,3,21.5,",
    "01,b,60,2,x,fine",
    "02,b,71,3,22.5,",
)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("\n".join(LINES))
    return file


def test_columns_of_numbers(path):
    sheet = read_measurements(path)
    assert sheet.numeric_names() == ["age", "stage"] and not sheet.is_voxelwise and len(sheet) == 4
    np.testing.assert_array_equal(sheet.numbers(["age"])["age"], [60, np.nan, 60, 71])
    assert read_measurements(path).only(model="a").numeric_names() == ["age", "stage", "vCS_mri_um"]


def test_lines_are_those_of_the_file_after_a_selection(path):
    chosen = read_measurements(path).only(model="b")
    with pytest.raises(InputError, match="column 'vCS_mri_um', line 4: 'x' is not a finite number"):
        chosen.numbers(["vCS_mri_um"])
    with pytest.raises(InputError, match=r"sample '01' comes twice \(lines 2 and 4\)"):
        read_measurements(path).require_unique(("sample",))
    read_measurements(path).require_unique(("sample", "model"))
    with pytest.raises(InputError, match="column 'i_note', line 3 is empty"):
        read_measurements(path).text("i_note", complete=True)


def test_parts_follow_the_columns_there_are(path):
    parts = read_measurements(path).parts()
    assert [(key, len(part)) for key, part in parts] == [({"model": "a"}, 2), ({"model": "b"}, 2)]


def test_measurements_are_those_of_the_contract_if_there_are_any(tmp_path):
    table = pd.DataFrame({"sample": ["a"], "F_mri": [0.5], "Ki67": [0.1], "vCS_histo_um": [20.0], "n_voxels": [3]})
    table.to_parquet(tmp_path / "t.parquet")
    sheet = read_measurements(tmp_path / "t.parquet")
    assert sheet.measurements() == ["vCS_histo_um", "F_mri"] and "Ki67" in sheet.numeric_names()


def read_text(file):
    sheet = read_measurements(file)
    return sheet.numbers(sheet.measurements())


def test_a_measurement_with_text_in_it_is_not_left_out(tmp_path):
    """Left out silently, nobody would miss it."""
    file = tmp_path / "t.csv"
    file.write_text("sample,vCS_mri_um,F_mri,K\na,20,0.5,\nb,ca. 21,0.6,\n")
    with pytest.raises(InputError, match=r"column 'vCS_mri_um', line 3: 'ca\. 21' is not a finite number"):
        read_text(file)
    file.write_text('sample,vCS_mri_um,F_mri\na,"20,5",0.5\nb,"21,5",0.6\n')
    with pytest.raises(InputError, match="'20,5' is not a finite number; write decimals with a point"):
        read_text(file)
    file.write_text("case,age,note,stage\na,60,fine,2\nb,61,,3\nc,n.k.,70,1\n")
    with pytest.raises(InputError, match=r"column 'age', line 4: 'n\.k\.'"):
        read_text(file)
    file.write_text("case,age,stage\na,60,2\nb,old,3\nc,young,1\n")
    assert read_measurements(file).measurements() == ["stage"]


def test_misspelt_measurements_are_told(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("sample,vCS_MRI,F_mri,F_histo,patient\na,20,0.5,0.6,x\n")
    assert read_measurements(file).misspelt() == ["column 'vCS_MRI' is not used; did you mean 'vCS_mri_um'?"]


def test_a_row_without_model_belongs_nowhere(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("sample,model,strategy,F_mri\na,m,,0.5\nremark,,,\n")
    with pytest.raises(InputError, match="column 'model', line 3 is empty; fill it, or drop the row"):
        read_measurements(file).require_unique(("sample", "model", "strategy"))
    file.write_text("sample,model,strategy,F_mri\na,,,0.5\nb,,,0.6\n")
    read_measurements(file).require_unique(("sample", "model", "strategy"))


@pytest.mark.parametrize(
    ("value", "shown"), [(0.02, "0.02 cannot be µm"), (-20.0, "-20 cannot be µm"), (0.0, "0 cannot")]
)
def test_a_single_sample_in_another_unit_is_found(tmp_path, value, shown):
    table = pd.DataFrame({"sample": list("abcde"), "vCS_mri_um": [20.0, 21.0, value, 22.0, 23.0]})
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UnitError, match=f"column 'vCS_mri_um', line 4: {shown}"):
        read_measurements(tmp_path / "t.csv").numbers(["vCS_mri_um"])
    table.assign(i=1, j=2, k=[0, 1, 2, 3, 4]).to_csv(tmp_path / "t.csv", index=False)
    read_measurements(tmp_path / "t.csv").numbers(["vCS_mri_um"])  # a single voxel may fail


def test_a_map_renames_to_any_name_and_adds_constants(path, tmp_path):
    mapping = tmp_path / "map.toml"
    mapping.write_text('Ki67 = "stage"\n[constants]\nscanner = "3T"\n')
    sheet = read_measurements(path, mapping)
    assert "Ki67" in sheet and "stage" not in sheet and sheet.text("scanner").eq("3T").all()


@pytest.mark.parametrize(
    ("text", "message"),
    [('Ki67 = "stge"', "is it 'stage'"), ("Ki67 = 3", "in quotes"), ("Ki67 =", "not valid TOML")],
)
def test_wrong_maps(path, tmp_path, text, message):
    mapping = tmp_path / "map.toml"
    mapping.write_text(text)
    with pytest.raises(InputError, match=message):
        read_measurements(path, mapping)


def test_refused(path, tmp_path):
    sheet = read_measurements(path)
    with pytest.raises(InputError, match=r"column 'ages' is missing \(is it 'age'\?\)"):
        sheet.numbers(["ages"])
    with pytest.raises(InputError, match="no row has model 'c'; there is a, b"):
        sheet.only(model="c")
    empty = tmp_path / "e.csv"
    empty.write_text("sample,F\n")
    with pytest.raises(InputError, match="no rows"):
        read_measurements(empty)
    empty.write_text("sample,F\na,\nb,NA\n")
    with pytest.raises(InputError, match="column 'F' has no value at all"):
        read_measurements(empty).numbers(["F"])


@pytest.mark.parametrize(
    ("column", "factor", "unit"),
    [
        ("vCS_mri_um", 1e-3, "µm, and its median for scanner '3T' is 0.02"),
        ("F_histo", 100, "a fraction from 0 to 1"),
        ("CD_mri_mm3", 1e9, "cells/mm³"),
        ("CD_histo_mm2", 1e-6, "cells/mm²"),
        ("ADC_um2_ms", 1e-3, "µm²/ms"),
    ],
)
def test_a_site_with_other_units_is_found(tmp_path, column, factor, unit):
    good = {"vCS_mri_um": 20.0, "F_histo": 0.6, "CD_mri_mm3": 1e5, "CD_histo_mm2": 3e3, "ADC_um2_ms": 1.1}
    table = pd.DataFrame([good] * 6).assign(scanner=["1.5T"] * 3 + ["3T"] * 3)
    table.to_csv(tmp_path / "t.csv", index=False)
    read_measurements(tmp_path / "t.csv").numbers(list(good))
    table.loc[3:, column] *= factor
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UnitError, match=unit):
        read_measurements(tmp_path / "t.csv").numbers(list(good))
