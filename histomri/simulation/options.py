"""The options of `histomri simulate` and `histomri insilico`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from histomri import mri
from histomri.core.options import Number, Options, Positive, Seed, Whole, check, given, option
from histomri.core.presets import PRESET_NAMES, STRATEGIES, PresetName, Strategy
from histomri.fitting.models import MODEL_NAMES
from histomri.fitting.options import Models
from histomri.mri.options import PROTOCOL, Protocol, ProtocolOptions

_SEED = "Seed of the random numbers: the same seed gives the same files."
_SNR = "Signal over noise of liver tissue at b = 0."
_AREA = "Area of a lobe; smaller is faster."


def _some(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("has no value")
    return values


Positives = Annotated[tuple[Positive, ...], check(_some)]
Numbers = Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=1)]


class LiverOptions(Options):
    """Write a digital study of mouse livers: QuPath tables, DWI, masks, protocol, study.toml, and truth/.

    Example: histomri simulate liver -o livers --samples 3 && histomri run livers/study.toml -o results
    """

    samples: Whole = option(6, "Livers: control, infiltrated and necrotic in turn; 3 or more.")
    seed: Seed = option(1, _SEED)
    snr: Positive = option(50.0, _SNR)
    area_mm2: Positive = option(75.0, _AREA, unit="mm²")


class PaperOptions(Options):
    """Write a digital study built like the paper's: mice, and biopsies of patients, with Ki-67 and volumes.

    Example: histomri simulate paper -o paper && histomri run paper/study.toml -o results
    """

    mice: Whole = option(7, "Livers: control, infiltrated and necrotic in turn.")
    biopsies: Whole = option(18, "Biopsies of patients, from two scanners.")
    seed: Seed = option(1, _SEED)
    snr: Positive = option(50.0, _SNR)
    area_mm2: Positive = option(20.0, _AREA, unit="mm²")


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
    seed: Seed = option(1, _SEED)


class InsilicoOptions(Options):
    """Walk water through tissue of known cell size, fit every model by every strategy, and score them by the truth.

    The page insilico.html in the results says which claims of the source paper hold, at which SNR.

    Example: histomri insilico --preset quick --snr 30 --snr 100 -o insilico
    Example: histomri insilico --protocol mine.txt --bounds-of invivo-3t --kappa 10,50 --model diff-in -o mine
    """

    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)] = option(
        PRESET_NAMES, f"{PROTOCOL} May be repeated.", flag="--protocol"
    )
    preset: Literal["paper", "quick"] = option(
        "quick", "paper: 10 values of each diffusivity, as in the source paper, in an hour; quick: 3, in minutes."
    )
    snr: Positives = option((30.0,), "Signal at b = 0 over the noise level; may be repeated.")
    kappa: Numbers | None = option(None, "Permeabilities; default: the preset's, 10,25,50.", unit="µm/s", commas=True)
    fractions: Positives | None = option(
        None, "Volume fractions of the cells, up to 0.5236, where they touch; default: the preset's.", commas=True
    )
    diameters_um: Positives | None = option(
        None, "Diameters of the cells; default: the preset's, 8,16,22,30.", unit="µm", commas=True
    )
    diffusivities: Annotated[Whole, Field(ge=1)] | None = option(
        None, "Number of values of each diffusivity, evenly over the bounds; default: the preset's."
    )
    models: Models = option(MODEL_NAMES, "Model to fit; may be repeated.", flag="--model")
    strategies: Annotated[tuple[Strategy, ...], Field(min_length=1)] = option(
        STRATEGIES, "The b threshold of the scan's preset; may be repeated.", flag="--strategy"
    )
    bounds_of: PresetName | None = option(
        None, "Preset of a scan whose bounds and b thresholds are used; default: that of a protocol's name."
    )
    walkers: Annotated[Whole, Field(ge=100)] = option(20_000, "Random walkers for each tissue.")
    standard_error: Positive | None = option(
        None, "Largest standard error of a signal you accept: a pilot then says first whether the walkers are enough."
    )
    fine: Annotated[Positive, Field(le=0.25)] = option(
        0.08, "Smallest step beside a membrane, in radii of the cell; larger is faster and coarser."
    )
    seed: Seed = option(1, _SEED)
    jobs: Annotated[Whole, Field(ge=1)] | None = option(
        None, "Threads; the results do not depend on them. Default: all cores."
    )
    bic: Literal["schwarz", "paper"] = option("schwarz", "P ln N - 2 ln λ; or paper: P ln N - ln λ, as in its Eq. 15.")
    figures: Literal["svg", "pdf", "png"] | None = option(None, "Write every figure as a file too, into figures/.")

    def reads(self) -> Iterator[Path]:
        """Yield every file that the protocols consist of."""
        for protocol in self.protocols:
            yield from mri.protocol_files(protocol)
