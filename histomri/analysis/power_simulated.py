"""Power where no formula is exact: rows of patients, differences of two models, and which of several is first."""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import stdtr, stdtrit

from histomri.analysis.comparison import williams_t
from histomri.analysis.patients import FEWEST_UNITS
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

DRAWS = 4000  # simulated studies: standard error of a power at most 0.8 %
_LARGEST = 2000
_SEED = 20


def difference_power(r1: float, r2: float, r12: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that Williams' test distinguishes r1 from r2, of two models with one histology, on n cases.

    `r12` is the correlation between the models; values are trivariate normal. Simulated, with a fixed seed.

    Raises
    ------
    InputError
        If there are fewer than 5 cases, or no three variables can have these correlations.
    """
    if n < 5:
        raise InputError(f"{n} cases are too few to compare two correlations")
    matrix = np.array([[1, r1, r2], [r1, 1, r12], [r2, r12, 1]], dtype=float)
    if not np.linalg.eigvalsh(matrix)[0] > 1e-9:
        problem = f"two models with r = {r1:g} and {r2:g} cannot have r = {r12:g} between them"
        raise InputError(problem, hint="give a correlation between the models that fits theirs with histology")
    values = np.random.default_rng(_SEED).normal(size=(DRAWS, n, 3)) @ np.linalg.cholesky(matrix).T
    common, one, other = values[..., 0], values[..., 1], values[..., 2]
    t = williams_t(_r(one, common), _r(other, common), _r(one, other), n)
    return float(np.mean(2.0 * stdtr(n - 3, -np.abs(t)) < alpha))


def first_power(r: float, rival: float, models: int, n: int, *, shared: float = 0.7) -> float:
    """Return the chance that the best of some models has the highest TCS on n cases.

    Its correlations with cell size and fraction are r, those of all others `rival`. `shared` is the correlation of the
    errors of the models: they fit the same data. Simulated, with a fixed seed.
    """
    if n < 4:
        raise InputError(f"{n} cases are too few to rank models")
    rng, scores = np.random.default_rng(_SEED), np.zeros((models, DRAWS))
    for _ in range(2):  # size and fraction
        truth, common = rng.normal(size=(2, DRAWS, n))
        for model in range(models):
            own = r if model == 0 else rival
            error = math.sqrt(shared) * common + math.sqrt(1.0 - shared) * rng.normal(size=(DRAWS, n))
            scores[model] += _r(own * truth + math.sqrt(1.0 - own**2) * error, truth)
    return float(np.mean(scores.argmax(axis=0) == 0))


def cluster_power(r: float, patients: int, rows: int, icc: float, *, alpha: float = 0.05) -> float:
    """Return the chance that a correlation r of patients with several rows each is significant.

    The test is that of the jackknife of Fisher's z that leaves out patients. r is the same within and between patients,
    whose share of the variance of either side is `icc`. Simulated, with a fixed seed.
    """
    if patients < FEWEST_UNITS:
        raise InputError(f"{patients} patients are too few for a test", hint=f"at least {FEWEST_UNITS} are needed")
    rng = np.random.default_rng(_SEED)
    truth, noise = (
        math.sqrt(icc) * rng.normal(size=(DRAWS, patients, 1))
        + math.sqrt(1.0 - icc) * rng.normal(size=(DRAWS, patients, rows))
        for _ in range(2)
    )
    other = r * truth + math.sqrt(1.0 - r**2) * noise
    sums = np.stack([part.sum(axis=2) for part in (truth, other, truth**2, other**2, truth * other)])
    totals = sums.sum(axis=2, keepdims=True)
    z = _z_of_sums(totals, patients * rows)[:, 0]
    pseudo = patients * z[:, None] - (patients - 1) * _z_of_sums(totals - sums, (patients - 1) * rows)
    se = pseudo.std(axis=1, ddof=1) / math.sqrt(patients)
    return float(np.mean(np.abs(z) > stdtrit(patients - 1, 1.0 - alpha / 2.0) * se))


def smallest(power_of: Callable[[int], float], power: float, first: int) -> int | None:
    """Return the smallest number from `first` on that has the wanted power; None if it is beyond 2000."""
    low, high = first - 1, first
    while power_of(high) < power:
        low, high = high, 2 * high
        if high > _LARGEST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def _r(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the correlations over the last axis."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    return np.asarray((x * y).sum(axis=-1) / np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1)))


def _z_of_sums(sums: FloatArray, n: int) -> FloatArray:
    x, y, xx, yy, xy = sums / n
    return np.asarray(np.arctanh((xy - x * y) / np.sqrt((xx - x * x) * (yy - y * y))))
