"""What can be said of the best of several models: its score without the luck of being best, its rivals, and ranks.

All of it rests on jackknife pseudo-values (`PseudoValues`): their multiplier draws show how far estimates, and the
differences between them, scatter together.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtrit

from histomri.analysis.pseudovalues import PseudoValues
from histomri.core.arrays import FloatArray, IntArray

DRAWS = 20_000
IN_SET = 0.05  # smallest p of a model that stays in the set
_NEAR, _FIRST = 0.995, 0.980  # quantiles: who may be first, and the lower limit of whoever is; together 2.5 %


@dataclass(frozen=True)
class Rivals:
    """K rows of a ranking, compared pair by pair: n units, drawn `draws` times with normal multipliers.

    A statistic of centred pseudo-values p is (p / |p|) g / c, with g normal (one for all rows) and c as of a standard
    deviation of n values: Student's t, with the right correlation between rows.
    """

    pseudo: PseudoValues
    seed: int = 0
    draws: int = DRAWS

    @cached_property
    def _scattered(self) -> FloatArray:
        """Centred pseudo-values times multipliers, (K, draws)."""
        n = self.pseudo.n
        rng = np.random.default_rng([self.seed, n])
        multipliers = rng.standard_normal((n, self.draws))
        multipliers /= np.sqrt(rng.chisquare(n - 1, self.draws) / (n - 1))
        return np.asarray(self.pseudo.centred @ multipliers)

    def _largest(self, row: int, others: list[int]) -> FloatArray:
        """Return the largest |statistic| of a row against others in each draw; rows that are one do not count."""
        largest = np.zeros(self.draws)
        for other in others:
            if (norm := self.pseudo.norms[row, other]) > 0:
                np.maximum(largest, np.abs(self._scattered[row] - self._scattered[other]) / norm, out=largest)
        return largest

    @cached_property
    def _eliminated(self) -> tuple[list[int], FloatArray, FloatArray]:
        """Order in which rows leave the set, p of each step, and the largest |statistic| of all pairs in each draw."""
        left, order, observed = list(range(len(self.pseudo.estimates))), [], []
        while len(left) > 1:
            behind = self.pseudo.statistics[np.ix_(left, left)].max(axis=0)  # by how much the best of them beats each
            worst = int(np.argmax(behind))
            observed.append(float(behind[worst]))
            order.append(left.pop(worst))
        running, p, inside = np.zeros(self.draws), [], list(left)
        for row, most in zip(reversed(order), reversed(observed)):
            running = np.maximum(running, self._largest(row, inside))
            inside.append(row)
            # Rows that are one differ by nothing; rounding must not say otherwise.
            p.append(float((running >= most).mean()) if most > 0 else 1.0)
        return [*order, *left], np.array([*reversed(p), 1.0]), running

    def set_p(self) -> FloatArray:
        """Return the p of each row in the model confidence set, (K,): rows below `IN_SET` are out.

        Hansen, Lunde & Nason 2011 (doi 10.3982/ECTA5771), with the largest t over pairs: while more than one row is
        left, the one that is furthest behind another is put out; its p is the largest so far.
        """
        order, steps, _ = self._eliminated
        p = np.empty(len(order))
        p[order] = np.maximum.accumulate(steps)
        return p

    def critical(self, level: float = 0.95) -> float:
        """Return the quantile of the largest |statistic| over all pairs."""
        return float(np.quantile(self._eliminated[2], level))

    def ranks(self, confidence: float = 0.95) -> tuple[IntArray, IntArray]:
        """Return the lowest and the highest rank that each row may have, (K,), all at once with this confidence."""
        c, statistics = self.critical(confidence), self.pseudo.statistics
        better, worse = (statistics > c).sum(axis=0), (statistics < -c).sum(axis=0)
        return 1 + better, len(better) - worse

    def first_interval(self, first: int, confidence: float = 0.95) -> tuple[float, float]:
        """Return the interval of the estimate that is the highest, in the scale of the estimates.

        Locally simultaneous (Zrnic & Fithian 2024, arXiv:2212.09009): the lower limit holds for every row that could
        have been first. Being selected pushes an estimate up only, so the upper limit is the plain one. A row alone was
        not selected, and has the plain interval.
        """
        pseudo = self.pseudo
        estimate, se = float(pseudo.estimates[first]), float(pseudo.standard_errors[first])
        plain = float(stdtrit(pseudo.n - 1, 0.5 + confidence / 2.0))
        lower = plain
        if len(pseudo.estimates) > 1:
            lower = max(plain, float(np.quantile(self._largest_of(self.near(first)), _FIRST)))
        return estimate - lower * se, estimate + plain * se

    def near(self, first: int) -> list[int]:
        """Return the rows that could have been first."""
        pseudo, c = self.pseudo, self.critical(_NEAR)
        reach = 2.0 * c * pseudo.norms[first] / np.sqrt(pseudo.n * (pseudo.n - 1))
        return [int(row) for row in np.flatnonzero(pseudo.estimates[first] - pseudo.estimates <= reach)]

    def _largest_of(self, rows: list[int]) -> FloatArray:
        """Return the largest one-sided statistic of some rows by themselves in each draw."""
        norms = np.linalg.norm(self.pseudo.centred[rows], axis=1)
        varying = [(row, norm) for row, norm in zip(rows, norms) if norm > 0]
        return np.max([self._scattered[row] / norm for row, norm in varying], axis=0) if varying else np.zeros(1)


def optimism(estimates: FloatArray, drawn: FloatArray) -> float:
    """Return by how much the highest of K estimates is too high because it is the highest.

    Parameters
    ----------
    estimates : (K,) array
        Fisher's z of the scores.
    drawn : (B, K) array
        The same of resamples of the cases; those in which one is undefined are left out.

    Returns
    -------
    float
        The mean over resamples of how much their own highest is above its estimate, less what all gain by resampling;
        NaN without a resample.

    Examples
    --------
    >>> round(optimism(np.array([1.0, 0.5]), np.array([[1.2, 0.4], [1.0, 1.1]])), 12)
    0.225
    """
    usable = drawn[np.isfinite(drawn).all(axis=1)]
    if not len(usable):
        return float("nan")
    gains = usable - estimates
    highest = usable.argmax(axis=1)
    return float(gains[np.arange(len(usable)), highest].mean() - gains.mean())
