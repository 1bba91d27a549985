"""Tissue to walk in: spheres on a lattice, or packed at random."""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError

from . import lattice

LARGEST_FRACTION = np.pi / 6.0


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
    def smallest_radius_um(self) -> float:
        """Radius of the spheres."""
        return 0.5 * self.diameter_um

    def walk(
        self, first: int, count: int, n_inside: int, seed: np.uint64, spans: FloatArray, longest: float,
        diffusivity: tuple[float, float], kappa: float, fine: float, out: FloatArray,
    ) -> None:  # fmt: skip
        """Walk some walkers and fill their records."""
        shape = (self.edge_um, self.smallest_radius_um)
        lattice.walk(first, count, n_inside, seed, spans, longest, *shape, *diffusivity, kappa, fine, out)
