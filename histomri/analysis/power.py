"""How many cases a correlation needs, and what a number of cases can detect."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import stdtrit

from histomri.analysis.agreement import PAIRS
from histomri.analysis.measurements import opened_cases
from histomri.analysis.noncentral import chi_rule, noncentral_t_cdf
from histomri.analysis.options import PowerOptions
from histomri.analysis.patients import FEWEST_UNITS, patients_of
from histomri.analysis.power_simulated import cluster_power, difference_power, first_power, smallest
from histomri.analysis.results import Findings, heading, missing_text
from histomri.core.errors import InputError

_LARGEST_N = 10_000_000


def correlation_power(r: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that a true correlation r of n cases (at least 3) is significant, two-sided.

    Exact for the t-test of Pearson's r of bivariate normal values: given the values of one variable, t is noncentral
    with a noncentrality proportional to their standard deviation, which follows a chi distribution.
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
    """Return the smallest number of cases that finds a true correlation r (not 0) with the wanted power, two-sided.

    Examples
    --------
    >>> sample_size(0.5)
    29
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
    """Return the smallest correlation that `n` cases (at least 4) find with the wanted power, two-sided."""
    _check(alpha=alpha, power=power)
    if n < 4:
        raise InputError(f"{n} cases are too few: no correlation can be relied on to be found")
    how: dict[str, float] = {"xtol": 1e-12, "rtol": 1e-12}
    return float(brentq(lambda r: correlation_power(r, n, alpha=alpha) - power, 1e-9, 1.0 - 1e-12, **how))


def critical_correlation(n: int, *, alpha: float = 0.05) -> float:
    """Return the smallest |r| that is significant with n cases."""
    _check(alpha=alpha)
    if n < 3:
        raise InputError(f"{n} cases are too few for a correlation")
    t = float(stdtrit(n - 2, 1.0 - alpha / 2.0))
    return t / math.sqrt(n - 2 + t * t)


def plan_table(table: PowerOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Plan correlations: what the samples of a table can detect, and how many a correlation needs.

    The table (or its path) has one row per sample x model x strategy, whose complete pairs of vCS and F are counted;
    `choices` are options of `histomri power` beside it. PowerOptions stand for both, and may do without a table.
    Correlations are by default 0.3, 0.4, 0.5, 0.6 and 0.7. The Findings are power_n.csv and power_r.csv,
    and power_simulated.csv with a `rival`, `models` or `rows`.
    """
    counted: list[tuple[str, int, int, bool]] = []
    warnings: list[str] = []
    options, path = table, None
    if not isinstance(options, PowerOptions) or options.table is not None:
        options, cases = opened_cases(PowerOptions, table, choices)
        values, path = cases.numbers([name for pair in PAIRS for name in pair]), cases.path
        warnings += [*cases.notes]
        for key, part in cases.parts():
            for pair in PAIRS:
                complete = values.loc[part.frame.index, list(pair)].notna().all(axis=1)
                # Of several samples of a patient at least one counts in full, whatever the others add.
                patients = patients_of(part)
                n = int(complete.sum()) if patients is None else patients[complete].nunique()
                name = f"{heading(key)}{' with '.join(pair)}"
                counted.append((name, n, int((~complete).sum()), patients is not None))
    power, alpha, wanted = options.power, options.alpha, list(options.r) or [0.3, 0.4, 0.5, 0.6, 0.7]
    sizes = sorted({*options.n, *(n for _, n, _, _ in counted)})
    if sizes and sizes[0] < 4:
        problem = f"{sizes[0]} samples are too few: no correlation can be relied on to be found"
        raise InputError(problem, path=path, hint="at least 4 are needed")
    present = []
    for n in sizes:
        row = {"n": n, "critical_r": critical_correlation(n, alpha=alpha)}
        row["detectable_r"] = detectable_correlation(n, power=power, alpha=alpha)
        present.append(row | {f"power_r={r:g}": correlation_power(r, n, alpha=alpha) for r in wanted})
    needed = [{"r": r, "n": sample_size(r, power=power, alpha=alpha)} for r in wanted]
    lines = [
        f"{pair}: N = {n}{' patients' if of_patients else ''}{missing_text(absent)}"
        for pair, n, absent, of_patients in counted
        if absent or of_patients
    ]
    for row in present:
        finds = f"finds r = {row['detectable_r']:.2f} with power {power:g}"
        lines.append(f"N = {row['n']}: {finds}, and |r| > {row['critical_r']:.3f} has p < {alpha:g}")
    lines += [f"r = {row['r']:g}: needs N = {row['n']} for power {power:g}" for row in needed]
    columns = ["n", "critical_r", "detectable_r", *[f"power_r={r:g}" for r in wanted]]
    frames = {"power_n.csv": ("present", [pd.DataFrame(present, columns=columns)])}
    frames["power_r.csv"] = ("needed", [pd.DataFrame(needed)])
    simulated, more = _simulated(options, wanted, sizes)
    if simulated:
        frames["power_simulated.csv"] = ("simulated", [pd.DataFrame(simulated)])
        lines += more
    settings = {"power": power, "alpha": alpha, "r": wanted, "n": sizes}
    settings |= options.named("rival", "r_between", "models", "rows", "icc")
    others: dict[str, Any] = {"replaces": ("power_simulated.csv",)}
    return Findings.joined("power.json", frames, lines, warnings, options, settings, **others)


def _simulated(options: PowerOptions, wanted: list[float], sizes: list[int]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what can be planned by simulation only, as rows and as lines."""
    rows: list[dict[str, Any]] = []
    lines = []
    for r in wanted:
        for what, unit, fewest, power_of in _questions(options, r):
            needed = smallest(power_of, options.power, fewest)
            for n in sorted({*(size for size in sizes if size >= fewest), *([needed] if needed else [])}):
                rows.append({"question": what, "r": r, "n": n, "power": power_of(n), "needed": n == needed})
            number = f"needs {needed}" if needed else "needs more than 2000"
            lines.append(f"r = {r:g}, {what}: {number} {unit} for power {options.power:g} (simulated)")
    return rows, lines


def _questions(options: PowerOptions, r: float) -> list[tuple[str, str, int, Callable[[int], float]]]:
    """Return what is asked of a correlation: text, unit of the number, smallest number, and power by number."""
    found: list[tuple[str, str, int, Callable[[int], float]]] = []
    rival, alpha = options.rival, options.alpha
    if rival is not None and rival != r:
        between = options.r_between
        what = f"to differ from r = {rival:g} (r = {between:g} between the models)"
        found.append((what, "samples", 5, partial(difference_power, r, rival, between, alpha=alpha)))
    if rival is not None and options.models is not None and rival < r:
        what = f"to rank first of {options.models} models, the others with r = {rival:g}"
        found.append((what, "samples", 4, partial(first_power, r, rival, options.models)))
    if options.rows is not None:
        of_patients = partial(cluster_power, r, rows=options.rows, icc=options.icc, alpha=alpha)
        what = f"with {options.rows} rows per patient (ICC {options.icc:g})"
        found.append((what, "patients", FEWEST_UNITS, lambda n: of_patients(patients=n)))
    return found


def _check(*, alpha: float, r: float = 0.0, power: float | None = None) -> None:
    if not -1.0 <= r <= 1.0:
        raise InputError(f"a correlation of {r:g} lies outside -1 to 1")
    if not 0.0 < alpha < 1.0:
        raise InputError(f"a level of {alpha:g} lies outside 0 to 1", hint="use 0.05")
    if power is not None and not alpha < power < 1.0:
        raise InputError(f"a power of {power:g} must lie between the level {alpha:g} and 1", hint="use 0.8")
