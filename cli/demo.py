"""`histomri demo`: the whole method on a digital study whose truth is known."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from .common import Quiet, progress_bar
from .run import Figures, finish, step_progress


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the study and its results.")] = Path("histomri-demo"),
    example: Annotated[
        Literal["livers", "paper"],
        typer.Option(help="livers: six mice. paper: 7 mice and 18 biopsies, two scanners, Ki-67 and volumes."),
    ] = "livers",
    physics: Annotated[
        Literal["realistic", "simple"],
        typer.Option(
            help="realistic: permeable packed cells, two T2, thick sections. simple: the formula that is fitted."
        ),
    ] = "realistic",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Samples worked on at the same time.")] = 1,
    figures: Figures = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a study, run it like any study, and compare the results with the truth.

    Writes OUT/inputs/ (cell tables, diffusion MRI, study.toml, truth/) and beside it what `histomri run` writes.

    Example: histomri demo my-demo
    """
    from histomri import simulation
    from histomri.core.errors import InputError
    from histomri.study import Study, run_study

    inputs = out / "inputs"
    if out.exists() and any(out.iterdir()) and not (inputs / "study.toml").exists():
        raise InputError("holds other files", path=out, hint="name a new folder: histomri demo OUT")
    write = simulation.write_study if example == "livers" else simulation.write_paper_study
    with progress_bar("simulate", quiet) as advance:
        study = Study.load(write(inputs, seed=seed, physics=physics, progress=advance))
    with step_progress([sample.id for sample in study.samples], quiet) as progress:
        outcome = run_study(study, out, jobs=jobs, figures=figures, progress=progress)
    if len(outcome.failed) < len(outcome.samples):
        comparisons = [simulation.compare_with_truth(out)]
        comparisons += [simulation.compare_cases(out)] if example == "paper" else []
        comparisons += [found] if (found := simulation.compare_histology(out)) is not None else []
        for comparison in comparisons:
            for line in () if quiet else (*comparison.messages, f"wrote {comparison.path}"):
                typer.echo(line)
        simulation.compare_columns(out)
    finish(outcome, quiet)
