"""The tissues and protocols of an in-silico study."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.errors import InputError
from histomri.core.presets import choose_preset, get_preset, names_preset
from histomri.mri import Acquisition, read_acquisition
from histomri.simulation.walker.substrates import LARGEST_FRACTION, Lattice

Bounds = tuple[tuple[float, float], tuple[float, float]]
TRUTH = ("F", "vCS_um", "D0I_um2_ms", "D0E_um2_ms")


@dataclass(frozen=True)
class Scan:
    """A protocol of the study.

    Attributes
    ----------
    name : str
        Of a preset, or of the file without its ending.
    acquisition : Acquisition
        Without echo times: the study has no relaxation.
    preset : str
        Whose bounds and b thresholds are used.
    """

    name: str
    acquisition: Acquisition
    preset: str

    @classmethod
    def read(cls, protocol: str | Path, preset: str | None) -> "Scan":
        """Read a protocol; without a preset, its name decides on the bounds."""
        read = read_acquisition(protocol)
        plain = Acquisition(read.b_smm2, read.delta_ms, read.Delta_ms, None, read.waveforms)
        name = str(protocol) if names_preset(protocol) else Path(protocol).name.split(".")[0]
        if not plain.is_b0.any():
            raise InputError("has no volume at b = 0", path=protocol, hint="add one: signals are relative to it")
        return cls(name, plain, choose_preset(preset, protocol))

    @property
    def bounds(self) -> Bounds:
        """Bounds of the diffusivities inside and outside the cells, µm²/ms."""
        bounds = get_preset(self.preset).bounds
        return bounds["D0I"], bounds["DEinf"]


@dataclass(frozen=True)
class Design:
    """Every combination of fractions, sizes and diffusivities, at some permeabilities.

    Attributes
    ----------
    fractions, diameters_um, permeabilities_um_s : tuple of float
        Of equal spheres on a cubic lattice.
    diffusivities : int
        Number of values of each diffusivity, evenly over the bounds, ends included.
    """

    fractions: tuple[float, ...]
    diameters_um: tuple[float, ...]
    permeabilities_um_s: tuple[float, ...]
    diffusivities: int

    def __post_init__(self) -> None:
        for name in ("fractions", "diameters_um", "permeabilities_um_s"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name} needs one or more different values, and has {list(values)}")
        if self.diffusivities < 1:
            raise InputError("a study needs one value or more of each diffusivity")
        for fraction, diameter in product(self.fractions, self.diameters_um):
            Lattice(diameter, fraction)

    def tissues(self, bounds: Bounds) -> pd.DataFrame:
        """Return the tissues, a row each, with the columns `TRUTH`; the diffusivity outside varies fastest."""
        inside, outside = (np.linspace(low, high, self.diffusivities).tolist() for low, high in bounds)
        rows = product(self.fractions, self.diameters_um, inside, outside)
        # Where spheres touch, the fraction is π/6, and the paper rounds it up.
        table = pd.DataFrame(rows, columns=list(TRUTH))
        return table.assign(F=table["F"].clip(upper=LARGEST_FRACTION))


PRESETS = {
    "paper": Design((0.197, 0.323, 0.406, 0.523), (8.0, 16.0, 22.0, 30.0), (10.0, 25.0, 50.0), 10),
    "quick": Design((0.197, 0.323, 0.406, 0.523), (8.0, 16.0, 22.0, 30.0), (10.0, 25.0, 50.0), 3),
}


def read_scans(protocols: Sequence[str | Path], preset: str | None) -> tuple[Scan, ...]:
    """Read the protocols of a study; InputError if two have the same name."""
    scans = tuple(Scan.read(protocol, preset) for protocol in protocols)
    names = [scan.name for scan in scans]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two protocols are called {name}", hint="rename one of the files: tables name them")
    return scans


def walked_together(scans: Iterable[Scan]) -> list[list[Scan]]:
    """Group the protocols that have the same bounds, and thus the same tissues: one walk serves them all."""
    groups: dict[Bounds, list[Scan]] = {}
    for scan in scans:
        groups.setdefault(scan.bounds, []).append(scan)
    return list(groups.values())
