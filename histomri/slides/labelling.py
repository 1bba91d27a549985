"""Labelling index: the fraction of cells that is positive, over all and in the hot spot."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

POSITIVE = ("Positive", "1+", "2+", "3+")
NEGATIVE = "Negative"
UNCLASSIFIED = "Unclassified"
_LARGEST_BINS = 25_000_000
_STEPS_PER_WINDOW = 10
_LEAST_WINDOW_UM, _ROUND_UM = 200.0, 50.0


@dataclass(frozen=True)
class LabellingIndex:
    """Positive cells per positive and negative cell."""

    value: float  # from 0 to 1; NaN if there is no such cell
    ci95: tuple[float, float]  # Wilson's interval
    n_positive: int
    n_counted: int  # positive and negative cells


@dataclass(frozen=True)
class HotSpot:
    """The window with the highest labelling index."""

    index: LabellingIndex  # the largest of many, so its interval is too narrow for the true largest
    corner_um: tuple[float, float]  # top left corner of the window, x and y
    window_um: float  # edge of the window, a square
    n_windows: int  # windows with enough cells that were compared


@dataclass(frozen=True)
class Classes:
    """Which classifications count as positive and as negative; by default as in QuPath's "Positive %".

    A name given here is that of a whole classification (``Tumor: Ki67 positive``) or of its last part
    (``Ki67 positive``), in capitals or not.
    """

    positive: tuple[str, ...] | None = None  # None: Positive, 1+, 2+, 3+
    negative: tuple[str, ...] | None = None  # None: Negative
    unclassified_negative: bool = False  # whether cells without any class are negative


QUPATH_CLASSES = Classes()


def is_positive(classes: Any, names: Classes = QUPATH_CLASSES) -> tuple[BoolArray, BoolArray, dict[str, int]]:
    """Read QuPath's classifications (N,) as positive or negative, as QuPath's "Positive %" does.

    Of a class, such as ``Positive``, ``Tumor: Negative``, ``Tumor: 2+``, the last name decides; classes with another
    last name and those whose last name ends in ``*`` (ignored in QuPath) are neither, unless `names` says so. Returns
    which cells are positive and negative, (N,) each, and the number of cells by class, the unclassified as
    ``Unclassified``. Raises InputError if a name is of no class of the table, or of both kinds.
    """
    codes, found = pd.factorize(pd.Series(classes).astype("str").fillna(""))
    labels = [_label(str(name)) for name in found]
    counts: dict[str, int] = {}
    for label, total in zip(labels, np.bincount(codes, minlength=len(labels))):
        counts[label] = counts.get(label, 0) + int(total)
    positive = _named(labels, names.positive, POSITIVE, "--positive")
    negative = _named(labels, names.negative, (NEGATIVE,), "--negative")
    if names.negative is not None and names.positive is None:
        positive &= ~negative  # a class that is named is not the one that QuPath's own names make of it
    if names.positive is not None and names.negative is None:
        negative &= ~positive
    if both := [label for label, plus, minus in zip(labels, positive, negative) if plus and minus]:
        problem = f"the class {both[0]!r} is both positive and negative"
        raise InputError(problem, hint="name it in one of --positive and --negative")
    if names.unclassified_negative:
        negative |= np.array([label == UNCLASSIFIED for label in labels], dtype=bool) & ~positive
    return positive[codes], negative[codes], counts


def _label(text: str) -> str:
    text = text.strip()
    return UNCLASSIFIED if text in ("", "None", "nan") else text


def _named(labels: list[str], wanted: tuple[str, ...] | None, usual: tuple[str, ...], option: str) -> BoolArray:
    """Return which of the classes are among the wanted ones; the usual ones are those of QuPath, by the last name."""
    last = [label.split(":")[-1].strip() for label in labels]
    if wanted is None:
        return np.array([name in usual for name in last], dtype=bool)
    chosen = np.zeros(len(labels), dtype=bool)
    whole = [": ".join(part.strip() for part in label.lower().split(":")) for label in labels]
    for name in wanted:
        key = ": ".join(part.strip() for part in name.lower().split(":"))
        found = np.array([key in (full, end.lower()) for full, end in zip(whole, last)], dtype=bool)
        if not found.any():
            near = get_close_matches(key, [*whole, *(end.lower() for end in last)], 1, 0.5)
            meant = next((f"; did you mean {label!r}?" for label, full, end in zip(labels, whole, last)
                          if near and near[0] in (full, end.lower())), "")  # fmt: skip
            problem = f"no cell has the class {name!r} of {option}; the classes are {', '.join(labels[:10])}{meant}"
            raise InputError(problem, hint=f"name a class of the table, {option} NAME")
        chosen |= found
    return chosen


def wilson_interval(n_positive: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a proportion (Wilson 1927, doi 10.1080/01621459.1927.10502953); NaN if n is 0.

    Examples
    --------
    >>> wilson_interval(12, 100)
    (0.0699940643701949, 0.19812099426711421)
    """
    if n == 0:
        return float("nan"), float("nan")
    z = float(ndtri(0.5 + confidence / 2))
    fraction = n_positive / n
    middle = (fraction + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2))
    # The ends are exact where every cell is alike, which rounding would spoil.
    return 0.0 if n_positive == 0 else float(middle - half), 1.0 if n_positive == n else float(middle + half)


def labelling_index(positive: BoolArray, negative: BoolArray) -> LabellingIndex:
    """Return the labelling index of cells; the arrays are those of `is_positive`.

    Examples
    --------
    >>> import numpy as np
    >>> positive = np.array([True, False, False, True])
    >>> labelling_index(positive, ~positive).value
    0.5
    """
    n_positive, n_negative = (int(np.count_nonzero(cells)) for cells in (positive, negative))
    return _index(n_positive, n_positive + n_negative)


def hot_spot(
    x_um: FloatArray, y_um: FloatArray, positive: BoolArray, negative: BoolArray, *, window_um: float | None = None,
    min_cells: int = 500,
) -> HotSpot | None:  # fmt: skip
    """Find the window with the highest labelling index among those with enough cells; None if there is none.

    A square window slides by a tenth of its edge. Of equal windows the one with more cells is taken, then the upper
    left one. `x_um`, `y_um` (N,) are the centroids of the cells; those neither positive nor negative (N,) are not
    counted. `window_um` is the edge of the window; if not given, the one that holds twice `min_cells` where cells lie
    as densely as they do around the average cell, rounded up to 50 µm. `min_cells` are those that it must hold.
    """
    counted = positive | negative
    if min_cells < 1:
        raise InputError(f"a hot spot of {min_cells} cells is not possible", hint="pass at least 1; 500 is usual")
    if np.count_nonzero(counted) < min_cells:
        return None
    x, y, stained = x_um[counted], y_um[counted], positive[counted]
    window = _usual_window(x, y, min_cells) if window_um is None else float(window_um)
    if not (np.isfinite(window) and window > 0):
        raise InputError(f"a window of {window_um} µm is not possible", hint="pass its edge in µm, such as 500")
    step = window / _STEPS_PER_WINDOW
    column, row = ((values // step).astype(np.int64) for values in (x, y))
    corner = int(column.min()), int(row.min())
    shape = (int(row.max()) - corner[1] + 1, int(column.max()) - corner[0] + 1)
    if shape[0] * shape[1] > _LARGEST_BINS:
        problem = f"a window of {window:g} µm slides over {shape[0] * shape[1]:,} places, which are too many"
        raise InputError(problem, hint="check the unit of the positions, or take a larger window")
    flat, n_bins = (row - corner[1]) * shape[1] + column - corner[0], shape[0] * shape[1]
    totals, hits = (_window_sums(np.bincount(at, minlength=n_bins).reshape(shape)) for at in (flat, flat[stained]))
    enough = totals >= min_cells
    if not enough.any():
        return None
    index = np.where(enough, hits / np.maximum(totals, 1), -1.0)
    best = int(np.argmax(np.where(index == index.max(), totals, -1)))
    place = np.unravel_index(best, totals.shape)
    left, top = (float((bin_ - _STEPS_PER_WINDOW + 1 + low) * step) for bin_, low in zip(place[::-1], corner))
    return HotSpot(_index(int(hits[place]), int(totals[place])), (left, top), window, int(np.count_nonzero(enough)))


def _window_sums(bins: IntArray) -> IntArray:
    """Return the sum over every window of 10 x 10 bins, also those that stick out, by the integral image."""
    n = _STEPS_PER_WINDOW
    padded = np.pad(bins, ((n, n - 1), (n, n - 1)))
    total = padded.cumsum(axis=0).cumsum(axis=1)
    return np.asarray(total[n:, n:] - total[:-n, n:] - total[n:, :-n] + total[:-n, :-n])


def _usual_window(x: FloatArray, y: FloatArray, min_cells: int) -> float:
    """Return an edge whose square holds twice `min_cells` at the density around the average cell."""
    bins = np.unique(np.stack([x // _LEAST_WINDOW_UM, y // _LEAST_WINDOW_UM]), axis=1, return_counts=True)[1]
    density = float((bins.astype(float) ** 2).sum() / bins.sum()) / _LEAST_WINDOW_UM**2
    edge = np.sqrt(2 * min_cells / density)
    return float(max(np.ceil(edge / _ROUND_UM) * _ROUND_UM, _LEAST_WINDOW_UM))


def _index(n_positive: int, n: int) -> LabellingIndex:
    return LabellingIndex(n_positive / n if n else float("nan"), wilson_interval(n_positive, n), n_positive, n)
