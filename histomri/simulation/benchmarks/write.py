"""The inputs of a benchmark set on disk, with the truth beside them."""

from pathlib import Path

from histomri.core.errors import InputError
from histomri.core.files import provenance, require_folder, write_json, write_text
from histomri.core.progress import Progress
from histomri.simulation.benchmarks.declaration import ESTIMATE_SUFFIXES, BenchmarkSet, truth_text
from histomri.simulation.benchmarks.sets import get_set


def write_benchmark(
    name: str, folder: str | Path, *, source: str | Path | None = None, progress: Progress | None = None
) -> list[Path]:
    """Write the inputs of a benchmark set: images and protocols, or tables, and set.json; the truth is in truth/.

    The same set of the same version gives the same inputs (noise: with the same version of numpy), and its truth is
    checked against the hash that it was published with.

    Parameters
    ----------
    name : str
        Of the set, such as "liver-3t"; see `SETS`.
    folder : path-like
        Made if missing.
    source : path-like, optional
        Folder of the results of another command, for the sets that need it.
    progress : callable, optional
        Called with the fraction done.

    Returns
    -------
    list of Path
        The files written; the last two are set.json and truth/truth.csv.

    Raises
    ------
    InputError
        If there is no such set, its source is missing or of no use, or the truth made here is not that of the set.
    """
    chosen, folder = get_set(name), require_folder(folder)
    if source is not None and not chosen.reads_study:
        raise InputError(f"{name} is not made of results of another command", hint="leave out --from")
    truth = chosen.truth()
    written = chosen.write_inputs(folder, truth, None if source is None else Path(source), progress)
    about = write_json(folder / "set.json", {**describe(chosen), "Rows": len(truth), **provenance()})
    return [*written, about, write_text(folder / "truth" / "truth.csv", truth_text(truth))]


def describe(chosen: BenchmarkSet) -> dict[str, object]:
    """Return what a person needs to know to enter a tool, for JSON."""
    intervals = [f"COLUMN{ending}" for ending in ESTIMATE_SUFFIXES] if chosen.scored_by == "estimates" else []
    return {
        "Set": chosen.name, "Version": chosen.version, "Description": chosen.description,
        "IdColumns": list(chosen.ids), "EstimateColumns": list(chosen.estimates), "IntervalColumns": intervals,
        "ScoredBy": chosen.scored_by, "TruthSha256": chosen.sha256,
    }  # fmt: skip
