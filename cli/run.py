"""`histomri run` and `histomri graph`: a whole study."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .common import OutDir, Quiet

if TYPE_CHECKING:
    from histomri.study import Study, StudyOutcome

Figures = Annotated[
    Literal["svg", "pdf", "png"] | None, typer.Option(help="Write every figure for a paper too, into figures/.")
]
StudyFile = Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study; docs/study.md shows one.")]


def run(
    study_file: StudyFile,
    out: OutDir,
    jobs: Annotated[int, typer.Option(min=1, help="Samples worked on at the same time.")] = 1,
    dask: Annotated[str | None, typer.Option(help="Use a Dask cluster: 'local' or tcp://host:port.")] = None,
    participant_label: Annotated[
        list[str] | None, typer.Option(help="Run only this sample (repeatable); the report takes in all run so far.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the study and its images' headers, list what would be run, stop.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Repeat steps that are finished.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all files again to see whether they changed, whatever their dates.")
    ] = False,
    figures: Figures = None,
    quiet: Quiet = False,
) -> None:
    """Run a study: cells, patch maps, fits, registration, pairs, scores, report.

    Steps that an earlier run has finished in the same folder are kept, if their options, files and code are the same.
    Exit code 0 if every sample was finished, 1 if one failed (the report says why), 2 if nothing could be run.

    Example: histomri run study.toml -o results --jobs 2
    """
    from histomri.study import Study, run_study, select_samples
    from histomri.study.headers import input_errors, require_matching_inputs

    study = Study.load(study_file)
    chosen = select_samples(study, participant_label)
    if dry_run:
        require_matching_inputs(study, chosen)
        typer.echo(_plan(study, [sample.id for sample in chosen], out))
        return
    for sample in chosen:
        for problem in input_errors(sample):
            typer.secho(f"warning: {sample.id} will fail, {problem}", err=True, fg="yellow")
    with step_progress([sample.id for sample in chosen], quiet) as progress:
        outcome = run_study(
            study, out, jobs=jobs, dask=dask, participants=participant_label, force=force, verify=verify,
            figures=figures, progress=progress,
        )  # fmt: skip
    finish(outcome, quiet)


def graph(
    study_file: StudyFile,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="In the language of Mermaid, to be drawn.")] = False,
) -> None:
    """Print the steps of a study: what each reads, and where it writes.

    Example: histomri graph study.toml --mermaid
    """
    from histomri.study import Study
    from histomri.study.show import graph_mermaid, graph_text

    study = Study.load(study_file)
    typer.echo(graph_mermaid(study) if mermaid else graph_text(study))


def finish(outcome: "StudyOutcome", quiet: bool) -> None:
    """Say how a study ended; exit with 1 if a sample failed."""
    for warning in outcome.warnings:
        typer.secho(f"warning: {warning}", err=True, fg="yellow")
    for sample in outcome.failed:
        where = f", at {sample.stage}" if sample.stage else ""
        typer.secho(f"failed: {sample.id}{where}: {sample.reason}", err=True, fg="red")
    if not quiet:
        total = len(outcome.samples)
        kept = sum(len(sample.kept) for sample in outcome.samples) + len(outcome.kept)
        note = f" ({kept} steps kept from an earlier run; --force repeats them)" if kept else ""
        typer.echo(f"{total - len(outcome.failed)} of {total} samples finished{note}")
        typer.echo(f"wrote {outcome.report}")
    if outcome.failed:
        raise typer.Exit(1)


def _plan(study: "Study", ids: list[str], out: Path) -> str:
    from histomri.study.graph import PER_SAMPLE, PER_STUDY

    lines = [f"study {study.name!r}, preset {study.preset}: the file is in order, and the headers of its images agree"]
    for sample in study.samples:
        if sample.id in ids:
            active = study.place(sample).active
            steps = " > ".join(step.name for step in PER_SAMPLE if step.name in active)
            fit = study.resolved(sample, str)["fit"]
            fits = f"{', '.join(fit['models'])} ({', '.join(fit['strategies'])})"
            lines.append(f"sub-{sample.id}: {steps}; models {fits}")
    group = [step.name for step in PER_STUDY if step.is_wanted(study)]
    lines.append(f"then {' > '.join([*group, 'report'])}; results would go to {out}")
    return "\n".join(lines)


@contextmanager
def step_progress(ids: list[str], quiet: bool) -> Iterator[Callable[[str, str, float], None]]:
    """Give a function that shows how far each sample is: bars on a terminal, a line per step where output is a file."""
    if quiet:
        yield lambda sample, step, fraction: None
        return
    from histomri.core.compiling import COMPILING

    with _bars(ids) if sys.stderr.isatty() else _lines() as show:
        compiling = False

        def inform(sample: str, step: str, fraction: float) -> None:
            nonlocal compiling
            if step != "compiling":
                show(sample, step, fraction)
            elif not compiling:  # said once, however many processes compile
                compiling = True
                typer.echo(COMPILING, err=True)

        yield inform


@contextmanager
def _bars(ids: list[str]) -> Iterator[Callable[[str, str, float], None]]:
    """Draw a bar for the study and one for each sample: the step it is at, time elapsed and time left."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from histomri.study.graph import PER_SAMPLE

    columns = (
        TextColumn("{task.description:<14} {task.fields[step]:<11}"), BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    order = {step.name: number for number, step in enumerate(PER_SAMPLE)}
    with Progress(*columns, console=Console(stderr=True)) as bars:
        whole = bars.add_task(f"{len(ids)} samples", total=len(ids), step="")
        tasks: dict[str, TaskID] = {}
        done: dict[str, float] = {}

        def show(sample: str, step: str, fraction: float) -> None:
            name = sample or "study"
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=1.0, step=step)
            part = (order[step] + fraction) / len(order) if sample else fraction
            bars.update(tasks[name], completed=part, step=step)
            if sample:
                done[sample] = part
                bars.update(whole, completed=sum(done.values()))

        yield show


@contextmanager
def _lines() -> Iterator[Callable[[str, str, float], None]]:
    """Write a line on standard error when a step of a sample has ended, with the time since the beginning."""
    started, ended = time.monotonic(), set[tuple[str, str]]()

    def show(sample: str, step: str, fraction: float) -> None:
        if fraction >= 1.0 and (sample, step) not in ended:
            ended.add((sample, step))
            typer.echo(
                f"{time.monotonic() - started:5.0f} s  {f'sub-{sample}' if sample else 'study'}: {step}", err=True
            )

    yield show
