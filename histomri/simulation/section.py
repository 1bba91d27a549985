"""A thin plane through the lobe: the spheres that it cuts, and the profiles that a microscope sees.

A plane meets a sphere of diameter D if the centre is nearer than D/2. So in tissue with N_V spheres per volume it meets
N_A = N_V <D> per area, their diameters are drawn with weight D, and given D the height of the centre is uniform in
(-D/2, D/2). Drawing those spheres directly is the same as filling the volume with spheres and keeping the ones that
the plane meets; the others are never seen. (Underwood, Quantitative Stereology, 1970.)
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numba
import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.kernel_cache import ensure_cache

from .tissue import Lobe, Tissue

ensure_cache()
PITCH_MM = 0.03
_DEFORMATION_MM = 0.2
_LOST = 0.04


@dataclass(frozen=True)
class Section:
    """N spheres cut by the plane w = `offset_mm`, before any shrinkage."""

    u_mm: FloatArray  # centres in the plane, lobe coordinates
    v_mm: FloatArray
    height_um: FloatArray  # of the sphere's centre above the plane
    sphere_um: FloatArray  # diameter of the sphere
    profile_um: FloatArray  # diameter of its profile
    offset_mm: float

    def __len__(self) -> int:
        return len(self.u_mm)

    def truth(self) -> dict[str, Any]:
        """Return the sizes of the spheres in the volume, by number and by volume."""
        # Spheres are cut in proportion to their diameter; dividing by it gives back the number distribution.
        sphere = self.sphere_um
        mean = len(sphere) / float(np.sum(1.0 / sphere))
        return {"MeanDiameterUm": mean, "vCSUm": float((np.sum(sphere**6) / np.sum(sphere**2)) ** 0.25)}


def cut_section(lobe: Lobe, tissue: Tissue, offset_mm: float, rng: np.random.Generator) -> Section:
    """Cut the lobe at w = `offset_mm`.

    The centres are stratified (their number in any patch differs from its expectation by far less than a Poisson
    number would, as cells cannot pile up) and then pushed apart until the profiles hardly overlap.
    """
    uu, vv = lobe_columns(lobe, offset_mm)
    fields = tissue.at(np.column_stack([uu, vv, np.full(uu.size, offset_mm)]))
    box = stratified(fields.density_um3 * fields.mean_um * (1000.0 * PITCH_MM) ** 2, rng)
    u_mm = uu[box] + PITCH_MM * (rng.random(box.size) - 0.5)
    v_mm = vv[box] + PITCH_MM * (rng.random(box.size) - 0.5)
    within = lobe.inside(u_mm, v_mm, offset_mm)
    box, u_mm, v_mm = box[within], u_mm[within], v_mm[within]
    spread = np.sqrt(np.log1p(fields.cv**2))
    middle = np.log(fields.mean_um) - 0.5 * spread**2
    # Drawing with weight D shifts the logarithm of a lognormal diameter by its variance.
    sphere = np.exp(middle[box] + spread[box] ** 2 + spread[box] * rng.standard_normal(box.size))
    height = sphere * (rng.random(box.size) - 0.5)
    profile = np.sqrt(sphere**2 - 4.0 * height**2)
    return Section(*separate(u_mm, v_mm, 1e-3 * profile), height, sphere, profile, offset_mm)


def lobe_columns(lobe: Lobe, offset_mm: float) -> tuple[FloatArray, FloatArray]:
    """Return the middles, (K,) and (K,) mm, of the boxes of `PITCH_MM` that hold tissue of the lobe at w = offset."""
    half = lobe.extent_mm[:2] + 0.1
    columns, rows = (int(np.ceil(2.0 * width / PITCH_MM)) for width in half)
    u = (np.arange(columns) + 0.5) * PITCH_MM - half[0]
    v = (np.arange(rows) + 0.5) * PITCH_MM - half[1]
    # There and back along the rows, so that neighbours in the sequence are neighbours in the plane.
    uu, vv = np.tile(u, (rows, 1)), np.tile(v[:, None], (1, columns))
    uu[1::2] = uu[1::2, ::-1]
    near = lobe.inside(uu, vv, offset_mm) | _touches(lobe, uu, vv, offset_mm)
    return uu[near], vv[near]


def _touches(lobe: Lobe, u: FloatArray, v: FloatArray, w: float) -> np.ndarray:
    """Tell which boxes have a corner in the tissue though their middle has not."""
    h = 0.5 * PITCH_MM
    return np.asarray(np.any([lobe.inside(u + du, v + dv, w) for du in (-h, h) for dv in (-h, h)], axis=0))


def stratified(expected: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw whole numbers with the given expectations, and return each index as often as it was drawn.

    Systematic sampling: one random start and then equal steps along the running sum, so that the number within any run
    of neighbours is off by less than one.
    """
    running = np.floor(np.cumsum(expected) + rng.random())
    return np.repeat(np.arange(expected.size), np.diff(running, prepend=0.0).astype(np.int64))


@dataclass(frozen=True)
class Placement:
    """Map from lobe coordinates (mm, in the plane of the section) to the slide (µm, origin top left, y down).

    A point p goes to  matrix @ (p + deformation(p)) + shift. The deformation is a sum of cosines less their affine part
    over the lobe, so that no affine can undo it.
    """

    matrix: FloatArray  # (2, 2) shrinkage, rotation, flip and shear
    shift_mm: FloatArray  # (2,)
    wave: FloatArray  # (2, W, 2) of the cosines
    phase: FloatArray  # (2, W)
    weight: FloatArray  # (2, W)
    level: FloatArray  # (2, 3) affine part of the cosines
    shrinkage: float  # by which all lengths shrink, cells included
    flipped: bool
    angle_deg: float
    lost: FloatArray  # (T, 4) tissue lost in cutting: ellipses of centre (u, v) and half axes, mm

    def deformation(self, points: FloatArray) -> FloatArray:
        """Displacement at (N, 2) points, mm."""
        return _cosines(points, self.wave, self.phase, self.weight) - _homogeneous(points) @ self.level.T

    def slide_um(self, points: FloatArray) -> FloatArray:
        """Take (N, 2) points from lobe coordinates, mm, to the slide, µm."""
        return np.asarray(1000.0 * ((points + self.deformation(points)) @ self.matrix.T + self.shift_mm))

    def present(self, points: FloatArray) -> BoolArray:
        """Tell which of (N, 2) points are on the slide at all."""
        kept = np.ones(len(points), dtype=bool)
        for u, v, a, b in self.lost:
            kept &= ((points[:, 0] - u) / a) ** 2 + ((points[:, 1] - v) / b) ** 2 > 1.0
        return kept


def random_placement(
    rng: np.random.Generator, lobe: Lobe, offset_mm: float, *, flipped: bool, shrinkage: float
) -> Placement:
    """Draw a placement of the section at w = `offset_mm`.

    No affine transform can undo the deformation of up to 0.2 mm. A part of 4 % of the tissue is missing on the slide:
    one bite out of the edge, two tears within.
    """
    u, v = np.meshgrid(*(np.linspace(-half, half, 120) for half in lobe.extent_mm[:2]))
    within = lobe.inside(u, v, offset_mm)
    points = np.column_stack([u[within], v[within]])
    angle = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.uniform(-0.03, 0.03)], [0.0, 1.0]])
    matrix = (1.0 - shrinkage) * turn @ np.diag([-1.0 if flipped else 1.0, 1.0]) @ shear
    reach = np.ptp(points, axis=0).mean()
    direction = rng.uniform(0.0, 2.0 * np.pi, (2, 4))
    length = reach * rng.uniform(0.8, 1.4, (2, 4))
    wave = (2.0 * np.pi / length)[..., None] * np.stack([np.cos(direction), np.sin(direction)], axis=-1)
    phase, weight = rng.uniform(0.0, 2.0 * np.pi, (2, 4)), rng.uniform(0.5, 1.0, (2, 4))
    raw = _cosines(points, wave, phase, weight)
    level = np.linalg.lstsq(_homogeneous(points), raw, rcond=None)[0].T
    largest = np.hypot(*(raw - _homogeneous(points) @ level.T).T).max()
    weight, level = weight * _DEFORMATION_MM / largest, level * _DEFORMATION_MM / largest
    lost, degrees = _lost_tissue(rng, points), float(np.degrees(angle))
    placed = Placement(matrix, np.zeros(2), wave, phase, weight, level, shrinkage, flipped, degrees, lost)
    return replace(placed, shift_mm=rng.uniform(1.0, 3.0, 2) - placed.slide_um(points).min(axis=0) / 1000.0)


def _lost_tissue(rng: np.random.Generator, points: FloatArray) -> FloatArray:
    """Find the sizes of a bite at the edge and of two narrow tears that together take their part of the points."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    edge = points[np.argmax(points @ np.array([np.cos(angle), np.sin(angle)]))]
    tears = points[rng.integers(len(points), size=2)] * 0.8
    centre = np.vstack([edge, tears])
    shape = np.array([[1.0, 1.3], [0.9, 0.16], [0.14, 0.7]])
    low, high = 0.0, float(np.ptp(points))
    for _ in range(30):
        size = 0.5 * (low + high)
        scaled = ((points[:, None] - centre) / np.maximum(shape * size, 1e-9)) ** 2
        taken = (scaled.sum(axis=2) < 1.0).any(axis=1).mean()
        low, high = (size, high) if taken < _LOST else (low, size)
    return np.column_stack([centre, np.maximum(shape * low, 1e-9)])


def _homogeneous(points: FloatArray) -> FloatArray:
    return np.column_stack([points, np.ones(len(points))])


def _cosines(points: FloatArray, wave: FloatArray, phase: FloatArray, weight: FloatArray) -> FloatArray:
    axes = zip(wave, phase, weight)
    return np.column_stack([sum(a * np.cos(points @ k + p) for k, p, a in zip(*axis)) for axis in axes])


def separate(x: FloatArray, y: FloatArray, diameter: FloatArray, sweeps: int = 10) -> tuple[FloatArray, FloatArray]:
    """Push overlapping discs apart; the order of the discs and the result are the same on every machine.

    Centres and diameters are (N,), in the same unit. Discs move by a fraction of their diameter, so density maps stay
    as they were. `sweeps` is how often every pair of neighbours is visited.
    """
    if x.size < 2:
        return x.copy(), y.copy()
    x, y = np.array(x, dtype=float), np.array(y, dtype=float)
    # Pairs that touch are at most one mean of two diameters apart; the few giants are served by the widest ring.
    edge = float(np.quantile(diameter, 0.995))
    radius = 0.5 * diameter
    place = np.arange(x.size)
    for _ in range(-(-sweeps // 2)):
        column = ((x - x.min()) / edge).astype(np.int64)
        row = ((y - y.min()) / edge).astype(np.int64)
        width, height = int(column.max()) + 1, int(row.max()) + 1
        box = row * width + column
        order = np.argsort(box, kind="stable")
        # Neighbours in the plane become neighbours in memory.
        x, y, radius, place = x[order], y[order], radius[order], place[order]
        start = np.searchsorted(box[order], np.arange(width * height + 1))
        for _ in range(2):
            _sweep(x, y, radius, start, width, height)
    back = np.argsort(place)
    return x[back], y[back]


@numba.njit(cache=True, nogil=True)
def _sweep(x: FloatArray, y: FloatArray, radius: FloatArray, start: IntArray, width: int, height: int) -> None:
    for row in range(height):
        for column in range(width):
            for i in range(start[row * width + column], start[row * width + column + 1]):
                for down in range(2):
                    for right in range(-1, 2):
                        if row + down >= height or not 0 <= column + right < width or (down == 0 and right < 0):
                            continue
                        other = (row + down) * width + column + right
                        first = i + 1 if (down == 0 and right == 0) else start[other]
                        for j in range(first, start[other + 1]):
                            _push(x, y, radius, i, j)


@numba.njit(cache=True, inline="always")
def _push(x: FloatArray, y: FloatArray, radius: FloatArray, i: int, j: int) -> None:
    dx, dy = x[j] - x[i], y[j] - y[i]
    reach = radius[i] + radius[j]
    squared = dx * dx + dy * dy
    if squared >= reach * reach or squared == 0.0:
        return
    distance = math.sqrt(squared)
    step = 0.5 * (reach - distance) / distance
    x[i] -= step * dx
    y[i] -= step * dy
    x[j] += step * dx
    y[j] += step * dy
