"""Corrections from the section under the microscope to the living tissue: shrinkage and sectioning."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.errors import InputError
from histomri.core.presets import CORRECTIONS, SECTIONS, SectionName

# The plane cuts equal spheres to discs of pi/4 their diameter on average.
SPHERE_MEAN = 4 / np.pi


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

    def record(self) -> dict[str, Any]:
        """Return the choice for a sidecar."""
        factor = self.section_factor
        return {
            "Preset": self.preset,
            "Shrinkage": self.shrinkage,
            "ShrinkageStretch": self.stretch,
            "Section": self.section,
            "SectionFactor": factor,
            "SizeFactor": None if factor is None else factor * self.stretch,
            "SectionThickness_um": self.section_thickness_um if self.section == "wicksell" else None,
        }


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
        raise InputError(
            f"a section thickness of {section_thickness_um:g} µm is not possible", hint="give it in µm, such as 4"
        )
    return Correction(preset, loss, chosen, float(section_thickness_um))
