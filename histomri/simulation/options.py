"""The options of `histomri simulate`, `insilico` and `benchmark`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from histomri import mri
from histomri.core.options import (
    Choices,
    Fraction,
    Number,
    Options,
    Positive,
    Seed,
    Whole,
    argument,
    check,
    given,
    option,
)
from histomri.core.presets import PRESET_NAMES, STRATEGIES, PresetName, Strategy
from histomri.fitting.models import PAPER_NAMES
from histomri.mri.options import PROTOCOL, Protocol, TimedOptions
from histomri.simulation.benchmarks.names import SetName
from histomri.simulation.realism import THICKNESS_UM, Artefacts, Detector, Outline, Physics, Realism

_Models = Annotated[tuple[Annotated[str, Choices(PAPER_NAMES)], ...], Field(min_length=1)]
_SEED = "Seed of the random numbers: the same seed gives the same files."
_SNR = "Signal over noise of liver tissue at b = 0."
_AREA = "Area of a lobe; smaller is faster."
_PHYSICS = "realistic: packed cells with nuclei, permeable, two T2. simple: the formula that is fitted, thin sections."


def _some(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("has no value")
    return values


Positives = Annotated[tuple[Positive, ...], check(_some)]
Numbers = Annotated[tuple[Annotated[Number, Field(ge=0)], ...], Field(min_length=1)]


class RealismOptions(Options):
    """How a simulated study is made; see `histomri.simulation.Realism`."""

    physics: Physics = option("realistic", _PHYSICS)
    thickness_um: Annotated[Number, Field(ge=0, le=20)] = option(THICKNESS_UM, "Thickness of a section.", unit="µm")
    missed: Fraction = option(0.0, "Share of the nuclei that are not detected.")
    merged: Fraction = option(0.0, "Share of the pairs of close nuclei that are detected as one.")
    outline: Outline = option("rim", "What is drawn as a cell: nucleus and rim as by QuPath, or a mask of the cell.")
    area_noise: Fraction = option(0.0, "Relative standard deviation of the areas of nuclei.")
    permeability_um_s: Annotated[Number, Field(ge=0, le=50)] = option(15.0, "Of the cells' membranes.", unit="µm/s")
    t2_ratio: Annotated[Number, Field(ge=1, le=2.5)] = option(1.4, "T2 between the cells over that in them.")
    dropouts: Annotated[Whole, Field(ge=0)] = option(0, "Volumes of which a slice loses 30 to 70 % of its signal.")
    motion_mm: Annotated[Number, Field(ge=0)] = option(0.0, "Standard deviation of the shift of a volume.", unit="mm")

    def realism(self) -> Realism:
        """Return the details of realistic samples."""
        flaws = {"missed": self.missed, "merged": self.merged, "area_noise": self.area_noise}
        detector = Detector(**flaws, outline=self.outline)
        artefacts = Artefacts(self.dropouts, self.motion_mm)
        return Realism(self.thickness_um, detector, self.permeability_um_s, self.t2_ratio, artefacts)

    def study(self) -> dict[str, Any]:
        """Return what the function that writes the study is given."""
        details = set(RealismOptions.model_fields) - {"physics"}
        return {**self.model_dump(exclude=details), "realism": self.realism()}

    @model_validator(mode="after")
    def _do_not_contradict(self) -> "RealismOptions":
        fields = RealismOptions.model_fields.items()
        details = [name for name, field in fields if name != "physics" and getattr(self, name) != field.default]
        if self.physics == "simple" and details:
            raise ValueError(f"{{{details[0]}}} is of realistic tissue, and {{physics}} is simple; leave one out")
        return self


class LiverOptions(RealismOptions):
    """Write a digital study of mouse livers: QuPath tables, DWI, masks, protocol, study.toml, and truth/.

    Example: histomri simulate liver -o livers --samples 3 && histomri run livers/study.toml -o results
    """

    samples: Whole = option(6, "Livers: control, infiltrated and necrotic in turn; 3 or more.")
    seed: Seed = option(1, _SEED)
    snr: Positive = option(50.0, _SNR)
    area_mm2: Positive = option(75.0, _AREA, unit="mm²")


class PaperOptions(RealismOptions):
    """Write a digital study built like the paper's: mice, and biopsies of patients, with Ki-67 and volumes.

    Example: histomri simulate paper -o paper && histomri run paper/study.toml -o results
    """

    mice: Whole = option(7, "Livers: control, infiltrated and necrotic in turn.")
    biopsies: Whole = option(18, "Biopsies of patients, from two scanners.")
    seed: Seed = option(1, _SEED)
    snr: Positive = option(50.0, _SNR)
    area_mm2: Positive = option(20.0, _AREA, unit="mm²")


class SpheresOptions(TimedOptions):
    """Simulate water that walks in and around permeable spheres, for every combination of the given numbers.

    Example: histomri simulate spheres --protocol mouse-exvivo --diameter-um 8,16,24 --fraction 0.3,0.5 -o spheres
    Example: histomri simulate spheres --protocol invivo-3t --arrangement random --diameter-um 18 --fraction 0.6 -o out
    """

    protocol: Protocol = given(..., PROTOCOL)
    diameter_um: Numbers = option(..., "Diameters; of unequal spheres vCS.", unit="µm", commas=True)
    fraction: Numbers = option(..., "Volume fractions; on the lattice up to 0.52, where spheres touch.", commas=True)
    d0i: Numbers = option((2.0,), "Diffusivities in the spheres.", unit="µm²/ms", commas=True)
    d0e: Numbers = option((2.0,), "Diffusivities between the spheres.", unit="µm²/ms", commas=True)
    permeability_um_s: Numbers = option((0.0,), "Permeabilities of the wall.", unit="µm/s", commas=True)
    arrangement: Literal["lattice", "random"] = option(
        "lattice", "Equal spheres on a cubic lattice, or packed at random."
    )
    cv: Numbers = option((0.0,), "Coefficients of variation of the diameters, packed at random.", commas=True)
    distribution: Literal["gamma", "lognormal"] = option("gamma", "Of diameters that vary.")
    t2i_ms: Positive | None = option(None, "T2 in the spheres; needs echo times.", unit="ms")
    t2e_ms: Positive | None = option(None, "T2 between the spheres.", unit="ms")
    walkers: Annotated[Whole, Field(ge=1)] = option(20_000, "Random walkers for each combination.")
    standard_error: Positive | None = option(None, "Standard error that all signals must reach; checked first.")
    dt_ms: Positive = option(1.0, "Longest time step; steps beside a wall are shorter.", unit="ms")
    fine: Positive = option(0.08, "Smallest step beside a wall, as a fraction of the radius.")
    seed: Seed = option(1, _SEED)
    jobs: Annotated[Whole, Field(ge=1)] | None = option(None, "Threads; default: all cores. Results do not change.")


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
    models: _Models = option(PAPER_NAMES, "Model to fit; may be repeated.", flag="--model")
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
