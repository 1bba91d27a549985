"""`histomri report`."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Quiet, announce


def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of histomri run (or demo).")],
    quiet: Quiet = False,
) -> None:
    """Write report.html, one file that shows a whole study, into its results folder.

    Example: histomri report results/
    """
    from histomri.study.stages.report import run_report

    announce(run_report(folder), quiet)
