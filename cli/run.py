"""`histomri run`: a whole study."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .common import Figures, OutDir, Quiet

if TYPE_CHECKING:
    from histomri.report.options import FigureFormat
    from histomri.study import Study, StudyOutcome


def run(
    study_file: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="The study; docs/study.md shows one.")],
    out: OutDir,
    jobs: Annotated[int, typer.Option(min=1, help="Samples worked on at the same time.")] = 1,
    dask: Annotated[str | None, typer.Option(help="Use a Dask cluster: 'local' or tcp://host:port.")] = None,
    participant_label: Annotated[
        list[str] | None, typer.Option(help="Run only this sample (repeatable); the report takes in all run so far.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the study and its images' headers, say what would be run, stop."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Repeat stages that are finished.")] = False,
    figures: Figures = None,
    quiet: Quiet = False,
) -> None:
    """Run a study: cells, patch maps, fits, registration, pairs, scores, report.

    Stages that an earlier run has finished in the same folder are kept, if their options and files are the same.
    Exit code 0 if every sample was finished, 1 if one failed (the report says why), 2 if nothing could be run.

    Example: histomri run study.toml -o results --jobs 2
    """
    from histomri.study import Study

    study = Study.load(study_file)
    if dry_run:
        _plan(study, out, participant_label)
        return
    _warn_early(study, participant_label)
    outcome = run_with_bars(
        study,
        out,
        jobs=jobs,
        dask=dask,
        participants=participant_label,
        force=force,
        figures=figures,
        quiet=quiet,
    )
    finish(outcome, quiet)


def run_with_bars(
    study: "Study",
    out: Path,
    *,
    jobs: int,
    dask: str | None = None,
    participants: list[str] | None = None,
    force: bool = False,
    figures: "FigureFormat | None" = None,
    quiet: bool = False,
) -> "StudyOutcome":
    """Run a study with a progress bar per stage."""
    from histomri.study.pipeline import run_study, select_samples

    labels = [sample.id for sample in select_samples(study, participants)]
    with _stage_bars(labels, quiet) as progress:
        return run_study(
            study,
            out,
            jobs=jobs,
            dask=dask,
            participants=participants,
            force=force,
            figures=figures,
            progress=progress,
        )


def finish(outcome: "StudyOutcome", quiet: bool) -> None:
    """Say how a study ended; exit with 1 if a sample failed."""
    for warning in outcome.warnings:
        typer.secho(f"warning: {warning}", err=True, fg="yellow")
    for sample in outcome.failed:
        typer.secho(f"failed: {sample.id}, at {sample.stage}: {sample.reason}", err=True, fg="red")
    if not quiet:
        total = len(outcome.samples)
        kept = sum(len(sample.kept) for sample in outcome.samples)
        note = f" ({kept} stages kept from an earlier run; --force repeats them)" if kept else ""
        typer.echo(f"{total - len(outcome.failed)} of {total} samples finished{note}")
        typer.echo(f"wrote {outcome.report}")
    if outcome.failed:
        raise typer.Exit(1)


def _warn_early(study: "Study", participants: list[str] | None) -> None:
    """Say at once which samples cannot be finished; the others are worth their time."""
    from histomri.study.pipeline import select_samples
    from histomri.study.validation import input_mistakes

    for sample in select_samples(study, participants):
        for mistake in input_mistakes(sample):
            typer.secho(f"warning: {sample.id} will fail, {mistake}", err=True, fg="yellow")


def _plan(study: "Study", out: Path, participants: list[str] | None) -> None:
    from histomri.study.pipeline import GROUP_STAGES, select_samples
    from histomri.study.sample import STAGES
    from histomri.study.validation import require_matching_inputs

    require_matching_inputs(select_samples(study, participants), study.prediction)
    typer.echo(
        f"study {study.name!r}, preset {study.preset}: the file is in order, and the headers of its images agree"
    )
    for sample in select_samples(study, participants):
        fits = f"{', '.join(sample.fit.models)} ({', '.join(sample.fit.strategies)})"
        typer.echo(f"sub-{sample.id}: {' > '.join(STAGES)}; models {fits}")
    typer.echo(f"then {' > '.join(GROUP_STAGES)}; results would go to {out}")


@contextmanager
def _stage_bars(labels: list[str], quiet: bool) -> Iterator[Callable[[str, str, float], None]]:
    import sys

    if quiet or not sys.stderr.isatty():
        yield lambda sample, stage, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from histomri.study.pipeline import GROUP_STAGES
    from histomri.study.sample import STAGES

    percentage = TextColumn("{task.percentage:>3.0f} %")
    columns = (TextColumn("{task.description:<9}"), BarColumn(), percentage, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        sizes = {**dict.fromkeys(STAGES, len(labels)), **dict.fromkeys(GROUP_STAGES, 1)}
        tasks = {stage: bars.add_task(stage, total=size, start=False) for stage, size in sizes.items()}
        done: dict[str, dict[str, float]] = {stage: {} for stage in tasks}

        def inform(sample: str, stage: str, fraction: float) -> None:
            bars.start_task(tasks[stage])
            done[stage][sample] = fraction
            bars.update(tasks[stage], completed=sum(done[stage].values()))

        yield inform
