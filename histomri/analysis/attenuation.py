"""What measurement errors of both sides take from a correlation, if the given standard errors are right."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import chdtri

from histomri.analysis.correlation import constant, jackknife_z_interval, pearson
from histomri.analysis.patients import FEWEST_UNITS, jackknife_t, repeated, without_each
from histomri.analysis.results import heading
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.columns import STAT, SYST, registration_sd
from histomri.core.errors import InputError

FACTORS = (0.7, 1.0, 1.3)  # of the given errors: as if they were understated, right, overstated
_FEWEST = 4
_SIDES = ("_histo", "_mri")  # in the names of columns
_OF_MRI = ("ADC_um2_ms", "ADC_per_water", "K")  # of the same images as the fits, without a side in their names
_UNKNOWN = (math.nan,) * 7
_NEARLY_NONE = 1e-6  # reliability of a sample without one case, whose scatter is then no larger than the error


@dataclass(frozen=True)
class TrueCorrelation:
    """A correlation, and what it would be without the errors of measurement. NaN where it is refused; see `note`."""

    n: int
    n_missing: int
    r: float
    r_low: float
    r_high: float
    reliability_x: float  # share of the variance between cases that is no error of measurement
    reliability_x_low: float  # one-sided lower limit
    reliability_y: float
    reliability_y_low: float
    r_true: float = math.nan
    r_true_low: float = math.nan
    r_true_high: float = math.nan
    slope: float = math.nan  # of true y on true x
    slope_low: float = math.nan
    slope_high: float = math.nan
    note: str = ""  # why r_true is refused


def true_correlation(
    x: ArrayLike, y: ArrayLike, x_se: ArrayLike, y_se: ArrayLike, *, patients: ArrayLike | None = None,
    confidence: float = 0.95,
) -> TrueCorrelation:  # fmt: skip
    """Correct a correlation for the errors of measurement of both sides, which must be independent of each other.

    r over the square root of the product of the reliabilities (Spearman 1904), with the interval of a ratio from those
    of its two parts (Zou 2007, MOVER, doi 10.1037/1082-989X.12.4.399); both are jackknives, of Fisher's z and of the
    logarithm. The slope is covariance over the variance of x less its errors, with the jackknife of the slope itself.
    An error that is understated by 30 % makes the interval too short; an overstated one is refused more often.

    Parameters
    ----------
    x, y, x_se, y_se : (N,) array-like
        Values, and one standard error of each, in the same unit. Cases with a missing one are left out.
    patients : (N,) array-like, optional
        Label of the patient of each case; if one comes twice, the jackknives leave out patients.

    Returns
    -------
    TrueCorrelation
        Refused (NaN, with a note) if a side scatters no more than its errors, or might not: if the lower limit of its
        reliability is not positive.

    Raises
    ------
    InputError
        If sides differ in length, or an error is negative.

    Examples
    --------
    >>> x, y = [1.0, 2, 3, 4, 5, 6, 7, 8], [2.0, 1, 4, 3, 6, 5, 8, 7]
    >>> found = true_correlation(x, y, [0.8] * 8, [0.8] * 8)
    >>> round(found.r, 2), round(found.reliability_x, 2), round(found.r_true, 2)
    (0.9, 0.89, 1.0)
    """
    columns = [np.asarray(values, dtype=float).ravel() for values in (x, y, x_se, y_se)]
    if len({values.size for values in columns}) > 1:
        raise InputError("values and errors of both sides differ in number")
    used = np.isfinite(columns).all(axis=0)
    one, other, error_one, error_other = (values[used] for values in columns)
    if (error_one < 0).any() or (error_other < 0).any():
        raise InputError("a standard error is negative")
    missing, n = int((~used).sum()), one.size
    if n < _FEWEST or constant(one) or constant(other):
        why = f"{n} cases with values and errors are too few" if n < _FEWEST else "one side is constant"
        return TrueCorrelation(n, missing, *_UNKNOWN, note=why)
    labels = np.arange(used.size) if patients is None else np.asarray(patients)
    codes = np.unique(labels[used], return_inverse=True)[1]
    return _corrected(_Cases(one, other, error_one**2, error_other**2, codes), missing, confidence)


@dataclass(frozen=True)
class _Cases:
    """Complete cases, (N,) each: values, squared errors, and the number of the patient."""

    x: FloatArray
    y: FloatArray
    x_error: FloatArray
    y_error: FloatArray
    codes: IntArray

    def estimates(self, kept: BoolArray) -> list[float]:
        """Return r, both reliabilities and the slope of some cases."""
        x, y = self.x[kept], self.y[kept]
        covariance = np.cov(x, y)
        r = (
            covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
            if covariance.diagonal().all()
            else math.nan
        )
        sides = (covariance[0, 0] - self.x_error[kept].mean(), covariance[1, 1] - self.y_error[kept].mean())
        shares = [true / all_ if all_ > 0 else math.nan for true, all_ in zip(sides, covariance.diagonal())]
        return [r, *shares, covariance[0, 1] / sides[0] if sides[0] else math.nan]


def _corrected(cases: _Cases, missing: int, confidence: float) -> TrueCorrelation:
    n, units = cases.codes.size, int(cases.codes.max()) + 1
    _, share_x, share_y, slope = map(float, cases.estimates(np.ones(n, dtype=bool)))
    r = pearson(cases.x, cases.y)
    without = without_each(cases.codes, cases.estimates)
    enough = units >= FEWEST_UNITS or not repeated(cases.codes)
    limits = (jackknife_z_interval(r, without[:, 0], confidence) if enough else None) or (math.nan, math.nan)
    scale = float(chdtri(units - 1, 0.05)) / (units - 1)
    lows = [1.0 - (1.0 - share) * scale for share in (share_x, share_y)]
    known = (n, missing, r, *limits, share_x, lows[0], share_y, lows[1])
    if note := _refusal(cases, (share_x, share_y), lows):
        return TrueCorrelation(*known, note=note)
    log_f = 0.5 * np.log(np.clip(without[:, 1:3], _NEARLY_NONE, None)).sum(axis=1)
    f = math.sqrt(share_x * share_y)
    f_low, f_high, _ = np.exp(jackknife_t(math.log(f), log_f, confidence)) if enough else (math.nan,) * 3
    low, high = _mover(r, limits, f, (float(f_low), min(float(f_high), 1.0)))
    r_true, low, high = (float(np.clip(value, -1.0, 1.0)) for value in (r / f, low, high))
    slope_low, slope_high, _ = map(float, jackknife_t(slope, without[:, 3], confidence))
    return TrueCorrelation(*known, r_true, low, high, slope, slope_low, slope_high)


def _refusal(cases: _Cases, shares: tuple[float, float], lows: list[float]) -> str:
    for side, errors, share, low in zip("xy", (cases.x_error, cases.y_error), shares, lows):
        if not errors.any():
            return f"the errors of {side} are all 0, which no measurement has"
        if not (share > 0 and low > 0):
            return f"the scatter of {side} between cases is not larger than its error, or may not be"
    return ""


def _mover(r: float, limits: tuple[float, float], f: float, of_f: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of r / f from those of r and f."""
    low, high = limits
    f_low, f_high = of_f
    smaller, larger = r / f - r / f_high, r / f_low - r / f
    if r < 0:
        smaller, larger = larger, smaller
    return r / f - math.hypot((r - low) / f, smaller), r / f + math.hypot((high - r) / f, larger)


def attenuation_table(
    values: pd.DataFrame, pairs: Iterable[tuple[str, str]], patients: pd.Series | None = None
) -> pd.DataFrame:
    """Correct the correlations of pairs of columns of which a table has errors, `<column>_se` and `<column>_syst`.

    `values` has one row per case. Each pair has a row for each of `FACTORS`, by which the errors are multiplied, with
    the errors of sampling (errors is "se"); again with the systematic ones added in squares ("se+syst"), as if they
    differed from case to case by chance; those that all cases share take nothing from r; and again with what the
    registration adds to the mean of a case (`registration_sd_<column>`, "se+registration"), of cases where it is known.
    Pairs of which one side has errors and the other none have one row, with a note. The columns are x, y, errors,
    factor, and those of `TrueCorrelation`.
    """
    rows: list[dict[str, Any]] = []
    for x, y in pairs:
        present = [f"{name}{STAT}" in values for name in (x, y)]
        if not any(present):
            continue
        head = {"x": x, "y": y}
        if not all(present):
            absent = y if present[0] else x
            rows.append(
                {
                    **head,
                    "errors": "se",
                    "factor": 1.0,
                    "note": f"'{absent}{STAT}' is missing: errors of both sides are needed",
                }
            )
            continue
        for kind, others in _kinds(values, (x, y)).items():
            errors = [_errors(values, name, others) for name in (x, y)]
            for factor in FACTORS:
                found = true_correlation(values[x], values[y], *(factor * each for each in errors), patients=patients)
                rows.append({**head, "errors": kind, "factor": factor, **asdict(found)})
    return pd.DataFrame(rows, columns=["x", "y", "errors", "factor", *TrueCorrelation.__dataclass_fields__])


def across_sides(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs whose errors are independent, histology first: two metrics of one fit share theirs."""
    found = []
    for one, other in pairs:
        sides = [
            "_mri" if name in _OF_MRI else next((side for side in _SIDES if side in name), "") for name in (one, other)
        ]
        if sides[0] != sides[1] or not any(sides):
            found.append((other, one) if sides[1] == "_histo" else (one, other))
    return found


def attenuation_lines(table: pd.DataFrame, most: int) -> list[str]:
    """Say what the correlations would be if the given errors were right, too small, or too large.

    Of `most` pairs, those of one measurement on both sides first. What is refused follows in a line for each reason,
    with its pairs counted.
    """
    lines, refused = [], dict[str, list[str]]()
    mine = table[table["errors"] == "se"]
    parts = list(table.columns[: table.columns.get_loc("x") + 2])
    for _, rows in sorted(mine.groupby(parts, sort=False, dropna=False), key=lambda part: _differ(part[1].iloc[0])):
        row = rows[rows["factor"] == 1.0].iloc[0]
        name = f"{heading({part: str(row[part]) for part in parts[:-2]})}{row['x']} with {row['y']}"
        if math.isnan(row["r_true"]):
            refused.setdefault(row["note"], []).append(name)
            continue
        others = [f"errors x {one['factor']:g}: {_shown(one)}" for _, one in rows.iterrows() if one["factor"] != 1.0]
        lines.append(f"{name}: r = {row['r']:.2f}; if the given errors are right {_shown(row)} ({', '.join(others)})")
    del lines[most:]
    for why, names in refused.items():
        which = names[0] if len(names) == 1 else f"{len(names)} pairs, the first {names[0]}"
        lines.append(f"r without errors of measurement is refused ({which}): {why}")
    return lines


def _differ(row: pd.Series) -> bool:
    """Return whether the two sides are of different measurements, such as cell size and fraction."""
    return bool(row["x"].replace("_histo", "") != row["y"].replace("_mri", ""))


def _shown(row: pd.Series) -> str:
    if math.isnan(row["r_true"]):
        return "refused"
    if math.isnan(row["r_true_low"]):
        return f"{row['r_true']:.2f} (no interval)"
    return f"{row['r_true']:.2f} [{row['r_true_low']:.2f}, {row['r_true_high']:.2f}]"


def _kinds(values: pd.DataFrame, names: tuple[str, str]) -> dict[str, Callable[[str], str]]:
    """Return by which errors a pair is corrected, and the columns of those beside the errors of sampling."""
    kinds: dict[str, Callable[[str], str]] = {"se": lambda name: ""}
    if any(f"{name}{SYST}" in values for name in names):
        kinds["se+syst"] = lambda name: f"{name}{SYST}"
    if any(values[column].notna().any() for column in map(registration_sd, names) if column in values):
        kinds["se+registration"] = registration_sd
    return kinds


def _errors(values: pd.DataFrame, name: str, other: Callable[[str], str]) -> FloatArray:
    """Return the errors of a column; where there is no value of the systematic one, they are those of sampling.

    A case whose error of registration is not known is left out: it is no small one.
    """
    stat: FloatArray = values[f"{name}{STAT}"].to_numpy(dtype=float)
    if (column := other(name)) not in values:
        return stat
    more = values[column].fillna(0.0) if column.endswith(SYST) else values[column]
    return np.asarray(np.hypot(stat, more.to_numpy(dtype=float)))
