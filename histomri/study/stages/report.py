"""The stage `report`: a results folder in, report.html out."""

from pathlib import Path

from histomri.report import write_report
from histomri.study.stages.result import StageResult


def run_report(folder: Path, out: Path | None = None) -> StageResult:
    """Write the report of a run.

    Parameters
    ----------
    folder : Path
        Results folder with study.json.
    out : Path, optional
        The file to write; ``report.html`` in the folder by default.
    """
    path = write_report(folder, out)
    size = path.stat().st_size / 1e6
    return StageResult((path,), (f"report of {size:.1f} MB; open it in a browser",), (), {"megabytes": round(size, 2)})
