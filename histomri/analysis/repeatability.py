"""How far a measurement repeats itself: the scatter within subjects of test-retest tables."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import chdtri

from histomri.analysis.correlation import correlate
from histomri.analysis.measurements import opened
from histomri.analysis.options import RepeatOptions
from histomri.analysis.results import Findings, heading, labelled, missing_text, naming_part
from histomri.core.columns import unit_text
from histomri.core.errors import InputError

_TWO = 1.959963984540054 * math.sqrt(2.0)  # 95 % of differences of two measurements lie within so many wSD
_CHECKED = 35  # subjects from which the profile of QIBA takes a repeatability for known


@dataclass(frozen=True)
class Repeatability:
    """Scatter of repeated measurements, with intervals, by the definitions of QIBA.

    Raunig et al. 2015, Statistical Methods in Medical Research 24, 27-67.
    """

    n_subjects: int  # with two measurements or more
    n: int  # their measurements
    n_alone: int  # measurements of subjects that have a single one, left out
    df: int
    mean: float
    wsd: float  # standard deviation within subjects
    wsd_low: float
    wsd_high: float
    rc: float  # repeatability coefficient: 95 % of differences of two measurements of one subject are smaller
    rc_low: float
    rc_high: float
    wcv: float  # coefficient of variation within subjects, percent; NaN if a mean is not positive
    wcv_low: float
    wcv_high: float
    rc_percent: float  # of relative differences
    rc_percent_low: float
    rc_percent_high: float
    # Rank correlation of the standard deviation of a subject with its mean, and its p: where it is significant the
    # scatter grows with the value, and wcv holds rather than wsd.
    r_trend: float
    p_trend: float
    note: str = ""


def repeatability(values: ArrayLike, subjects: ArrayLike, *, confidence: float = 0.95) -> Repeatability:
    """Return how far measurements of one subject differ: wSD, RC = 2.77 wSD, wCV and %RC = 2.77 wCV.

    wSD² is the mean of the subjects' variances, and wCV² that of their variances over their squared means, each
    weighted by its degrees of freedom. Intervals are those of the variance of normal values (chi-squared).

    Parameters
    ----------
    values : (N,) array-like
        Measurements; those without a value are left out.
    subjects : (N,) array-like
        What was measured.

    Raises
    ------
    InputError
        If fewer than two subjects were measured twice, or repeats never differ.

    Examples
    --------
    >>> found = repeatability([10, 12, 20, 21, 15, 15], ["a", "a", "b", "b", "c", "c"])
    >>> round(found.wsd, 3), round(found.rc, 2), found.df
    (0.913, 2.53, 3)
    """
    table = pd.DataFrame({"value": np.asarray(values, dtype=float), "subject": np.asarray(subjects)}).dropna()
    groups = table.groupby("subject", sort=True)["value"]
    summary = pd.DataFrame({"n": groups.size(), "mean": groups.mean(), "variance": groups.var(ddof=1)})
    several = summary[summary["n"] > 1]
    if len(several) < 2:
        raise InputError(f"{len(several)} subjects have two measurements; repeatability needs more")
    weights, means, variances = (several[name].to_numpy(dtype=float) for name in ("n", "mean", "variance"))
    weights = weights - 1.0
    df = int(weights.sum())
    wsd = math.sqrt(float(np.average(variances, weights=weights)))
    if wsd == 0:
        raise InputError("repeated measurements never differ", hint="are they copies of one measurement?")
    # The limits of a variance over the variance, lower and upper.
    limits = [math.sqrt(df / float(chdtri(df, 0.5 + side * confidence / 2.0))) for side in (-1.0, 1.0)]
    positive = bool((means > 0).all())
    wcv = 100.0 * math.sqrt(float(np.average(variances / means**2, weights=weights))) if positive else math.nan
    sizes = {"wsd": wsd, "rc": _TWO * wsd, "wcv": wcv, "rc_percent": _TWO * wcv}
    known: dict[str, Any] = {name: size for name, size in sizes.items()}
    known |= {
        f"{name}_{end}": size * limit for name, size in sizes.items() for end, limit in zip(("low", "high"), limits)
    }
    trend = correlate(means, np.sqrt(variances), kind="spearman")
    known |= {"r_trend": trend.r, "p_trend": trend.p}
    notes = [] if positive else ["a mean is not positive: no coefficient of variation"]
    if trend.p < 0.05:
        what = "wcv describes it better than wsd" if positive and trend.r > 0 else "one wsd does not describe it"
        notes.append(f"the scatter changes with the value: {what}")
    counts = {"n_subjects": len(several), "n": int(several["n"].sum()), "n_alone": int(summary["n"].eq(1).sum())}
    return Repeatability(**counts, df=df, mean=float(means.mean()), **known, note="; ".join(notes))


def repeat_table(table: RepeatOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Judge the repeatability of the measurements of a test-retest table: a row per measurement of a subject.

    `table` is a DataFrame or path, with options of `histomri repeat` beside it, such as ``subject="patient"``, or a
    RepeatOptions. The Findings are repeatability.csv, one row per measurement, in every model and strategy.
    """
    options, rows = opened(RepeatOptions, table, choices)
    rows = rows.only(model=options.model, strategy=options.strategy)
    if rows.is_voxelwise:
        problem = "has a row per voxel, and rows per measurement of a subject are needed"
        raise InputError(problem, path=rows.path, hint="average it with histomri pair --per sample")
    rows = rows.noting(lambda: rows.text(options.subject, complete=True))
    names = list(options.measure) or [name for name in rows.measurements() if name != options.subject]
    values = rows.numbers(names)
    of_visits = [name for name in names if not options.measure and _numbers_visits(values[name], rows.frame, options)]
    values, names = values.drop(columns=of_visits), [name for name in names if name not in of_visits]
    found, lines = [], []
    for key, part in rows.parts():
        subjects, mine = part.text(options.subject), values.loc[part.frame.index]
        for name in names:
            with naming_part(rows.path, key):
                try:
                    one = repeatability(mine[name], subjects)
                except InputError as error:
                    raise InputError(f"column '{name}': {error.problem}", hint=error.hint) from error
            missing = int(mine[name].isna().sum())
            found.append(labelled(key, pd.DataFrame([{"measure": name, **asdict(one), "n_missing": missing}])))
            lines.append(f"{heading(key)}{_line(name, one)}{missing_text(missing)}")
    everything = pd.concat(found, ignore_index=True)
    few = int(everything["n_subjects"].min())
    warnings = rows.quality_warnings(values)
    warnings += [f"column '{name}' numbers the measurements of a subject, and was left out" for name in of_visits]
    if few < _CHECKED:
        warnings.append(
            f"{few} subjects: QIBA asks for {_CHECKED} before a repeatability is taken for known; see its interval"
        )
    settings = options.named("subject", "measure", "model", "strategy")
    frames = {"repeatability.csv": ("repeatability", [everything])}
    return Findings.joined("repeatability.json", frames, lines, warnings, options, settings, measures=names)


def _numbers_visits(values: pd.Series, frame: pd.DataFrame, options: RepeatOptions) -> bool:
    """Return whether a column counts the rows of each subject, model and strategy, from 0 or 1 on."""
    keys = [frame[name] for name in (options.subject, "model", "strategy") if name in frame]
    order = values.groupby(keys).rank(method="first")
    return bool((values == order).all() or (values == order - 1).all())


def _line(name: str, found: Repeatability) -> str:
    unit = unit_text(name)
    text = f"{name}: wSD {found.wsd:.3g}{unit}, RC {found.rc:.3g} [{found.rc_low:.3g}, {found.rc_high:.3g}]{unit}"
    if math.isfinite(found.wcv):
        limits = f"[{found.rc_percent_low:.0f}, {found.rc_percent_high:.0f}]"
        text += f", wCV {found.wcv:.1f} %, RC {found.rc_percent:.0f} {limits} %"
    return f"{text}, {found.n} measurements of {found.n_subjects} subjects{f' ({found.note})' if found.note else ''}"
