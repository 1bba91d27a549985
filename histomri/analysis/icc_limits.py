"""The intervals of intraclass correlations that other software prints, to set beside those of the jackknife."""

import math

import numpy as np
from scipy.special import fdtri

from histomri.core.arrays import FloatArray


def f_limits(squares: FloatArray, n: int, k: int, confidence: float) -> FloatArray:
    """Return the limits of ICC(1), ICC(A,1) and ICC(C,1) from F distributions, (3, 2); NaN without residual.

    McGraw & Wong 1996, table 7 (doi 10.1037/1082-989X.1.1.30). `squares` are the mean squares of cases, methods,
    residual and within cases, of n cases and k methods.
    """
    msr, msc, mse, msw = (float(each) for each in squares)
    if not (mse > 0 and msw > 0):
        return np.full((3, 2), math.nan)

    def quantile(df1: float, df2: float) -> float:
        return float(fdtri(df1, df2, 0.5 + confidence / 2.0))

    def of_ratio(error: float, df: float) -> tuple[float, float]:
        low, high = msr / error / quantile(n - 1, df), msr / error * quantile(df, n - 1)
        return (low - 1) / (low + k - 1), (high - 1) / (high + k - 1)

    rho = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
    a, b = k * rho / (n * (1 - rho)), 1 + k * rho * (n - 1) / (n * (1 - rho))
    df = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))
    rest = k * msc + (k * n - k - n) * mse
    low, high = quantile(n - 1, df), quantile(df, n - 1)
    absolute = n * (msr - low * mse) / (low * rest + n * msr), n * (high * msr - mse) / (rest + n * high * msr)
    return np.array([of_ratio(msw, n * (k - 1)), absolute, of_ratio(mse, (n - 1) * (k - 1))])
