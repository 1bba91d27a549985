"""TCS, HFC and BIC may each prefer another model: which of these disagreements are more than chance."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis.cases import as_cases
from histomri.analysis.patients import FEWEST_UNITS
from histomri.analysis.pseudovalues import PseudoValues, ScoredCases
from histomri.analysis.ranking import common_cases
from histomri.analysis.scores import fidelity
from histomri.analysis.selection import IN_SET, Rivals
from histomri.core.columns import PAIRED, PATIENT

_LEAST_HFC = 1e-3  # a case that agrees exactly has no logarithm
_MOST_NAMED = 6


@dataclass(frozen=True)
class Verdict:
    """What the criteria say together of the models of one strategy."""

    strategy: str
    n: int  # cases
    models: int
    first: dict[str, str]  # by criterion (TCS, HFC, BIC): the model that it puts first
    sets: dict[str, tuple[str, ...]]  # by criterion: the models that are not distinguishable from its first
    rule: str  # contradiction, fit, calibration, none, undecided
    text: str

    def row(self) -> dict[str, Any]:
        """Return it for a JSON file."""
        return asdict(self)


def compare_criteria(table: pd.DataFrame, *, patient: str | None = PATIENT, seed: int = 0) -> list[Verdict]:
    """Say for each strategy whether TCS, HFC and BIC contradict each other.

    The firsts of the three differ in half of all studies or more, also if one model is the best by all of them: this
    alone says nothing. A criterion's first has to fall out of the model confidence set (`Rivals.set_p`) of another.

    Parameters
    ----------
    table : DataFrame
        One row per sample x model x strategy: sample, model, strategy, `PAIRED`, and BIC_vote if there is one.
    patient : str, optional
        Column of patients, used if the table has it.

    Returns
    -------
    list of Verdict
        Of each strategy with at least two models on the same six cases (or patients) or more. BIC takes part if the
        voxels of every case voted.
    """
    table = as_cases(table, ("sample", "model", "strategy", *PAIRED)).reset_index(drop=True)
    if not len(table):
        return []
    rows, samples = common_cases(table)
    kept = pd.MultiIndex.from_frame(table[["model", "strategy"]]).isin(rows) & table["sample"].isin(samples)
    found = []
    for strategy, part in table[kept].groupby("strategy", sort=False):
        cases = ScoredCases.of(part, patient)
        names = [str(model) for model, _ in cases.rows]
        pseudo = _of_criteria(part, cases) if len(names) > 1 else {}
        if pseudo:
            sets, first = {}, {}
            for name, each in pseudo.items():
                inside = Rivals(each, seed).set_p() > IN_SET
                sets[name] = tuple(model for model, one in zip(names, inside) if one)
                first[name] = names[int(np.argmax(each.estimates))]
            rule, text = _judged(first, sets, len(names))
            text = f"{strategy}: {text} (N = {len(cases.samples)}, {len(names)} models; {_firsts(first)})"
            found.append(Verdict(str(strategy), len(cases.samples), len(names), first, sets, rule, text))
    return found


def _of_criteria(part: pd.DataFrame, cases: ScoredCases) -> dict[str, PseudoValues]:
    """Return pseudo-values by which higher is better; nothing if they are of too few cases."""
    tcs, units = cases.pseudo_values(range(len(cases.rows)))
    if len(units) < FEWEST_UNITS or not np.isfinite(tcs.values).all():
        return {}
    found = {"TCS": tcs}
    errors = np.stack([fidelity(values.T) for values in cases.values])
    if np.isfinite(errors).all():
        found["HFC"] = PseudoValues.of_means(-np.log(np.maximum(errors, _LEAST_HFC)), cases.codes)
    if "BIC_vote" in part:
        wide = part.pivot(index="sample", columns="model", values="BIC_vote")
        votes = wide.reindex(index=cases.samples, columns=[model for model, _ in cases.rows]).to_numpy(dtype=float).T
        if np.isfinite(votes).all():
            found["BIC"] = PseudoValues.of_means(votes, cases.codes)
    return found if len(found) > 1 else {}


def _judged(first: dict[str, str], sets: dict[str, tuple[str, ...]], models: int) -> tuple[str, str]:
    """Return the rule that holds, and what it says."""
    t, h, b = (first.get(name) for name in ("TCS", "HFC", "BIC"))
    in_all = [model for model in sets["TCS"] if all(model in inside for inside in sets.values())]
    by_hfc, by_bic = sets.get("HFC", (t,)), sets.get("BIC", (t,))
    if t not in by_hfc and h not in sets["TCS"]:
        rule, text = "contradiction", f"TCS and HFC contradict each other ({t}, {h}): no model is best for both"
    elif t not in by_bic and b not in sets["TCS"]:
        text = f"the signal prefers {b}, histology {t}: the better fit is not the better histology"
        rule = "fit"
    elif t not in by_hfc:
        rule = "calibration"
        text = f"{t} follows histology best across cases, but is off in size; {h} is closest in value"
        text += f": {t} needs calibration"
    elif in_all:
        named = ", ".join(in_all[:_MOST_NAMED]) + (
            f" and {len(in_all) - _MOST_NAMED} more" if len(in_all) > _MOST_NAMED else ""
        )
        what = " and ".join((", ".join(list(sets)[:-1]), list(sets)[-1]))
        verb = "is" if len(in_all) == 1 else "are"
        rule, text = "none", f"no contradiction between {what}: {named} {verb} among the best by all"
    else:
        rule, text = "undecided", "no model is among the best by every criterion, and no two contradict each other"
    if len(sets["TCS"]) == models:
        text += "; TCS cannot tell the models apart: choose by HFC, then BIC, and say so"
    return rule, text


def _firsts(first: dict[str, str]) -> str:
    return ", ".join(f"first by {name}: {model}" for name, model in first.items())
