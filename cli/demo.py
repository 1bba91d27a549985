"""`histomri demo`: the whole method on a digital liver study whose truth is known."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Figures, Quiet, progress_bar
from .run import finish, run_with_bars

if TYPE_CHECKING:
    from histomri.simulation import TruthComparison


class Example(StrEnum):
    """Which study is simulated and run."""

    LIVERS = "livers"
    PAPER = "paper"


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the study and its results.")] = Path("histomri-demo"),
    example: Annotated[
        Example,
        typer.Option(help="livers: six mice. paper: 7 mice and 18 biopsies, two scanners, Ki-67 and volumes."),
    ] = Example.LIVERS,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Samples worked on at the same time.")] = 1,
    figures: Figures = None,
    quiet: Quiet = False,
) -> None:
    """Simulate a study, run it like any study, and compare the results with the truth.

    Writes OUT/inputs/ (cell tables, diffusion MRI, study.toml, truth/) and beside it what `histomri run` writes.

    Example: histomri demo my-demo
    """
    from histomri.core.errors import InputError
    from histomri.simulation import write_paper_study, write_study
    from histomri.study import Study

    inputs = out / "inputs"
    if out.exists() and any(out.iterdir()) and not (inputs / "study.toml").exists():
        raise InputError("holds other files", path=out, hint="name a new folder: histomri demo OUT")
    write = write_study if example is Example.LIVERS else write_paper_study
    with progress_bar("simulate", quiet) as progress:
        study_file = write(inputs, seed=seed, progress=progress)
    outcome = run_with_bars(Study.load(study_file), out, jobs=jobs, figures=figures, quiet=quiet)
    if len(outcome.failed) < len(outcome.samples):
        for comparison in _with_truth(out, example):
            for line in () if quiet else (*comparison.messages, f"wrote {comparison.path}"):
                typer.echo(line)
    finish(outcome, quiet)


def _with_truth(out: Path, example: Example) -> list["TruthComparison"]:
    from histomri.simulation import compare_cases, compare_with_truth

    return [compare_with_truth(out), *([compare_cases(out)] if example is Example.PAPER else [])]
