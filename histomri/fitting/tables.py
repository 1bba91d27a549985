"""A model on a protocol, ready to be fitted: its tables, the grid of its starts, its bounds."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import ProtocolError
from histomri.fitting.compartments import Gone, Sphere
from histomri.fitting.models import Model
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

KNOT_STEP = 0.02
_NODES = (20, 5, 6, 2)
"""Nodes of the grid of starts: of size, diffusivity inside and outside, and its dependence on time."""
_BLOCK = 1024
_ROUNDING = 1e-9  # noise levels that differ by less than this of themselves are one
# Relative and absolute gain at which the best descent ends, and at which the others do; difference of scores that is
# none; objective that is as good as 0.
_TOLERANCE = ((1e-10, 1e-8), (1e-6, 1e-5), 1e-9, 1e-4)
_TOLERANCE_SQUARES = ((1e-9, 1e-14), (1e-3, 1e-10), 1e-12, 1e-10)
Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Engine:
    """A model on a protocol, ready to be fitted to any number of voxels.

    This one is for spheres with or without one compartment beside them, on normalised signals, and has a kernel of its
    own; `ComposedEngine` is for all others. `names` are the parameters by place, None for one that the model lacks;
    limits, (3, P), are lower and upper bounds, equal where one is not fitted, and one over their distance; `row` (M,)
    is the distinct measurement that each measurement is.
    """

    model: Model
    names: tuple[str | None, ...]
    limits: FloatArray
    row: IntArray
    _rows: Any
    _grid: Any

    @classmethod
    def of_spheres(
        cls, model: Model, names: tuple[str | None, ...], acquisition: Acquisition, bounds: Bounds
    ) -> "Engine":
        """Tabulate and prepare; names as of `sphere_places`, bounds for each parameter fitted."""
        known = {name: (value, value) for name, value in model.fixed.items()} | dict(bounds)
        full = [(0.0, 0.0) if name is None else known[name] for name in names]
        lower, upper = np.array(full).T.copy()
        encodings, index = acquisition.encodings()
        if np.any(index < 0):
            raise ProtocolError("volumes without gradients cannot be fitted", hint="raise the b threshold")
        pairs = np.stack([index.astype(float), acquisition.b_smm2], axis=1)
        rows, row = np.unique(pairs, axis=0, return_inverse=True)
        encoding_of, b = rows[:, 0].astype(np.int64), rows[:, 1] / 1000.0
        inverse_delta = np.array([1 / encodings[e].Delta_ms for e in encoding_of])
        tables, log0 = tabulate([encoding.waveform for encoding in encodings], full[1], full[2])
        ranges = (full[2], full[1], full[3], full[4])
        axes = tuple(_spread(each, count, place == 0) for place, (each, count) in enumerate(zip(ranges, _NODES)))
        size, d0 = (each.ravel() for each in np.meshgrid(*axes[:2], indexing="ij"))
        de, beta = (each.ravel() for each in np.meshgrid(*axes[2:], indexing="ij"))
        inside = np.stack([relative_adc(4 * d0 / size**2, encoding.waveform) for encoding in encodings], axis=1)
        inside = np.exp(-b * (d0[:, None] * inside)[:, encoding_of])
        outside = np.exp(-b * (de[:, None] + beta[:, None] * inverse_delta)) * float(model.extra)
        tabulated = (np.moveaxis(tables[encoding_of] * b[:, None, None], 0, -1), log0, b, b * inverse_delta)
        row = np.ravel(row).astype(np.int64)
        return cls(model, names, limits_of(lower, upper), row, tabulated, (inside, outside, axes))

    @property
    def columns(self) -> int:
        """Columns of `run`: a value and a standard error for each parameter, and four more."""
        return 2 * len(self.names) + 4

    def select(self, kept: Any) -> "Engine":
        """Return the engine of some of the measurements, (M,) of bool, without making its tables again."""
        there, row = np.unique(self.row[kept], return_inverse=True)
        table, log0, b, over_delta = self._rows
        inside, outside, axes = self._grid
        rows, grid = (table[..., there], log0, b[there], over_delta[there]), (inside[:, there], outside[:, there], axes)
        return replace(self, row=np.ravel(row).astype(np.int64), _rows=rows, _grid=grid)

    def run(self, y: FloatArray, sigma: FloatArray, noise: str, weights: FloatArray | None = None) -> FloatArray:
        """Fit normalised signals y with noise levels sigma, (V, M); least squares ignore these.

        Returns (V, `columns`): values, standard errors, cost, exit, covariance of fraction and size, steps taken.
        Weights, (V, M), multiply the terms of the objective.
        """
        from numba import config

        out = np.full((y.shape[0], self.columns), np.nan)
        # The exact Rician likelihood of several measurements is not that of their mean.
        together = np.full(y.shape[0], noise != "rician" and weights is None)
        if noise == "offset-gaussian" and weights is None:
            first = sigma[:, np.unique(self.row, return_index=True)[1][self.row]]
            together = np.all(np.abs(sigma - first) <= _ROUNDING * first, axis=1)
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
            found = np.empty((voxels.size, self.columns))
            fits[flag](*(np.ascontiguousarray(each[voxels]) for each in given), found)
            out[voxels] = found

        with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:
            list(pool.map(work, parts))
        out = self._finished(out)
        return _with_noise_level(out, y.shape[1], len(self.names)) if noise == "none" else out

    def _finished(self, out: FloatArray) -> FloatArray:
        """Return the output in the units of the parameters."""
        return out

    def _kernel(self, together: bool, noise: str, weighted: bool) -> Callable[..., None]:
        """Return the compiled fit, with measurements that share encoding, b and noise level counted as one, or not."""
        from histomri.fitting import kernels

        group = self.row if together else np.arange(self.row.size)
        row = np.arange(int(self.row.max()) + 1) if together else self.row
        kind, setup, grid, pad = self._setup(row, noise)
        counts = np.concatenate([np.bincount(group).astype(float), np.zeros(pad)])
        finest, fine, slack, zero = _TOLERANCE_SQUARES if noise == "none" else _TOLERANCE
        # The Rician objective is not bounded by 0.
        tolerance = (finest, fine, slack, -np.inf if noise == "rician" else zero, self._size(), self.pair)

        if weighted:
            from histomri.fitting.weighted import fit_weighted

            return partial(fit_weighted, kind, (setup, grid, self.limits, tolerance))
        kernel = kernels.FIT_VOXELS[kind]

        def fit(y: FloatArray, sigma: FloatArray, out: FloatArray) -> None:
            kernel(y, sigma, noise != "none", (group, counts), setup, grid, self.limits, tolerance, out)

        return fit

    @property
    def pair(self) -> tuple[int, int]:
        """The places of fraction and size of the spheres, whose covariance is wanted; -1 without any."""
        return 0, 2

    def _size(self) -> Any:
        """Return something as long as there are parameters; of a tuple the compiler knows the length."""
        return (0,) * 5

    def _setup(self, row: IntArray, noise: str) -> tuple[int, Any, Any, int]:
        """Return the kind of kernel, what its objective and its grid need of some rows, and rows added to them."""
        table, log0, b, over_delta = self._rows
        inside, outside, axes = self._grid
        # Groups of weight zero fill vector registers up.
        pad = -row.size % 8

        def wide(values: FloatArray) -> FloatArray:
            chosen = values[..., row]
            return np.ascontiguousarray(np.concatenate([chosen, np.zeros((*chosen.shape[:-1], pad))], axis=-1))

        setup = (wide(table), log0, 1 / KNOT_STEP, wide(b), wide(over_delta), float(self.model.extra))
        grid = ((wide(inside), np.ascontiguousarray(wide(outside).T)), axes)
        return 2 if noise == "rician" else int(self.model.extra), setup, grid, pad


def sphere_places(model: Model) -> tuple[str | None, ...] | None:
    """Return fraction, diffusivity, size, and diffusivity and time dependence outside; None if there is more."""
    first, *others = model.compartments
    if model.level or model.exchange or model.needs_te or len(others) > 1 or not isinstance(first, Sphere):
        return None
    if first.fraction is None or any(each.fraction or isinstance(each, Sphere | Gone) for each in others):
        return None
    outside = others[0].own if others else ()
    return (first.fraction, *first.own, *outside, *(None,) * (2 - len(outside)))


def limits_of(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """Return bounds, and one over their distance, (3, P)."""
    return np.stack([lower, upper, 1 / np.maximum(upper - lower, 1e-300)])


def _with_noise_level(out: FloatArray, measurements: int, count: int) -> FloatArray:
    """Turn half sums of squares into whole ones, and take the noise level of the errors from them."""
    cost, covariance = out[:, 2 * count], out[:, 2 * count + 2]
    cost *= 2
    errors = out[:, count : 2 * count]
    freedom = measurements - np.isfinite(errors).sum(axis=1)
    scale = np.divide(cost, freedom, out=np.full(freedom.shape, np.nan), where=freedom > 0)
    errors *= np.sqrt(scale)[:, None]
    covariance *= scale
    return out


def tabulate(waveforms: list[Any], d0: tuple[float, float], size: tuple[float, float]) -> tuple[FloatArray, float]:
    """Tabulate ADC/D over ln(D/R²) as cubic splines, (E, knots, 4), with the position of the first knot.

    A step of 0.02 keeps the signal within 1e-8, and the table within the processor's nearest cache.
    """
    log0 = float(np.log(4 * d0[0] / size[1] ** 2)) - 2 * KNOT_STEP
    log1 = float(np.log(4 * d0[1] / size[0] ** 2)) + 2 * KNOT_STEP
    knots = log0 + KNOT_STEP * np.arange(int(np.ceil((log1 - log0) / KNOT_STEP)) + 1)
    splines = [CubicSpline(knots, relative_adc(np.exp(knots), waveform)).c[::-1] for waveform in waveforms]
    return np.ascontiguousarray([(each * KNOT_STEP ** np.arange(4)[:, None]).T for each in splines]), log0


def _spread(bounds: tuple[float, float], count: int, geometric: bool) -> FloatArray:
    if bounds[0] == bounds[1]:
        return np.array([bounds[0]])
    return np.asarray((np.geomspace if geometric else np.linspace)(*bounds, count))
