"""Prepares the compiled fit: tables of the restricted diffusion, the grid of starts, and the bounds of a model."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import ProtocolError
from histomri.core.progress import Progress, share_of
from histomri.fitting.models import PARAMETERS, Model
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

# Columns of the engine's output: values, standard errors, cost, exit, covariance of fI and L, steps taken.
N_OUT, COST, EXIT, COVARIANCE = 14, 10, 11, 12
_KNOT_STEP = 0.02
_AXES = {"vCS": 20, "D0I": 5, "DEinf": 6, "beta": 2}
"""Nodes of the grid of starts, in the order of its axes."""
_BLOCK = 1024
# Relative and absolute gain at which the best descent ends, and at which the others do; difference of scores that is
# none; objective that is as good as 0.
_TOLERANCE = ((1e-10, 1e-8), (1e-6, 1e-5), 1e-9, 1e-4)
_TOLERANCE_SQUARES = ((1e-9, 1e-14), (1e-3, 1e-10), 1e-12, 1e-10)


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

    def run(self, y: FloatArray, sigma: FloatArray, noise: str, progress: Progress | None = None) -> FloatArray:
        """Fit normalised signals y with noise levels sigma, (V, M); least squares ignore these.

        Returns (V, 14): values, standard errors, cost, exit, covariance of fI and L, steps taken.
        """
        from numba import config

        out = np.full((y.shape[0], N_OUT), np.nan)
        # The exact Rician likelihood of several measurements is not that of their mean.
        together = np.full(y.shape[0], noise != "rician")
        if noise == "offset-gaussian":
            together = np.all(sigma == sigma[:, np.unique(self.row, return_index=True)[1][self.row]], axis=1)
        parts = [
            (flag, voxels[start : start + _BLOCK])
            for flag in (True, False)
            for voxels in (np.flatnonzero(together == flag),)
            for start in range(0, voxels.size, _BLOCK)
        ]
        fits = {flag: self._kernel(flag, noise) for flag in {flag for flag, _ in parts}}

        def work(part: tuple[bool, IntArray]) -> None:
            flag, voxels = part
            found = np.empty((voxels.size, N_OUT))
            fits[flag](np.ascontiguousarray(y[voxels]), np.ascontiguousarray(sigma[voxels]), found)
            out[voxels] = found

        with ThreadPoolExecutor(config.NUMBA_NUM_THREADS) as pool:
            for done, _ in enumerate(pool.map(work, parts), 1):
                share_of(progress)(done / len(parts))
        return _with_noise_level(out, y.shape[1]) if noise == "none" else out

    def _kernel(self, together: bool, noise: str) -> Callable[[FloatArray, FloatArray, FloatArray], None]:
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
        kernel = kernels.FIT_VOXELS[2 if noise == "rician" else int(self.model.extra)]
        finest, fine, slack, zero = _TOLERANCE_SQUARES if noise == "none" else _TOLERANCE
        # The Rician objective is not bounded by 0.
        tolerance = (finest, fine, slack, -np.inf if noise == "rician" else zero)

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
