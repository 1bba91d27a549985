"""Fits of the mean signals of regions of interest: what single voxels are too noisy for, as a table."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.columns import unit_suffix
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json
from histomri.core.formulas import without_formulas
from histomri.core.images import MRI_MAPS, map_name
from histomri.fitting import T2IVIM_UNITS, FitResult
from histomri.fitting.results import AT_BOUND
from histomri.fitting.robust import freedom
from histomri.fitting.tissue_mean import MeanVerdict
from histomri.mri import Acquisition, LabelMeans, SpoiltVolume
from histomri.mri.labels import Labels, mean_of_labels
from histomri.mri.series import Series

_QUALITY = ("cost", "logL", "BIC", "AIC", "chi2", "pMisfit", "dropped", "exit", "start")
_MOST = 5
_COLUMNS = {
    "label": ("1", "Number of the region in the label image"),
    "name": ("", "Name of the region"),
    "model": ("", "Signal model"),
    "strategy": ("", "Measurements fitted: whole, high-b or custom (another b threshold)"),
    "bmin_smm2": ("s/mm^2", "Measurements with b above this were fitted"),
    "n_voxels": ("1", "Voxels averaged"),
    "n_left_out": ("1", "Voxels of the label not averaged: outside the mask, without signal, or of spoilt slices"),
    "measurements": ("1", "Measurements fitted"),
    "dof": ("1", "Degrees of freedom of chi2: measurements less free parameters"),
    "at_bound": ("", "Parameters at their bound, which have no standard error"),
    "verdict": ("", "Whether one T2 without exchange describes the mean signal"),
    "verdict_p": ("1", "Probability of a larger misfit if it does"),
}
_VERDICTS = {None: "not judged", False: "one T2 without exchange", True: "two T2s or exchange"}


def read_means(
    path: Path | None, names: Path | None, series: Series, signals: FloatArray, sigma: Any,
    spoilt: Iterable[SpoiltVolume] = (),
) -> LabelMeans | None:  # fmt: skip
    """Read a label image, and average signals, (V, M), over its labels; None where there is no image."""
    if path is None:
        return None
    regions = Labels.read(path, series.images, names)
    try:
        means = mean_of_labels(signals, sigma, regions, series.inside, spoilt=spoilt, volumes=series.volumes)
    except InputError as error:
        raise InputError(error.problem, path=path, hint=error.hint) from error
    return LabelMeans(**{**vars(means), "warnings": (*regions.warnings, *means.warnings)})


def fit_means(
    means: LabelMeans, acquisition: Acquisition, fit: Callable[..., FitResult], **per_label: FloatArray | None
) -> FitResult:
    """Fit the means of regions, as if each were a voxel of its own noise level; volumes left out are not fitted.

    `fit` takes signals, protocol, `sigma` and what is given per label, (L,), by name, such as s0.
    """
    patterns, which = np.unique(means.kept, axis=0, return_inverse=True)
    maps, last = dict[str, FloatArray](), FitResult("", {})
    for k, pattern in enumerate(patterns):
        some = np.flatnonzero(np.ravel(which) == k)
        given = {name: None if values is None else values[some] for name, values in per_label.items()}
        last = fit(means.signals[some][:, pattern], acquisition.select(pattern), sigma=means.sigma[some], **given)
        for name, values in last.maps.items():
            maps.setdefault(name, np.full(len(means), np.nan))[some] = values
        count = maps.setdefault("measurements", np.full(len(means), np.nan))
        count[some] = last.parameters.get("measurements", pattern.sum())
    return FitResult(last.model, maps, last.parameters, last.warnings)


def fit_labels(
    means: LabelMeans | None, series: Series, title: str, fit: Callable[..., FitResult]
) -> "RegionFits | None":
    """Fit the means of regions by one model; None where there are none."""
    if means is None:
        return None
    return RegionFits(means, ((title, fit_means(means, series.acquisition, fit)),))


def roi_table(model: str | None, sub: str | None) -> str:
    """Return the name of the file with the table of regions."""
    stem = map_name("x", "dwimap", sub=sub, model=model)
    return stem.replace("param-x_dwimap.nii.gz", "roi.csv")


@dataclass(frozen=True, repr=False)
class RegionFits(Displayed):
    """Fits of the means of regions, by model and strategy, and the verdicts on their signals."""

    means: LabelMeans
    fits: tuple[tuple[str, FitResult], ...]  # the model's name as printed, and its fit
    verdicts: tuple[MeanVerdict | None, ...] = ()
    first: FitResult | None = None  # of the T2-IVIM step
    settings: Mapping[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return regions and fits."""
        return {"regions": ", ".join(self.means.titles), "fits": ", ".join(each.model for _, each in self.fits)}

    def to_pandas(self) -> pd.DataFrame:
        """Return the table: a row per label, model and strategy, and a column per parameter of any of the models.

        A parameter that the model of a row does not have is empty, as is everything of a label that was not fitted.
        """
        parts = [self._rows(result) for _, result in self.fits]
        names = list(dict.fromkeys(name for part in parts for name in part))
        quality = [name for name in names if name in (*_QUALITY, "dof", "at_bound")]
        start = [name for name in names if name in _COLUMNS and name not in quality]
        values = [name for name in names if name not in (*quality, *start)]
        table = pd.concat(parts, ignore_index=True)[[*start, *values, *quality]]
        if self.verdicts:
            notes = [_VERDICTS[None if each is None else each.suspect] for each in self.verdicts]
            table["verdict"] = notes * len(parts)
            table["verdict_p"] = [np.nan if each is None else each.p for each in self.verdicts] * len(parts)
        order = np.argsort(np.tile(np.arange(len(self.means)), len(parts)), kind="stable")
        return table.iloc[order].reset_index(drop=True)

    @property
    def messages(self) -> tuple[str, ...]:
        """A line on what was fitted."""
        done = max((result.counts["fitted"] + result.counts["at_bound"] for _, result in self.fits), default=0)
        what = ", ".join(dict.fromkeys(f"{title}{_how(result)}" for title, result in self.fits))
        return (f"regions: the means of {done} of {len(self.means)} labels fitted ({what})",)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which labels were not fitted, and where two T2s or exchange bias the results."""
        notes = [
            f"{title}: {each.words()}"
            for title, each in zip(self.means.titles, self.verdicts)
            if each is not None and each.suspect
        ]
        more = (
            (f"two T2s or exchange in {len(notes) - _MOST} more labels; see the table",) if len(notes) > _MOST else ()
        )
        return (*self.means.warnings, *notes[:_MOST], *more)

    def save(self, path: Path, sources: Iterable[Path] = ()) -> list[Path]:
        """Write the table as CSV, and units, settings and verdicts as JSON beside it; return both files."""
        table = self.to_pandas()
        with atomic_path(path) as temporary:
            without_formulas(table).to_csv(temporary, index=False, float_format="%.9g")
        means = self.means
        labels: list[dict[str, Any]] = [
            {"Label": int(label), "Name": name, "Voxels": int(count), "LeftOut": int(left), "Sigma": float(level)}
            for label, name, count, left, level in zip(
                means.labels, means.names, means.voxels, means.left_out, means.sigma
            )
        ]
        for entry, each in zip(labels, self.verdicts):
            entry["Mean"] = None if each is None else each.record()
        columns = {name: _described(name) for name in table}
        about: dict[str, Any] = {
            "Labels": labels,
            "Columns": columns,
            "Models": [dict(r.parameters) for _, r in self.fits],
        }
        about["VascularStep"] = None if self.first is None else self.first.parameters
        return [path, write_json(path.with_suffix(".json"), {**about, **provenance(sources, self.settings)})]

    def _rows(self, result: FitResult) -> pd.DataFrame:
        settings, means, maps = result.parameters, self.means, result.maps
        rows: dict[str, Any] = {
            "label": means.labels, "name": means.names, "model": result.model,
            "strategy": settings.get("strategy", ""), "bmin_smm2": settings.get("bmin_smm2", np.nan),
            "n_voxels": means.voxels, "n_left_out": means.left_out, "measurements": maps["measurements"],
        }  # fmt: skip
        for name, values in maps.items():
            param, _, stat = name.rpartition("_")
            if name not in (*_QUALITY, "measurements", *settings.get("nuisance", ())) and not (
                stat == "se" and param in maps
            ):
                rows[_column(name)] = values
                if f"{name}_se" in maps:
                    rows[_column(name, "_se")] = maps[f"{name}_se"]
        rows |= {name: maps[name] for name in _QUALITY if name in maps}
        fitted = [name for name in settings["bounds"] if f"{name}_se" in maps]
        if "chi2" in maps:
            degrees = freedom(maps, tuple(fitted), maps["measurements"].astype(int))
            rows["dof"] = np.where(maps["exit"] > 0, degrees, np.nan)
        held = {name: (maps["exit"] == AT_BOUND) & ~np.isfinite(maps[f"{name}_se"]) for name in fitted}
        rows["at_bound"] = ["; ".join(name for name in fitted if held[name][k]) for k in range(len(means))]
        return pd.DataFrame(rows)


def _how(result: FitResult) -> str:
    strategy = result.parameters.get("strategy")
    return f" {strategy}" if strategy else ""


def _unit(name: str) -> str:
    return MRI_MAPS.get(name, T2IVIM_UNITS.get(name, ("1", "")))[0]


def _column(name: str, stat: str = "") -> str:
    """Return the column of a parameter, or of its standard error: with its unit, as ``vCS_se_um``."""
    return f"{name}{stat}{unit_suffix(_unit(name))}"


def _described(column: str) -> dict[str, str]:
    if column in _COLUMNS:
        unit, text = _COLUMNS[column]
        return {"Units": unit, "Description": text} if unit else {"Description": text}
    known = {**T2IVIM_UNITS, **MRI_MAPS}
    for name, (unit, text) in known.items():
        if column == name or column == _column(name):
            return {"Units": unit, "Description": text}
        if column == _column(name, "_se"):
            return {"Units": unit, "Description": f"Standard error of: {text}"}
    return {"Description": column}
