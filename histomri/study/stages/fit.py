"""Diffusion images and protocol in, maps of the tissue models out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import InputError
from histomri.fitting import (
    Dictionary,
    FitResult,
    Model,
    Residuals,
    bootstrap,
    choose_noise,
    choose_threshold,
    fit,
    fit_dictionary,
    get_model,
    residuals,
)
from histomri.maps import map_name, read_sidecar
from histomri.study.stages.crlb import write_crlb
from histomri.study.stages.fit_maps import PARAMS, describe_fit, write_bootstrap, write_fit, write_residuals
from histomri.study.stages.result import StageResult
from histomri.study.stages.series import Series
from histomri.study.stages.sigma import Sigma, read_sigma
from histomri.study.stages.t2ivim import (
    describe_t2ivim,
    normalising_maps,
    read_kurtosis,
    vascular_step,
    write_t2ivim,
)


def run_fit(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    models: Sequence[str] = ("diff-in",),
    dictionary: Dictionary | None = None,
    strategy: str | Sequence[str] | None = None,
    preset: str = "mouse-exvivo",
    mask: str | Path | None = None,
    sigma: float | str | Path | None = None,
    bmin: float | None = None,
    s0: str | Path | None = None,
    fv: str | Path | None = None,
    t2t: str | Path | None = None,
    noise: Any = None,
    t2ivim: bool | None = None,
    kurtosis: float | str | None = None,
    extras: "Extras | None" = None,
    sub: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> StageResult:
    """Fit tissue models to diffusion images and write their maps.

    Parameters
    ----------
    dwi : path-like
        4D NIfTI.
    protocol : str or path-like
        Any form that `read_acquisition` takes.
    out : path-like
        Folder for the maps.
    models : sequence of str
        Models to fit; may be empty if there is a dictionary.
    dictionary : Dictionary, optional
        Simulated signals to fit too, on the same protocol.
    strategy : {"whole", "high-b"} or sequence of them, optional
        Which b threshold of the preset; whole by default. With a sequence, the maps of each go to a folder of its name
        in `out`, and the images are read and normalised once for all.
    preset : str
        Bounds and thresholds.
    mask, s0, fv, t2t : path-like, optional
        NIfTI maps on the grid of the images.
    sigma : float, str or path-like, optional
        Noise level in the units of the signal, or a map of it, or ``estimate``; see `read_sigma`.
    bmin : float, optional
        Threshold in place of a strategy's, s/mm²; see `choose_threshold`.
    noise : {"offset-gaussian", "rician", "none"}, optional
        Objective; by default offset-Gaussian where sigma is given.
    t2ivim : bool, optional
        Whether S0, fV and T2 are fitted first, from all volumes, and written too. By default with an in-vivo preset
        and several echo times, unless they are given.
    kurtosis : float or "free", optional
        Value at which that step holds the kurtosis of the tissue; fitted by default.
    extras : Extras, optional
        Residuals, bootstrap, Cramér-Rao bound.
    sub : str, optional
        Sample name for the files.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    StageResult
        Maps and sidecars written, counts, warnings. The summary is by model, or by strategy and model if `strategy` is
        a sequence.

    Raises
    ------
    InputError
        If an input cannot be used, the folder holds the maps of a fit to other measurements, or no voxel was
        fitted; nothing is written then.
    """
    out, extras = Path(out), extras or Extras()
    tasks = _plan(models, dictionary, strategy, preset, bmin, out, sub)
    noise = choose_noise(noise, sigma)  # type: ignore[arg-type]  # whether there is one is all that matters here
    extras.check(sigma is not None, models)
    held = read_kurtosis(kurtosis)
    series = Series.open(dwi, protocol, mask)
    level = read_sigma(sigma, series)
    given: dict[str, Any] = {
        "s0": series.read_positive(s0, "S0"), "fv": series.read_values(fv), "t2t": series.read_positive(t2t, "T2"),
    }  # fmt: skip
    report = progress or (lambda fraction: None)
    signals = series.read(lambda fraction: report(0.1 * fraction))
    with series.blame_protocol():
        first = vascular_step(
            t2ivim, held, preset, series.acquisition, any(each is not None for each in given.values()), signals,
            level.level, lambda fraction: report(0.1 + 0.1 * fraction),
        )  # fmt: skip
    if first is not None:
        series.require_fitted(first, "T2-IVIM")
        given = normalising_maps(first)
    done = []
    for k, task in enumerate(tasks):

        def advance(fraction: float, k: int = k) -> None:
            report(0.2 + 0.8 * (k + fraction) / len(tasks))

        done.append(_fit_one(task, series, signals, level, given, first, noise, preset, extras, advance))
    sources = [Path(each) for each in (s0, fv, t2t, level.source) if each is not None]
    sources += dictionary.sources if dictionary is not None else ()
    outputs = [] if first is None else write_t2ivim(first, series, out, sources, sub, level.record)
    for each in done:
        outputs += each.write(series, sources, sub, given["fv"] is not None)
    messages = [describe_t2ivim(first)] if first is not None else []
    messages += [describe_fit(each.task.title, each.result) for each in done]
    warnings = [*series.images.warnings, *level.warnings, *(first.warnings if first is not None else ())]
    warnings += [text for each in done for text in each.result.warnings]
    if extras.crlb:
        snr = _signal_to_noise(signals, series, level)
        chosen = [(task.strategy, task.bmin) for task in tasks]
        outputs += write_crlb(series.acquisition, out, series.sources, snr=snr, models=models, preset=preset,
                              thresholds=list(dict.fromkeys(chosen))).outputs  # fmt: skip
    summary: dict[str, Any] = {}
    for each in done:
        place = summary if isinstance(strategy, str | None) else summary.setdefault(each.task.strategy, {})
        place[each.result.model] = {**each.result.counts, **each.result.parameters}
    return StageResult(tuple(outputs), tuple(messages), tuple(warnings), summary)


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
            raise InputError(f"{self.bootstrap} repeats have no spread", way_out="give --bootstrap 100")
        if self.bootstrap_kind not in ("parametric", "residual"):
            raise InputError(f"there is no bootstrap {self.bootstrap_kind!r}", way_out="choose parametric or residual")
        if self.bootstrap and self.bootstrap_kind == "parametric" and not noise_known:
            raise InputError(
                "the parametric bootstrap needs the noise level",
                way_out="give --sigma, or --bootstrap-kind residual",
            )
        if self.crlb and not (noise_known and models):
            raise InputError("--crlb needs the noise level and a model", way_out="give --sigma and --model")


def read_dictionary(pair: tuple[Path, Path] | None, table: Path | None, names: str | None) -> Dictionary | None:
    """Read a dictionary from signals and parameters, or from one table; None if neither is given.

    Raises
    ------
    InputError
        If both are given, a file cannot be read, or the two do not fit together.
    """
    if pair is not None and table is not None:
        raise InputError("two dictionaries are given", way_out="give --dictionary or --dictionary-table")
    if pair is None and table is None:
        return None
    signals, parameters = pair if pair is not None else (table, None)
    chosen = [name.strip() for name in names.split(",")] if names else None
    return Dictionary.load(signals, parameters, chosen)  # type: ignore[arg-type]  # one of the two is there


@dataclass(frozen=True)
class _Task:
    """One model on one choice of measurements."""

    model: Model | Dictionary
    strategy: str
    bmin: float
    folder: Path

    @property
    def name(self) -> str:
        return self.model.name if isinstance(self.model, Model) else "dictionary"

    @property
    def title(self) -> str:
        return self.model.display_name if isinstance(self.model, Model) else "Dictionary"


@dataclass(frozen=True)
class _Done:
    """What came of a task."""

    task: _Task
    result: FitResult
    left: Residuals | None
    left_maps: bool
    spread: dict[str, FloatArray]

    def write(self, series: Series, sources: list[Path], sub: str | None, has_fv: bool) -> list[Path]:
        out = self.task.folder
        written = write_fit(self.result, self.task.title, series, out, sources, sub, has_fv)
        if self.left is not None:
            written += write_residuals(self.left, self.result, series, out, sources, sub, maps=self.left_maps)
        if self.spread:
            written += write_bootstrap(self.spread, self.result, series, out, sources, sub)
        return written


def _plan(
    models: Sequence[str], dictionary: Dictionary | None, strategy: str | Sequence[str] | None, preset: str,
    bmin: float | None, out: Path, sub: str | None,
) -> list[_Task]:  # fmt: skip
    """List what is to be fitted, and refuse to replace maps of other measurements: names do not carry the strategy."""
    every: list[Model | Dictionary] = [get_model(name) for name in dict.fromkeys(models)]
    every += [dictionary] if dictionary is not None else []
    if not every:
        raise InputError("no model was named", way_out="pass --model diff-in")
    single = isinstance(strategy, str | None)
    tasks = []
    for each in (strategy,) if single else dict.fromkeys(strategy or ()):
        name, threshold = choose_threshold(preset, each, bmin)  # type: ignore[arg-type]
        tasks += [_Task(model, name, threshold, out if single else out / name) for model in every]
    for task in tasks:
        for param in PARAMS:
            path = task.folder / map_name(param, "dwimap", sub=sub, model=task.name)
            found = read_sidecar(path) if path.exists() else {}
            if found.get("Strategy", task.strategy) != task.strategy or found.get("BMin", task.bmin) != task.bmin:
                raise InputError(
                    f"already holds {path.name} of another fit (strategy {found.get('Strategy')}, "
                    f"b > {found.get('BMin')} s/mm²)",
                    path=task.folder,
                    way_out=f"give another --out, such as {task.folder / task.strategy}",
                )
    return tasks


def _fit_one(
    task: _Task, series: Series, signals: FloatArray, level: Sigma, given: dict[str, Any], first: FitResult | None,
    noise: str, preset: str, extras: Extras, advance: Callable[[float], None],
) -> _Done:  # fmt: skip
    share = 1 / (1 + extras.bootstrap)
    settings: dict[str, Any] = {
        "sigma": level.level, "bmin_smm2": task.bmin, "noise": noise, "preset": preset, **given,
        "progress": lambda fraction: advance(share * fraction),
    }  # fmt: skip
    dictionary = task.model if isinstance(task.model, Dictionary) else None
    with series.blame_protocol():
        if isinstance(task.model, Dictionary):
            result = fit_dictionary(signals, series.acquisition, task.model, **settings)
        else:
            result = fit(signals, series.acquisition, task.model, **settings)
    series.require_fitted(result, task.title)
    result.parameters["sigma"] = level.record
    result.parameters["t2ivim"] = None if first is None else {**first.parameters, **first.counts}
    same = {name: given[name] for name in ("s0", "fv", "t2t")}
    left, spread = None, {}
    if extras.residuals:
        left = residuals(result, signals, series.acquisition, sigma=level.level, dictionary=dictionary, **same)
    if extras.bootstrap:
        spread = bootstrap(
            result, signals, series.acquisition, count=extras.bootstrap, kind=extras.bootstrap_kind,  # type: ignore[arg-type]
            sigma=level.level, dictionary=dictionary, seed=extras.seed,
            progress=lambda fraction: advance(share + (1 - share) * fraction), **same,
        )  # fmt: skip
    # Maps are written as float32, and those of all models wait until the last is fitted.
    result.maps.update({name: values.astype(np.float32) for name, values in result.maps.items()})
    return _Done(task, result, left, extras.residuals is True, spread)


def _signal_to_noise(signals: FloatArray, series: Series, level: Sigma) -> float:
    """Return the median over voxels of the signal at b = 0 and the shortest echo time, over the noise level."""
    acquisition = series.acquisition
    te = np.zeros(len(acquisition)) if acquisition.te_ms is None else acquisition.te_ms
    lowest = acquisition.b_smm2 == acquisition.b_smm2.min()
    chosen = lowest & (te == te[lowest].min())
    ratio = signals[:, chosen].mean(axis=1) / np.asarray(level.level, dtype=float)
    found = float(np.median(ratio[np.isfinite(ratio)])) if np.isfinite(ratio).any() else 0.0
    if not found > 0:
        raise InputError("no signal is above 0 where it is highest, so there is no signal-to-noise ratio")
    return found
