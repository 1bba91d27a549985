"""Power moments of cell size per patch, the cells in three dimensions that they imply, and the errors of the maps.

A thin plane through spheres of diameter D shows discs of diameter l with ``<l^k> = c_k <D^(k+1)> / <D>``,
``c_k = (sqrt(pi) / 2) Gamma(k/2 + 1) / Gamma(k/2 + 3/2)`` (Wicksell 1925; Stoyan, Kendall and Mecke, Stochastic
Geometry). A section of thickness t shows every sphere that it touches at its largest within the section (the Holmes
effect): ``<l^k> = (t <D^k> + c_k <D^(k+1)>) / (t + <D>)``.

Standard errors of the maps, made so that value +- 1.96 errors holds the truth in 95 % of patches.

The truth of a patch is the mean of patches like it: its cells are a sample of all that could lie there.

Sizes. vCS is driven by the few largest cells, and one patch has too few of them for an error of its own. So the
sizes of the whole slide, each relative to its patch, are drawn from: vCS of n cells drawn at random is off by so much
in 95 of 100 draws, and that is the error of a patch of n cells, relative to its vCS.

Counts. Cells keep their distance, so their number varies less than that of points at random (variance = mean). How
much less is known from contrasts: tiles are cut into 4 x 4 blocks, and sums over blocks with signs, half of them minus
(Walsh functions), are zero on average wherever the density is even. The more often the sign changes across a tile, the
more the edges between plus and minus count, in proportion; carried on to no change at all, this gives the variance of
the tile's own number. Areas are treated the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from histomri.core.arrays import FloatArray, IntArray
from histomri.patches.grid import PatchGrid
from histomri.patches.tissue import Extent, tissue_fraction

ORDERS = 15  # enough for the standard error of <l^7>: its variance needs <l^14>
_ITERATIONS = 400
_Z95 = 1.959964
# Numbers of cells for which errors of sizes are simulated, and how often: 2.5 million draws in all.
_DRAWS = {n: 2000 if n <= 100 else 1000 if n <= 500 else 500 for n in (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)}
_LEAST_CELLS = 500  # fewer do not show the tail of the sizes
_LEAST_TILES = 40
_CELLS_PER_TILE = 64
_WALSH = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, -1]], dtype=float)  # sign changes: 0 to 3
_CONTRASTS = [(i, j) for i in range(4) for j in range(4) if 0 < i + j <= 3]
_LEAST_DISPERSION = 0.02


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


@dataclass(frozen=True)
class Dispersion:
    """Variance of numbers and of areas, relative to those of cells at random."""

    count: float = 1.0  # 1 for cells at random, less for cells that keep their distance, more for clusters
    area: float = 1.0
    tiles: int = 0  # number of tiles it is from; 0 if they were too few, and cells at random are assumed


def dispersion(
    x_um: FloatArray, y_um: FloatArray, area_um2: FloatArray, window_um: tuple[float, float], extent: Extent
) -> Dispersion:
    """Return how numbers and areas of cells vary between patches of a size, for one slide.

    Only tiles that lie wholly inside the extent, where cells could have been found, are used.
    """
    expected = x_um.size * window_um[0] * window_um[1] / extent.area_um2
    parts = max(1, round(float(np.sqrt(expected / _CELLS_PER_TILE))))
    tile = (window_um[0] / parts, window_um[1] / parts)
    low_x, low_y, high_x, high_y = extent.bounds_um
    shape = (int((high_y - low_y) / tile[1] + 1e-6), int((high_x - low_x) / tile[0] + 1e-6))
    if min(shape) < 1 or not _LEAST_TILES <= shape[0] * shape[1] <= max(x_um.size, _LEAST_TILES):
        return Dispersion()
    tiles = PatchGrid((low_x, low_y), tile, shape)
    whole = tissue_fraction(tiles, extent) == 1
    if np.count_nonzero(whole) < _LEAST_TILES:
        return Dispersion()
    blocks = PatchGrid((low_x, low_y), (tile[0] / 4, tile[1] / 4), (4 * shape[0], 4 * shape[1]))
    row, column, inside = blocks.index(x_um, y_um)
    place, area = (row * blocks.shape[1] + column)[inside], area_um2[inside]
    # Sums of 1, of areas, and of areas squared over the blocks of each tile.
    sums = [np.bincount(place, weights, 16 * shape[0] * shape[1]).astype(float) for weights in (None, area, area**2)]
    counts, areas, squares = (values.reshape(shape[0], 4, shape[1], 4) for values in sums)
    per_count, per_area = (block.sum(axis=(1, 3))[whole].mean() for block in (counts, squares))
    if not per_count > 0:
        return Dispersion()
    of_counts, of_areas = (_extrapolated(block, whole, parts) for block in (counts, areas))
    ratios = [max(ratio, _LEAST_DISPERSION) for ratio in (of_counts / per_count, of_areas / per_area)]
    return Dispersion(ratios[0], ratios[1], int(np.count_nonzero(whole)))


def _extrapolated(blocks: FloatArray, whole: FloatArray, parts: int) -> float:
    """Return the variance of a tile's sum, per tile, as it would be in a patch of parts x parts tiles."""
    contrasts = np.einsum("ia,makb,jb->mkij", _WALSH, blocks, _WALSH)[whole]
    variance = (contrasts**2).mean(axis=0)
    changes = [i + j for i, j in _CONTRASTS]
    slope, at_none = np.polyfit(changes, [variance[i, j] for i, j in _CONTRASTS], 1)
    # Edges: two for the sides of the tile itself, which shrink relative to its area in a larger patch.
    value = (at_none - slope) + slope / parts
    return float(max(value, 0.25 * min(variance[0, 1], variance[1, 0])))


def size_errors(
    patch: IntArray, diameter_um: FloatArray, moments: Moments, estimate: Callable[[FloatArray], FloatArray], seed: int
) -> FloatArray | None:
    """Return the relative error of a patch's size, (P,); None if the slide has too few cells.

    `patch` and `diameter_um` (N,) are those of the cells, and `estimate` makes a size (R,) of raw moments (8, R).
    """
    if diameter_um.size < _LEAST_CELLS:
        return None
    pool = _alike(patch, diameter_um, moments)
    truth = estimate(_powers(pool[:, None]))[0]
    if not np.isfinite(truth):
        return None
    rng = np.random.default_rng(seed)
    most = moments.count.max()
    errors: dict[int, float] = {}
    for n in (n for n in _DRAWS if n <= 2 * most or n == 2):
        drawn = estimate(_powers(pool[rng.integers(0, pool.size, (n, _DRAWS[n]))]))
        with np.errstate(invalid="ignore", divide="ignore"):
            off = np.abs(1 - truth / drawn)
        error = np.quantile(np.nan_to_num(off, nan=np.inf), 0.95, method="nearest") / _Z95
        errors |= {n: max(error, 1e-12)} if np.isfinite(error) else {}
    if not errors:
        return None
    at_known, log_error = np.log(list(errors)), np.log(list(errors.values()))
    with np.errstate(divide="ignore"):
        at = np.log(moments.count)
    beyond = 0.5 * np.maximum(at - at_known[-1], 0)  # as the root of n
    return np.where(moments.count > 1, np.exp(np.interp(at, at_known, log_error) - beyond), np.nan)


def _alike(patch: IntArray, diameter_um: FloatArray, moments: Moments) -> FloatArray:
    """Return the sizes of all cells as if all patches had one mean size.

    Means of patches differ by chance even in even tissue; only the part beyond chance is taken out.
    """
    count, mean, sd = moments.count, moments.raw[1], moments.sd
    many = count > 1
    if not many.any():
        return diameter_um
    weight = count[many] / count[many].sum()
    middle = float((weight * mean[many]).sum())
    between = float((weight * (mean[many] - middle) ** 2).sum())
    chance = float((weight * sd[many] ** 2 / (count[many] - 1)).sum())
    real = np.sqrt(max(1 - chance / between, 0.0)) if between > 0 else 0.0
    factor = middle / (middle + real * (np.where(many, mean, middle) - middle))
    return np.asarray(diameter_um * factor[patch])


def _powers(size: FloatArray) -> FloatArray:
    """Return the raw moments (8, R) of columns of sizes (n, R)."""
    raw, power = [np.ones(size.shape[1])], np.ones_like(size)
    for _ in range(7):
        power = power * size
        raw.append(power.mean(axis=0))
    return np.stack(raw)
