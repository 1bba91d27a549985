"""A section as thick as a microtome cuts it, and what a program for nuclei finds in it.

Light passes through the whole thickness, so a nucleus shows its largest cross section within the slab, and the
profiles of neighbours may lie over each other. Of N_V nuclei of diameter d per volume, the number that show more than
the diameter x per area is N_V (t + sqrt(d² - x²)): a slab of thickness t sees more than a plane, and caps that are
smaller than the detector's limit are lost.

All that is returned is in the frame of the slide: shrunk, with the thickness as it was cut.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError

from .nuclei import SolidCells
from .outlines import grown_areas, nearest_profiles, power_areas
from .realism import THICKEST_UM, Detector


@dataclass(frozen=True)
class Slab:
    """Profiles of M cells that a section meets, in the frame of the slide."""

    cell: IntArray  # (M,) which cell it is
    centre_um: FloatArray  # (M, 2) of the cell's profile
    radius_um: FloatArray  # (M,)
    nucleus_centre_um: FloatArray  # (M, 2)
    nucleus_radius_um: FloatArray  # (M,) of the nucleus's profile; 0 where the section misses the nucleus
    period_um: FloatArray  # (2,) after which the field repeats; inf where it does not
    thickness_um: float
    shrinkage: float

    def __len__(self) -> int:
        return len(self.cell)


def cut_slab(cells: SolidCells, middle_um: float, thickness_um: float, *, shrinkage: float = 0.0) -> Slab:
    """Cut a slab across the third axis.

    Parameters
    ----------
    cells : SolidCells
        Cells in fresh tissue. Where they are periodic, so is the slab.
    middle_um : float
        Where the middle of the slab lies, in fresh tissue.
    thickness_um : float
        Thickness of the section as the microtome cuts it, 0 to 20 µm: of tissue that has shrunk already.
    shrinkage : float
        Linear shrinkage, 0 to below 0.9.

    Raises
    ------
    InputError
        If a number is out of range.
    """
    if not (0.0 <= thickness_um <= THICKEST_UM and 0.0 <= shrinkage < 0.9):
        raise InputError(
            f"a section of {thickness_um:g} µm with a shrinkage of {shrinkage:g} cannot be cut",
            hint=f"give 0 to {THICKEST_UM:g} µm and a fraction below 0.9",
        )
    scale = 1.0 - shrinkage
    half, depth = 0.5 * thickness_um / scale, float(cells.period_um[2])
    radius = _cross_section(cells.centre_um[:, 2] - middle_um, cells.diameter_um, half, depth)
    met = np.flatnonzero(radius > 0.0)
    nucleus = _cross_section(cells.nucleus_centre_um[met, 2] - middle_um, cells.nucleus_um[met], half, depth)
    return Slab(
        met, scale * cells.centre_um[met, :2], scale * radius[met], scale * cells.nucleus_centre_um[met, :2],
        scale * nucleus, scale * cells.period_um[:2], thickness_um, shrinkage,
    )  # fmt: skip


def _cross_section(height: FloatArray, diameter: FloatArray, half: float, depth: float) -> FloatArray:
    """Return the radius of the largest cross section within a slab of half thickness `half`; 0 if there is none."""
    if np.isfinite(depth):
        height = height - depth * np.rint(height / depth)
    beyond = np.maximum(np.abs(height) - half, 0.0)
    return np.asarray(np.sqrt(np.maximum(0.25 * diameter**2 - beyond**2, 0.0)))


def detect_nuclei(slab: Slab, detector: Detector, rng: np.random.Generator) -> pd.DataFrame:
    """Find the nuclei of a section, and what is drawn as their cells.

    Returns
    -------
    DataFrame
        One row per object: x_um, y_um (middle of the nucleus), nucleus_area_um2, rim_cell_area_um2 (nucleus grown by
        the rim, stopped where the growth of a neighbour meets it), mask_cell_area_um2 (outline of the cell without
        overlap), outline_cell_area_um2 (whole projection of the cell), and profile, the row in the slab. An object
        that stands for two nuclei has the sum of their areas.
    """
    area = np.pi * slab.nucleus_radius_um**2
    area *= np.maximum(1.0 + detector.area_noise * rng.standard_normal(len(slab)), 0.05)
    keep = area >= max(detector.limit_um2, 1e-9)
    keep[keep] = rng.random(int(keep.sum())) >= detector.missed
    seen = np.flatnonzero(keep)
    mask = power_areas(slab.centre_um, slab.radius_um, slab.period_um, seen)
    # A mask that is smaller than the nucleus drawn in it is one that no program makes.
    mask = np.maximum(mask, area[seen])
    found: dict[str, Any] = {
        "x_um": slab.nucleus_centre_um[seen, 0], "y_um": slab.nucleus_centre_um[seen, 1],
        "nucleus_area_um2": area[seen], "rim_cell_area_um2": np.zeros(seen.size), "mask_cell_area_um2": mask,
        "outline_cell_area_um2": np.maximum(np.pi * slab.radius_um[seen] ** 2, area[seen]), "profile": seen,
    }  # fmt: skip
    table = _merge(pd.DataFrame(found), slab.period_um, detector, rng)
    place, size = table[["x_um", "y_um"]].to_numpy(), np.sqrt(table["nucleus_area_um2"].to_numpy() / np.pi)
    table["rim_cell_area_um2"] = grown_areas(place, size, slab.period_um, detector.rim_um)
    return table


def _merge(table: pd.DataFrame, period: FloatArray, detector: Detector, rng: np.random.Generator) -> pd.DataFrame:
    """Lump a share of the close pairs: nuclei that are each other's nearest, with hardly a gap between them."""
    if detector.merged == 0.0 or len(table) < 2:
        return table
    place, area = table[["x_um", "y_um"]].to_numpy(), table["nucleus_area_um2"].to_numpy()
    nearest, gap = nearest_profiles(place, np.sqrt(area / np.pi), period, detector.close_um)
    number = np.arange(len(table))
    close = (nearest > number) & (gap < detector.close_um)
    close[close] = nearest[nearest[close]] == number[close]
    close[close] = rng.random(int(close.sum())) < detector.merged
    first, second = number[close], nearest[close]
    share = (area[second] / (area[first] + area[second]))[:, None]
    away = place[second] - place[first]
    wrapped = np.isfinite(period)
    away[:, wrapped] -= period[wrapped] * np.rint(away[:, wrapped] / period[wrapped])
    merged = table.copy()
    merged.loc[first, ["x_um", "y_um"]] = place[first] + share * away
    for name in ("nucleus_area_um2", "mask_cell_area_um2", "outline_cell_area_um2"):
        values = table[name].to_numpy()
        merged.loc[first, name] = values[first] + values[second]
    return merged.drop(index=second).reset_index(drop=True)


def all_profiles(slab: Slab, chosen: BoolArray | None = None) -> pd.DataFrame:
    """Return the outlines of all cells, nucleus or not: mask_cell_area_um2 (no overlap) and outline_cell_area_um2."""
    rows = np.arange(len(slab)) if chosen is None else np.flatnonzero(chosen)
    mask = power_areas(slab.centre_um, slab.radius_um, slab.period_um, rows)
    outline = np.pi * slab.radius_um[rows] ** 2
    return pd.DataFrame({"mask_cell_area_um2": mask, "outline_cell_area_um2": outline})
