"""Stain vectors of a slide from its own pixels, for scanners and laboratories that the usual ones do not fit.

In optical density, the pixels of two stains fill a wedge of a plane, and its edges are the stains. The plane is that of
the two largest principal components, the edges are extreme percentiles of the angle in it (Macenko et al. 2009,
doi 10.1109/ISBI.2009.5193250).
"""

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.slides.raster import Raster
from histomri.slides.slide import Slide
from histomri.slides.stains import Stains
from histomri.slides.tissue import Tissue

# Paler pixels have no colour to speak of; the darkest are clipped, folded or black.
_PALE_OD, _DARK_OD = 0.15, 1.5
_EDGES = (1, 99)  # per cent; the very edges are noise
_LEAST_PIXELS = 1000
# Hematoxylin and DAB are some 40 degrees apart; within so few there is one stain only.
_LEAST_ANGLE = 15.0
_TILE_PX, _MOST_TILES, _MOST_PIXELS = 256, 60, 400_000
_HINT = "leave out --stains, or estimate them in QuPath (Analyze > Preprocessing) and pass the text"


def estimate_stains(rgb: NDArray[np.uint8], background_rgb: FloatArray) -> Stains:
    """Estimate hematoxylin and DAB from pixels of both.

    Parameters
    ----------
    rgb : (N, 3) uint8 ndarray
        Pixels of tissue.
    background_rgb : (3,) ndarray
        Colour of the glass.

    Raises
    ------
    InputError
        If there are too few stained pixels, or only one stain.
    """
    density = -np.log10(np.maximum(rgb, 1) / background_rgb)
    density = density[(density.max(axis=1) > _PALE_OD) & (density.max(axis=1) < _DARK_OD)]
    if len(density) < _LEAST_PIXELS:
        raise InputError(f"{len(density):,} stained pixels are too few to estimate the stains from", hint=_HINT)
    plane = np.linalg.eigh(density.T @ density)[1][:, :0:-1]
    # The first component points to where the stain is, so that angles lie around 0.
    plane[:, 0] *= np.sign(plane[:, 0].sum())
    across = density @ plane
    low, high = np.deg2rad(np.percentile(np.rad2deg(np.arctan2(across[:, 1], across[:, 0])), _EDGES))
    edges = np.stack([np.cos([low, high]), np.sin([low, high])], axis=1) @ plane.T
    edges = np.clip(edges, 0, None)
    edges /= np.linalg.norm(edges, axis=1, keepdims=True)
    if _degrees(edges[0], edges[1]) < _LEAST_ANGLE:
        raise InputError(
            f"the stains of the slide are {_degrees(edges[0], edges[1]):.0f} degrees apart, as if there were one only",
            hint=_HINT,
        )
    usual = Stains.h_dab()
    # DAB is brown: of the two, the one that takes more blue than red.
    dab = int(np.argmax(edges[:, 2] - edges[:, 0]))
    hematoxylin, brown = edges[1 - dab], edges[dab]
    vectors = np.stack([hematoxylin, brown, np.cross(hematoxylin, brown)])
    return Stains(usual.names, vectors, background_rgb, "estimated from the slide (Macenko)")


def usual_angles(stains: Stains) -> tuple[float, float]:
    """Return how far hematoxylin and DAB are from their usual colours, degrees."""
    usual = Stains.h_dab()
    return _degrees(stains.vectors[0], usual.vectors[0]), _degrees(stains.vectors[1], usual.vectors[1])


def tissue_pixels(
    slide: Slide, tissue: Tissue, um_per_px: float, region: BaseGeometry | None = None
) -> NDArray[np.uint8]:
    """Return pixels of the tissue, (N, 3), from tiles all over it; the same ones each time."""
    raster, view = None if region is None else Raster(region), slide.at(um_per_px)
    corners = [(x, y) for y in range(0, view.size_px[1], _TILE_PX) for x in range(0, view.size_px[0], _TILE_PX)]
    rng, pixels = np.random.default_rng(0), list[NDArray[np.uint8]]()
    for number in rng.permutation(len(corners)):
        x, y = corners[number]
        width, height = (min(_TILE_PX, size - start) for start, size in zip((x, y), view.size_px))
        across, down = (
            (start + np.arange(n) + 0.5) * size for start, n, size in zip((x, y), (width, height), view.um_per_px)
        )
        inside = tissue.inside(across, down)
        if raster is not None:
            inside &= raster.inside(across, down)
        if inside.any():
            pixels.append(view.read(x, y, width, height)[inside])
        if len(pixels) == _MOST_TILES:
            break
    found = np.concatenate(pixels) if pixels else np.empty((0, 3), np.uint8)
    return found if len(found) <= _MOST_PIXELS else rng.choice(found, _MOST_PIXELS, replace=False)


def _degrees(first: FloatArray, second: FloatArray) -> float:
    return float(np.rad2deg(np.arccos(np.clip(first @ second, -1, 1))))
