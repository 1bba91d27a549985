"""Standard errors of a linear model whose rows are not independent: the sandwich over patients (CR2)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

_ROUNDING = 1e-9


@dataclass(frozen=True)
class ClusterRobust:
    """Coefficients of least squares, (P,), with errors over clusters; NaN where they cannot be had."""

    beta: FloatArray
    se: FloatArray
    df: FloatArray
    p: FloatArray  # two-sided, Student's t


def cluster_robust(design: ArrayLike, y: ArrayLike, clusters: ArrayLike) -> ClusterRobust:
    """Return least squares with CR2 standard errors and Satterthwaite's degrees of freedom.

    Bell & McCaffrey 2002, in the form of Pustejovsky & Tipton 2018 (doi 10.1080/07350015.2016.1247004) for ordinary
    least squares: what R's clubSandwich prints. Rows of a cluster may resemble each other in any way.

    Parameters
    ----------
    design : (N, P) array-like
        Explanatory variables, the constant included; of full rank.
    y, clusters : (N,) array-like
        Response, and labels of what is independent.

    Raises
    ------
    InputError
        If the design is not of full rank.

    Examples
    --------
    >>> x = np.column_stack([np.ones(6), [0, 1, 2, 3, 4, 5]])
    >>> found = cluster_robust(x, [0.1, 0.9, 2.2, 2.9, 4.1, 5.0], list("aabbcc"))
    >>> round(float(found.beta[1]), 3), round(float(found.df[1]), 2)
    (0.994, 1.24)
    """
    x, values = np.asarray(design, dtype=float), np.asarray(y, dtype=float)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise InputError("a predictor is constant, or a sum of others")
    codes = np.unique(np.asarray(clusters), return_inverse=True)[1]
    bread = np.linalg.inv(x.T @ x)
    hat = x @ bread @ x.T
    beta = bread @ (x.T @ values)
    residual = values - x @ beta
    left = np.eye(len(x)) - hat
    weighted = [_inverse_root(left[np.ix_(rows, rows)]) @ x[rows] @ bread for rows in _rows(codes)]  # (n_g, P)
    scores = np.stack([part.T @ residual[rows] for part, rows in zip(weighted, _rows(codes))])
    se = np.sqrt((scores**2).sum(axis=0))
    # Column g of P for each coefficient: what cluster g adds to its variance if all rows were independent.
    columns = np.stack([left[:, rows] @ part for part, rows in zip(weighted, _rows(codes))])  # (G, N, P)
    products = np.einsum("gnp,hnp->pgh", columns, columns)
    trace, squares = np.trace(products, axis1=1, axis2=2), (products**2).sum(axis=(1, 2))
    known = (se > 0) & (squares > 0)
    df = np.where(known, trace**2 / np.where(known, squares, 1.0), np.nan)
    p = np.where(known, 2.0 * stdtr(df, -np.abs(beta) / np.where(known, se, 1.0)), np.nan)
    return ClusterRobust(beta, np.where(known, se, np.nan), df, p)


def _rows(codes: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1)]


def _inverse_root(matrix: FloatArray) -> FloatArray:
    """Return the symmetric inverse square root; of directions that the fit takes whole, nothing."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > _ROUNDING
    return np.asarray((vectors * np.where(kept, 1.0 / np.sqrt(np.where(kept, values, 1.0)), 0.0)) @ vectors.T)
