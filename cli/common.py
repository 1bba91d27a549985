"""What every command shares: where results go, how they are announced, and how mistakes are told."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from histomri.study.stages import StageResult

_FEW = 6  # files that are named in full

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")]
OutDir = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]


class HistomriGroup(TyperGroup):
    """Turns a HistomriError into one message on standard error and exit code 2, wherever it was raised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from histomri.errors import HistomriError

        try:
            return super().invoke(ctx)
        except HistomriError as error:
            typer.secho(f"error: {error}", err=True, fg="red")
            raise typer.Exit(2) from error
        except OSError as error:
            if error.filename is None:
                raise
            typer.secho(f"error: {error.filename}: {error.strerror}", err=True, fg="red")
            raise typer.Exit(2) from error


def announce(result: "StageResult", quiet: bool) -> None:
    """Print a stage's messages and files to standard output, and its warnings to standard error."""
    for warning in result.warnings:
        typer.secho(f"warning: {warning}", err=True, fg="yellow")
    if quiet:
        return
    for message in result.messages:
        typer.echo(message)
    for line in _written(result.outputs):
        typer.echo(line)


def _written(outputs: tuple[Path, ...]) -> list[str]:
    """Name every file, but a folder of many maps by its maps, as each of them has its sidecar."""
    lines = []
    for folder, group in groupby(outputs, key=lambda path: path.parent):
        files = list(group)
        names = [path.name for path in files]
        images = [name for name in names if name.endswith(".nii.gz")]
        if len(files) <= _FEW:
            lines += [f"wrote {path}" for path in files]
        else:
            stems = [name.removesuffix(".nii.gz") for name in images]
            others = [name for name in names if name not in images and Path(name).stem not in stems]
            lines.append(f"wrote {len(images)} maps, each with its .json, into {folder}/")
            lines += [f"  {name}" for name in (*images, *others)]
    return lines


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Give a function that takes the fraction done; it draws on a terminal and is silent when piped."""
    if quiet or not sys.stderr.isatty():
        yield lambda fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
