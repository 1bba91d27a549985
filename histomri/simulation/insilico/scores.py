"""Scores of the fits against the truth, with intervals: the paper's Tables S1 (TCS), S2 (HFC) and S3 (BIC).

Intervals of 95 % come from resampling the tissues, the same for all models, so that differences have them too. They say
how the noise and the choice of tissues scatter a score; that the tissues are spheres on a lattice is not in them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.correlation import resampling_weights, weighted_correlation
from histomri.core.arrays import FloatArray

from .fits import FIT, SETTING

_RESAMPLES = 1000
_Z95 = 1.959964


@dataclass(frozen=True)
class Score:
    """Scores of a model by a strategy in a setting.

    Attributes
    ----------
    setting : tuple
        Protocol, permeability (µm/s) and SNR.
    strategy, model : str
    row : dict
        All numbers of the three tables.
    tcs, hfc : (B,) ndarray
        In each resample of the tissues; the same resamples for all scores of a setting.
    """

    setting: tuple[str, float, float]
    strategy: str
    model: str
    row: dict[str, float]
    tcs: FloatArray
    hfc: FloatArray


def score_estimates(estimates: pd.DataFrame, seed: int = 1) -> list[Score]:
    """Return the scores of every setting, strategy and model of a table by `fit_walked`.

    A tissue that a model could not be fitted to counts for none of the models of its setting; `n` says how many are
    left.
    """
    return [
        score for setting, part in estimates.groupby(SETTING, sort=False) for score in _setting(setting, part, seed)
    ]


def _setting(setting: Any, part: pd.DataFrame, seed: int) -> Iterator[Score]:
    fits = dict(list(part.groupby(FIT, sort=False)))
    truth = next(iter(fits.values()))[["vCS_um", "F"]].to_numpy()
    found = np.stack([one[["vCS_mri_um", "F_mri", "BIC"]].to_numpy(float) for one in fits.values()])
    fitted = np.isfinite(found).all(axis=(0, 2))
    truth, found = truth[fitted], found[:, fitted]
    weights = resampling_weights(len(truth), _RESAMPLES, seed)
    hfc = np.abs(found[:, :, :2] / truth - 1.0).sum(axis=2)
    for place, (strategy, model) in enumerate(fits):
        rivals = [i for i, (other, _) in enumerate(fits) if other == strategy]
        size, fraction = found[place, :, :2].T
        r = [np.corrcoef(size, truth[:, 0])[0, 1], np.corrcoef(fraction, truth[:, 1])[0, 1]]
        tcs = weighted_correlation(weights, size, truth[:, 0]) + weighted_correlation(weights, fraction, truth[:, 1])
        row = {
            "n": len(truth), "r_vCS": r[0], "r_F": r[1], **_with_interval("TCS", float(sum(r)), tcs),
            "bias_vCS_um": float(np.mean(size - truth[:, 0])), "bias_F": float(np.mean(fraction - truth[:, 1])),
            **_with_interval("HFC", float(hfc[place].mean()), drawn := weights @ hfc[place] / len(truth)),
            **_share("HFC_wins", _won(hfc[rivals], rivals.index(place))),
            **_share("BIC_wins", _won(found[rivals, :, 2], rivals.index(place))),
        }  # fmt: skip
        yield Score(tuple(setting), str(strategy), str(model), row, tcs, drawn)


def _with_interval(name: str, value: float, drawn: FloatArray) -> dict[str, float]:
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}


def _won(values: FloatArray, place: int) -> Any:
    """Return in which tissues a row is the lowest; where several are, as nested models can be, it is the first."""
    return values.argmin(axis=0) == place


def _share(name: str, won: Any) -> dict[str, float]:
    """Return a fraction with Wilson's interval."""
    n, p = won.size, float(won.mean())
    middle = (p + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * np.sqrt(p * (1 - p) / n + _Z95**2 / (4 * n**2))
    return {name: p, f"{name}_low": middle - half, f"{name}_high": middle + half}


_COLUMNS = {
    "tableS1": ("n", "r_vCS", "r_F", "TCS", "TCS_low", "TCS_high", "bias_vCS_um", "bias_F"),
    "tableS2": ("n", "HFC", "HFC_low", "HFC_high", "HFC_wins", "HFC_wins_low", "HFC_wins_high"),
    "tableS3": ("n", "BIC_wins", "BIC_wins_low", "BIC_wins_high"),
}


def tables(scores: list[Score]) -> dict[str, pd.DataFrame]:
    """Return the three tables by name; HFC and BIC are won among the models of one strategy."""
    rows = pd.DataFrame(
        [{**dict(zip(SETTING, one.setting)), "strategy": one.strategy, "model": one.model, **one.row} for one in scores]
    )
    return {name: rows[[*SETTING, *FIT, *columns]] for name, columns in _COLUMNS.items()}
