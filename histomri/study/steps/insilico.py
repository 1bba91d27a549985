"""An in-silico study: tables, page and figures of it in one folder."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.report.insilico import Insilico, write_insilico_figures, write_insilico_page
from histomri.simulation.insilico.study import run_insilico
from histomri.simulation.options import InsilicoOptions
from histomri.study.result import StepResult


def run(options: InsilicoOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Run the study, then write the page and, if asked for, its figures as files."""
    study = run_insilico(options, out, progress)
    found = Insilico.read(study.folder)
    drawn = write_insilico_figures(found, options.figures) if options.figures is not None else []
    page = write_insilico_page(found)
    counts = {name: sum(claim.verdict == name for claim in study.claims) for name in ("holds", "does not hold")}
    tested = sum(claim.verdict != "not tested" for claim in study.claims)
    message = (
        f"{len(study.walked)} protocols, {study.estimates['tissue'].nunique()} tissues at each permeability; "
        f"of {tested} claims {counts['holds']} hold and {counts['does not hold']} do not"
    )
    return StepResult(
        (*study.outputs, *drawn, page), (message, "open insilico.html in a browser"),
        (*study.warnings, *dict.fromkeys(found.problems)), {"claims": tested, **counts},
    )  # fmt: skip
