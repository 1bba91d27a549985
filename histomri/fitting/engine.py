"""Prepares the compiled fit: tables of the restricted diffusion, the grid of atoms, and the bounds of a model."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import config as numba_config
from scipy.interpolate import CubicSpline

from histomri.arrays import FloatArray, IntArray
from histomri.errors import ProtocolError
from histomri.fitting.models import PARAMETERS, Model
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

NOISES: dict[str, int] = {"none": 0, "offset-gaussian": 1, "rician": 2}
# Columns of the engine's output: values, standard errors, cost, exit, covariance of fI and L, steps taken.
N_OUT, COST, EXIT, COVARIANCE = 14, 10, 11, 12
_KNOT_STEP = 0.02
_NODES = {"D0I": 6, "vCS": 14, "DEinf": 6, "beta": 3}
# Regions that each send one start: thirds of the size, halves of the others.
_REGIONS = {"vCS": 3, "D0I": 2, "DEinf": 2, "beta": 2}
_BLOCK = 1024
# Steps that every start may take, how many of the last size are granted to catch up (with few starts, with many), the
# relative and absolute gain at which the best descent ends, and the others, and the objective that is as good as 0.
_BRIEF, _HOPELESS, _MANY = 3, (30.0, 5.0), 12
_TOLERANCE, _TOLERANCE_SQUARES = (1e-10, 1e-8, 1e-6, 1e-5, 1e-4), (1e-9, 1e-14, 1e-3, 1e-10, 1e-10)


@dataclass(frozen=True)
class Engine:
    """A model on a protocol, ready to be fitted to any number of voxels.

    Attributes
    ----------
    model : Model
        The model.
    limits : (3, 5) ndarray
        Lower and upper bounds of `PARAMETERS`, equal where a parameter is not fitted, and one over their distance.
    row : (M,) ndarray of int
        Distinct (encoding, b) pair of each measurement.
    """

    model: Model
    limits: FloatArray
    row: IntArray
    _rows: Any
    _grid: Any
    _cells: int

    @classmethod
    def build(cls, model: Model, acquisition: Acquisition, bounds: Mapping[str, tuple[float, float]]) -> "Engine":
        """Tabulate and prepare; takes milliseconds.

        Parameters
        ----------
        model : Model
            What to fit.
        acquisition : Acquisition
            The measurements to fit, none of them without gradients.
        bounds : mapping of str to (float, float)
            For each parameter fitted.
        """
        full = {name: (model.fixed.get(name, 0.0),) * 2 for name in PARAMETERS} | dict(bounds)
        lower, upper = (np.array([full[name][side] for name in PARAMETERS]) for side in (0, 1))
        encodings, index = acquisition.encodings()
        if np.any(index < 0):
            raise ProtocolError("volumes without gradients cannot be fitted", way_out="raise the b threshold")
        pairs = np.stack([index.astype(float), acquisition.b_smm2], axis=1)
        rows, row = np.unique(pairs, axis=0, return_inverse=True)
        encoding_of, b = rows[:, 0].astype(np.int64), rows[:, 1] / 1000.0
        inverse_delta = np.array([1 / encodings[e].Delta_ms for e in encoding_of])
        tables, log0 = _tabulate([encoding.waveform for encoding in encodings], full["D0I"], full["vCS"])
        d0, size = _lattice(_spread(full["D0I"], "D0I"), _spread(full["vCS"], "vCS", geometric=True))
        de, beta = _lattice(_spread(full["beta"], "beta"), _spread(full["DEinf"], "DEinf"))[::-1]
        inside = np.stack([relative_adc(4 * d0 / size**2, encoding.waveform) for encoding in encodings], axis=1)
        inside = np.exp(-b * (d0[:, None] * inside)[:, encoding_of])
        outside = np.exp(-b * (de[:, None] + beta[:, None] * inverse_delta)) * float(model.extra)
        nodes = (np.stack([d0, size], axis=1), np.stack([de, beta], axis=1))
        part = {n: _region(v, full[n], n) for n, v in (("vCS", size), ("D0I", d0), ("DEinf", de), ("beta", beta))}
        cells = (
            _REGIONS["D0I"] * part["vCS"] + part["D0I"],
            _REGIONS["vCS"] * _REGIONS["D0I"] * (part["DEinf"] + _REGIONS["DEinf"] * part["beta"]),
        )
        return cls(
            model,
            np.stack([lower, upper, 1 / np.maximum(upper - lower, 1e-300)]),
            np.ravel(row).astype(np.int64),
            (np.moveaxis(tables[encoding_of] * b[:, None, None], 0, -1), log0, b, b * inverse_delta),
            (inside, outside, nodes, cells),
            int(sum(c.max() for c in cells)) + 1,
        )

    def run(
        self, y: FloatArray, sigma: FloatArray, noise: str, progress: Callable[[float], None] | None = None
    ) -> FloatArray:
        """Fit voxels.

        Parameters
        ----------
        y, sigma : (V, M) ndarray
            Normalised signals and their noise levels (ignored by least squares).
        noise : {"none", "offset-gaussian", "rician"}
            The objective.
        progress : callable, optional
            Called with the fraction done.

        Returns
        -------
        (V, 14) ndarray
            Values, standard errors, cost, exit, covariance of fI and L, steps taken.
        """
        from histomri.fitting import kernels

        out = np.full((y.shape[0], kernels.N_OUT), np.nan)
        grouping = _Grouping.choose(self.row, sigma, noise)
        setup, atoms = self._prepare(grouping)
        _, _, nodes, cells = self._grid
        kernel = kernels.FIT_VOXELS[2 if noise == "rician" else int(self.model.extra)]
        hopeless = _HOPELESS[self._cells > _MANY]
        tune = np.array([_BRIEF, hopeless, *(_TOLERANCE_SQUARES if noise == "none" else _TOLERANCE)])
        if noise == "rician":
            tune[-1] = -np.inf  # that objective is not bounded by 0

        def work(part: slice) -> None:
            data, scatter = grouping.reduce(y[part], sigma[part], noise)
            kernel(data, setup, atoms, nodes, cells, self._cells, self.limits, tune, out[part])
            _complete(out[part], scatter, y.shape[1], noise)

        parts = [slice(start, start + _BLOCK) for start in range(0, y.shape[0], _BLOCK)]
        with ThreadPoolExecutor(numba_config.NUMBA_NUM_THREADS) as pool:
            for done, _ in enumerate(pool.map(work, parts), 1):
                if progress is not None:
                    progress(done / len(parts))
        return out

    def _prepare(self, grouping: "_Grouping") -> Any:
        """Lay the tables out by group, a multiple of eight wide: groups of weight zero fill vector registers up."""
        table, log0, b, over_delta = self._rows
        inside, outside, *_ = self._grid
        pad = grouping.width - grouping.row.size

        def wide(values: FloatArray) -> FloatArray:
            chosen = values[..., grouping.row]
            return np.ascontiguousarray(np.concatenate([chosen, np.zeros((*chosen.shape[:-1], pad))], axis=-1))

        setup = (wide(table), log0, 1 / _KNOT_STEP, wide(b), wide(over_delta), float(self.model.extra))
        inside, outside = wide(inside), wide(outside)
        counts = np.concatenate([grouping.counts, np.zeros(pad)])
        squares = (inside**2 * counts).sum(axis=1), (outside**2 * counts).sum(axis=1)
        return setup, (inside, outside, (inside * counts) @ outside.T, *squares, counts)


@dataclass(frozen=True)
class _Grouping:
    """Measurements that share encoding, b and noise level count as one, their mean.

    Attributes
    ----------
    group : (M,) ndarray of int
        Group of each measurement.
    row : (G,) ndarray of int
        Row of the engine's tables of each group.
    counts : (G,) ndarray
        Measurements in each group.
    """

    group: IntArray
    row: IntArray
    counts: FloatArray

    @classmethod
    def choose(cls, row: IntArray, sigma: FloatArray, noise: str) -> "_Grouping":
        first = np.unique(row, return_index=True)[1]
        # The exact Rician likelihood of several measurements is not that of their mean.
        alike = noise == "none" or (noise != "rician" and bool(np.all(sigma == sigma[:, first[row]])))
        group = row if alike else np.arange(row.size)
        return cls(group, np.arange(first.size) if alike else row, np.bincount(group).astype(float))

    @property
    def width(self) -> int:
        """Groups, with those of weight zero that make the number a multiple of eight."""
        return int(self.row.size + -self.row.size % 8)

    def reduce(self, y: FloatArray, sigma: FloatArray, noise: str) -> tuple[FloatArray, FloatArray]:
        """Return mean, variance and weight of each group, (V, 3, width), and the cost of the scatter within, (V,)."""
        size = self.row.size
        means = y @ (np.eye(size)[self.group] / self.counts)
        data = np.zeros((y.shape[0], 3, self.width))
        data[:, 0, :size] = means
        off = y - means[:, self.group]
        if noise == "none":
            data[:, 2, :size] = self.counts
            return data, np.asarray((off**2).sum(axis=1))
        data[:, 1] = 1.0
        data[:, 1, :size] = sigma[:, np.unique(self.group, return_index=True)[1]] ** 2
        data[:, 2, :size] = self.counts / data[:, 1, :size]
        return data, np.asarray(0.5 * ((off / sigma) ** 2).sum(axis=1))


def _complete(out: FloatArray, scatter: FloatArray, measurements: int, noise: str) -> None:
    """Add what averaging left out; for least squares, take the noise level from the residuals."""
    if noise != "none":
        out[:, COST] += scatter
        return
    out[:, COST] = 2 * out[:, COST] + scatter
    errors = out[:, len(PARAMETERS) : COST]
    freedom = measurements - np.isfinite(errors).sum(axis=1)
    scale = np.divide(out[:, COST], freedom, out=np.full(freedom.shape, np.nan), where=freedom > 0)
    errors *= np.sqrt(scale)[:, None]
    out[:, COVARIANCE] *= scale


def _tabulate(waveforms: list[Any], d0: tuple[float, float], size: tuple[float, float]) -> tuple[FloatArray, float]:
    """Tabulate ADC/D over ln(D/R²) as cubic splines, (E, knots, 4), with the position of the first knot.

    A step of 0.02 keeps the signal within 1e-8, and the table within the processor's nearest cache.
    """
    log0 = float(np.log(4 * d0[0] / size[1] ** 2)) - 2 * _KNOT_STEP
    log1 = float(np.log(4 * d0[1] / size[0] ** 2)) + 2 * _KNOT_STEP
    knots = log0 + _KNOT_STEP * np.arange(int(np.ceil((log1 - log0) / _KNOT_STEP)) + 1)
    tables = []
    for waveform in waveforms:
        coefficients = CubicSpline(knots, relative_adc(np.exp(knots), waveform)).c[::-1]
        tables.append((coefficients * _KNOT_STEP ** np.arange(4)[:, None]).T)
    return np.ascontiguousarray(tables), log0


def _spread(bounds: tuple[float, float], name: str, geometric: bool = False) -> FloatArray:
    if bounds[0] == bounds[1]:
        return np.array([bounds[0]])
    space = np.geomspace if geometric else np.linspace
    return np.asarray(space(bounds[0], bounds[1], _NODES[name]))


def _region(values: FloatArray, bounds: tuple[float, float], name: str) -> Any:
    """Return which part of the bounds each value lies in."""
    share = (values - bounds[0]) / max(bounds[1] - bounds[0], 1e-300)
    if name == "vCS" and bounds[1] > bounds[0]:
        share = np.log(values / bounds[0]) / np.log(bounds[1] / bounds[0])
    return np.clip((share * _REGIONS[name]).astype(np.int64), 0, _REGIONS[name] - 1)


def _lattice(fast: FloatArray, slow: FloatArray) -> tuple[FloatArray, FloatArray]:
    slow_grid, fast_grid = np.meshgrid(slow, fast, indexing="ij")
    return fast_grid.ravel(), slow_grid.ravel()
