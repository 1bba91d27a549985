"""How many balls per volume each profile stands for, so that maps of patches are sums and no patch needs a fit."""

from collections.abc import Sequence

import numpy as np

from histomri.core.arrays import FloatArray

from .kernel import diameter_of
from .unfold import Unfolded, class_probabilities

_TINY = 1e-280


def posterior(found: Unfolded, probability: FloatArray | None = None) -> FloatArray:
    """Return the probability of each class of diameter behind a profile of each class, (J, J): rows sum to 1.

    Where no diameter that the fit thinks possible shows such a profile, that of the profile itself is taken.
    """
    joint = found.kernel.seen_um * (found.probability if probability is None else probability)
    total = joint.sum(axis=1)
    none = total < _TINY
    joint[none] = np.eye(total.size)[none]
    total[none] = 1.0
    return np.asarray(joint / total[:, None])


def ball_sums(
    found: Unfolded, area_um2: FloatArray, orders: Sequence[int], *, probability: FloatArray | None = None
) -> FloatArray:
    """Return ``sum_j pi_ij d_j^k / H_j`` of each profile i and order k, (len(orders), N), in µm^(k - 1).

    Profiles below the limit count nothing. Summed over a region and divided by its area, order 0 is the number of balls
    per volume, and order 3, times pi / 6, the share of the volume that they fill.
    """
    per_class, middle = posterior(found, probability) / found.kernel.height_um, found.kernel.middle_um
    area = np.asarray(area_um2, dtype=float)
    used = area >= found.limit_um2
    place = found.kernel.bin_of(np.where(used, diameter_of(area), found.kernel.edges_um[0]))
    return np.stack([np.where(used, (per_class @ middle**order)[place], 0.0) for order in orders])


def density_weights(found: Unfolded, area_um2: FloatArray) -> FloatArray:
    """Return the weight of each profile, (N,), per µm: their sum over a field's area is its density per µm³.

    The weights of all profiles together give exactly the density of the fit, so the densities of patches, weighted by
    area, add up to that of the whole.
    """
    (weight,) = ball_sums(found, area_um2, [0])
    return np.asarray(weight * (found.density_um3(1.0) / weight.sum()))


def fit_influence(found: Unfolded, area_um2: FloatArray, name: str) -> FloatArray:
    """Return the part (N,) of each profile in ln of a result of the lognormal, by its part in the fit.

    `name` is "nucD" (mean diameter), "nucCV", or "height": the mean height over which balls are seen, by which their
    number is divided. To first order a fit moves with one profile by the inverse of the information times its score.
    """
    theta, step = np.array([found.mu, np.log(found.sigma)]), 1e-4
    ends = [(_log_shown(found, theta + shift), _log_shown(found, theta - shift)) for shift in step * np.eye(2)]
    score = np.stack([(above - below) / (2.0 * step) for above, below in ends])
    information = (score * found.counts) @ score.T
    moved = np.linalg.pinv(information) @ score
    variance = found.sigma**2
    spread = variance * np.exp(variance) / np.expm1(variance)  # d ln CV / d ln sigma
    slopes: dict[str, tuple[float, ...]] = {"nucD": (1.0, variance), "nucCV": (0.0, spread)}
    if name == "height":
        slopes[name] = tuple(
            (_log_height(found, theta + shift) - _log_height(found, theta - shift)) / (2.0 * step)
            for shift in step * np.eye(2)
        )
    per_class = np.asarray(slopes[name]) @ moved
    area = np.asarray(area_um2, dtype=float)
    used = area >= found.limit_um2
    place = found.kernel.bin_of(np.where(used, diameter_of(area), found.kernel.edges_um[0]))
    return np.where(used, per_class[place], 0.0)


def _log_shown(found: Unfolded, theta: FloatArray) -> FloatArray:
    """Return ln of the probability of each class of profile, (J,), of those that are seen."""
    p = class_probabilities(found.kernel, float(theta[0]), float(np.exp(theta[1])))[0]
    shown = found.kernel.seen_um @ p
    return np.asarray(np.log(np.maximum(shown, _TINY)) - np.log(max(float(shown.sum()), _TINY)))


def _log_height(found: Unfolded, theta: FloatArray) -> float:
    p = class_probabilities(found.kernel, float(theta[0]), float(np.exp(theta[1])))[0]
    return float(np.log(max(float(found.kernel.height_um @ p), _TINY)))
