"""Numbers, names, units and findings as text."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.analysis import correlate, correlate_voxels, spatial_correlation
from histomri.analysis.spatial import voxel_spacing
from histomri.core.columns import INDEX, TITLES, WORLD, shown_unit, title_of
from histomri.fitting.models import MODELS
from histomri.report.collect import Key, Run, Sample

_FEW_NAMES = 6
# Numbers, with their thousands, but not parts of names.
_NUMBER = re.compile(r"(?<![\w.,-])(?:\d{1,3}(?:,\d{3})+|\d+(?:\.\d+)?)(?![\w.-]*\w|,\d)")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
_MANY = 1e4  # from here on thousands are put into the unit
STRATEGIES = {"whole": "all measurements", "high-b": "high b only", "custom": "a custom range of b"}


def model_name(model: str) -> str:
    """Return a model's name as it is printed."""
    return MODELS[model].display_name if model in MODELS else model


def fit_label(key: Key) -> str:
    """Return a name for a model and strategy that people read."""
    return f"{model_name(key[0])}, {STRATEGIES.get(key[1], key[1])}"


def decimals(value: Any, digits: int = 2) -> str:
    """Return a number with fixed decimals and a true minus sign, or a dash if there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    return f"{value:.{digits}f}".replace("-", "\u2212")


def percent(value: Any) -> str:
    """Return a fraction as percent."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.0f}\u202f%"


def p_text(p: float) -> str:
    """Return a p-value with its sign."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}" if math.isfinite(p) else "p undefined"


def interval_text(ends: Any, none: str = "none") -> str:
    """Return an interval in brackets."""
    return f"[{decimals(ends[0])}, {decimals(ends[1])}]" if ends else none


def _correlation(found: Any) -> dict[str, Any]:
    """Return r, p, N and interval of a correlation, ready to print."""
    if not math.isfinite(found.r):
        undefined = dict.fromkeys(("r", "r_edge", "p", "n_eff", "ci"), "–")
        return {**undefined, "n": found.n, "line": f"No correlation: {found.note}."}
    p = p_text(found.p).removeprefix("p ") if math.isfinite(found.p) else "–"
    return {"r": decimals(found.r), "p": p, "n": found.n, "ci": interval_text(found.ci)}


def correlation_text(x: Any, y: Any, patients: Any = None) -> dict[str, Any]:
    """Return r, p, N and the interval of two series, ready to print; over patients where one has several rows."""
    found = correlate(x, y, patients=patients)
    row = _correlation(found)
    several = f" of {found.n_patients} patients" if found.n_patients else ""
    line = f"r = {row['r']}, {p_text(found.p)}, N = {found.n}{several}, 95\u202f% interval {row['ci']}"
    return {"line": f"{line} ({found.note})" if found.note else line, **row}


def voxel_text(voxels: pd.DataFrame, x: str, y: str) -> dict[str, Any]:
    """Return r of two maps with p and interval that count independent voxels, ready to print."""
    places = voxels[list(INDEX)].to_numpy()
    found = spatial_correlation(voxels[x], voxels[y], places, spacing=voxel_spacing(places, voxels[list(WORLD)]))
    row, effective, rest = _correlation(found), decimals(found.n_eff, 0), decimals(found.r_edge)
    line = f"r = {row['r']} over {found.n} voxels, {rest} beyond what the distance to the edge explains; "
    line += f"as informative as {effective} independent ones: "
    tested = f"{p_text(found.p)}, 95\u202f% interval {row['ci']}" if math.isfinite(found.p) else ""
    line += f"{tested} ({found.note})" if tested and found.note else tested or found.note
    return {"line": line, "n_eff": effective, "r_edge": rest, **row}


def within_samples(run: Run) -> list[str]:
    """Say how MRI and histology correlate within the samples that were registered, all of them pooled."""
    key = best_fit(run)
    parts = [sample.voxels for sample in run.samples if sample.voxels is not None and not sample.failed]
    if key is None or len(parts) < 2:
        return []
    voxels = rows_of(pd.concat(parts, ignore_index=True), key)
    texts = []
    for label, x, y in (("Cell size", "vCS_histo_um", "vCS_mri_um"), ("Fraction", "F_histo", "F_mri")):
        if voxels[[x, y]].dropna().empty:
            continue
        row = correlate_voxels(voxels, [x], [y], kinds=("pearson",))[1].to_dict("records")[0]
        if math.isfinite(row["r_mean"]):
            texts.append(
                f"{label}, voxel by voxel within {row['n_samples']} samples: mean r beyond the distance to the edge of "
                f"the tissue {decimals(row['r_mean_edge'])}, {p_text(row['p_mean_edge'])}, each sample counting as one "
                f"observation. Not tested, as they contain what maps share along an edge: mean r = "
                f"{decimals(row['r_mean'])}, 95\u202f% interval "
                f"{interval_text((row['r_mean_low'], row['r_mean_high']))}; slope {decimals(row['slope_cr2'])}; "
                f"r within samples "
                f"{decimals(row['r_within'])} ({row['n']} voxels)."
            )
    return texts


def best_fit(run: Run, sample: Sample | None = None) -> Key | None:
    """Return model and strategy that rank first (among those a sample has)."""
    keys = [(row["model"], row["strategy"]) for row in run.ranking]
    if sample is None:
        return keys[0] if keys else next((key for one in run.samples for key in one.fits), None)
    return next((key for key in keys if key in sample.fits), next(iter(sample.fits), None))


def rows_of(table: pd.DataFrame, key: Key) -> pd.DataFrame:
    """Return the rows of a model and strategy."""
    return table[(table["model"] == key[0]) & (table["strategy"] == key[1])]


def best_rows(run: Run) -> tuple[Key, pd.DataFrame] | None:
    """Return model and strategy that rank first, and their rows of the table of samples; None if there are none."""
    key = best_fit(run)
    if run.pairs is None or key is None:
        return None
    rows = rows_of(run.pairs, key)
    return (key, rows) if len(rows) else None


def merge_warnings(warnings: list[tuple[str, str]], samples: int | None = None) -> list[dict[str, str]]:
    """Say once what several samples say alike; numbers that differ become ranges.

    `warnings` are pairs of sample and warning, and `samples` how many there are: what all of them say needs no list of
    names. Each text comes with `about`, the samples it concerns.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for sample, text in warnings:
        plain = text.removeprefix(f"{sample}: ")
        groups.setdefault(_NUMBER.sub("#", plain), []).append((sample, plain))
    merged = []
    for alike in groups.values():
        ranges = map(_range_text, *(_NUMBER.findall(text) for _, text in alike))
        text = _NUMBER.sub(lambda _, ranges=ranges: next(ranges), alike[0][1])  # type: ignore[misc]  # a default
        names = list(dict.fromkeys(sample for sample, _ in alike))
        everyone = len(names) == samples and len(names) > _FEW_NAMES
        merged.append({"text": text, "about": f"all {samples} samples" if everyone else ", ".join(names)})
    return merged


def _range_text(*values: str) -> str:
    def value(text: str) -> float:
        return float(text.replace(",", ""))

    low, high = min(values, key=value), max(values, key=value)
    return low if value(low) == value(high) else f"{low}–{high}"


def voxel_rows(sample: Sample) -> list[dict[str, Any]]:
    """Return the voxel-wise correlations of every model and strategy of a sample."""
    if sample.voxels is None:
        return []
    return [
        {
            "model": model_name(model), "strategy": strategy, "n": len(part),
            "at_bound": percent(float(part["at_bound"].astype(bool).mean())),
            "vCS": voxel_text(part, "vCS_histo_um", "vCS_mri_um"), "F": voxel_text(part, "F_histo", "F_mri"),
        }
        for (model, strategy), part in sample.voxels.groupby(["model", "strategy"], sort=False)
    ]  # fmt: skip


def ranking_rows(ranking: list[dict[str, Any]], planned: set[Key] | None = None) -> list[dict[str, Any]]:
    """Return the rows of the ranking, ready to print; those beyond the plan, if there is one, are exploratory."""
    ranks = [row.get("rank") for row in ranking]

    def printed(row: dict[str, Any]) -> dict[str, Any]:
        interval, wins, rank = row["TCS_ci"], row["HFC_wins"], row.get("rank")
        return {
            **{name: decimals(row[name]) for name in ("TCS", "r_vCS", "r_F", "HFC_mean")},
            "HFC_syst": None if row.get("HFC_syst") is None else f"± {decimals(row['HFC_syst'])} syst",
            **{name: percent(row.get(name)) for name in ("BIC_share", "AIC_share")},
            "share_first": percent(row.get("share_first", row.get("p_best"))),
            "corrected": corrected_text(row),
            "in_set": "–" if row.get("in_set") is None else "yes" if row["in_set"] else "no",
            "mcs_p": decimals(row.get("mcs_p")),
            "ranks": range_of_ranks(row),
            "rank": "–" if rank is None else f"{rank}{'=' if ranks.count(rank) > 1 else ''}",  # = where others share it
            "model": model_name(row["model"]),
            "strategy": row["strategy"],
            "n": str(row["n"]) + ("" if is_compared(row) else " of its own"),
            "TCS_ci": f"{decimals(interval[0])} to {decimals(interval[1])}" if interval else "–",
            "HFC_wins": "–" if wins is None or pd.isna(wins) else f"{wins:g}",
            "exploratory": planned is not None and (row["model"], row["strategy"]) not in planned,
            "ranked": row["TCS"] is not None and is_compared(row),
        }

    return [printed(row) for row in ranking]


def highest_score(ranking: list[dict[str, Any]]) -> tuple[str, str, str]:
    """Return label, value and note of the tile of the ranking, which says no more than the samples do.

    Only a model that is distinguishable from all others is called the closest to histology.
    """
    first, compared = ranking[0], [row for row in ranking if is_compared(row) and row["TCS"] is not None]
    interval = f" {interval_text(first['TCS_ci'])}" if first["TCS_ci"] else ", no interval"
    score = f"{first['strategy']} · TCS {decimals(first['TCS'])}"
    alike = sum(bool(row.get("in_set")) for row in compared)
    if len(compared) == 1:
        return "Agreement with histology", model_name(first["model"]), score + interval
    if first.get("in_set") is None:
        return "Highest TCS", model_name(first["model"]), f"{score}{interval}; too few to distinguish {len(compared)}"
    score += f", corrected {corrected_text(first)}"
    if alike == 1:
        return (
            "Closest to histology",
            model_name(first["model"]),
            f"{score}; distinguishable from all {len(compared) - 1} others",
        )
    text = f"{score}; {alike} of {len(compared)} are not distinguishable from it"
    return "Highest TCS", model_name(first["model"]), text


def corrected_text(row: Mapping[str, Any]) -> str:
    """Return TCS corrected for being the highest with its interval, of the first row; a dash for others."""
    ends = row.get("TCS_corrected_ci")
    return f"{decimals(row['TCS_corrected'])} {interval_text(ends)}" if ends else "–"


def range_of_ranks(row: Mapping[str, Any]) -> str:
    """Return the ranks that a row of the ranking may have."""
    low, high = row.get("rank_low"), row.get("rank_high")
    return "–" if low is None or high is None else str(low) if low == high else f"{low}–{high}"


def is_compared(row: Mapping[str, Any]) -> bool:
    """Tell whether a row of the ranking rests on the samples that the others have; one of too few stands by itself."""
    return bool(row.get("compared", True))


@dataclass(frozen=True)
class Label:
    """Name and unit of a column, and the divisor of its values that makes the ticks short."""

    name: str
    unit: str
    divisor: float = 1.0

    @property
    def axis(self) -> str:
        """Name and unit, as on an axis."""
        return f"{self.name} ({self.scaled_unit})" if self.scaled_unit else self.name

    @property
    def scaled_unit(self) -> str:
        """The unit of the divided values."""
        power = f"10{str(round(math.log10(self.divisor))).translate(_SUPERSCRIPTS)}" if self.divisor > 1 else ""
        return " ".join(part for part in (power, self.unit) if part)

    def value(self, value: float, digits: int = 3) -> str:
        """Return a value as it is in the table, with its unit."""
        rounded = float(f"{value:.{digits}g}")
        text = f"{rounded:g}" if abs(rounded) < _MANY else f"{rounded:,.0f}".replace(",", "\u202f")
        return f"{text} {self.unit}".replace("-", "\u2212").rstrip()


def label_of(column: str, values: Any = ()) -> Label:
    """Return the label of a column; the unit of your own columns is read from the end of the name."""
    known = np.asarray(values, dtype=float)
    largest = float(np.nanmax(np.abs(known))) if np.isfinite(known).any() else 0.0
    divisor = 10.0 ** (3 * math.floor(math.log10(largest) / 3)) if largest >= _MANY else 1.0
    return Label(title_of(column), shown_unit(column), divisor)


def ordered(columns: Iterable[str]) -> list[str]:
    """Return columns in the order in which they are shown: those of histomri, then your own.

    Where scans were made at different temperatures, ADC over that of free water stands for ADC, which then says more of
    the temperature than of the tissue.
    """
    known = dict.fromkeys(columns)
    if "ADC_per_water" in known:
        known.pop("ADC_um2_ms", None)
    return [name for name in TITLES if name in known] + [name for name in known if name not in TITLES]
