"""Sums over the numbers of a mask, and numbers that are in several places."""

from dataclasses import dataclass, replace

import numpy as np

from histomri.cells.mask_files import MaskFile, not_labels, numbers_of
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

# The scatter of the pixels of a number, relative to that of a disc of its area: an ellipse of 1 : 5 has 2.6, two discs
# apart by more than three of their radii have 5.
_SCATTERED = 5.0
_PART = 0.1  # of the pixels of a number: smaller parts are specks that some programs leave
_SPECK_PX = 4
_LARGEST_CHECKED = 200_000_000  # pixels of a mask that is looked at part by part
_FEW = 12  # a map of classes has no more numbers than this
_HUGE_PX, _HUGE_SHARE = 10_000, 0.05


@dataclass
class Sums:
    """Per number: pixels, and sums of their columns, rows, and squares of both."""

    count: IntArray
    x: FloatArray
    y: FloatArray
    squares: FloatArray

    @classmethod
    def empty(cls) -> "Sums":
        """Return the sums of nothing."""
        return cls(np.zeros(1 << 16, dtype=np.int64), *(np.zeros(1 << 16) for _ in range(3)))

    def add(self, labels: IntArray, column: int, row: int) -> None:
        """Add a block whose first pixel is at (column, row)."""
        if not labels.size or not labels.max():
            return
        rows, columns = np.nonzero(labels)
        found = labels[rows, columns].astype(np.int64)
        most = int(found.max()) + 1
        if most > self.count.size:
            room = max(most, 2 * self.count.size)
            for values in (self.count, self.x, self.y, self.squares):
                values.resize(room, refcheck=False)
        # Within a block the numbers lie close together, so the sums are taken over their range only.
        least = int(found.min())
        span = slice(least, most)
        found -= least
        x, y = columns + (column + 0.5), rows + (row + 0.5)
        self.count[span] += np.bincount(found, minlength=most - least)
        self.x[span] += np.bincount(found, x, most - least)
        self.y[span] += np.bincount(found, y, most - least)
        np.square(x, out=x)
        x += np.square(y, out=y)
        self.squares[span] += np.bincount(found, x, most - least)

    def scatter(self, labels: IntArray) -> FloatArray:
        """Return the scatter of the pixels of some numbers; 1 for a disc, more for a long or torn shape."""
        n = self.count[labels].astype(float)
        mean = np.square(self.x[labels] / n) + np.square(self.y[labels] / n)
        return np.asarray(2 * np.pi * (self.squares[labels] / n - mean) / n)


@dataclass(frozen=True)
class Labels:
    """The cells of one mask: number, pixels, and centroid (pixels) of each, (N,)."""

    number: IntArray
    area: FloatArray
    x: FloatArray
    y: FloatArray
    scatter: FloatArray  # of the pixels, relative to that of a disc
    part: IntArray | None = None  # which part of its number each is, from 1, if numbers were split
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, sums: Sums) -> "Labels":
        """Return the numbers that have pixels."""
        labels = np.flatnonzero(sums.count)
        area = sums.count[labels].astype(float)
        return cls(labels, area, sums.x[labels] / area, sums.y[labels] / area, sums.scatter(labels))

    def where(self, keep: IntArray | BoolArray) -> "Labels":
        """Return some of them, without what is known of parts and without notes."""
        return Labels(self.number[keep], self.area[keep], self.x[keep], self.y[keep], self.scatter[keep])


def measure_mask(mask: MaskFile, plane: int = 0, *, split: bool = False) -> Labels:
    """Measure the numbers of a mask.

    Raises
    ------
    InputError
        If it is no mask of numbered cells, or if numbers are in several places and are not to be split.
    """
    if split:
        return _split(mask, plane)
    path, sums = mask.path, Sums.empty()
    for block, column, row in mask.blocks(plane):
        sums.add(numbers_of(path, block), column, row)
    found = Labels.of(sums)
    _check(mask, found)
    torn = found.number[found.scatter > _SCATTERED]
    if torn.size:
        _refuse_torn(mask, plane, found, torn)
    return found


def _check(mask: MaskFile, found: Labels) -> None:
    n = found.number.size
    if n == 0:
        raise InputError("is a mask without any cell: all its pixels are 0", path=mask.path)
    if n == 1:
        raise not_labels(mask.path, "all its cells have one number; export instances, each with a number of its own")
    middle, pixels = float(np.median(found.area)), mask.size_px[0] * mask.size_px[1]
    if middle < _SPECK_PX:
        raise not_labels(mask.path, f"its {n:,} numbers have {middle:.3g} pixels each, as colours have")
    full = found.area.sum() == pixels and middle > 100
    if n <= _FEW and (full or (middle >= _HUGE_PX and middle >= _HUGE_SHARE * pixels)):
        filled = found.area.sum() / pixels
        raise not_labels(mask.path, f"its {n} numbers fill {filled:.0%} of it: a map of classes or regions")


def _refuse_torn(mask: MaskFile, plane: int, found: Labels, torn: IntArray) -> None:
    """Raise an error if some numbers are in several places, and not only have specks."""
    parts = None
    if mask.size_px[0] * mask.size_px[1] <= _LARGEST_CHECKED:
        wanted = np.zeros(int(found.number.max()) + 1, dtype=bool)
        wanted[torn] = True
        torn, parts = _torn(mask, plane, wanted)
        if not torn.size:
            return
    which = ", ".join(map(str, torn[:3])) + (", ..." if torn.size > 3 else "")
    text = f"{torn.size:,} of its {found.number.size:,} numbers are in several places ({which})"
    text += f", {parts:,} parts in all" if parts else ""
    if found.number.size <= _FEW:
        cause = "it is a map of classes, or numbers were lost"
    elif found.number.max() == 255:
        cause = "numbers above 255 were cut to 8 bits"
    else:
        cause = "they were used again in another tile, or cut to fewer bits"
    hint = "export the mask with a number of its own for each cell, or pass --split-labels to make each part a cell"
    raise InputError(f"{text}: {cause}, so sizes and positions would be wrong", path=mask.path, hint=hint)


def _torn(mask: MaskFile, plane: int, wanted: BoolArray) -> tuple[IntArray, int]:
    """Return which of some numbers have more than one part that is no speck, and the number of their parts."""
    labels = numbers_of(mask.path, mask.whole(plane))
    number, area = _parts(np.where(wanted[labels], labels, 0))[1:]
    if not number.size:
        return np.zeros(0, dtype=np.int64), 0
    total = np.bincount(number, area)
    large = area >= np.maximum(_PART * total[number], _SPECK_PX)
    count = np.bincount(number[large], minlength=total.size)
    return np.flatnonzero(count > 1), int(count[count > 1].sum())


def _parts(labels: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Return the picture of connected parts of one number, and number and pixels of each part from 1 on."""
    from skimage.measure import label

    parts = np.asarray(label(labels, background=0, connectivity=2))
    area = np.bincount(parts.ravel())
    number = np.zeros(area.size, dtype=np.int64)
    number[parts.ravel()] = labels.ravel()
    return parts, number[1:], area[1:]


def _split(mask: MaskFile, plane: int) -> Labels:
    """Measure every connected part of every number as a cell; specks are left out and counted."""
    if mask.size_px[0] * mask.size_px[1] > _LARGEST_CHECKED:
        problem = f"is a mask of {mask.size_px[0]} x {mask.size_px[1]} pixels, too large for --split-labels"
        raise InputError(problem, path=mask.path, hint="export it with a number of its own for each cell, or in fields")
    parts, number, area = _parts(numbers_of(mask.path, mask.whole(plane)))
    sums = Sums.empty()
    sums.add(parts, 0, 0)
    found = Labels.of(sums)
    _check(mask, found)
    total = np.bincount(number, area)
    speck = (area < _SPECK_PX) | ((area < _PART * total[number]) & (area < 4 * _SPECK_PX))
    keep = np.flatnonzero(~speck)
    nth = np.ones(number.size, dtype=np.int64)
    order = keep[np.argsort(number[keep], kind="stable")]
    first = np.flatnonzero(np.concatenate([[True], number[order][1:] != number[order][:-1]]))
    nth[order] = np.arange(order.size) - np.repeat(first, np.diff([*first, order.size])) + 1
    several = np.bincount(number[keep], minlength=total.size) > 1
    notes = [f"{int(several.sum()):,} numbers were split into their parts (--split-labels)"] if several.any() else []
    if speck.any():
        notes.append(f"{int(speck.sum()):,} specks of a few pixels were left out (--split-labels)")
    return replace(found.where(keep), number=number[keep], part=nth[keep], notes=tuple(notes))
