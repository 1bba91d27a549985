"""Read what a run has left in its folder; whatever is missing or damaged is noted, not raised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.influence import INFLUENCE_COLUMNS
from histomri.analysis.prediction import BASES
from histomri.core.arrays import FloatArray
from histomri.core.columns import TITLES
from histomri.core.display import Displayed
from histomri.core.door import reading
from histomri.core.errors import HistomriError, InputError
from histomri.core.files import read_json
from histomri.core.formulas import with_names
from histomri.core.images import Image, read_sidecar
from histomri.core.orientation import View
from histomri.pairing import PairedTable
from histomri.pairing.maps import Fits, find_slice, onto_slice, read_mri, require_same_grid, slice_of
from histomri.pairing.section import read_section
from histomri.registration import Transform
from histomri.report.guard import attempt
from histomri.report.misfit import Described, read_misfit
from histomri.report.pictures import PatchSizes, count_sizes, patches_of_section, patches_under

SHOWN = ("vCS", "F", "CD")
_COUNT = "CDsphere_mri_mm3"
_READ = (*SHOWN, "CDsphere", *(f"{name}_se" for name in (*SHOWN, "CDsphere")))  # with their standard errors
_RIM = 2  # empty voxels kept around the tissue
_RANKING = ("model", "strategy", "n", "TCS", "TCS_ci", "r_vCS", "r_F", "HFC_mean", "HFC_wins", "BIC_share", "p_best")
_RESIDUALS = ("scanner", "model", "strategy", "b_smm2", "Delta_ms", "te_ms", "n", "q25", "median", "q75")
Key = tuple[str, str]  # model, strategy
_CASE = ("model", "strategy")
_TEXT = ("sample", "left_out", "unit", "group_a", "group_b", "note", "scanner", *_CASE)
# Columns that are drawn, by table.
TABLES: Mapping[str, tuple[str, ...]] = {
    "correlations": ("x", "y", "kind", "r", "p", "n", "note"),
    "comparisons": ("column", "group_a", "group_b", "p_welch", "q_welch", "hedges_g", "note"),
    "agreement": (
        *("first", "second", "n", "bias", "bias_low", "bias_high", "lower", "lower_low", "lower_high"),
        *("upper", "upper_low", "upper_high", "slope", "slope_low", "slope_high", "p_slope", "relative"),
    ),
    "bias_by_size": ("first", "second", "size_from", "size_to", "n", "bias", "bias_low", "bias_high"),
    "regression": ("response", "term", "beta", "ci_low_hc3", "ci_high_hc3", "p_hc3", "VIF"),
    "regression_models": ("response", "n", "r2"),
}


@dataclass(frozen=True)
class Predicted:
    """A prediction over cases: its record, its cases, and the fitted surface."""

    record: dict[str, Any]
    cases: pd.DataFrame
    surface: pd.DataFrame

    @property
    def settings(self) -> dict[str, Any]:
        """How it was made: x, y, target, basis, folds, group_by, model, strategy."""
        return dict(self.record["Parameters"])


@dataclass(frozen=True)
class Findings:
    """The tables of a run's statistics, by name, and its predictions, by basis; whatever there is."""

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    predictions: dict[str, Predicted] = field(default_factory=dict)

    def of(self, name: str, key: tuple[str, str]) -> pd.DataFrame | None:
        """Return the rows of a table of a model and strategy; None if there are none."""
        table = self.tables.get(name)
        for column, wanted in zip(_CASE, key):
            if table is not None and column in table:
                table = table[table[column] == wanted]
        return table if table is not None and len(table) else None


@dataclass(repr=False)
class Sample(Displayed):
    """The results of one sample; maps are pictures, standard errors among them as vCS_se and so on."""

    record: dict[str, Any]  # its entry in study.json
    section: dict[str, FloatArray] = field(default_factory=dict)  # histology maps on their own grid
    on_mri: dict[str, FloatArray] = field(default_factory=dict)  # the same on the MRI grid
    fits: dict[Key, dict[str, FloatArray]] = field(default_factory=dict)  # fitted maps of the slice
    common: dict[str, FloatArray] = field(default_factory=dict)  # MRI maps of no model (ADC, K)
    voxels: pd.DataFrame | None = None
    section_view: View | None = None  # how the pictures of the section lie
    mri_view: View | None = None
    mri_slice: int | None = None
    sidecars: dict[str, dict[str, Any]] = field(default_factory=dict)  # settings of the histology and the MRI maps
    sizes: PatchSizes | None = None
    misfit: list[Described] = field(default_factory=list)  # how well each fit describes the signals
    missing: list[str] = field(default_factory=list)  # what could not be shown, and why
    by_means: bool = False  # nothing was registered: only means are compared
    size: str | None = None  # which histology this is: paper or volume

    @property
    def id(self) -> str:
        """The sample's name."""
        return str(self.record.get("id", "?"))

    @property
    def failed(self) -> bool:
        """Whether a step failed."""
        return self.record.get("status") == "failed"

    @property
    def registration(self) -> dict[str, Any]:
        """The summary of the registration; empty if there was none."""
        return as_dict(as_dict(self.record.get("summary")).get("register"))

    def facts(self) -> dict[str, str]:
        """Return name, status and fits."""
        fits = ", ".join("/".join(key) for key in self.fits) or "none"
        return {"id": self.id, "status": "failed" if self.failed else "ok", "fits": fits}


@dataclass(repr=False)
class Run(Displayed):
    """The results of a study."""

    folder: Path
    study: dict[str, Any]
    ranking: list[dict[str, Any]]
    pairs: pd.DataFrame | None
    samples: list[Sample]
    missing: list[str] = field(default_factory=list)
    scoring: dict[str, Any] = field(default_factory=dict)  # settings of the ranking
    scanners: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # the ranking of each, if several
    findings: Findings = field(default_factory=Findings)
    residuals: pd.DataFrame | None = None  # of the fits, over the voxels of all samples
    strategies: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # the ranking within each, if several
    influence: pd.DataFrame | None = None  # of each sample, or patient, on the ranking
    verdicts: list[dict[str, Any]] = field(default_factory=list)  # whether TCS, HFC and BIC contradict each other
    comparisons: list[dict[str, Any]] = field(default_factory=list)  # tests of the models against each other
    size: str | None = None  # which histology is compared with MRI: paper or volume

    @property
    def measures(self) -> list[str]:
        """Names of the measurements that the study file gives by hand."""
        given = [as_dict(sample.get("measures")) for sample in self.parameters]
        return list(dict.fromkeys(str(name) for each in given for name in each))

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """The settings of each sample."""
        parameters = as_dict(self.study.get("parameters"))
        samples = parameters.get("samples", [parameters] if parameters else [])
        return [entry for entry in as_list(samples) if isinstance(entry, dict)]

    def facts(self) -> dict[str, str]:
        """Return name, samples and the model that ranks first."""
        first = "/".join(str(self.ranking[0][name]) for name in ("model", "strategy")) if self.ranking else "no ranking"
        return {"study": str(self.study.get("name")), "samples": str(len(self.samples)), "first": first}


def as_dict(value: Any) -> dict[str, Any]:
    """Return a part of a record that should be a mapping; empty if it is none."""
    return dict(value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a part of a record that should be a list; empty if it is none."""
    return list(value) if isinstance(value, list) else []


def collect(folder: str | Path) -> Run:
    """Read a results folder.

    Raises
    ------
    InputError
        If it is no results folder: study.json is missing or not what a run writes.
    """
    folder = Path(folder)
    record = folder / "study.json"
    if not record.exists():
        problem = "holds no study.json" if folder.is_dir() else "no such folder"
        raise InputError(problem, path=folder, hint="give the results folder of histomri run")
    study = read_json(record, "record of the study")
    if not isinstance(study, dict) or not isinstance(study.get("samples"), list):
        raise InputError("is not the record of a study", path=record, hint="run the study again")
    if not study["samples"]:
        raise InputError("lists no samples", path=record, hint="name some in the study file and run it again")
    missing: list[str] = []
    scores: dict[str, Any] = attempt(lambda: _scores(folder / "scores.json"), {}, missing, "No ranking of models")
    pairs = attempt(lambda: _pairs(folder / "pairs.csv", ("sample",)), None, missing, "No table of samples")
    samples = [_sample(folder, entry) for entry in study["samples"]]
    sizes = {sample.size for sample in samples if sample.size is not None}
    csv = folder / "residuals.csv"
    residuals = attempt(lambda: read_columns(csv, _RESIDUALS), None, missing, "No residuals") if csv.exists() else None
    one, what = folder / "scores_influence.csv", "No influence of single samples"
    influence = attempt(lambda: read_columns(one, INFLUENCE_COLUMNS), None, missing, what) if one.exists() else None
    return Run(
        folder, study, scores.get("models", []), pairs, samples, missing, as_dict(scores.get("Parameters")),
        as_dict(scores.get("scanners")), _findings(folder / "statistics", missing), residuals,
        as_dict(scores.get("strategies")), influence,
        as_list(scores.get("criteria")), as_list(scores.get("comparisons")),
        sizes.pop() if len(sizes) == 1 else None,
    )  # fmt: skip


def _scores(path: Path) -> dict[str, Any]:
    content = as_dict(read_json(path, "ranking"))
    parts = [as_dict(content.get(name)).values() for name in ("scanners", "strategies")]
    rankings = [content.get("models"), *parts[0], *parts[1]]
    if not all(isinstance(rows, list) and all(set(_RANKING) <= set(as_dict(row)) for row in rows) for rows in rankings):
        raise InputError("is not a ranking of models", path=path)
    return content


def _pairs(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    table = PairedTable.load(path).data
    if lacking := [name for name in ("model", "strategy", *columns) if name not in table]:
        raise InputError(f"has no column '{lacking[0]}'", path=path)
    table = table.astype({name: float for name in TITLES if name in table})  # text in them is an error
    if "CD_mri_mm3" in table and _COUNT not in table:  # written before there was such a column
        table[_COUNT] = 6 / np.pi * table["CD_mri_mm3"]
    return table


def _findings(folder: Path, missing: list[str]) -> Findings:
    def read(what: str, make: Callable[..., Any], path: Path, *columns: Any) -> Any:
        return attempt(partial(make, path, *columns), None, missing, what) if path.exists() else None

    what = "A table of statistics is not shown"
    tables = {name: read(what, read_columns, folder / f"{name}.csv", columns) for name, columns in TABLES.items()}
    records = {basis: folder / f"prediction_{basis}" / "prediction.json" for basis in BASES}
    found = {name: read(f"The {name} prediction is not shown", read_prediction, path) for name, path in records.items()}
    return Findings(*({name: each for name, each in some.items() if each is not None} for some in (tables, found)))


def _sample(folder: Path, record: Any) -> Sample:
    sample = Sample(as_dict(record))
    home = folder / f"sub-{sample.id}"
    if not isinstance(record, dict) or not home.is_dir():
        damaged, absent = "Its record in study.json is damaged.", f"The folder sub-{sample.id} is not there."
        sample.missing.append(absent if isinstance(record, dict) else damaged)
        return sample

    def read(make: Callable[[], Any], what: str) -> Any:
        return attempt(make, None, sample.missing, what)

    section = read(lambda: read_section(home / "histo", errors=True), "No histology maps")
    histology = _with_density(section.maps) if section is not None else None
    sample.size = section.size if section is not None else None
    mri = read(lambda: read_mri(home / "mri", errors=True)[:2], "No MRI maps")
    if histology:
        sample.sidecars["histology"] = section.settings
        numbered = read(lambda: _place_section(sample, histology), "No histology maps")
        if numbered is not None:
            about = next(iter(histology.values())), sample.sidecars["histology"], numbered
            sample.sizes = read(lambda: count_sizes(home / "cells.parquet", *about), "No histograms of cell size")
    if mri:
        read(lambda: _place_mri(sample, home, histology, *mri), "No maps on the MRI grid")
        sample.misfit = read(lambda: read_misfit(home / "mri"), "No account of how well the models fit") or []
        sample.sidecars["fit"] = read(lambda: _settings(home / "mri", "dwimap"), "No settings of maps") or {}
    if mri and not sample.failed and not sample.on_mri and not (home / "xfm").exists():
        sample.missing = ["The section was not registered: its mean stands against the mean over the MRI region."]
        sample.by_means = True
    elif not sample.failed or (home / "pairs_voxel.csv").exists():
        sample.voxels = read(lambda: _pairs(home / "pairs_voxel.csv", ("at_bound", *"ijk")), "No pairs of voxels")
    return sample


def _with_density(maps: dict[str, Image]) -> dict[str, Image]:
    """Return the maps with the density that is shown as CD: per volume, where cells were measured in 3D."""
    density = next((name for name in ("CD", "cellNV", "nucleiNV") if name in maps), None)
    pairs = ((f"CD{end}", f"{density}{end}") for end in ("", "_se"))
    return {**maps, **{name: maps[source] for name, source in pairs if source in maps}}


def _place_section(sample: Sample, histology: dict[str, Image]) -> dict[str, FloatArray]:
    """Set the maps of the section as pictures, and return the number of the patch under each of their pixels."""
    first = require_same_grid(histology, "histology")
    view = View.of(first)
    maps = _with_cells({name: view.show(histology[name].data) for name in _READ if name in histology})
    numbered = {"section": view.show(patches_of_section(first))}
    _crop([maps, numbered])
    sample.section_view, sample.section = view, maps
    return numbered


def _place_mri(
    sample: Sample, home: Path, histology: dict[str, Image] | None, fits: Fits, common: dict[str, Image]
) -> None:
    """Cut the slice out of the MRI maps, and bring the histology onto it."""
    reference = next(iter(next(iter(fits.values())).values()))
    files = sorted((home / "xfm").glob("*_xfm.json"))
    transform = Transform.load(files[0]) if files else None
    k, problem = _slice_for(sample, histology, reference, transform)
    like = slice_of(reference, k if reference.data.ndim == 3 else None)
    view = View.of(like)
    sample.mri_view, sample.mri_slice = view, k

    def picture(image: Image) -> FloatArray:
        return view.show(slice_of(image, k if image.data.ndim == 3 else None).data)

    sample.fits = {key: _tissue({name: picture(image) for name, image in maps.items()}) for key, maps in fits.items()}
    for fitted in sample.fits.values():
        for name in ("CD", "CD_se"):
            if name in fitted:
                fitted.setdefault(name.replace("CD", "CDsphere"), 6 / np.pi * fitted[name])
    sample.common = {name: picture(image) for name, image in common.items()}
    numbered = {}
    if histology and problem is None:
        shown = {name: onto_slice(histology[name], like, transform)[0] for name in _READ if name in histology}
        sample.on_mri = _with_cells({name: view.show(data) for name, data in shown.items()})
        if sample.sizes is not None:
            numbered = {"mri": view.show(patches_under(like, next(iter(histology.values())), transform))}
    _crop([sample.on_mri, *sample.fits.values(), sample.common, numbered])
    if sample.sizes is not None:
        sample.sizes.patches |= numbered
    if problem is not None:
        raise problem


def _tissue(maps: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Blank the voxels that were not fitted in the maps that are shown."""
    if "exit" not in maps:
        return maps
    fitted = np.isin(maps["exit"], (1, 2))
    return {name: np.where(fitted, data, np.nan) if name in _READ else data for name, data in maps.items()}


def _slice_for(
    sample: Sample, histology: dict[str, Image] | None, reference: Image, transform: Transform | None
) -> tuple[int, HistomriError | None]:
    """Return the slice to show, and why the histology cannot be shown on it, if so."""
    k = sample.record.get("mri_slice")
    problem: HistomriError | None = None
    if histology and (k is None or transform is None):
        try:
            k = find_slice(next(iter(histology.values())), reference, transform)
        except HistomriError as error:
            problem = error
    if k is None:  # the slice with the most voxels
        k = np.isfinite(reference.data).sum(axis=(0, 1)).argmax() if reference.data.ndim == 3 else 0
    return int(k), problem


def _with_cells(maps: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Blank patches without cells: their F and CD of 0 would paint the glass beside the section."""
    known = np.isfinite(maps["vCS"]) if "vCS" in maps else True
    return {name: np.where(known, data, np.nan) for name, data in maps.items()}


def _crop(layers: list[dict[str, FloatArray]]) -> None:
    """Cut the empty rim off all pictures of one grid alike; cell size decides where it is empty."""
    known = [np.isfinite(maps["vCS"]) for maps in layers if "vCS" in maps]
    used = np.any(known, axis=0) if known else np.zeros((1, 1), bool)
    if not used.any():
        return
    rows, columns = (np.flatnonzero(used.any(axis=axis)) for axis in (1, 0))
    part = tuple(slice(max(line[0] - _RIM, 0), line[-1] + _RIM + 1) for line in (rows, columns))
    for maps in layers:
        for name, picture in maps.items():
            maps[name] = picture[part]


def _settings(folder: Path, suffix: str) -> dict[str, Any]:
    """Return the settings in the sidecar of a vCS map below a folder, or of any other map there."""
    files = sorted(folder.rglob(f"*_{suffix}.nii.gz"), key=lambda path: ("param-vCS" not in path.name, path.name))
    for sidecar in map(read_sidecar, files):
        if parameters := as_dict(sidecar.get("Parameters")):
            return parameters | ({"BMin": sidecar["BMin"]} if "BMin" in sidecar else {})
    return {}


def read_prediction(path: Path) -> Predicted:
    """Return a prediction from prediction.json and the tables beside it."""
    folder, record = path.parent, read_json(path, "prediction")
    settings = record.get("Parameters") if isinstance(record, dict) else None
    if not isinstance(settings, dict) or not {"x", "y", "target", "basis"} <= settings.keys():
        raise InputError("is not the record of a prediction", path=path, hint="run the study again")
    needed = (settings["x"], settings["y"], "predicted")
    cases = read_columns(folder / "predictions.csv", (*needed, settings["target"], "fold"))
    return Predicted(record, cases, read_columns(folder / "prediction_surface.csv", (*needed, "low", "high", "inside")))


def read_columns(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    """Return a table of a run; InputError if it lacks a column that is needed."""
    with reading(path, "table", "run the study again", "cannot be read as a table"):
        # A group may be called "NA" or "none": only an empty cell is missing.
        table = pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values=[""])
        table = with_names(table)
    if lacking := [name for name in needed if name not in table]:
        raise InputError(f"has no column '{lacking[0]}'", path=path, hint="run the study again")
    if "note" in table:
        table["note"] = table["note"].fillna("")
    return table
