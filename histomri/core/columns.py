"""Columns of tables: their names carry the unit, and a sidecar (.json) beside the table must not say otherwise."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from histomri.core.errors import UnitError
from histomri.core.files import read_json
from histomri.core.images import HISTOLOGY_MAPS, MRI_MAPS

Side = Literal["mri", "histo"]

CASE = ("sample", "model", "strategy")  # identify a row of a table of samples
KEYS = ("sample", "group", "scanner", "model", "strategy")
PATIENT = "patient"  # a label beside the keys, in tables of which a sample has one
LABELS = ("sample", PATIENT, *KEYS[1:])  # columns of text, even where their cells look like numbers
INDEX, WORLD = ("i", "j", "k"), ("x_mm", "y_mm", "z_mm")
POSITION = (*INDEX, *WORLD)
PAIRED = ("vCS_mri_um", "vCS_histo_um", "F_mri", "F_histo")  # what models are scored by
# The measurements every paired table has, in this order, even where a study lacks one of them (then they are empty).
MEASURES = ("vCS_mri_um", "F_mri", "CD_mri_mm3", "vCS_histo_um", "F_histo", "CD_histo_mm2", "ADC_um2_ms", "K")
# How good a fit is, not what the tissue is like: never averaged over voxels.
FIT_QUALITY = ("BIC", "AIC", "logL", "cost", "exit", "at_bound")
# How the names of columns of errors end, beside that of what they are the error of: vCS_histo_um_se. Of sampling, one
# standard error; systematic, by what was stated about a slide (thickness, shrinkage): it shifts all its rows alike.
STAT, SYST = "_se", "_syst"
_ERRORS = {STAT: "Standard error, by sampling, of", SYST: "Systematic error, common to all rows of a slide, of"}
_WAYS = {"_median": "Median over voxels of", "_trimmed": "Mean over voxels, less the extreme tenths, of", **_ERRORS}
# What the sidecar of paired tables counts of each case.
COUNTS = (*KEYS, "n_fitted", "n_failed", "n_without_histology", "n_without_mri", "n_outside_mask")
# What is known of the registration of a sample, the same in all of its rows: columns that begin so are never averaged.
REGISTRATION = "registration_"
# The measurements that are correlated and compared, in the order in which they are shown, with their titles.
TITLES = {
    "vCS_histo_um": "vCS histology", "F_histo": "F histology", "CD_histo_mm2": "CD histology",
    "nucleiNV_histo_mm3": "nuclei histology", "cellNV_histo_mm3": "cells histology",
    "vCS_mri_um": "vCS MRI",
    "F_mri": "F MRI", "CD_mri_mm3": "CD MRI", "D0I_mri_um2_ms": "D0I", "ADC_um2_ms": "ADC",
    "ADC_per_water": "ADC / free water", "K": "K",
}  # fmt: skip
MEASUREMENTS = tuple(name for name in TITLES if name != "ADC_per_water")

# Later additions, which stand behind all other columns; medians of them too.
LATEST = ("CDsphere_mri_mm3", "cellNV_mri_mm3")

_LATEST_TITLES = {"CDsphere_mri_mm3": "CDsphere MRI", "cellNV_mri_mm3": "Cells per volume MRI"}

# How a unit ends the name of a map's column; densities are counts per area or volume.
_MAP_SUFFIX = {"um": "_um", "mm^-2": "_mm2", "mm^-3": "_mm3", "um^2/ms": "_um2_ms", "um^2": "_um2", "ms": "_ms"}
_MAP_SUFFIX["um/s"] = "_um_s"
# The unit that ends the name of any other column; the first that fits.
_SUFFIXES = {
    "_um2_ms": "um^2/ms", "_per_mm2": "mm^-2", "_per_mm3": "mm^-3", "_smm2": "s/mm^2", "_um2": "um^2", "_um3": "um^3",
    "_mm2": "mm^2", "_mm3": "mm^3", "_cm3": "cm^3", "_ml": "ml", "_um": "um", "_mm": "mm", "_ms": "ms",
    "_fraction": "1", "_share": "1", "_percent": "%", "_days": "d", "_per_water": "1", "_um_s": "um/s",
}  # fmt: skip
_WITHOUT_SIDE = {"ADC", "K", "BIC", "AIC", "logL", "cost", "exit"}
_SAME = {"fraction": "1", "none": "1", "": "1", "percent": "%", "mL": "ml"}
_SHOWN = {"um": "µm", "um^2": "µm²", "um^3": "µm³", "um^2/ms": "µm²/ms", "mm^-2": "cells/mm²", "mm^-3": "cells/mm³",
          "mm^2": "mm²", "mm^3": "mm³", "cm^3": "cm³", "um/s": "µm/s", "1": ""}  # fmt: skip


def keys_of(columns: Iterable[str]) -> list[str]:
    """Return the labels of the rows of a table with these columns: `KEYS`, and the patient if it knows them."""
    return [KEYS[0], *([PATIENT] if PATIENT in columns else []), *KEYS[1:]]


def column_of(param: str, side: Side) -> str:
    """Return the column of a map: ``column_of("vCS", "mri")`` is ``"vCS_mri_um"``, of vCS_se ``"vCS_mri_um_se"``."""
    if ending := next((one for one in _ERRORS if param.endswith(one)), ""):
        return column_of(param.removesuffix(ending), side) + ending
    unit = (MRI_MAPS if side == "mri" else HISTOLOGY_MAPS).get(param, ("1", ""))[0]
    middle = "" if side == "mri" and param in _WITHOUT_SIDE else f"_{side}"
    return f"{param}{middle}{unit_suffix(unit)}"


def unit_suffix(unit: str) -> str:
    """Return how the name of a column with this unit ends: ``unit_suffix("um^2/ms")`` is ``"_um2_ms"``."""
    return _MAP_SUFFIX.get(unit, "")


def latest_last(names: Iterable[str]) -> list[str]:
    """Return the columns in their order, but for `LATEST` and then those of errors, which come behind the others."""
    return sorted(names, key=lambda name: 2 if name.endswith((STAT, SYST)) else int(name.startswith(LATEST)))


def registration_sd(name: str) -> str:
    """Return the column with the standard deviation that the registration gives a mean, as of ``vCS_histo_um``."""
    return f"{REGISTRATION}sd_{name}"


def errors_of(names: Iterable[str], table: Iterable[str]) -> list[str]:
    """Return the columns of errors that a table has of some columns."""
    known = set(table)
    return [f"{name}{end}" for name in names for end in (STAT, SYST) if f"{name}{end}" in known]


def describe_maps() -> dict[str, dict[str, str]]:
    """Return unit and meaning of the column of every map."""
    mri = {column_of(name, "mri"): about for name, about in MRI_MAPS.items()}
    histology = {column_of(name, "histo"): about for name, about in HISTOLOGY_MAPS.items()}
    return {column: {"Units": unit, "Description": text} for column, (unit, text) in (mri | histology).items()}


_OF_MAPS = {name: entry["Units"] for name, entry in describe_maps().items()}


def unit_of(name: str) -> str | None:
    """Return the unit in the name of a column, as sidecars write it (um, mm^3, 1); None if there is none."""
    for ending in _WAYS:
        name = name.removesuffix(ending)
    name = name.removeprefix(f"{REGISTRATION}sd_")
    if name in _OF_MAPS:
        return _OF_MAPS[name]
    unit = next((unit for ending, unit in _SUFFIXES.items() if name.endswith(ending)), None)
    is_density = unit in ("mm^2", "mm^3") and any(word in name.lower() for word in ("cd_", "density", "cells"))
    return unit.replace("^", "^-") if unit is not None and is_density else unit


def shown_unit(name: str) -> str:
    """Return the unit of a column as people write it (µm, cells/mm²); empty for pure numbers and where not known."""
    unit = unit_of(name) or ""
    return _SHOWN.get(unit, unit)


def unit_text(name: str) -> str:
    """Return the unit of a column to put behind a number: `shown_unit`, with a space before it if there is one."""
    return f" {shown_unit(name)}".rstrip()


def title_of(name: str) -> str:
    """Return what a column is called on axes: its title, or its name without the unit that stands beside it."""
    ending = next((ending for ending, unit in _SUFFIXES.items() if unit != "1" and name.endswith(ending)), "")
    return (TITLES | _LATEST_TITLES).get(name) or name.removesuffix(ending).replace("_", " ").replace("Ki67", "Ki-67")


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
        "registration_verdict": {"Description": "Verdict of the registration: good, check or failed"},
        "registration_drive": {"Description": "What section and MRI were matched by: outline, landmarks, .."},
        "registration_error_mm": {"Units": "mm", "Description": "Expected error of the registration, median of tissue"},
        "registration_slice": {"Units": "1", "Description": "MRI slice that the section was laid on, from 0"},
        "pairing": {"Description": "voxels: registered, voxel by voxel; means: of whole samples, without registration"},
    }
    for name in ("vCS_histo_um", "F_histo", "CD_histo_mm2"):
        text = f"Standard deviation that the registration alone gives the mean {name} of the sample"
        known[registration_sd(name)] = {"Units": describe_maps()[name]["Units"], "Description": text}
    for criterion in ("BIC", "AIC"):
        vote = f"Share of the voxels in which this model has the lowest {criterion} of all models of its strategy"
        best = f"Whether this model has the largest {criterion}_vote of its sample and strategy"
        known |= {f"{criterion}_vote": {"Units": "1", "Description": vote}, f"{criterion}_best": {"Description": best}}
    for axis in "ijk":
        known[axis] = {"Units": "1", "Description": f"Voxel index {axis} of the MRI"}
    for axis in "xyz":
        known[f"{axis}_mm"] = {"Units": "mm", "Description": f"World coordinate {axis} of the MRI (RAS+)"}
    return {**known, **describe_maps()}


def describe_column(name: str, known: Mapping[str, dict[str, str]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return unit and meaning of a column; `given` says more of one that alone may mean several things."""
    for ending, how in _WAYS.items():
        if name.endswith(ending) and (base := name.removesuffix(ending)) in known:
            entry = describe_column(base, known, given)
            return {**entry, "Description": f"{how}: {entry['Description']}"}
    if name in known:
        own = given.get(name, {}).get("Description")
        return {**known[name], "Description": own} if own else known[name]
    unit = unit_of(name)
    own = {"Description": "Given with the samples"} | ({"Units": unit} if unit is not None else {})
    return own | dict(given.get(name, {}))


def join_descriptions(tables: Iterable[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return what the sidecars of several tables say of their columns, together."""
    joined: dict[str, dict[str, Any]] = {}
    for described in tables:
        for name, entry in described.items():
            before = joined.setdefault(name, {})
            units = before.get("Units"), entry.get("Units")
            if None not in units and units[0] != units[1]:
                raise UnitError(f"column '{name}' is in '{units[0]}' and '{units[1]}'", hint="convert one of them")
            texts = [one for one in (before.get("Description"), entry.get("Description")) if one]
            before.update(entry)
            if name in _OF_MAPS and len(set(texts)) > 1:  # of samples that were outlined in different ways
                before["Description"] = texts[0] if texts[1] in texts[0].split("; or ") else "; or ".join(texts)
    return joined


def check_sidecar(table: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return what the sidecar of a table says of its columns; UnitError if a unit is another than that of the name."""
    sidecar = table.with_suffix(".json")
    content = read_json(sidecar, "sidecar") if sidecar.exists() else {}
    columns = content.get("Columns") if isinstance(content, Mapping) else None
    entries = columns.items() if isinstance(columns, Mapping) else ()
    described = {str(name): dict(entry) for name, entry in entries if isinstance(entry, Mapping)}
    for name in names:
        given = described.get(str(name), {}).get("Units")
        if given is not None and (expected := contradicted(str(name), str(given))):
            problem = f"says that column '{name}' of {table.name} is in '{given}', and its name says '{expected}'"
            raise UnitError(problem, path=sidecar, hint="convert the column, or give it the name of its unit")
    return described


def contradicted(name: str, given: str) -> str | None:
    """Return the unit in the name of a column if another is given; None if they agree, or the name has none."""
    expected = unit_of(name)
    if expected is None:
        return None
    stated, wanted = _plain(given), _plain(expected)
    if name not in _OF_MAPS:  # of cells_mm2 it is not known whether they are counted or measured
        stated, wanted = stated.replace("^-", "^"), wanted.replace("^-", "^")
    return expected if stated != wanted else None


def _plain(unit: str) -> str:
    """Return a unit without the choices that spelling leaves."""
    text = unit.strip()
    for written, plain in {"µ": "u", "μ": "u", "²": "^2", "³": "^3", "⁻": "-", "cells/": "1/", " ": ""}.items():
        text = text.replace(written, plain)
    for power in "23":
        text = text.replace(f"m{power}", f"m^{power}").replace(f"1/mm^{power}", f"mm^-{power}")
    return _SAME.get(text, text)
