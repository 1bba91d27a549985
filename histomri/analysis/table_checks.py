"""What people's spreadsheets hold besides measurements, and names that they spell in several ways."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from histomri.core.columns import LABELS, contradicted
from histomri.core.errors import InputError, UnitError
from histomri.core.tables import SHEETS, as_text, fraction_of_numbers, hint_for, line_at

# Rows below a table that summarise it. Words of the second list are also names of samples (N, T for normal, tumour);
# they count beside one of the first.
_SUMMARY = re.compile(
    r"(mean|average|avg|mittelwert|media|moyenne|median|sd|s\.d|std|stdev|std\W*dev|standard deviation|sem|s\.e\.m|"
    r"total|subtotal|grand total|mean\W*(±|\+/?-|and|\()\W*(sd|sem|s\.d).*|95\W*% ?ci.*|n =.*)[.:]?",
    re.IGNORECASE,
)
_PERHAPS = re.compile(r"(n|se|cv|min|minimum|max|maximum|sum|range|count|iqr|var|variance|p|q1|q3)[.:]?", re.IGNORECASE)
_UNIT = re.compile(
    r"(µm|μm|um|mm|nm|cm|m|ms|s|d|days?|h|y|years?|%|ml|g|kg|mt/m|t)([²³23]|\^[23])?"
    r"(/(ms|s|mm|cm|ml|kg)([²³23]|\^[23])?)?|(1|cells?|s)?/ ?(mm|cm|um|µm)([²³23]|\^[23])|(mm|cm)\^?-[23]",
    re.IGNORECASE,
)
_NO_UNIT = {"", "-", "–", "1", "none", "a.u.", "au", "n/a", "fraction", "unit", "units", "text", "id", "name"}
_NAMED = 3  # examples of a mistake


def without_units_row(frame: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, pd.DataFrame | None, list[str]]:
    """Return a table without its first row if that holds units, the row, and a note of it."""
    if not len(frame) or not _holds_units(frame):
        return frame, None, []
    line = line_at(frame.index[0])
    return frame.iloc[1:], frame.iloc[:1], [f"{path.name}: line {line} holds units, and was left out"]


def unit_mistakes(units: pd.DataFrame, path: Path) -> list[InputError]:
    """Return an error for each column that is in another unit than its name says."""
    found: list[InputError] = []
    for name in units.columns:
        given = _bare(as_text(units[name]).iloc[0])
        if given in _NO_UNIT or name in LABELS:
            continue
        if expected := contradicted(str(name), given):
            problem = (
                f"line {line_at(units.index[0])} gives column '{name}' in '{given}', and its name says '{expected}'"
            )
            found.append(UnitError(problem, path=path, hint="convert the column, or give it the name of its unit"))
    return found


def label_mistakes(frame: pd.DataFrame, labels: Iterable[str], path: Path) -> list[InputError]:
    """Return errors for summaries that would become samples, failed cells, and names spelt in several ways."""
    found: list[InputError] = []
    for name in labels:
        column = frame[name].drop_duplicates()
        lines: dict[str, int] = {}
        for place, text in zip(column.index, as_text(column)):
            lines.setdefault(text, line_at(place))
        lines.pop("", None)
        for text, line in lines.items():
            named_so = text.startswith("=") and path.suffix.lower() not in SHEETS  # in CSV it is text, as any name
            if not named_so and (text.lower() == "#n/a" or hint_for(text)):
                hint = hint_for(text) or "write the name, or empty the cell"
                found.append(InputError(f"column '{name}', line {line}: '{text}' is no name", path=path, hint=hint))
        found += _spelt_twice(name, lines, path)
        if name == "sample":
            found += _summaries(name, lines, path)
    if "sample" not in frame and len(frame.columns) and not pd.api.types.is_numeric_dtype(frame.iloc[:, 0]):
        first = as_text(frame.iloc[:, 0])
        lines = {text: line_at(place) for place, text in first.drop_duplicates().items() if text}
        found += _summaries(str(frame.columns[0]), lines, path)
    return found


def without_missing(frame: pd.DataFrame, words: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return a table with cells empty that hold one of the words, labels aside, and notes with their number."""
    wanted = {word.strip().casefold() for word in words}
    changed, counts = {}, []
    for name in frame.columns:
        if name in LABELS or pd.api.types.is_numeric_dtype(frame[name]) or not wanted:
            continue
        cells = as_text(frame[name])
        gone = cells.str.casefold().isin(wanted)
        if gone.any():
            changed[name] = frame[name].where(~gone, "")
            counts.append(f"{int(gone.sum())} of '{name}'")
    notes = [f"{path.name}: cells read as missing, as --missing says: {', '.join(counts)}"] if counts else []
    return frame.assign(**changed), notes


def _holds_units(frame: pd.DataFrame) -> bool:
    first, rest = frame.iloc[0], frame.iloc[1:200]
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    if len(texts) < len(frame.columns) or rest.empty:
        return False
    units = 0
    for name in texts:
        cell = _bare(str(first[name]).strip())
        if name not in LABELS and fraction_of_numbers(rest[name]) > 0.5:
            if not (cell in _NO_UNIT or _UNIT.fullmatch(cell)):
                return False
            units += bool(_UNIT.fullmatch(cell))
        elif cell and (name in LABELS or name == frame.columns[0]) and cell not in _NO_UNIT:
            return False
    return units > 0


def _bare(cell: str) -> str:
    """Return a unit without the brackets around it."""
    return cell.strip("()[]{} ").strip() if cell.lower() not in _NO_UNIT else cell.lower()


def _key(name: str) -> str:
    """Return what is left of a name without its case, spaces, leading zeros and decimal zeros."""
    text = re.sub(r"\s+", "", name.casefold())
    text = re.sub(r"(?<=\d)\.0+(?![\d.])", "", text)
    return re.sub(r"(?<![\d.])0+(?=\d)", "", text)


def _spelt_twice(name: str, lines: dict[str, int], path: Path) -> list[InputError]:
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for text in lines:
        alike[_key(text)].append(text)
    several = [texts for texts in alike.values() if len(texts) > 1]
    if not several:
        return []
    shown = ["and".join(f" '{text}' (line {lines[text]}) " for text in texts[:4]).strip() for texts in several[:_NAMED]]
    more = f", and {len(several) - _NAMED} more" if len(several) > _NAMED else ""
    problem = f"column '{name}' has names that differ only in case, spaces, leading zeros or '.0': "
    problem += f"{'; '.join(shown)}{more}"
    return [InputError(problem, path=path, hint="write a name the same way in all rows")]


def _summaries(name: str, lines: dict[str, int], path: Path) -> list[InputError]:
    sure = [text for text in lines if _SUMMARY.fullmatch(text)]
    if not sure:
        return []
    found = [text for text in lines if text in sure or _PERHAPS.fullmatch(text)]
    where = ", ".join(f"'{text}' (line {lines[text]})" for text in found)
    problem = f"column '{name}' has rows that look like summaries and no samples: {where}"
    return [InputError(problem, path=path, hint="delete these rows")]
