"""The statistics of a study over its samples, each of which may fail without the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from histomri.analysis.agreement import agree_table
from histomri.analysis.correlation_tables import correlate_table
from histomri.analysis.groups import compare_table
from histomri.analysis.measurements import read_measurements
from histomri.analysis.options import StatisticsOptions
from histomri.analysis.regression import regress_table
from histomri.analysis.results import Findings, Written
from histomri.core.columns import MEASUREMENTS
from histomri.core.display import Displayed
from histomri.core.errors import InputError

FEWEST = 3
FILES = (
    "correlations.csv", "correlation_matrix.csv", "correlations.json", "regression.csv", "regression_models.csv",
    "regression.json", "agreement.csv", "bias_by_size.csv", "agreement.json", "comparisons.csv", "comparisons.json",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Statistics(Displayed):
    """What was found by each command, and why there is nothing by others."""

    found: dict[str, Findings]
    problems: tuple[str, ...]

    def facts(self) -> dict[str, str]:
        """Return the first result of each command, and the problems."""
        return {name: found.lines[0] for name, found in self.found.items()} | {"problems": "; ".join(self.problems)}

    def write(self, out: Path) -> Written:
        """Write what was found; files that an earlier run left and this one did not write are removed."""
        outputs = tuple(path for found in self.found.values() for path in found.write(out).outputs)
        for name in FILES:
            if out / name not in outputs:
                (out / name).unlink(missing_ok=True)
        return Written(outputs, (), self.problems, {name: dict(found.content) for name, found in self.found.items()})


def study_statistics(pairs: StatisticsOptions | str | Path, measures: Sequence[str] = ()) -> Statistics:
    """Correlate, regress, and compare the samples of a study, as far as it can be done.

    `pairs` is a table with one row per sample, model and strategy (a path, or StatisticsOptions), `measures` are
    columns to correlate and compare beside those of histomri, such as Ki-67; those that it lacks, or that do not vary,
    are left out.
    """
    options = pairs
    if not isinstance(options, StatisticsOptions):
        options = StatisticsOptions.read(table=Path(options), measures=tuple(measures))
    path, table = options.table, read_measurements(options.table, options.columns)
    samples = table.text("sample").nunique()
    if samples < FEWEST:
        return Statistics({}, (f"statistics over samples: {samples} are too few",))
    known = [name for name in (*MEASUREMENTS, *options.measures) if name in table]
    names = tuple(name for name in known if pd.to_numeric(table.frame[name], errors="coerce").nunique() > 1)
    work: dict[str, Callable[[], Findings]] = {
        "correlate": lambda: correlate_table(path, x=names),
        "regress": lambda: regress_table(path),
        "agree": lambda: agree_table(path),
    }
    groups = table.text("group")
    if groups[groups != ""].nunique() > 1:
        work["compare"] = lambda: compare_table(path, measure=names)
    found, problems = {}, []
    for name, run in work.items():
        try:
            found[name] = run()
        except InputError as error:  # without its file: that is the run's own, and folders are nobody's concern
            problems.append(f"{name}: {error.problem}")
        except Exception as error:  # noqa: BLE001  # one statistic must not cost the others
            problems.append(f"{name}: it could not be computed ({type(error).__name__}: {error})")
    return Statistics(found, tuple(problems))
