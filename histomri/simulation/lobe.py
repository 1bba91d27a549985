"""The shape of a liver lobe: an irregular outline that tapers through the slices, with vessels cut through it.

Lobe coordinates are millimetres, (u, v) in the plane of the MRI slices and w across them, with the origin in the
middle of the lobe.
"""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray

_ANGLES = np.linspace(0.0, 2.0 * np.pi, 721)


@dataclass(frozen=True)
class Lobe:
    """A lobe and its holes."""

    radius_mm: FloatArray  # (721,) distance of the outline from the origin at w = 0, for angles in half degrees
    half_height_mm: float  # where the lobe ends across the slices, as the half axis of an ellipse
    vessels: FloatArray  # (H, 6) centre (u, v) at w = 0, its drift per mm of w (u, v), and the two half axes, mm

    def inside(self, u: FloatArray, v: FloatArray, w: FloatArray | float) -> BoolArray:
        """Tell which points, in lobe coordinates, lie in tissue; the three broadcast."""
        taper = np.sqrt(np.clip(1.0 - (np.asarray(w) / self.half_height_mm) ** 2, 0.0, None))
        limit = np.interp(np.arctan2(v, u) % (2.0 * np.pi), _ANGLES, self.radius_mm) * taper
        tissue = np.hypot(u, v) < limit
        for u0, v0, du, dv, a, b in self.vessels:
            tissue = tissue & (((u - u0 - du * w) / a) ** 2 + ((v - v0 - dv * w) / b) ** 2 > 1.0)
        return np.asarray(tissue)

    @property
    def extent_mm(self) -> FloatArray:
        """Half widths of the box around the lobe, (3,) mm."""
        u, v = self.radius_mm * np.cos(_ANGLES), self.radius_mm * np.sin(_ANGLES)
        return np.array([np.abs(u).max(), np.abs(v).max(), self.half_height_mm])


def random_lobe(rng: np.random.Generator, area_mm2: float = 75.0, half_height_mm: float = 7.0) -> Lobe:
    """Draw a lobe: a leaf with one notch, and vessels of 0.3 to 1.2 mm that run obliquely through it.

    Its outline encloses `area_mm2` at w = 0, holes included; it extends `half_height_mm` to either side across the
    slices.
    """
    order = np.arange(2, 8)
    amplitude = np.array([0.17, 0.09, 0.04, 0.025, 0.018, 0.012]) * rng.uniform(0.7, 1.2, order.size)
    phase = rng.uniform(0.0, 2.0 * np.pi, order.size)
    radius = 1.0 + (amplitude[:, None] * np.cos(order[:, None] * _ANGLES + phase[:, None])).sum(axis=0)
    notch, width = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.10, 0.16)
    away = np.angle(np.exp(1j * (_ANGLES - notch)))
    radius *= 1.0 - rng.uniform(0.28, 0.38) * np.exp(-0.5 * (away / width) ** 2)
    area = 0.5 * np.trapezoid(radius**2, _ANGLES)
    radius *= np.sqrt(area_mm2 / area)
    return Lobe(radius, half_height_mm, _random_vessels(rng, radius))


def _random_vessels(rng: np.random.Generator, radius: FloatArray) -> FloatArray:
    """Spread the vessels over the lobe, one per sector, so that none swallows another."""
    number = int(rng.integers(5, 8))
    scale = np.sqrt(radius.mean() / 4.9)  # small phantoms get small vessels
    angle = (np.arange(number) + rng.uniform(0.2, 0.8, number)) * (2.0 * np.pi / number)
    distance = np.interp(angle, _ANGLES, radius) * rng.uniform(0.3, 0.75, number)
    half = np.clip(rng.lognormal(np.log(0.27), 0.4, number), 0.16, 0.6) * scale
    drift = rng.normal(0.0, 0.06, (number, 2))
    ratio = rng.uniform(0.75, 1.3, number)
    return np.column_stack([distance * np.cos(angle), distance * np.sin(angle), drift, half * ratio, half / ratio])
