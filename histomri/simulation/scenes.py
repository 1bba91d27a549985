"""Sections of balls with nuclei in them, quickly drawn, with clusters and zones: for errors that many draws must show.

Cells may lie in each other: only their places, sizes and heights matter for stereology and its errors. For tissue that
is packed see `packing` and `slab`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from histomri.core.arrays import FloatArray, IntArray

FIELD_UM = 2500.0
_PIXEL_UM = 25.0  # of the maps of zones
_RATIO, _RATIO_SCATTER = 0.55, 0.05  # nucleus over cell
_SHOWN = 0.89  # of a nucleus's diameter, on average, is seen above a limit of 10 µm²


@dataclass(frozen=True)
class Scene:
    """How cells lie in a field: in clusters, or in zones of size or of density."""

    cluster: tuple[int, float] | None = None  # cells per cluster, and its standard deviation in µm
    size: float = 0.0  # relative standard deviation of the size between zones
    density: float = 0.0  # the same of the density
    zone_um: float = 150.0  # standard deviation of the smoothing that makes zones about twice as wide


SCENES: dict[str, Scene] = {
    "random": Scene(),
    "sizes in zones": Scene(size=0.10),
    "density in zones": Scene(density=0.25),
    "clusters of 20 um": Scene((10, 20.0)),
    "clusters of 60 um": Scene((20, 60.0)),
    "clusters of 120 um": Scene((50, 120.0)),
    "both in large zones": Scene(size=0.10, density=0.25, zone_um=300.0),
}


@dataclass(frozen=True)
class Shown:
    """What a section shows of N nuclei and their cells."""

    x_um: FloatArray
    y_um: FloatArray
    nucleus_um2: FloatArray
    cell_um2: FloatArray


def lognormal_sizes(rng: np.random.Generator, number: int, mean_um: float, cv: float) -> FloatArray:
    """Draw diameters, (number,)."""
    spread = float(np.sqrt(np.log1p(cv**2)))
    return np.asarray(mean_um * np.exp(spread * rng.standard_normal(number) - 0.5 * spread**2))


def show_nuclei(
    rng: np.random.Generator, diameter_um: FloatArray, thickness_um: float, limit_um2: float, *,
    thinnest_um: float = 0.0,
) -> tuple[FloatArray, float]:  # fmt: skip
    """Cut balls (N,) at random heights; return the areas of those that are seen, and the depth they are spread over.

    The balls are N / (depth A) per volume in a field of area A. Caps that reach less than `thinnest_um` into the slab
    from outside are not seen.
    """
    depth = float(diameter_um.max()) + thickness_um
    beyond = _beyond(rng, diameter_um.size, depth, thickness_um)
    area = np.pi / 4.0 * (diameter_um**2 - 4.0 * beyond**2)
    return area[(area >= limit_um2) & (0.5 * diameter_um - beyond > thinnest_um)], depth


def draw_scene(
    rng: np.random.Generator, scene: Scene, *, seen: float = 15_600, nucleus_um: float = 8.0, cv: float = 0.2,
    thickness_um: float = 4.0, limit_um2: float = 10.0,
) -> Shown:  # fmt: skip
    """Draw a field of `FIELD_UM` with about `seen` nuclei, each in the middle of its cell; nothing has shrunk."""
    depth = 3.0 * nucleus_um + thickness_um
    place = _places(rng, scene, seen * depth / (thickness_um + _SHOWN * nucleus_um))
    diameter = lognormal_sizes(rng, len(place), nucleus_um, cv)
    if scene.size > 0.0:
        diameter = diameter * np.exp(_zones(rng, scene.size, scene.zone_um))[_pixels(place)]
    cell = diameter / np.clip(_RATIO * (1.0 + _RATIO_SCATTER * rng.standard_normal(len(place))), 0.4, 0.9)
    beyond = _beyond(rng, len(place), depth, thickness_um)
    area = np.pi / 4.0 * (diameter**2 - 4.0 * beyond**2)
    keep = area >= limit_um2
    outline = np.pi / 4.0 * (cell[keep] ** 2 - 4.0 * beyond[keep] ** 2)
    return Shown(place[keep, 0], place[keep, 1], area[keep], outline)


def _beyond(rng: np.random.Generator, number: int, depth: float, thickness_um: float) -> FloatArray:
    """Return how far the middles of balls lie outside the slab, (number,)."""
    height = depth * np.abs(rng.random(number) - 0.5)
    return np.asarray(np.maximum(height - 0.5 * thickness_um, 0.0))


def _zones(rng: np.random.Generator, spread: float, zone_um: float) -> FloatArray:
    """Return a smooth random map with mean 0 and this spread."""
    sigma, width = zone_um / _PIXEL_UM, int(FIELD_UM / _PIXEL_UM)
    margin = int(4 * sigma)
    noise = rng.standard_normal((width + 2 * margin, width + 2 * margin))
    smooth = ndimage.gaussian_filter(noise, sigma, mode="wrap")[margin:-margin, margin:-margin]
    return np.asarray(spread * smooth * (2.0 * np.sqrt(np.pi) * sigma))


def _pixels(place: FloatArray) -> tuple[IntArray, IntArray]:
    index = (place / _PIXEL_UM).astype(np.intp)
    return index[:, 1], index[:, 0]


def _places(rng: np.random.Generator, scene: Scene, number: float) -> FloatArray:
    if scene.cluster is not None:
        per, spread = scene.cluster
        side = FIELD_UM + 8.0 * spread
        parents = rng.poisson(number / per * (side / FIELD_UM) ** 2)
        which = np.repeat(np.arange(parents), rng.poisson(per, parents))
        place = side * rng.random((parents, 2))[which] - 4.0 * spread + spread * rng.standard_normal((which.size, 2))
        return np.asarray(place[((place >= 0.0) & (place < FIELD_UM)).all(axis=1)])
    most = 1.0 + 4.0 * scene.density
    place = FIELD_UM * rng.random((rng.poisson(number * most), 2))
    if scene.density == 0.0:
        return place
    dense = np.maximum(1.0 + _zones(rng, scene.density, scene.zone_um), 0.0)
    return np.asarray(place[most * rng.random(len(place)) < dense[_pixels(place)]])
