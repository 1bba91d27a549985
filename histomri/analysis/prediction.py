"""Predict a value, such as tumour volume, from a polynomial of two metrics; judged on cases that were not used."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial import Delaunay, QhullError
from scipy.special import stdtr, stdtrit

from histomri.analysis.correlation import constant, correlate, resampling_weights
from histomri.analysis.patients import FEWEST_UNITS, repeated
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError

# Powers of x and y. "printed" is equation 17 of Grussu et al. 2025 (doi 10.1038/s43856-025-01246-2), which lacks x, y
# and y³; "cubic" is the full polynomial.
BASES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "cubic": tuple((i, total - i) for total in range(4) for i in range(total, -1, -1)),
    "printed": ((0, 0), (0, 2), (1, 2), (1, 1), (2, 1), (2, 0), (3, 0)),
}
_GRID = 25
_LARGEST_CONDITION = 1e12
_EXACT = 1.0 - 1e-12  # an r that differs from 1 by rounding


@dataclass(frozen=True)
class Prediction:
    """A cross-validated prediction."""

    r: float  # Pearson's, of all out-of-fold predictions with the truth
    # Two-sided p against no relation, and interval, of the r to be expected in new cases of a fit to as many cases as
    # lie outside a fold. Both rest on the scatter of Fisher's z when cases (or groups) are drawn anew and the whole
    # cross-validation is done again: the predictions share their fits, and are not N independent pairs.
    p: float
    ci: tuple[float, float] | None
    fold_r: FloatArray  # r within each fold; NaN for fewer than three cases
    predicted: FloatArray  # (N,), out of fold; NaN where a value is missing
    fold: IntArray  # (N,), -1 where a value is missing
    coefficients: pd.DataFrame  # power_x, power_y, coefficient of the fit to all cases (in the units of x and y)
    # x, y, predicted, low, high, inside: the fit to all cases on a grid, the interval of the mean at each point (the
    # jackknife over cases or groups, Student's t), and whether the point lies within the convex hull of the cases.
    surface: pd.DataFrame
    n: int
    n_missing: int
    n_groups: int
    warnings: tuple[str, ...]  # few cases, resamples that could not be fitted, no band


def polynomial(x: ArrayLike, y: ArrayLike, basis: str = "cubic") -> FloatArray:
    """Return the terms of a polynomial of two metrics (N,), (N, P), in the order of `BASES`.

    The basis is "cubic", ten terms up to the third degree, or "printed", the seven of equation 17.
    """
    if basis not in BASES:
        raise InputError(f"unknown basis '{basis}'", hint=f"use {' or '.join(BASES)}")
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return np.stack([first**i * second**j for i, j in BASES[basis]], axis=-1)


def assign_folds(groups: ArrayLike, folds: int, seed: int) -> IntArray:
    """Deal groups to folds, (N,), at random, the largest first, each to the fold with the fewest cases."""
    names, codes, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if folds < 2:
        problem = f"{folds} fold(s) leave no cases to fit: a case is predicted from the other folds"
        raise InputError(problem, hint="give at least 2 (--folds)")
    if folds > len(names):
        problem = f"{len(names)} groups of cases cannot be split into {folds} folds"
        raise InputError(problem, hint="use fewer folds (--folds)")
    shuffled = np.random.default_rng(seed).permutation(len(names))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    filled = np.zeros(folds, dtype=int)
    fold_of = np.empty(len(names), dtype=int)
    for group in order:
        fold_of[group] = int(np.argmin(filled))
        filled[fold_of[group]] += sizes[group]
    return np.asarray(fold_of[codes])


def cross_validated_prediction(
    x: ArrayLike, y: ArrayLike, target: ArrayLike, *, basis: str = "cubic", folds: int = 5,
    groups: ArrayLike | None = None, seed: int = 0, n_boot: int = 1000, confidence: float = 0.95,
) -> Prediction:  # fmt: skip
    """Predict a target from a polynomial of two metrics by least squares, with k-fold cross-validation.

    Parameters
    ----------
    x, y, target : (N,) array-like
        Metrics, such as D0I and vCS, and what to predict, such as log10 of the volume. Cases with a missing value are
        left out.
    basis : {"cubic", "printed"}
        As in `polynomial`.
    groups : (N,) array-like, optional
        Cases that stay together, such as tumours of one patient; folds and resamples are then drawn of groups.
    folds, seed, n_boot : int
        Number of folds; seed of folds and resamples; resamples of the bootstrap, for p and interval of r.

    Raises
    ------
    InputError
        If a series is constant, there are too few cases or groups, or the terms are not independent.
    """
    columns = np.stack([np.asarray(values, dtype=float).ravel() for values in (x, y, target)])
    used = np.isfinite(columns).all(axis=0)
    labels = np.arange(used.size) if groups is None else np.asarray(groups)
    first, second, truth = columns[:, used]
    names, codes = np.unique(labels[used], return_inverse=True)
    terms = _checked_terms(first, second, truth, basis)
    fold = assign_folds(codes, folds, seed)
    predicted = _out_of_fold(terms, truth, fold)
    r = correlate(predicted, truth).r
    fold_r = np.array([correlate(predicted[fold == k], truth[fold == k]).r for k in range(folds)])
    weights = resampling_weights(len(names), n_boot, seed)[:, codes]
    p, ci, failed = _uncertainty(r, terms, truth, fold, weights, len(names), confidence)
    surface = _surface(first, second, truth, basis, codes, confidence)
    warnings = _warnings(len(truth), terms.shape[1], failed, n_boot, has_band=bool(surface["low"].notna().all()))
    if repeated(codes) and len(names) < FEWEST_UNITS:
        p, ci = math.nan, None
        warnings += (f"{len(names)} groups are too few for p and interval of r ({FEWEST_UNITS} are needed)",)
    if abs(r) >= _EXACT:
        text = "the polynomial gives the target exactly, so r has neither p nor interval; is it one of the metrics?"
        warnings += (text,)
    powers = np.array(BASES[basis])
    coefficients = np.linalg.lstsq(terms / _scale(terms), truth, rcond=None)[0] / _scale(terms)
    fit = pd.DataFrame({"power_x": powers[:, 0], "power_y": powers[:, 1], "coefficient": coefficients})
    everywhere, fold_of = np.full(used.shape, np.nan), np.full(used.shape, -1, dtype=fold.dtype)
    everywhere[used], fold_of[used] = predicted, fold
    sizes = (len(truth), int((~used).sum()), len(names))
    return Prediction(r, p, ci, fold_r, everywhere, fold_of, fit, surface, *sizes, warnings)


def _checked_terms(x: FloatArray, y: FloatArray, truth: FloatArray, basis: str) -> FloatArray:
    terms = polynomial(x, y, basis)
    n, p = terms.shape
    if n < p + 3:
        fewer = " (--basis printed has 7)" if p > len(BASES["printed"]) else ""
        problem = f"{n} complete cases are too few for a polynomial of {p} terms{fewer}"
        raise InputError(problem, hint=f"at least {p + 3} are needed")
    for name, values in (("first metric", x), ("second metric", y), ("target", truth)):
        if constant(values):
            raise InputError(f"the {name} is constant; nothing can be predicted", hint="name another column")
    return terms


def _scale(terms: FloatArray) -> FloatArray:
    # Only scaled, never centred: a basis without all lower terms would span other functions after a shift.
    return np.asarray(np.sqrt((terms**2).mean(axis=0)))


def _out_of_fold(terms: FloatArray, truth: FloatArray, fold: IntArray) -> FloatArray:
    scaled = terms / _scale(terms)
    predicted = np.empty_like(truth)
    for k in range(fold.max() + 1):
        test = fold == k
        # Orthogonal on the training cases, so that nearly collinear powers lose no digits in the predictions.
        orthogonal, triangle = np.linalg.qr(scaled[~test])
        if len(orthogonal) < scaled.shape[1] or np.linalg.cond(triangle) > _LARGEST_CONDITION:
            problem = f"fold {k + 1}: the other folds cannot determine the {scaled.shape[1]} terms of the polynomial"
            raise InputError(problem, hint="use fewer folds (--folds), or --basis printed")
        predicted[test] = scaled[test] @ np.linalg.solve(triangle, orthogonal.T @ truth[~test])
    return predicted


def _uncertainty(
    r: float, terms: FloatArray, truth: FloatArray, fold: IntArray, weights: FloatArray, n_groups: int,
    confidence: float,
) -> tuple[float, tuple[float, float] | None, int]:  # fmt: skip
    """Return p and interval of r from cross-validations of the resamples, and how many of them could not be fitted."""
    orthogonal = np.linalg.qr(terms / _scale(terms))[0]
    target = truth - truth.mean()  # the constant is among the terms, so that this only spares digits
    predicted = np.empty_like(weights)
    fitted = np.ones(len(weights), dtype=bool)
    for k in range(fold.max() + 1):
        test = fold == k
        # A case that is drawn twice stays in its fold, so that none is predicted from itself.
        coefficients, usable = _weighted_fits(orthogonal, target, weights * ~test)
        predicted[:, test] = coefficients @ orthogonal[test].T
        fitted &= usable
    drawn = _correlations(weights[fitted], predicted[fitted], target)
    drawn = drawn[np.abs(drawn) < 1.0]
    failed = len(weights) - drawn.size
    if abs(r) >= _EXACT:
        return math.nan, None, 0
    if failed > len(weights) / 2 or math.isnan(r):
        return math.nan, None, failed
    z, se = math.atanh(r), float(np.arctanh(drawn).std(ddof=1))
    half = float(stdtrit(n_groups - 1, 0.5 + confidence / 2.0)) * se
    p = float(2.0 * stdtr(n_groups - 1, -abs(z) / se))
    return p, (math.tanh(z - half), math.tanh(z + half)), failed


def _weighted_fits(orthogonal: FloatArray, truth: FloatArray, weights: FloatArray) -> tuple[FloatArray, np.ndarray]:
    """Return the coefficients of a fit with each row of weights, (B, P), and which could be had; others are NaN."""
    n, p = orthogonal.shape
    normal = (weights @ (orthogonal[:, :, None] * orthogonal[:, None, :]).reshape(n, p * p)).reshape(-1, p, p)
    right = (weights * truth) @ orthogonal
    spread = np.linalg.eigvalsh(normal)
    usable = np.asarray(spread[:, 0] * _LARGEST_CONDITION > spread[:, -1])
    coefficients = np.full((len(weights), p), np.nan)
    coefficients[usable] = np.linalg.solve(normal[usable], right[usable][..., None])[..., 0]
    return coefficients, usable


def _correlations(weights: FloatArray, predicted: FloatArray, truth: FloatArray) -> FloatArray:
    """Return r of predictions and truth in each row; NaN where one does not vary."""
    total = weights.sum(axis=1, keepdims=True)
    one = predicted - (weights * predicted).sum(axis=1, keepdims=True) / total
    other = truth - (weights @ truth)[:, None] / total
    squares = (weights * one**2).sum(axis=1) * (weights * other**2).sum(axis=1)
    product = (weights * one * other).sum(axis=1)
    return np.where(squares > 0, product / np.sqrt(np.where(squares > 0, squares, 1.0)), np.nan)


def _surface(
    x: FloatArray, y: FloatArray, truth: FloatArray, basis: str, codes: IntArray, confidence: float
) -> pd.DataFrame:
    """Return fit and band on a grid; the band is NaN if the fit hangs on a single case or group."""
    terms = polynomial(x, y, basis)
    scale = _scale(terms)
    orthogonal, triangle = np.linalg.qr(terms / scale)
    across, along = np.meshgrid(*[np.linspace(v.min(), v.max(), _GRID) for v in (x, y)], indexing="ij")
    points = np.column_stack([across.ravel(), along.ravel()])
    grid = np.linalg.solve(triangle.T, (polynomial(points[:, 0], points[:, 1], basis) / scale).T).T
    groups = int(codes.max()) + 1
    without_one, _ = _weighted_fits(orthogonal, truth, (1.0 - np.eye(groups))[:, codes])
    fitted = orthogonal.T @ truth
    # A percentile bootstrap would be too narrow where there are groups, and leave some resamples without a fit.
    se = np.sqrt((groups - 1) / groups * (((without_one - fitted) @ grid.T) ** 2).sum(axis=0))
    half = float(stdtrit(groups - 1, 0.5 + confidence / 2.0)) * se
    try:
        hull = Delaunay(np.column_stack([x, y]) / [np.ptp(x), np.ptp(y)])
        inside = hull.find_simplex(points / [np.ptp(x), np.ptp(y)]) >= 0
    except QhullError as error:
        raise InputError("the two metrics lie on one line; a polynomial of both cannot be fitted") from error
    predicted = grid @ fitted
    found = {"x": points[:, 0], "y": points[:, 1], "predicted": predicted}
    return pd.DataFrame({**found, "low": predicted - half, "high": predicted + half, "inside": inside})


def _warnings(n: int, terms: int, failed: int, n_boot: int, *, has_band: bool) -> tuple[str, ...]:
    texts = []
    if n < 10 * terms:
        texts.append(f"{n} cases for a polynomial of {terms} terms, fewer than 10 for each")
    if failed:
        left = "p and interval of r go without them" if failed <= n_boot / 2 else "so r has neither p nor interval"
        texts.append(f"{failed} of {n_boot} resamples could not be fitted, {left}")
    if not has_band:
        texts.append("the polynomial cannot be fitted without one of the cases or groups, so the surface has no band")
    return tuple(texts)


def log10_volume(volume: ArrayLike) -> FloatArray:
    """Return log10 of volumes, NaN where missing; a volume that is not positive is an InputError."""
    values = np.asarray(volume, dtype=float)
    wrong = np.isfinite(values) & (values <= 0)
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise InputError(f"volume {values[first]:g} of case {first + 1} is not positive and has no logarithm")
    with np.errstate(invalid="ignore"):
        return np.asarray(np.log10(values))


def fold_range(fold_r: FloatArray) -> tuple[float, float]:
    """Return the smallest and the largest r of the folds, NaN if none is defined."""
    known = fold_r[np.isfinite(fold_r)]
    return (float(known.min()), float(known.max())) if known.size else (math.nan, math.nan)
