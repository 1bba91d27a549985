"""T2 and vascular fraction of each voxel from all volumes of a series with several b-values and echo times."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import get_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting.bounds import BloodT2
from histomri.fitting.choices import check_scan, noise_level, replace_bounds
from histomri.fitting.results import BACKGROUND, FAILED, FitResult, failure_warnings
from histomri.mri import Acquisition

T2IVIM_UNITS: dict[str, tuple[str, str]] = {
    "S0": ("signal", "Signal without diffusion weighting and relaxation"),
    "fV": ("1", "Vascular (or free fluid) signal fraction"),
    "T2T": ("ms", "Tissue T2"),
    "DV": ("um^2/ms", "Pseudo-diffusion coefficient of the vascular (or free fluid) pool"),
    "T2V": ("ms", "T2 of the vascular (or free fluid) pool"),
    "DT": ("um^2/ms", "Apparent diffusion coefficient of the tissue"),
    "KT": ("1", "Apparent excess kurtosis of the tissue"),
}
"""Unit and meaning of each parameter, in the order of the engine."""
T2IVIM_PARAMETERS: tuple[str, ...] = tuple(T2IVIM_UNITS)
_S0_RANGE, _CHUNK = (1e-3, 1e4), 50_000
# Even of the slowest blood half has decayed where b times its diffusivity is above this.
_BLOOD_GONE = 0.61
# Stanisz et al. 2005, doi 10.1002/mrm.20605.
_BLOOD_T2_MS, _FREE_T2_MS = {"1.5t": 290.0, "3t": 275.0}, (20.0, 1000.0)


def fit_t2ivim(
    signals: ArrayLike, acquisition: Acquisition | str | Path, *, preset: str = "invivo-3t",
    kurtosis: float | None = None, sigma: ArrayLike | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None, blood_t2: BloodT2 = "preset",
    progress: Progress | None = None,
) -> FitResult:  # fmt: skip
    """Fit S = S0 {fV exp(-b DV - TE/T2V) + (1 - fV) exp(-b DT + K (b DT)²/6 - TE/T2T)} to all volumes.

    Volumes of one echo time, or of none that is known, give plain IVIM: without T2, S0 and fV as weighted by it.
    With K = 0 the model is T2-IVIM as in Grussu et al. 2025, doi 10.1038/s43856-025-01246-2. InputError if
    the signals have another number of volumes, or sigma or bounds make no sense; ProtocolError if T2 or diffusion
    cannot be found from these volumes.

    Parameters
    ----------
    signals, acquisition : (V, M) array-like, and Acquisition, str or path-like
        Raw signals, and the protocol of the M volumes, with at least three b-values.
    preset, bounds : {"invivo-3t", "invivo-1.5t", "mouse-exvivo"}, and mapping of str to (float, float), optional
        Bounds, and bounds that replace them; equal ones hold a parameter. Ex vivo the second pool is saline.
    kurtosis : float, optional
        Hold the kurtosis K of the tissue at this value; 0 is the published T2-IVIM. By default it is fitted, from 0
        to 5: without it, restricted tissue water passes for blood and fV comes out too large.
    blood_t2 : {"preset", "free", "1.5t", "3t"} or float
        T2 of blood: fitted within the preset's bounds, or from 20 to 1000 ms; held at that of a field strength
        (290 and 275 ms, Stanisz et al. 2005, doi 10.1002/mrm.20605), or at a number, ms.
    sigma : float or (V,) array-like, optional
        Noise level, in the units of the signals: the objective is then the offset-Gaussian likelihood, whose floor
        is sigma; otherwise least squares.

    Returns
    -------
    FitResult
        Maps S0, fV, T2T (ms), DV (µm²/ms), T2V (ms), DT (µm²/ms), KT, their standard errors (``fV_se``; NaN at a
        bound and where not fitted), cost (half the sum of squared residuals, over sigma if it is given), its value
        at the best start (``start``), and exit: 1 fitted, 2 fV or T2T is at its bound, 0 background, -1 failed.
    """
    from histomri.fitting import t2ivim_kernels as kernels

    values, acquisition = check_scan(signals, acquisition)
    if not 0 <= (kurtosis or 0) <= 5:
        raise InputError(f"the kurtosis is {kurtosis:g}", hint="hold it at a value from 0 to 5, or fit it")
    held = {} if kurtosis is None else {"KT": (float(kurtosis),) * 2}
    held |= _blood_bounds(blood_t2, preset, bounds or {})
    limits = replace_bounds({**get_preset(preset).t2ivim, **held}, bounds, "T2-IVIM", held=True)
    te, limits = _echo_times(acquisition, limits)
    several = bool(np.ptp(te) > 0)
    _require_blood(acquisition, limits)
    levels = noise_level(sigma, values.shape[0])
    b = acquisition.b_smm2 / 1000.0
    grid, regions = _lattice(b, te, limits)
    lower, upper = np.array([_S0_RANGE, *limits.values()]).T.copy()
    voxels = values.shape[0]
    out = np.full((voxels, kernels.N_OUT), np.nan)
    for start in range(0, voxels, _CHUNK):
        part = slice(start, start + _CHUNK)
        y = values[part].astype(np.float64)
        scale = y.max(axis=1)
        noise = levels[part]
        with np.errstate(invalid="ignore"):
            good = np.all(np.isfinite(y), axis=1) & (scale > 0) & np.isfinite(noise) & (noise > 0)
        rows = np.full((y.shape[0], kernels.N_OUT), np.nan)
        rows[:, 2 * kernels.N + 1] = np.where(np.all(y == 0, axis=1), BACKGROUND, FAILED)
        fitted, factor = rows[good], scale[good, None]
        kernels.fit_voxels(
            y[good] / factor, noise[good] / factor[:, 0], sigma is not None, b, te, grid, regions, lower, upper, fitted
        )
        fitted[:, [0, kernels.N]] *= factor
        if sigma is None:
            fitted[:, [2 * kernels.N, 2 * kernels.N + 2]] *= factor**2
        rows[good] = fitted
        out[part] = rows
        share_of(progress)(min(1.0, (start + _CHUNK) / voxels))
    settings = {
        "preset": preset, "measurements": len(acquisition), "kurtosis": "fitted" if kurtosis is None else kurtosis,
        "bounds": {name: list(pair) for name, pair in limits.items()},
        "noise": "none" if sigma is None else "offset-gaussian",
    }  # fmt: skip
    if not several:
        settings["model"] = "IVIM of one echo time"
    result = FitResult("t2ivim", _maps(out, limits, several), settings)
    return replace(result, warnings=_warnings(result, limits, several))


def _require_blood(acquisition: Acquisition, limits: Mapping[str, tuple[float, float]]) -> None:
    """Raise ProtocolError where even the slowest signal of the fast pool has decayed at the lowest b."""
    lowest = float(acquisition.b_smm2.min())
    if lowest / 1000.0 * limits["DV"][0] > _BLOOD_GONE:
        problem = f"the lowest b is {lowest:g} s/mm², where the fast pool has no signal left: S0 and fV stay unknown"
        raise ProtocolError(problem, hint="give a series with b = 0, or maps of S0, fV and T2 to fit")


def predict_t2ivim(maps: Mapping[str, ArrayLike], acquisition: Acquisition) -> FloatArray:
    """Return the signals of the two pools, (V, M), for M volumes with echo times.

    Maps, (V,) or a number each, are S0, fV, T2T (ms), DV (µm²/ms), T2V (ms), DT (µm²/ms) and KT. InputError if one is
    missing, ProtocolError if the protocol has no echo times.
    """
    if missing := [name for name in T2IVIM_PARAMETERS if name not in maps]:
        raise InputError(f"{', '.join(missing)} missing among the parameters of T2-IVIM")
    if acquisition.te_ms is None:
        raise ProtocolError("the protocol has no echo times", hint="add a row of TE (ms)")
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(maps[name], dtype=float)) for name in T2IVIM_PARAMETERS))
    s0, fv, t2t, dv, t2v, dt, kurtosis = (column[:, None] for column in columns)
    b, te = acquisition.b_smm2 / 1000.0, acquisition.te_ms
    blood = np.exp(-b * dv - te / t2v)
    tissue = np.exp(-b * dt + kurtosis * (b * dt) ** 2 / 6 - te / t2t)
    return np.asarray(s0 * (fv * blood + (1 - fv) * tissue))


def _lattice(b: FloatArray, te: FloatArray, limits: Mapping[str, tuple[float, float]]) -> tuple[Any, Any]:
    """Return decays of either pool to start from, with their products and nodes, and the region of each pair."""
    dv, t2v = np.meshgrid(_spread(limits["DV"], 5), _spread(limits["T2V"], 1), indexing="ij")
    axes = [_spread(limits["T2T"], 7), _spread(limits["DT"], 7), _spread(limits["KT"], 5, geometric=False)]
    t2t, dt, kurtosis = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    blood = np.exp(-b * dv.reshape(-1, 1) - te / t2v.reshape(-1, 1))
    decay = b * dt[:, None]
    tissue = np.exp(np.minimum(-decay + kurtosis[:, None] * decay**2 / 6 - te / t2t[:, None], 30.0))
    grid = (
        blood, tissue, (blood**2).sum(axis=1), (tissue**2).sum(axis=1), np.ascontiguousarray(blood @ tissue.T),
        np.stack([dv.ravel(), t2v.ravel()], axis=1), np.stack([t2t, dt, kurtosis], axis=1),
    )  # fmt: skip
    bent = (kurtosis > np.mean(limits["KT"]) / 2).astype(np.int64)
    return grid, np.ascontiguousarray(np.arange(dv.size)[:, None] // 2 * 2 + bent)


def _spread(bounds: tuple[float, float], count: int, geometric: bool = True) -> FloatArray:
    if bounds[0] == bounds[1] or count == 1:
        return np.array([np.mean(bounds)])
    inset = 0.06 * (bounds[1] - bounds[0])
    space = np.geomspace if geometric and bounds[0] > 0 else np.linspace
    return np.asarray(space(bounds[0] if not geometric else bounds[0] + inset / 3, bounds[1] - inset, count))


def _blood_bounds(
    blood_t2: BloodT2, preset: str, bounds: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    """Return the bounds of T2V that the choice of a blood T2 means."""
    if blood_t2 == "preset":
        return {}
    if "T2V" in bounds:
        hint = "give --blood-t2 or --bound T2V=.., not both"
        raise InputError("the T2 of blood is given, and bounds of T2V too", hint=hint)
    if blood_t2 in _BLOOD_T2_MS and not get_preset(preset).in_vivo:
        problem = f"{preset} has saline in its second pool, so the T2 of blood at {blood_t2} means nothing"
        raise InputError(problem, hint="give the T2 of the fluid in ms (--blood-t2 500), or a preset in vivo")
    if blood_t2 == "free":
        return {"T2V": _FREE_T2_MS}
    held = _BLOOD_T2_MS[blood_t2] if isinstance(blood_t2, str) else float(blood_t2)
    return {"T2V": (held, held)}


def _echo_times(
    acquisition: Acquisition, limits: dict[str, tuple[float, float]]
) -> tuple[FloatArray, dict[str, tuple[float, float]]]:
    """Return the echo times, ms, and the bounds; zeros, and T2 held, where there is one echo time."""
    b, hint = np.round(acquisition.b_smm2, 1), "or give --no-t2ivim and normalise by the signal at b = 0"
    if np.unique(b).size < 3:
        hint = f"use a series with more b-values, {hint}"
        raise ProtocolError("T2 and vascular fraction need at least three b-values", hint=hint)
    te = acquisition.te_ms
    several = te is not None and np.unique(np.round(te, 1)).size > 1
    if not several:
        # Without a difference in TE the decay by T2 is a constant, which is part of S0 and fV.
        te, limits = np.zeros(b.size), limits | {name: (100.0, 100.0) for name in ("T2T", "T2V")}
    free = 1 + sum(lower < upper for lower, upper in limits.values())
    different = np.unique(b).size if not several else len(acquisition)
    if different < free:
        what = "volumes" if several else "different b-values at one echo time"
        problem = f"there are {different} {what} for {free} parameters"
        raise ProtocolError(problem, hint=f"hold the kurtosis at 0 (--kurtosis 0), use more volumes, {hint}")
    return np.ascontiguousarray(te, dtype=float), limits


def _maps(out: FloatArray, limits: Mapping[str, tuple[float, float]], several: bool) -> dict[str, FloatArray]:
    count = len(T2IVIM_PARAMETERS)
    maps = {name: out[:, i] for i, name in enumerate(T2IVIM_PARAMETERS) if several or name not in ("T2T", "T2V")}
    fitted = ["S0", *(name for name, (lower, upper) in limits.items() if lower < upper)]
    maps |= {f"{name}_se": out[:, count + T2IVIM_PARAMETERS.index(name)] for name in fitted}
    return maps | {"cost": out[:, 2 * count], "start": out[:, 2 * count + 2], "exit": out[:, 2 * count + 1]}


def _warnings(result: FitResult, limits: Mapping[str, tuple[float, float]], several: bool) -> tuple[str, ...]:
    """Warn of T2 alone: blood fraction may be 0, and its diffusivity is rarely determined, without any harm."""
    warnings, done = [], result.maps["exit"] > 0
    if not several:
        text = "there is one echo time, so T2 is not fitted, and S0 and fV are weighted by the T2 of either pool"
        warnings.append(f"T2-IVIM: {text}")
    lower, upper = limits["T2T"]
    t2t = result.maps["T2T"][done] if several else np.array([])
    fraction = np.mean((t2t < lower + 1e-3) | (t2t > upper - 1e-3)) if t2t.size else 0.0
    if fraction > 0.5 and lower < upper:
        often = f"in {100 * fraction:.0f} % of the fitted voxels the T2 of tissue is at its bound"
        warnings.append(f"T2-IVIM: {often} ({lower:g} or {upper:g} ms), so the data do not determine it there")
    why = "signal not finite or nowhere positive, or a noise level that is not positive"
    return (*warnings, *failure_warnings(result.counts, "T2-IVIM", why))


def normalising_maps(result: FitResult) -> dict[str, FloatArray | None]:
    """Return s0, fv and t2t, by which `fit` divides, and fv_se; where the step failed, S0 is -1: the fit fails too.

    After plain IVIM t2t is None: its S0 is that at the echo time.
    """
    codes, t2t = result.maps["exit"], result.maps.get("T2T")
    return {
        "s0": np.where(codes > 0, result.maps["S0"], np.where(codes < 0, -1.0, 0.0)),
        "fv": np.where(codes > 0, result.maps["fV"], 0.0),
        "t2t": None if t2t is None else np.where(codes > 0, t2t, 1.0),
        "fv_se": result.maps["fV_se"],
    }


def describe_t2ivim(result: FitResult) -> str:
    """Return a line on what was fitted."""
    n, held = result.counts, result.parameters["kurtosis"]
    how = "K fitted" if held == "fitted" else f"K held at {held:g}"
    done = f"{n['fitted'] + n['at_bound']} voxels fitted, fV or T2 of {n['at_bound']} at a bound"
    name = "IVIM of one echo time" if "model" in result.parameters else "T2-IVIM"
    title = f"{name} ({how}, {result.parameters['measurements']} volumes)"
    return f"{title}: {done}, {n['background']} background, {n['failed']} failed"
