"""How the section came to lie on the slide: shrunk, turned, perhaps flipped, slightly sheared and deformed, torn."""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray

from .lobe import Lobe


@dataclass(frozen=True)
class Placement:
    """Map from lobe coordinates (mm, in the plane of the section) to the slide (µm, origin top left, y down).

    A point p goes to  matrix @ (p + deformation(p)) + shift.

    The deformation is a sum of cosines less their affine part over the lobe, so that no affine can undo it.
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
    rng: np.random.Generator,
    lobe: Lobe,
    offset_mm: float = 0.0,
    *,
    flipped: bool = False,
    shrinkage: float = 0.129,
    deformation_mm: float = 0.2,
    lost_fraction: float = 0.04,
) -> Placement:
    """Draw a placement of the section at w = `offset_mm`.

    No affine transform can undo the deformation of up to `deformation_mm`. The part `lost_fraction` of the tissue is
    missing on the slide: one bite out of the edge, two tears within.
    """
    points = _points_in(lobe, offset_mm)
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
    weight, level = weight * deformation_mm / largest, level * deformation_mm / largest

    lost = _lost_tissue(rng, points, lost_fraction)
    placed = Placement(matrix, np.zeros(2), wave, phase, weight, level, shrinkage, flipped, np.degrees(angle), lost)
    corner = placed.slide_um(points).min(axis=0) / 1000.0
    shift = rng.uniform(1.0, 3.0, 2) - corner
    return Placement(matrix, shift, wave, phase, weight, level, shrinkage, flipped, float(np.degrees(angle)), lost)


def _points_in(lobe: Lobe, offset_mm: float) -> FloatArray:
    half = lobe.extent_mm[:2]
    u, v = np.meshgrid(np.linspace(-half[0], half[0], 120), np.linspace(-half[1], half[1], 120))
    within = lobe.inside(u, v, offset_mm)
    return np.column_stack([u[within], v[within]])


def _lost_tissue(rng: np.random.Generator, points: FloatArray, fraction: float) -> FloatArray:
    """Find the sizes of a bite at the edge and of two narrow tears that together take `fraction` of the points."""
    edge = points[np.argmax(points @ _unit(rng.uniform(0.0, 2.0 * np.pi)))]
    tears = points[rng.integers(len(points), size=2)] * 0.8
    centre = np.vstack([edge, tears])
    shape = np.array([[1.0, 1.3], [0.9, 0.16], [0.14, 0.7]])
    low, high = 0.0, float(np.ptp(points))
    for _ in range(30):
        size = 0.5 * (low + high)
        scaled = ((points[:, None] - centre) / np.maximum(shape * size, 1e-9)) ** 2
        taken = (scaled.sum(axis=2) < 1.0).any(axis=1).mean()
        low, high = (size, high) if taken < fraction else (low, size)
    return np.column_stack([centre, np.maximum(shape * low, 1e-9)])


def _unit(angle: float) -> FloatArray:
    return np.array([np.cos(angle), np.sin(angle)])


def _homogeneous(points: FloatArray) -> FloatArray:
    return np.column_stack([points, np.ones(len(points))])


def _cosines(points: FloatArray, wave: FloatArray, phase: FloatArray, weight: FloatArray) -> FloatArray:
    parts = [
        sum(a * np.cos(points @ k + p) for k, p, a in zip(wave[axis], phase[axis], weight[axis])) for axis in range(2)
    ]
    return np.column_stack(parts)
