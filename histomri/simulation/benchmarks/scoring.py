"""The numbers that a benchmark set is scored by: errors of estimates, and distances of points."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtri

from histomri.analysis.correlation import fisher_interval
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.simulation.compare import pearson

ALL = "all"
_LEAST = 4  # independent cases, for an interval of r


def score_estimates(
    joined: pd.DataFrame, quantities: Sequence[str], conditions: Sequence[str], unit: str
) -> pd.DataFrame:
    """Score estimates against truth, over all cases and by condition.

    Parameters
    ----------
    joined : DataFrame
        A row per case of the truth: QUANTITY and QUANTITY_true; QUANTITY_low and QUANTITY_high (limits of its interval)
        if there are any; the conditions and the unit.
    quantities, conditions : sequence of str
    unit : str
        Rows with the same value of this column are copies of one case. Standard error and intervals count the cases.

    Returns
    -------
    DataFrame
        A row per quantity and condition: numbers of cases, see `score_one`.
    """
    rows = []
    for quantity in quantities:
        for condition, value, part in _parts(joined, conditions):
            cases = part[unit].factorize()[0]
            true, *given = (
                part[name].to_numpy(dtype=float)
                for name in (f"{quantity}_true", quantity, f"{quantity}_low", f"{quantity}_high")
                if name in part
            )
            row = {"quantity": quantity, "condition": condition, "value": value, **score_one(given[0], true, cases)}
            rows.append(row | coverage(true, given[1], given[2], cases) if len(given) == 3 else row)
    return pd.DataFrame(rows)


def score_one(estimate: FloatArray, true: FloatArray, cases: IntArray) -> dict[str, float]:
    """Return the errors of estimates (N,), NaN where there is none, of a truth (N,).

    n, n_missing, and n_cases (independent ones); true_mean; bias, its standard error over the cases, and the mean
    relative error in percent; median absolute error, root mean square; Pearson's r over the rows, with Fisher's 95 %
    interval for as many pairs as there are independent cases.
    """
    there = np.isfinite(estimate)
    error, true, cases, found = (estimate - true)[there], true[there], cases[there], estimate[there]
    n, n_cases = int(there.sum()), int(np.unique(cases).size)
    counts = {"n": n, "n_missing": int(there.size - n), "n_cases": n_cases}
    if n == 0:
        names = "true_mean bias bias_se bias_percent median_abs_error rms r r_low r_high"
        return counts | dict.fromkeys(names.split(), np.nan)
    r = pearson(found, true)
    low, high = fisher_interval(r, n_cases) if n_cases >= _LEAST and np.isfinite(r) else (np.nan, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        percent = 100.0 * float(np.mean(error / true)) if np.all(true != 0) else np.nan
    return counts | {
        "true_mean": float(true.mean()), "bias": float(error.mean()), "bias_se": _clustered_error(error, cases),
        "bias_percent": percent, "median_abs_error": float(np.median(np.abs(error))),
        "rms": float(np.sqrt(np.mean(error**2))), "r": r, "r_low": low, "r_high": high,
    }  # fmt: skip


def coverage(true: FloatArray, low: FloatArray, high: FloatArray, cases: IntArray) -> dict[str, float]:
    """Return the fraction of intervals (N,) that hold the truth, and its own 95 % interval (Wilson, over the cases)."""
    there = np.isfinite(low) & np.isfinite(high)
    inside = ((low <= true) & (true <= high))[there]
    if not inside.size:
        return {"n_intervals": 0, "coverage": np.nan, "coverage_low": np.nan, "coverage_high": np.nan}
    fraction = float(inside.mean())
    limits = wilson_interval(fraction, int(np.unique(cases[there]).size))
    return {
        "n_intervals": int(inside.size),
        "coverage": fraction,
        "coverage_low": limits[0],
        "coverage_high": limits[1],
    }


def score_points(joined: pd.DataFrame, conditions: Sequence[str], unit: str, pixel_mm: float) -> pd.DataFrame:
    """Score points against where they belong: by pair, over all pairs, and by condition.

    Parameters
    ----------
    joined : DataFrame
        A row per point: x_mm, y_mm, z_mm, NaN where it was not mapped; the same with _true; the unit, which is the
        pair; the conditions.
    conditions, unit
        As in `score_estimates`.
    pixel_mm : float
        A pair is a success if the median error of its points is below it. A point that is missing counts as far away.

    Returns
    -------
    DataFrame
        Per row: number of points, missing ones, and pairs; median, mean, 95th percentile and largest error (mm) of the
        points that are there, over several pairs the median of these; fraction of all points below a pixel; fraction of
        pairs that succeed, with its 95 % interval (Wilson).
    """
    axes = ["x_mm", "y_mm", "z_mm"]
    apart = joined[axes].to_numpy(dtype=float) - joined[[f"{axis}_true" for axis in axes]].to_numpy(dtype=float)
    errors = joined.assign(error=np.linalg.norm(apart, axis=1))
    rows = []
    for condition, value, part in (*_parts(errors, conditions), *_parts(errors, [unit], whole=False)):
        each = pd.DataFrame([_pair_errors(one["error"].to_numpy(), pixel_mm) for _, one in part.groupby(unit)])
        success = float(each["success"].mean())
        low, high = wilson_interval(success, len(each))
        rows.append(
            {
                "quantity": "point_error_mm", "condition": condition, "value": value, "n": int(each["n"].sum()),
                "n_missing": int(each["n_missing"].sum()), "n_cases": len(each),
                **{name: float(each[name].median()) for name in ("median_mm", "mean_mm", "p95_mm", "largest_mm")},
                "below_pixel": float((part["error"] < pixel_mm).mean()), "success": success, "success_low": low,
                "success_high": high,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def wilson_interval(fraction: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a fraction of n cases (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    z = float(ndtri(0.5 + confidence / 2.0))
    middle = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(fraction * (1 - fraction) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def _pair_errors(error: FloatArray, pixel_mm: float) -> dict[str, float]:
    there: BoolArray = np.isfinite(error)
    known = error[there]
    far = np.where(there, error, np.inf)
    shown = (np.median(known), np.mean(known), np.percentile(known, 95), known.max()) if known.size else (np.nan,) * 4
    return {
        "n": int(there.sum()), "n_missing": int((~there).sum()),
        **dict(zip(("median_mm", "mean_mm", "p95_mm", "largest_mm"), map(float, shown), strict=True)),
        "success": float(np.median(far) < pixel_mm),
    }  # fmt: skip


def _parts(
    table: pd.DataFrame, conditions: Sequence[str], *, whole: bool = True
) -> Iterator[tuple[str, object, pd.DataFrame]]:
    """Yield all rows, and the rows of each value of each condition."""
    if whole:
        yield ALL, "", table
    for condition in conditions:
        for value, part in table.groupby(condition, sort=True):
            yield condition, value, part


def _clustered_error(error: FloatArray, cases: IntArray) -> float:
    """Return the standard error of a mean whose rows come in independent cases of several rows."""
    _, place = np.unique(cases, return_inverse=True)
    sums = np.bincount(place.reshape(-1), error - error.mean())
    if sums.size < 2:
        return float("nan")
    return float(np.sqrt(sums.size / (sums.size - 1) * np.sum(sums**2)) / error.size)
