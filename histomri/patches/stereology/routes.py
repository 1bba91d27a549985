"""The routes from outlines to three dimensions: which quantities a kind of outline gives, and by which sums.

Every quantity is a product of powers of sums over profiles, ``c * prod_k S_k^p_k * A^a`` (A: area looked at). So its
value in a patch, its error and the part of each cell in it follow from the same sums.

| kind | outline | quantities |
|---|---|---|
| N | nuclei only | nucleiNV, nucD, nucCV; with a cell fraction Dvol and vCSvol |
| R | nucleus and a rim around it | as N, and rimSize, rimFraction |
| M | the cell, where its nucleus is seen | as N without vCSvol, and vCS, F, Dvol |
| E | every cell, nucleus or not | cellNV, vCS, F |
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from histomri.core.arrays import FloatArray, IntArray

from .cell_size import cell_sums
from .kernel import diameter_of
from .unfold import CELL_BIN_UM, NUCLEUS_BIN_UM, Unfolded, unfold_sizes
from .weights import class_of, density_weights

Kind = Literal["N", "R", "M", "E"]
KINDS: tuple[Kind, ...] = ("N", "R", "M", "E")
DENSE = 0.85  # where masks cover more, what lies over each other in the slab is cut off
_OVERLAPPING = 0.02  # share of a cell under others from which outlines are whole projections, not masks


@dataclass(frozen=True)
class Quantity:
    """What a result is called and measured in."""

    unit: str
    length_power: int  # of the linear stretch that undoes shrinkage
    floor: float  # relative error of the model itself, where all that is stated is right


QUANTITIES: dict[str, Quantity] = {
    "nucleiNV": Quantity("1/mm^3", -3, 0.025),
    "cellNV": Quantity("1/mm^3", -3, 0.025),
    "nucD": Quantity("um", 1, 0.015),
    "nucCV": Quantity("1", 0, 0.04),
    "Dvol": Quantity("um", 1, 0.01),
    "vCS": Quantity("um", 1, 0.02),
    "vCSvol": Quantity("um", 1, 0.02),
    "F": Quantity("1", 0, 0.05),
    "rimSize": Quantity("um", 1, 0.0),
    "rimFraction": Quantity("1", 0, 0.0),
}


def names_of(kind: Kind, fraction_known: bool) -> tuple[str, ...]:
    """Return the quantities of a kind of outline; the volume per cell of kinds N and R needs the cell fraction."""
    if kind == "E":
        return "cellNV", "vCS", "F"
    nuclei = ("nucleiNV", "nucD", "nucCV")
    if kind == "M":
        return (*nuclei, "vCS", "Dvol", "F")
    volume = ("Dvol", "vCSvol") if fraction_known else ()
    return (*nuclei, *(("rimSize", "rimFraction") if kind == "R" else ()), *volume)


@dataclass(frozen=True)
class Profiles:
    """What was outlined, one entry per object; µm and µm² on the slide, nothing corrected."""

    nucleus_um2: FloatArray | None = None  # (N,) needed for kinds N, R and M
    cell_um2: FloatArray | None = None  # (N,) needed for kinds R, M and E
    x_um: FloatArray | None = None  # (N,) needed for errors of sampling and for patches
    y_um: FloatArray | None = None  # (N,)
    offset_um: FloatArray | None = None  # (N,) distance between the middles of nucleus and cell, if both are known

    def __len__(self) -> int:
        some = self.cell_um2 if self.nucleus_um2 is None else self.nucleus_um2
        return 0 if some is None else len(some)

    def take(self, chosen: FloatArray) -> "Profiles":
        """Return some of the objects."""
        parts = (self.nucleus_um2, self.cell_um2, self.x_um, self.y_um, self.offset_um)
        return Profiles(*(None if part is None else np.asarray(part)[chosen] for part in parts))


@dataclass(frozen=True)
class Settings:
    """What the user knows about the section; see `measure`."""

    kind: Kind
    thickness_um: float
    smallest_um2: float | None
    field_um2: float
    shrinkage: float = 0.0
    cell_fraction: float | None = None
    scatter: float = 0.1
    mask_coverage: float | None = None
    offset_noise_um2: float = 0.0
    overlap: float = 0.0
    seed: int = 0

    @property
    def stretch(self) -> float:
        """Length in fresh tissue over length on the slide."""
        return 1.0 / (1.0 - self.shrinkage)


@dataclass(frozen=True)
class Product:
    """A quantity as a product of powers of sums."""

    value: float  # in fresh tissue
    powers: dict[str, float]  # of which sums; empty where it is none
    area_power: float = 0.0
    bent: dict[int, float] = field(default_factory=dict)  # powers of moments of the bent sizes, of the whole only


@dataclass
class Found:
    """What one route found."""

    unfolded: Unfolded
    place: IntArray  # (N,) class of the nucleus, with kind E of the cell; see `class_of`
    sums: dict[str, FloatArray] = field(default_factory=dict)  # each (N,), in powers of µm on the slide
    products: dict[str, Product] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    coverage: float | None = None  # share of the field under masks, U
    coverage_from: str | None = None  # "masks" or "estimate"
    offset_um: float | None = None  # root mean square distance of the middles of nucleus and cell, less noise
    upper: dict[str, float] = field(default_factory=dict)  # the other end, where a value is one end of an interval

    def put(self, name: str, constant: float, powers: dict[str, float], settings: Settings, area: float = 0.0) -> None:
        """Add a quantity, in fresh tissue, from the totals of its sums."""
        value = constant * settings.field_um2**area
        for key, power in powers.items():
            value *= float(self.sums[key].sum()) ** power
        scale = settings.stretch ** QUANTITIES[name].length_power
        self.products[name] = Product(float(value * scale), powers, area)


def follow_route(profiles: Profiles, settings: Settings) -> Found:
    """Return all quantities that a kind of outline gives."""
    if settings.kind == "E":
        return _every_profile(profiles, settings)
    nucleus = np.asarray(profiles.nucleus_um2, dtype=float)
    unfolded = unfold_sizes(nucleus, settings.thickness_um, settings.smallest_um2, bin_um=NUCLEUS_BIN_UM)
    place = class_of(unfolded, nucleus)
    found = Found(unfolded, place, {"number": density_weights(unfolded, place)}, flags=list(unfolded.flags))
    found.put("nucleiNV", 1e9, {"number": 1.0}, settings, -1.0)
    found.products["nucD"] = Product(unfolded.mean_um * settings.stretch, {})
    found.products["nucCV"] = Product(unfolded.cv, {})
    if settings.kind == "M":
        _cells_of_nuclei(found, profiles, settings)
    else:
        if settings.kind == "R":
            _rims(found, profiles, settings)
        if settings.cell_fraction is not None:
            _volume_per_cell(found, settings)
    return found


def _rims(found: Found, profiles: Profiles, settings: Settings) -> None:
    cell = np.asarray(profiles.cell_um2, dtype=float)
    size = diameter_of(cell)
    cubed = size * size * size
    found.sums |= {"rim_area": cell, "rim_cubed": cubed, "rim_seventh": cubed * cubed * size}
    found.put("rimSize", 1.0, {"rim_seventh": 0.25, "rim_cubed": -0.25}, settings)
    found.put("rimFraction", 1.0, {"rim_area": 1.0}, settings, -1.0)


def _volume_per_cell(found: Found, settings: Settings) -> None:
    """Add the volume per cell: what the cells fill, divided by their number."""
    assert settings.cell_fraction is not None
    constant = float(np.cbrt(6.0 * settings.cell_fraction / np.pi))
    found.put("Dvol", constant, {"number": -1.0 / 3.0}, settings, 1.0 / 3.0)
    bent = {7: 0.25, 3: -0.25 - 1.0 / 3.0, 0: 1.0 / 3.0}
    shape = _moments(found.unfolded, bent) / (1.0 + settings.scatter**2) ** 3.5
    own = found.products["Dvol"]
    # The shape of the sizes is that of the whole: a patch has too few nuclei for one of its own.
    found.products["vCSvol"] = Product(own.value * shape, own.powers, own.area_power, bent)


def _moments(unfolded: Unfolded, powers: dict[int, float]) -> float:
    """Return a product of powers of moments of the bent sizes."""
    middle = unfolded.kernel.middle_um
    return float(np.prod([(middle**order @ unfolded.bent) ** power for order, power in powers.items()]))


def _cells_of_nuclei(found: Found, profiles: Profiles, settings: Settings) -> None:
    nucleus, cell = (np.asarray(part, dtype=float) for part in (profiles.nucleus_um2, profiles.cell_um2))
    offset2 = _offset2(found, profiles, settings)
    sums = cell_sums(found.unfolded, nucleus, cell, offset2_um2=offset2, seed=settings.seed)
    if sums.how == "pooled":
        found.flags.append("few nuclei: cell sizes are from the sizes of nuclei alone, not from a regression on both")
    found.sums |= {"cells": sums.number, "cells_cubed": sums.cubed, "cells_seventh": sums.seventh}
    found.put("vCS", 1.0, {"cells_seventh": 0.25, "cells_cubed": -0.25}, settings)
    found.put("Dvol", 1.0, {"cells_cubed": 1.0 / 3.0, "cells": -1.0 / 3.0}, settings)
    found.put("F", np.pi / 6.0, {"cells_cubed": 1.0}, settings, -1.0)
    found.coverage, found.coverage_from = settings.mask_coverage, "masks"
    if settings.mask_coverage is None:
        # Cells whose nucleus is not in the section have no mask here, but would cover what others cannot.
        thicker = 1.5 * settings.thickness_um * float(sums.squared.sum() / sums.cubed.sum())
        every = found.products["F"].value * (1.0 + thicker)
        found.coverage = max(every, float(cell.sum()) / settings.field_um2)
        found.coverage_from = "estimate"
    _bound_dense(found, settings)


def _offset2(found: Found, profiles: Profiles, settings: Settings) -> float:
    """Return the mean square of the distance between the middles of nucleus and cell, less its noise, µm²."""
    offset = profiles.offset_um
    if offset is None or not np.isfinite(offset).any():
        found.flags.append(
            "the middles of nuclei and cells are not known: nuclei are taken to lie in the middle of their cell, which "
            "makes F too low by up to 6 % where they do not"
        )
        return 0.0
    measured = float(np.nanmean(np.asarray(offset, dtype=float) ** 2))
    if measured < settings.offset_noise_um2:
        found.flags.append("nuclei lie no further off the middle of their cell than noise puts them")
    offset2 = max(measured - settings.offset_noise_um2, 0.0)
    found.offset_um = float(np.sqrt(offset2))
    return offset2


def _every_profile(profiles: Profiles, settings: Settings) -> Found:
    cell = np.asarray(profiles.cell_um2, dtype=float)
    unfolded = unfold_sizes(cell, settings.thickness_um, settings.smallest_um2, bin_um=CELL_BIN_UM)
    place = class_of(unfolded, cell)
    sums = {"number": density_weights(unfolded, place), "cell_area": cell}
    found = Found(unfolded, place, sums, flags=list(unfolded.flags))
    found.put("cellNV", 1e9, {"number": 1.0}, settings, -1.0)
    bent = {7: 0.25, 3: -0.25}
    found.products["vCS"] = Product(_moments(unfolded, bent) * settings.stretch, {}, bent=bent)
    thicker = 1.5 * settings.thickness_um * _moments(unfolded, {2: 1.0, 3: -1.0})
    found.put("F", 1.0 / (1.0 + thicker), {"cell_area": 1.0}, settings, -1.0)
    # By so much ln F follows the sizes, which say what the thickness adds to the areas.
    follows = thicker / (1.0 + thicker)
    found.products["F"] = replace(found.products["F"], bent={2: -follows, 3: follows})
    found.coverage, found.coverage_from = settings.mask_coverage, "masks"
    if settings.mask_coverage is None:
        found.coverage = float(cell.sum()) / settings.field_um2
    _bound_dense(found, settings)
    return found


def _bound_dense(found: Found, settings: Settings) -> None:
    """Make F one end of an interval where masks fill most of a section that is no plane."""
    covered, fraction = found.coverage, found.products["F"].value
    if fraction > 1.0:
        found.flags.append(
            f"cells fill {fraction:.2f} of the tissue, which cannot be: check field, thickness and outlines"
        )
    if settings.overlap > _OVERLAPPING or (covered is not None and covered > 1.0):
        found.flags.append("outlines lie over each other: they are taken as whole projections, not as masks")
        return
    if covered is None or not (settings.thickness_um > 0.0 and covered > DENSE):
        return
    found.upper["F"] = max(covered, fraction)
    found.flags.append(
        f"masks cover {covered:.0%} of the field: what lies over each other is cut off, so F is between "
        f"{fraction:.2f} and {found.upper['F']:.2f}" + (", and Dvol a lower bound" if "Dvol" in found.products else "")
    )
