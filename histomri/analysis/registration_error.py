"""What an imperfect registration does to a correlation: it lowers it, and makes it less certain.

Both are read off the same correlation at transforms drawn around the one that was found. A draw is off by one error
more than the result, so that the draws lie as far below the result as that lies below the truth; their quantiles would
count the error twice, and are not used as an interval.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from histomri.analysis.correlation import weighted_correlation
from histomri.core.arrays import FloatArray
from histomri.core.columns import PAIRED, registration_sd

_LARGEST_FACTOR, _CLEARLY = 1.5, 2.0
_DRAWS, _SEED, _LARGEST = 400, 20251, 0.999999


@dataclass(frozen=True)
class RegistrationEffect:
    """What the registration does to a correlation or a score.

    `corrected` is the value without what the error of the registration takes off it, `factor` times the value; `sd` is
    the standard deviation that the registration alone gives the corrected value, and `low` to `high` its interval.
    """

    corrected: float
    factor: float
    sd: float
    low: float
    high: float


def registration_effect(value: float, drawn: FloatArray, *, confidence: float = 0.95) -> RegistrationEffect:
    """Return what the registration does to a value, from the same value at drawn transforms, (N,).

    The factor is the value over the mean of the draws, from 1 to 1.5, and 1 where that mean is not clearly different
    from 0 (two standard deviations): a correlation of nothing must not be made one.

    Examples
    --------
    >>> import numpy as np
    >>> found = registration_effect(0.6, np.array([0.54, 0.58, 0.56, 0.60, 0.57]))
    >>> round(found.corrected, 3), round(found.low, 3), round(found.high, 3)
    (0.632, 0.59, 0.673)
    """
    mean, sd = float(np.mean(drawn)), float(np.std(drawn))
    clear = abs(mean) > _CLEARLY * sd and mean * value > 0
    factor = float(np.clip(value / mean, 1.0, _LARGEST_FACTOR)) if clear else 1.0
    half = float(ndtri(0.5 + confidence / 2)) * sd * factor
    return RegistrationEffect(value * factor, factor, sd * factor, value * factor - half, value * factor + half)


def with_sampling(effect: RegistrationEffect, n_eff: float, *, confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the interval of a corrected correlation that allows for the registration and for the sampling of voxels.

    The variances of Fisher's z are added: 1 / (n_eff - 3) of the sampling, and that of the draws. None is returned if
    fewer than four effective voxels are left.
    """
    if not n_eff > 3:
        return None
    r = float(np.clip(effect.corrected, -_LARGEST, _LARGEST))
    half = float(ndtri(0.5 + confidence / 2)) * math.sqrt(1 / (n_eff - 3) + (effect.sd / (1 - r**2)) ** 2)
    return (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def effect_on_scores(table: pd.DataFrame, score: float, *, confidence: float = 0.95) -> RegistrationEffect | None:
    """Return what the registrations do to the total correlation score of a model, None if it is not known.

    The `table` has a row per case with the columns `PAIRED`, and of each mean of the histology the standard deviation
    that its registration gives it; where no case has one, nothing is known. 400 times the means are moved at random, by
    as much, each case on its own.
    """
    sizes = [registration_sd(name) for name in PAIRED]
    present = [name for name in sizes if name in table]
    complete = table[np.isfinite(table[list(PAIRED)].to_numpy(dtype=float)).all(axis=1)]
    if not present or not math.isfinite(score) or not complete[present].notna().any(axis=None):
        return None
    spread = complete.reindex(columns=sizes).to_numpy(dtype=float)
    values, rng = complete[list(PAIRED)].to_numpy(dtype=float), np.random.default_rng(_SEED)
    moved = values + np.nan_to_num(spread) * rng.standard_normal((_DRAWS, *values.shape))
    every = np.ones((1, len(values)))
    drawn = [_score(every, *case.T) for case in moved]
    return registration_effect(score, np.array(drawn), confidence=confidence)


def with_registration(scores: pd.DataFrame, table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return scores, a row per model and strategy, with what the registrations do to them.

    TCS_registration is TCS without what the errors of the registrations take off it, and TCS_registration_ci its
    interval from these errors alone; both are None where they are not known. The `table` is that of `effect_on_scores`.
    """
    parts = dict(iter(table.groupby(["model", "strategy"], sort=False)))
    rows = scores[["model", "strategy", "TCS"]].itertuples(index=False, name=None)
    found = [effect_on_scores(parts[model, strategy], tcs, confidence=confidence) for model, strategy, tcs in rows]
    corrected = [math.nan if effect is None else effect.corrected for effect in found]
    limits = [None if effect is None else (effect.low, effect.high) for effect in found]
    return scores.assign(TCS_registration=corrected, TCS_registration_ci=limits)


def _score(every: FloatArray, *values: FloatArray) -> float:
    size, true_size, part, true_part = values
    return float((weighted_correlation(every, size, true_size) + weighted_correlation(every, part, true_part))[0])
