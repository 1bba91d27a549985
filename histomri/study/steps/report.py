"""A results folder in, report.html out."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.report import collect, write_figures, write_report
from histomri.report.options import ReportOptions
from histomri.study.result import StepResult


def run(options: ReportOptions, out: Path | None = None, progress: Progress | None = None) -> StepResult:
    """Write the report of a run to `out` or into its folder, and its figures for a paper if asked for."""
    found = collect(options.folder)
    path = write_report(found, out)
    drawn = write_figures(found, options.figures) if options.figures is not None else []
    size = path.stat().st_size / 1e6
    messages = [f"report of {size:.1f} MB; open it in a browser"]
    messages += [f"{len(drawn)} figures in {drawn[0].parent}"] if drawn else []
    warnings = tuple(dict.fromkeys(found.missing))
    return StepResult((path, *drawn), tuple(messages), warnings, {"megabytes": round(size, 2)})
