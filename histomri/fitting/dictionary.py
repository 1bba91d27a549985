"""Tissue models known only by examples: signals simulated for many parameters, interpolated between, and fitted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree
from scipy.special import ive

from histomri.core.array_files import read_array
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.door import reading, require_file
from histomri.core.errors import InputError
from histomri.core.tables import read_table
from histomri.fitting.choices import Voxels, log_likelihood
from histomri.fitting.cramer_rao import invert_information
from histomri.fitting.results import AT_BOUND, FITTED, criteria, derived

_WHAT = "dictionary"
_CHUNK, _CHUNK_VALUES = 4096, 20_000_000
_STARTS, _NEIGHBOURS, _ALL_BELOW = 4, 80, 500
_ITERATIONS, _STEP, _GAIN = 60, 1e-4, 1e-9
Forward = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Dictionary:
    """Signals of known parameters, and all between them by radial basis functions.

    Cubic radial basis functions with a linear trend (scipy's `RBFInterpolator`), of all examples or, beyond 500, of the
    80 nearest, on parameters scaled to their range. The range of the examples is that of the fit. InputError if shapes
    differ, a number is missing, examples repeat, or there are too few for the parameters.

    Attributes
    ----------
    names : tuple of str
        Parameters; fI, vCS, D0I... mean what they mean elsewhere, others are free.
    parameters, signals : (K, P) and (K, M) ndarray
        Of the K examples; signals are normalised to 1 at b = 0, one column per volume of the protocol.
    sources : tuple of Path
        The files it was read from.
    """

    names: tuple[str, ...]
    parameters: FloatArray
    signals: FloatArray
    sources: tuple[Path, ...] = ()
    name: ClassVar[str] = "dictionary"
    display_name: ClassVar[str] = "Dictionary"
    _forward: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parameters, signals = np.asarray(self.parameters, dtype=float), np.asarray(self.signals, dtype=float)
        parameters = parameters[:, None] if parameters.ndim == 1 else parameters
        if parameters.ndim != 2 or signals.ndim != 2 or parameters.shape[0] != signals.shape[0]:
            problem = f"a dictionary of {parameters.shape} parameters and {signals.shape} signals does not fit together"
            raise InputError(problem, hint="give one row per example in both")
        if len(self.names) != parameters.shape[1] or len(set(self.names)) != len(self.names):
            raise InputError(f"there are {parameters.shape[1]} parameters, and the names are {', '.join(self.names)}")
        if not (np.all(np.isfinite(parameters)) and np.all(np.isfinite(signals))):
            raise InputError("the dictionary holds values that are not numbers")
        if parameters.shape[0] < 2 * (parameters.shape[1] + 1):
            raise InputError(f"{parameters.shape[0]} examples are too few for {parameters.shape[1]} parameters")
        span = parameters.max(axis=0) - parameters.min(axis=0)
        if np.any(span <= 0):
            raise InputError(f"all examples have the same {self.names[int(np.argmin(span))]}", hint="leave it out")
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "signals", signals)
        places = self.scaled(parameters)
        if cKDTree(places).query(places, k=2)[0][:, 1].min() < 1e-9:
            raise InputError("two examples have the same parameters", hint="average them")
        near = None if places.shape[0] <= _ALL_BELOW else _NEIGHBOURS
        object.__setattr__(self, "_forward", RBFInterpolator(places, signals, kernel="cubic", degree=1, neighbors=near))

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Range of each parameter among the examples."""
        low, high = self.parameters.min(axis=0), self.parameters.max(axis=0)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.names)}

    def scaled(self, parameters: FloatArray) -> FloatArray:
        """Return parameters as fractions of their range, (V, P)."""
        low = self.parameters.min(axis=0)
        return np.asarray((parameters - low) / (self.parameters.max(axis=0) - low))

    def predict(self, parameters: ArrayLike) -> FloatArray:
        """Return interpolated signals (V, M) of parameters (V, P) within the range of the examples."""
        return np.asarray(self._forward(self.scaled(np.atleast_2d(np.asarray(parameters, dtype=float)))))

    def require(self, volumes: int) -> None:
        """Raise InputError if the protocol has another number of volumes."""
        if self.signals.shape[1] != volumes:
            raise InputError(f"the dictionary has {self.signals.shape[1]} volumes, the protocol {volumes}")

    @property
    def chunk(self) -> int:
        """How many voxels are fitted at a time: the distances of all examples to their starts are held."""
        return int(np.clip(_CHUNK_VALUES // self.parameters.size, 1, _CHUNK))

    def select(self, used: Any) -> "Dictionary":
        """Return the dictionary of some volumes."""
        return replace(self, signals=self.signals[:, used])

    @classmethod
    def load(
        cls, signals: str | Path, parameters: str | Path | None = None, names: Sequence[str] | None = None
    ) -> "Dictionary":
        """Read signals, .npy of shape (K, M), and their parameters: .npy of shape (K, P), or a table with names.

        One table (.csv, .tsv) can hold both: columns of parameters and then signals named s0, s1... The names are those
        of the columns of an .npy of parameters; by default p1, p2...
        """
        with reading(signals, _WHAT):
            return cls._load(signals, parameters, names)

    @classmethod
    def _load(cls, signals: str | Path, parameters: str | Path | None, names: Sequence[str] | None) -> "Dictionary":
        values = _read(signals)
        if parameters is None:
            if not isinstance(values, pd.DataFrame):
                raise InputError("signals come without parameters", path=signals, hint="give both files, or a table")
            numbered = (name for name in values.columns if name[:1] == "s" and name[1:].isdigit())
            columns = sorted(numbered, key=lambda name: int(name[1:]))
            others = [name for name in values.columns if name not in columns]
            return cls(tuple(others), values[others].to_numpy(float), values[columns].to_numpy(float), (Path(signals),))
        known = _read(parameters)
        if isinstance(known, pd.DataFrame):
            names, known = tuple(known.columns), known.to_numpy(float)
        known = known[:, None] if known.ndim == 1 else known
        matrix = values.to_numpy(float) if isinstance(values, pd.DataFrame) else values
        chosen = tuple(names or (f"p{i + 1}" for i in range(known.shape[-1])))
        return cls(chosen, known, matrix, (Path(signals), Path(parameters)))


def fit_examples(dictionary: Dictionary, voxels: Voxels, noise: str, bic: str) -> dict[str, FloatArray]:
    """Return the maps of a dictionary fitted to some voxels."""
    names, count, size = dictionary.names, len(dictionary.names), voxels.good.size
    values, errors = np.full((2, size, count), np.nan)
    covariance = np.full((size, count, count), np.nan)
    (cost, likelihood), codes = np.full((2, size), np.nan), voxels.codes.copy()
    if (good := voxels.good).any():
        values[good], errors[good], covariance[good], cost[good], codes[good] = _fit_voxels(voxels, dictionary, noise)
        likelihood[good] = log_likelihood(cost[good], voxels.y, voxels.sigma, noise)
    maps = {name: values[:, i] for i, name in enumerate(names)}
    maps |= {f"{name}_se": errors[:, i] for i, name in enumerate(names)}
    if "fI" in names:
        f = names.index("fI")
        v = names.index("vCS") if "vCS" in names else None
        inside = () if v is None else (values[:, v], errors[:, v], covariance[:, f, v])
        maps |= derived(values[:, f], errors[:, f], voxels.blood, *inside)
    return maps | criteria(cost, likelihood, count, dictionary.signals.shape[1], bic) | {"exit": codes}


def _fit_voxels(voxels: Voxels, dictionary: Dictionary, noise: str) -> tuple[FloatArray, ...]:
    """Return values and standard errors (V, P), covariances (V, P, P), objective and exit code (V,)."""
    y, sigma, forward = voxels.y, voxels.sigma, dictionary._forward
    best, cost = np.zeros((y.shape[0], len(dictionary.names))), np.full(y.shape[0], np.inf)
    for start in _starts(y, sigma, dictionary, noise):
        theta, reached = descend(forward, y, sigma, noise, start)
        better = reached < cost
        best[better], cost[better] = theta[better], reached[better]
    errors, covariance, at_bound = standard_errors(forward, best, y, sigma, noise)
    low, high = np.array(list(dictionary.bounds.values())).T
    width = high - low
    codes = np.where(at_bound.any(axis=1), AT_BOUND, FITTED).astype(float)
    return low + best * width, errors * width, covariance * np.outer(width, width), cost, codes


def _starts(y: FloatArray, sigma: FloatArray, dictionary: Dictionary, noise: str) -> list[FloatArray]:
    """Return the examples that fit best, each far from those before it."""
    places = dictionary.scaled(dictionary.parameters)
    target = y if noise == "none" else np.sqrt(np.maximum(y**2 - sigma**2, 0.0))
    weight = np.ones_like(y) if noise == "none" else sigma**-2.0
    score = weight @ (dictionary.signals**2).T - 2 * (weight * target) @ dictionary.signals.T
    starts = []
    for _ in range(_STARTS):
        starts.append(places[np.argmin(score, axis=1)])
        score[np.abs(starts[-1][:, None, :] - places[None]).max(axis=-1) < 0.34] = np.inf
    return starts


def _read(path: str | Path) -> Any:
    path = require_file(path, _WHAT)
    if path.suffix == ".npy":
        array = read_array(path, _WHAT, says="cannot be read as a dictionary ({})")
        if array.dtype.kind not in "iuf":
            raise InputError(f"holds {array.dtype}, and a dictionary holds real numbers", path=path)
        return array.astype(float)
    table = read_table(path)
    return table.numbers(table.names)


# Levenberg-Marquardt for many voxels at once, for a forward model that is only known as a function of arrays.
def objective(signal: FloatArray, y: FloatArray, sigma: FloatArray, noise: str) -> tuple[FloatArray, ...]:
    """Return the objectives (V,), their slopes and their curvatures with respect to the signals, (V, M).

    Sum of squares for "none", negative log-likelihoods up to a constant otherwise, as in the compiled engine.
    """
    if noise == "none":
        residual = signal - y
        return (residual**2).sum(axis=1), 2 * residual, np.full_like(residual, 2.0)
    precision = sigma**-2.0
    root = np.hypot(signal, sigma)
    ratio = signal / root
    if noise == "offset-gaussian":
        residual = root - y
        return 0.5 * (precision * residual**2).sum(axis=1), precision * residual * ratio, precision * ratio**2
    z = y * signal * precision
    even, odd = ive(0, z), ive(1, z)
    cost = 0.5 * precision * (signal - y) ** 2 - np.log(even)
    return cost.sum(axis=1), precision * (signal - y * odd / even), precision * ratio**2


def descend(
    forward: Forward, y: FloatArray, sigma: FloatArray, noise: str, start: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Lower the objective of each voxel within [0, 1] of every parameter, from a start (V, P).

    `forward` leads from parameters (V, P) to signals (V, M). Returns where it ended, and the objective there, (V,),
    which is never above that of the start.
    """
    theta = start.copy()
    cost, *_ = objective(forward(theta), y, sigma, noise)
    damping, active = np.full(cost.shape, 1e-3), np.ones(cost.shape, dtype=bool)
    for _ in range(_ITERATIONS):
        v = np.flatnonzero(active)
        if v.size == 0:
            break
        signal, jacobian = _jacobian(forward, theta[v])
        _, force, weight = objective(signal, y[v], sigma[v], noise)
        gradient = np.einsum("vm,vmp->vp", force, jacobian)
        information = np.einsum("vmp,vm,vmq->vpq", jacobian, weight, jacobian)
        trial = _step(theta[v], gradient, information, damping[v])
        new, *_ = objective(forward(trial), y[v], sigma[v], noise)
        better = new < cost[v]
        gain = np.where(better, cost[v] - new, 0.0)
        theta[v[better]], cost[v[better]] = trial[better], new[better]
        damping[v] = np.where(better, damping[v] / 9, damping[v] * 4)
        small = better & (gain <= _GAIN * (np.abs(new) + 1e-3 * (noise != "none")))
        active[v] = ~(small | (damping[v] > 1e8))
    return theta, cost


def standard_errors(
    forward: Forward, theta: FloatArray, y: FloatArray, sigma: FloatArray, noise: str
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Return standard errors (V, P), covariances (V, P, P) and which parameters are at a bound (V, P).

    Parameters at a bound, and those that the measurements leave open, have no error.
    """
    signal, jacobian = _jacobian(forward, theta)
    cost, _, weight = objective(signal, y, sigma, noise)
    information = np.einsum("vmp,vm,vmq->vpq", jacobian, weight, jacobian)
    at_bound = (theta < 1e-6) | (theta > 1 - 1e-6)
    covariance, open_ = invert_information(_hold(information, at_bound))
    if noise == "none":
        free = y.shape[1] - (~at_bound).sum(axis=1)
        covariance *= (2 * cost / np.where(free > 0, free, np.nan))[:, None, None]
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    return np.where(at_bound | open_, np.nan, np.sqrt(np.maximum(variance, 0.0))), covariance, at_bound


def _jacobian(forward: Forward, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    columns = []
    for i in range(theta.shape[1]):
        ahead, behind = theta.copy(), theta.copy()
        ahead[:, i] = np.minimum(theta[:, i] + _STEP, 1.0)
        behind[:, i] = np.maximum(theta[:, i] - _STEP, 0.0)
        columns.append((forward(ahead) - forward(behind)) / (ahead - behind)[:, i, None])
    return forward(theta), np.stack(columns, axis=-1)


def _step(theta: FloatArray, gradient: FloatArray, information: FloatArray, damping: FloatArray) -> FloatArray:
    held = ((theta <= 0) & (gradient > 0)) | ((theta >= 1) & (gradient < 0))
    diagonal = np.diagonal(information, axis1=1, axis2=2)
    damped = information + np.eye(theta.shape[1]) * (damping[:, None] * diagonal + 1e-300)[:, None, :]
    scale = 1 / np.sqrt(np.maximum(np.diagonal(damped, axis1=1, axis2=2), 1e-300))
    scaled = _hold(damped * scale[:, :, None] * scale[:, None, :], held) + 1e-12 * np.eye(theta.shape[1])
    right = np.where(held, 0.0, -gradient * scale)
    return np.clip(theta + np.linalg.solve(scaled, right[..., None])[..., 0] * scale, 0.0, 1.0)


def _hold(matrix: FloatArray, held: BoolArray) -> FloatArray:
    """Replace rows and columns of the parameters held by those of the identity."""
    return np.where(held[:, :, None] | held[:, None, :], np.eye(held.shape[1]) * held[:, :, None], matrix)
