"""What to say of a ranking: how far it can be trusted, which cases it leaves out, and its first line."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from histomri.analysis.pseudovalues import FEWEST_FOR_INTERVAL
from histomri.analysis.ranking import fewest_cases
from histomri.analysis.scores import complete_cases

_MOST_NAMED = 8


def ranking_warnings(ranking: list[dict[str, Any]]) -> list[str]:
    """Say in words how far a ranking can be trusted."""
    if not ranking:
        return ["there is nothing to rank"]
    compared = [row for row in ranking if row["compared"]]
    texts = []
    n = max(row["n"] for row in compared)
    if n < 3:
        texts.append(f"{n} complete cases: TCS needs at least 3, so no model can be ranked by it")
    elif n < FEWEST_FOR_INTERVAL:
        texts.append(f"{n} cases: TCS has neither a confidence interval nor a probability of being best (4 are needed)")
    elif n < 10:
        texts.append(f"only {n} cases: the order of the models is uncertain")
    if any(row["n_own"] > n for row in compared):
        texts.append(f"the models are ranked on the {n} cases that all of them have; TCS_own has those of each")
    texts += _left_out(ranking)
    for row in ranking:
        if n >= 3 and row["n"] and row["TCS"] is None:
            why = "fewer than 3 complete cases, or a value that never varies"
            texts.append(f"{row['model']}, {row['strategy']}: TCS is undefined ({why})")
    for rank in sorted({row["rank"] for row in compared if row["rank"]}):
        equal = [f"{row['model']}, {row['strategy']}" for row in compared if row["rank"] == rank]
        if len(equal) > 1:
            texts.append(f"{'; '.join(equal)}: equal, and share rank {rank}")
    return texts


def _left_out(ranking: list[dict[str, Any]]) -> list[str]:
    most = max(row["n_own"] for row in ranking)
    texts = []
    for row in ranking:
        if not row["compared"]:
            few = row["n_own"] < fewest_cases(most)
            why = "too few for a comparison" if few else "and too few of these in the others"
            how = "ranked last, on its own cases" if row["n_own"] else "ranked last"
            texts.append(f"{row['model']}, {row['strategy']}: N = {row['n_own']} (others up to {most}), {why}; {how}")
    return texts


def missing_cases(table: pd.DataFrame) -> list[str]:
    """Say which cases each row of a ranking leaves out because a value is missing; equal rows together.

    The table is that of `rank_models`; with a column group, groups of which nothing is left are named.
    """
    samples = list(dict.fromkeys(table["sample"]))
    rows: dict[tuple[Any, ...], list[str]] = {}
    models = table[complete_cases(table)].groupby(["model", "strategy"])["sample"].agg(set)
    for model, strategy in table[["model", "strategy"]].drop_duplicates().itertuples(index=False):
        kept = models.get((model, strategy), set())
        lost = tuple(sample for sample in samples if sample not in kept)
        rows.setdefault(lost, []).append(f"{model}, {strategy}")
    groups = table.groupby("sample")["group"].first().fillna("").astype(str) if "group" in table else None
    texts = []
    for lost, names in rows.items():
        if not lost:
            continue
        text = f"{len(lost)} of {len(samples)} cases left out because a value is missing: {listed(lost)}"
        if groups is not None:
            gone = sorted(set(groups[list(lost)]) - set(groups.drop(list(lost))) - {""})
            text += f"; nothing is left of group {', '.join(gone)}" if gone else ""
        texts.append(text if len(rows) == 1 else f"{'; '.join(names)}: {text}")
    return texts


def listed(samples: Sequence[Any]) -> str:
    """Return the names of samples for a message, the first few of many."""
    return ", ".join(map(str, samples[:_MOST_NAMED])) + (" and others" if len(samples) > _MOST_NAMED else "")


def headline(ranking: list[dict[str, Any]]) -> str | None:
    """Return the first line on a ranking: the highest TCS, as observed and corrected, and its equals.

    None if no row has a TCS.
    """
    compared = [row for row in ranking if row["compared"] and row["TCS"] is not None]
    if not compared:
        return None
    first = compared[0]
    name, observed = f"{first['model']}, {first['strategy']}", f"{first['TCS']:.2f}"
    if len(compared) == 1:
        interval = f" [{first['TCS_ci'][0]:.2f}, {first['TCS_ci'][1]:.2f}]" if first["TCS_ci"] else ""
        return f"TCS of {name}: {observed}{interval}"
    if first["in_set"] is None:
        units = "patients" if first["n_patients"] < first["n"] else "cases"
        why = f"{first['n_patients']} {units} are too few to say from which models it is distinguishable"
        return f"Highest TCS: {name}, {observed} as observed; {why}"
    corrected = f"{corrected_text(first)} corrected for being the highest of {len(compared)}"
    text = f"Highest TCS: {name}, {observed} as observed, {corrected}"
    inside = [row for row in compared if row["in_set"]]
    ranks = f"rank {first['rank_low']}–{first['rank_high']}" if first["rank_high"] > first["rank_low"] else "rank 1"
    if len(inside) == 1:
        return f"{text}; it is distinguishable from all others; {ranks}"
    names = "; ".join(f"{row['model']}, {row['strategy']}" for row in inside)
    text += f"; {len(inside)} of {len(compared)} models are not distinguishable from the highest: {names}; {ranks}"
    if len(inside) == len(compared):
        text += f"; these {first['n']} cases cannot tell the models apart"
    return text


def corrected_text(first: dict[str, Any]) -> str:
    """Return the corrected TCS of the first row of a ranking with its interval."""
    low, high = first["TCS_corrected_ci"]
    return f"{first['TCS_corrected']:.2f} [{low:.2f}, {high:.2f}]"
