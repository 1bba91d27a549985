"""ComBat: take the effect of the scanner out of the metrics, and keep what the covariates explain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats.contingency import association

from histomri.analysis.correlation import scaled
from histomri.analysis.measurements import MeasurementTable, opened_cases
from histomri.analysis.options import HarmoniseOptions
from histomri.analysis.results import Findings, heading, labelled, naming_part
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.columns import CASE, unit_of
from histomri.core.errors import InputError
from histomri.core.files import read_json

_ROUNDING = 1e-10
_CONVERGED = 1e-13
_ITERATIONS = 10_000
_NAME_OTHERS = "leave it out, and name the other metrics (--measure)"


@dataclass(frozen=True)
class Harmonised:
    """Metrics without the effect of the batch."""

    values: pd.DataFrame  # rows and columns as given; missing stays missing
    # One row per batch and metric: n, shift and scale as estimated (gamma_hat, delta_hat) and as applied (gamma_star,
    # delta_star), in units of the residual standard deviation and variance of the metric.
    effects: pd.DataFrame
    warnings: tuple[str, ...]  # confounding of batch and covariates, small batches


def combat(
    values: pd.DataFrame, batch: ArrayLike, *, covariates: pd.DataFrame | None = None, reference: str | None = None,
    empirical_bayes: bool = True, mean_only: bool = False,
) -> Harmonised:  # fmt: skip
    """Harmonise metrics between batches (scanners, sites).

    Johnson, Li & Rabinovic 2007 (doi 10.1093/biostatistics/kxj037), for imaging Fortin et al. 2017 (doi
    10.1016/j.neuroimage.2017.08.047): location and scale of each metric in each batch, shrunk towards the batch's mean
    over metrics by parametric empirical Bayes, after the effects of covariates are set aside.

    Parameters
    ----------
    values, batch : DataFrame, (cases,) array-like
        Metrics (cases, metrics), NaN is missing; and labels.
    covariates : DataFrame, optional
        Effects to keep: columns of numbers, or of text (one level each). None missing.
    reference : str, optional
        Batch that stays as it is, and to which the others are brought; without it, to the mean of all.
    empirical_bayes, mean_only : bool
        Shrink the estimates, which needs at least two metrics; correct the shift and not the scale.

    Raises
    ------
    InputError
        If there is one batch only, a batch has fewer than two values of a metric, a metric does not vary, or batch and
        covariates cannot be separated.
    """
    data, exponent = scaled(values.to_numpy(dtype=float))
    labels = np.asarray(batch).astype(str)
    names = sorted(set(labels))
    _check(values, labels, names, reference, empirical_bayes)
    extra, extra_names = _covariate_columns(covariates, len(labels))
    member = np.stack([labels == name for name in names], axis=1)
    design = np.column_stack([member.astype(float), extra])
    _check_rank(design, extra_names)
    anchor = names.index(reference) if reference is not None else None
    standard, mean, spread = _standardise(data, design, member, anchor, list(values.columns))
    gamma_hat, delta_hat = _batch_moments(standard, member, mean_only, names, list(values.columns))
    gamma, delta = gamma_hat.copy(), delta_hat.copy()
    for b in range(len(names)) if empirical_bayes else ():
        if b != anchor:
            gamma[b], delta[b] = shrink(standard[member[:, b]], gamma_hat[b], delta_hat[b], mean_only=mean_only)
    if anchor is not None:
        gamma[anchor], delta[anchor] = 0.0, 1.0
    which = member.argmax(axis=1)
    adjusted = (standard - gamma[which]) / np.sqrt(delta[which]) * spread + mean
    if anchor is not None:
        adjusted[member[:, anchor]] = data[member[:, anchor]]
    effects = _effects(names, list(values.columns), data, member, (gamma_hat, delta_hat, gamma, delta))
    warnings = [f"batch '{name}' has {size} cases only" for name, size in zip(names, member.sum(axis=0)) if size < 5]
    harmonised = pd.DataFrame(np.ldexp(adjusted, exponent), values.index, values.columns)
    return Harmonised(harmonised, effects, (*warnings, *_confounding_warnings(labels, covariates)))


def shrink(
    standard: FloatArray, gamma_hat: FloatArray, delta_hat: FloatArray, *, mean_only: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Return posterior shifts and scales of one batch, (F,), from priors fitted to all metrics by their moments."""
    n = np.isfinite(standard).sum(axis=0)
    centre, width = gamma_hat.mean(), gamma_hat.var(ddof=1)
    if mean_only:
        return (n * width * gamma_hat + centre) / (n * width + 1.0), np.ones_like(delta_hat)
    m, s2 = delta_hat.mean(), delta_hat.var(ddof=1)
    # All scales equal: the prior is a point, and every posterior scale is that point.
    certain = s2 <= _ROUNDING * m**2
    shape, rate = (np.inf, np.inf) if certain else ((2.0 * s2 + m**2) / s2, (m * s2 + m**3) / s2)
    gamma, delta = gamma_hat.copy(), delta_hat.copy()
    for _ in range(_ITERATIONS):
        before_gamma, before_delta = gamma, delta
        gamma = (n * width * gamma_hat + delta * centre) / (n * width + delta)
        squares = np.nansum((standard - gamma) ** 2, axis=0)
        delta = np.full_like(delta, m) if certain else (0.5 * squares + rate) / (n / 2.0 + shape - 1.0)
        change = max(np.abs(gamma - before_gamma).max(), np.abs(delta / before_delta - 1.0).max())
        if change < _CONVERGED:
            return gamma, delta
    raise InputError("the shrinkage of ComBat does not settle", hint="switch empirical Bayes off")


def cramers_v(one: ArrayLike, other: ArrayLike) -> float:
    """Return Cramér's V of two labels: 0 for independent ones, 1 if one follows from the other; NaN for one level."""
    counts = pd.crosstab(np.asarray(one), np.asarray(other)).to_numpy()
    return float(association(counts, method="cramer")) if min(counts.shape) > 1 else math.nan


def confounding(batch: ArrayLike, label: ArrayLike, name: str = "group", threshold: float = 0.5) -> str | None:
    """Return a warning if a label and the batch (N,) of cases are confounded, None otherwise.

    They are if Cramér's V reaches the threshold, or a label occurs in one batch only; `name` says what the label is.
    """
    batches, labels = np.asarray(batch).astype(str), np.asarray(label).astype(str)
    v = cramers_v(batches, labels)
    single = [value for value in sorted(set(labels)) if len(set(batches[labels == value])) == 1]
    if np.isfinite(v) and v >= threshold:
        return f"batch and {name} are confounded (Cramér's V = {v:.2f}): their effects cannot be separated"
    if np.isfinite(v) and single:
        return f"{name} '{single[0]}' occurs in one batch only: its effect rests on the model, not on data"
    return None


def _check(values: pd.DataFrame, labels: np.ndarray, names: list[str], reference: str | None, shrinks: bool) -> None:
    if len(labels) != len(values):
        raise InputError(f"{len(labels)} batch labels for {len(values)} cases")
    if len(names) < 2:
        raise InputError(f"there is only one batch, '{names[0]}'; nothing to harmonise", hint="name another --batch")
    if reference is not None and reference not in names:
        raise InputError(f"there is no batch '{reference}'", hint=f"there is {', '.join(names)}")
    if shrinks and values.shape[1] < 2:
        problem = "empirical Bayes learns from several metrics, and there is one"
        raise InputError(problem, hint="switch it off (--no-eb)")
    for column in values:
        for name in names:
            n = int(values.loc[labels == name, column].notna().sum())
            if n < 2:
                problem = f"batch '{name}' has {n} values of '{column}', and at least 2 are needed"
                raise InputError(problem, hint=_NAME_OTHERS)


def _covariate_columns(covariates: pd.DataFrame | None, n: int) -> tuple[FloatArray, list[str]]:
    if covariates is None or not covariates.shape[1]:
        return np.zeros((n, 0)), []
    columns, names = [], []
    for name in covariates:
        column = covariates[name]
        if len(column) != n:
            raise InputError(f"{len(column)} values of covariate '{name}' for {n} cases")
        missing = column.isna() | column.astype(str).str.strip().eq("")
        if missing.any():
            raise InputError(f"covariate '{name}' is missing in {int(missing.sum())} cases", hint="fill or drop them")
        if _is_number(column):
            centred = column.to_numpy(dtype=float) - float(column.mean())
            columns.append(centred / (centred.std() or 1.0))
            names.append(str(name))
        else:
            levels = sorted(set(column.astype(str)))[1:]
            columns += [column.astype(str).eq(level).to_numpy(dtype=float) for level in levels]
            names += [f"{name}={level}" for level in levels]
    return np.column_stack(columns) if columns else np.zeros((n, 0)), names


def _is_number(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _check_rank(design: FloatArray, names: list[str]) -> None:
    if np.linalg.matrix_rank(design) < design.shape[1]:
        problem = f"batch and covariates ({', '.join(names)}) cannot be separated: one follows from the others"
        raise InputError(problem, hint="leave a covariate out, or do not harmonise these batches")
    if len(design) <= design.shape[1]:
        raise InputError(f"{len(design)} cases are too few for {design.shape[1]} effects of batches and covariates")


def _standardise(
    data: FloatArray, design: FloatArray, member: BoolArray, anchor: int | None, names: list[str]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return residual-standardised values (effects of batch kept), the mean of each case, and the residual spread."""
    n_batches = member.shape[1]
    standard, mean, spread = np.full_like(data, np.nan), np.full_like(data, np.nan), np.empty(data.shape[1])
    for position, column in enumerate(data.T):
        known = np.isfinite(column)
        if np.linalg.matrix_rank(design[known]) < design.shape[1]:
            problem = f"'{names[position]}': the cases with a value do not separate batches and covariates"
            raise InputError(problem, hint=_NAME_OTHERS)
        coefficients = np.linalg.lstsq(design[known], column[known], rcond=None)[0]
        residual = column - design @ coefficients
        if anchor is not None:
            general, judged = coefficients[anchor], known & member[:, anchor]
        else:
            weights = member[known].mean(axis=0)
            general, judged = weights @ coefficients[:n_batches], known
        variance = float(np.mean(residual[judged] ** 2))
        if variance <= (_ROUNDING * np.abs(column[known]).max()) ** 2:
            problem = f"'{names[position]}' does not vary beyond batch and covariates, and cannot be harmonised"
            raise InputError(problem, hint=_NAME_OTHERS)
        spread[position] = np.sqrt(variance)
        mean[:, position] = general + design[:, n_batches:] @ coefficients[n_batches:]
        standard[:, position] = (column - mean[:, position]) / spread[position]
    return standard, mean, spread


def _batch_moments(
    standard: FloatArray, member: BoolArray, mean_only: bool, batches: list[str], names: list[str]
) -> tuple[FloatArray, FloatArray]:
    gamma = np.stack([np.nanmean(standard[inside], axis=0) for inside in member.T])
    delta = np.stack([np.nanvar(standard[inside], axis=0, ddof=1) for inside in member.T])
    if mean_only:
        return gamma, np.ones_like(delta)
    if (delta <= _ROUNDING**2).any():
        b, f = np.argwhere(delta <= _ROUNDING**2)[0]
        problem = f"'{names[f]}' has the same value throughout batch '{batches[b]}', so that its scale is unknown"
        raise InputError(problem, hint=f"{_NAME_OTHERS}, or correct the shift alone (--mean-only)")
    return gamma, delta


def _effects(
    batches: list[str], names: list[str], data: FloatArray, member: BoolArray, estimates: tuple[FloatArray, ...]
) -> pd.DataFrame:
    n = np.stack([np.isfinite(data[inside]).sum(axis=0) for inside in member.T])
    columns = dict(zip(("n", "gamma_hat", "delta_hat", "gamma_star", "delta_star"), map(np.ravel, (n, *estimates))))
    return pd.DataFrame({"batch": np.repeat(batches, len(names)), "metric": names * len(batches)} | columns)


def _confounding_warnings(labels: np.ndarray, covariates: pd.DataFrame | None) -> list[str]:
    texts = []
    for name in covariates if covariates is not None else ():
        column = covariates[name]  # type: ignore[index]
        if _is_number(column):
            numbers = column.to_numpy(dtype=float)
            between = pd.Series(numbers).groupby(labels).transform("mean").to_numpy()
            fraction = float(between.var() / numbers.var()) if numbers.var() > 0 else 0.0
            text = f"batch explains {fraction:.0%} of the variance of covariate '{name}'" if fraction >= 0.5 else None
        else:
            text = confounding(labels, column, f"covariate '{name}'")
        texts += [text] if text else []
    return texts


def harmonise_table(table: HarmoniseOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Harmonise the metrics of a table between scanners, in every model and strategy.

    The table (or its path) has one row per sample x model x strategy, and a column of batches; `choices` are options of
    `histomri harmonise` beside it, such as ``reference="3T"``. HarmoniseOptions stand for both. The Findings are
    harmonised.csv, the table with its metrics replaced, and harmonisation.csv, the effects of the batches.
    """
    options, cases = opened_cases(HarmoniseOptions, table, choices)
    batch, labels = options.batch, cases.text(options.batch, complete=True)
    names = list(options.measure) or [name for name in cases.measurements() if "_histo" not in name]
    if not names:
        raise InputError("has no MRI measurements", path=cases.path, hint="name the metrics with --measure")
    if taken := sorted({batch, *options.covariate} & set(names)):
        raise InputError(f"column '{taken[0]}' is batch or covariate, and cannot be harmonised", path=cases.path)
    values, kept = cases.numbers(names), _typed_covariates(cases, options.covariate)
    result, effects, lines = cases.frame.astype(object), [], []
    warnings = cases.quality_warnings(values) + ([] if options.measure else cases.misspelt())
    how = {"reference": options.reference, "empirical_bayes": options.eb} | options.named("mean_only")
    for key, part in cases.parts():
        rows = part.frame.index
        with naming_part(cases.path, key):
            found = combat(values.loc[rows], labels.loc[rows], covariates=kept.loc[rows], **how)
        result.loc[rows, names] = found.values.astype(object)
        effects.append(labelled(key, found.effects))
        warnings += [heading(key) + text for text in found.warnings]
        sizes = ", ".join(f"{name} ({int((labels.loc[rows] == name).sum())})" for name in sorted(set(labels.loc[rows])))
        holes = values.loc[rows].isna().sum()
        absent = ", ".join(f"{name} {n}" for name, n in holes[holes > 0].items())
        text = f"; values missing, and left so: {absent}" if absent else ""
        lines.append(f"{heading(key)}{len(names)} metrics harmonised over {sizes}{text}")
        warnings += _forgotten_group(part, values.loc[rows], options, how)
    settings = {"batch": batch, "covariates": list(options.covariate), "measures": names}
    settings |= options.named("model", "strategy") | how
    frames = {"harmonised.csv": (None, [result]), "harmonisation.csv": ("effects", effects)}
    others: dict[str, Any] = {"measures": names, "sidecars": {"harmonised.json": _sidecar(cases, names)}}
    warnings = list(dict.fromkeys(warnings))
    return Findings.joined("harmonisation.json", frames, lines, warnings, options, settings, **others)


def _sidecar(cases: MeasurementTable, harmonised: Sequence[str]) -> dict[str, Any]:
    """Return units and meaning of the columns of the harmonised table, as its source has them."""
    before = cases.path.with_suffix(".json")
    content = read_json(before, "sidecar") if before.exists() else {}
    content = dict(content) if isinstance(content, dict) and isinstance(content.get("Columns"), dict) else {}
    if {*CASE} <= {*cases.names} and "Counts" in content:
        rows = set(zip(*(cases.text(name) for name in CASE)))
        content["Counts"] = [row for row in content["Counts"] if tuple(row.get(name) for name in CASE) in rows]
    columns = {}
    for name in cases.names:
        unit = unit_of(name)
        entry = dict(content.get("Columns", {}).get(name) or ({"Units": unit} if unit is not None else {}))
        columns[name] = entry | ({"Harmonised": True} if name in harmonised else {})
    return {**content, "Columns": columns}


def _typed_covariates(cases: MeasurementTable, names: Sequence[str]) -> pd.DataFrame:
    """Return covariates as numbers where every filled cell is one, as text otherwise."""
    numeric = set(cases.numeric_names())
    kept = {name: cases.numbers([name])[name] if name in numeric else cases.text(name) for name in names}
    return pd.DataFrame(kept, index=cases.frame.index)


def _forgotten_group(
    part: MeasurementTable, values: pd.DataFrame, options: HarmoniseOptions, how: dict[str, Any]
) -> list[str]:
    """Warn that harmonising takes a difference between groups away, and say what can be done."""
    if "group" in (options.batch, *options.covariate) or "group" not in part:
        return []
    labels, groups = part.text(options.batch), part.text("group")
    known = groups != ""
    reservation = confounding(labels[known], groups[known], "group") if known.any() else None
    if not reservation:
        return []
    text = f"{reservation}; harmonising removes what differs between groups"
    if not known.all():
        return [f"{text}; fill the column 'group' in all rows, and give --covariate group"]
    try:
        combat(values, labels, covariates=_typed_covariates(part, [*options.covariate, "group"]), **how)
    except InputError:
        alone = f"compare groups within one {options.batch}"
        return [f"{text}, and no covariate can keep it; do not harmonise, and {alone}"]
    return [f"{text}; keep it with --covariate group"]
