"""Do two methods give the same value? Bias, limits of agreement, and intraclass correlation."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import fdtrc, stdtr, stdtrit

from histomri.analysis.correlation import constant, jackknife_z_interval
from histomri.analysis.histology import histology_line, histology_size, numbers_per_volume
from histomri.analysis.icc_limits import f_limits
from histomri.analysis.measurements import opened_cases
from histomri.analysis.noncentral import noncentral_t_quantile
from histomri.analysis.options import AgreeOptions
from histomri.analysis.patients import FEWEST_UNITS, jackknife_t, patients_of, repeated, without_each
from histomri.analysis.results import Findings, heading, labelled, missing_text, naming_part
from histomri.analysis.systematic import common_error, missing_errors, of_pair
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.columns import unit_of, unit_text
from histomri.core.errors import InputError

_FEWEST, _CHANGES = 3, "the bias changes with size; limits hold on average only"
PAIRS = (("vCS_mri_um", "vCS_histo_um"), ("F_mri", "F_histo"))
_TWO_SIDED = 1.959963984540054  # 95 % of normal values lie within so many standard deviations of their mean


@dataclass(frozen=True)
class BlandAltman:
    """Differences of two methods (Bland & Altman 1999, doi 10.1177/096228029900800204), with their intervals."""

    n: int
    n_missing: int
    bias: float  # mean of first minus second; p_bias by the paired t-test against zero
    bias_low: float
    bias_high: float
    p_bias: float
    sd: float
    lower: float  # limits of agreement, bias -+ 1.96 sd
    lower_low: float
    lower_high: float
    upper: float
    upper_low: float
    upper_high: float
    # Of the difference on the mean of both: a bias that grows with size; NaN if the mean does not vary. Its standard
    # error (HC3) allows for differences that scatter more at some sizes than at others.
    slope: float
    slope_low: float
    slope_high: float
    p_slope: float
    relative: bool  # differences in percent of the mean of both
    # Where a patient has several cases: how many patients there are. Intervals and p are then those of the jackknife
    # that leaves out patients, Student's t; NaN for fewer than six.
    n_patients: float = math.nan


def bland_altman(
    first: ArrayLike, second: ArrayLike, *, relative: bool = False, confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> BlandAltman:  # fmt: skip
    """Return bias and limits of agreement of two methods on the same cases.

    Parameters
    ----------
    first, second : (N,) array-like
        Values in the same unit; pairs with a missing value are left out.
    relative : bool
        Differences in percent of the mean of both, which must be positive.
    confidence : float
        Of the intervals. Those of the limits are exact for normal differences (Carkeet 2015, doi
        10.1097/OPX.0000000000000513).
    patients : (N,) array-like, optional
        Label of the patient of each case.

    Raises
    ------
    InputError
        If there are fewer than three pairs, or a mean is not positive and differences are relative.
    """
    one, other, missing, codes = _pairs(first, second, patients)
    n = one.size
    difference, mean = one - other, 0.5 * (one + other)
    if relative:
        if (mean <= 0).any():
            raise InputError("relative differences need positive values")
        difference = 100.0 * difference / mean
    if repeated(codes):
        return _over_patients(difference, mean, codes, missing, relative, confidence)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    t = float(stdtrit(n - 1, 0.5 + confidence / 2.0))
    se = sd / math.sqrt(n)
    levels = (0.5 - confidence / 2.0, 0.5 + confidence / 2.0)
    near, far = (noncentral_t_quantile(level, n - 1, _TWO_SIDED * math.sqrt(n)) / math.sqrt(n) for level in levels)
    p = float(2.0 * stdtr(n - 1, -abs(bias) / se)) if se > 0 else (0.0 if bias else 1.0)
    lower = (bias - _TWO_SIDED * sd, bias - far * sd, bias - near * sd)
    upper = (bias + _TWO_SIDED * sd, bias + near * sd, bias + far * sd)
    slope = _slope(mean, difference, confidence)
    return BlandAltman(n, missing, bias, bias - t * se, bias + t * se, p, sd, *lower, *upper, *slope, relative)


def _over_patients(
    difference: FloatArray, mean: FloatArray, codes: IntArray, missing: int, relative: bool, confidence: float
) -> BlandAltman:
    """Return what `bland_altman` does, leaving out patients."""

    def estimates(kept: BoolArray) -> list[float]:
        bias, sd = float(difference[kept].mean()), float(difference[kept].std(ddof=1))
        slope = _slope(mean[kept], difference[kept], confidence)[0]
        return [bias, bias - _TWO_SIDED * sd, bias + _TWO_SIDED * sd, slope]

    every = estimates(np.ones(codes.size, dtype=bool))
    without = without_each(codes, estimates)
    bias, lower, upper, slope = (
        (value, *jackknife_t(value, column, confidence)) for value, column in zip(every, without.T)
    )
    sd, units = float(difference.std(ddof=1)), float(codes.max() + 1)
    return BlandAltman(
        codes.size, missing, *bias, sd, *lower[:3], *upper[:3], *slope, relative=relative, n_patients=units
    )


def bias_by_size(
    first: ArrayLike, second: ArrayLike, *, bins: int = 3, relative: bool = False, confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return the bias in classes of size, with as many cases in each as can be.

    `first` and `second` are (N,) values; by the second, the reference, cases are sorted into `bins` classes. With
    `relative`, differences are in percent of the reference, which must be positive (InputError). The columns are
    size_from, size_to, n, bias, bias_low, bias_high (Student's t; NaN for fewer than two cases) and sd. If one of the
    `patients` (N,) comes twice, the intervals of the classes leave out patients, and are NaN for fewer than six.
    """
    one, other, _, codes = _pairs(first, second, patients)
    if not 1 <= bins <= one.size:
        raise InputError(f"{one.size} cases cannot be split into {bins} classes of size")
    if relative and (other <= 0).any():
        raise InputError("relative differences need positive values")
    difference = 100.0 * (one - other) / other if relative else one - other
    rows = []
    for part in np.array_split(np.argsort(other, kind="stable"), bins):
        values, n = difference[part], part.size
        sd = float(values.std(ddof=1)) if n > 1 else math.nan
        half = float(stdtrit(n - 1, 0.5 + confidence / 2.0)) * sd / math.sqrt(n) if n > 1 else math.nan
        bias = float(values.mean())
        low, high = bias - half, bias + half
        if repeated(codes):
            mine = np.unique(codes[part], return_inverse=True)[1]
            without = _means_without(values, mine)
            low, high, _ = jackknife_t(bias, without, confidence)
        rows.append((other[part].min(), other[part].max(), n, bias, low, high, sd))
    return pd.DataFrame(rows, columns=["size_from", "size_to", "n", "bias", "bias_low", "bias_high", "sd"])


def _means_without(values: FloatArray, codes: IntArray) -> FloatArray:
    """Return the mean without each patient; NaN without the only one."""
    n = values.size - np.bincount(codes)
    return np.where(n > 0, (values.sum() - np.bincount(codes, values)) / np.maximum(n, 1), np.nan)


def intraclass_correlation(
    ratings: ArrayLike, *, confidence: float = 0.95, patients: ArrayLike | None = None
) -> pd.DataFrame:
    """Return the intraclass correlations of single measurements.

    McGraw & Wong 1996 (doi 10.1037/1082-989X.1.1.30), from the mean squares of a two-way analysis of variance.

    Parameters
    ----------
    ratings : (N, K) array-like
        Cases x methods; cases with a missing value are left out.
    confidence : float
        Of the intervals: the jackknife of Fisher's z. The textbook's, from F distributions (ci_low_f, ci_high_f), are
        too narrow unless the values are normal, and for ICC(A,1) take the methods for a random choice from many.
    patients : (N,) array-like, optional
        Label of the patient of each case. If one comes twice, the jackknife leaves out patients (at least six), and
        there is no p.

    Returns
    -------
    DataFrame
        Rows ICC(1), ICC(A,1), ICC(C,1) (one-way; absolute agreement; consistency, which forgives a constant bias);
        columns type, icc, f, df1, df2, p, ci_low, ci_high, n, n_missing, ci_low_f, ci_high_f.

    Raises
    ------
    InputError
        If there are fewer than three complete cases or two methods, or nothing varies.
    """
    values = np.asarray(ratings, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError("agreement needs a table of cases x at least two methods")
    complete = values[np.isfinite(values).all(axis=1)]
    n, k = complete.shape
    if n < _FEWEST:
        raise InputError(f"{n} complete cases are too few for agreement", hint="at least 3 are needed")
    if constant(complete.ravel()):
        raise InputError("all values are the same; agreement is undefined")
    squares = _mean_squares(complete)
    msr, _, mse, msw = (float(each[0]) for each in squares)
    tests = (_f_test(msr, msw, n - 1, n * (k - 1)), *[_f_test(msr, mse, n - 1, (n - 1) * (k - 1))] * 2)
    found = _intraclass(squares, n, k)
    codes = _codes(patients, np.isfinite(values).all(axis=1))
    if repeated(codes):
        tests = tuple((f, df1, df2, math.nan) for f, df1, df2, _ in tests)
        found = np.c_[found[:, :1], without_each(codes, lambda kept: _alone(complete[kept])).T]
        found = found if codes.max() + 1 >= FEWEST_UNITS else found[:, :1]
    usual = f_limits(squares[:, 0], n, k, confidence) if not repeated(codes) else np.full((3, 2), math.nan)
    rows = []
    for name, test, each in zip(("ICC(1)", "ICC(A,1)", "ICC(C,1)"), tests, found):
        limits = jackknife_z_interval(float(each[0]), each[1:], confidence) or (math.nan, math.nan)
        rows.append((name, float(each[0]), *test, *limits))
    frame = pd.DataFrame(rows, columns=["type", "icc", "f", "df1", "df2", "p", "ci_low", "ci_high"])
    return frame.assign(n=n, n_missing=len(values) - n, ci_low_f=usual[:, 0], ci_high_f=usual[:, 1])


def _alone(values: FloatArray) -> FloatArray:
    """Return ICC(1), ICC(A,1) and ICC(C,1) of complete ratings; NaN of fewer than two cases."""
    return _intraclass(_mean_squares(values), *values.shape)[:, 0] if len(values) > 1 else np.full(3, math.nan)


def concordance(
    first: ArrayLike, second: ArrayLike, *, confidence: float = 0.95, patients: ArrayLike | None = None
) -> tuple[float, tuple[float, float] | None]:
    """Return Lin's concordance correlation coefficient (1989, doi 10.2307/2532051), with variances over N.

    `first` and `second` are (N,) values in the same unit; pairs with a missing value are left out. The coefficient is
    NaN if nothing varies; its interval is the jackknife of Fisher's z, None where there is none. If one of the
    `patients` (N,) comes twice, it leaves out patients, of whom six are needed.
    """
    one, other, _, codes = _pairs(first, second, patients)
    # Around one common mean, so that nothing cancels; the first of each is of all pairs, the others lack one.
    one, other = one - one.mean(), other - one.mean()
    n = one.size - np.r_[0, np.bincount(codes)]
    products = (one, other, one**2, other**2, one * other)
    x, y, xx, yy, xy = ((values.sum() - np.r_[0.0, np.bincount(codes, values)]) / n for values in products)
    spread = (xx - x**2) + (yy - y**2) + (x - y) ** 2
    found = np.where(spread > 0, 2.0 * (xy - x * y) / np.where(spread > 0, spread, 1.0), np.nan)
    enough = not repeated(codes) or codes.max() + 1 >= FEWEST_UNITS
    return float(found[0]), jackknife_z_interval(float(found[0]), found[1:], confidence) if enough else None


def _mean_squares(values: FloatArray) -> FloatArray:
    """Return the mean squares of cases, methods, residual and within cases, (4, N + 1): of all cases, without each."""
    k = values.shape[1]
    centred = values - values.mean()
    left_out = np.vstack([np.zeros(k), centred])
    n = np.r_[len(values), np.full(len(values), len(values) - 1)]
    columns = centred.sum(axis=0) - left_out
    correction = columns.sum(axis=1) ** 2 / (n * k)
    of_cases = (centred.sum(axis=1) ** 2).sum() / k - left_out.sum(axis=1) ** 2 / k - correction
    of_methods = (columns**2).sum(axis=1) / n - correction
    total = (centred**2).sum() - (left_out**2).sum(axis=1) - correction
    # Rounding may leave a residual just below zero when the methods differ by a constant.
    residual = np.maximum(total - of_cases - of_methods, 0.0)
    return np.stack(
        [of_cases / (n - 1), of_methods / (k - 1), residual / ((n - 1) * (k - 1)), (total - of_cases) / (n * (k - 1))]
    )


def _intraclass(squares: FloatArray, n: int, k: int) -> FloatArray:
    """Return ICC(1), ICC(A,1) and ICC(C,1), each of all cases, then without each; NaN where nothing varies."""
    msr, msc, mse, msw = squares
    cases = np.r_[n, np.full(n, n - 1)]
    above = np.stack([msr - msw, msr - mse, msr - mse])
    below = np.stack([msr + (k - 1) * msw, msr + (k - 1) * mse + k * (msc - mse) / cases, msr + (k - 1) * mse])
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)


def _f_test(above: float, below: float, df1: int, df2: int) -> tuple[float, int, int, float]:
    if below <= 0:
        return math.inf, df1, df2, 0.0
    return above / below, df1, df2, float(fdtrc(df1, df2, above / below))


def _slope(x: FloatArray, y: FloatArray, confidence: float) -> tuple[float, float, float, float]:
    n = x.size
    if n < _FEWEST or constant(x):
        return (math.nan,) * 4
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    residual = dy - slope * dx
    leverage = 1.0 / n + dx**2 / (dx @ dx)
    alone = leverage > 1.0 - 1e-12  # the line goes through it whatever its value, which says nothing of the scatter
    weighted = dx * residual / np.where(alone, np.inf, 1.0 - leverage)
    se = math.sqrt(float(weighted @ weighted)) / float(dx @ dx)
    half = float(stdtrit(n - 2, 0.5 + confidence / 2.0)) * se
    p = float(2.0 * stdtr(n - 2, -abs(slope) / se)) if se > 0 else (0.0 if slope else 1.0)
    return slope, slope - half, slope + half, p


def _codes(patients: ArrayLike | None, used: BoolArray) -> IntArray:
    """Return the number of the patient of each case that is used; every case has its own if there are no patients."""
    labels = np.arange(used.size) if patients is None else np.asarray(patients)
    return np.asarray(np.unique(labels[used], return_inverse=True)[1])


def _pairs(
    first: ArrayLike, second: ArrayLike, patients: ArrayLike | None
) -> tuple[FloatArray, FloatArray, int, IntArray]:
    one, other = np.asarray(first, dtype=float).ravel(), np.asarray(second, dtype=float).ravel()
    if one.shape != other.shape:
        raise InputError(f"two methods with {one.size} and {other.size} values cannot be compared")
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < _FEWEST:
        raise InputError(f"{int(both.sum())} pairs are too few for agreement", hint="at least 3 are needed")
    return one[both], other[both], int((~both).sum()), _codes(patients, both)


def agree_table(table: AgreeOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Compare two methods in a table, in every model and strategy: agreement.csv and bias_by_size.csv.

    The table (or its path) has one row per sample x model x strategy; `choices` are options of `histomri agree` beside
    it, such as ``relative=True``. An AgreeOptions stands for both.

    Examples
    --------
    >>> table = pd.DataFrame({"sample": list("abcd"), "K": [1.0, 1.2, 0.9, 1.1], "Kref": [0.9, 1.1, 0.9, 1.0]})
    >>> agree_table(table, first="K", second="Kref").lines
    ['K - Kref: bias 0.075 [-0.00456, 0.155], limits -0.023 to 0.173, ICC(A,1) 0.76, N = 4']
    """
    options, cases = opened_cases(AgreeOptions, table, choices)
    pairs: tuple[tuple[str, str], ...] = ((options.first or "", options.second or ""),)
    notes = list[str]()
    if options.first is None or options.second is None:
        # Histology in 3D may have a size and no fraction.
        pairs = tuple(pair for pair in PAIRS if cases.has_values(pair[1]) or pair[1] not in cases) or PAIRS
        notes = [f"{pair[1]} has no value, so {pair[0]} is not compared" for pair in PAIRS if pair not in pairs]
    pairs, replaced = numbers_per_volume(pairs, cases.names)
    values = cases.numbers([name for pair in pairs for name in pair])
    found, sizes, size = [], [], histology_size(cases.path)
    warnings, lines = [*cases.quality_warnings(values), *notes, *replaced], histology_line(size)
    warnings += missing_errors(values, errors := cases.errors(values))
    for key, part in cases.parts(options.by):
        patients = patients_of(part)
        for one, other in pairs:
            a, b = values.loc[part.frame.index, one], values.loc[part.frame.index, other]
            with naming_part(cases.path, {**key, "columns": f"{one} and {other}"}):
                row = _agreement(a, b, options.relative, patients)
            head = {**key, "first": one, "second": other, "unit": "%" if options.relative else unit_of(one) or ""}
            how: dict[str, Any] = {"bins": min(options.bins, row["n"]), "relative": options.relative}
            shared, by_class = _systematic(*of_pair(a, b, errors), **how)
            row |= shared
            found.append({**head, **row})
            sizes.append(labelled(head, bias_by_size(a, b, **how, patients=patients).assign(bias_syst=by_class)))
            unit = " %" if options.relative else unit_text(one)
            limits = f"limits {row['lower']:.3g} to {row['upper']:.3g}{unit}, ICC(A,1) {row['icc_a1']:.2f}"
            text = f"bias {row['bias']:.3g}{unit} [{row['bias_low']:.3g}, {row['bias_high']:.3g}]"
            text += f" ± {row['bias_syst']:.3g} (syst)" if math.isfinite(row["bias_syst"]) else ""
            several = "" if math.isnan(row["n_patients"]) else f" of {row['n_patients']:.0f} patients"
            n = f"N = {row['n']}{several}{missing_text(row['n_missing'])}"
            lines.append(f"{heading(key)}{one} - {other}: {text}, {limits}, {n}")
            if row["p_slope"] < 0.05:
                warnings.append(f"{heading(key)}{one} - {other}: {_CHANGES}")
    frames = {"agreement.csv": ("agreement", [pd.DataFrame(found)]), "bias_by_size.csv": ("bias_by_size", sizes)}
    settings = options.named("relative", "bins", "by", "model", "strategy", "patient") | {"size": size}
    return Findings.joined("agreement.json", frames, lines, warnings, options, settings, measures=list(values))


def _systematic(both: pd.DataFrame, errors: pd.DataFrame, bins: int, relative: bool) -> tuple[Any, FloatArray]:
    """Return the systematic errors of bias and slope, and those of the bias by size; limits move as the bias does."""

    def compared(values: pd.DataFrame) -> FloatArray:
        found = bland_altman(*values.to_numpy().T, relative=relative)
        return np.array([found.bias, found.slope])

    def by_class(values: pd.DataFrame) -> FloatArray:
        return np.asarray(bias_by_size(*values.to_numpy().T, bins=bins, relative=relative)["bias"])

    bias, slope = map(float, common_error(compared, both, errors))
    return {"bias_syst": bias, "slope_syst": slope}, common_error(by_class, both, errors)


def _agreement(first: pd.Series, second: pd.Series, relative: bool, patients: pd.Series | None) -> dict[str, Any]:
    row = asdict(bland_altman(first, second, relative=relative, patients=patients))
    units = row.pop("n_patients")
    usual: dict[str, float] = {}
    both = pd.concat([first, second], axis=1).to_numpy()
    for entry in intraclass_correlation(both, patients=patients).to_dict("records"):
        name = {"ICC(1)": "icc_1", "ICC(A,1)": "icc_a1", "ICC(C,1)": "icc_c1"}[entry["type"]]
        row |= {name: entry["icc"], f"{name}_low": entry["ci_low"], f"{name}_high": entry["ci_high"]}
        usual |= {f"{name}_low_f": entry["ci_low_f"], f"{name}_high_f": entry["ci_high_f"]}
    ccc, limits = concordance(first, second, patients=patients)
    low, high = limits or (math.nan, math.nan)
    return row | {"ccc": ccc, "ccc_low": low, "ccc_high": high, "n_patients": units, **usual}
