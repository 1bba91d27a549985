"""The stage `report`: a results folder in, report.html out."""

from pathlib import Path

from histomri.report import FigureFormat, write_figures, write_report
from histomri.study.result import StepResult


def run_report(folder: Path, out: Path | None = None, *, figures: FigureFormat | None = None) -> StepResult:
    """Write the report of a run, and its figures for a paper if asked for.

    Parameters
    ----------
    folder : Path
        Results folder with study.json.
    out : Path, optional
        The file to write; ``report.html`` in the folder by default.
    figures : {"svg", "pdf", "png"}, optional
        Format of the figures, which go to ``figures/`` in the folder.
    """
    path = write_report(folder, out)
    drawn: list[Path] = write_figures(folder, figures) if figures is not None else []
    size = path.stat().st_size / 1e6
    messages = [f"report of {size:.1f} MB; open it in a browser"]
    messages += [f"{len(drawn)} figures in {drawn[0].parent}"] if drawn else []
    return StepResult((path, *drawn), tuple(messages), (), {"megabytes": round(size, 2)})
