"""The fit of one model to one choice of measurements, and what comes of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError
from histomri.core.images import map_name, read_sidecar
from histomri.core.presets import get_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting import Dictionary, FitResult, Model, Residuals, bootstrap, fit, residuals
from histomri.fitting.bounds import parse_bounds
from histomri.fitting.choices import (
    choose_measurements,
    choose_noise,
    choose_threshold,
    fitted_measurements,
    thresholds_of,
)
from histomri.fitting.options import FitOptions
from histomri.fitting.outputs import PARAMS, require_fitted
from histomri.fitting.results import count_cells
from histomri.fitting.scan import Scan
from histomri.fitting.signals import require_te
from histomri.mri import Acquisition


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
