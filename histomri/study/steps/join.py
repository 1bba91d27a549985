"""Tables of pairs of several samples to one."""

from pathlib import Path

from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.progress import Progress
from histomri.pairing import JoinOptions, PairedTable
from histomri.study.result import StepResult


def run(options: JoinOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the tables under each other; the sidecar has units, counts and settings of all."""
    require_folder(out.parent)
    for path in (out, out.with_suffix(".json")):
        refuse_overwrite(path, options.reads())
    parts = [PairedTable.load(table) for table in options.tables]
    whole = PairedTable.join(parts, names=[str(table) for table in options.tables])
    samples = whole.data["sample"].nunique()
    message = f"{len(parts)} tables joined: {samples} samples, {len(whole)} rows, a row per {whole.level}"
    return StepResult(tuple(whole.save(out, options.tables)), (message,), whole.warnings, {"samples": samples})
