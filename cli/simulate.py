"""`histomri simulate`: data with known truth."""

from pathlib import Path
from typing import Annotated

import typer

from .common import OutDir, Protocol, Quiet, announce, numbers, progress_bar

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


@simulate.command()
def spheres(
    protocol: Protocol,
    out: OutDir,
    diameter: Annotated[str, typer.Option("--diameter-um", help="Diameters, µm, with commas between them.")],
    fraction: Annotated[str, typer.Option(help="Volume fractions of the spheres, up to 0.52, where they touch.")],
    d0i: Annotated[str, typer.Option("--d0i", help="Diffusivities in the spheres, µm²/ms.")] = "2",
    d0e: Annotated[str, typer.Option("--d0e", help="Diffusivities between the spheres, µm²/ms.")] = "2",
    permeability: Annotated[str, typer.Option("--permeability-um-s", help="Permeabilities of the wall, µm/s.")] = "0",
    walkers: Annotated[int, typer.Option(help="Random walkers for each combination.")] = 20_000,
    dt: Annotated[float, typer.Option("--dt-ms", help="Time step, ms.")] = 0.02,
    seed: Seed = 1,
    quiet: Quiet = False,
) -> None:
    """Simulate water that walks in and around permeable spheres, for every combination of the given numbers.

    Example: histomri simulate spheres --protocol mouse-exvivo --diameter-um 8,16,24 --fraction 0.3,0.5 -o spheres
    """
    from histomri.study.stages.spheres import run_spheres

    with progress_bar("random walks", quiet) as progress:
        result = run_spheres(
            protocol, out, diameters_um=numbers(diameter, "--diameter-um"), fractions=numbers(fraction, "--fraction"),
            d0i_um2_ms=numbers(d0i, "--d0i"), d0e_um2_ms=numbers(d0e, "--d0e"),
            permeabilities_um_s=numbers(permeability, "--permeability-um-s"), walkers=walkers, dt_ms=dt, seed=seed,
            progress=progress,
        )  # fmt: skip
    announce(result, quiet)
