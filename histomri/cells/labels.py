"""Masks in which every cell has its own number (StarDist, Cellpose, InstanSeg, QuPath's labelled images).

TIFF is read tile by tile, so memory is that of a tile and 32 bytes for each number up to the largest; PNG and NumPy
files are unpacked whole. A mask does not show classes, and cells hidden below others. Nuclei and cells may be two masks
or two planes of one file; they are paired by their overlap.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from histomri.cells.mask_blobs import Labels, measure_mask
from histomri.cells.mask_files import MaskFile, not_labels, numbers_of, open_mask
from histomri.cells.parsed_export import NUCLEUS_OFFSET, ParsedExport, Wanted
from histomri.core.arrays import FloatArray, IntArray
from histomri.core.door import reading, require_file
from histomri.core.errors import InputError
from histomri.core.tables import read_table

_LABEL_NAMES = ("label", "number", "id", "object_id", "object id", "cellid", "cell_id", "label_id", "")
_CLASS_NAMES = ("class", "classification", "type", "cell_type", "cell type", "celltype", "class_name")
_OVERLAP = 0.5  # of a nucleus that must lie in its cell
_HUGE_UM2, _FEW = 5000.0, 50  # a disc of 80 µm; so few and so large are regions
_SAME_FIELD = 0.02


def read_labels(path: Path, wanted: Wanted) -> ParsedExport:
    """Read a mask of numbered cells; positions and areas are in its own pixels."""
    if wanted.layout is not None or wanted.columns is not None:
        option = "--layout" if wanted.layout is not None else "--columns"
        raise InputError(f"is a picture, so {option} does not apply", path=path, hint=f"leave out {option}")
    with path.open("rb") as stream:
        kind = {b"\x89PNG": "PNG", b"\x93NUM": "NumPy"}.get(stream.read(4), "TIFF")
    says = f"is a {kind} picture, not a table of cells, and it cannot be read ({{}})"
    with reading(path, "mask", says=says, unchecked=True), ExitStack() as stack:
        mask = open_mask(path, stack)
        inner = None if wanted.nuclei_mask is None else _open_nuclei(mask, wanted.nuclei_mask, stack)
        if inner is not None or mask.planes == 2:
            return _read_pair(mask, inner, wanted.split_labels)
        export = _export(mask, found := measure_mask(mask, split=wanted.split_labels))
        if wanted.measurements:
            export.numbers["scatter"], export.units["scatter"] = found.scatter.astype(np.float32), None
        return export


def _export(mask: MaskFile, cells: Labels, nucleus: Labels | None = None, lone: Labels | None = None) -> ParsedExport:
    """Return the cells of a mask; with their nuclei, and then the nuclei that are in no cell, if given."""
    parts = [cells] if lone is None else [cells, lone]
    x, y, area, number = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "y", "area", "number")
    )
    numbers: dict[str, FloatArray] = {"x": x, "y": y}
    kinds = ["detection"] * number.size
    if nucleus is None:
        numbers["area"] = area
    else:
        n_lone = number.size - cells.number.size
        numbers["cell_area"] = np.concatenate([cells.area, np.full(n_lone, np.nan)])
        numbers["nucleus_area"] = np.concatenate([nucleus.area, area[cells.number.size :]])
        offset = np.hypot(nucleus.x - cells.x, nucleus.y - cells.y)
        numbers[NUCLEUS_OFFSET] = np.concatenate([offset, np.full(n_lone, np.nan)])
        kinds = ["cell"] * cells.number.size + ["detection"] * n_lone
    text = {
        "object_id": pa.chunked_array([_names(parts)]),
        "object_type": pa.chunked_array([pa.array(kinds, pa.string()).dictionary_encode()]),
    }
    units: dict[str, str | None] = {name: "px" if name in ("x", "y", NUCLEUS_OFFSET) else "px2" for name in numbers}
    notes = tuple(note for part in parts for note in part.notes)
    return ParsedExport(
        mask.path, number.size, text, numbers, units, dict.fromkeys(numbers, "label"), warnings=notes,
        pixel_size_um=mask.pixel_um, size_px=mask.size_px,
    )  # fmt: skip


def _names(parts: list[Labels]) -> pa.Array:
    """Return an identifier for each object: its number, with that of its part if the number has several."""
    found = []
    for nth, labels in enumerate(parts):
        names = pa.array(labels.number).cast(pa.string())
        if labels.part is not None and (labels.part > 1).any():
            texts = zip(labels.number.tolist(), labels.part.tolist())
            names = pa.array([f"{number}" if part == 1 else f"{number}.{part}" for number, part in texts], pa.string())
        found.append(names if nth == 0 else pa.array([f"nucleus {name}" for name in names.to_pylist()], pa.string()))
    return pa.concat_arrays(found)


def _open_nuclei(cells: MaskFile, path: Path, stack: ExitStack) -> MaskFile:
    require_file(path, "mask of nuclei")
    nuclei = open_mask(path, stack)
    sizes = [" x ".join(map(str, mask.size_px)) for mask in (cells, nuclei)]
    if sizes[0] != sizes[1] or nuclei.planes != 1:
        problem = f"is {sizes[1]} pixels in {nuclei.planes} planes, and the mask of cells {sizes[0]}"
        raise InputError(problem, path=path, hint="export both masks of one field at one resolution")
    known = [mask.pixel_um for mask in (cells, nuclei) if mask.pixel_um is not None]
    if len(known) == 2 and not np.allclose(known[0], known[1], rtol=0.01):
        texts = [f"{pair[0]:.4g} x {pair[1]:.4g} µm" for pair in known]
        problem = f"has pixels of {texts[1]}, and the mask of cells of {texts[0]}"
        raise InputError(problem, path=path, hint="give two masks of one field")
    return nuclei


def _read_pair(mask: MaskFile, nuclei: MaskFile | None, split: bool) -> ParsedExport:
    """Read cells with their nuclei, from two files or from the two planes of one, nuclei first (InstanSeg)."""
    if split:
        hint = "leave out --split-labels, or read one of the masks alone"
        raise InputError("has nuclei and cells, and their numbers cannot be split", path=mask.path, hint=hint)
    inner, inner_plane = (mask, 0) if nuclei is None else (nuclei, 0)
    outer_plane = 1 if nuclei is None else 0
    found, cells = measure_mask(inner, inner_plane), measure_mask(mask, outer_plane)
    if np.median(found.area) > np.median(cells.area):
        if nuclei is not None:
            problem = "has larger outlines than the mask of cells"
            raise InputError(problem, path=nuclei.path, hint="give the mask of cells first, and --nuclei-mask NUCLEI")
        inner_plane, outer_plane, found, cells = 1, 0, cells, found
    nucleus, cell, overlap = _overlaps((inner, inner_plane), (mask, outer_plane))
    row = np.zeros(int(found.number.max()) + 1, dtype=np.intp)
    row[found.number] = np.arange(found.number.size)
    paired = overlap >= _OVERLAP * found.area[row[nucleus]]
    nucleus, cell = nucleus[paired], cell[paired]
    if nucleus.size < _OVERLAP * found.number.size:
        problem = f"only {nucleus.size:,} of {found.number.size:,} nuclei lie in a cell, so the two masks do not fit"
        raise InputError(problem, path=inner.path, hint="give two masks of one field, at one resolution")
    largest = _largest(found, row[nucleus], cell, cells)
    alone = np.isin(found.number, nucleus, invert=True)
    lone = found.where(alone)
    several, empty = int(np.count_nonzero(np.bincount(cell) > 1)), int(np.isnan(largest.area).sum())
    notes = [f"{several:,} cells hold several nuclei, of which the largest is taken"] if several else []
    notes += [f"{empty:,} cells hold no nucleus"] if empty else []
    return _export(mask, replace(cells, notes=tuple(notes)), largest, lone)


def _largest(nuclei: Labels, row: IntArray, cell: IntArray, cells: Labels) -> Labels:
    """Return the largest nucleus of each cell, NaN where it has none, from pairs of a nucleus's row and a cell."""
    chosen = np.full(int(cells.number.max()) + 1, -1, dtype=np.intp)
    order = np.argsort(nuclei.area[row], kind="stable")
    chosen[cell[order]] = row[order]  # of several, the last one stays
    chosen = chosen[cells.number]
    area, x, y, scatter = (
        np.where(chosen >= 0, part[chosen], np.nan) for part in (nuclei.area, nuclei.x, nuclei.y, nuclei.scatter)
    )
    return Labels(cells.number, area, x, y, scatter)


def _overlaps(first: tuple[MaskFile, int], second: tuple[MaskFile, int]) -> tuple[IntArray, IntArray, IntArray]:
    """Return the nuclei that touch a cell, the cell in which most of each lies, and how many pixels that are."""
    keys, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for one, other in _blocks_of_both(first, second):
        both = (one > 0) & (other > 0)
        if both.any():
            key, count = np.unique(one[both].astype(np.int64) << 32 | other[both].astype(np.int64), return_counts=True)
            keys.append(key)
            counts.append(count)
    key, where = np.unique(np.concatenate(keys), return_inverse=True)
    pixels = np.bincount(where, np.concatenate(counts), key.size).astype(np.int64)
    nucleus, cell = key >> 32, key & 0xFFFFFFFF
    order = np.lexsort((pixels, nucleus))
    last = np.flatnonzero(np.concatenate([nucleus[order][1:] != nucleus[order][:-1], [True]])[: order.size])
    best = order[last]
    return nucleus[best], cell[best], pixels[best]


def _blocks_of_both(first: tuple[MaskFile, int], second: tuple[MaskFile, int]) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield the numbers of two masks at the same places."""
    (one, plane), (other, other_plane) = first, second
    if one.fits(other):
        pairs = zip(one.blocks(plane), other.blocks(other_plane), strict=True)
        for (block, *_), (beside, *_) in pairs:
            yield numbers_of(one.path, block), numbers_of(other.path, beside)
    else:
        yield numbers_of(one.path, one.whole(plane)), numbers_of(other.path, other.whole(other_plane))


def check_mask(
    export: ParsedExport, area_um2: FloatArray, field_um: tuple[float, float] | None,
    slide_um: tuple[float, float] | None,
) -> tuple[str, ...]:  # fmt: skip
    """Refuse a mask of regions, and one of another field than the slide (both in µm); return warnings."""
    median = float(np.nanmedian(area_um2))
    if export.n_rows <= _FEW and median > _HUGE_UM2:
        why = f"its {export.n_rows} numbers have {median:,.0f} µm² each: a map of regions, or another pixel size"
        raise not_labels(export.path, why)
    if slide_um is None or field_um is None or export.size_px is None:
        return ()
    if np.allclose(field_um, slide_um, rtol=_SAME_FIELD):
        return ()
    fields = [f"{wide:,.0f} x {high:,.0f} µm" for wide, high in (field_um, slide_um)]
    sides = [of_slide / pixels for of_slide, pixels in zip(slide_um, export.size_px)]
    hint = "give the mask of the whole slide, or leave the slide's facts (--project) out"
    if abs(sides[0] / sides[1] - 1) < _SAME_FIELD:
        hint = (
            f"pass --mpp {np.sqrt(sides[0] * sides[1]):.4g} if the mask is of the whole slide; else leave --project out"
        )
    raise InputError(f"has a field of {fields[0]}, and the slide one of {fields[1]}", path=export.path, hint=hint)


def classify_labels(export: ParsedExport, path: Path) -> tuple[str, ...]:
    """Give the cells of a mask their classes by a table of number and class; return warnings."""
    table = read_table(path)
    label, name = (
        next((one for one in table.names if one.strip().lower() in names), None)
        for names in (_LABEL_NAMES, _CLASS_NAMES)
    )
    if label is None or name is None:
        problem = f"has no columns label and class (its columns: {', '.join(table.names[:8])})"
        raise InputError(problem, path=path, hint="name them label and class")
    known = _classes_by_number(path, table.frame[label].astype(str), table.frame[name].fillna("").astype(str))
    numbers = [text.split(" ")[-1].split(".")[0] for text in export.text["object_id"].to_pylist()]
    classes = [known.get(number) for number in numbers]
    lacking = sum(one is None for one in classes)
    unused = len(set(known) - set(numbers))
    if lacking == len(classes) or (lacking > len(classes) / 2 and unused > len(known) / 2):
        problem = (
            f"names {len(known):,} numbers, and {lacking:,} of the {len(classes):,} of the mask are not among them"
        )
        raise InputError(problem, path=path, hint=f"give the table of {export.path.name}")
    texts = pa.array([one or "" for one in classes], pa.string()).dictionary_encode()
    export.text["classification"] = pa.chunked_array([texts])
    notes = [f"{lacking:,} numbers of the mask have no class in {path.name}"] if lacking else []
    return (*notes, *([f"{unused:,} numbers of {path.name} are not in the mask"] if unused else []))


def _classes_by_number(path: Path, labels: "Iterator[str]", classes: "Iterator[str]") -> dict[str, str]:
    """Return the class of each number; a number with two classes is an error."""
    known: dict[str, str] = {}
    for label, name in zip(labels, classes):
        number = label.strip().removesuffix(".0")
        if not number.isdigit():
            raise InputError(f"holds the label {label[:40]!r}, which is no whole number", path=path)
        if known.setdefault(number, name) != name:
            raise InputError(f"has two classes for label {number}", path=path, hint="keep one row for each label")
    return known


def label_blocks(path: Path, rows: int = 512) -> Iterator[tuple[IntArray, int, int]]:
    """Yield a mask in parts, for what else is measured in its cells: numbers (h, w), column and row of the first pixel.

    Strips of a TIFF are joined to some `rows` rows.
    """
    with ExitStack() as stack:
        mask = open_mask(path, stack)
        strips, first = list[IntArray](), 0
        for pixels, column, row in mask.blocks(mask.planes - 1):
            block = numbers_of(path, pixels)
            if block.shape[1] < mask.size_px[0]:
                yield block, column, row
                continue
            if strips and (row - first >= rows or row != first + sum(map(len, strips))):
                yield np.concatenate(strips), 0, first
                strips = []
            first = first if strips else row
            strips.append(block)
        if strips:
            yield np.concatenate(strips), 0, first


def mask_size(path: Path) -> tuple[int, int]:
    """Return width and height of a mask in its own pixels."""
    with ExitStack() as stack:
        return open_mask(path, stack).size_px
