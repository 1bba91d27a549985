"""Where cells were looked for: the regions of a file that the cells themselves vouch for.

An annotation says what somebody drew, not where detection was run. Cells of histomri's own export name the annotation
that each was found in. Where they do not, an annotation that has no cells on its own ground, the part of it that no
smaller annotation covers, beside others that are full of them, was most likely not looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells.region_choice import ChosenRegions, RegionChoice, choose_regions, names_of, polygonal
from histomri.cells.regions import Region
from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

_RIM_UM = 20.0  # centroids of cells at the edge of their annotation may lie so far beyond it
_NO_GROUND = 0.01  # of the area of a region: with less of its own, it is the sum of smaller ones
_SAME = 0.99  # of the area of a region: with more of it looked at, all of it was
_FEW, _EXPECTED = 0.02, 50.0  # below this ratio to the densest, and with so many expected, it is not clear
_LEAST_INSIDE = 0.5


@dataclass(frozen=True)
class CellEvidence:
    """What cells say of where they were looked for."""

    x_um: FloatArray  # (N,)
    y_um: FloatArray  # (N,)
    parents: tuple[str, ...] = ()  # the annotations that cells name as theirs, by identifier; empty: none
    parent: IntArray | None = None  # (N,): index into `parents`; None if the file does not say
    own: bool = False  # whether the regions are the file that was written with the cells

    @classmethod
    def of(
        cls, parts: Sequence[tuple[FloatArray, FloatArray, tuple[Sequence[str], IntArray] | None]], *, own: bool = False
    ) -> "CellEvidence":
        """Join x, y and, where it is known, the parents (names and index of each cell) of the cells of some files."""
        x, y = (np.concatenate([part[axis] for part in parts]) for axis in (0, 1))
        known = [part[2] for part in parts if part[2] is not None]
        if len(known) < len(parts):
            return cls(x, y, own=own)
        names = tuple(dict.fromkeys(name for texts, _ in known for name in texts))
        at = {name: index for index, name in enumerate(names)}
        codes = [np.array([at[name] for name in texts] or [0], dtype=np.intp)[index] for texts, index in known]
        return cls(x, y, names, np.concatenate(codes), own)


def regions_of_cells(
    regions: Sequence[Region], choice: RegionChoice, cells: CellEvidence, path: Path
) -> tuple[ChosenRegions, tuple[str, ...]]:
    """Choose the regions in which cells were looked for; return them, and warnings that name those left out.

    Raises
    ------
    InputError
        If a class or core is not there, the cells name parents that are not there or lie elsewhere, or it cannot be
        told whether a region was looked at.
    """
    chosen = choose_regions(regions, choice, path)
    parents, notes = _known_parents(chosen.every, cells, path)
    if parents is not None:
        settled, more = _by_parents(chosen, parents, cells, path)
    else:
        settled, more = _by_place(chosen, cells, path)
    return settled, (*chosen.notes, *notes, *more)


def _known_parents(
    regions: Sequence[Region], cells: CellEvidence, path: Path
) -> tuple[BoolArray | None, tuple[str, ...]]:
    """Return which regions are parents of cells, (R,), None if cells do not say; and warnings."""
    if cells.parent is None:
        return None, ()
    count = np.bincount(cells.parent, minlength=len(cells.parents))
    named = {name: int(n) for name, n in zip(cells.parents, count) if name.strip() and n}
    known = {region.object_id for region in regions if region.object_id}
    lost = {name: n for name, n in named.items() if name not in known}
    if not named or not known:
        return None, ()
    if lost:
        first = next(iter(lost))
        problem = f"{sum(lost.values()):,} cells name an annotation as their parent that is not there (such as {first})"
        if cells.own:
            hint = "the cells and the annotations are of two exports: run the export script again"
            raise InputError(problem, path=path, hint=hint)
        if len(lost) == len(named):
            return None, (f"{problem}: whether detection was run in all of its area is not known",)
        return np.array([region.object_id in named for region in regions]), (f"{problem}",)
    return np.array([region.object_id in named for region in regions]), ()


def _by_parents(
    chosen: ChosenRegions, is_parent: BoolArray, cells: CellEvidence, path: Path
) -> tuple[ChosenRegions, tuple[str, ...]]:
    """Keep the regions in which detection was run: parents of cells, and what lies in them."""
    looked = shapely.union_all([region.geometry for region, one in zip(chosen.every, is_parent) if one])
    _refuse_elsewhere(chosen.every, cells, path)
    orphans = _orphans(cells)
    kept, left_out, cut = list[Region](), list[Region](), list[Region]()
    identifiers = {region.object_id for region, one in zip(chosen.every, is_parent) if one}
    for region in chosen.used:
        if region.object_id in identifiers or _holds_any(region.geometry, orphans):
            kept.append(region)
            continue
        part = polygonal(shapely.intersection(region.geometry, looked))
        share = shapely.area(part) / region.area_um2
        if share > _SAME:
            kept.append(region)
        elif share > 1 - _SAME and chosen.by_class:
            cut.append(replace(region, geometry=part))
        else:
            left_out.append(region)
    if cut and kept:  # what was looked at in them is that of the others, which are named too
        left_out += [region for region in chosen.used if any(region.object_id == one.object_id for one in cut)]
        cut = []
    if not kept and not cut:
        problem = f"no cell was detected in {names_of(chosen.used)}"
        parents = names_of([region for region, one in zip(chosen.every, is_parent) if one])
        raise InputError(problem, path=path, hint=f"the cells were detected in {parents}: name its class")
    notes = _left_out(left_out, kept)
    if cut:
        mm2 = sum(region.area_um2 for region in cut) / 1e6
        notes += (f"of {names_of(cut)} only {mm2:.3g} mm² count, where cells were detected (their parents say so)",)
    return replace(chosen, used=tuple(kept or cut)), notes


def _orphans(cells: CellEvidence) -> tuple[FloatArray, FloatArray]:
    """Return x and y of the cells that name no parent."""
    assert cells.parent is not None  # or nothing would be known by parents
    empty = np.array([not name.strip() for name in cells.parents], dtype=bool)
    alone = empty[cells.parent]
    return cells.x_um[alone], cells.y_um[alone]


def _refuse_elsewhere(regions: Sequence[Region], cells: CellEvidence, path: Path) -> None:
    """Raise InputError if most cells do not lie in the annotation that they name as their parent."""
    assert cells.parent is not None  # or nothing would be known by parents
    inside = total = 0
    by_id = {region.object_id: region.geometry for region in regions if region.object_id}
    for code, name in enumerate(cells.parents):
        if name in by_id:
            own = cells.parent == code
            total += int(np.count_nonzero(own))
            near = shapely.buffer(by_id[name], _RIM_UM)
            inside += int(np.count_nonzero(_inside(near, cells.x_um[own], cells.y_um[own])))
    if total and inside < _LEAST_INSIDE * total:
        problem = f"only {inside:,} of {total:,} cells lie in the annotation that they name as their parent"
        hint = "is it in pixels of the full-resolution image, and was it changed after the export? Export both again"
        raise InputError(problem, path=path, hint=hint)


def _by_place(chosen: ChosenRegions, cells: CellEvidence, path: Path) -> tuple[ChosenRegions, tuple[str, ...]]:
    """Keep the regions that have cells on their own ground."""
    used = {id(region.geometry) for region in chosen.used}
    others = [one for one in chosen.every if not (one.is_ignored or one.missing or id(one.geometry) in used)]
    if len(chosen.used) + len(others) < 2:
        return chosen, ()
    grounds = _own_grounds([*chosen.used, *others])
    counts = np.array([_count(ground, cells.x_um, cells.y_um) for ground in grounds])
    count = counts[: len(chosen.used)]
    if not count.any():
        if chosen.by_class and _count(chosen.union, cells.x_um, cells.y_um):
            names = names_of(chosen.used)
            return chosen, (f"{names}: all cells lie in smaller annotations inside; F and CD are per all of its area",)
        return chosen, ()
    full = shapely.union_all([region.geometry for region, n in zip(chosen.used, count) if n])
    # One without cells inside one with cells was looked at with that, and nothing was found in it.
    empty = [not n and not shapely.covers(full, region.geometry) for region, n in zip(chosen.used, count)]
    kept = [region for region, out in zip(chosen.used, empty) if not out]
    notes = _left_out([region for region, out in zip(chosen.used, empty) if out], kept)
    for text in _doubts(chosen.used, grounds, counts):
        if not chosen.by_class:
            hint = "say with --roi-classes in which classes the detection was run, or export those annotations only"
            raise InputError(f"{text}: was all of it looked at?", path=path, hint=hint)
        notes += (f"{text}; it counts, as --roi-classes says",)
    return replace(chosen, used=tuple(kept)), notes


def _doubts(regions: Sequence[Region], grounds: Sequence[BaseGeometry], counts: IntArray) -> Iterator[str]:
    """Yield what is odd about regions around smaller ones that have a few cells only beside those.

    The grounds, and numbers of cells on them, are of these regions and of others after them.
    """
    areas = np.maximum(shapely.area(np.array(grounds, dtype=object)), 1e-9)
    many = counts >= _EXPECTED  # of fewer cells, a density says nothing
    expected = areas * ((counts / areas)[many].max() if many.any() else 0.0)
    for region, ground, count, usual in zip(regions, grounds, counts, expected):
        if ground is not region.geometry and 0 < count < _FEW * usual and usual >= _EXPECTED:
            would = f"{usual:,.0f} would lie if it were as dense as the densest region"
            yield f"{region.label} has {count:,} cells on its own ground, where {would}"


def _own_grounds(regions: Sequence[Region]) -> list[BaseGeometry]:
    """Return the part of each region that no smaller one covers, away from those; all of it if there is no such part.

    Cells at the edge of a smaller region may have their centroid beyond it, so its rim is no own ground either.
    """
    shapes = np.array([region.geometry for region in regions], dtype=object)
    sizes, tree = shapely.area(shapes), shapely.STRtree(shapes)
    grounds = []
    for region in regions:
        near = tree.query(region.geometry, predicate="intersects")
        smaller = near[sizes[near] < (1 - 1e-9) * region.area_um2]
        if not smaller.size:
            grounds.append(region.geometry)
            continue
        inner = shapely.union_all(shapes[smaller])
        bare = shapely.area(shapely.difference(region.geometry, inner))
        ground = polygonal(shapely.difference(region.geometry, shapely.buffer(inner, _RIM_UM)))
        grounds.append(region.geometry if bare < _NO_GROUND * region.area_um2 or ground.is_empty else ground)
    return grounds


def _inside(region: BaseGeometry, x: FloatArray, y: FloatArray) -> BoolArray:
    """Return which points lie in a region; those outside its bounding box are not looked at."""
    low_x, low_y, high_x, high_y = region.bounds if not region.is_empty else (np.inf,) * 4
    found = (x >= low_x) & (x <= high_x) & (y >= low_y) & (y <= high_y)
    if found.any():
        shapely.prepare(region)
        found[found] = shapely.contains_xy(region, x[found], y[found])
    return found


def _count(region: BaseGeometry, x: FloatArray, y: FloatArray) -> int:
    return int(np.count_nonzero(_inside(region, x, y)))


def _holds_any(region: BaseGeometry, points: tuple[FloatArray, FloatArray]) -> bool:
    return bool(points[0].size) and bool(_inside(region, *points).any())


def _left_out(regions: Sequence[Region], kept: Sequence[Region]) -> tuple[str, ...]:
    """Warn of regions without cells of their own; a core is no such thing if annotations in it are kept."""
    inside = {region.core for region in kept if region.core}
    empty = [region for region in regions if not (region.kind == "core" and region.core in inside)]
    if not empty:
        return ()
    have = "has no cells of its own and was" if len(empty) == 1 else "have no cells of their own and were"
    return (f"{names_of(empty)} {have} left out: F and CD are relative to {names_of(kept)}, where cells are",)
