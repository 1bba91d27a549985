"""Units told by the names of columns and by sidecars."""

import json

import pytest

from histomri.core.columns import check_sidecar, column_of, describe_column, describe_columns, unit_of, unit_text
from histomri.core.errors import UnitError
from histomri.core.images import HISTOLOGY_MAPS, MRI_MAPS


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("vCS_mri_um", "um"), ("vCS_histo_um_median", "um"), ("CD_mri_mm3", "mm^-3"), ("CD_histo_mm2", "mm^-2"),
        ("ADC_um2_ms", "um^2/ms"), ("K", "1"), ("F_mri_trimmed", "1"), ("volume_mm3", "mm^3"), ("Ki67_fraction", "1"),
        ("area_mm2", "mm^2"), ("CD3_density_mm2", "mm^-2"), ("length_mm", "mm"), ("ADC_per_water", "1"),
        ("Ki67", None), ("patient", None), ("vCS_histo_um_se", "um"), ("nucleiNV_histo_mm3_syst", "mm^-3"),
    ],
)  # fmt: skip
def test_names_tell_units(name, unit):
    assert unit_of(name) == unit


@pytest.mark.parametrize(("side", "maps"), [("mri", MRI_MAPS), ("histo", HISTOLOGY_MAPS)])
def test_the_columns_of_maps_have_the_units_of_the_maps(side, maps):
    assert {name: unit_of(column_of(name, side)) for name in maps} == {name: unit for name, (unit, _) in maps.items()}


def test_errors_stand_beside_what_they_are_of():
    assert column_of("vCS_se", "histo") == "vCS_histo_um_se" and column_of("F_syst", "histo") == "F_histo_syst"
    entry = describe_column("F_histo_syst", describe_columns(), {})
    assert entry["Units"] == "1" and "Systematic error" in entry["Description"]


def test_units_for_people():
    assert unit_text("vCS_mri_um") == " µm" and unit_text("CD_histo_mm2") == " cells/mm²"
    assert unit_text("F_mri") == unit_text("Ki67") == ""


@pytest.mark.parametrize("unit", ["um", "µm", " um "])
def test_a_sidecar_may_spell_a_unit_otherwise(tmp_path, unit):
    (tmp_path / "t.json").write_text(json.dumps({"Columns": {"vCS_mri_um": {"Units": unit}, "Ki67": {"Units": "%"}}}))
    assert check_sidecar(tmp_path / "t.csv", ["vCS_mri_um", "Ki67"])["Ki67"] == {"Units": "%"}


@pytest.mark.parametrize(
    ("name", "unit"),
    [("vCS_mri_um", "mm"), ("CD_mri_mm3", "mm^-2"), ("CD_mri_mm3", "mm^3"), ("F_mri", "%"), ("volume_mm3", "ml")],
)
def test_a_sidecar_that_contradicts_the_name_is_refused(tmp_path, name, unit):
    (tmp_path / "t.json").write_text(json.dumps({"Columns": {name: {"Units": unit}}}))
    with pytest.raises(UnitError, match=f"'{name}' of t.csv"):
        check_sidecar(tmp_path / "t.csv", [name])
    assert check_sidecar(tmp_path / "t.csv", ["another"])


@pytest.mark.parametrize("content", ["[]", "{}", '{"Columns": []}', '{"Columns": {"F_mri": 3}}'])
def test_a_file_of_that_name_that_is_no_sidecar_says_nothing(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    assert check_sidecar(tmp_path / "t.csv", ["F_mri"]) == check_sidecar(tmp_path / "u.csv", ["F_mri"]) == {}


def test_counts_per_area_and_areas_of_a_users_column_are_not_told_apart(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"Columns": {"nuclei_mm2": {"Units": "1/mm²"}}}))
    check_sidecar(tmp_path / "t.csv", ["nuclei_mm2"])
