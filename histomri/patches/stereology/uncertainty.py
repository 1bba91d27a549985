"""Errors of sampling that hold where cells form clusters and zones.

The region is cut into blocks, and the part that each block has in a result says how much the result varies. Blocks lose
the variance of what is larger than they are, in proportion to one over their side, so two sizes of block are carried
on to blocks without end. How large the blocks are is chosen by how fast the variance grows with them.

For patches, which are too small for blocks of their own, one design effect for all patches of a slide says by how much
clusters raise the variance above that of independent cells.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from histomri.core.arrays import BoolArray, FloatArray

from .blocks import Blocks, PatchSums
from .routes import Found, Product
from .weights import bent_influence, fit_influence

# Blocks along the side of a square region, and degrees of freedom, for a ratio V(4) / V(8) up to:
_RULES = ((1.3, 6, 16), (1.8, 4, 12), (np.inf, 3, 6))
_TOO_FEW_ZONES = 2.4
_LEAST_FOR_DEFF = 20  # profiles in a patch
_LEAST_PATCHES = 5
_WHOLE = 0.99


@dataclass(frozen=True)
class SamplingError:
    """Relative error of a result by which cells the section happened to meet."""

    relative: float
    freedom: int
    growth: float  # V(4) / V(8): above 1.3 there are zones or clusters
    few_zones: bool

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval, relative."""
        return float(student.ppf(0.975, self.freedom)) * self.relative


def influence(found: Found, product: Product, name: str = "") -> FloatArray | None:
    """Return the part (N,) that each profile has in the logarithm of a result; None where none is known.

    Numbers of balls from one lognormal hold the part that each profile has in the fit: it matters in thin sections of
    small nuclei, of which many are not seen.
    """
    unfolded, place = found.unfolded, found.place
    if name in ("nucD", "nucCV"):
        return None if unfolded.mixed else fit_influence(unfolded, place, name)
    shares = {key: found.sums[key] / found.sums[key].sum() for key in product.powers}
    if "number" in shares and not unfolded.mixed:
        used = place < unfolded.counts.size
        shares["number"] = used / used.sum() - fit_influence(unfolded, place, "height")
    parts = [power * shares[key] for key, power in product.powers.items()]
    if product.bent:
        parts.append(bent_influence(unfolded, place, product.bent))
    return np.asarray(sum(parts))


def sampling_error(places: Blocks, part: FloatArray) -> SamplingError:
    """Return the error of a result from the part that each profile has in it; see `influence`."""
    known = {blocks: places.variance(part, blocks) for blocks in (4, 8)}
    growth = known[4] / known[8] if known[8] > 0 else 1.0
    blocks, freedom = next(rule[1:] for rule in _RULES if growth <= rule[0] or not np.isfinite(growth))
    coarse, fine = (known[size] if size in known else places.variance(part, size) for size in (blocks, 2 * blocks))
    variance = max(2.0 * coarse - fine, coarse, fine)
    return SamplingError(float(np.sqrt(variance)), freedom, growth, bool(growth > _TOO_FEW_ZONES))


# ---------------------------------------------------------------- patches


@dataclass(frozen=True)
class PatchValues:
    """A quantity in P patches, flat, row by row."""

    value: FloatArray  # (P,) NaN where no profile lies
    stat: FloatArray  # (P,) standard error by sampling
    design_effect: float  # by which clusters raise the variance
    flags: tuple[str, ...] = ()


def map_quantity(
    found: Found, name: str, sums: PatchSums, *, field_um2: float, fraction: FloatArray | None = None
) -> PatchValues:
    """Return a quantity in each patch of a grid.

    Parameters
    ----------
    found : Found
        What the whole section gave: no patch is fitted on its own.
    name : str
        A quantity of `found` that is a product of sums.
    sums : PatchSums
        The sums of `found` in P patches that do not overlap.
    field_um2 : float
        Area of the whole.
    fraction : array, (P,), optional
        Share of each patch that was looked at; all of it if not given.
    """
    product, grid = found.products[name], sums.grid
    part = np.ones(grid.shape[0] * grid.shape[1]) if fraction is None else np.asarray(fraction, dtype=float).ravel()
    area = part * grid.patch_um[0] * grid.patch_um[1]
    blocks = {key: sums.blocks(key) for key in product.powers}
    totals = {key: block.sum(axis=1) for key, block in blocks.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        value = product.value * (area / field_um2) ** product.area_power
        for key, power in product.powers.items():
            value = value * (totals[key] / found.sums[key].sum()) ** power
        value = np.where(np.isfinite(value) & (area > 0), value, np.nan)
        variance = _independent(product, sums, totals)
        shares = sum(power * blocks[key] / totals[key][:, None] for key, power in product.powers.items())
    usable = (sums.count() >= _LEAST_FOR_DEFF) & (part >= _WHOLE) & np.isfinite(variance) & (variance > 0)
    effect = 1.0
    flags: tuple[str, ...] = ()
    if usable.sum() >= _LEAST_PATCHES:
        effect = design_effect(np.asarray(shares)[usable], variance[usable])
    else:
        flags = ("too few whole patches to see clusters: errors of patches take cells as independent",)
    return PatchValues(value, value * np.sqrt(effect * variance), effect, flags)


def part_value(found: Found, name: str, inside: BoolArray, share: float) -> tuple[float, float]:
    """Return a quantity in a part of the section that is too small for a fit, and its error by sampling.

    `inside` (N,) says which profiles lie in it, and `share` of what was looked at it is. The sizes behind the profiles
    are those of the whole; what is no product of sums is that of the whole too, with an error that is not known. Cells
    are taken as independent.
    """
    product = found.products[name]
    if not product.powers:
        return product.value, float("nan")
    sums = {key: float(found.sums[key][inside].sum()) for key in product.powers}
    if min(sums.values()) <= 0.0:
        return float("nan"), float("nan")
    value, parts = product.value * share**product.area_power, np.zeros(int(inside.sum()))
    for key, power in product.powers.items():
        value *= (sums[key] / float(found.sums[key].sum())) ** power
        parts += power * found.sums[key][inside] / sums[key]
    return float(value), float(value * np.sqrt((parts**2).sum()))


def design_effect(shares: FloatArray, variance: FloatArray) -> float:
    """Return by how much clusters raise the variance of P patches.

    `shares` (P, 16) are the parts of 4 x 4 sub-blocks in the logarithm of the result, `variance` (P,) that of
    independent cells. Pooled over patches, and carried on from 4 x 4 and 2 x 2 sub-blocks to none.
    """
    fine = shares.reshape(-1, 4, 4)
    coarse = fine.reshape(-1, 2, 2, 2, 2).sum(axis=(2, 4))
    ratio = {}
    for count, block in ((4, coarse.reshape(-1, 4)), (16, fine.reshape(-1, 16))):
        away = block - block.mean(axis=1, keepdims=True)
        ratio[count] = count / (count - 1) * float((away**2).sum()) / float(variance.sum())
    return max(1.0, ratio[4], 2.0 * ratio[4] - ratio[16])


def _independent(product: Product, sums: PatchSums, totals: dict[str, FloatArray]) -> FloatArray:
    """Return the relative variance (P,) of the result in each patch, were its cells independent."""
    parts = [
        power * other_power * sums.product(key, other) / (totals[key] * totals[other])
        for key, power in product.powers.items()
        for other, other_power in product.powers.items()
    ]
    return np.asarray(np.maximum(np.asarray(sum(parts)), 0.0))
