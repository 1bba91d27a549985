"""`histomri report`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, announce


class Format(StrEnum):
    """Formats of figures."""

    SVG = "svg"
    PDF = "pdf"
    PNG = "png"


Figures = Annotated[Format | None, typer.Option(help="Write every figure for a paper too, into figures/.")]


def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of histomri run (or demo).")],
    figures: Figures = None,
    quiet: Quiet = False,
) -> None:
    """Write report.html, one file that shows a whole study, into its results folder.

    Example: histomri report results/ --figures pdf
    """
    from histomri.study.stages.report import run_report

    announce(run_report(folder, figures=None if figures is None else figures.value), quiet)
