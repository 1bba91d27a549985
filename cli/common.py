"""What every command shares: where results go, how they are announced, and how mistakes are told."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from histomri.study import StepResult

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but warnings and errors.")]
OutDir = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results; made if missing.")]
Sub = Annotated[str | None, typer.Option(help="Label of the sample, for the names of the files.")]
Mpp = Annotated[str | None, typer.Option(metavar="X[,Y]", help="Pixel size of the slide in µm.")]

# What the commands of diffusion images share.
PROTOCOL = (
    "Rows b (s/mm²), δ, Δ[, TE] (ms); or .bval (+ .gdur, .gsep, .te); or JSON, a file of waveforms, a preset name."
)
Protocol = Annotated[str, typer.Option(help=PROTOCOL)]
Mask = Annotated[Path | None, typer.Option(help="NIfTI mask; voxels above 0 are fitted.")]
Models = Annotated[
    list[str] | None,
    typer.Option(
        help="diff-in (default), diff-in-ex, diff-in-ex-fast, diff-in-extd, diff-in-extd-fast; may be repeated."
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Bounds and thresholds: mouse-exvivo, invivo-3t or invivo-1.5t. "
        "Default: that of a protocol of the same name, else mouse-exvivo."
    ),
]
Sigma = Annotated[
    str | None,
    typer.Option(
        help="Noise level in units of the signal, a NIfTI map, or from the images: estimate (MP-PCA), piesno."
    ),
]
Kurtosis = Annotated[
    str, typer.Option(help="Of the tissue in T2-IVIM: free, or a number to hold it at; 0 is the published model.")
]


class HistomriGroup(TyperGroup):
    """Turns a HistomriError into one message on standard error and exit code 2, wherever it was raised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        from histomri.core.errors import HistomriError

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


def announce(result: "StepResult", quiet: bool) -> None:
    """Print a stage's messages and files to standard output, and its warnings to standard error."""
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
    """Read numbers with commas between them, as the option was given.

    Raises
    ------
    InputError
        If one of them is no number.
    """
    from histomri.core.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} {text} is no list of numbers", hint=f"write {option} 1 or {option} 1,2,3"
        ) from error


def number_pair(text: str | None, option: str, example: str) -> tuple[float, float] | None:
    """Read one number, or two with a comma between them; one stands for both.

    Raises
    ------
    InputError
        If it is neither, or seems to be written with a decimal comma.
    """
    from histomri.core.errors import InputError

    if text is None:
        return None
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

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
