"""The `histomri` command: names the commands, and imports nothing heavy, so that --help is immediate."""

from typing import Annotated

import typer

from histomri import __version__

from .common import HistomriGroup

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


def main() -> None:
    """Run the command line."""
    app()
