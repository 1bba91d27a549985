"""Corrections from what the microscope shows to what was in the tissue: shrinkage and sectioning."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from histomri.core.errors import InputError

Preset = Literal["mouse-exvivo", "human-biopsy", "none"]
Section = Literal["sphere-mean", "wicksell", "none"]

# The plane cuts equal spheres to discs of pi/4 their diameter on average.
SPHERE_MEAN = 4 / np.pi
# Preset -> (linear shrinkage, section correction); Grussu et al. 2025, doi 10.1038/s43856-025-01246-2.
PRESETS: dict[str, tuple[float, Section]] = {
    "mouse-exvivo": (0.129, "sphere-mean"),
    "human-biopsy": (0.153, "sphere-mean"),
    "none": (0.0, "none"),
}
SECTIONS = ("sphere-mean", "wicksell", "none")


@dataclass(frozen=True)
class Correction:
    """A choice of corrections.

    Attributes
    ----------
    preset : str
        Where the defaults are from.
    shrinkage : float
        Fraction p of its length that the tissue lost in processing; sizes are multiplied by 1 / (1 - p).
    section : {"sphere-mean", "wicksell", "none"}
        How sizes of discs become sizes of spheres.
    section_thickness_um : float
        Thickness of the section, used by ``wicksell``.
    """

    preset: str
    shrinkage: float
    section: Section
    section_thickness_um: float

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
    """Return the preset with what was set by hand put over it.

    Raises
    ------
    InputError
        If a name is unknown or a number impossible.
    """
    if preset not in PRESETS:
        raise InputError(f"there is no preset {preset!r}", hint=f"choose one of {', '.join(PRESETS)}")
    loss, default = PRESETS[preset]
    loss = loss if shrinkage is None else float(shrinkage)
    if not 0 <= loss < 1:
        raise InputError(f"a shrinkage of {loss:g} is not possible", hint="give a fraction, such as 0.129 for 12.9 %")
    chosen = next((name for name in SECTIONS if name == (section or default)), None)
    if chosen is None:
        raise InputError(f"there is no section correction {section!r}", hint=f"choose one of {', '.join(SECTIONS)}")
    if not (np.isfinite(section_thickness_um) and section_thickness_um >= 0):
        raise InputError(
            f"a section thickness of {section_thickness_um:g} µm is not possible", hint="give it in µm, such as 4"
        )
    return Correction(preset, loss, chosen, float(section_thickness_um))  # type: ignore[arg-type]
