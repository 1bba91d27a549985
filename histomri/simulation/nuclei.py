"""Cells in three dimensions: balls with a nucleus in them, which need not lie in the middle."""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import InputError

from .packing import Packing

_LARGEST_RATIO = 0.95  # of the diameters of a nucleus and its cell


@dataclass(frozen=True)
class SolidCells:
    """N cells with their nuclei, before any shrinkage."""

    centre_um: FloatArray  # (N, 3)
    diameter_um: FloatArray  # (N,)
    nucleus_centre_um: FloatArray  # (N, 3)
    nucleus_um: FloatArray  # (N,) diameter; 0 where there is no nucleus, as in a fat vacuole
    period_um: FloatArray  # (3,) after which the tissue repeats along each axis; inf where it does not

    def __len__(self) -> int:
        return len(self.diameter_um)

    def take(self, chosen: IntArray) -> "SolidCells":
        """Return some of the cells."""
        centre, nucleus = self.centre_um[chosen], self.nucleus_centre_um[chosen]
        return SolidCells(centre, self.diameter_um[chosen], nucleus, self.nucleus_um[chosen], self.period_um)

    def along(self, axis: int) -> "SolidCells":
        """Return the cells with their axes in cyclic order, so that `axis` becomes the third."""
        order = [(axis + 1) % 3, (axis + 2) % 3, axis]
        centre, nucleus = self.centre_um[:, order], self.nucleus_centre_um[:, order]
        return SolidCells(centre, self.diameter_um, nucleus, self.nucleus_um, self.period_um[order])

    @classmethod
    def from_packing(
        cls, packing: Packing, rng: np.random.Generator, *, ratio: float = 0.45, scatter: float = 0.05,
        eccentricity: float = 0.4,
    ) -> "SolidCells":  # fmt: skip
        """Give every sphere of a packing a nucleus; see `place_nuclei`."""
        diameter = 2.0 * packing.radius_um
        nucleus, size = place_nuclei(
            packing.centre_um, diameter, ratio, rng, scatter=scatter, eccentricity=eccentricity
        )
        return cls(packing.centre_um, diameter, nucleus, size, np.full(3, packing.edge_um))


def place_nuclei(
    centre_um: FloatArray, diameter_um: FloatArray, ratio: FloatArray | float, rng: np.random.Generator, *,
    scatter: float = 0.05, eccentricity: float = 0.4,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Draw a nucleus for each of N cells; return the centres, (N, 3), and the diameters, (N,), µm.

    Parameters
    ----------
    centre_um, diameter_um : arrays, (N, 3) and (N,)
        Of the cells.
    ratio : float or array, (N,)
        Mean diameter of a nucleus over that of its cell; between cells it scatters by `scatter` (SD of a normal
        distribution, in the same unit).
    rng : Generator
        Source of the random numbers.
    eccentricity : float
        0 puts the nuclei in the middle; at 1 they lie anywhere within the cell, evenly. In between, within that part
        of the room there is.

    Raises
    ------
    InputError
        If a number is out of range.
    """
    if not (0.0 <= eccentricity <= 1.0 and 0.0 <= scatter < 0.5 and np.all((ratio > 0.0) & (ratio < _LARGEST_RATIO))):
        raise InputError(
            f"nuclei with scatter {scatter:g} and eccentricity {eccentricity:g} do not fit into their cells",
            hint="give a ratio below 0.95, a scatter below 0.5 and an eccentricity of 0 to 1",
        )
    number = len(diameter_um)
    size = diameter_um * np.clip(ratio + scatter * rng.standard_normal(number), 0.05, _LARGEST_RATIO)
    if eccentricity == 0.0:
        return centre_um.copy(), size
    direction = rng.standard_normal((number, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    away = 0.5 * eccentricity * (diameter_um - size) * np.cbrt(rng.random(number))
    return centre_um + away[:, None] * direction, size
