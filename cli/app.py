"""The `histomri` command: names the commands, and imports nothing heavy, so that --help is immediate."""

from typing import Annotated

import typer

from histomri import __version__
from histomri.study.graph import COMMANDS

from .apply import apply
from .build import make_command
from .common import HistomriGroup
from .crlb import crlb
from .demo import demo
from .dki import dki
from .fit import fit
from .ki67 import ki67
from .patches import patches
from .preprocess import preprocess
from .qupath_grid import qupath_grid
from .register import register
from .report import report
from .run import run
from .simulate import simulate
from .t2ivim import t2ivim

app = typer.Typer(
    name="histomri",
    cls=HistomriGroup,
    help="Compare histology with MRI: QuPath cells and diffusion MRI in, registered maps, scores and a report out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"histomri {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Compare histology with MRI."""


_HAND_MADE = {
    function.__name__.replace("_", "-"): function
    for function in (patches, ki67, qupath_grid, crlb, preprocess, fit, t2ivim, dki, register, apply)
}
for _function in (demo, run):
    app.command(rich_help_panel="Study")(_function)
for _command in COMMANDS:
    # Until every command has moved: one whose step is there is made from its options.
    _made = make_command(_command) if _command.is_declared else _HAND_MADE[_command.name]
    app.command(_command.name, rich_help_panel=_command.panel)(_made)
app.command(rich_help_panel="Study")(report)
app.add_typer(simulate, name="simulate")


def main() -> None:
    """Run the command line."""
    app()
