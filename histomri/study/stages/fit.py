"""Diffusion images and protocol in, maps of the tissue models out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from histomri.arrays import BoolArray
from histomri.errors import InputError
from histomri.fitting import FitResult, Model, choose_threshold, fit, get_model
from histomri.maps import map_name, read_sidecar, write_map
from histomri.mri import DwiFile, open_dwi, read_acquisition
from histomri.study.stages.checks import blame, read_positive, read_signals, require_fitted
from histomri.study.stages.grid import on_grid
from histomri.study.stages.result import StageResult
from histomri.study.stages.sigma import read_sigma
from histomri.study.stages.t2ivim import (
    describe_t2ivim,
    normalising_maps,
    read_kurtosis,
    vascular_step,
    write_t2ivim,
)

_VALUES = ("F", "fI", "vCS", "CD", "D0I", "DEinf", "beta", "cost", "logL", "BIC", "AIC", "exit")


def run_fit(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    models: Sequence[str] = ("diff-in",),
    strategy: str | None = None,
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
        Models to fit.
    strategy : {"whole", "high-b"}, optional
        Which b threshold of the preset; whole by default.
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
    sub : str, optional
        Sample name for the files.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    StageResult
        Maps and sidecars written, counts, warnings.

    Raises
    ------
    InputError
        If an input cannot be used, the folder holds the maps of a fit to other measurements, or no voxel was
        fitted; nothing is written then.
    """
    if not models:
        raise InputError("no model was named", way_out="pass --model diff-in")
    declared = [get_model(name) for name in dict.fromkeys(models)]
    strategy, bmin = choose_threshold(preset, strategy, bmin)
    _refuse_other_fit(Path(out), sub, declared, strategy, bmin)
    acquisition = read_acquisition(protocol, dwi)
    images = open_dwi(dwi)
    inside = images.read_mask(mask)
    level = read_sigma(sigma, images, inside)
    maps = {
        "s0": read_positive(s0, "S0", images, inside),
        "fv": None if fv is None else np.asarray(images.read_map(fv)[inside]),
        "t2t": read_positive(t2t, "T2", images, inside),
    }
    report = progress or (lambda fraction: None)
    share = 0.2
    signals = read_signals(images, inside, mask, lambda fraction: report(0.5 * share * fraction))
    with blame(protocol):
        first = vascular_step(
            t2ivim, read_kurtosis(kurtosis), preset, acquisition, any(each is not None for each in (s0, fv, t2t)),
            signals, level.level, lambda fraction: report(share * (0.5 + 0.5 * fraction)),
        )  # fmt: skip
    if first is not None:
        require_fitted(first, "T2-IVIM", images, mask)
        maps.update(normalising_maps(first))
    results = []
    for k, model in enumerate(declared):

        def advance(fraction: float, done: int = k) -> None:
            report(share + (1 - share) * (done + fraction) / len(declared))

        with blame(protocol):
            result = fit(
                signals, acquisition, model, sigma=level.level, bmin_smm2=bmin, strategy=None, noise=noise,
                preset=preset, s0=maps["s0"], fv=maps["fv"], t2t=maps["t2t"], progress=advance,
            )  # fmt: skip
        require_fitted(result, model.display_name, images, mask)
        result.parameters["sigma"] = level.record
        result.parameters["t2ivim"] = None if first is None else {**first.parameters, **first.counts}
        result.maps.update({name: values.astype(np.float32) for name, values in result.maps.items()})
        results.append(result)
    sources = [Path(each) for each in (dwi, protocol, mask, s0, fv, t2t) if each is not None]
    sources += [level.source] if level.source is not None else []
    steps = [] if first is None else [first]
    outputs = [
        path for step in steps for path in write_t2ivim(step, Path(out), images, inside, sources, sub, level.record)
    ]
    for result in results:
        outputs += _write(result, Path(out), images, inside, sources, sub, first is not None or fv is not None)
    return StageResult(
        tuple(outputs),
        (*map(describe_t2ivim, steps), *map(_message, results)),
        images.warnings
        + level.warnings
        + tuple(warning for result in (*steps, *results) for warning in result.warnings),
        {result.model: {**result.counts, **result.parameters} for result in results},
    )


def _write(
    result: FitResult, out: Path, images: DwiFile, inside: BoolArray, sources: list[Path], sub: str | None, has_fv: bool
) -> list[Path]:
    settings = result.parameters
    sidecar: dict[str, Any] = {
        "Model": result.model,
        "ModelName": get_model(result.model).display_name,
        "Strategy": settings["strategy"],
        "BMin": settings["bmin_smm2"],
        "Preset": settings["preset"],
        "Noise": settings["noise"],
        "NoiseLevel": settings["sigma"],
        "VascularStep": settings["t2ivim"],
        "Normalisation": settings["normalisation"],
        "BICDefinition": settings["bic"],
    }
    if not has_fv:
        sidecar["Note"] = "No vascular fraction was given: fI then stands for F."
    written: list[Path] = []
    for name, values in result.maps.items():
        param, _, stat = name.partition("_")
        if param not in _VALUES:
            continue
        path = out / map_name(param, "dwimap", sub=sub, model=result.model, stat=stat or None)
        written += write_map(
            path, on_grid(values, inside, name), images.affine, sources=sources, parameters=settings, **sidecar
        )
    return written


def _message(result: FitResult) -> str:
    counts, settings = result.counts, result.parameters
    return (
        f"{get_model(result.model).display_name} ({settings['strategy']}, b > {settings['bmin_smm2']:g} s/mm², "
        f"{settings['measurements']} measurements): {counts['fitted'] + counts['at_bound']} voxels fitted, "
        f"{counts['at_bound']} of them at a bound, {counts['background']} background, {counts['failed']} failed"
    )


def _refuse_other_fit(out: Path, sub: str | None, models: Sequence[Model], strategy: str, bmin: float) -> None:
    """Refuse to replace the maps of a fit to other measurements: file names do not carry the strategy."""
    for model in models:
        for param in _VALUES:
            path = out / map_name(param, "dwimap", sub=sub, model=model.name)
            found = read_sidecar(path) if path.exists() else {}
            if found.get("Strategy", strategy) != strategy or found.get("BMin", bmin) != bmin:
                raise InputError(
                    f"already holds {path.name} of another fit (strategy {found.get('Strategy')}, "
                    f"b > {found.get('BMin')} s/mm²)",
                    path=out,
                    way_out=f"give another --out, such as {out / strategy}",
                )
