"""How many cases a correlation needs, and what a number of cases can detect."""

import math

import numpy as np
from scipy.special import stdtrit

from histomri.analysis.noncentral import chi_rule, noncentral_t_cdf
from histomri.core.errors import InputError

_LARGEST_N = 10_000_000


def correlation_power(r: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that a correlation is found significant, two-sided.

    Exact for the t-test of Pearson's r of bivariate normal values: given the values of one variable, t is noncentral
    with a noncentrality proportional to their standard deviation, which follows a chi distribution.

    Parameters
    ----------
    r : float
        True correlation.
    n : int
        Cases, at least 3.
    alpha : float
        Level of the test.
    """
    _check(r=r, alpha=alpha)
    if n < 3:
        raise InputError(f"{n} cases are too few for a correlation")
    critical = float(stdtrit(n - 2, 1.0 - alpha / 2.0))
    if abs(r) >= 1.0:
        return 1.0
    length, weight = chi_rule(n - 1)
    shift = abs(r) / math.sqrt(1.0 - r * r) * length
    missed = noncentral_t_cdf(critical, n - 2, shift) - noncentral_t_cdf(-critical, n - 2, shift)
    return float(np.clip(1.0 - weight @ missed, 0.0, 1.0))


def sample_size(r: float, *, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the smallest number of cases with which a correlation is found with the wanted power.

    Parameters
    ----------
    r : float
        True correlation, not 0.
    power, alpha : float
        Wanted power, and level of the two-sided test.
    """
    _check(r=r, alpha=alpha, power=power)
    if r == 0:
        raise InputError("no number of cases finds a correlation of 0")
    low, high = 2, 4
    while correlation_power(r, high, alpha=alpha) < power:
        low, high = high, 2 * high
        if high > _LARGEST_N:
            raise InputError(f"a correlation of {r:g} needs more than {_LARGEST_N} cases")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if correlation_power(r, middle, alpha=alpha) >= power else (middle, high)
    return high


def detectable_correlation(n: int, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the smallest correlation that is found with the wanted power.

    Parameters
    ----------
    n : int
        Cases, at least 4.
    power, alpha : float
        Wanted power, and level of the two-sided test.
    """
    from scipy.optimize import brentq

    _check(alpha=alpha, power=power)
    if n < 4:
        raise InputError(f"{n} cases are too few: no correlation can be relied on to be found")
    return float(
        brentq(lambda r: correlation_power(r, n, alpha=alpha) - power, 1e-9, 1.0 - 1e-12, xtol=1e-12, rtol=1e-12)
    )


def critical_correlation(n: int, *, alpha: float = 0.05) -> float:
    """Return the smallest |r| that is significant with n cases."""
    _check(alpha=alpha)
    if n < 3:
        raise InputError(f"{n} cases are too few for a correlation")
    t = float(stdtrit(n - 2, 1.0 - alpha / 2.0))
    return t / math.sqrt(n - 2 + t * t)


def _check(*, alpha: float, r: float = 0.0, power: float | None = None) -> None:
    if not -1.0 <= r <= 1.0:
        raise InputError(f"a correlation of {r:g} lies outside -1 to 1")
    if not 0.0 < alpha < 1.0:
        raise InputError(f"a level of {alpha:g} lies outside 0 to 1", hint="use 0.05")
    if power is not None and not alpha < power < 1.0:
        raise InputError(f"a power of {power:g} must lie between the level {alpha:g} and 1", hint="use 0.8")
