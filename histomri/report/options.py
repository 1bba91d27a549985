"""The options of `histomri report`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from histomri.core.options import Options, argument, option

FigureFormat = Literal["svg", "pdf", "png"]


class ReportOptions(Options):
    """Write report.html, one file that shows a whole study, into its results folder.

    Example: histomri report results/ --figures pdf
    """

    folder: Path = argument("Results folder of histomri run (or demo).")
    figures: FigureFormat | None = option(None, "Write every figure for a paper too, into figures/.")

    def reads(self) -> Iterator[Path]:
        """Yield the tables and records of the folder and all files of its samples, but not what the report writes."""
        names = ("study.json", "scores.json", "pairs.csv", "residuals.csv", "statistics", "sub-*")
        yield from (path for name in names for path in sorted(self.folder.glob(name)))
