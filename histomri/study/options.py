"""The options of multiverse."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from histomri.core.options import Options, Whole, argument, given, option


class MultiverseOptions(Options):
    """Score a study in every way it could have been analysed: a specification curve of TCS and rank.

    The section [multiverse] of the study file names the choices; without it shrinkage, correction of sections, cells
    per patch, voxels at a bound, kind of average, registrations not judged good, and scores within groups are varied.

    Example: histomri multiverse study.toml --results results -o multiverse
    """

    study: Path = argument("The study, as for `histomri run`.", metavar="STUDY.toml")
    results: Path | None = given(
        None, "Results of `histomri run` of this study, whose finished steps are used; without it they are made."
    )
    jobs: Annotated[Whole, Field(ge=1)] = option(1, "Samples worked on at the same time.")
