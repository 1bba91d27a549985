"""Numbers and findings in words."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis import correlate, correlate_voxels, spatial_correlation
from histomri.analysis.spatial import voxel_spacing
from histomri.core.columns import INDEX, WORLD
from histomri.fitting.models import MODELS
from histomri.report.collect import Run, Sample

_FEW_NAMES = 6
# Numbers, with their thousands, but not parts of names.
_NUMBER = re.compile(r"(?<![\w.,-])(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?![\w.-]*\w|,\d)")
STRATEGIES = {"whole": "all measurements", "high-b": "high b only", "custom": "a custom range of b"}
EXPANSION = (
    "QuPath outlines a cell by widening its nucleus by a fixed distance (5 µm unless changed), stopping at its "
    "neighbours; it does not see the membrane. Histological cell size and fraction inherit this convention, and cells "
    "that cross the border of a patch can make F exceed 1."
)


def model_name(model: str) -> str:
    """Return a model's name as it is printed."""
    return MODELS[model].display_name if model in MODELS else model


def decimals(value: Any, digits: int = 2) -> str:
    """Return a number with fixed decimals and a true minus sign, or a dash if there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.{digits}f}".replace("-", "\u2212")


def percent(value: Any) -> str:
    """Return a share as percent."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.0f}\u202f%"


def p_text(p: float) -> str:
    """Return a p-value with its sign."""
    if not math.isfinite(p):
        return "p undefined"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def correlation_text(x: Any, y: Any) -> dict[str, Any]:
    """Return r, p, N and the interval of two series, ready to print."""
    found = correlate(x, y)
    if not math.isfinite(found.r):
        return {"r": "–", "p": "–", "n": found.n, "ci": "–", "line": f"No correlation: {found.note}."}
    interval = f"[{decimals(found.ci[0])}, {decimals(found.ci[1])}]" if found.ci else "none"
    line = f"r = {decimals(found.r)}, {p_text(found.p)}, N = {found.n}, 95\u202f% interval {interval}"
    if found.note:
        line += f" ({found.note})"
    return {"r": decimals(found.r), "p": p_text(found.p).removeprefix("p "), "n": found.n, "ci": interval, "line": line}


def voxel_text(voxels: pd.DataFrame, x: str, y: str) -> dict[str, Any]:
    """Return r of two maps with p and interval that count independent voxels, ready to print."""
    places = voxels[list(INDEX)].to_numpy()
    found = spatial_correlation(voxels[x], voxels[y], places, spacing=voxel_spacing(places, voxels[list(WORLD)]))
    if not math.isfinite(found.r):
        return {"r": "–", "p": "–", "n": found.n, "n_eff": "–", "ci": "–", "line": f"No correlation: {found.note}."}
    worth = decimals(found.n_eff, 0)
    interval = f"[{decimals(found.ci[0])}, {decimals(found.ci[1])}]" if found.ci else "none"
    line = f"r = {decimals(found.r)} over {found.n} voxels, which tell as much as {worth} independent ones: "
    line += found.note if found.note else f"{p_text(found.p)}, 95\u202f% interval {interval}"
    p = p_text(found.p).removeprefix("p ") if math.isfinite(found.p) else "–"
    return {"r": decimals(found.r), "p": p, "n": found.n, "n_eff": worth, "ci": interval, "line": line}


def within_samples(run: Run) -> list[str]:
    """Say how MRI and histology go together within the samples that were registered, all of them pooled."""
    key = best_fit(run)
    parts = [sample.voxels for sample in run.samples if sample.voxels is not None and not sample.failed]
    if key is None or len(parts) < 2:
        return []
    voxels = pd.concat(parts, ignore_index=True)
    voxels = voxels[(voxels["model"] == key[0]) & (voxels["strategy"] == key[1])]
    texts = []
    for label, x, y in (("Cell size", "vCS_histo_um", "vCS_mri_um"), ("Fraction", "F_histo", "F_mri")):
        if not voxels[[x, y]].notna().all(axis=1).any():
            continue
        row = correlate_voxels(voxels, [x], [y], kinds=("pearson",))[1].to_dict("records")[0]
        if math.isfinite(row["r_within"]):
            texts.append(
                f"{label}, voxel by voxel within {row['n_samples']} samples: r = {decimals(row['r_within'])}, "
                f"{p_text(row['p'])}, 95\u202f% interval [{decimals(row['ci_low'])}, {decimals(row['ci_high'])}], "
                f"{row['n']} voxels, {decimals(row['df'], 0)} degrees of freedom."
            )
    return texts


def best_fit(run: Run, sample: Sample | None = None) -> tuple[str, str] | None:
    """Return model and strategy that rank first (among those a sample has)."""
    keys = [(row["model"], row["strategy"]) for row in run.ranking]
    if sample is None:
        return keys[0] if keys else next((key for one in run.samples for key in one.fits), None)
    return next((key for key in keys if key in sample.fits), next(iter(sample.fits), None))


def best_rows(run: Run) -> tuple[tuple[str, str], pd.DataFrame] | None:
    """Return model and strategy that rank first, and their rows of the table of samples; None if there are none."""
    key = best_fit(run)
    if run.pairs is None or key is None:
        return None
    rows = run.pairs[(run.pairs["model"] == key[0]) & (run.pairs["strategy"] == key[1])]
    return (key, rows) if len(rows) else None


def at_bound_share(sample: Sample, key: tuple[str, str] | None) -> float | None:
    """Return the share of paired voxels with a parameter at its bound."""
    if sample.voxels is None or key is None:
        return None
    rows = sample.voxels
    rows = rows[(rows["model"] == key[0]) & (rows["strategy"] == key[1])]
    return float(rows["at_bound"].astype(bool).mean()) if len(rows) else None


def merge_warnings(told: list[tuple[str, str]], samples: int | None = None) -> list[dict[str, str]]:
    """Say once what several samples say alike; numbers that differ become ranges.

    Parameters
    ----------
    told : list of (sample, warning)
        In order.
    samples : int, optional
        How many there are: what all of them say needs no list of names.

    Returns
    -------
    list of dict
        text, and about: the samples it concerns.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for sample, text in told:
        plain = text.removeprefix(f"{sample}: ")
        groups.setdefault(_NUMBER.sub("#", plain), []).append((sample, plain))
    merged = []
    for alike in groups.values():
        numbers = zip(*(_NUMBER.findall(text) for _, text in alike))
        ranges = iter([_range_text(values) for values in numbers])
        text = _NUMBER.sub(lambda _, ranges=ranges: next(ranges), alike[0][1])  # type: ignore[misc]
        names = list(dict.fromkeys(sample for sample, _ in alike))
        everyone = len(names) == samples and len(names) > _FEW_NAMES
        merged.append({"text": text, "about": f"all {samples} samples" if everyone else ", ".join(names)})
    return merged


def _range_text(values: tuple[str, ...]) -> str:
    def value(text: str) -> float:
        return float(text.replace(",", ""))

    low, high = min(values, key=value), max(values, key=value)
    return low if value(low) == value(high) else f"{low}–{high}"


_ALIKE = 0.1


def trust(run: Run) -> list[str]:
    """Say how far to trust the results: registration, number of samples, fits at their bounds."""
    good = [sample for sample in run.samples if not sample.failed]
    texts = [_trust_registration(good), _trust_number(run, good), _trust_bounds(run, good)]
    texts.append(
        "Voxels of one section are neighbours, not independent measurements: p-values and intervals of voxel-wise "
        "correlations count only as many voxels as would tell as much if they were independent (Dutilleul 1993). They "
        "speak of one section; judge by the samples."
    )
    return [text for text in texts if text]


def _trust_registration(samples: list[Sample]) -> str:
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


def _trust_number(run: Run, samples: list[Sample]) -> str:
    n = max((row["n"] for row in run.ranking), default=len(samples))
    if n < 3:
        return f"With {n} sample{'s' if n != 1 else ''}, models cannot be ranked by correlation over samples."
    if n < 10:
        return (
            f"With N = {n} samples, correlations over samples are uncertain: only |r| above "
            f"{decimals(_critical(n), 3)} differs from none at p < 0.05. Take the order of the models as a hint."
        )
    return f"With N = {n} samples, correlations above |r| = {decimals(_critical(n), 3)} differ from none at p < 0.05."


def _critical(n: int) -> float:
    from scipy.special import stdtrit

    t = float(stdtrit(n - 2, 0.975))
    return t / math.sqrt(n - 2 + t * t)


def _trust_bounds(run: Run, samples: list[Sample]) -> str:
    key = best_fit(run)
    if key is None:
        return ""
    found = {sample.id: share for sample in samples if (share := at_bound_share(sample, key)) is not None}
    if run.pairs is not None and "at_bound_share" in run.pairs:  # which also knows samples without pairs of voxels
        rows = run.pairs[(run.pairs["model"] == key[0]) & (run.pairs["strategy"] == key[1])]
        found = {**dict(zip(rows["sample"].astype(str), rows["at_bound_share"])), **found}
    shares = [share for share in found.values() if np.isfinite(share)]
    if not shares:
        return ""
    low, share, high = min(shares), float(np.mean(shares)), max(shares)
    name = f"{model_name(key[0])} ({STRATEGIES.get(key[1], key[1])})"
    spread = "" if high - low < _ALIKE else f" (from {percent(low)} to {percent(high)} by sample)"
    effect = "the data barely constrain them" if share > 0.25 else "those voxels carry less information"
    return f"{percent(share)} of the compared voxels have a parameter of {name} at its bound{spread}; {effect}."


def voxel_rows(sample: Sample) -> list[dict[str, Any]]:
    """Return the voxel-wise correlations of every model and strategy of a sample."""
    if sample.voxels is None:
        return []
    rows = []
    for (model, strategy), part in sample.voxels.groupby(["model", "strategy"], sort=False):
        rows.append(
            {
                "model": model_name(model),
                "strategy": strategy,
                "key": (model, strategy),
                "vCS": voxel_text(part, "vCS_histo_um", "vCS_mri_um"),
                "F": voxel_text(part, "F_histo", "F_mri"),
                "at_bound": percent(float(part["at_bound"].astype(bool).mean())),
                "n": len(part),
            }
        )
    return rows


def ranking_rows(ranking: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the ranking, ready to print."""
    rows = []
    ranks = [row.get("rank") for row in ranking]
    for row in ranking:
        interval = row["TCS_ci"]
        wins = row["HFC_wins"]
        rows.append(
            {
                "rank": rank_of(row, ranks),
                "model": model_name(row["model"]),
                "strategy": row["strategy"],
                "n": str(row["n"]) + ("" if is_compared(row) else " of its own"),
                "TCS": decimals(row["TCS"]),
                "TCS_ci": f"{decimals(interval[0])} to {decimals(interval[1])}" if interval else "–",
                "r_vCS": decimals(row["r_vCS"]),
                "r_F": decimals(row["r_F"]),
                "HFC_mean": decimals(row["HFC_mean"]),
                "HFC_wins": "–" if wins is None or pd.isna(wins) else f"{wins:g}",
                "BIC_share": percent(row["BIC_share"]),
                "AIC_share": percent(row.get("AIC_share")),
                "p_best": percent(row["p_best"]),
                "ranked": row["TCS"] is not None and is_compared(row),
            }
        )
    return rows


def is_compared(row: Mapping[str, Any]) -> bool:
    """Tell whether a row of the ranking rests on the samples that the others have; one of too few stands by itself."""
    return bool(row.get("compared", True))


def rank_of(row: Mapping[str, Any], ranks: list[int | None]) -> str:
    """Return the place of a row, marked where others share it."""
    rank = row.get("rank")
    return "–" if rank is None else f"{rank}{'=' if ranks.count(rank) > 1 else ''}"
