"""`histomri demo`: the whole method on a digital liver study whose truth is known."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, progress_bar
from .run import finish, run_with_bars


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for the study and its results.")] = Path("histomri-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulation.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Samples worked on at the same time.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Simulate a mouse-liver study, run it like any study, and compare the results with the truth.

    Writes OUT/inputs/ (cell tables, diffusion MRI, study.toml, truth/) and beside it what `histomri run` writes.

    Example: histomri demo my-demo
    """
    from histomri.errors import InputError
    from histomri.simulation import compare_with_truth, write_study
    from histomri.study import Study

    inputs = out / "inputs"
    if out.exists() and any(out.iterdir()) and not (inputs / "study.toml").exists():
        raise InputError("holds other files", path=out, way_out="name a new folder: histomri demo OUT")
    with progress_bar("simulate", quiet) as progress:
        study_file = write_study(inputs, seed=seed, progress=progress)
    outcome = run_with_bars(Study.load(study_file), out, jobs=jobs, dask=None, participants=None, quiet=quiet)
    if len(outcome.failed) < len(outcome.samples):
        comparison = compare_with_truth(out)
        for line in () if quiet else (*comparison.messages, f"wrote {comparison.path}"):
            typer.echo(line)
    finish(outcome, quiet)
