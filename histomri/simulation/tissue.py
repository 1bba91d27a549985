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

from .realism import Physics

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
    def random(
        cls, rng: np.random.Generator, number: int = 12, length_mm: tuple[float, float] = (4.0, 10.0),
        across_rad_mm: float = 0.25,
    ) -> "Waves":  # fmt: skip
        """Draw waves of 4 to 10 mm in the plane of the slices, and slower ones across them."""
        angle = rng.uniform(0.0, 2.0 * np.pi, number)
        size = 2.0 * np.pi / rng.uniform(*length_mm, number)
        across = rng.normal(0.0, across_rad_mm, number)
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
            # Farther away the weight is below the precision of the numbers.
            near = np.flatnonzero(np.abs(points[:, 0] - centre[0]) < (1.0 + 40.0 * _SOFTNESS) * radius[0])
            reach = np.sqrt((((points[near] - centre) / radius) ** 2).sum(axis=1))
            healthy[near] *= 1.0 - 1.0 / (1.0 + np.exp(np.clip((reach - 1.0) / _SOFTNESS, -40.0, 40.0)))
        return np.asarray(1.0 - healthy)


@dataclass(frozen=True)
class Disease:
    """What tissue turns into where the disease is complete."""

    mean_um: float
    cv: float
    fraction: float
    d0i_um2_ms: float
    nucleus_ratio: float = 0.5  # diameter of a nucleus over that of its cell


# Small, densely packed cells; and dead tissue, where few and shrunken cells are left in fluid.
DISEASES = {"infiltrated": Disease(12.5, 0.16, 0.78, 1.15), "necrotic": Disease(16.0, 0.24, 0.28, 1.5)}
# The same where cells are balls in three dimensions, which cannot fill more than 0.62 (see `packing`).
REALISTIC_DISEASES = {
    "infiltrated": Disease(12.5, 0.2, 0.58, 1.15, 0.6),
    "necrotic": Disease(16.0, 0.24, 0.28, 1.5, 0.45),
}
HEPATOCYTE_CV, HEPATOCYTE_NUCLEUS_RATIO = 0.2, 0.42
# Share of the volume that vacuoles of fat fill where there is no disease.
_FAT = {"control": (0.0, 0.0), "infiltrated": (0.01, 0.03), "necrotic": (0.02, 0.05)}
_CLUSTERS = {"control": 0, "infiltrated": 24, "necrotic": 0}  # small ones, beside the foci
FULLEST = 0.61  # volume fraction of cells that are balls, next to which they jam
# Their number, and their radius as a part of the lobe's.
_FOCI = {"control": (0, (1.0, 1.0)), "infiltrated": (6, (0.16, 0.30)), "necrotic": (3, (0.28, 0.50))}


@dataclass(frozen=True)
class Texture:
    """What realistic tissue has besides: zones as small as a lobule, and vacuoles of fat."""

    zones: Waves
    fat: float  # mean share of the volume

    def fat_share(self, ill: FloatArray, zone: FloatArray) -> FloatArray:
        """Share of the volume that is fat: none where the tissue is ill, more in one part of a lobule."""
        return np.asarray(self.fat * (1.0 - ill) * (1.0 + 0.7 * zone))


@dataclass(frozen=True)
class Tissue:
    """Fields of one lobe: hepatocytes that vary slowly, and foci of disease within them."""

    group: Group
    mean_um: float
    fraction: float
    waves: tuple[Waves, ...]
    foci: Foci
    disease: Disease | None
    texture: Texture | None = None  # of realistic tissue

    def at(self, points: FloatArray) -> Fields:
        """Evaluate all fields at (N, 3) points in lobe coordinates, mm."""
        size, packing, spread, diffusion = (wave(points) for wave in self.waves)
        mean = self.mean_um * (1.0 + 0.06 * np.tanh(size))
        if self.texture is None:
            cv = 0.19 + 0.025 * np.tanh(spread)
            fraction = self.fraction + 0.055 * np.tanh(packing)
        else:
            zone = np.tanh(self.texture.zones(points))
            mean, cv = mean * (1.0 + 0.03 * zone), HEPATOCYTE_CV + 0.02 * np.tanh(spread)
            fraction = self.fraction + 0.03 * np.tanh(packing) - 0.02 * zone
        d0i = 1.3 + 0.1 * np.tanh(diffusion)
        ill: FloatArray = np.zeros(len(points))
        if self.disease is not None:
            ill, sick = self.foci(points), self.disease
            mean = mean + ill * (sick.mean_um * (1.0 + 0.04 * np.tanh(size)) - mean)
            cv = cv + ill * (sick.cv - cv)
            fraction = fraction + ill * (sick.fraction + 0.03 * np.tanh(packing) - fraction)
            d0i = d0i + ill * (sick.d0i_um2_ms - d0i)
        if self.texture is not None:
            fraction = np.minimum(fraction, FULLEST) * (1.0 - self.texture.fat_share(ill, zone))
        # Maxwell's obstruction by spheres: the fuller the tissue, the slower the fluid between the cells.
        deinf = WATER_UM2_MS / (1.0 + 0.5 * fraction)
        return Fields(fraction, mean, cv, d0i, deinf, 0.05 * mean)

    def inclusions(self, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return at (N, 3) points the share of the volume that is fat, and nucleus over cell diameter on average."""
        ill = self.foci(points) if self.disease is not None else np.zeros(len(points))
        ratio = HEPATOCYTE_NUCLEUS_RATIO * (1.0 - ill)
        if self.disease is not None:
            ratio = ratio + self.disease.nucleus_ratio * ill
        if self.texture is None:
            return np.zeros(len(points)), ratio
        return self.texture.fat_share(ill, np.tanh(self.texture.zones(points))), ratio


def random_tissue(rng: np.random.Generator, group: Group, extent_mm: FloatArray, physics: Physics = "simple") -> Tissue:
    """Draw the tissue of one lobe; the foci are spread over its half widths, (3,) mm.

    Realistic tissue has the same large foci as the simple one of the same seed. It is less full, as balls cannot
    overlap, and has zones, small clusters and fat besides.
    """
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
    if physics == "simple":
        return Tissue(group, mean, fraction, waves, foci, DISEASES.get(group))
    zones = Waves.random(rng, 16, (0.6, 1.2), 4.0)
    texture = Texture(zones, float(rng.uniform(*_FAT[group])))
    clusters = _CLUSTERS[group]
    place = rng.uniform(-0.75, 0.75, (clusters, 3)) * extent_mm
    small = Foci(
        np.vstack([foci.centre_mm, place]), np.vstack([foci.radius_mm, rng.uniform(0.08, 0.25, (clusters, 3))])
    )
    # 0.61 to 0.69 becomes 0.52 to 0.57.
    return Tissue(group, mean, 0.52 + (fraction - 0.61) * 0.625, waves, small, REALISTIC_DISEASES.get(group), texture)
