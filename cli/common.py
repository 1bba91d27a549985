"""What every command shares: where results go, how they are announced, and how errors are shown."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from histomri.core.errors import HistomriError, InputError

if TYPE_CHECKING:
    from histomri.study import StepResult

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")]
OutDir = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]


class HistomriGroup(TyperGroup):
    """Turns a HistomriError into one message on standard error and exit code 2, wherever it was raised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except HistomriError as error:
            typer.secho(f"error: {error}", err=True, fg="red")
            raise typer.Exit(2) from error
        except BrokenPipeError:
            raise  # who reads has read enough, as in `| head`: typer then ends with code 1 and says nothing
        except OSError as error:
            place = f"{error.filename}: " if error.filename is not None else ""
            typer.secho(f"error: {place}{error.strerror or error}", err=True, fg="red")
            raise typer.Exit(2) from error


class HistomriCommand(TyperCommand):
    """A command whose ``--missing`` may be followed by several words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        return super().parse_args(ctx, each_with_flag(args, "--missing"))


def each_with_flag(args: list[str], flag: str) -> list[str]:
    """Write ``flag a b`` as ``flag a flag b``, up to the next option or file."""
    found: list[str] = []
    taking = 0  # words since the flag
    for word in args:
        taking = 1 if word == flag else taking and taking + 1
        if taking > 2 and (word.startswith("-") or Path(word).exists()):
            taking = 0
        found += [flag, word] if taking > 2 else [word]
    return found


def announce(result: "StepResult", quiet: bool) -> None:
    """Print a step's messages and files to standard output, and its warnings to standard error."""
    for warning in result.warnings:
        typer.secho(f"warning: {warning}", err=True, fg="yellow")
    if quiet:
        return
    for message in result.messages:
        typer.echo(message)
    outputs = set(result.outputs)
    sidecars = {sidecar: path for path in result.outputs if (sidecar := _sidecar(path)) in outputs}
    for path in result.outputs:
        if path not in sidecars:
            typer.echo(f"wrote {path}" + (" and its .json" if path in sidecars.values() else ""))


def _sidecar(image: Path) -> Path | None:
    stem = image.name.removesuffix(".nii.gz")
    return image.with_name(f"{stem}.json") if stem != image.name else None


def numbers(text: str, option: str) -> list[float]:
    """Read numbers with commas between them, as the option was given; InputError if one is none."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} {text} is no list of numbers", hint=f"write {option} 1 or {option} 1,2,3"
        ) from error


def number_pair(text: str, option: str, example: str) -> tuple[float, float]:
    """Read one number, or two with a comma between them; one stands for both. InputError if it is neither."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise InputError(
            f"{option} {text} is not a number", hint=f"write {option} {example} or {option} {example},{example}"
        )
    if len(values) == 2 and values[0] == 0 and values[1] > 0:
        point = text.replace(",", ".")
        raise InputError(f"{option} {text} looks like a decimal comma", hint=f"write {option} {point}")
    return values[0], values[-1]


@contextmanager
def report_compiling(quiet: bool) -> Iterator[None]:
    """Say so on standard error, once, if kernels must be compiled."""
    if quiet:
        yield
        return
    from histomri.core.compiling import COMPILING, reporting_compilation

    with reporting_compilation(lambda: typer.echo(COMPILING, err=True)):
        yield


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """Give a function that takes the fraction done; it draws on a terminal and is silent when piped."""
    if quiet or not sys.stderr.isatty():
        yield lambda fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    percentage = TextColumn("{task.percentage:>3.0f} %")
    columns = (TextColumn("{task.description}"), BarColumn(), percentage, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
