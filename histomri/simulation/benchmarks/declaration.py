"""What a benchmark set is: a declaration with its truth, which is made anew and known again by its hash."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.progress import Progress

ESTIMATE_SUFFIXES = ("_low", "_high", "_se")
"""Endings of the columns in which results give the 95 % interval, or the standard error, of an estimate."""
InputWriter = Callable[[Path, pd.DataFrame, Path | None, Progress | None], list[Path]]
"""Writes the inputs of a set: (folder, truth, results of another command, progress) to the files written."""


@dataclass(frozen=True, repr=False)
class BenchmarkSet(Displayed):
    """A benchmark set.

    Attributes
    ----------
    name, version, description : str, int, str
        A change of the inputs or of the truth makes another version; results of different versions do not compare.
    ids : tuple of str
        Columns that name a row of the truth, and the same row of the results.
    estimates : tuple of str
        Columns that results may have, with their units; at least one. Of points, all.
    conditions : tuple of str
        Columns of the truth by whose values the errors are given once more.
    unit : str
        Column of the truth: rows with the same value are copies, not independent cases, and intervals allow for it.
    make_truth : callable
        Makes the truth: a row per case, numbers rounded, so that every machine makes the same.
    sha256 : str
        Of the truth as CSV; see `truth_text`.
    write_inputs : callable
    scored_by : {"estimates", "points"}
        Error of each estimate; or distance of points from where they belong, mm.
    reads_study : bool
        Whether the inputs are made of the results of `histomri insilico`.
    pixel_mm : float
        Of points: an error below it is a success.
    """

    name: str
    version: int
    description: str
    ids: tuple[str, ...]
    estimates: tuple[str, ...]
    conditions: tuple[str, ...]
    unit: str
    make_truth: Callable[[], pd.DataFrame]
    sha256: str
    write_inputs: InputWriter
    scored_by: Literal["estimates", "points"] = "estimates"
    reads_study: bool = False
    pixel_mm: float = 0.0

    def facts(self) -> dict[str, Any]:
        """Return name, version, and what results must have."""
        return {
            "set": f"{self.name} {self.version}",
            "ids": ", ".join(self.ids),
            "estimates": ", ".join(self.estimates),
        }

    def truth(self) -> pd.DataFrame:
        """Make the truth, (rows) DataFrame.

        Raises
        ------
        InputError
            If it is not the truth that the set was published with.
        """
        made = self.make_truth()
        found = hashlib.sha256(truth_text(made).encode()).hexdigest()
        if found != self.sha256:
            problem = f"the truth of {self.name} made here is not that of version {self.version}"
            hint = "its results would not compare with others: install histomri again, and report it if that fails"
            raise InputError(f"{problem} (sha256 {found[:12]}, not {self.sha256[:12]})", hint=hint)
        return made


def truth_text(truth: pd.DataFrame) -> str:
    """Return the truth as CSV text, the same on every machine: shortest decimals, Unix line ends."""
    return str(truth.to_csv(index=False, lineterminator="\n"))


def data_path(name: str) -> Path:
    """Return the path of a file that travels with the package."""
    return Path(str(files("histomri.simulation.benchmarks"))) / "data" / name
