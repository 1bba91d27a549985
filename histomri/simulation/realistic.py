"""A realistic section: a layer of cells in three dimensions, cut as thick as a microtome cuts, and its nuclei found.

`section.cut_section` draws the profiles of a thin plane straight from theory. Here cells have nuclei, which may lie
off their middle; the section has a thickness, within which profiles lie over each other; and what is drawn as a cell
is a nucleus with a rim, as QuPath does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.arrays import BoolArray, FloatArray, IntArray

from .layer import Layer, Matter, draw_layer, push_apart
from .nuclei import SolidCells, place_nuclei
from .realism import THICKNESS_UM, Detector
from .section import PITCH_MM, Section, lobe_columns
from .slab import Slab, all_profiles, cut_slab, detect_nuclei
from .tissue import Fields, Lobe, Tissue

_NUCLEUS_SCATTER, _ECCENTRICITY = 0.05, 0.4


@dataclass(frozen=True)
class Volume:
    """What the layer holds per volume of fresh tissue: the truth of a section."""

    nuclei_per_mm3: float
    fraction: float  # of the volume that cells fill
    fat: float  # of the volume that vacuoles fill
    mean_um: float  # diameter of the cells, by number
    vcs_um: float  # volume-weighted size of the cells, (<D^7>/<D^3>)^(1/4)
    nucleus_um: float  # mean diameter of the nuclei


@dataclass(frozen=True)
class RealisticSection(Section):
    """All cells that a slab cuts, and the nuclei found in it.

    The fields of `Section` are those of the cells; `profile_um` is the largest profile within the slab.
    """

    slab: Slab  # cells and vacuoles, in a frame of lobe coordinates times (1 - shrinkage)
    cell: BoolArray  # (M,) which profiles of the slab are those of cells; the others are vacuoles of fat
    nuclei: pd.DataFrame  # see `slab.detect_nuclei`; and u_mm, v_mm, and the true cell_um and nucleus_um, fresh
    volume: Volume
    detector: Detector

    def outlines(self) -> pd.DataFrame:
        """Return the areas of all cells on the slide, nucleus or not; see `slab.all_profiles`."""
        return all_profiles(self.slab, self.cell)

    def truth(self) -> dict[str, Any]:
        """Return sizes and densities of the fresh tissue, and how it was cut and read."""
        volume, detector = self.volume, self.detector
        return {
            "MeanDiameterUm": volume.mean_um, "vCSUm": volume.vcs_um, "Physics": "realistic",
            "ThicknessUm": self.slab.thickness_um, "NucleiPerMm3": volume.nuclei_per_mm3, "F": volume.fraction,
            "FatFraction": volume.fat, "MeanNucleusUm": volume.nucleus_um, "SmallestAreaUm2": detector.limit_um2,
            "Outline": detector.outline, "RimUm": detector.rim_um, "MissedNuclei": detector.missed,
            "MergedPairs": detector.merged, "NuclearAreaNoise": detector.area_noise,
        }  # fmt: skip


def cut_realistic_section(
    lobe: Lobe, tissue: Tissue, offset_mm: float, rng: np.random.Generator, *, thickness_um: float = THICKNESS_UM,
    shrinkage: float = 0.0, detector: Detector | None = None,
) -> RealisticSection:  # fmt: skip
    """Cut the lobe at w = `offset_mm` with a slab, and find its nuclei.

    Parameters
    ----------
    lobe, tissue, offset_mm, rng
        As for `section.cut_section`; the tissue should fill 0.62 of the volume at most.
    thickness_um : float
        Thickness of the section as it is cut.
    shrinkage : float
        Linear shrinkage of the section; the areas found are those on the slide.
    detector : Detector, optional
        Default: limit 10 µm², rim 5 µm, no flaws.

    Returns
    -------
    RealisticSection
        Cells, nuclei and truth; its areas are not yet torn or bent, as `Placement` does.
    """
    u, v = lobe_columns(lobe, offset_mm)
    points = np.column_stack([u, v, np.full(u.size, offset_mm)])
    fat, ratio = tissue.inclusions(points)

    def inside(x: FloatArray, y: FloatArray) -> BoolArray:
        return lobe.inside(x, y, offset_mm)

    return cut_columns(
        points[:, :2], 1000.0 * PITCH_MM, tissue.at(points), fat, ratio, inside, rng, thickness_um=thickness_um,
        shrinkage=shrinkage, detector=detector or Detector(), offset_mm=offset_mm,
    )  # fmt: skip


def cut_columns(
    place_mm: FloatArray, pitch_um: float, fields: Fields, fat: FloatArray, ratio: FloatArray,
    inside: Callable[[FloatArray, FloatArray], BoolArray], rng: np.random.Generator, *, thickness_um: float,
    shrinkage: float, detector: Detector, offset_mm: float = 0.0,
) -> RealisticSection:  # fmt: skip
    """Fill K square columns of tissue with cells, cut them, and find the nuclei.

    Parameters
    ----------
    place_mm, pitch_um : array, (K, 2), and float
        Middles of the columns, neighbours in the sequence side by side, and their width.
    fields, fat, ratio : Fields and arrays, (K,)
        Of the tissue, the share of its volume that is fat, and the diameter of a nucleus over that of its cell.
    inside : callable
        Tells which points, x and y in mm, are tissue.
    rng, thickness_um, shrinkage, detector, offset_mm
        As for `cut_realistic_section`.
    """
    matter = Matter(1000.0 * place_mm, pitch_um, fields.density_um3, fields.mean_um, fields.cv, fat)
    layer = draw_layer(matter, rng)
    within = inside(*(1e-3 * layer.centre_um[:, :2].T))
    layer = layer.take(within)
    cells = _in_reach(layer, ratio, thickness_um / (1.0 - shrinkage), rng)
    slab = cut_slab(cells, 0.0, thickness_um, shrinkage=shrinkage)
    found = detect_nuclei(slab, detector, rng)
    met = cells.take(slab.cell)
    own, fresh = met.nucleus_um > 0.0, 1e-3 / (1.0 - shrinkage)
    nuclei = found.assign(
        u_mm=fresh * found["x_um"], v_mm=fresh * found["y_um"], cell_um=met.diameter_um[found["profile"]],
        nucleus_um=met.nucleus_um[found["profile"]],
    )  # fmt: skip
    height = met.centre_um[own, 2]
    height = height - layer.depth_um * np.rint(height / layer.depth_um)
    return RealisticSection(
        1e-3 * met.centre_um[own, 0], 1e-3 * met.centre_um[own, 1], height, met.diameter_um[own],
        2e3 * fresh * slab.radius_um[own], offset_mm, slab, own, nuclei, _volume(layer, matter, ratio), detector,
    )  # fmt: skip


def _in_reach(layer: Layer, ratio: FloatArray, thickness_um: float, rng: np.random.Generator) -> SolidCells:
    """Push the layer apart, and return the cells that the slab around z = 0 can meet, with their nuclei."""
    centre = push_apart(layer.centre_um, layer.diameter_um, layer.depth_um)
    height = centre[:, 2] - layer.depth_um * np.rint(centre[:, 2] / layer.depth_um)
    near: IntArray = np.flatnonzero(np.abs(height) < 0.5 * (layer.diameter_um + thickness_um))
    centre, diameter = centre[near], layer.diameter_um[near]
    nucleus, size = place_nuclei(
        centre, diameter, ratio[layer.column[near]], rng, scatter=_NUCLEUS_SCATTER, eccentricity=_ECCENTRICITY
    )
    size[layer.vacuole[near]] = 0.0
    return SolidCells(centre, diameter, nucleus, size, np.array([np.inf, np.inf, layer.depth_um]))


def _volume(layer: Layer, matter: Matter, ratio: FloatArray) -> Volume:
    """Add up what the layer holds; each cell stands for the volume that it was drawn for."""
    cell = ~layer.vacuole
    column, diameter = layer.column[cell], layer.diameter_um[cell]
    volume = float(np.sum(1.0 / matter.density_um3[column]))
    cubes = np.pi / 6.0 * layer.diameter_um**3
    size = float((np.sum(diameter**7) / np.sum(diameter**3)) ** 0.25)
    return Volume(
        1e9 * diameter.size / volume, float(cubes[cell].sum()) / volume, float(cubes[~cell].sum()) / volume,
        float(diameter.mean()), size, float(np.mean(diameter * ratio[column])),
    )  # fmt: skip
