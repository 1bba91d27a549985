"""What a run of fits consists of: the scan that is read once, a task per model and strategy, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.images import map_name, read_sidecar
from histomri.core.progress import Progress, share_of
from histomri.fitting import (
    Dictionary,
    FitResult,
    Model,
    Residuals,
    bootstrap,
    choose_threshold,
    fit,
    fit_dictionary,
    get_model,
    residuals,
)
from histomri.study.stages.fit_maps import PARAMS, write_bootstrap, write_fit, write_residuals
from histomri.study.stages.series import Series
from histomri.study.stages.sigma import Sigma, read_sigma
from histomri.study.stages.t2ivim import normalising_maps, vascular_step


@dataclass(frozen=True)
class Extras:
    """What a fit writes besides its maps.

    Attributes
    ----------
    residuals : bool or "table"
        What is left of each measurement, its root mean square, and statistics by b and diffusion time; or these alone.
    bootstrap : int
        Repeats of a bootstrap; 0 for none.
    bootstrap_kind : {"parametric", "residual"}
        New noise of the given level, or the voxel's own residuals.
    seed : int
        Of the bootstrap.
    crlb : bool
        The Cramér-Rao bound of the protocol at the signal-to-noise ratio found.
    """

    residuals: bool | Literal["table"] = False
    bootstrap: int = 0
    bootstrap_kind: str = "parametric"
    seed: int = 0
    crlb: bool = False

    def check(self, noise_known: bool, models: Sequence[str]) -> None:
        """Refuse, before anything is read, what cannot be done.

        Raises
        ------
        InputError
            If a noise level is needed and not given, or a number or name makes no sense.
        """
        if self.bootstrap < 0 or self.bootstrap == 1:
            raise InputError(f"{self.bootstrap} repeats have no spread", hint="give --bootstrap 100")
        if self.bootstrap_kind not in ("parametric", "residual"):
            raise InputError(f"there is no bootstrap {self.bootstrap_kind!r}", hint="choose parametric or residual")
        if self.bootstrap and self.bootstrap_kind == "parametric" and not noise_known:
            raise InputError(
                "the parametric bootstrap needs the noise level",
                hint="give --sigma, or --bootstrap-kind residual",
            )
        if self.crlb and not noise_known:
            raise InputError("--crlb needs the noise level", hint="give --sigma")
        if self.crlb and not models:
            raise InputError("--crlb needs a model, and a dictionary is none", hint="add --model diff-in")


@dataclass(frozen=True)
class Scan:
    """What all fits of a series share: read and normalised once.

    Attributes
    ----------
    series : Series
        Images, protocol, mask.
    signals : (V, M) ndarray
        Of the voxels of the mask.
    level : Sigma
        Noise level.
    first : FitResult or None
        Of the T2-IVIM step, if it was done.
    divided_by : dict of str to (V,) ndarray or None
        s0, fv and t2t, and fv_se where it is known.
    maps : tuple of Path
        The maps among the inputs.
    """

    series: Series
    signals: FloatArray
    level: Sigma
    first: FitResult | None
    divided_by: dict[str, FloatArray | None]
    maps: tuple[Path, ...]

    @classmethod
    def read(
        cls, dwi: str | Path, protocol: str | Path, mask: str | Path | None, sigma: float | str | Path | None,
        maps: dict[str, str | Path | None], t2ivim: bool | None, kurtosis: float | None, preset: str,
        progress: Progress,
    ) -> "Scan":  # fmt: skip
        """Read everything, and fit S0, fV and T2 where they are wanted and not given."""
        series = Series.open(dwi, protocol, mask)
        level = read_sigma(sigma, series)
        divided_by = {
            "s0": series.read_positive(maps["s0"], "S0"),
            "fv": series.read_values(maps["fv"]),
            "t2t": series.read_positive(maps["t2t"], "T2"),
        }
        signals = series.read(share_of(progress, 0.0, 0.5))
        given = any(each is not None for each in divided_by.values())
        with series.blame_protocol():
            first = vascular_step(
                t2ivim, kurtosis, preset, series.acquisition, given, signals, level.level,
                share_of(progress, 0.5, 1.0),
            )  # fmt: skip
        if first is not None:
            series.require_fitted(first, "T2-IVIM")
            divided_by = {**normalising_maps(first)}
        return cls(series, signals, level, first, divided_by, tuple(Path(m) for m in maps.values() if m is not None))

    @property
    def sources(self) -> list[Path]:
        """The files read besides images, protocol and mask."""
        return [*self.maps, *([self.level.source] if self.level.source is not None else [])]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to be wary of before any model is fitted."""
        return self.series.images.warnings + self.level.warnings + (self.first.warnings if self.first else ())

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


@dataclass(frozen=True)
class Task:
    """One model on one choice of measurements."""

    model: Model | Dictionary
    strategy: str
    bmin: float
    folder: Path

    @property
    def name(self) -> str:
        """As in the names of files."""
        return self.model.name if isinstance(self.model, Model) else "dictionary"

    @property
    def title(self) -> str:
        """As printed."""
        return self.model.display_name if isinstance(self.model, Model) else "Dictionary"

    def fit(self, scan: "Scan", noise: str, bic: str, preset: str, extras: Extras, advance: Progress) -> "Done":
        """Fit, and do what else is wanted.

        Raises
        ------
        InputError
            If no voxel was fitted.
        """
        share, series = 1 / (1 + extras.bootstrap), scan.series
        settings: dict[str, Any] = {
            "sigma": scan.level.level, "bmin_smm2": self.bmin, "noise": noise, "bic": bic, "preset": preset,
            **scan.divided_by,
            "progress": share_of(advance, 0.0, share),
        }  # fmt: skip
        with series.blame_protocol():
            if isinstance(self.model, Dictionary):
                result = fit_dictionary(scan.signals, series.acquisition, self.model, **settings)
            else:
                result = fit(scan.signals, series.acquisition, self.model, **settings)
        series.require_fitted(result, self.title)
        result.parameters["sigma"] = scan.level.record
        result.parameters["t2ivim"] = None if scan.first is None else {**scan.first.parameters, **scan.first.counts}
        same: dict[str, Any] = {name: scan.divided_by[name] for name in ("s0", "fv", "t2t")}
        same |= {"sigma": scan.level.level, "dictionary": self.model if isinstance(self.model, Dictionary) else None}
        left, spread = None, {}
        if extras.residuals:
            left = residuals(result, scan.signals, series.acquisition, **same)
        if extras.bootstrap:
            spread = bootstrap(
                result, scan.signals, series.acquisition, count=extras.bootstrap, seed=extras.seed,
                kind=extras.bootstrap_kind,  # type: ignore[arg-type]
                progress=share_of(advance, share, 1.0), **same,
            )  # fmt: skip
        # Maps are written as float32, and those of all models wait until the last is fitted.
        result.maps.update({name: values.astype(np.float32) for name, values in result.maps.items()})
        return Done(self, result, left, extras.residuals is True, spread)


@dataclass(frozen=True)
class Done:
    """What came of a task."""

    task: Task
    result: FitResult
    left: Residuals | None
    left_maps: bool
    spread: dict[str, FloatArray]

    def write(self, scan: Scan, sources: list[Path], sub: str | None) -> list[Path]:
        """Write maps, and what else was wanted."""
        series, has_fv = scan.series, scan.divided_by["fv"] is not None
        out = self.task.folder
        written = write_fit(self.result, self.task.title, series, out, sources, sub, has_fv)
        if self.left is not None:
            written += write_residuals(self.left, self.result, series, out, sources, sub, maps=self.left_maps)
        if self.spread:
            written += write_bootstrap(self.spread, self.result, series, out, sources, sub)
        return written


def plan(
    models: Sequence[str], dictionary: Dictionary | None, strategy: str | Sequence[str] | None, preset: str,
    bmin: float | None, out: Path, sub: str | None,
) -> list[Task]:  # fmt: skip
    """List what is to be fitted, and refuse to replace maps of other measurements: names do not carry the strategy."""
    every: list[Model | Dictionary] = [get_model(name) for name in dict.fromkeys(models)]
    every += [dictionary] if dictionary is not None else []
    if not every:
        raise InputError("no model was named", hint="pass --model diff-in")
    single = isinstance(strategy, str | None)
    tasks = []
    for each in (strategy,) if single else dict.fromkeys(strategy or ()):
        name, threshold = choose_threshold(preset, each, bmin)  # type: ignore[arg-type]
        tasks += [Task(model, name, threshold, out if single else out / name) for model in every]
    for task in tasks:
        for param in PARAMS:
            path = task.folder / map_name(param, "dwimap", sub=sub, model=task.name)
            found = read_sidecar(path) if path.exists() else {}
            if found.get("Strategy", task.strategy) != task.strategy or found.get("BMin", task.bmin) != task.bmin:
                raise InputError(
                    f"already holds {path.name} of another fit (strategy {found.get('Strategy')}, "
                    f"b > {found.get('BMin')} s/mm²)",
                    path=task.folder,
                    hint=f"give another --out, such as {task.folder / task.strategy}",
                )
    return tasks
