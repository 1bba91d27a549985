"""`histomri simulate`: digital livers with known truth."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce, progress_bar


class Kind(StrEnum):
    """What can be simulated."""

    LIVER = "liver"


def simulate(
    kind: Annotated[Kind, typer.Argument(help="What to simulate; liver: a study of mouse livers.")],
    out: OutDir,
    samples: Annotated[int, typer.Option(help="Livers: control, infiltrated and necrotic in turn; 3 or more.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    snr: Annotated[float, typer.Option(help="Signal over noise of tissue at b = 0.")] = 50.0,
    area: Annotated[float, typer.Option("--area-mm2", help="Area of a lobe, mm²; smaller is faster.")] = 75.0,
    quiet: Quiet = False,
) -> None:
    """Write a digital study with known truth: QuPath tables, DWI, masks, protocol, study.toml, and truth/.

    Example: histomri simulate liver -o livers --samples 3 && histomri run livers/study.toml -o results
    """
    from histomri.simulation import write_study
    from histomri.study.stages import StageResult

    with progress_bar(f"simulating {kind.value}s", quiet) as progress:
        study = write_study(out, samples=samples, seed=seed, snr=snr, area_mm2=area, progress=progress)
    message = f"simulated {samples} livers; the truth lies in {Path(out) / 'truth'}"
    announce(StageResult(outputs=(study,), messages=(message,)), quiet)
