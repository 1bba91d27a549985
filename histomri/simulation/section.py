"""A thin plane through the lobe: the spheres that it cuts, and the profiles that a microscope sees.

A plane meets a sphere of diameter D if the centre is nearer than D/2. So in tissue with N_V spheres per volume it meets
N_A = N_V <D> per area, their diameters are drawn with weight D, and given D the height of the centre is uniform in
(-D/2, D/2). Drawing those spheres directly is the same as filling the volume with spheres and keeping the ones that
the plane meets; the others are never seen. (Underwood, Quantitative Stereology, 1970.)
"""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import FloatArray, IntArray

from .lobe import Lobe
from .packing import separate
from .tissue import Tissue

_PITCH_MM = 0.03


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


def cut_section(lobe: Lobe, tissue: Tissue, offset_mm: float, rng: np.random.Generator) -> Section:
    """Cut the lobe at w = `offset_mm`.

    The centres are stratified (their number in any patch differs from its expectation by far less than a Poisson
    number would, as cells cannot pile up) and then pushed apart until the profiles hardly overlap.
    """
    half = lobe.extent_mm[:2] + 0.1
    columns, rows = (int(np.ceil(2.0 * width / _PITCH_MM)) for width in half)
    u = (np.arange(columns) + 0.5) * _PITCH_MM - half[0]
    v = (np.arange(rows) + 0.5) * _PITCH_MM - half[1]
    # There and back along the rows, so that neighbours in the sequence are neighbours in the plane.
    uu, vv = np.tile(u, (rows, 1)), np.tile(v[:, None], (1, columns))
    uu[1::2] = uu[1::2, ::-1]
    near = lobe.inside(uu, vv, offset_mm) | _touches(lobe, uu, vv, offset_mm)
    uu, vv = uu[near], vv[near]
    fields = tissue.at(np.column_stack([uu, vv, np.full(uu.size, offset_mm)]))
    per_um2 = fields.density_um3 * fields.mean_um
    box = _stratified(per_um2 * (1000.0 * _PITCH_MM) ** 2, rng)
    u_mm = uu[box] + _PITCH_MM * (rng.random(box.size) - 0.5)
    v_mm = vv[box] + _PITCH_MM * (rng.random(box.size) - 0.5)
    within = lobe.inside(u_mm, v_mm, offset_mm)
    box, u_mm, v_mm = box[within], u_mm[within], v_mm[within]

    spread = np.sqrt(np.log1p(fields.cv**2))
    middle = np.log(fields.mean_um) - 0.5 * spread**2
    # Drawing with weight D shifts the logarithm of a lognormal diameter by its variance.
    sphere = np.exp(middle[box] + spread[box] ** 2 + spread[box] * rng.standard_normal(box.size))
    height = sphere * (rng.random(box.size) - 0.5)
    profile = np.sqrt(sphere**2 - 4.0 * height**2)
    u_mm, v_mm = separate(u_mm, v_mm, 1e-3 * profile)
    return Section(u_mm, v_mm, height, sphere, profile, offset_mm)


def _touches(lobe: Lobe, u: FloatArray, v: FloatArray, w: float) -> np.ndarray:
    """Tell which boxes have a corner in the tissue though their middle has not."""
    h = 0.5 * _PITCH_MM
    corners = [lobe.inside(u + du, v + dv, w) for du in (-h, h) for dv in (-h, h)]
    return np.asarray(np.any(corners, axis=0))


def _stratified(expected: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw whole numbers with the given expectations, and return each index as often as it was drawn.

    Systematic sampling: one random start and then equal steps along the running sum, so that the number within any run
    of neighbours is off by less than one.
    """
    running = np.floor(np.cumsum(expected) + rng.random())
    return np.repeat(np.arange(expected.size), np.diff(running, prepend=0.0).astype(np.int64))
