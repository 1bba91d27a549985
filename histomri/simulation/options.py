"""The options of `histomri simulate` and `histomri benchmark`."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from histomri.core.options import Number, Options, Positive, Seed, Whole, argument, given, option
from histomri.mri.options import PROTOCOL, Protocol, ProtocolOptions
from histomri.simulation.benchmarks.names import SetName

_SEED = "Seed of the random numbers: the same seed gives the same files."
_SNR = "Signal over noise of liver tissue at b = 0."
_AREA = "Area of a lobe; smaller is faster."
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


class BenchmarkInputOptions(Options):
    """Write the inputs of a benchmark set, such as images and protocol, or cell tables, with its truth in truth/.

    Example: histomri simulate benchmark liver-3t -o liver-3t
    """

    name: SetName = argument("Benchmark set.", metavar="NAME")
    source: Path | None = given(
        None,
        "Results of the in-silico study, of which insilico-paper is made.",
        flag="--from",
        metavar="DIR",
    )


class BenchmarkOptions(Options):
    """Score the results of any tool against the truth of a benchmark set: bias, errors, correlation, coverage.

    Example: histomri benchmark estimates.csv --set liver-3t -o scores/
    """

    results: Path = argument("Table (.csv, .xlsx, .parquet) with the ids of the set and columns of estimates.")
    set: SetName = option(..., "Benchmark set.")
