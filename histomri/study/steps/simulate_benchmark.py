"""The inputs of a benchmark set."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.simulation.benchmarks import get_set, write_benchmark
from histomri.simulation.options import BenchmarkInputOptions
from histomri.study.result import StepResult


def run(options: BenchmarkInputOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Write the inputs and the truth."""
    written = write_benchmark(options.name, out, source=options.source, progress=progress)
    chosen = get_set(options.name)
    wanted = f"{', '.join(chosen.ids)} and {', '.join(chosen.estimates)}"
    messages = (
        f"{chosen.name} {chosen.version}: {chosen.description}",
        f"wrote {len(written)} files to {out}; the truth lies in {out / 'truth'}",
        f"results need the columns {wanted}; score them with histomri benchmark RESULTS --set {chosen.name}",
    )
    return StepResult((out / "set.json",), messages)
