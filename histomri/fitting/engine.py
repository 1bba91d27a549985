"""Fit of a tissue model to the signals of many voxels, by an engine that holds its tables, grid and bounds."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import ProtocolError
from histomri.core.progress import Progress, share_of
from histomri.fitting import PARAMETERS, Dictionary, Model, choices, get_model, predict
from histomri.fitting.choices import Bic, Noise, Normalisation, Voxels, log_likelihood, normalised
from histomri.fitting.dictionary import fit_examples
from histomri.fitting.results import FitResult, bound_warnings, maps_from
from histomri.fitting.robust import Robust, Scanned, choose_robust, look_for_misfit
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

# Columns of the engine's output: values, standard errors, cost, exit, covariance of fI and L, steps taken.
N_OUT, COST, EXIT, COVARIANCE = 14, 10, 11, 12
_KNOT_STEP = 0.02
_AXES = {"vCS": 20, "D0I": 5, "DEinf": 6, "beta": 2}
"""Nodes of the grid of starts, in the order of its axes."""
_CHUNK, _BLOCK = 50_000, 1024
# Relative and absolute gain at which the best descent ends, and at which the others do; difference of scores that is
# none; objective that is as good as 0.
_TOLERANCE = ((1e-10, 1e-8), (1e-6, 1e-5), 1e-9, 1e-4)
_TOLERANCE_SQUARES = ((1e-9, 1e-14), (1e-3, 1e-10), 1e-12, 1e-10)


def fit(
    signals: ArrayLike, acquisition: Acquisition | str | Path, model: str | Model | Dictionary = "diff-in", *,
    sigma: ArrayLike | None = None, bmin_smm2: float | None = None, strategy: str | None = None,
    s0: ArrayLike | None = None, fv: ArrayLike | None = None, t2t: ArrayLike | None = None,
    fv_se: ArrayLike | None = None, noise: Noise | None = None, preset: str = "mouse-exvivo",
    bounds: Mapping[str, tuple[float, float]] | None = None, bic: Bic = "schwarz", robust: Robust | None = None,
    slices: ArrayLike | None = None, volumes: ArrayLike | None = None, progress: Progress | None = None,
) -> FitResult:  # fmt: skip
    """Fit a tissue model to each voxel.

    Objective and models are those of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2: the offset-Gaussian
    log-likelihood is -½ Σ (m - sqrt(s² + σ²))² / σ² - N/2 ln(2πσ²). InputError or ProtocolError if what is given does
    not fit together; voxels that cannot be fitted get exit codes instead.

    Parameters
    ----------
    signals, acquisition : (V, M) array-like, and Acquisition, str or path-like
        Raw signals, one row per voxel, as `histomri.mri.Series` reads them from images; the protocol of the M volumes,
        its file, or the name of a preset.
    model : str, Model or Dictionary
        Such as "diff-in", or a declaration of one's own, or simulated signals of the same protocol.
    sigma, fv_se : float or (V,) array-like, optional
        Noise level, in the units of the signals; standard error of fV, which then is part of those of F and CD.
    bmin_smm2, strategy : float and {"whole", "high-b"}, optional
        Fit the measurements with b above this; by default the preset's for the strategy, "whole". A threshold given
        alone is recorded as the strategy that has it, or else as "custom".
    s0, fv, t2t : float or (V,) array-like, optional
        Signal without diffusion and relaxation, vascular fraction, tissue T2 (ms): signals are then divided by
        S0 (1 - fV) exp(-TE/T2); otherwise by the mean at b = 0 of the same echo time.
    noise : {"offset-gaussian", "rician", "none"}, optional
        The likelihood; by default offset-Gaussian if sigma is given and least squares ("none") if it is not.
    preset, bounds : {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}, and mapping of str to (float, float), optional
        Bounds and thresholds; bounds that replace these. Those of a dictionary are the range of its examples.
    bic : {"schwarz", "paper"}
        P ln N - 2 ln λ, or Eq. 15 of the paper, P ln N - ln λ.
    robust : {"loo", "tukey", "none"}, optional
        "loo" leaves spoilt volumes out of the slices they spoil, and one measurement out of single voxels that fit
        without it only; "tukey" weighs measurements by their residuals. By default "loo" if sigma is given.
    slices, volumes : (V,) and (M,) array-like of int, optional
        Slice of each voxel, and number of each volume in its series, from 0; by default all voxels count as one slice.

    Returns
    -------
    FitResult
        Maps (V,). Without fV, F equals fI. With sigma also chi2, and pMisfit: the probability of a larger χ² if the
        model is true; both, logL and BIC are of the fit of all measurements. Of a dictionary those of its
        parameters, and F and CD where it has fI, vCS.

    Examples
    --------
    >>> from histomri.fitting import fit, predict
    >>> from histomri.mri import Acquisition
    >>> mouse = Acquisition.preset("mouse-exvivo")
    >>> signals = predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 16.0}, mouse)
    >>> signals[:, mouse.is_b0] = 1
    >>> fit(signals, mouse, "diff-in", strategy="high-b").maps["vCS"].round(2)
    array([16.])
    """
    values, acquisition = choices.check_scan(signals, acquisition)
    noise = choices.choose_noise(noise, sigma)
    choices.check_bic(bic)
    how_robust = choose_robust(robust, noise, isinstance(model, Dictionary))
    strategy, threshold = choices.choose_threshold(preset, strategy, bmin_smm2)
    declared = model if isinstance(model, Dictionary) else get_model(model)
    if isinstance(declared, Dictionary):
        limits = declared.bounds
    else:
        limits = choices.replace_bounds(declared.bounds(preset), bounds, declared.display_name, held=False)
    used = choices.choose_measurements(acquisition, threshold, len(limits), declared.display_name)
    how = Normalisation.choose(acquisition, used, values.shape[0], s0, fv, t2t, fv_se)
    levels = choices.noise_level(sigma, values.shape[0])
    if isinstance(declared, Dictionary):
        declared.require(len(acquisition))
    chosen = declared.select(used) if isinstance(declared, Dictionary) else declared
    solver = _Solver(chosen, acquisition.select(used), limits, noise, bic)
    parts, count = [], values.shape[0]
    for start in range(0, max(count, 1), solver.size):  # a part at a time, so that the memory is bounded
        part = slice(start, min(start + solver.size, count))
        parts.append(solver.run(normalised(values[part].astype(np.float64), levels[part], part, how, noise)))
        share_of(progress)(part.stop / max(count, 1))
    maps = {name: np.concatenate([each[name] for each in parts]) for name in parts[0]}
    settings: dict[str, Any] = {
        "preset": preset, "strategy": strategy, "bmin_smm2": threshold, "measurements": int(used.sum()),
        "bounds": {name: list(pair) for name, pair in limits.items()}, "noise": noise, "normalisation": how.description,
        "bic": bic, "robust": how_robust,
    }  # fmt: skip
    if isinstance(declared, Dictionary):
        settings["examples"] = declared.parameters.shape[0]
    title, warnings = f"{declared.display_name} ({strategy})", tuple[str, ...]()
    if noise != "none":
        places = (choices.slices_of(slices, count), choices.volumes_of(volumes, acquisition)[used])
        scan = Scanned(values, levels, how, *places)
        misfit = look_for_misfit(maps, scan, solver, tuple(limits), how_robust)
        settings["misfit"], warnings = misfit.record(), misfit.warnings(title, scan.slices)
    result = FitResult(declared.name, maps, settings)
    return replace(result, warnings=(*bound_warnings(result.counts, title, maps), *warnings))


def _fit_part(
    engine: "Engine", voxels: Voxels, noise: str, bic: str, weights: FloatArray | None = None
) -> dict[str, FloatArray]:
    out = np.full((voxels.good.size, N_OUT), np.nan)
    out[:, EXIT] = voxels.codes
    out[voxels.good] = engine.run(voxels.y, voxels.sigma, noise, weights)
    likelihood = np.full(voxels.good.size, np.nan)
    likelihood[voxels.good] = log_likelihood(out[voxels.good, COST], voxels.y, voxels.sigma, noise)
    return maps_from(out, engine.model, voxels.blood, likelihood, voxels.y.shape[1], bic)


class _Solver:
    """A model or a dictionary on the measurements used, (N,), which fits voxels to all of them or to some."""

    def __init__(
        self, declared: Model | Dictionary, acquisition: Acquisition, limits: Any, noise: str, bic: str
    ) -> None:
        self.declared, self.acquisition, self.noise, self.bic = declared, acquisition, noise, bic
        self._fit: Callable[..., dict[str, FloatArray]]
        self._whole: Engine | Dictionary
        if isinstance(declared, Dictionary):
            self.size, self._fit, self._whole = declared.chunk, fit_examples, declared
        else:
            self.size, self._fit, self._whole = _CHUNK, _fit_part, Engine.build(declared, acquisition, limits)

    def run(self, voxels: Voxels, kept: BoolArray | None = None) -> dict[str, FloatArray]:
        """Return maps of voxels, (V,), fitted to the measurements kept."""
        if kept is None or kept.all():
            return self._fit(self._whole, voxels, self.noise, self.bic)
        return self._fit(self._whole.select(kept), voxels.columns(kept), self.noise, self.bic)

    def run_weighted(self, voxels: Voxels, weights: FloatArray) -> dict[str, FloatArray]:
        """Return maps of voxels that can be fitted, with a weight of each measurement, (V, N)."""
        return self._fit(self._whole, voxels, self.noise, self.bic, weights)

    def signals(self, maps: Mapping[str, FloatArray]) -> FloatArray:
        """Return noise-free signals, (V, N), of fitted parameters."""
        if isinstance(self.declared, Dictionary):
            return self.declared.predict(np.stack([maps[name] for name in self.declared.names], axis=1))
        return predict(self.declared, {name: maps[name] for name in self.declared.parameters}, self.acquisition)


@dataclass(frozen=True)
class Engine:
    """A model on a protocol, ready to be fitted to any number of voxels.

    Limits, (3, 5), are lower and upper bounds of `PARAMETERS`, equal where one is not fitted, and one over their
    distance; `row` (M,) is the distinct (encoding, b) pair of each measurement.
    """

    model: Model
    limits: FloatArray
    row: IntArray
    _rows: Any
    _grid: Any

    @classmethod
    def build(cls, model: Model, acquisition: Acquisition, bounds: Mapping[str, tuple[float, float]]) -> "Engine":
        """Tabulate and prepare, in milliseconds, for measurements with gradients; bounds for each parameter fitted."""
        full = {name: (model.fixed.get(name, 0.0),) * 2 for name in PARAMETERS} | dict(bounds)
        lower, upper = (np.array([full[name][side] for name in PARAMETERS]) for side in (0, 1))
        encodings, index = acquisition.encodings()
        if np.any(index < 0):
            raise ProtocolError("volumes without gradients cannot be fitted", hint="raise the b threshold")
        pairs = np.stack([index.astype(float), acquisition.b_smm2], axis=1)
        rows, row = np.unique(pairs, axis=0, return_inverse=True)
        encoding_of, b = rows[:, 0].astype(np.int64), rows[:, 1] / 1000.0
        inverse_delta = np.array([1 / encodings[e].Delta_ms for e in encoding_of])
        tables, log0 = _tabulate([encoding.waveform for encoding in encodings], full["D0I"], full["vCS"])
        axes = tuple(_spread(full[name], name) for name in _AXES)
        size, d0 = (each.ravel() for each in np.meshgrid(*axes[:2], indexing="ij"))
        de, beta = (each.ravel() for each in np.meshgrid(*axes[2:], indexing="ij"))
        inside = np.stack([relative_adc(4 * d0 / size**2, encoding.waveform) for encoding in encodings], axis=1)
        inside = np.exp(-b * (d0[:, None] * inside)[:, encoding_of])
        outside = np.exp(-b * (de[:, None] + beta[:, None] * inverse_delta)) * float(model.extra)
        limits = np.stack([lower, upper, 1 / np.maximum(upper - lower, 1e-300)])
        tabulated = (np.moveaxis(tables[encoding_of] * b[:, None, None], 0, -1), log0, b, b * inverse_delta)
        return cls(model, limits, np.ravel(row).astype(np.int64), tabulated, (inside, outside, axes))

    def select(self, kept: BoolArray) -> "Engine":
        """Return the engine of some of the measurements, (M,) of bool, without making its tables again."""
        there, row = np.unique(self.row[kept], return_inverse=True)
        table, log0, b, over_delta = self._rows
        inside, outside, axes = self._grid
        rows, grid = (table[..., there], log0, b[there], over_delta[there]), (inside[:, there], outside[:, there], axes)
        return replace(self, row=np.ravel(row).astype(np.int64), _rows=rows, _grid=grid)

    def run(self, y: FloatArray, sigma: FloatArray, noise: str, weights: FloatArray | None = None) -> FloatArray:
        """Fit normalised signals y with noise levels sigma, (V, M); least squares ignore these.

        Returns (V, 14): values, standard errors, cost, exit, covariance of fI and L, steps taken. Weights, (V, M),
        multiply the terms of the objective.
        """
        from numba import config

        out = np.full((y.shape[0], N_OUT), np.nan)
        # The exact Rician likelihood of several measurements is not that of their mean.
        together = np.full(y.shape[0], noise != "rician" and weights is None)
        if noise == "offset-gaussian" and weights is None:
            together = np.all(sigma == sigma[:, np.unique(self.row, return_index=True)[1][self.row]], axis=1)
        parts = [
            (flag, voxels[start : start + _BLOCK])
            for flag in (True, False)
            for voxels in (np.flatnonzero(together == flag),)
            for start in range(0, voxels.size, _BLOCK)
        ]
        fits = {flag: self._kernel(flag, noise, weights is not None) for flag in {flag for flag, _ in parts}}
        given = (y, sigma) if weights is None else (y, sigma, weights)

        def work(part: tuple[bool, IntArray]) -> None:
            flag, voxels = part
            found = np.empty((voxels.size, N_OUT))
            fits[flag](*(np.ascontiguousarray(each[voxels]) for each in given), found)
            out[voxels] = found

        with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:
            list(pool.map(work, parts))
        return _with_noise_level(out, y.shape[1]) if noise == "none" else out

    def _kernel(self, together: bool, noise: str, weighted: bool) -> Callable[..., None]:
        """Return the compiled fit, with measurements that share encoding, b and noise level counted as one, or not."""
        from histomri.fitting import kernels

        table, log0, b, over_delta = self._rows
        inside, outside, axes = self._grid
        group = self.row if together else np.arange(self.row.size)
        row = np.arange(b.size) if together else self.row
        # Groups of weight zero fill vector registers up.
        pad = -row.size % 8

        def wide(values: FloatArray) -> FloatArray:
            chosen = values[..., row]
            return np.ascontiguousarray(np.concatenate([chosen, np.zeros((*chosen.shape[:-1], pad))], axis=-1))

        counts = np.concatenate([np.bincount(group).astype(float), np.zeros(pad)])
        setup = (wide(table), log0, 1 / _KNOT_STEP, wide(b), wide(over_delta), float(self.model.extra))
        grid = ((wide(inside), np.ascontiguousarray(wide(outside).T)), axes)
        kind = 2 if noise == "rician" else int(self.model.extra)
        finest, fine, slack, zero = _TOLERANCE_SQUARES if noise == "none" else _TOLERANCE
        # The Rician objective is not bounded by 0.
        tolerance = (finest, fine, slack, -np.inf if noise == "rician" else zero)

        if weighted:
            from histomri.fitting.weighted import fit_weighted

            return partial(fit_weighted, kind, (setup, grid, self.limits, tolerance))
        kernel = kernels.FIT_VOXELS[kind]

        def fit(y: FloatArray, sigma: FloatArray, out: FloatArray) -> None:
            kernel(y, sigma, noise != "none", (group, counts), setup, grid, self.limits, tolerance, out)

        return fit


def _with_noise_level(out: FloatArray, measurements: int) -> FloatArray:
    """Turn half sums of squares into whole ones, and take the noise level of the errors from them."""
    out[:, COST] *= 2
    errors = out[:, len(PARAMETERS) : COST]
    freedom = measurements - np.isfinite(errors).sum(axis=1)
    scale = np.divide(out[:, COST], freedom, out=np.full(freedom.shape, np.nan), where=freedom > 0)
    errors *= np.sqrt(scale)[:, None]
    out[:, COVARIANCE] *= scale
    return out


def _tabulate(waveforms: list[Any], d0: tuple[float, float], size: tuple[float, float]) -> tuple[FloatArray, float]:
    """Tabulate ADC/D over ln(D/R²) as cubic splines, (E, knots, 4), with the position of the first knot.

    A step of 0.02 keeps the signal within 1e-8, and the table within the processor's nearest cache.
    """
    log0 = float(np.log(4 * d0[0] / size[1] ** 2)) - 2 * _KNOT_STEP
    log1 = float(np.log(4 * d0[1] / size[0] ** 2)) + 2 * _KNOT_STEP
    knots = log0 + _KNOT_STEP * np.arange(int(np.ceil((log1 - log0) / _KNOT_STEP)) + 1)
    splines = [CubicSpline(knots, relative_adc(np.exp(knots), waveform)).c[::-1] for waveform in waveforms]
    return np.ascontiguousarray([(each * _KNOT_STEP ** np.arange(4)[:, None]).T for each in splines]), log0


def _spread(bounds: tuple[float, float], name: str) -> FloatArray:
    if bounds[0] == bounds[1]:
        return np.array([bounds[0]])
    return np.asarray((np.geomspace if name == "vCS" else np.linspace)(*bounds, _AXES[name]))
