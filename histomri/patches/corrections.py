"""Corrections from the section under the microscope to the living tissue: cell sizes and the maps made of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.presets import CORRECTIONS, SECTIONS, SectionName
from histomri.patches import moments as mo
from histomri.patches.moments import Dispersion

SPHERE_MEAN = 4 / np.pi  # the plane cuts equal spheres to discs of pi/4 their diameter on average
UM2_PER_MM2 = 1e6
UM_PER_MM = 1e3


@dataclass(frozen=True)
class Correction:
    """A choice of corrections."""

    preset: str  # where the defaults are from
    shrinkage: float  # fraction p of its length that the tissue lost in processing; sizes are multiplied by 1 / (1 - p)
    section: SectionName  # how sizes of discs become sizes of spheres
    section_thickness_um: float  # thickness of the section, used by ``wicksell``

    @property
    def stretch(self) -> float:
        """Linear factor that undoes the shrinkage."""
        return 1 / (1 - self.shrinkage)

    @property
    def section_factor(self) -> float | None:
        """Factor that sizes are multiplied by for sectioning; None if it is not one factor."""
        return {"sphere-mean": SPHERE_MEAN, "none": 1.0}.get(self.section)

    def estimate(self, raw: FloatArray) -> FloatArray:
        """Return the volume-weighted size for raw moments, but for constant factors."""
        unfolded = self.section == "wicksell"
        return mo.volume_weighted_unfolded(raw, self.section_thickness_um) if unfolded else mo.volume_weighted(raw)

    def record(self) -> dict[str, Any]:
        """Return the choice for a sidecar."""
        factor = self.section_factor
        size_factor = None if factor is None else factor * self.stretch
        thickness = self.section_thickness_um if self.section == "wicksell" else None
        return {
            "Preset": self.preset, "Shrinkage": self.shrinkage, "ShrinkageStretch": self.stretch,
            "Section": self.section, "SectionFactor": factor, "SizeFactor": size_factor,
            "SectionThickness_um": thickness,
        }  # fmt: skip


def choose_correction(
    preset: str, section: str | None, shrinkage: float | None, section_thickness_um: float
) -> Correction:
    """Return the correction of a preset, with the settings given in its place."""
    if preset not in CORRECTIONS:
        raise InputError(f"there is no preset {preset!r}", hint=f"choose one of {', '.join(CORRECTIONS)}")
    loss = CORRECTIONS[preset].shrinkage if shrinkage is None else float(shrinkage)
    if not 0 <= loss < 1:
        raise InputError(f"a shrinkage of {loss:g} is not possible", hint="give a fraction, such as 0.129 for 12.9 %")
    chosen = next((name for name in SECTIONS if name == (section or CORRECTIONS[preset].section)), None)
    if chosen is None:
        raise InputError(f"there is no section correction {section!r}", hint=f"choose one of {', '.join(SECTIONS)}")
    if not (np.isfinite(section_thickness_um) and section_thickness_um >= 0):
        problem = f"a section thickness of {section_thickness_um:g} µm is not possible"
        raise InputError(problem, hint="give it in µm, such as 4")
    return Correction(preset, loss, chosen, float(section_thickness_um))


@dataclass(frozen=True)
class Sizes:
    """Statistics of cell size in µm."""

    vcs: FloatArray  # volume-weighted size
    mean: FloatArray
    sd: FloatArray
    skew: FloatArray
    height: FloatArray  # divides a density per area into one per volume
    vcs_error: FloatArray  # standard error of the volume-weighted size


def plain_sizes(moments: mo.Moments, factor: float = 1.0) -> Sizes:
    """Return the sizes of the profiles, all multiplied by one factor."""
    vcs = mo.volume_weighted(moments.raw)
    error = mo.standard_error(moments.raw, moments.count, mo.gradient_of_ratio(moments.raw, 7, 3))
    mean = factor * moments.raw[1]
    return Sizes(factor * vcs, mean, factor * moments.sd, moments.skew, mean, factor * error)


def corrected_sizes(moments: mo.Moments, correction: Correction) -> Sizes:
    """Return the sizes of the spheres in the living tissue.

    Sectioning is undone first, because the section was cut from the shrunken tissue, then shrinkage.
    """
    if (factor := correction.section_factor) is not None:
        return plain_sizes(moments, factor * correction.stretch)
    thickness, stretch = correction.section_thickness_um, correction.stretch
    spheres = mo.unfold(moments.raw, thickness)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, variance = spheres[1], spheres[2] - spheres[1] ** 2
        variance = np.where(variance >= 0, variance, np.nan)
        skew = (spheres[3] - 3 * mean * spheres[2] + 2 * mean**3) / variance**1.5
    gradient = mo.gradient_of_unfolded(moments.raw, thickness)
    error = mo.standard_error(moments.raw, moments.count, gradient)
    vcs = mo.volume_weighted_unfolded(moments.raw, thickness)
    sd, height = np.sqrt(variance), mean + thickness
    return Sizes(stretch * vcs, stretch * mean, stretch * sd, skew, stretch * height, stretch * error)


def size_maps(
    moments: mo.Moments, sizes: Sizes, analysed_um2: FloatArray, stretch: float, min_cells: int
) -> dict[str, FloatArray]:
    """Return vCS, aCS, sdCS, skewCS, F, CD and CDvol; sizes are NaN where there are fewer than `min_cells`."""
    few = moments.count < min_cells
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = moments.area / analysed_um2
        density = UM2_PER_MM2 * moments.count / (analysed_um2 * stretch**2)
        volume = np.where(moments.count == 0, 0.0, np.where(few, np.nan, UM_PER_MM * density / sizes.height))
    named = {"vCS": sizes.vcs, "aCS": sizes.mean, "sdCS": sizes.sd, "skewCS": sizes.skew}
    maps = {name: np.where(few, np.nan, values) for name, values in named.items()}
    return {**maps, "F": fraction, "CD": density, "CDvol": volume}


def error_maps(
    moments: mo.Moments, sizes: Sizes, analysed_um2: FloatArray, stretch: float, min_cells: int, dispersed: Dispersion,
    relative: FloatArray | None,
) -> dict[str, FloatArray]:  # fmt: skip
    """Return the standard errors of vCS, F and CD; NaN where they are not known (one cell, or none).

    Without `relative`, the error of vCS relative to vCS, that of the delta method is taken.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        fraction = np.sqrt(dispersed.area * moments.area_squared) / analysed_um2
        density = UM2_PER_MM2 * np.sqrt(dispersed.count * moments.count) / (analysed_um2 * stretch**2)
    empty = moments.count == 0
    of_sizes = sizes.vcs_error if relative is None else relative * sizes.vcs
    vcs_error = np.where(moments.count < min_cells, np.nan, of_sizes)
    return {"vCS": vcs_error, "F": np.where(empty, np.nan, fraction), "CD": np.where(empty, np.nan, density)}
