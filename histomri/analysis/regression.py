"""Which histological property explains which MRI metric: linear models of standardised values."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.correlation import adjust_p, constant, scaled
from histomri.analysis.measurements import opened_cases
from histomri.analysis.options import RegressOptions
from histomri.analysis.patients import FEWEST_UNITS, patients_of, repeated
from histomri.analysis.results import Findings, heading, labelled, missing_text, naming_part
from histomri.analysis.sandwich import cluster_robust
from histomri.analysis.systematic import common_error, line, missing_errors, shared_errors
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.columns import SYST
from histomri.core.errors import InputError

# Equation 16 of Grussu et al. 2025 (doi 10.1038/s43856-025-01246-2): response -> explanatory variables.
MODELS: Mapping[str, tuple[str, ...]] = {
    "vCS_mri_um": ("vCS_histo_um", "F_histo"),
    "F_mri": ("F_histo", "vCS_histo_um"),
    "CD_mri_mm3": ("CD_histo_mm2", "F_histo", "vCS_histo_um"),
}
_DENSITIES = ("CD_histo_mm2", "cellNV_histo_mm3", "nucleiNV_histo_mm3")
_STRONG_COLLINEARITY = 10.0
_LARGEST_CONDITION = 1e10


@dataclass(frozen=True)
class Regression:
    """Linear models of standardised values."""

    # response, term, beta (standardised), se, t, p, ci_low, ci_high (ordinary least squares), se_hc3, t_hc3, p_hc3,
    # ci_low_hc3, ci_high_hc3 (robust against unequal variances, MacKinnon & White 1985), q_hc3, VIF; the same with _cr3
    # (robust against rows of one patient, CR3 of Bell & McCaffrey 2002), n_patients and, to compare with R's
    # clubSandwich, se_cr2, df_cr2, p_cr2 (`cluster_robust`): NaN unless a patient repeats; slope in the units of the
    # columns, slope_se (HC3, or CR3 where a patient repeats), slope_syst: its error by what slides share.
    coefficients: pd.DataFrame
    # response, n, n_missing, r2, r2_adjusted, f, p_f, condition_number; intercept, intercept_se, intercept_syst
    models: pd.DataFrame
    warnings: tuple[str, ...]  # collinearity, few cases, cases left out


def regress(
    table: pd.DataFrame, models: Mapping[str, Sequence[str]] | None = None, *, confidence: float = 0.95,
    patients: pd.Series | None = None,
) -> Regression:  # fmt: skip
    """Regress responses on explanatory variables, all as z-scores.

    Parameters
    ----------
    table : DataFrame
        One row per case, columns of numbers; NaN is missing. Columns that end in _syst hold systematic errors of those
        without this ending.
    models : mapping, optional
        Response -> explanatory variables. By default the three models of equation 16 whose columns exist.
    confidence : float
        Of the intervals (Student's t).
    patients : Series, optional
        Label of the patient of each row. Where one has several, the standard errors to use are those of CR3, with one
        degree of freedom less than patients; there are none for fewer than six.

    Returns
    -------
    Regression
        z-scores use the standard deviation with N - 1, over the complete cases of each model. q_hc3 is p_hc3 adjusted
        (Benjamini & Hochberg) over all terms.

    Raises
    ------
    InputError
        If a column is missing or constant, an explanatory variable is a combination of others, or there are fewer
        complete cases than coefficients + 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from histomri.analysis import regress
    >>> table = pd.DataFrame({'y': [1.0, 2.1, 2.9, 4.2, 5.0], 'x': [1.0, 2, 3, 4, 5]})
    >>> regress(table, {'y': ['x']}).coefficients[['term', 'beta']].round(3)
      term   beta
    0    x  0.998
    """
    chosen = _models_of(table) if models is None else models
    if not chosen:
        raise InputError("none of the models of Eq. 16 has all its columns", hint="name response and predictors")
    coefficients, summaries, warnings = [], [], []
    for response, terms in chosen.items():
        rows, summary, texts = _fit(table, response, list(terms), confidence, patients)
        coefficients.extend(rows)
        summaries.append(summary)
        warnings.extend(texts)
    frame = pd.DataFrame(coefficients)
    frame.insert(frame.columns.get_loc("p_hc3") + 1, "q_hc3", adjust_p(frame["p_hc3"]))
    frame.insert(frame.columns.get_loc("p_cr3") + 1, "q_cr3", adjust_p(frame["p_cr3"]))
    return Regression(frame, pd.DataFrame(summaries), tuple(warnings))


def regress_table(table: RegressOptions | pd.DataFrame | str | Path, **choices: Any) -> Findings:
    """Regress MRI metrics of a table on histology, in every model and strategy.

    The table (or its path) has one row per sample x model x strategy; `choices` are options of `histomri regress`
    beside it: ``response="K", predictor=["F_histo"]``, by default the models of equation 16. RegressOptions stand for
    both. The Findings are regression.csv and regression_models.csv.
    """
    options, cases = opened_cases(RegressOptions, table, choices)
    # Histology in 3D may have no fraction; an empty column of MRI is a mistake.
    filled = [name for name in cases.names if "_mri" in name or cases.has_values(name)]
    chosen = _models_of(filled) if options.response is None else {options.response: options.predictor}
    if not chosen:
        cases.require("vCS_mri_um")
        problem = "lacks columns of every model of Eq. 16"
        raise InputError(problem, path=cases.path, hint="give --response and --predictor")
    values = cases.numbers([name for key, terms in chosen.items() for name in (key, *terms)])
    coefficients, models, warnings, lines = [], [], cases.quality_warnings(values), []
    shared = cases.errors(values)
    warnings += missing_errors(values, shared)
    both = values.join(shared.add_suffix(SYST))
    for key, part in cases.parts(options.by):
        with naming_part(cases.path, key):
            found = regress(both.loc[part.frame.index], chosen, patients=patients_of(part))
        coefficients.append(labelled(key, found.coefficients))
        models.append(labelled(key, found.models))
        warnings += [heading(key) + text for text in found.warnings]
        absent = dict(zip(found.models["response"], found.models["n_missing"]))
        for row in found.coefficients.to_dict("records"):
            text = f"{_beta(row)}, VIF {row['VIF']:.1f}, {_size(row)}{missing_text(absent[row['response']])}"
            if math.isfinite(row["slope_syst"]):
                text += f"; slope {row['slope']:.3g} ± {row['slope_se']:.2g} (stat) ± {row['slope_syst']:.2g} (syst)"
            lines.append(f"{heading(key)}{row['response']} on {row['term']}: {text}")
    settings = {"models": chosen} | options.named("by", "model", "strategy", "patient")
    settings |= {"standard_errors": "OLS, HC3, and CR3 over patients"}
    frames = {"regression.csv": ("coefficients", coefficients), "regression_models.csv": ("models", models)}
    return Findings.joined("regression.json", frames, lines, warnings, options, settings, measures=list(values))


def _beta(row: Mapping[str, Any]) -> str:
    """Return a coefficient with interval and p, over patients where one has several rows."""
    kind = "hc3" if pd.isna(row["n_patients"]) else "cr3"
    if math.isnan(row[f"p_{kind}"]):
        return f"beta = {row['beta']:.3f}, without interval (too few patients)"
    limits = f"[{row[f'ci_low_{kind}']:.2f}, {row[f'ci_high_{kind}']:.2f}]"
    return f"beta = {row['beta']:.3f} {limits}, p = {row[f'p_{kind}']:.2g} ({kind.upper()})"


def _size(row: Mapping[str, Any]) -> str:
    return f"N = {row['n']}" + ("" if pd.isna(row["n_patients"]) else f" of {row['n_patients']:.0f} patients")


def _models_of(columns: Iterable[str]) -> Mapping[str, Sequence[str]]:
    there = set(columns)
    # In 3D histology counts per volume, as MRI does.
    density = next((name for name in _DENSITIES if name in there), _DENSITIES[0])
    models = {key: tuple(density if name == _DENSITIES[0] else name for name in terms) for key, terms in MODELS.items()}
    return {response: terms for response, terms in models.items() if {response, *terms} <= there}


def variance_inflation(design: FloatArray) -> FloatArray:
    """Return the variance inflation factor of each column, (P,): 1 / (1 - R²) of that column on all others.

    `design` (N, P) has the explanatory variables without the constant. It is infinite for a combination of others.
    """
    values = np.asarray(design, dtype=float)
    correlation = np.atleast_2d(np.corrcoef(values, rowvar=False))
    if np.linalg.cond(correlation) > 1.0 / np.finfo(float).eps:
        return np.full(values.shape[1], np.inf)
    return np.asarray(np.diag(np.linalg.inv(correlation)))


def z_scores(values: FloatArray) -> FloatArray:
    """Return columns with mean 0 and standard deviation 1 (N - 1)."""
    values = scaled(values)[0]
    return np.asarray((values - values.mean(axis=0)) / values.std(axis=0, ddof=1))


def _fit(
    table: pd.DataFrame, response: str, terms: list[str], confidence: float, patients: pd.Series | None
) -> tuple[list[dict[str, object]], dict[str, object], list[str]]:
    from statsmodels.regression.linear_model import OLS  # half a second

    y, x, missing, used = _complete(table, response, terms)
    n = len(y)
    scaled = z_scores(x)
    condition = float(np.linalg.cond(scaled))
    if condition > _LARGEST_CONDITION:
        raise InputError(f"the predictors of {response} are combinations of each other: {', '.join(terms)}")
    model = OLS(z_scores(y), np.column_stack([np.ones(n), scaled]))
    codes = np.arange(n) if patients is None else np.unique(patients[used], return_inverse=True)[1]
    fits = {"": model.fit(), "_hc3": model.fit(cov_type="HC3", use_t=True), "_cr3": _over_patients(model, codes)}
    plain = fits[""]
    other = {name: np.full(len(terms) + 1, math.nan) for name in ("se", "df", "p")}
    if fits["_cr3"] is not None:
        cr2 = cluster_robust(model.exog, model.endog, codes)
        other = {name: getattr(cr2, name) for name in other}
    factors = variance_inflation(scaled)
    straight = _in_units(table, response, terms, fits["_cr3"] if repeated(codes) else fits["_hc3"])
    rows = []
    for position, term in enumerate(terms, start=1):
        row: dict[str, object] = {"response": response, "term": term, "n": n, "beta": plain.params[position]}
        for ending, fit in fits.items():
            values: Sequence[float] = [math.nan] * 5
            if fit is not None:
                limits = fit.conf_int(1.0 - confidence)[position]
                values = (fit.bse[position], fit.tvalues[position], fit.pvalues[position], *limits)
            if ending == "_cr3":
                row |= {"VIF": factors[position - 1]}
            row |= {f"{name}{ending}": value for name, value in zip(("se", "t", "p", "ci_low", "ci_high"), values)}
        row |= {"n_patients": codes.max() + 1 if repeated(codes) else math.nan}
        row |= {f"{name}_cr2": values[position] for name, values in other.items()}
        rows.append(row | straight[position - 1])
    summary: dict[str, object] = {"response": response, "n": n, "n_missing": missing, "r2": plain.rsquared}
    summary |= {"r2_adjusted": plain.rsquared_adj, "f": plain.fvalue, "p_f": plain.f_pvalue}
    texts = _warnings(response, terms, factors, n, missing)
    if repeated(codes) and fits["_cr3"] is None:
        texts.append(
            f"{response}: the coefficients hang on single patients, or they are too few; no intervals over patients"
        )
    return rows, summary | {"condition_number": condition} | straight[-1], texts


def _in_units(table: pd.DataFrame, response: str, terms: list[str], robust: Any) -> list[dict[str, float]]:
    """Return slopes, then the intercept, in the units of the columns, with robust and systematic errors."""
    names = [response, *terms]
    values = table[names].astype(float)
    values = values[np.isfinite(values.to_numpy()).all(axis=1)]
    numbers, powers = scaled(values.to_numpy())
    values = pd.DataFrame(numbers, values.index, names)
    errors = shared_errors(table.loc[values.index], names)
    errors = errors.mul([0.5 ** float(powers[names.index(str(name))]) for name in errors], axis=1)
    spread, mean = values.std(ddof=1).to_numpy(), values.mean().to_numpy()
    # What turns the coefficients of z-scores, the constant first, into slopes and the intercept.
    turn = np.zeros((len(names), len(names)))
    turn[range(len(terms)), range(1, len(names))] = spread[0] / spread[1:]
    turn[-1] = spread[0] * np.r_[1.0, -mean[1:] / spread[1:]]
    covariance = np.full(turn.shape, math.nan) if robust is None else robust.cov_params()
    deviations = np.sqrt(np.diag(turn @ covariance @ turn.T))
    shared = common_error(lambda one: line(one, response, terms), values, errors)
    units, found = powers[0] - np.r_[powers[1:], 0], []
    for place, triple in enumerate(zip(line(values, response, terms), deviations, shared)):
        name = "slope" if place < len(terms) else "intercept"
        with np.errstate(over="ignore", under="ignore"):
            in_units = np.ldexp(triple, units[place])
        found.append(dict(zip((name, f"{name}_se", f"{name}_syst"), map(float, in_units))))
    return found


def _over_patients(model: Any, codes: IntArray) -> Any:
    """Return the fit with standard errors that allow for rows of one patient; None where there are none."""
    if not repeated(codes) or codes.max() + 1 < FEWEST_UNITS:
        return None
    design = model.exog
    if any(np.linalg.matrix_rank(design[codes != unit]) < design.shape[1] for unit in range(codes.max() + 1)):
        return None
    # Not crv_type="cluster-crv3" of cov_type="cluster", which statsmodels passes over in silence, giving CR1.
    return model.fit(cov_type="cluster-crv3", cov_kwds={"groups": codes}, use_t=True)


def _complete(table: pd.DataFrame, response: str, terms: list[str]) -> tuple[FloatArray, FloatArray, int, np.ndarray]:
    table = as_cases(table, (response, *terms))
    if response in terms or len(set(terms)) < len(terms):
        raise InputError(f"a column comes twice in the model of {response}: {', '.join(terms)}")
    values = table[[response, *terms]].to_numpy(dtype=float)
    used = np.isfinite(values).all(axis=1)
    complete = scaled(values[used])[0]
    if len(complete) < len(terms) + 3:
        problem = f"{len(complete)} complete cases are too few to regress {response} on {len(terms)} variables"
        raise InputError(problem, hint=f"at least {len(terms) + 3} are needed")
    for name, column in zip((response, *terms), complete.T):
        if constant(column):
            problem = f"column '{name}' is constant; nothing can be explained by it or explain it"
            raise InputError(problem, hint="name a response and predictors that vary (--response, --predictor)")
    return complete[:, 0], complete[:, 1:], len(values) - len(complete), used


def _warnings(response: str, terms: list[str], factors: FloatArray, n: int, missing: int) -> list[str]:
    texts = []
    if collinear := [f"{term} ({size:.1f})" for term, size in zip(terms, factors) if size > _STRONG_COLLINEARITY]:
        text = f"{response}: variance inflation above 10 for {', '.join(collinear)}"
        texts.append(f"{text}; their coefficients cannot be separated")
    if n < 10 * len(terms):
        texts.append(f"{response}: {n} cases for {len(terms)} variables, fewer than 10 for each")
    if missing:
        texts.append(f"{response}: {missing} cases left out because a value is missing")
    return texts
