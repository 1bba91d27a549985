"""Which regions of a file are used: by class and by TMA core, less what is excluded, ignored or missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import shapely
from shapely.geometry.base import BaseGeometry

from histomri.cells.regions import Region, read_region_objects
from histomri.cells.table import is_of_class
from histomri.core.errors import InputError
from histomri.core.tables import suggestion

_MOST_NAMED = 8
_LEAST_LEFT = 1e-6  # of a region that is cut: less is the rounding of two outlines along each other
# QuPath's own class for the outlines of training images, which lie around tissue and not on what is wrong with it.
_FRAMES = ("region*",)


@dataclass(frozen=True)
class RegionChoice:
    """What the user says of the regions of a file; empty if all of them count."""

    roi_classes: tuple[str, ...] = ()  # take those of these classes only
    exclude_classes: tuple[str, ...] = ()  # cut those of these classes out of the others
    core: str = ""  # take those of this TMA core only

    @classmethod
    def of(
        cls, roi_classes: Sequence[str] | None = None, exclude_classes: Sequence[str] | None = None,
        core: str | None = None,
    ) -> "RegionChoice":  # fmt: skip
        """Return the choice of options, which may be None."""
        return cls(tuple(roi_classes or ()), tuple(exclude_classes or ()), core or "")

    def __bool__(self) -> bool:
        return bool(self.roi_classes or self.exclude_classes or self.core)


@dataclass(frozen=True)
class ChosenRegions:
    """The regions that are used, of all of a file."""

    used: tuple[Region, ...]  # with what is excluded cut out
    every: tuple[Region, ...]  # all of the file, as they are there
    notes: tuple[str, ...] = ()  # which were left out, and why
    by_class: bool = False  # whether the user names the classes

    @property
    def union(self) -> BaseGeometry:
        """The area of all that are used, µm."""
        return shapely.union_all([region.geometry for region in self.used])


def choose_regions(regions: Sequence[Region], choice: RegionChoice, path: Path) -> ChosenRegions:
    """Return the regions that a choice takes, less excluded and ignored ones, and missing cores.

    Raises
    ------
    InputError
        If a class or core of the choice is not there, or nothing is left.
    """
    _refuse_unknown_classes(regions, choice, path)
    inside = _of_core(regions, choice.core, path) if choice.core else regions
    notes = list[str]()
    present = [region for region in inside if not region.missing]
    if missing := [region for region in inside if region.missing]:
        notes.append(_note(missing, "lie in TMA cores that are marked as missing", "is or lies in a missing TMA core"))
    ignored = [region for region in present if region.is_ignored and not _is_named(region, choice.roi_classes)]
    unwanted = {id(region) for region in ignored}
    taken = [region for region in present if not choice.roi_classes or _is_named(region, choice.roi_classes)]
    taken = [one for one in taken if id(one) not in unwanted and not _is_named(one, choice.exclude_classes)]
    cut = [region for region in regions if _is_named(region, choice.exclude_classes)]
    holes = [region for region in ignored if region.classification.strip().lower() not in _FRAMES]
    if ignored:
        notes.append(_note(ignored, "have a class that ends in *", "has a class that ends in *"))
    left, gone = _cut_out(taken, cut, holes)
    if gone:
        notes.append(_note(gone, "lie wholly in what is excluded", "lies wholly in what is excluded"))
    if not left:
        reasons = "; ".join(notes) or "no annotation is of these classes and in this core"
        raise InputError(f"no region is left ({reasons})", path=path, hint="check --roi-classes and --exclude-classes")
    return ChosenRegions(tuple(left), tuple(regions), tuple(notes), bool(choice.roi_classes))


def read_regions(
    path: str | Path, pixel_size_um: tuple[float, float] | None, roi_classes: Sequence[str] | None = None,
    exclude_classes: Sequence[str] | None = None, core: str | None = None,
) -> BaseGeometry:  # fmt: skip
    """Read the polygons of a GeoJSON file as one region, their union, in µm.

    As `read_region_objects`, of which those of `roi_classes` and of one TMA core are taken, if these are given, and
    those of `exclude_classes` are cut out. Missing cores and classes that end in ``*`` are out.
    """
    choice = RegionChoice.of(roi_classes, exclude_classes, core)
    return choose_regions(read_region_objects(path, pixel_size_um), choice, Path(path)).union


def core_names(regions: Sequence[Region], path: Path) -> tuple[str, ...]:
    """Return the names of the TMA cores that are there, in the order of the file.

    Raises
    ------
    InputError
        If there are no cores, or one that is not missing has no name or that of another.
    """
    cores = [region for region in regions if region.kind == "core"]
    if not cores:
        hint = "in QuPath select the cores too (Objects > Select > TMA cores), and export them with the annotations"
        raise InputError("holds no TMA cores", path=path, hint=hint)
    there = [core for core in cores if not core.missing]
    relabel = "name them in QuPath (TMA > Relabel TMA grid), and export again"
    if nameless := [core for core in there if not core.core]:
        text = f"{len(nameless):,} of its {len(cores):,} TMA cores have no name, the first is {nameless[0].label}"
        raise InputError(text, path=path, hint=relabel)
    names = tuple(core.core for core in there)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"several TMA cores are named {', '.join(map(repr, twice[:5]))}", path=path, hint=relabel)
    if not names:
        raise InputError(f"all of its {len(cores):,} TMA cores are marked as missing", path=path)
    return names


def names_of(regions: Sequence[Region]) -> str:
    """Return what regions are called, each once; of many, the first."""
    labels = list(dict.fromkeys(region.label for region in regions))
    more = f" and {len(labels) - _MOST_NAMED} more" if len(labels) > _MOST_NAMED else ""
    return ", ".join(labels[:_MOST_NAMED]) + more


def _note(regions: Sequence[Region], several: str, one: str) -> str:
    """Return the line about regions that were left out for a reason."""
    if len(regions) == 1:
        return f"1 region was left out: {names_of(regions)} {one}"
    return f"{len(regions):,} regions were left out, which {several}: {names_of(regions)}"


def _refuse_unknown_classes(regions: Sequence[Region], choice: RegionChoice, path: Path) -> None:
    known = list(dict.fromkeys(region.classification for region in regions if region.classification))
    for option, wanted in (("--roi-classes", choice.roi_classes), ("--exclude-classes", choice.exclude_classes)):
        for name in wanted:
            if not any(is_of_class(region.classification, (name,)) for region in regions):
                listing = ", ".join(map(repr, known[:20])) or "none; no annotation has a class"
                problem = f"no annotation is of class {name!r}{suggestion(name, known)}; its classes are {listing}"
                raise InputError(problem, path=path, hint=f"pass {option} with names from that list")


def _of_core(regions: Sequence[Region], name: str, path: Path) -> list[Region]:
    found = [region for region in regions if region.core == name]
    if found and all(region.missing for region in found):
        problem = f"the TMA core {name!r} is marked as missing"
        raise InputError(problem, path=path, hint="leave it out, or unset 'missing' in QuPath and export again")
    names = core_names(regions, path)
    if name not in names:
        listing = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        problem = f"holds no TMA core {name!r}{suggestion(name, names)}; its cores are {listing}"
        raise InputError(problem, path=path, hint="pass --core with a name from that list")
    return found


def _is_named(region: Region, classes: Sequence[str]) -> bool:
    return bool(classes) and is_of_class(region.classification, classes)


def _cut_out(
    taken: Sequence[Region], cut: Sequence[Region], ignored: Sequence[Region]
) -> tuple[list[Region], list[Region]]:
    """Return the regions with others cut out of them, and those of which nothing is left.

    Of what is ignored, that around a region is not cut out of it: the smaller one was drawn to be seen.
    """
    hole = shapely.union_all([region.geometry for region in cut]) if cut else None
    left, gone = list[Region](), list[Region]()
    for region in taken:
        around = [one.geometry for one in ignored if shapely.intersects(one.geometry, region.geometry)]
        holes = [one for one in around if not shapely.covers(one, region.geometry)]
        holes += [hole] if hole is not None and shapely.intersects(hole, region.geometry) else []
        if not holes:
            left.append(region)
            continue
        geometry = polygonal(shapely.difference(region.geometry, shapely.union_all(holes)))
        there = shapely.area(geometry) > _LEAST_LEFT * region.area_um2
        (left if there else gone).append(replace(region, geometry=geometry) if there else region)
    return left, gone


def polygonal(geometry: BaseGeometry) -> BaseGeometry:
    """Return the polygons of a geometry, without lines and points that a cut along an edge leaves."""
    parts = shapely.get_parts(geometry)
    areal = parts[shapely.get_dimensions(parts) == 2]
    return shapely.union_all(areal) if areal.size else shapely.Polygon()
