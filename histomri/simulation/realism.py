"""What makes a simulated study realistic, in one object: the section, its reading, the water, and what goes wrong."""

from dataclasses import dataclass, field
from typing import Literal

from histomri.core.errors import InputError

Physics = Literal["simple", "realistic"]
Outline = Literal["rim", "mask"]
THICKNESS_UM, THICKEST_UM = 4.0, 20.0


@dataclass(frozen=True)
class Detector:
    """What a program for nuclei does with a section, flaws included."""

    limit_um2: float = 10.0  # smaller nuclear profiles are not detected; QuPath's default
    rim_um: float = 5.0  # by which a nucleus is grown to make QuPath's cell
    missed: float = 0.0  # share of the nuclei that are not detected though they are large enough
    merged: float = 0.0  # share of the close pairs that are taken for one nucleus
    close_um: float = 1.0  # pairs with a gap below this are close
    area_noise: float = 0.0  # relative SD of the nuclear area
    outline: Outline = "rim"  # what is drawn as a cell: the nucleus with its rim, or the cell itself, without overlap

    @property
    def area_column(self) -> str:
        """The column of a section's table with the area of what is drawn."""
        return f"{self.outline}_cell_area_um2"

    def __post_init__(self) -> None:
        """Refuse what is no share, or negative."""
        shares = {"missed": self.missed, "merged": self.merged, "area noise": self.area_noise}
        for name, value in shares.items():
            if not 0.0 <= value < 1.0:
                raise InputError(f"a detector cannot have {name} {value:g}", hint="give a share from 0 to below 1")
        if not min(self.limit_um2, self.rim_um, self.close_um) >= 0.0:
            raise InputError("the limit, the rim and the gap of a detector cannot be negative")


@dataclass(frozen=True)
class Membranes:
    """Water of realistic tissue, besides the diffusivity in its cells.

    Attributes
    ----------
    permeability_um_s : float
        Of the membranes.
    t2i_ms, t2e_ms : float
        Relaxation times inside, and outside, where it is not faster.
    d0e_um2_ms : float
        Diffusivity of the fluid between the cells, which the cells then hinder.
    """

    permeability_um_s: float
    t2i_ms: float
    t2e_ms: float
    d0e_um2_ms: float


@dataclass(frozen=True)
class Artefacts:
    """What goes wrong in a scan.

    Attributes
    ----------
    dropouts : int
        Weighted volumes of which one slice loses 30 to 70 % of its signal.
    motion_mm : float
        Standard deviation of the shift of each volume along each axis in plane.
    """

    dropouts: int = 0
    motion_mm: float = 0.0


@dataclass(frozen=True)
class Realism:
    """How realistic samples are made; see `simulate_liver`.

    Attributes
    ----------
    thickness_um : float
        Of the section, as it is cut.
    detector : Detector
        How nuclei are found, and what is drawn as a cell.
    permeability_um_s : float
        Of the membranes, 0 to 50.
    t2_ratio : float
        T2 between the cells over that in them, 1 or more.
    artefacts : Artefacts
        Of the scan.
    """

    thickness_um: float = THICKNESS_UM
    detector: Detector = field(default_factory=Detector)
    permeability_um_s: float = 15.0
    t2_ratio: float = 1.4
    artefacts: Artefacts = Artefacts()

    def __post_init__(self) -> None:
        if not 0 <= self.thickness_um <= THICKEST_UM:
            problem = f"a section of {self.thickness_um:g} µm is no section of a microtome"
            raise InputError(problem, hint=f"give 0 to {THICKEST_UM:g} µm")
        if not 0 <= self.permeability_um_s <= 50:
            problem = f"membranes of {self.permeability_um_s:g} µm/s were not walked"
            raise InputError(problem, hint="give 0 to 50 µm/s, or walk them with simulate spheres")
        if not 1 <= self.t2_ratio <= 2.5:
            problem = f"T2 between the cells of {self.t2_ratio:g} times that in them was not walked"
            raise InputError(problem, hint="give a ratio of 1 to 2.5, or walk it with simulate spheres")
        if self.artefacts.dropouts < 0 or self.artefacts.motion_mm < 0:
            raise InputError("dropouts and motion must be 0 or more")

    def membranes(self, *, in_vivo: bool) -> Membranes:
        """Return the water ex vivo at room temperature, or in vivo."""
        t2i, d0e = (50.0, 2.5) if in_vivo else (26.0, 2.0)
        return Membranes(self.permeability_um_s, t2i, self.t2_ratio * t2i, d0e)
