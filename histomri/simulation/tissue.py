"""A liver lobe with its vessels, and what its tissue is made of at every point, as smooth 3D fields.

Lobe coordinates are millimetres, (u, v) in the plane of the MRI slices and w across them, with the origin in the
middle of the lobe: an irregular outline that tapers through the slices.

Cell diameters are lognormal. All moments follow from the mean m and the coefficient of variation c:
<D^k> = m^k (1 + c²)^(k (k - 1) / 2).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray

_SOFTNESS = 0.18  # of the edges of foci, as a part of their radius
Group = Literal["control", "infiltrated", "necrotic"]
GROUPS: tuple[Group, ...] = ("control", "infiltrated", "necrotic")
WATER_UM2_MS = 2.4  # the saline that soaks the tissue, before the cells obstruct it
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

    Its outline encloses `area_mm2` at w = 0, holes included; across the slices it ends at `half_height_mm`.
    """
    order = np.arange(2, 8)
    amplitude = np.array([0.17, 0.09, 0.04, 0.025, 0.018, 0.012]) * rng.uniform(0.7, 1.2, order.size)
    phase = rng.uniform(0.0, 2.0 * np.pi, order.size)
    radius = 1.0 + (amplitude[:, None] * np.cos(order[:, None] * _ANGLES + phase[:, None])).sum(axis=0)
    notch, width = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.10, 0.16)
    away = np.angle(np.exp(1j * (_ANGLES - notch)))
    radius *= 1.0 - rng.uniform(0.28, 0.38) * np.exp(-0.5 * (away / width) ** 2)
    radius *= np.sqrt(area_mm2 / (0.5 * np.trapezoid(radius**2, _ANGLES)))
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


def lognormal_moment(k: float, mean: FloatArray, cv: FloatArray) -> FloatArray:
    """Return <D^k> of a lognormal distribution with the given mean and coefficient of variation."""
    return np.asarray(mean**k * (1.0 + cv**2) ** (0.5 * k * (k - 1.0)))


@dataclass(frozen=True)
class Fields:
    """Tissue at N points; every field is an (N,) array."""

    fraction: FloatArray  # intra-cellular volume fraction F
    mean_um: FloatArray  # of the cell diameters (spheres, by number)
    cv: FloatArray  # coefficient of variation of the cell diameters
    d0i_um2_ms: FloatArray  # intrinsic intra-cellular diffusivity
    deinf_um2_ms: FloatArray  # extra-cellular diffusion is ADC_E = DEinf + beta / Delta
    beta_um2: FloatArray

    def moment(self, k: float) -> FloatArray:
        """Return <D^k>, µm^k."""
        return lognormal_moment(k, self.mean_um, self.cv)

    @property
    def density_um3(self) -> FloatArray:
        """Cells per unit volume, µm^-3: the volume fraction over the mean cell volume."""
        return np.asarray(self.fraction / (np.pi / 6.0 * self.moment(3)))

    @property
    def vcs_um(self) -> FloatArray:
        """Volume-weighted cell size (<D^7>/<D^3>)^(1/4), µm."""
        return np.asarray((self.moment(7) / self.moment(3)) ** 0.25)


@dataclass(frozen=True)
class Waves:
    """A smooth random field of mean zero and variance one: a sum of plane waves."""

    wave: FloatArray  # (W, 3) radians per mm
    phase: FloatArray  # (W,)

    @classmethod
    def random(cls, rng: np.random.Generator, number: int = 12) -> "Waves":
        """Draw waves of 4 to 10 mm in the plane of the slices, and slower ones across them."""
        angle = rng.uniform(0.0, 2.0 * np.pi, number)
        size = 2.0 * np.pi / rng.uniform(4.0, 10.0, number)
        across = rng.normal(0.0, 0.25, number)
        wave = size[:, None] * np.column_stack([np.cos(angle), np.sin(angle), across])
        return cls(wave, rng.uniform(0.0, 2.0 * np.pi, number))

    def __call__(self, points: FloatArray) -> FloatArray:
        """Evaluate at (N, 3) points in mm."""
        field = np.zeros(len(points))
        for wave, phase in zip(self.wave, self.phase):
            field += np.cos(points @ wave + phase)
        return np.asarray(field * np.sqrt(2.0 / len(self.phase)))


@dataclass(frozen=True)
class Foci:
    """Regions of disease: ellipsoids with soft edges."""

    centre_mm: FloatArray  # (B, 3)
    radius_mm: FloatArray  # (B, 3)

    def __call__(self, points: FloatArray) -> FloatArray:
        """Weight of the disease at (N, 3) points, between 0 and 1."""
        healthy = np.ones(len(points))
        for centre, radius in zip(self.centre_mm, self.radius_mm):
            reach = np.sqrt((((points - centre) / radius) ** 2).sum(axis=1))
            healthy *= 1.0 - 1.0 / (1.0 + np.exp(np.clip((reach - 1.0) / _SOFTNESS, -40.0, 40.0)))
        return np.asarray(1.0 - healthy)


@dataclass(frozen=True)
class Disease:
    """What tissue turns into where the disease is complete."""

    mean_um: float
    cv: float
    fraction: float
    d0i_um2_ms: float


# Small, densely packed cells; and dead tissue, where few and shrunken cells are left in fluid.
DISEASES = {"infiltrated": Disease(12.5, 0.16, 0.78, 1.15), "necrotic": Disease(16.0, 0.24, 0.28, 1.5)}
# Their number, and their radius as a part of the lobe's.
_FOCI = {"control": (0, (1.0, 1.0)), "infiltrated": (6, (0.16, 0.30)), "necrotic": (3, (0.28, 0.50))}


@dataclass(frozen=True)
class Tissue:
    """Fields of one lobe: hepatocytes that vary slowly, and foci of disease within them."""

    group: Group
    mean_um: float
    fraction: float
    waves: tuple[Waves, ...]
    foci: Foci
    disease: Disease | None

    def at(self, points: FloatArray) -> Fields:
        """Evaluate all fields at (N, 3) points in lobe coordinates, mm."""
        size, packing, spread, diffusion = (wave(points) for wave in self.waves)
        mean = self.mean_um * (1.0 + 0.06 * np.tanh(size))
        cv = 0.19 + 0.025 * np.tanh(spread)
        fraction = self.fraction + 0.055 * np.tanh(packing)
        d0i = 1.3 + 0.1 * np.tanh(diffusion)
        if self.disease is not None:
            ill, sick = self.foci(points), self.disease
            mean = mean + ill * (sick.mean_um * (1.0 + 0.04 * np.tanh(size)) - mean)
            cv = cv + ill * (sick.cv - cv)
            fraction = fraction + ill * (sick.fraction + 0.03 * np.tanh(packing) - fraction)
            d0i = d0i + ill * (sick.d0i_um2_ms - d0i)
        # Maxwell's obstruction by spheres: the fuller the tissue, the slower the fluid between the cells.
        deinf = WATER_UM2_MS / (1.0 + 0.5 * fraction)
        return Fields(fraction, mean, cv, d0i, deinf, 0.05 * mean)


def random_tissue(rng: np.random.Generator, group: Group, extent_mm: FloatArray) -> Tissue:
    """Draw the tissue of one lobe; the foci are spread over its half widths, (3,) mm."""
    waves = tuple(Waves.random(rng) for _ in range(4))
    mean, fraction = rng.uniform(19.8, 22.2), rng.uniform(0.61, 0.69)
    number, radius = _FOCI[group]
    angle = (np.arange(number) + rng.uniform(0.1, 0.9, number)) * (2.0 * np.pi / max(number, 1))
    distance = rng.uniform(0.15, 0.75, number)
    centre = np.column_stack([distance * np.cos(angle), distance * np.sin(angle), rng.uniform(-0.15, 0.15, number)])
    severity = rng.uniform(0.85, 1.25)
    in_plane = severity * rng.uniform(*radius, (number, 2)) * np.mean(extent_mm[:2])
    across = rng.uniform(2.5, 4.5, number)
    foci = Foci(centre * extent_mm, np.column_stack([in_plane, across]))
    return Tissue(group, mean, fraction, waves, foci, DISEASES.get(group))
