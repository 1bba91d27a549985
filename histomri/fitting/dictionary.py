"""Tissue models known only by examples: signals simulated for many parameters, interpolated between, and fitted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.interpolate import RBFInterpolator
from scipy.spatial import cKDTree

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import require_file
from histomri.fitting.batched import descend, standard_errors
from histomri.fitting.normalise import Voxels, log_likelihood
from histomri.fitting.results import AT_BOUND, FITTED, criteria, derived

_CHUNK, _CHUNK_VALUES = 4096, 20_000_000
_STARTS = 4
_NEIGHBOURS = 80
_ALL_BELOW = 500


@dataclass(frozen=True)
class Dictionary:
    """Signals of known parameters, and all between them by radial basis functions.

    Attributes
    ----------
    names : tuple of str
        Parameters; fI, vCS, D0I... mean what they mean elsewhere, others are free.
    parameters, signals : (K, P) and (K, M) ndarray
        Of the K examples; signals are normalised to 1 at b = 0, one column per volume of the protocol.
    sources : tuple of Path
        The files it was read from.

    Raises
    ------
    InputError
        If shapes differ, a number is missing, examples repeat, or there are too few for the parameters.

    Notes
    -----
    Cubic radial basis functions with a linear trend (scipy's `RBFInterpolator`), of all examples or, beyond 500, of the
    80 nearest, on parameters scaled to their range. The range of the examples is that of the fit.
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
    path = require_file(path, "dictionary")
    try:
        if path.suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False), dtype=float)
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise InputError(f"cannot be read as a dictionary ({error})", path=path, hint="give .npy or .csv") from error
