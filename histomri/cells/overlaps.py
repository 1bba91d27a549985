"""Cells inside other cells: second runs, overlapping runs and doubles at the seams of tiles.

A cell lies inside another if its centroid is nearer to the other's than the other's radius, sqrt(area / pi). Cells of
tissue hardly do: outlines that touch are as far apart as both radii together. The pairs are found on a grid.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histomri.cells.spacing import check_spacing
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

_COMMON = 0.98  # quantile of the radius up to which cells share one grid; the few larger ones have a coarser one
_GIANT = 20.0  # times the median radius: no cell, so nothing is searched inside it
_SAME_AREA = 1.25  # ratio of areas up to which two outlines are taken for one object
_MOST_PAIRS = 1 << 24
_BAND = 1 << 16  # cells that are compared at once
_BY_CHANCE = 0.001  # of the cells of tissue lie in a bent or long neighbour, none of them near its centre
_LINE_UM = 2.0  # doubles of a seam lie on a line about as wide as a cell
_REMEDY = "; --doubles drop keeps the larger or first of each"
_TOO_DENSE = 3.0  # cells inside one cell, on average: no double detection but a wrong unit


@dataclass(frozen=True)
class Overlaps:
    """Pairs of cells of which one lies inside the other.

    Attributes
    ----------
    inner, outer : (pairs,) ndarray of int
        Row of the cell whose centroid lies inside, and of the one around it; the larger, or first, is the outer one.
    n : int
        Number of cells that were compared.
    complete : bool
        Whether all pairs were found; with very many the search ends.
    """

    inner: IntArray
    outer: IntArray
    n: int
    complete: bool = True

    @property
    def n_inside(self) -> int:
        """Number of cells that lie inside at least one other."""
        return int(np.unique(self.inner).size)

    @property
    def too_dense(self) -> bool:
        """Whether so many cells lie in each other that positions and sizes cannot be in one unit."""
        return self.n_inside > self.n / 2 and self.inner.size > _TOO_DENSE * self.n


def find_overlaps(x_um: FloatArray, y_um: FloatArray, area_um2: FloatArray) -> Overlaps:
    """Find the cells inside other cells; all arrays are of shape (N,), µm and µm².

    Examples
    --------
    >>> found = find_overlaps(np.array([0.0, 1.0, 20.0]), np.zeros(3), np.array([80.0, 80.0, 80.0]))
    >>> found.inner, found.outer
    (array([1]), array([0]))
    """
    n = x_um.size
    if n < 2:
        return Overlaps(np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), n)
    # A sample says where most radii are; sorting a million of them takes longer than the search for pairs.
    some = area_um2[:: max(1, n // 10_000)] * (1 / np.pi)
    common, giant = float(np.quantile(some, _COMMON)), _GIANT**2 * float(np.median(some))
    order = np.argsort(y_um)
    sorted_y, reach = y_um[order], float(np.sqrt(min(float(area_um2.max()) / np.pi, giant)))
    firsts, seconds, complete, total = [order[:0]], [order[:0]], True, 0
    for start in range(0, n, _BAND):  # band by band, as the memory for all at once is more than the table's
        stop = min(start + _BAND, n)
        rows = order[start : max(stop, int(np.searchsorted(sorted_y, sorted_y[stop - 1] + reach, side="right")))]
        one, other, whole = _pairs_within(x_um[rows], y_um[rows], area_um2[rows] * (1 / np.pi), common, giant)
        own = (one < stop - start) | (other < stop - start)  # the others are pairs of the next band
        firsts.append(rows[one[own]])
        seconds.append(rows[other[own]])
        total += firsts[-1].size
        complete &= whole
        if total > _MOST_PAIRS:
            complete = False
            break
    inner, outer = _ordered(area_um2, np.concatenate(firsts), np.concatenate(seconds))
    if inner.size:  # two large cells that lie in each other were found twice
        _, once = np.unique(inner.astype(np.int64) * n + outer, return_index=True)
        inner, outer = inner[once], outer[once]
    return Overlaps(inner, outer, n, complete)


def _pairs_within(
    x: FloatArray, y: FloatArray, reach: FloatArray, common: float, giant: float
) -> tuple[IntArray, IntArray, bool]:
    """Return the pairs of some points of which one is inside the other; `reach` is the square of the radius (µm²)."""
    are_larger = (reach > common) & (reach <= giant)
    any_larger = bool(are_larger.any())
    grid = _Grid.of(x, y, np.sqrt(common), np.sqrt(reach[are_larger].max()) if any_larger else 0.0)
    points = _Points(x[grid.order], y[grid.order], reach[grid.order])
    found = [_among_common(grid, points, common)]
    if any_larger:
        found.append(_inside_larger(grid, points, are_larger[grid.order]))
    first, second = (grid.order[np.concatenate([pairs[at] for pairs in found])] for at in (0, 1))
    return first, second, all(pairs[2] for pairs in found)


@dataclass(frozen=True)
class _Points:
    """Points in the order of a grid: x, y (µm), and the square of the radius (µm²), each (N,)."""

    x: FloatArray
    y: FloatArray
    reach: FloatArray

    def distance(self, i: IntArray, j: IntArray) -> FloatArray:
        """Return the square of the distance between some points."""
        return np.asarray(np.square(self.x[i] - self.x[j]) + np.square(self.y[i] - self.y[j]))


@dataclass(frozen=True)
class _Grid:
    """Points sorted by the square that they are in, with a margin of empty squares all around."""

    order: IntArray  # (N,) row of each point, in the order of the grid
    place: IntArray  # (N,) square of each, in that order
    starts: IntArray  # of each square, the first of its points
    wide: int  # squares in a row
    margin: int  # squares that the largest radius reaches over

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray, side: float, largest: float) -> "_Grid":
        """Sort points into squares of at least this side (µm); `largest` is the largest radius."""
        left, top = float(x.min()), float(y.min())
        across, down = float(x.max()) - left, float(y.max()) - top
        side = max(side, 1e-6, across / 1e6, down / 1e6, float(np.sqrt(across * down / (2 * x.size + 1000))))
        margin = max(int(np.ceil(largest / side)), 1)
        column, row = ((x - left) * (1 / side)).astype(np.int32), ((y - top) * (1 / side)).astype(np.int32)
        wide, high = int(column.max()) + 1 + 2 * margin, int(row.max()) + 1 + 2 * margin
        place = (row + margin) * wide + (column + margin)
        del row, column
        order = np.argsort(place)
        starts: IntArray = np.zeros(wide * high + 1, dtype=np.int32 if x.size < 2**31 else np.int64)
        np.cumsum(np.bincount(place, minlength=wide * high), out=starts[1:])
        return cls(order, place[order], starts, wide, margin)

    def around(self, place: IntArray, row: int, reach: int) -> tuple[IntArray, IntArray]:
        """Return the first point, and the one after the last, in the squares of a row near to some squares."""
        middle = place + row * self.wide
        return self.starts[middle - reach], self.starts[middle + (reach + 1)]


def _among_common(grid: _Grid, points: _Points, common: float) -> tuple[IntArray, IntArray, bool]:
    """Return pairs nearer to each other than the larger of their radii, as far as these are common ones."""
    reach = np.where(points.reach <= common, points.reach, -1.0)
    ranges = ((np.arange(1, reach.size + 1), grid.around(grid.place, 0, 1)[1]), grid.around(grid.place, 1, 1))
    return _pairs(ranges, lambda i, j: points.distance(i, j) < np.maximum(reach[i], reach[j]))


def _inside_larger(grid: _Grid, points: _Points, are_larger: BoolArray) -> tuple[IntArray, IntArray, bool]:
    """Return pairs of a cell that is larger than most, and a cell inside it."""
    own = np.flatnonzero(are_larger)
    ranges = (grid.around(grid.place[own], row, grid.margin) for row in range(-grid.margin, grid.margin + 1))
    reach = points.reach[own]
    first, second, complete = _pairs(
        ranges, lambda i, j: np.asarray((points.distance(own[i], j) < reach[i]) & (own[i] != j))
    )
    return own[first], second, complete


def _pairs(
    ranges: Iterable[tuple[IntArray, IntArray]], are_near: Callable[[IntArray, IntArray], BoolArray]
) -> tuple[IntArray, IntArray, bool]:
    """Return i and j of the pairs that are near, of each i with j from start[i] to stop[i]; and whether all are there.

    One j of every i at a time: in tissue there are few.
    """
    none: IntArray = np.zeros(0, dtype=np.intp)
    firsts, seconds, total = [none], [none], 0
    for start, stop in ranges:
        i = np.flatnonzero(start < stop)
        j, stop = start[i], stop[i]
        while i.size:
            near = are_near(i, j)
            firsts.append(i[near])
            seconds.append(j[near])
            if (total := total + firsts[-1].size) > _MOST_PAIRS:
                return np.concatenate(firsts), np.concatenate(seconds), False
            j = j + 1
            left = j < stop
            i, j, stop = i[left], j[left], stop[left]
    return np.concatenate(firsts), np.concatenate(seconds), True


def _ordered(area: FloatArray, first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
    """Return inner and outer cell of each pair: the outer is the larger, of about equal ones the first row."""
    ratio = area[first] / area[second]
    alike = (ratio < _SAME_AREA) & (ratio > 1 / _SAME_AREA)
    first_is_outer = np.where(alike, first < second, ratio > 1)
    return np.where(first_is_outer, second, first), np.where(first_is_outer, first, second)


def to_drop(overlaps: Overlaps) -> BoolArray:
    """Return which cells to drop, (N,), so that none is left inside another: the inner ones, from the largest down.

    A cell that is itself dropped drops no other.
    """
    dropped, open_ = np.zeros(overlaps.n, dtype=bool), np.ones(overlaps.inner.size, dtype=bool)
    while open_.any():
        inner, outer = overlaps.inner[open_], overlaps.outer[open_]
        undecided = np.zeros(overlaps.n, dtype=bool)
        undecided[inner] = True
        sure = ~undecided[outer]  # nothing open is around the outer cell, so it stays
        if not sure.any():  # a ring of cells that lie in each other
            sure = inner == inner.max()
        dropped[inner[sure]] = True
        open_ &= ~(dropped[overlaps.inner] | dropped[overlaps.outer])
    return dropped


def describe(overlaps: Overlaps, x_um: FloatArray, y_um: FloatArray, area_um2: FloatArray, files: IntArray) -> str:
    """Return a warning about the cells inside others, with the likely cause.

    `files` (N,) is the number of the file that each cell is from.
    """
    n, inside = overlaps.n, overlaps.n_inside
    if overlaps.too_dense:
        packed = f"{inside:,} of {n:,} cells lie inside other cells, {overlaps.inner.size / n:.0f} in each on average"
        return f"{packed}: positions and areas cannot both be in the unit that they are said to have"
    text = f"{inside:,} of {n:,} cells lie inside another cell (centroid within its radius)"
    if not overlaps.complete:
        text = f"more than {inside:,} of {n:,} cells lie inside another cell (centroid within its radius)"
    return f"{text}: {_cause(overlaps, x_um, y_um, area_um2, files)}, so they may count twice{_REMEDY}"


def _cause(overlaps: Overlaps, x: FloatArray, y: FloatArray, area: FloatArray, files: IntArray) -> str:
    inner, outer = overlaps.inner, overlaps.outer
    if np.mean(files[inner] != files[outer]) > 0.5:
        return "the files overlap"
    if np.median(area[outer] / area[inner]) > 2:
        return "smaller outlines within larger ones, such as nuclei or fragments within cells"
    if overlaps.n_inside > 0.3 * overlaps.n:
        return "a second run of the detection" if _close(overlaps, x, y, area) else "outlines that overlap"
    if inner.size >= 10 and (_on_lines(x[inner], x) or _on_lines(y[inner], y)):
        return "doubles along the seams of tiles"
    return "a second run, an overlap of annotations, or outlines that overlap"


def _close(overlaps: Overlaps, x: FloatArray, y: FloatArray, area: FloatArray) -> bool:
    """Whether most of the pairs are at one place: of cells placed by chance, a quarter are within half a radius."""
    inner, outer = overlaps.inner, overlaps.outer
    distance = np.square(x[inner] - x[outer]) + np.square(y[inner] - y[outer])
    return bool(np.mean(distance < area[outer] / (4 * np.pi)) > 0.5)


def _on_lines(values: FloatArray, everyone: FloatArray) -> bool:
    """Whether most values lie within a few narrow bands."""
    low, high = float(everyone.min()), float(everyone.max())
    n_bins = max(int((high - low) / (5 * _LINE_UM)), 1)
    counts, _ = np.histogram(values, n_bins, (low, high))
    filled = np.sort(counts)[::-1]
    few = max(n_bins // 20, 1)
    return n_bins >= 20 and filled[:few].sum() > 0.7 * values.size


@dataclass(frozen=True)
class Doubles:
    """What becomes of the cells that lie inside others: warnings, and which to drop, (N,), or None for none."""

    notes: tuple[str, ...] = ()
    drop: BoolArray | None = None


def settle_doubles(
    data: pd.DataFrame, files: NDArray[np.int8], choice: Literal["keep", "drop", "error"], paths: Sequence[Path]
) -> Doubles:
    """Find cells inside others in a table of cells; keep and report them, drop them, or raise InputError.

    `files` (N,) is the number of the file, of `paths`, that each cell is from.
    """
    x, y, area = (data[name].to_numpy(dtype=float) for name in ("x_um", "y_um", "area_um2"))
    found = find_overlaps(x, y, area)
    outside = np.ones(found.n, dtype=bool)
    outside[found.inner] = False
    crowded = check_spacing(data, outside)
    notes = () if crowded is None or found.too_dense else (crowded,)
    if not found.inner.size:
        return Doubles(notes)
    text = describe(found, x, y, area, files)
    path = paths[0] if len(paths) == 1 else None
    if choice == "error":
        hint = "pass --doubles drop to keep the larger or first of each, or --doubles keep"
        raise InputError(text.removesuffix(_REMEDY), path=path, hint=hint)
    if choice == "keep":
        by_chance = found.n_inside <= _BY_CHANCE * found.n and not _close(found, x, y, area)
        return Doubles(notes if by_chance else (text, *notes))
    if not found.complete or found.too_dense:
        raise InputError(text.removesuffix(_REMEDY), path=path, hint="check the unit of positions and areas")
    drop = to_drop(found)
    return Doubles(
        (f"{int(np.count_nonzero(drop)):,} cells inside another cell were dropped (--doubles drop)", *notes), drop
    )
