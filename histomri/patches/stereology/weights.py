"""How many balls per volume each profile stands for, so that maps of patches are sums and no patch needs a fit."""

from collections.abc import Callable, Mapping

import numpy as np

from histomri.core.arrays import FloatArray, IntArray

from .kernel import diameter_of
from .unfold import MOVE, Unfolded, class_probabilities

_TINY = 1e-280


def class_of(found: Unfolded, area_um2: FloatArray) -> IntArray:
    """Return the class of each profile, (N,); J, one beyond the last, for those below the limit."""
    area = np.asarray(area_um2, dtype=float)
    place = found.kernel.bin_of(diameter_of(area))
    place[area < found.limit_um2] = found.kernel.height_um.size
    return place


def posterior(found: Unfolded) -> FloatArray:
    """Return the probability of each class of diameter behind a profile of each class, (J, J): rows sum to 1.

    Where no diameter that the fit thinks possible shows such a profile, that of the profile itself is taken.
    """
    joint = found.kernel.seen_um * found.probability
    total = joint.sum(axis=1)
    none = total < _TINY
    joint[none] = np.eye(total.size)[none]
    total[none] = 1.0
    return np.asarray(joint / total[:, None])


def density_weights(found: Unfolded, place: IntArray) -> FloatArray:
    """Return the weight of each profile, (N,), per µm: their sum over a field's area is its density per µm³.

    `place` are the classes of the profiles, from `class_of`, here and below.

    The mean of ``1 / H(d)`` over the diameters d that may lie behind a profile; profiles below the limit count nothing.
    The weights of all profiles together give exactly the density of the fit, so the densities of patches, weighted by
    area, add up to that of the whole.
    """
    weight = posterior(found) @ (1.0 / found.kernel.height_um)
    return _of_profiles(weight * (found.density_um3(1.0) / (found.counts @ weight)), place)


def fit_influence(found: Unfolded, place: IntArray, name: str) -> FloatArray:
    """Return the part (N,) of each profile in ln of a result of the lognormal, by its part in the fit.

    `name` is "nucD" (mean diameter), "nucCV", or "height": the mean height over which balls are seen, by which their
    number is divided.
    """
    variance = found.sigma**2
    if name == "height":
        slope = _slope(found, lambda mu, sigma: _log_height(found, mu, sigma))
    elif name == "nucD":
        slope = np.array([1.0, variance])
    else:
        slope = np.array([0.0, variance * np.exp(variance) / np.expm1(variance)])
    return _of_profiles(slope @ _moved(found), place)


def bent_influence(found: Unfolded, place: IntArray, powers: Mapping[int, float]) -> FloatArray:
    """Return the part (N,) of each profile in ln of a product of powers of moments of the bent probabilities.

    `powers` holds the power of the moment of each order; they add up to 0, so that the sum of the probabilities does
    not matter. A profile acts by its share in the histogram, and by its part in the lognormal from which the steps
    start. Posteriors would say too little: they hold to the pooled sizes.
    """
    middle, (same, more, (mu_up, mu_down, sigma_up, sigma_down)) = found.kernel.middle_um, found.moved_bends

    def logarithm(p: FloatArray) -> FloatArray:
        return np.asarray(sum(power * np.log(middle**order @ p) for order, power in powers.items()))

    change = np.zeros(found.counts.size)
    change[found.counts > 0] = (logarithm(more) - logarithm(same)) / (MOVE * found.counts.sum())
    slope = np.array([logarithm(mu_up) - logarithm(mu_down), logarithm(sigma_up) - logarithm(sigma_down)]) / (
        2.0 * MOVE
    )
    return _of_profiles(change + slope @ _moved(found), place)


def _of_profiles(per_class: FloatArray, place: IntArray) -> FloatArray:
    """Return the value of the class of each profile, (N,); 0 for those below the limit."""
    return np.asarray(np.append(per_class, 0.0)[place])


def _moved(found: Unfolded) -> FloatArray:
    """Return how mu and ln sigma of the fit move with one profile of each class, (2, J).

    To first order by the inverse of the information times the score.
    """
    step, mu, sigma = MOVE, found.mu, found.sigma
    by_mu = _log_shown(found, mu + step, sigma) - _log_shown(found, mu - step, sigma)
    by_sigma = _log_shown(found, mu, sigma * np.exp(step)) - _log_shown(found, mu, sigma * np.exp(-step))
    score = np.stack([by_mu, by_sigma]) / (2.0 * step)
    return np.asarray(np.linalg.pinv((score * found.counts) @ score.T) @ score)


def _slope(found: Unfolded, value: Callable[[float, float], float]) -> FloatArray:
    """Return the derivatives of a function of mu and sigma by mu and ln sigma, (2,)."""
    step, mu, sigma = MOVE, found.mu, found.sigma
    by_mu = value(mu + step, sigma) - value(mu - step, sigma)
    by_sigma = value(mu, float(sigma * np.exp(step))) - value(mu, float(sigma * np.exp(-step)))
    return np.array([by_mu, by_sigma]) / (2.0 * step)


def _log_shown(found: Unfolded, mu: float, sigma: float) -> FloatArray:
    """Return ln of the probability of each class of profile, (J,), of those that are seen."""
    shown = found.kernel.seen_um @ class_probabilities(found.kernel, mu, sigma)[0]
    return np.asarray(np.log(np.maximum(shown, _TINY)) - np.log(max(float(shown.sum()), _TINY)))


def _log_height(found: Unfolded, mu: float, sigma: float) -> float:
    p = class_probabilities(found.kernel, mu, sigma)[0]
    return float(np.log(max(float(found.kernel.height_um @ p), _TINY)))
