"""Prepares the compiled fit: tables of the restricted diffusion, the grid of atoms, and the bounds of a model."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from histomri.arrays import FloatArray
from histomri.errors import ProtocolError
from histomri.fitting.models import PARAMETERS, Model
from histomri.fitting.signals import relative_adc
from histomri.mri import Acquisition

NOISES: dict[str, int] = {"none": 0, "offset-gaussian": 1, "rician": 2}
# Columns of the engine's output: values, standard errors, cost, exit, covariance of fI and L, cost of the best start,
# steps taken.
N_OUT, COST, EXIT = 15, 10, 11
_KNOT_STEP = 0.02
_NODES = {"D0I": 6, "vCS": 14, "DEinf": 6, "beta": 3}
# Regions that each send one start: thirds of the size, halves of the others.
_REGIONS = {"vCS": 3, "D0I": 2, "DEinf": 2, "beta": 2}
_CHUNK = 50_000


@dataclass(frozen=True)
class Engine:
    """A model on a protocol, ready to be fitted to any number of voxels.

    Attributes
    ----------
    model : Model
        The model.
    lower, upper : (5,) ndarray
        Bounds of `PARAMETERS`; equal where a parameter is not fitted.
    row : (M,) ndarray of int
        Distinct (encoding, b) pair of each measurement.
    """

    model: Model
    lower: FloatArray
    upper: FloatArray
    row: Any
    _setup: Any
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
        rows, row, counts = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        inverse_delta = np.array([1 / encodings[int(e)].Delta_ms for e in rows[:, 0]])
        tables, log0 = _tabulate([encoding.waveform for encoding in encodings], full["D0I"], full["vCS"])
        b, encoding_of = rows[:, 1] / 1000.0, rows[:, 0].astype(np.int64)
        setup = (tables, log0, _KNOT_STEP, encoding_of, b, inverse_delta, model.extra)
        d0, size = _lattice(_spread(full["D0I"], "D0I"), _spread(full["vCS"], "vCS", geometric=True))
        de, beta = _lattice(_spread(full["beta"], "beta"), _spread(full["DEinf"], "DEinf"))[::-1]
        inside = np.stack([relative_adc(4 * d0 / size**2, encoding.waveform) for encoding in encodings], axis=1)
        inside = np.exp(-b * (d0[:, None] * inside)[:, encoding_of])
        outside = np.exp(-b * (de[:, None] + beta[:, None] * inverse_delta)) * float(model.extra)
        atoms = _gram(inside, outside, counts.astype(float))
        nodes = (np.stack([d0, size], axis=1), np.stack([de, beta], axis=1))
        part = {n: _region(v, full[n], n) for n, v in (("vCS", size), ("D0I", d0), ("DEinf", de), ("beta", beta))}
        cells = (2 * part["vCS"] + part["D0I"], 6 * part["DEinf"] + 12 * part["beta"])
        grid = (atoms, nodes, cells)
        return cls(
            model, lower, upper, np.ravel(row).astype(np.int64), setup, grid, int(sum(c.max() for c in cells)) + 1
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
        (V, 15) ndarray
            Values, standard errors, cost, exit, covariance of fI and L, cost of the best start, steps taken.
        """
        from histomri.fitting import kernels

        out = np.full((y.shape[0], N_OUT), np.nan)
        tolerance = (1e-9, 1e-14) if noise == "none" else (1e-10, 1e-8)
        for start in range(0, y.shape[0], _CHUNK):
            part = slice(start, start + _CHUNK)
            kernels.fit_voxels(
                np.ascontiguousarray(y[part], dtype=np.float64),
                np.ascontiguousarray(sigma[part], dtype=np.float64),
                self.row, self._setup, *self._grid, self._cells, self.lower, self.upper,
                NOISES[noise], tolerance, out[part],
            )  # fmt: skip
            if progress is not None:
                progress(min(1.0, (start + _CHUNK) / y.shape[0]))
        return out


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


def _gram(inside: FloatArray, outside: FloatArray, counts: FloatArray) -> Any:
    return (
        np.ascontiguousarray(inside),
        np.ascontiguousarray(outside),
        (inside**2 * counts).sum(axis=1),
        np.ascontiguousarray((inside * counts) @ outside.T),
        (outside**2 * counts).sum(axis=1),
    )
