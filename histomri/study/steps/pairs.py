"""The pairs of all samples of a study to one table, with the measurements that its file gives by hand."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.pairing import PairedTable
from histomri.pairing.options import PairsOptions
from histomri.study.result import StepResult


def run(options: PairsOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the tables under each other."""
    whole = PairedTable.join([PairedTable.load(table) for table in options.tables])
    whole = whole.with_measures(options.measures, options.free_water_um2_ms)
    return StepResult(tuple(whole.save(out)))
