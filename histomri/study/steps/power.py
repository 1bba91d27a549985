"""How many samples a correlation needs, and what the present number can detect."""

from pathlib import Path

from histomri.analysis import PowerOptions, plan_table
from histomri.core.progress import Progress
from histomri.study.result import StepResult


def run(options: PowerOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write power_n.csv, power_r.csv and power.json."""
    return StepResult(*plan_table(options).write(out))
