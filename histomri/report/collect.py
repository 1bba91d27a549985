"""Gather what a run has left in its folder; whatever is missing is said, not raised."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from histomri.analysis.prediction import BASES
from histomri.core.arrays import FloatArray
from histomri.core.errors import HistomriError, InputError
from histomri.core.files import read_json, require_file
from histomri.core.images import Image, read_sidecar
from histomri.core.orientation import View
from histomri.pairing import PairedTable
from histomri.pairing.folders import Fits, read_histology, read_mri
from histomri.pairing.grids import find_slice, onto_slice, require_same_grid, slice_of
from histomri.registration import Transform
from histomri.report.findings import TABLES, Findings, read_prediction, read_table
from histomri.report.sizes import PatchSizes, count_sizes, patches_of_section, patches_under

SHOWN = ("vCS", "F", "CD")
_READ = (*SHOWN, *(f"{name}_se" for name in SHOWN))  # with their standard errors
_RIM = 2  # empty voxels kept around the tissue
Key = tuple[str, str]  # model, strategy
_T = TypeVar("_T")


@dataclass
class Sample:
    """What there is to show of one sample.

    Attributes
    ----------
    record : dict
        Its entry in study.json.
    section : dict of str to ndarray
        Histology maps on their own grid, as pictures; standard errors as vCS_se and so on, here and below.
    on_mri : dict of str to ndarray
        The same on the MRI grid, as pictures.
    fits : dict of (model, strategy) to dict of str to ndarray
        Fitted maps of the slice, as pictures.
    common : dict of str to ndarray
        MRI maps of no model (ADC, K), as pictures.
    voxels : DataFrame or None
        The voxel table.
    section_view, mri_view : View or None
        How the pictures lie.
    sidecars : dict
        Settings of the histology and the MRI maps.
    sizes : PatchSizes or None
        Histograms of cell diameters by patch.
    missing : list of str
        What could not be shown, and why.
    by_means : bool
        Whether nothing was registered, and only means are compared.
    """

    record: dict[str, Any]
    section: dict[str, FloatArray] = field(default_factory=dict)
    on_mri: dict[str, FloatArray] = field(default_factory=dict)
    fits: dict[Key, dict[str, FloatArray]] = field(default_factory=dict)
    common: dict[str, FloatArray] = field(default_factory=dict)
    voxels: pd.DataFrame | None = None
    section_view: View | None = None
    mri_view: View | None = None
    mri_slice: int | None = None
    sidecars: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: PatchSizes | None = None
    missing: list[str] = field(default_factory=list)
    by_means: bool = False

    @property
    def id(self) -> str:
        """The sample's name."""
        return str(self.record.get("id", "?"))

    @property
    def failed(self) -> bool:
        """Whether a stage failed."""
        return self.record.get("status") == "failed"

    @property
    def registration(self) -> dict[str, Any]:
        """What registration says about itself; empty if there was none."""
        summary = self.record.get("summary") or {}
        return dict(summary.get("register") or {})


@dataclass
class Run:
    """What there is to show of a run."""

    folder: Path
    study: dict[str, Any]
    ranking: list[dict[str, Any]]
    pairs: pd.DataFrame | None
    samples: list[Sample]
    missing: list[str] = field(default_factory=list)
    scoring: dict[str, Any] = field(default_factory=dict)  # settings of the ranking
    scanners: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # the ranking of each, if several
    findings: Findings = field(default_factory=Findings)
    residuals: pd.DataFrame | None = None  # what the fits leave unexplained, over the voxels of all samples

    @property
    def measures(self) -> list[str]:
        """Names of the measurements that the study file gives by hand."""
        parameters = self.study.get("parameters")
        samples = parameters.get("samples") if isinstance(parameters, dict) else None
        given = [sample.get("measures") for sample in samples or [] if isinstance(sample, dict)]
        return list(dict.fromkeys(str(name) for each in given if isinstance(each, dict) for name in each))


def collect(folder: Path) -> Run:
    """Read a results folder.

    Raises
    ------
    InputError
        If it is no results folder: study.json is missing or not what a run writes.
    """
    if not folder.is_dir():
        raise InputError("no such folder", path=folder, hint="give the results folder of histomri run")
    record = folder / "study.json"
    if not record.exists():
        raise InputError("holds no study.json", path=folder, hint="give the results folder of histomri run")
    study = read_json(record, "record of the study")
    if not isinstance(study, dict) or not isinstance(study.get("samples"), list):
        raise InputError("is not the record of a study", path=record, hint="run the study again")
    if not study["samples"]:
        raise InputError("lists no samples", path=record, hint="name some in the study file and run it again")
    missing: list[str] = []
    scores: dict[str, Any] = _try(lambda: _scores(folder / "scores.json"), {}, missing, "No ranking of models")
    pairs = _try(lambda: PairedTable.load(folder / "pairs.csv").data, None, missing, "No table of samples")
    samples = [_sample(folder, entry) for entry in study["samples"]]
    models, scanners = scores.get("models", []), scores.get("scanners") or {}
    findings = _findings(folder / "statistics", missing)
    residuals = _try(lambda: _residuals(folder / "residuals.csv"), None, missing, "No residuals")
    settings = scores.get("Parameters", {})
    return Run(folder, study, models, pairs, samples, missing, settings, scanners, findings, residuals)


def _findings(folder: Path, missing: list[str]) -> Findings:
    tables, predictions = {}, {}
    for name in TABLES:
        tables[name] = _try(partial(read_table, folder, name), None, missing, "A table of statistics is not shown")
    for basis in BASES:
        read = partial(read_prediction, folder / f"prediction_{basis}")
        predictions[basis] = _try(read, None, missing, f"The {basis} prediction is not shown")
    return Findings(
        {name: table for name, table in tables.items() if table is not None},
        {basis: found for basis, found in predictions.items() if found is not None},
    )


def _scores(path: Path) -> dict[str, Any]:
    content = read_json(path, "ranking")
    if not isinstance(content, dict) or not isinstance(content.get("models"), list):
        raise InputError("is not a ranking of models", path=path)
    return content


def _try(read: Callable[[], _T], otherwise: _T, missing: list[str], what: str) -> _T:
    """Return what `read` gives; if it cannot, note why with the file's name and not its folder."""
    try:
        return read()
    except InputError as error:
        where = f"{Path(error.path).name}: " if error.path is not None else ""
        missing.append(f"{what} ({where}{error.problem}).")
    except HistomriError as error:
        missing.append(f"{what} ({error}).")
    return otherwise


def _sample(folder: Path, record: dict[str, Any]) -> Sample:
    sample = Sample(record)
    home = folder / f"sub-{sample.id}"
    if not home.is_dir():
        sample.missing.append(f"The folder sub-{sample.id} is not there.")
        return sample
    histology = _try(lambda: read_histology(home / "histo", errors=True)[0], None, sample.missing, "No histology maps")
    mri = _try(lambda: read_mri(home / "mri", errors=True)[:2], None, sample.missing, "No MRI maps")
    if histology:
        first = require_same_grid(histology, "histology")
        sample.section_view = View.of(first)
        section = {name: sample.section_view.show(histology[name].data) for name in _READ if name in histology}
        sample.section = _with_cells(section)
        sample.sidecars["histology"] = _settings(home / "histo", "histomap")
        settings = sample.sidecars["histology"]
        cells = home / "cells.parquet"
        sample.sizes = _try(
            lambda: count_sizes(cells, first, settings), None, sample.missing, "No histograms of cell size"
        )
        numbered = {"section": sample.section_view.show(patches_of_section(first))}
        _crop([sample.section, numbered])
        if sample.sizes is not None:
            sample.sizes.patches |= numbered
    if mri:
        _try(lambda: _place(sample, home, histology, *mri), None, sample.missing, "No maps on the MRI grid")
        sample.sidecars["fit"] = _settings(home / "mri", "dwimap")
    if mri and not sample.failed and not sample.on_mri and not (home / "xfm").exists():
        sample.missing = ["The section was not registered: its mean stands against the mean over the MRI region."]
        sample.by_means = True
    elif not sample.failed or (home / "pairs_voxel.csv").exists():
        table = _try(
            lambda: PairedTable.load(home / "pairs_voxel.csv").data, None, sample.missing, "No pairs of voxels"
        )
        sample.voxels = table
    return sample


def _place(
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
    sample.common = {name: picture(image) for name, image in common.items()}
    if histology and problem is None:
        shown = {name: histology[name] for name in _READ if name in histology}
        laid = {name: view.show(onto_slice(image, like, transform)[0]) for name, image in shown.items()}
        sample.on_mri = _with_cells(laid)
    numbered = {}
    if sample.sizes is not None and histology and problem is None:
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
    return (_fullest(reference) if k is None else int(k)), problem


def _with_cells(maps: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Blank patches without cells: their F and CD of 0 would paint the glass beside the section."""
    if "vCS" not in maps:
        return maps
    known = np.isfinite(maps["vCS"])
    return {name: np.where(known, data, np.nan) for name, data in maps.items()}


def _crop(layers: list[dict[str, FloatArray]]) -> None:
    """Cut the empty rim off all pictures of one grid alike; what is empty is decided by cell size."""
    known = [np.isfinite(maps["vCS"]) for maps in layers if "vCS" in maps]
    used = np.any(known, axis=0) if known else np.zeros((1, 1), bool)
    if not used.any():
        return
    rows, columns = (np.flatnonzero(used.any(axis=axis)) for axis in (1, 0))
    part = tuple(slice(max(line[0] - _RIM, 0), line[-1] + _RIM + 1) for line in (rows, columns))
    for maps in layers:
        for name, picture in maps.items():
            maps[name] = picture[part]


def _fullest(image: Image) -> int:
    """Return the slice with the most measured voxels."""
    return int(np.isfinite(image.data).sum(axis=(0, 1)).argmax()) if image.data.ndim == 3 else 0


def _residuals(path: Path) -> pd.DataFrame | None:
    """Return the statistics of what the fits leave over; None if there are none."""
    if not path.exists():
        return None
    table = pd.read_csv(
        require_file(path, "table of residuals"), dtype={"scanner": str}, keep_default_na=False, na_values=[""]
    )
    if not {"scanner", "model", "strategy", "b_smm2", "Delta_ms", "te_ms", "n", "q25", "median", "q75"} <= {
        *table.columns
    }:
        raise InputError("is no table of residuals", path=path)
    return table


def _settings(folder: Path, suffix: str) -> dict[str, Any]:
    """Return the settings in the sidecar of a vCS map below a folder, or of any other map there."""
    files = sorted(folder.rglob(f"*_{suffix}.nii.gz"), key=lambda path: ("param-vCS" not in path.name, path.name))
    for path in files:
        sidecar = read_sidecar(path)
        if sidecar.get("Parameters"):
            return {**sidecar["Parameters"], **{key: sidecar[key] for key in ("BMin",) if key in sidecar}}
    return {}
