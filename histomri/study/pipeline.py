"""A study from its file to its report: every sample, then the tables, scores and report over all of them."""

import platform
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histomri import __version__
from histomri.core.errors import InputError, StudyError
from histomri.core.files import require_folder, write_json
from histomri.core.presets import get_preset
from histomri.study.config import Study
from histomri.study.lock import Locks
from histomri.study.options import Sample
from histomri.study.resume import clear_unfinished, identify
from histomri.study.sample import STAGES, SampleFolder, SampleOutcome, run_sample
from histomri.study.scheduler import run_tasks

if TYPE_CHECKING:
    from histomri.pairing import PairedTable
    from histomri.report import FigureFormat

GROUP_STAGES = ("score", "report")
# Called with sample id, stage, and the fraction of the stage that is done for that sample.
Progress = Callable[[str, str, float], None]


@dataclass(frozen=True)
class StudyOutcome:
    """What happened to the whole study."""

    samples: tuple[SampleOutcome, ...]
    report: Path
    warnings: tuple[str, ...]

    @property
    def failed(self) -> tuple[SampleOutcome, ...]:
        """The samples that failed."""
        return tuple(sample for sample in self.samples if sample.status == "failed")


def run_study(
    study: Study,
    out: Path,
    *,
    jobs: int = 1,
    dask: str | None = None,
    participants: Sequence[str] | None = None,
    force: bool = False,
    figures: "FigureFormat | None" = None,
    progress: Progress | None = None,
) -> StudyOutcome:
    """Run a study and write its results below `out`.

    Parameters
    ----------
    study : Study
        From `Study.load`.
    out : Path
        Results folder; made if missing. Stages that an earlier run has finished there are kept, if neither their
        options nor the files they read have changed.
    jobs, dask
        See `run_tasks`.
    participants : sequence of str, optional
        Ids of the samples to run now; the tables and the report take in all that have been run so far.
    force : bool
        Whether to repeat stages that are finished.
    figures : {"svg", "pdf", "png"}, optional
        Format of figures to write beside the report.
    progress : callable, optional
        Called with (sample id, stage, fraction done); per sample only, when several processes work.

    Returns
    -------
    StudyOutcome
        With a record of each sample. A failed sample does not raise.
    """
    started = datetime.now(UTC)
    chosen = select_samples(study, participants)
    require_folder(out)
    _protect(study, chosen, out)
    inform = progress or (lambda sample, stage, fraction: None)
    alone = dask is None and (jobs == 1 or len(chosen) == 1)
    work = partial(_run_one, preset=study.preset, out=out, force=force, progress=inform if alone else None)
    with Locks.of(out) as locks, ExitStack() as held:
        held.enter_context(locks.on([sample.id for sample in chosen]))
        with locks.together():
            study.save(out / "study_resolved.json")
        done = {}
        for outcome in run_tasks(work, chosen, jobs=jobs, dask=dask):
            done[outcome.id] = outcome
            for stage in STAGES:
                inform(outcome.id, stage, 1.0)
        with locks.together():
            held.close()  # already here, so that who concludes next finds these samples free; who begins has to wait
            return _conclude(study, out, done, locks, started, figures, inform)


def _conclude(
    study: Study,
    out: Path,
    done: dict[str, SampleOutcome],
    locks: Locks,
    started: datetime,
    figures: "FigureFormat | None",
    inform: Progress,
) -> StudyOutcome:
    """Score and report all samples that have been run so far."""
    from histomri.study.stages.report import run_report

    clear_unfinished(out, deep=False)
    clear_unfinished(out / "statistics")
    outcomes, missing = _gather(study, out, done, locks)
    warnings = [*locks.warnings, *missing, *_score(study, out, outcomes, inform)]
    write_json(out / "study.json", _record(study, outcomes, warnings, started))
    inform("", "report", 0.0)
    report = run_report(out, figures=figures).outputs[0]
    inform("", "report", 1.0)
    return StudyOutcome(tuple(outcomes), report, tuple(warnings))


def _protect(study: Study, chosen: list[Sample], out: Path) -> None:
    """Raise StudyError, before anything is touched, if results would replace what the user has."""
    folders = [SampleFolder(out / f"sub-{sample.id}") for sample in chosen]
    for folder in folders:
        folder.require_ours()
    inputs = [path for sample in study.samples for _, path in sample.files()]
    if study.prediction is not None and study.prediction.table is not None:
        inputs.append(study.prediction.table)
    for path in inputs:
        for folder in folders:
            if path.resolve().is_relative_to(folder.root.resolve()):
                raise StudyError(
                    f"is an input, and {folder.root.name} is cleared for the results",
                    path=path,
                    hint="give another folder with -o",
                )


def select_samples(study: Study, participants: Sequence[str] | None) -> list[Sample]:
    """Return the samples with these ids (all, if None); an unknown id is a StudyError."""
    known = {sample.id: sample for sample in study.samples}
    wanted = [label.removeprefix("sub-") for label in participants or known]
    if unknown := [label for label in wanted if label not in known]:
        raise StudyError(f"no sample {', '.join(unknown)}; the study has {', '.join(known)}")
    return [known[label] for label in wanted]


def _run_one(sample: Sample, preset: str, out: Path, force: bool, progress: Progress | None) -> SampleOutcome:
    def inform(stage: str, fraction: float) -> None:
        if progress is not None:
            progress(sample.id, stage, fraction)

    return run_sample(sample, sample.preset or preset, out, inform, force=force)


def _gather(
    study: Study, out: Path, done: dict[str, SampleOutcome], locks: Locks
) -> tuple[list[SampleOutcome], list[str]]:
    """Return the outcomes in the study's order, with those of other participants, and what is not among them."""
    outcomes, working = [], []
    for sample in study.samples:
        earlier = SampleFolder(out / f"sub-{sample.id}").outcome
        if sample.id in done:
            outcomes.append(done[sample.id])
        elif locks.taken(sample.id):
            working.append(sample.id)
        elif earlier.exists():
            outcomes.append(SampleOutcome.load(earlier))
    told = f"another run is still working on {', '.join(working)}, which will be in its tables and report"
    return outcomes, [told] if working else []


def _score(study: Study, out: Path, outcomes: list[SampleOutcome], inform: Progress) -> list[str]:
    from histomri.pairing import PairedTable
    from histomri.study.prediction import PREDICTION_FILES, run_prediction
    from histomri.study.residuals import RESIDUAL_FILES, write_residuals
    from histomri.study.stages.score import SCORE_FILES, run_score
    from histomri.study.statistics import FILES, run_statistics

    inform("", "score", 0.0)
    pairs = out / "pairs.csv"
    statistics = (f"statistics/{name}" for name in (*FILES, *PREDICTION_FILES))
    for stale in ("pairs.csv", "pairs.json", *SCORE_FILES, *RESIDUAL_FILES, *statistics):
        (out / stale).unlink(missing_ok=True)
    finished = [outcome.id for outcome in outcomes if outcome.status == "ok"]
    good = [SampleFolder(out / f"sub-{name}") for name in finished]
    scanners = {f"sub-{sample.id}": sample.scanner for sample in study.samples}
    warnings = write_residuals(out, {folder.root.name: folder.mri for folder in good}, scanners)
    if good:
        _with_measures(PairedTable.join(PairedTable.load(folder.sample_pairs) for folder in good), study).save(pairs)
        try:
            warnings += run_score(pairs, out).warnings
            by_hand = dict.fromkeys(name for sample in study.samples for name in sample.measures)
            warnings += run_statistics(pairs, out / "statistics", [*by_hand, "ADC_per_water"])
        except InputError as error:
            warnings.append(f"the models were not scored: {error.problem}")
    else:
        warnings.append("no sample was finished, so there is nothing to score")
    warnings += [*run_prediction(study, out), *_dependent(study, finished)]
    inform("", "score", 1.0)
    return warnings


def _dependent(study: Study, finished: list[str]) -> list[str]:
    """Say which patients have several samples, which only the prediction allows for."""
    names = [sample.patient for sample in study.samples if sample.patient is not None and sample.id in finished]
    several = sorted({name for name in names if names.count(name) > 1})
    if not several:
        return []
    return [
        f"several samples are of one patient ({', '.join(several)}): a prediction keeps them together, but intervals "
        "and p-values of scores, correlations, regressions and comparisons take them as independent"
    ]


def _with_measures(table: "PairedTable", study: Study) -> "PairedTable":
    """Add the measurements that the study file gives by hand, and ADC over free water where scans differ in that."""
    by_id = {sample.id: sample for sample in study.samples}
    columns = {
        name: table.data["sample"].map({key: sample.measures.get(name) for key, sample in by_id.items()}).astype(float)
        for name in dict.fromkeys(name for sample in study.samples for name in sample.measures)
    }
    water = {
        key: get_preset(sample.fit.preset or sample.preset or study.preset).free_water_um2_ms
        for key, sample in by_id.items()
    }
    if len(set(water.values())) > 1 and "ADC_um2_ms" in table.data:
        columns["ADC_per_water"] = table.data["ADC_um2_ms"] / table.data["sample"].map(water)
    return replace(table, data=table.data.assign(**columns))


def _software() -> dict[str, str]:
    """Return the versions of what the results were computed with."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    needed = {re.split(r"[^\w.-]", text)[0] for text in requires("histomri") or () if "extra ==" not in text}
    for name in sorted(needed):
        with suppress(PackageNotFoundError):  # not needed on every system
            found[name] = version(name)
    return found


def _record(study: Study, outcomes: list[SampleOutcome], warnings: list[str], started: datetime) -> dict[str, Any]:
    finished = datetime.now(UTC)
    table = study.prediction.table if study.prediction is not None else None
    return {
        "name": study.name,
        "preset": study.preset,
        "histomri_version": __version__,
        "software": _software(),
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - started).total_seconds(), 1),
        # File names only: the report is passed on, and folders often hold names of people or machines.
        "parameters": {
            "samples": [sample.dump(lambda path: path.name) for sample in study.samples],
            "prediction": study.dump_prediction(lambda path: path.name),
        },
        "samples": [asdict(outcome) for outcome in outcomes],
        **({"prediction_table": identify(table)} if table is not None and table.is_file() else {}),
        "warnings": warnings,
    }
