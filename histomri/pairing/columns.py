"""Names of the columns of the paired tables, units included; the contract other tools read."""

from collections.abc import Iterable
from typing import Literal

from histomri.maps import HISTOLOGY_MAPS, MRI_MAPS

Side = Literal["mri", "histo"]

KEYS = ("sample", "group", "scanner", "model", "strategy")
PATIENT = "patient"  # a label beside the keys, in tables of which a sample has one
POSITION = ("i", "j", "k", "x_mm", "y_mm", "z_mm")
# The measurements every paired table has, in this order, even where a study lacks one of them (then they are empty).
MEASURES = (
    "vCS_mri_um",
    "F_mri",
    "CD_mri_mm3",
    "vCS_histo_um",
    "F_histo",
    "CD_histo_mm2",
    "ADC_um2_ms",
    "K",
)
# What says how good a fit is, not what the tissue is like: never averaged over voxels.
FIT_QUALITY = ("BIC", "AIC", "logL", "cost", "exit", "at_bound")

_UNIT_SUFFIX = {"um": "_um", "mm^-2": "_mm2", "mm^-3": "_mm3", "um^2/ms": "_um2_ms", "um^2": "_um2", "ms": "_ms"}
_WITHOUT_SIDE = {"ADC", "K", "BIC", "AIC", "logL", "cost", "exit"}


def keys_of(columns: Iterable[str]) -> list[str]:
    """Return the labels of the rows of a table with these columns: `KEYS`, and the patient if it knows them."""
    return [KEYS[0], *([PATIENT] if PATIENT in columns else []), *KEYS[1:]]


def column_of(param: str, side: Side) -> str:
    """Return the column of a map: ``column_of("vCS", "mri")`` is ``"vCS_mri_um"``."""
    unit = (MRI_MAPS if side == "mri" else HISTOLOGY_MAPS).get(param, ("1", ""))[0]
    middle = "" if side == "mri" and param in _WITHOUT_SIDE else f"_{side}"
    return f"{param}{middle}{_UNIT_SUFFIX.get(unit, '')}"


def describe_columns() -> dict[str, dict[str, str]]:
    """Return unit and meaning of every column a paired table can have, for its sidecar."""
    known: dict[str, dict[str, str]] = {
        "sample": {"Description": "Sample, one animal, patient or biopsy"},
        PATIENT: {"Description": "Patient or animal that the sample is from"},
        "group": {"Description": "Experimental group"},
        "scanner": {"Description": "MRI scanner or protocol"},
        "model": {"Description": "Signal model"},
        "strategy": {"Description": "Measurements fitted: whole, high-b or custom (another b threshold)"},
        "coverage_histo": {"Units": "1", "Description": "Share of the interpolated histology that was measured"},
        "at_bound": {"Description": "Whether a fitted parameter lies at a bound (exit code 2)"},
        "n_voxels": {"Units": "1", "Description": "Voxels measured on both sides"},
        "n_patches": {"Units": "1", "Description": "Histology patches averaged (samples paired without registration)"},
        "at_bound_share": {"Units": "1", "Description": "Share of the voxels with a parameter at its bound"},
        "BIC_vote": {
            "Units": "1",
            "Description": "Share of the voxels in which this model has the lowest BIC of all models of its strategy",
        },
        "BIC_best": {"Description": "Whether this model has the largest BIC_vote of its sample and strategy"},
    }
    for axis in "ijk":
        known[axis] = {"Units": "1", "Description": f"Voxel index {axis} of the MRI"}
    for axis in "xyz":
        known[f"{axis}_mm"] = {"Units": "mm", "Description": f"World coordinate {axis} of the MRI (RAS+)"}
    sides: tuple[tuple[Side, dict[str, tuple[str, str]]], ...] = (("mri", MRI_MAPS), ("histo", HISTOLOGY_MAPS))
    for side, table in sides:
        for param, (unit, text) in table.items():
            known[column_of(param, side)] = {"Units": unit, "Description": text}
    return known
