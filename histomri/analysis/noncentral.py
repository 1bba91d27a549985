"""The noncentral t distribution, for any noncentrality."""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaincc, gammaln, ndtr

from histomri.core.arrays import FloatArray

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(240)
# Standard deviations (of z, and more than that of chi) beyond which less than 1e-19 is left.
_REACH = 9.0


def chi_rule(df: float) -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights (sum 1) for integrals over the chi distribution."""
    # The standard deviation of chi is below 0.75 for any df.
    centre = math.sqrt(max(df - 0.5, 0.25))
    low, high = max(centre - _REACH, 0.0), centre + _REACH
    length = 0.5 * (high - low) * _NODES + 0.5 * (high + low)
    log_density = (df - 1.0) * np.log(length) - 0.5 * length**2 - (0.5 * df - 1.0) * math.log(2.0) - gammaln(0.5 * df)
    mass = _WEIGHTS * np.exp(log_density)
    return length, np.asarray(mass / mass.sum())


def noncentral_t_cdf(t: float, df: float, noncentrality: float | FloatArray) -> FloatArray:
    """Return P(T <= t) for T = (z + noncentrality) / (chi / sqrt(df)), of the shape of `noncentrality`.

    Integrated over whichever of z and chi leaves the smoother integrand, so that no noncentrality is too large; library
    functions for this distribution give up beyond about 40.
    """
    shift = np.asarray(noncentrality, dtype=float)[..., None]
    if t < 0:
        return np.asarray(1.0 - noncentral_t_cdf(-t, df, -np.asarray(noncentrality, dtype=float)))
    if t <= math.sqrt(df):
        length, mass = chi_rule(df)
        return np.asarray(ndtr(t * length / math.sqrt(df) - shift) @ mass)
    # Where the numerator is negative T is below t whatever chi is; from there on the integrand is smooth.
    low = np.clip(-shift, -_REACH, _REACH)
    z = 0.5 * (_REACH - low) * _NODES + 0.5 * (_REACH + low)
    density = np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)
    above = gammaincc(0.5 * df, 0.5 * ((z + shift) * (math.sqrt(df) / t)) ** 2)
    return np.asarray(ndtr(-shift[..., 0]) + 0.5 * (_REACH - low[..., 0]) * ((density * above) @ _WEIGHTS))


def noncentral_t_quantile(level: float, df: float, noncentrality: float) -> float:
    """Return t for which P(T <= t) is `level`."""
    # Standard deviation of t about its noncentrality, generously; few degrees of freedom have a long tail.
    reach = 10.0 * math.sqrt(1.0 + noncentrality**2 / (2.0 * df)) + 5.0
    low, high = noncentrality - reach, noncentrality + reach
    while noncentral_t_cdf(high, df, noncentrality) < level:
        high += reach
    while noncentral_t_cdf(low, df, noncentrality) > level:
        low -= reach
    return float(brentq(lambda t: float(noncentral_t_cdf(t, df, noncentrality)) - level, low, high, rtol=1e-14))
