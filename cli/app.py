"""The `histomri` command: names the commands, and imports nothing heavy, so that --help is immediate."""

import io
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from histomri.study.graph import COMMANDS

from .build import make_command
from .common import HistomriCommand, HistomriGroup
from .demo import demo
from .run import graph, run

app = typer.Typer(
    name="histomri",
    cls=HistomriGroup,
    help="Compare histology with MRI: QuPath cells and diffusion MRI in, registered maps, scores and a report out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
simulate = typer.Typer(
    help="Simulate data with known truth: studies, or signals of spheres whose walls let water through.",
    no_args_is_help=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        from histomri.core.provenance import software_version

        typer.echo(f"histomri {software_version()}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Compare histology with MRI."""


for _function in (demo, run, graph):
    app.command(rich_help_panel="Study")(_function)
for _command in COMMANDS:
    _group, _, _name = _command.name.rpartition(" ")
    if _group:
        simulate.command(_name)(make_command(_command))
    elif _command.panel:
        app.command(_name, cls=HistomriCommand, rich_help_panel=_command.panel)(make_command(_command))
app.add_typer(simulate, name="simulate", rich_help_panel="Simulation")


def _end(number: int, frame: Any) -> NoReturn:
    """End as Ctrl-C does: what is half written is removed on the way out."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):  # a code page of Windows lacks µ, δ or ²: they become ?, and nothing fails
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # what the system and a closed terminal send; each system has some
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the second
            signal.signal(number, _end)
    app()
