"""`histomri simulate`: data with known truth."""

from pathlib import Path
from typing import Annotated

import typer

from histomri.study.graph import Command

from .build import make_command
from .common import OutDir, Quiet, announce, progress_bar

Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")]
Snr = Annotated[float, typer.Option(help="Signal over noise of liver tissue at b = 0.")]

simulate = typer.Typer(
    help="Simulate data with known truth: studies, or signals of spheres whose walls let water through.",
    no_args_is_help=True,
)


@simulate.command()
def liver(
    out: OutDir,
    samples: Annotated[int, typer.Option(help="Livers: control, infiltrated and necrotic in turn; 3 or more.")] = 6,
    seed: Seed = 1,
    snr: Snr = 50.0,
    area: Annotated[float, typer.Option("--area-mm2", help="Area of a lobe, mm²; smaller is faster.")] = 75.0,
    quiet: Quiet = False,
) -> None:
    """Write a digital study of mouse livers: QuPath tables, DWI, masks, protocol, study.toml, and truth/.

    Example: histomri simulate liver -o livers --samples 3 && histomri run livers/study.toml -o results
    """
    from histomri.simulation import write_study
    from histomri.study.stages import StepResult

    with progress_bar("simulating livers", quiet) as progress:
        study = write_study(out, samples=samples, seed=seed, snr=snr, area_mm2=area, progress=progress)
    message = f"simulated {samples} livers; the truth lies in {Path(out) / 'truth'}"
    announce(StepResult(outputs=(study,), messages=(message,)), quiet)


@simulate.command()
def paper(
    out: OutDir,
    mice: Annotated[int, typer.Option(help="Livers: control, infiltrated and necrotic in turn.")] = 7,
    biopsies: Annotated[int, typer.Option(help="Biopsies of patients, from two scanners.")] = 18,
    seed: Seed = 1,
    snr: Snr = 50.0,
    area: Annotated[float, typer.Option("--area-mm2", help="Area of a lobe, mm²; smaller is faster.")] = 20.0,
    quiet: Quiet = False,
) -> None:
    """Write a digital study built like the paper's: mice, and biopsies of patients, with Ki-67 and volumes.

    Example: histomri simulate paper -o paper && histomri run paper/study.toml -o results
    """
    from histomri.simulation import write_paper_study
    from histomri.study.stages import StepResult

    with progress_bar("simulating mice and biopsies", quiet) as progress:
        study = write_paper_study(
            out, mice=mice, biopsies=biopsies, seed=seed, snr=snr, area_mm2=area, progress=progress
        )  # fmt: skip
    message = f"simulated {mice} livers and {biopsies} biopsies; the truth lies in {Path(out) / 'truth'}"
    announce(StepResult(outputs=(study,), messages=(message,)), quiet)


_SPHERES = Command("spheres", "MRI", "simulation.options:SpheresOptions")
simulate.command("spheres")(make_command(_SPHERES))
