"""A study from its file to its report: every sample, then the tables, scores and report over all of them."""

import platform
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from histomri.core.compiling import reporting_compilation
from histomri.core.errors import InputError, StudyError
from histomri.core.files import read_json, require_folder, write_json
from histomri.core.options import paths_in, plain
from histomri.core.provenance import software_version
from histomri.study.graph import PER_STUDY
from histomri.study.lock import Locks
from histomri.study.plan import changed
from histomri.study.records import Ledger, clear_unfinished, identify
from histomri.study.runner import OUTDATED, explain, run_sample, run_step
from histomri.study.sample import Sample, SampleOutcome, require_results_folder
from histomri.study.scheduler import Lost, Progress, run_tasks
from histomri.study.sources import Place
from histomri.study.study_file import Study

if TYPE_CHECKING:
    from histomri.report.options import FigureFormat

RECORD_SCHEMA = 2


@dataclass(frozen=True)
class StudyOutcome:
    """What happened to the whole study."""

    samples: tuple[SampleOutcome, ...]
    report: Path
    warnings: tuple[str, ...]
    kept: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[SampleOutcome, ...]:
        """The samples that failed."""
        return tuple(sample for sample in self.samples if sample.status == "failed")


def run_study(
    study: Study,
    out: str | Path,
    *,
    jobs: int = 1,
    dask: str | None = None,
    participants: Sequence[str] | None = None,
    force: bool = False,
    verify: bool = False,
    figures: "FigureFormat | None" = None,
    progress: Progress = lambda sample, step, fraction: None,
) -> StudyOutcome:
    """Run a study and write its results below `out`.

    Parameters
    ----------
    study : Study
        From `Study.load`.
    out : path-like
        Results folder; made if missing. Steps that an earlier run has finished there are kept, if neither their
        options, nor the files they read, nor their code have changed.
    jobs, dask
        See `run_tasks`.
    participants : sequence of str, optional
        Ids of the samples to run now; the tables and the report take in all that have been run so far.
    force : bool
        Whether to repeat steps that are finished.
    verify : bool
        Whether to read all files again, to find out whether they have changed.
    figures : {"svg", "pdf", "png"}, optional
        Format of figures to write beside the report.
    progress : callable, optional
        Called with (sample id, step, fraction done), also when several processes or a cluster work.

    Returns
    -------
    StudyOutcome
        With a record of each sample. A failed sample does not raise.
    """
    started = datetime.now(UTC)
    chosen = select_samples(study, participants)
    out = require_folder(out).resolve()  # processes elsewhere may run in another folder
    _protect(study, chosen, out)
    work = partial(_run_one, study=study, out=out, force=force, verify=verify)
    with Locks.of(out) as locks, ExitStack() as held:
        held.enter_context(locks.on([sample.id for sample in chosen]))
        with locks.together():
            study.save(out / "study_resolved.json")
        done = {}
        try:
            for outcome in run_tasks(work, chosen, jobs=jobs, dask=dask, progress=progress):
                outcome = _lost(outcome, out) if isinstance(outcome, Lost) else outcome
                done[outcome.id] = outcome
        finally:
            if len(done) < len(chosen):  # interrupted: processes that were ended could not tidy up
                for sample in chosen:
                    clear_unfinished(out / f"sub-{sample.id}")
        with locks.together():
            held.close()  # already here, so that who concludes next finds these samples free; who begins has to wait
            return _conclude(study, out, done, locks, started, figures, force, verify, progress)


def _run_one(sample: Sample, progress: Progress, study: Study, out: Path, force: bool, verify: bool) -> SampleOutcome:
    with reporting_compilation(partial(progress, sample.id, "compiling", 0.0)):
        return run_sample(sample, study, out, partial(progress, sample.id), force=force, verify=verify)


def _lost(lost: "Lost[Sample]", out: Path) -> SampleOutcome:
    """Record a sample whose process was killed; what it had finished is kept for the next run."""
    folder = out / f"sub-{lost.task.id}"
    clear_unfinished(folder)
    outcome = SampleOutcome.of(lost.task, status="failed", reason=lost.reason)
    outcome.save(folder)
    return outcome


def _conclude(
    study: Study,
    out: Path,
    done: dict[str, SampleOutcome],
    locks: Locks,
    started: datetime,
    figures: "FigureFormat | None",
    force: bool,
    verify: bool,
    progress: Progress,
) -> StudyOutcome:
    """Run the steps over all samples that have been finished so far, and write the report."""
    from histomri.report.options import ReportOptions
    from histomri.study.steps.report import run as write_report

    for place in (out, out / "statistics"):
        clear_unfinished(place, deep=False)
    outcomes, missing = _gather(study, out, done, locks)
    finished = {outcome.id for outcome in outcomes if outcome.status == "ok"}
    good = [sample for sample in study.samples if sample.id in finished]
    warnings, kept = _run_over_samples(study, out, good, force, verify, progress)
    again = [outcome.id for outcome in outcomes if outcome.id in done and OUTDATED in outcome.warnings]
    outdated = [f"{OUTDATED}: {', '.join(again)}"] if again else []
    plan = study.plan.record(study.fits, _recorded_plan(out)) if study.plan is not None else None
    dropped = ["the analysis plan of an earlier run is no longer in the study file"] if _is_dropped(study, out) else []
    warnings = [*locks.warnings, *outdated, *missing, *warnings, *(changed(plan) if plan else dropped)]
    record = _record(study, outcomes, warnings, kept, started) | ({"plan": plan} if plan is not None else {})
    write_json(out / "study.json", record)
    progress("", "report", 0.0)
    report = write_report(ReportOptions(folder=out, figures=figures))
    progress("", "report", 1.0)
    warnings += [text for text in report.warnings if text not in warnings]
    return StudyOutcome(tuple(outcomes), report.outputs[0], tuple(warnings), tuple(kept))


def _run_over_samples(
    study: Study, out: Path, good: Sequence[Sample], force: bool, verify: bool, progress: Progress
) -> tuple[list[str], list[str]]:
    """Run the steps over all samples; return warnings, and the steps that were kept."""
    ledger = Ledger(out, verify=verify)
    if ledger.outdated:
        _clear_outdated(out)
    warnings, kept = list[str](), list[str]()
    if not good:
        warnings.append("no sample was finished, so there is nothing to score")
    done = {"fit", "pair"} if good else set[str]()
    for step in PER_STUDY:
        if not step.is_wanted(study) or not (done.issuperset(step.after) or step.alone(study)):
            ledger.forget(step.name)
            continue
        place = Place(out, study.preset, samples=good, active=frozenset(done), options=study.options)
        progress("", step.name, 0.0)
        try:
            finished, was_kept = run_step(step, place, ledger, partial(progress, "", step.name), force=force)
        except Exception as error:  # noqa: BLE001  # the other tables, and the report, are made all the same
            ledger.forget(step.name)
            reason = error.problem if isinstance(error, InputError) else explain(error, out)
            warnings.append(f"{step.name}: {reason}")
            continue
        progress("", step.name, 1.0)
        done.add(step.name)
        warnings += finished.warnings
        kept += [step.name] if was_kept else []
    ledger.inputs()
    return list(dict.fromkeys(warnings)), kept


def _clear_outdated(out: Path) -> None:
    """Remove the tables of another version, which might not be written any more and would pass for results."""
    for pattern in ("pairs.*", "scores*", "residuals.*", "model_comparisons.csv", "statistics/**/*", ".lock"):
        for path in sorted(out.glob(pattern), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()


def _protect(study: Study, chosen: list[Sample], out: Path) -> None:
    """Raise StudyError, before anything is touched, if results would replace what the user has."""
    folders = [out / f"sub-{sample.id}" for sample in chosen]
    for folder in folders:
        require_results_folder(folder)
    inputs = [path for sample in study.samples for _, path in sample.files()]
    for path in (*inputs, *paths_in(study.options)):
        for folder in folders:
            if path.resolve().is_relative_to(folder.resolve()):
                raise StudyError(
                    f"is an input, and {folder.name} is cleared for the results",
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


def _gather(
    study: Study, out: Path, done: dict[str, SampleOutcome], locks: Locks
) -> tuple[list[SampleOutcome], list[str]]:
    """Return the outcomes in the study's order, with those of other participants, and what is not among them."""
    outcomes, working = [], []
    for sample in study.samples:
        if sample.id in done:
            outcomes.append(done[sample.id])
        elif locks.taken(sample.id):
            working.append(sample.id)
        elif (earlier := SampleOutcome.load(out / f"sub-{sample.id}")) is not None:
            outcomes.append(earlier)
    text = f"another run is still working on {', '.join(working)}, which will be in its tables and report"
    return outcomes, [text] if working else []


def _recorded_plan(out: Path) -> dict[str, Any] | None:
    """Return the plan that an earlier run in this folder has recorded, if there is one."""
    path = out / "study.json"
    if not path.exists():
        return None
    content = read_json(path, "record of the study")
    plan = content.get("plan") if isinstance(content, dict) else None
    return dict(plan) if isinstance(plan, dict) else None


def _is_dropped(study: Study, out: Path) -> bool:
    return study.plan is None and _recorded_plan(out) is not None


def _software() -> dict[str, str]:
    """Return the versions of what the results were computed with."""
    found = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    needed = {re.split(r"[^\w.-]", text)[0] for text in requires("histomri") or () if "extra ==" not in text}
    for name in sorted(needed):
        with suppress(PackageNotFoundError):  # not needed on every system
            found[name] = version(name)
    return found


def _name(path: Path) -> str:
    """Return how a path is recorded: the report is passed on, and folders often hold names of people or machines."""
    return path.name


def _record(
    study: Study, outcomes: list[SampleOutcome], warnings: list[str], kept: list[str], started: datetime
) -> dict[str, Any]:
    finished = datetime.now(UTC)
    table = next(paths_in(study.options.get("prediction", {}).get("table")), None)
    return {
        "schema": RECORD_SCHEMA,
        "name": study.name,
        "preset": study.preset,
        "simulated": study.simulated,
        "histomri_version": software_version(),
        "software": _software(),
        "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"),
        "seconds": round((finished - started).total_seconds(), 1),
        "parameters": {
            "samples": [study.resolved(sample, _name) for sample in study.samples],
            "prediction": {},
            **study.resolved_options(_name),
        },
        "samples": [plain(asdict(outcome), _name) for outcome in outcomes],
        **({"prediction_table": identify(table)} if table is not None and table.is_file() else {}),
        "kept": kept,
        "warnings": warnings,
    }
