"""All fits of one scan, from options to files: the plan, the scan that is read once, and the results."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.images import map_name
from histomri.core.presets import choose_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, Model, ProtocolBound
from histomri.fitting.bounds import parse_bounds
from histomri.fitting.choices import (
    preset_warnings,
)
from histomri.fitting.cramer_rao import bound_of_protocol
from histomri.fitting.misfit_files import write_misfit
from histomri.fitting.models import get_model
from histomri.fitting.options import FitOptions
from histomri.fitting.outputs import counted, write_fit, write_residuals, write_t2ivim
from histomri.fitting.region_fits import fit_regions
from histomri.fitting.regions import RegionFits, roi_table
from histomri.fitting.scan import Scan
from histomri.fitting.t2ivim import T2IVIM_PARAMETERS, describe_t2ivim
from histomri.fitting.tasks import ModelFit, Task
from histomri.fitting.tissue_mean import MeanVerdict
from histomri.mri import Series, list_spoilt


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
    tasks: tuple[Task, ...]
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

    def _possible(self, series: Series) -> tuple[list[Task], tuple[str, ...]]:
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


def _require_fitted_bounds(options: FitOptions, models: Iterable[Model | Dictionary]) -> None:
    """Raise InputError for bounds of a parameter that nothing fits."""
    own = [each for each in models if isinstance(each, Model)]
    # The level depends on the gain of the scanner, and has no bounds of its own.
    fitted = [name for each in own for name in each.parameters if name != each.level]
    known = list(dict.fromkeys([*fitted, *T2IVIM_PARAMETERS[1:]]))
    for name in parse_bounds(options.bounds):
        if name not in known:
            raise InputError(f"--bound {name}: no model fits it", hint=f"what is fitted: {', '.join(known)}")


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
        whole: tuple[str, ...] = (f"spoilt, before any model: {found}",) if found else ()
        whole += (self.mean.words(),) if self.mean is not None and self.mean.suspect else ()
        own = (text for each in self.fits for text in each.result.warnings)
        regions = self.regions.warnings if self.regions is not None else ()
        return (*before, *assumed, *self.left_out, *whole, *own, *regions)

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
