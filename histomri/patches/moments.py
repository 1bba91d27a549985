"""Power moments of cell size per patch, and the cells in three dimensions that they imply.

A thin plane through spheres of diameter D shows discs of diameter l with ``<l^k> = c_k <D^(k+1)> / <D>``,
``c_k = (sqrt(pi) / 2) Gamma(k/2 + 1) / Gamma(k/2 + 3/2)`` (Wicksell 1925; Stoyan, Kendall and Mecke, Stochastic
Geometry). A section of thickness t shows every sphere that it touches at its largest within the section (the Holmes
effect): ``<l^k> = (t <D^k> + c_k <D^(k+1)>) / (t + <D>)``.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from histomri.core.arrays import FloatArray, IntArray

# Enough for the standard error of <l^7>: its variance needs <l^14>.
ORDERS = 15
_ITERATIONS = 400


@dataclass(frozen=True)
class Moments:
    """Sums over the cells of each patch."""

    count: FloatArray  # (P,): number of cells
    raw: FloatArray  # (ORDERS, P): ``<l^k>``, NaN in an empty patch
    sd: FloatArray  # (P,): population standard deviation of l
    skew: FloatArray  # (P,): Fisher-Pearson skewness of l; that of equal sizes is NaN
    area: FloatArray  # (P,): sum of the cells' areas
    area_squared: FloatArray  # (P,): sum of their squares


def gather(
    patch: IntArray, diameter_um: FloatArray, area_um2: FloatArray, n_patches: int, part: FloatArray | None = None
) -> Moments:
    """Gather the moments of cells (N,), each assigned to one of `n_patches` patches by flat index.

    `part` is the part of each cell that counts; all of it if not given.
    """
    count = np.bincount(patch, part, n_patches).astype(float)
    raw = np.full((ORDERS, n_patches), np.nan)
    power = np.ones_like(diameter_um, dtype=float) if part is None else part.copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        raw[0] = count / count
        for order in range(1, ORDERS):
            power *= diameter_um
            raw[order] = np.bincount(patch, power, n_patches) / count
        # From raw moments a small spread would be the difference of two large numbers, hence a second pass.
        deviation = diameter_um - raw[1][patch]
        once = 1.0 if part is None else part
        second, third = (np.bincount(patch, once * deviation**k, n_patches) / count for k in (2, 3))
        # Below this the spread is rounding, and its shape means nothing.
        second = np.where(second <= (1e-12 * raw[1]) ** 2, 0.0 * second, second)
        skew = np.where(second > 0, third / second**1.5, np.nan)
    areas, squares = (np.bincount(patch, once * area_um2**k, n_patches).astype(float) for k in (1, 2))
    return Moments(count, raw, np.sqrt(second), skew, areas, squares)


def section_coefficient(order: int | FloatArray) -> FloatArray:
    """Return c_k, the fraction that a random plane leaves of the k-th moment."""
    k = np.asarray(order, dtype=float)
    return np.asarray(np.sqrt(np.pi) / 2 * np.exp(gammaln(k / 2 + 1) - gammaln(k / 2 + 1.5)))


def unfold(raw: FloatArray, thickness_um: float) -> FloatArray:
    """Return ``<D^k>`` of the spheres, k = 0..7, (8, ...), from ``<l^k>`` of their profiles, for any distribution of D.

    `thickness_um` is that of the section, 0 for a plane. ``<D>`` itself is not among the moments that a section shows
    well: it follows from the closure ``<D>^3 <D^3> = <D^2>^3``, which is exact for lognormal diameters, by damped
    fixed-point iteration. In a thin section the volume-weighted size does not depend on it. NaN where no spheres could
    have such profiles, or the iteration does not settle.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = raw[1] * 4 / np.pi
        step = np.full_like(mean, np.inf)
        for _ in range(_ITERATIONS):
            second, third = _unfold_from(mean, raw, thickness_um, 3)[2:]
            target = second / np.cbrt(third)
            step = target - mean
            mean = mean + 0.5 * step
            if not np.any(np.abs(step) > 1e-12 * np.abs(mean)):
                break
        settled = (np.abs(step) < 1e-6 * np.abs(mean)) & (mean > 0)
        moments = _unfold_from(np.where(settled, mean, np.nan), raw, thickness_um, 7)
        return np.where((moments > 0).all(axis=0), moments, np.nan)


def _unfold_from(mean: FloatArray, raw: FloatArray, thickness_um: float, highest: int) -> FloatArray:
    moments = [np.ones_like(mean), mean]
    for order in range(1, highest):
        profile = (thickness_um + mean) * raw[order] - thickness_um * moments[order]
        moments.append(profile / section_coefficient(order))
    return np.stack(moments)


def volume_weighted(raw: FloatArray) -> FloatArray:
    """Return ``(<l^7> / <l^3>)^(1/4)``, the size that restricted diffusion sees."""
    return np.asarray((raw[7] / raw[3]) ** 0.25)


def volume_weighted_unfolded(raw: FloatArray, thickness_um: float) -> FloatArray:
    """Return ``(<D^7> / <D^3>)^(1/4)`` of the spheres from the moments of their profiles."""
    if thickness_um == 0:  # needs no closure: (35/24 <l^6> / <l^2>)^(1/4)
        factor = section_coefficient(2) / section_coefficient(6)
        return np.asarray((factor * raw[6] / raw[2]) ** 0.25)
    moments = unfold(raw, thickness_um)
    return np.asarray((moments[7] / moments[3]) ** 0.25)


def standard_error(raw: FloatArray, count: FloatArray, gradient: dict[int, FloatArray]) -> FloatArray:
    """Return the standard error of a function of moments by the delta method, (P,); NaN for fewer than two cells.

    `gradient` maps the order k to the derivative of the function by ``<l^k>``, (P,).
    """
    variance = np.zeros_like(count)
    for i, di in gradient.items():
        for j, dj in gradient.items():
            variance += di * dj * (raw[i + j] - raw[i] * raw[j])
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(np.maximum(variance, 0) / (count - 1))
    return np.where(count > 1, error, np.nan)


def gradient_of_ratio(raw: FloatArray, upper: int, lower: int) -> dict[int, FloatArray]:
    """Return the gradient of ``(<l^upper> / <l^lower>)^(1/4)``."""
    value = (raw[upper] / raw[lower]) ** 0.25
    return {upper: value / (4 * raw[upper]), lower: -value / (4 * raw[lower])}


def gradient_of_unfolded(raw: FloatArray, thickness_um: float) -> dict[int, FloatArray]:
    """Return the gradient of `volume_weighted_unfolded`; where it has no closed form, by central differences."""
    if thickness_um == 0:
        scale = (section_coefficient(2) / section_coefficient(6)) ** 0.25
        return {order: scale * slope for order, slope in gradient_of_ratio(raw, 6, 2).items()}
    gradient = {}
    for order in range(1, 7):
        step = 1e-5 * raw[order]
        above, below = raw[:8].copy(), raw[:8].copy()
        above[order] += step
        below[order] -= step
        rise = volume_weighted_unfolded(above, thickness_um) - volume_weighted_unfolded(below, thickness_um)
        with np.errstate(invalid="ignore", divide="ignore"):
            gradient[order] = rise / (2 * step)
    return gradient
