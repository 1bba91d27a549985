"""Units and meaning of the columns of paired tables, for their sidecars."""

from collections.abc import Iterable, Mapping
from typing import Any

from histomri.core.columns import PATIENT, describe_maps, unit_of
from histomri.core.errors import UnitError


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
        "ADC_per_water": {"Units": "1", "Description": "ADC over the diffusivity of free water in that scan"},
        "n_fitted": {"Units": "1", "Description": "Voxels that were fitted"},
        "n_failed": {"Units": "1", "Description": "Voxels whose fit failed, left out"},
        "n_without_histology": {"Units": "1", "Description": "Fitted voxels without histology, left out"},
        "n_without_mri": {"Units": "1", "Description": "Voxels with histology and without a fit, left out"},
        "n_outside_mask": {"Units": "1", "Description": "Voxels outside the mask, left out"},
        "pairing": {"Description": "voxels: registered, voxel by voxel; means: of whole samples, without registration"},
    }
    for criterion in ("BIC", "AIC"):
        known[f"{criterion}_vote"] = {
            "Units": "1",
            "Description": f"Share of the voxels in which this model has the lowest {criterion} of all models of its "
            "strategy",
        }
        known[f"{criterion}_best"] = {
            "Description": f"Whether this model has the largest {criterion}_vote of its sample and strategy"
        }
    for axis in "ijk":
        known[axis] = {"Units": "1", "Description": f"Voxel index {axis} of the MRI"}
    for axis in "xyz":
        known[f"{axis}_mm"] = {"Units": "mm", "Description": f"World coordinate {axis} of the MRI (RAS+)"}
    return {**known, **describe_maps()}


def describe_column(name: str, known: Mapping[str, dict[str, str]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return unit and meaning of a column.

    Parameters
    ----------
    name : str
        Of the column.
    known : mapping
        From `describe_columns`.
    given : mapping
        What the sidecars of the tables that it comes from say of columns that are not known, such as tumour volumes.
    """
    ways = {"_median": "Median over voxels of", "_trimmed": "Mean over voxels, less the extreme tenths, of"}
    for ending, how in ways.items():
        if name.endswith(ending) and (entry := known.get(name.removesuffix(ending))):
            return {**entry, "Description": f"{how}: {entry['Description']}"}
    if name in known:
        return known[name]
    unit = unit_of(name)
    own = {"Description": "Given with the samples"} | ({"Units": unit} if unit is not None else {})
    return own | dict(given.get(name, {}))


def join_descriptions(tables: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return what the sidecars of several tables say of their columns, together.

    Raises
    ------
    UnitError
        If two of them give a column different units.
    """
    joined: dict[str, dict[str, Any]] = {}
    for described in tables:
        for name, entry in described.items():
            before = joined.setdefault(name, {})
            units = before.get("Units"), entry.get("Units")
            if None not in units and units[0] != units[1]:
                raise UnitError(f"column '{name}' is in '{units[0]}' and '{units[1]}'", hint="convert one of them")
            before.update(entry)
    return joined
