"""The results of a tool to its scores on a benchmark set."""

from pathlib import Path

from histomri.core.progress import Progress
from histomri.simulation.benchmarks import score_benchmark
from histomri.simulation.options import BenchmarkOptions
from histomri.study.result import StepResult


def run(options: BenchmarkOptions, out: Path, progress: Progress | None = None) -> StepResult:
    """Score the results and write benchmark.csv and benchmark.json."""
    score = score_benchmark(options.results, options.set)
    return StepResult(tuple(score.save(out)), score.messages, score.warnings, score.summary())
