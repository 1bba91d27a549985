"""How reliable the results are: registration, number of samples, fits at their bounds."""

from collections import Counter

import numpy as np

from histomri.analysis import critical_correlation
from histomri.report.collect import Run, Sample
from histomri.report.guard import attempt
from histomri.report.text import STRATEGIES, best_fit, decimals, model_name, percent, rows_of

_ALIKE = 0.1
_BARELY = 0.25
EXPANSION = (
    "QuPath outlines a cell by widening its nucleus by a fixed distance (5 µm unless changed), stopping at its "
    "neighbours; it does not see the membrane. Histological cell size and fraction inherit this convention, and cells "
    "that cross the border of a patch can make F exceed 1."
)
_NEIGHBOURS = (
    "Voxels of one section are neighbours, not independent measurements: p-values and intervals of voxel-wise "
    "correlations count the number of independent voxels that would be as informative (Dutilleul 1993). They "
    "describe one section; judge by the samples."
)


def reliability_notes(run: Run) -> list[str]:
    """Return one note each about registration, number of samples, fits at their bounds, and voxels."""
    good = [sample for sample in run.samples if not sample.failed]
    texts = [
        attempt(lambda: _registrations(good), "", run.missing, "No note about the registrations"),
        attempt(lambda: _number(run, good), "", run.missing, "No note about the number of samples"),
        attempt(lambda: _bounds(run, good), "", run.missing, "No note about fits at their bounds"),
    ]
    return [text for text in (*texts, _NEIGHBOURS) if text]


def _registrations(samples: list[Sample]) -> str:
    verdicts = Counter(str(sample.registration.get("verdict", "none")) for sample in samples)
    if not samples:
        return "No sample was finished."
    if set(verdicts) == {"none"}:
        return "Histology and MRI were not registered; only means of whole samples are compared."
    alone = verdicts.pop("none", 0)
    rest = f" Of the other {alone} samples only means are compared." if alone else ""
    if set(verdicts) == {"good"}:
        return f"Every registration is judged good.{rest}"
    parts = []
    for verdict, wording in (("check", "should be checked by eye"), ("failed", "failed")):
        names = [sample.id for sample in samples if sample.registration.get("verdict") == verdict]
        if names:
            parts.append(f"{', '.join(names)} {wording}")
    return f"Registration: {verdicts.get('good', 0)} of {sum(verdicts.values())} good; {'; '.join(parts)}.{rest}"


def _number(run: Run, samples: list[Sample]) -> str:
    n = max((row["n"] for row in run.ranking), default=len(samples))
    if n < 3:
        return f"With {n} sample{'s' if n != 1 else ''}, models cannot be ranked by correlation over samples."
    critical = decimals(critical_correlation(n), 3)
    if n >= 10:
        return f"With N = {n} samples, correlations above |r| = {critical} differ from none at p < 0.05."
    return (
        f"With N = {n} samples, correlations over samples are uncertain: only |r| above {critical} differs from none "
        "at p < 0.05. Take the order of the models as a hint."
    )


def _bounds(run: Run, samples: list[Sample]) -> str:
    key = best_fit(run)
    if key is None:
        return ""
    voxels = {sample.id: rows_of(sample.voxels, key) for sample in samples if sample.voxels is not None}
    found = {name: float(rows["at_bound"].astype(bool).mean()) for name, rows in voxels.items() if len(rows)}
    if run.pairs is not None and "at_bound_share" in run.pairs:  # which also knows samples without pairs of voxels
        rows = rows_of(run.pairs, key)
        found |= dict(zip(rows["sample"].astype(str), rows["at_bound_share"]))
    shares = [share for share in found.values() if np.isfinite(share)]
    if not shares:
        return ""
    low, mean, high = min(shares), float(np.mean(shares)), max(shares)
    name = f"{model_name(key[0])} ({STRATEGIES.get(key[1], key[1])})"
    spread = "" if high - low < _ALIKE else f" (from {percent(low)} to {percent(high)} by sample)"
    effect = "the data barely constrain them" if mean > _BARELY else "those voxels carry less information"
    return f"{percent(mean)} of the compared voxels have a parameter of {name} at its bound{spread}; {effect}."
