"""Tissue to walk in: spheres on a lattice, or packed at random."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from histomri.core.errors import InputError
from histomri.simulation.packing import Packing

from . import lattice, packed

LARGEST_FRACTION = np.pi / 6.0
Compiled = tuple[Callable[..., None], tuple[Any, ...]]


class Substrate(Protocol):
    """Tissue to walk in: cells of some shape in a space that repeats."""

    @property
    def fraction(self) -> float:
        """Volume fraction of the cells."""

    @property
    def compiled(self) -> Compiled:
        """The walk that `kernels.make_walk` returned for its kind, and the tissue that this is given."""


@dataclass(frozen=True)
class Lattice:
    """Equal spheres on a cubic lattice; they fill at most pi/6 of the volume, where they touch."""

    diameter_um: float
    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.diameter_um < np.inf:
            raise InputError(f"{self.diameter_um!r} µm is no diameter", hint="give a positive number")
        if not 0 < self.fraction <= LARGEST_FRACTION * (1 + 1e-5):
            problem = f"spheres on a cubic lattice cannot fill {self.fraction:g} of the volume"
            raise InputError(problem, hint="choose at most pi/6 = 0.5236")

    @property
    def edge_um(self) -> float:
        """Distance of the centres."""
        return float(self.diameter_um * (LARGEST_FRACTION / self.fraction) ** (1.0 / 3.0))

    @property
    def compiled(self) -> Compiled:
        """The walk, and what it is given of the tissue."""
        return lattice.walk, (self.edge_um, 0.5 * self.diameter_um)


@dataclass(frozen=True)
class Packed:
    """Spheres of a packing, in a cube that repeats."""

    packing: Packing

    @property
    def fraction(self) -> float:
        """Volume fraction that the packing reached."""
        return self.packing.fraction

    @cached_property
    def compiled(self) -> Compiled:
        """The walk, and what it is given of the tissue: the spheres, and the grid that lists those near each cell."""
        packing = self.packing
        spheres = np.column_stack([packing.centre_um, packing.radius_um])
        share = np.cumsum(packing.radius_um**3) / np.sum(packing.radius_um**3)
        reach = packed.REACH * float(packing.radius_um.mean())
        cells = max(int(packing.edge_um / reach), 1)
        first = np.zeros(cells**3 + 1, dtype=np.int64)
        packed.list_neighbours(spheres, packing.edge_um, cells, reach, first, np.empty((0, 4)))
        first = np.cumsum(first)
        entries = np.empty((int(first[-1]), 4))
        packed.list_neighbours(spheres, packing.edge_um, cells, reach, first.copy(), entries)
        return packed.walk, (packing.edge_um, spheres, share, first, entries, cells, reach)
