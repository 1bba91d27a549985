"""Every spelling of a column name that QuPath and the programs after it make."""

import pytest

from histomri.cells.parsed_export import normalise, recognise, unmangle


@pytest.mark.parametrize(
    ("raw", "name", "unit"),
    [
        ("Centroid X µm", "x", "um"),
        ("Centroid Y px", "y", "px"),
        ("Centroid X um", "x", "um"),
        ("Centroid X \u03bcm", "x", "um"),
        ("Cell: Area", "cell_area", None),
        ("Cell: Area µm^2", "cell_area", "um2"),
        ("Cell: Area um2", "cell_area", "um2"),
        ("Cell: Area µm²", "cell_area", "um2"),
        ("Cell: Area px^2", "cell_area", "px2"),
        ("Nucleus: Area", "nucleus_area", None),
        ("Area µm^2", "area", "um2"),
        ("Nucleus: Max caliper", "nucleus_max_caliper", None),
        ("Cell: Length µm", "cell_perimeter", "um"),
        ("Max diameter µm", "max_caliper", "um"),
        ("Nucleus/Cell area ratio", "nucleus_cell_ratio", None),
        ("Nucleus: Hematoxylin OD mean", "nucleus_hematoxylin_od_mean", None),
        ("Cytoplasm: DAB OD std dev", "cytoplasm_dab_od_std", None),
        ("Cell: 750_bg mean", "cell_750_bg_od_mean", None),
        ("Hematoxylin: Nucleus: Mean", "nucleus_hematoxylin_od_mean", None),
        ("Nucleus: Hematoxylin: Mean", "nucleus_hematoxylin_od_mean", None),
        ("DAB: Std.Dev.", "dab_od_std", None),
        ("Detection probability", "detection_probability", None),
        ("x_px", "x", "px"),
        ("y_um", "y", "um"),
        ("cell_area_px2", "cell_area", "px2"),
        ("nucleus_area_um2", "nucleus_area", "um2"),
        ("nucleus_dab_od_mean", "nucleus_dab_od_mean", None),
        ("Object ID", "object_id", None),
        ("Object type", "object_type", None),
        ("Class", "classification", None),
        ("Z-slice", "z", None),
    ],
)
def test_a_column_is_recognised(raw, name, unit):
    column = recognise([raw]).columns[name]
    assert (column.raw, column.unit) == (raw, unit)


@pytest.mark.parametrize(
    "raw",
    ["Centroid X Âµm", "Centroid X Ã‚Âµm", "Centroid X ┬╡m", "Centroid X ┬Ám", "Centroid X ¬µm", "Centroid X \ufffdm",
     "Centroid X 碌m", "Centroid X ﾂｵm", "Centroid X ?m", "\ufeffCentroid X  µm ", '"Centroid X µm"'],
)  # fmt: skip
def test_a_micro_sign_decoded_wrongly_is_mended(raw):
    assert normalise(raw) == "Centroid X µm"


@pytest.mark.parametrize(
    "raw", ["Num spots", "Subcellular cluster: Channel 2: Mean channel intensity", "Atlas_X", "ROI", ""]
)
def test_what_is_not_known_is_passed_over(raw):
    header = recognise([raw])
    assert not header.columns
    assert header.ignored == (raw,)


def test_a_unit_in_the_name_wins_over_none_and_micrometres_over_pixels():
    header = recognise(
        [
            "Cell: Area",
            "Cell: Area µm^2",
            "Centroid X px",
            "Centroid X µm",
            "ID",
            "Object ID",
            "Class",
            "Classification",
        ]
    )
    columns = header.columns
    assert columns["cell_area"].index == 1
    assert columns["x"].index == 3
    assert columns["object_id"].index == 5
    assert columns["classification"].index == 7
    assert header.warnings == ("both 'Cell: Area µm^2' and 'Cell: Area' are there; 'Cell: Area µm^2' was used",)


@pytest.mark.parametrize(
    ("mangled", "raw"),
    [
        ("Cell..Area", "Cell: Area"),
        ("Centroid.X..m", "Centroid X µm"),
        ("Centroid.X.µm", "Centroid X µm"),
        ("Cell..Area.µm.2", "Cell: Area µm^2"),
        ("Area..m.2", "Area µm^2"),
        ("Centroid_Y_um", "Centroid Y µm"),
        ("Nucleus..Hematoxylin.OD.mean", "Nucleus: Hematoxylin OD mean"),
        ("Nucleus.Cell.area.ratio", "Nucleus/Cell area ratio"),
        ("Object.ID", "Object ID"),
    ],
)
def test_what_r_does_to_a_name_is_undone(mangled, raw):
    assert normalise(unmangle(mangled)) == raw


def test_mangled_names_are_read_with_a_warning():
    header = recognise(["Image", "Centroid.X..m", "Centroid.Y..m", "Nucleus..Area", "Cell..Area"])
    assert {"x", "y", "nucleus_area", "cell_area"} <= set(header.columns)
    assert header.columns["x"].unit == "um"
    assert "changed by another program" in header.warnings[0]
