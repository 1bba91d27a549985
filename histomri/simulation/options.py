"""The options of `histomri simulate spheres`."""

from typing import Annotated

from pydantic import Field

from histomri.core.options import Number, Positive, Seed, Whole, given, option
from histomri.mri.options import PROTOCOL, Protocol, ProtocolOptions

Numbers = Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=1)]


class SpheresOptions(ProtocolOptions):
    """Simulate water that walks in and around permeable spheres, for every combination of the given numbers.

    Example: histomri simulate spheres --protocol mouse-exvivo --diameter-um 8,16,24 --fraction 0.3,0.5 -o spheres
    """

    protocol: Protocol = given(..., PROTOCOL)
    diameter_um: Numbers = option(..., "Diameters, with commas between them.", unit="µm", commas=True)
    fraction: Numbers = option(..., "Volume fractions of the spheres, up to 0.52, where they touch.", commas=True)
    d0i: Numbers = option((2.0,), "Diffusivities in the spheres.", unit="µm²/ms", commas=True)
    d0e: Numbers = option((2.0,), "Diffusivities between the spheres.", unit="µm²/ms", commas=True)
    permeability_um_s: Numbers = option((0.0,), "Permeabilities of the wall.", unit="µm/s", commas=True)
    walkers: Annotated[Whole, Field(ge=1)] = option(20_000, "Random walkers for each combination.")
    dt_ms: Positive = option(0.02, "Time step.", unit="ms")
    seed: Seed = option(1, "The same seed gives the same files.")
