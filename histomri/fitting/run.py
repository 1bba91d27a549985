"""All fits of one scan, from options to files: the plan, the scan that is read once, and the results."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.images import map_name, read_sidecar
from histomri.core.presets import choose_preset, get_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, FitResult, Model, ProtocolBound, Residuals, bootstrap, fit, residuals
from histomri.fitting.bounds import parse_bounds
from histomri.fitting.choices import (
    choose_measurements,
    choose_noise,
    choose_threshold,
    fitted_measurements,
    preset_warnings,
    thresholds_of,
)
from histomri.fitting.cramer_rao import bound_of_protocol
from histomri.fitting.misfit_files import blood_signal, write_misfit
from histomri.fitting.models import get_model
from histomri.fitting.options import FitOptions
from histomri.fitting.outputs import PARAMS, counted, require_fitted, write_fit, write_residuals, write_t2ivim
from histomri.fitting.region_fits import fit_regions
from histomri.fitting.regions import RegionFits, roi_table
from histomri.fitting.results import count_cells
from histomri.fitting.signals import require_te
from histomri.fitting.t2ivim import T2IVIM_PARAMETERS, describe_t2ivim, normalising_maps
from histomri.fitting.tissue_mean import MeanVerdict, judge_mean
from histomri.fitting.without import fit_t2ivim_without, spoilt_before_any_model, t2ivim_settings
from histomri.mri import Acquisition, Labels, Series, Sigma, SpoiltVolume, list_spoilt, read_sigma


@dataclass(frozen=True, repr=False)
class FitRun(Displayed):
    """The fits that options ask for, checked before anything is read.

    Examples
    --------
    >>> options = FitOptions(dwi="dwi.nii.gz", protocol="mouse-exvivo", strategies=("whole",))
    >>> FitRun.plan(options, "mri")
    FitRun(images: dwi.nii.gz, preset: mouse-exvivo, fits: Diff-in (whole), Diff-in-ex (whole))
    """

    options: FitOptions
    preset: str
    tasks: tuple["Task", ...]
    out: Path

    @classmethod
    def plan(cls, options: FitOptions, out: str | Path) -> "FitRun":
        """List the fits; InputError if a dictionary cannot be read, or maps would replace others.

        The names of maps do not carry the strategy, so a folder holds the maps of one.
        """
        preset, out = choose_preset(options.preset, options.protocol), Path(out)
        models: list[Model | Dictionary] = [get_model(name).at(preset) for name in dict.fromkeys(options.fitted_models)]
        if options.dictionary is not None:
            models.append(Dictionary.load(*options.dictionary, options.parameter_names))
        elif options.dictionary_table is not None:
            models.append(Dictionary.load(options.dictionary_table))
        tasks = tuple(Task.list_of(options, preset, models, out))
        _require_fitted_bounds(options, models)
        if all(task.is_for_regions(preset) for task in tasks):
            for task in tasks:
                task.require_regions(preset, options.roi is not None)
        for task in tasks:
            task.refuse_other_maps(options.sub)
        return cls(options, preset, tasks, out)

    def facts(self) -> dict[str, Any]:
        """Return the plan."""
        fits = ", ".join(f"{task.model.display_name} ({task.strategy})" for task in self.tasks)
        return {"images": self.options.dwi.name, "preset": self.preset, "fits": fits}

    def fit(self, progress: Progress | None = None) -> "FitOutputs":
        """Read the scan and fit all models; InputError if a model was not fitted in a single voxel."""
        scan = Scan.read(self.options, self.preset, share_of(progress, 0.0, 0.2))
        tasks, left_out = self._possible(scan.series)
        voxelwise = [task for task in tasks if self.options.maps and not task.is_for_regions(self.preset)]
        ends = np.linspace(0.2, 1.0, len(voxelwise) + 1).tolist()
        advance = [share_of(progress, start, stop) for start, stop in pairwise(ends)]
        fits = tuple(task.fit(scan, self.options, self.preset, each) for task, each in zip(voxelwise, advance))
        bound = None
        if self.options.crlb:
            bound = bound_of_protocol(
                scan.series.acquisition, snr=scan.signal_to_noise(), models=self.options.fitted_models,
                preset=self.preset, thresholds=[(task.strategy, task.bmin) for task in self.tasks],
            )  # fmt: skip
        regions = fit_regions(scan, tasks, self.options, self.preset)
        mean = scan.judge_mean(self.preset) if self.options.maps else None
        return FitOutputs(self, scan, fits, bound, left_out, mean, regions)

    def _possible(self, series: Series) -> tuple[list["Task"], tuple[str, ...]]:
        """Return the fits with enough measurements, and warnings of others; InputError if there is none."""
        possible, problems = [], list[InputError]()
        for task in self.tasks:
            try:
                with series.name_files():
                    task.require_possible(series.acquisition)
                task.require_regions(self.preset, self.options.roi is not None)
                possible.append(task)
            except InputError as error:
                problems.append(error)
        if not possible:
            raise problems[0]
        notes = [f"not fitted: {error.problem}" for error in problems]
        if self.options.maps:
            noisy = dict.fromkeys(task.model.display_name for task in possible if task.is_for_regions(self.preset))
            notes += [f"{name}: fitted to the labels only, as single voxels in vivo are too noisy" for name in noisy]
        return possible, tuple(notes)


@dataclass(frozen=True)
class Scan:
    """The series that all fits share, read and normalised once."""

    series: Series
    signals: FloatArray  # (V, M), of the voxels of the mask
    level: Sigma
    first: FitResult | None  # of the T2-IVIM step, if it was done
    divided_by: dict[str, FloatArray | None]  # s0, fv and t2t, and fv_se where it is known, (V,)
    sources: list[Path]  # the files read besides images, protocol and mask
    spoilt: tuple[SpoiltVolume, ...] = ()  # as a smooth curve over b shows them, before any model

    @classmethod
    def read(cls, options: FitOptions, preset: str, progress: Progress) -> "Scan":
        """Read everything, and fit S0, fV and T2 where they are wanted and not given."""
        series = Series.open(
            options.dwi, options.protocol, options.mask, exclude=options.exclude_volumes, **options.reading
        )
        if options.roi is not None and not options.maps:
            series = series.within(Labels.read(options.roi, series.images, options.roi_names).image > 0)
        level = read_sigma(options.sigma, series)
        s0, t2t = series.read_positive(options.s0, "S0"), series.read_positive(options.t2t, "T2")
        divided_by = {"s0": s0, "fv": series.read_values(options.fv), "t2t": t2t}
        signals = series.read(share_of(progress, 0.0, 0.5))
        spoilt = () if level.level is None else spoilt_before_any_model(signals, series, level.level)
        first = None
        vascular = t2ivim_settings(options, preset, series.acquisition)
        if vascular is not None and options.maps:
            out = () if options.robust == "none" else spoilt
            how = {**vascular, "sigma": level.level, "progress": share_of(progress, 0.5, 1.0)}
            with series.name_files():
                first = fit_t2ivim_without(signals, series, out, **how)
            require_fitted(first, series, "T2-IVIM")
            divided_by = normalising_maps(first)
        maps = (options.s0, options.fv, options.t2t, level.source)
        return cls(series, signals, level, first, divided_by, [path for path in maps if path is not None], spoilt)

    def judge_mean(self, preset: str) -> MeanVerdict | None:
        """Judge the mean signal of the slices in which no volume is spoilt; None without noise level."""
        if self.level.level is None:
            return None
        series = self.series
        clean = ~np.isin(series.slices, [each.slice for each in self.spoilt])
        sigma = np.broadcast_to(np.asarray(self.level.level, dtype=float), clean.shape)
        blood = None
        if self.first is not None and series.acquisition.te_ms is not None:
            blood = blood_signal(self.first.maps, series.acquisition.b_smm2, series.acquisition.te_ms)[clean]
        return judge_mean(self.signals[clean], series.acquisition, sigma[clean], preset, blood)

    def signal_to_noise(self) -> float:
        """Return the median over voxels of the signal at b = 0 and the shortest echo time, over the noise level."""
        acquisition = self.series.acquisition
        te = np.zeros(len(acquisition)) if acquisition.te_ms is None else acquisition.te_ms
        lowest = acquisition.b_smm2 == acquisition.b_smm2.min()
        chosen = lowest & (te == te[lowest].min())
        ratio = self.signals[:, chosen].mean(axis=1) / np.asarray(self.level.level, dtype=float)
        found = float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else 0.0
        if not found > 0:
            raise InputError("no signal is above 0 where it is highest, so there is no signal-to-noise ratio")
        return found


def _require_fitted_bounds(options: FitOptions, models: Iterable[Model | Dictionary]) -> None:
    """Raise InputError for bounds of a parameter that nothing fits."""
    own = [each for each in models if isinstance(each, Model)]
    # The level depends on the gain of the scanner, and has no bounds of its own.
    fitted = [name for each in own for name in each.parameters if name != each.level]
    known = list(dict.fromkeys([*fitted, *T2IVIM_PARAMETERS[1:]]))
    for name in parse_bounds(options.bounds):
        if name not in known:
            raise InputError(f"--bound {name}: no model fits it", hint=f"what is fitted: {', '.join(known)}")


@dataclass(frozen=True)
class Task:
    """One model on one choice of measurements, and the folder for its maps."""

    model: Model | Dictionary
    strategy: str
    bmin: float
    folder: Path

    @staticmethod
    def list_of(options: FitOptions, preset: str, models: Iterable[Model | Dictionary], out: Path) -> Iterator["Task"]:
        """List the fits by strategy and model; a model is fitted by the strategies that it has.

        InputError if it has none of those asked for.
        """
        models, strategies = list(models), options.fitted_strategies
        for model in models:
            lacking = [each for each in strategies if each is not None and each not in thresholds_of(model, preset)]
            if len(lacking) == len(strategies):
                choose_threshold(preset, lacking[0], options.bmin, model)
        for strategy in strategies:
            for model in models:
                if strategy is None or strategy in thresholds_of(model, preset):
                    name, bmin = choose_threshold(preset, strategy, options.bmin, model)
                    yield Task(model, name, bmin, out / name if options.has_folders else out)

    def require_possible(self, acquisition: Acquisition) -> None:
        """Raise InputError or ProtocolError if the scan cannot be fitted."""
        model, title = self.model, self.model.display_name
        level = isinstance(model, Model) and model.level is not None
        free = len(model.names if isinstance(model, Dictionary) else model.parameters)
        choose_measurements(acquisition, self.bmin, free, title, level)
        if isinstance(model, Model):
            require_te(model, acquisition)

    def require_regions(self, preset: str, given: bool) -> None:
        """Raise InputError if the model is for means over regions, and none are given."""
        if self.is_for_regions(preset) and not given:
            problem = f"{self.model.display_name} is for means over regions in vivo: single voxels are too noisy for it"
            raise InputError(problem, hint="give a label image with --roi")

    def is_for_regions(self, preset: str) -> bool:
        """Tell whether single voxels are too noisy for the model, and means over regions are not."""
        return isinstance(self.model, Model) and self.model.roi_in_vivo and get_preset(preset).in_vivo

    def refuse_other_maps(self, sub: str | None) -> None:
        """Raise InputError if the folder holds maps of this model, fitted to other measurements."""
        for param in PARAMS:
            path = self.folder / map_name(param, "dwimap", sub=sub, model=self.model.name)
            found = read_sidecar(path) if path.exists() else {}
            if found.get("Strategy", self.strategy) != self.strategy or found.get("BMin", self.bmin) != self.bmin:
                other = f"strategy {found.get('Strategy')}, b > {found.get('BMin')} s/mm²"
                hint = f"give another --out, such as {self.folder / self.strategy}"
                raise InputError(f"already holds {path.name} of another fit ({other})", path=self.folder, hint=hint)

    def bounds(self, options: FitOptions) -> dict[str, tuple[float, float]] | None:
        """Return the bounds of this model's parameters that replace those of the preset."""
        if isinstance(self.model, Dictionary):
            return None
        wanted = parse_bounds(options.bounds)
        return {name: pair for name, pair in wanted.items() if name in self.model.parameters} or None

    def fit(self, scan: Scan, options: FitOptions, preset: str, advance: Progress) -> "ModelFit":
        """Fit, and find residuals and bootstrap."""
        part, series, level = 1 / (1 + options.bootstrap), scan.series, scan.level.level
        settings: dict[str, Any] = {
            "sigma": level, "bmin_smm2": self.bmin, "noise": choose_noise(options.noise, level), "bic": options.bic,
            "preset": preset, "bounds": self.bounds(options), **scan.divided_by,
            "progress": share_of(advance, 0.0, part), "robust": options.robust, "slices": series.slices,
            "volumes": series.volumes,
        }  # fmt: skip
        with series.name_files():
            result = fit(scan.signals, series.acquisition, self.model, **settings)
        require_fitted(result, series, self.model.display_name)
        count_cells(result, options.size_cv)
        result.parameters["sigma"] = scan.level.record
        result.parameters["t2ivim"] = None if scan.first is None else {**scan.first.parameters, **scan.first.counts}
        same: dict[str, Any] = {name: scan.divided_by.get(name) for name in ("s0", "fv", "t2t")}
        same |= {"sigma": level, "dictionary": self.model if isinstance(self.model, Dictionary) else None}
        left, spread = residuals(result, scan.signals, series.acquisition, **same), {}
        if options.bootstrap:
            spread = bootstrap(
                result, scan.signals, series.acquisition, count=options.bootstrap, seed=options.seed,
                kind=options.bootstrap_kind, progress=share_of(advance, part, 1.0), **same,
            )  # fmt: skip
        # Maps are written as float32, and those of all models wait until the last is fitted.
        result.maps.update({name: values.astype(np.float32) for name, values in result.maps.items()})
        return ModelFit(self, result, left, spread)


@dataclass(frozen=True)
class ModelFit:
    """What came of a task: maps, residuals, and the spread of a bootstrap."""

    task: Task
    result: FitResult
    residuals: Residuals
    spread: dict[str, FloatArray]

    def used(self, acquisition: Acquisition) -> BoolArray:
        """Return which measurements were fitted, (M,)."""
        return fitted_measurements(self.result.parameters, acquisition)


@dataclass(frozen=True, repr=False)
class FitOutputs(Displayed):
    """All results of a run, and how they are written."""

    run: FitRun
    scan: Scan
    fits: tuple[ModelFit, ...]
    bound: ProtocolBound | None
    left_out: tuple[str, ...] = ()
    mean: MeanVerdict | None = None
    regions: RegionFits | None = None

    def facts(self) -> dict[str, Any]:
        """Return what was fitted."""
        return dict(message.split(": ", 1) for message in self.messages)

    @property
    def messages(self) -> tuple[str, ...]:
        """A line on each fit."""
        lines = [] if self.scan.first is None else [describe_t2ivim(self.scan.first)]
        for each in self.fits:
            task, count = each.task, each.result.parameters["measurements"]
            b0 = " and b = 0" if each.result.parameters.get("with_b0") else ""
            how = f"{task.strategy}, b > {task.bmin:g} s/mm²{b0}, {count} measurements"
            lines.append(f"{task.model.display_name} ({how}): {counted(each.result)}")
        lines += self.regions.messages if self.regions is not None else ()
        return (*lines, self.mean.words()) if self.mean is not None and not self.mean.suspect else tuple(lines)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the results may be wrong."""
        scan, given = self.scan, self.run.options.preset is not None
        before = scan.series.images.warnings + scan.level.warnings + (scan.first.warnings if scan.first else ())
        assumed = () if given else preset_warnings(self.run.preset, scan.series.acquisition)
        found = list_spoilt(scan.spoilt, scan.series.slices)
        told: tuple[str, ...] = (f"spoilt, before any model: {found}",) if found else ()
        told += (self.mean.words(),) if self.mean is not None and self.mean.suspect else ()
        own = (text for each in self.fits for text in each.result.warnings)
        regions = self.regions.warnings if self.regions is not None else ()
        return (*before, *assumed, *self.left_out, *told, *own, *regions)

    @property
    def summary(self) -> dict[str, Any]:
        """Counts and settings by model; by strategy and model where each strategy has a folder."""
        summary: dict[str, Any] = {}
        for each in self.fits:
            place = summary.setdefault(each.task.strategy, {}) if self.run.options.has_folders else summary
            place[each.result.model] = {**each.result.counts, **each.result.parameters}
        return summary

    def write(self) -> tuple[Path, ...]:
        """Write maps, residuals and what the options ask for; returns the files."""
        options, scan, out = self.run.options, self.scan, self.run.out
        series, sub = scan.series, options.sub
        models = [task.model for task in self.run.tasks]
        examples = [path for model in models if isinstance(model, Dictionary) for path in model.sources]
        sources, more = [*scan.sources, *dict.fromkeys(examples)], dict[str, Any]()
        if scan.divided_by["fv"] is None:
            more["Note"] = "No vascular fraction was given: fI then stands for F."
        written: list[Path] = []
        if scan.first is not None:
            written += write_t2ivim(scan.first, series, out, scan.sources, sub, scan.level.record)
        for each in self.fits:
            where = (each.result, series, each.task.folder, sources, sub)
            written += write_fit(each.result.maps, *where, ModelName=each.task.model.display_name, **more)
            written += write_residuals(each.residuals, *where, maps=options.residuals)
            table = each.task.folder / map_name("x", "dwimap", sub=sub, model=each.result.model)
            table = table.with_name(table.name.replace("_param-x_dwimap.nii.gz", "_misfit.csv"))
            places = (series.slices, series.volumes[each.used(series.acquisition)], self.mean)
            written += write_misfit(table, each.residuals, each.result, *places)
            written += write_fit(each.spread, *where)
        if self.regions is not None:
            written += self.regions.save(out / roi_table(None, sub), [*series.sources, *sources])
        return (*written, *(self.bound.save(out, series.sources) if self.bound is not None else ()))
