"""`histomri simulate`: digital livers with known truth."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Quiet, announce, progress_bar


class Kind(StrEnum):
    """What can be simulated."""

    LIVER = "liver"
    PAPER = "paper"


def simulate(
    kind: Annotated[
        Kind, typer.Argument(help="liver: a study of mouse livers. paper: mice and biopsies of patients, two scanners.")
    ],
    out: OutDir,
    samples: Annotated[
        int | None, typer.Option(help="Livers: control, infiltrated and necrotic in turn; 6, of a paper study 7.")
    ] = None,
    biopsies: Annotated[int, typer.Option(help="Biopsies of a paper study.")] = 18,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 1,
    snr: Annotated[float, typer.Option(help="Signal over noise of liver tissue at b = 0.")] = 50.0,
    area: Annotated[
        float | None, typer.Option("--area-mm2", help="Area of a lobe, mm²; 75, of a paper study 20.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a digital study with known truth: QuPath tables, DWI, masks, protocol, study.toml, and truth/.

    Example: histomri simulate liver -o livers --samples 3 && histomri run livers/study.toml -o results
    """
    from histomri.simulation import write_paper_study, write_study
    from histomri.study.stages import StageResult

    with progress_bar(f"simulating: {kind.value}", quiet) as progress:
        if kind is Kind.LIVER:
            livers, what = samples or 6, "livers"
            study = write_study(out, samples=livers, seed=seed, snr=snr, area_mm2=area or 75.0, progress=progress)
        else:
            livers, what = samples or 7, f"livers and {biopsies} biopsies"
            study = write_paper_study(
                out, mice=livers, biopsies=biopsies, seed=seed, snr=snr, area_mm2=area or 20.0, progress=progress
            )
    message = f"simulated {livers} {what}; the truth lies in {Path(out) / 'truth'}"
    announce(StageResult(outputs=(study,), messages=(message,)), quiet)
