"""From the profiles of nuclei in a section to their number per volume and their sizes.

Sizes are taken as lognormal, and fitted to the histogram of the profiles by maximum likelihood, given which profiles
a section of this thickness shows and which of them the detector keeps. Where no lognormal fits, twenty steps of
expectation maximisation (Richardson 1972, Lucy 1974) bend it to the histogram; more would amplify the noise.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtr

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

from .kernel import Kernel, diameter_of, make_kernel

NUCLEUS_BIN_UM, CELL_BIN_UM = 0.25, 0.4
LEAST_PROFILES = 30
EM_STEPS = 20
MOVE = 1e-4  # step of derivatives by mu, ln sigma and the share of a class
_SIGMA = (0.007, 1.6)
_STARTS = (0.2, 0.1)
_LEAST_EXPECTED = 5.0
_POOR_FIT, _GOOD_FIT, _LEAST_FOR_EM = 3.0, 1.5, 1000
# chi2 of the same small departure from a lognormal grows with the number of profiles; the limits are for so many:
_PROFILES_OF_LIMITS = 10_000
_RAISED = (0.05, 0.10)  # quantiles of the areas to which the limit is raised where thin caps may be unseen
_LEAST_SPREAD = 0.005
_LIMIT_OF_MEDIAN = 0.8
_MUCH_INVISIBLE = 0.10
_TINY = 1e-300


@dataclass(frozen=True)
class Unfolded:
    """Sizes and density of the balls behind n profiles, in the frame of the slide."""

    kernel: Kernel
    counts: FloatArray  # (J,): profiles per class
    mu: float  # of ln d, d in µm
    sigma: float
    lognormal: FloatArray  # (J,): probability of each class of diameter; 1 - `invisible` in all
    bent: FloatArray  # (J,): the same after the steps of expectation maximisation
    mixed: bool  # no lognormal fits, so that `bent` is used
    chi2: float  # per degree of freedom; NaN where too few classes are filled
    invisible: float  # probability of a ball smaller than the smallest profile
    limit_um2: float  # smallest profile that was used
    stated_limit_um2: float  # smallest profile that the detector keeps
    limit_effect: float = 0.0  # |ln| of how a higher limit would change the density, where it did not cure the fit
    flags: tuple[str, ...] = field(default=())

    @property
    def probability(self) -> FloatArray:
        """Probability of each class of diameter, as it is used, (J,)."""
        return self.bent if self.mixed else self.lognormal

    @property
    def misfit(self) -> float:
        """`chi2` as it would be with 10,000 profiles, if there are more: by this a fit is called poor."""
        return float(1.0 + (self.chi2 - 1.0) * min(1.0, _PROFILES_OF_LIMITS / self.counts.sum()))

    @property
    def mean_height_um(self) -> float:
        """Height over which a ball is seen, on average over all, those that never are included."""
        return float(self.probability @ self.kernel.height_um)

    @property
    def mean_um(self) -> float:
        """Mean diameter."""
        return self._moments()[0]

    @property
    def cv(self) -> float:
        """Coefficient of variation of the diameter."""
        mean, second = self._moments()
        return float(np.sqrt(max(second / mean**2 - 1.0, 0.0)))

    def _moments(self) -> tuple[float, float]:
        if not self.mixed:
            mean = float(np.exp(self.mu + 0.5 * self.sigma**2))
            return mean, mean**2 * float(np.exp(self.sigma**2))
        # The visible by classes, the invisible by the lognormal: moments below the limit are partial expectations.
        middle, low = self.kernel.middle_um, self.kernel.edges_um[0]
        both = []
        for order in (1, 2):
            whole = np.exp(order * self.mu + 0.5 * (order * self.sigma) ** 2)
            below = ndtr((np.log(max(low, _TINY)) - self.mu) / self.sigma - order * self.sigma)
            both.append(float(whole * below + self.bent @ middle**order))
        return both[0], both[1]

    @cached_property
    def moved_bends(self) -> tuple[FloatArray, FloatArray, tuple[FloatArray, ...]]:
        """Bent probabilities from which results are differentiated; kept, as all results need the same.

        As they are, (J,); with `MOVE` of the profiles put into each of the K classes that have any, (J, K); and with
        mu, then ln sigma, moved by `MOVE` up and down, four of (J,).
        """
        filled, share = np.flatnonzero(self.counts), self.counts / self.counts.sum()
        more = np.repeat((1.0 - MOVE) * share[:, None], filled.size, axis=1)
        more[filled, np.arange(filled.size)] += MOVE
        start = np.repeat(self.lognormal[:, None], filled.size, axis=1)
        sigmas = (float(self.sigma * np.exp(MOVE)), float(self.sigma * np.exp(-MOVE)))
        sides = ((self.mu + MOVE, self.sigma), (self.mu - MOVE, self.sigma), *((self.mu, each) for each in sigmas))
        moved = tuple(bend(self.kernel, self.counts, class_probabilities(self.kernel, *each)[0]) for each in sides)
        return bend(self.kernel, share, self.lognormal), bend(self.kernel, more, start), moved

    def density_um3(self, field_um2: float) -> float:
        """Return the number of balls per volume, per µm³, of a field of this area."""
        return float(self.counts.sum() / (field_um2 * self.mean_height_um))


def unfold_sizes(
    area_um2: FloatArray, thickness_um: float, smallest_um2: float | None, *, bin_um: float = NUCLEUS_BIN_UM
) -> Unfolded:
    """Unfold profiles of balls.

    Parameters
    ----------
    area_um2 : array, (N,)
        Areas of the profiles, µm², at least 30 above the limit.
    thickness_um : float
        Thickness of the section as cut, µm; 0 for a plane.
    smallest_um2 : float or None
        Smallest area that the detector keeps, µm²; smaller profiles are dropped. None if there is no such limit: the
        smallest profile is taken, and the limit raised where the fit shows that small ones are missing.
    bin_um : float
        Width of the classes.

    Raises
    ------
    InputError
        If the profiles are all equal, fewer than 30, or mostly near the limit, or the thickness is not possible.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> d, height = 8.0, 5.0 * rng.random(5000)  # height of the middle above or below a slab of 2 µm
    >>> l2 = d**2 - 4 * np.maximum(height - 1, 0) ** 2
    >>> found = unfold_sizes(np.pi / 4 * l2[l2 > 13], 2.0, 13 * np.pi / 4)
    >>> bool(abs(found.mean_um - 8) < 0.1)
    True
    """
    if not (np.isfinite(thickness_um) and thickness_um >= 0.0):
        raise InputError(f"a section cannot be {thickness_um} µm thick", hint="give the thickness as cut, in µm")
    area = np.asarray(area_um2, dtype=float)
    if not np.isfinite(area).all() or (area < 0).any():
        raise InputError("some areas of profiles are missing or negative", hint="drop these objects")
    limit = float(np.min(area[area > 0], initial=np.inf)) if smallest_um2 is None else float(smallest_um2)
    found = _unfold_at(area, thickness_um, limit, bin_um)
    if found.mixed:
        found = _raise_limit(area, found, bin_um)
    return replace(found, stated_limit_um2=limit, flags=(*found.flags, *_objections(found)))


def _unfold_at(area: FloatArray, thickness_um: float, limit_um2: float, bin_um: float) -> Unfolded:
    profile, smallest = diameter_of(area[area >= limit_um2]), float(np.sqrt(4.0 / np.pi * limit_um2))
    _refuse(profile, smallest, limit_um2)
    kernel = make_kernel(smallest, float(profile.max()), thickness_um, bin_um)
    counts = np.bincount(kernel.bin_of(profile), minlength=kernel.height_um.size).astype(float)
    mu, sigma = _fit(kernel, counts, float(np.median(profile)))
    p, invisible = class_probabilities(kernel, mu, sigma)
    chi2 = _misfit(kernel, counts, p)
    bent = bend(kernel, counts, p)
    found = Unfolded(kernel, counts, mu, sigma, p, bent, False, chi2, invisible, limit_um2, limit_um2)
    return replace(found, mixed=bool(found.misfit > _POOR_FIT and profile.size >= _LEAST_FOR_EM))


def _refuse(profile: FloatArray, smallest: float, limit_um2: float) -> None:
    if profile.size < LEAST_PROFILES:
        raise InputError(
            f"{profile.size} profiles above {limit_um2:g} µm² are too few to unfold, {LEAST_PROFILES} are needed",
            hint="take a larger region, or lower the limit",
        )
    if float(np.std(profile)) < _LEAST_SPREAD * float(np.mean(profile)):
        raise InputError(
            "all profiles have the same area, as no section through balls shows it",
            hint="export the areas that the detection measured, not those of a template",
        )
    if smallest > _LIMIT_OF_MEDIAN * float(np.median(profile)):
        raise InputError(
            f"a limit of {limit_um2:g} µm² hides most profiles: their median is "
            f"{np.pi / 4 * float(np.median(profile)) ** 2:.3g} µm²",
            hint="give the smallest area that the detection keeps, or detect again with a lower one",
        )


def class_probabilities(kernel: Kernel, mu: float, sigma: float) -> tuple[FloatArray, float]:
    """Return the probabilities of the classes of diameter, (J,), and of a smaller one, for a lognormal.

    The last class holds all that is larger.
    """
    with np.errstate(divide="ignore"):
        below = ndtr((np.log(kernel.edges_um) - mu) / sigma)
    p = np.diff(below)
    p[-1] += 1.0 - below[-1]
    return p, float(below[0])


def _fit(kernel: Kernel, counts: FloatArray, median_um: float) -> tuple[float, float]:
    filled = counts > 0
    seen, n = kernel.seen_um[filled], counts[filled] / counts.sum()

    def cost(theta: FloatArray) -> float:
        p = class_probabilities(kernel, float(theta[0]), float(np.exp(theta[1])))[0]
        whole = float(kernel.height_um @ p)
        return float(np.log(max(whole, _TINY)) - n @ np.log(np.maximum(seen @ p, _TINY)))

    centre, bounds = np.log(median_um), np.log(_SIGMA)
    best, least = np.array([centre, np.log(_STARTS[0])]), np.inf
    for sigma in _STARTS:
        start = np.array([centre, np.log(sigma)])
        simplex = np.vstack([start, start + np.diag([0.1, 0.4])])
        found = minimize(
            cost, start, method="Nelder-Mead",
            bounds=[(centre - 4.0, centre + 2.0), (bounds[0], bounds[1])],
            options={"initial_simplex": simplex, "xatol": 1e-5, "fatol": 1e-10, "maxiter": 400},
        )  # fmt: skip
        if found.fun < least:
            best, least = found.x, float(found.fun)
    return float(best[0]), float(np.exp(best[1]))


def _misfit(kernel: Kernel, counts: FloatArray, p: FloatArray) -> float:
    expected = kernel.seen_um @ p
    expected *= counts.sum() / expected.sum()
    many = expected > _LEAST_EXPECTED
    freedom = int(many.sum()) - 3
    if freedom < 1:
        return float("nan")
    return float(((counts[many] - expected[many]) ** 2 / expected[many]).sum() / freedom)


def bend(kernel: Kernel, counts: FloatArray, p: FloatArray, steps: int = EM_STEPS) -> FloatArray:
    """Return probabilities of classes of diameter after steps of expectation maximisation, with the sum of `p`.

    `counts` and `p` are (J,), or (J, M) for M cases at once.
    """
    relative = kernel.seen_um / kernel.height_um
    height = kernel.height_um if p.ndim == 1 else kernel.height_um[:, None]
    share, q = counts / counts.sum(axis=0), p * height
    q = q / q.sum(axis=0)
    for _ in range(steps):
        q = q * (relative.T @ (share / np.maximum(relative @ q, _TINY)))
    bent = q / height
    return np.asarray(bent * (p.sum(axis=0) / bent.sum(axis=0)))


def _raise_limit(area: FloatArray, found: Unfolded, bin_um: float) -> Unfolded:
    """Return the fit with a higher limit where that cures it; two populations it does not cure."""
    kept, off = area[area >= found.limit_um2], 0.0
    for quantile in _RAISED:
        try:
            higher = _unfold_at(kept, found.kernel.thickness_um, float(np.quantile(kept, quantile)), bin_um)
        except InputError:  # the higher limit leaves too little
            continue
        if higher.misfit < _GOOD_FIT:
            text = f"small profiles are missing: the limit was raised to {higher.limit_um2:.3g} µm²"
            return replace(higher, flags=(text,))
        off = max(off, abs(float(np.log(higher.density_um3(1.0) / found.density_um3(1.0)))))
    return replace(found, limit_effect=off)


def _objections(found: Unfolded) -> tuple[str, ...]:
    said = []
    if found.misfit > _POOR_FIT:
        said.append(
            f"no lognormal fits the profiles (chi2 {found.chi2:.1f}): "
            "the limit or the thickness is wrong, or there are two populations"
        )
    if not _SIGMA[0] * 1.01 < found.sigma < _SIGMA[1] * 0.99:
        said.append(f"the spread of the diameters is at the edge of what is thought possible ({found.sigma:.3g})")
    if found.invisible > _MUCH_INVISIBLE:
        said.append(f"{found.invisible:.0%} of the balls are too small to be seen: their number is extrapolated")
    return tuple(said)
