"""One step, or the steps of one sample in order: what is finished is kept, what fails is recorded and not raised."""

import re
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from histomri.core.errors import HistomriError, InputError
from histomri.core.files import TEMPORARY, write_text
from histomri.core.options import Options, format_errors
from histomri.study.graph import PER_SAMPLE
from histomri.study.records import Finished, Ledger, clear_unfinished
from histomri.study.sample import Sample, SampleOutcome
from histomri.study.sources import Place
from histomri.study.step import Step, build
from histomri.study.study_file import Study

StepProgress = Callable[[str, float], None]  # called with the step and the fraction of it that is done
_FOLDERS = re.compile(r"(?<![\w.:/\\])(?:[A-Za-z]:)?[/\\]{1,2}(?:[^\s/\\'\":*?<>|][^/\\'\"\n:*?<>|]*[/\\]{1,2})+")
OUTDATED = "the results of another version of histomri were made again"


def run_step(
    step: Step, place: Place, ledger: Ledger, progress: Callable[[float], None], *, force: bool = False
) -> tuple[Finished, bool]:
    """Run a step, unless it is finished; return its record, and whether it was kept.

    The step writes into a folder of its own, whose files take their places when it has ended well.

    Raises
    ------
    HistomriError
        If it cannot be run. Nothing of it is left then.
    """
    options = _built(step, place)
    key = ledger.key(step.name, step.command.module, options)
    if not force and (found := ledger.find(step.name, key)) is not None:
        return found, True
    ledger.forget(step.name)
    written = place.folder / f"{TEMPORARY}{step.name}"
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    started = time.perf_counter()
    try:
        out = written / place.path(step.out).relative_to(place.folder)
        result = step.command.run(_with_outputs(options, written), out, progress)
        ledger.require_unchanged(options)
        ledger.finish(step.name, key, result, written, round(time.perf_counter() - started, 3))
    finally:
        shutil.rmtree(written, ignore_errors=True)
    return ledger[step.name], False


def _built(step: Step, place: Place) -> Options:
    try:
        return build(step, place)
    except ValidationError as error:
        texts = format_errors(error, step.command.options_class, lambda name: name)
        raise InputError("; ".join(texts)) from error


def _with_outputs(options: Options, folder: Path) -> Options:
    """Return the options with further files to write in the folder of the step."""
    names = {name: getattr(options, name) for name in options.names("output")}
    return options.model_copy(update={name: folder / path for name, path in names.items() if isinstance(path, Path)})


def run_sample(
    sample: Sample,
    study: Study,
    out: Path,
    progress: StepProgress,
    *,
    force: bool = False,
    verify: bool = False,
    steps: Sequence[Step] = PER_SAMPLE,
) -> SampleOutcome:
    """Run every step of one sample that is not finished; a failure is recorded, so that other samples can go on.

    Parameters
    ----------
    sample : Sample
        Of the study.
    study : Study
    out : Path
        The results folder of the study, absolute.
    progress : callable
        Called with the step's name and the fraction of it that is done.
    force : bool
        Whether to repeat what is finished.
    verify : bool
        Whether to read all files again, to find out whether they have changed.
    steps : sequence of Step
        In the order in which they run.
    """
    folder = out / f"sub-{sample.id}"
    outcome = SampleOutcome.of(sample)
    ledger = Ledger(folder, verify=verify)
    # If the run is killed, this is what remains; it also marks the folder as one of results.
    SampleOutcome.of(sample, status="failed", reason="the run was interrupted").save(folder)
    clear_unfinished(folder)
    (folder / "error.log").unlink(missing_ok=True)
    place = study.place(sample, folder, planned=False)
    if ledger.outdated:
        outcome.warnings.append(OUTDATED)
        clear_places(steps, place, ledger)
    wanted = [step for step in steps if step.name in place.active]
    for name in ledger.steps:
        if name not in place.active:
            ledger.forget(name)
    for step in wanted:
        outcome.stage = step.name
        try:
            done, kept = run_step(step, place, ledger, partial(progress, step.name), force=force)
        except Exception as error:  # noqa: BLE001  # a fault in one sample must not take the others with it
            outcome.status, outcome.reason = "failed", explain(error, folder)
            break
        progress(step.name, 1.0)
        outcome.kept += [step.name] if kept else []
        outcome.warnings += [text for text in done.warnings if text not in outcome.warnings]
        outcome.seconds[step.name] = done.seconds
        if done.messages or done.summary:
            outcome.messages[step.name], outcome.summary[step.name] = done.messages, done.summary
    if outcome.status == "failed":
        # What an earlier run has left of the steps behind one that failed belongs to other results.
        for step in wanted[[step.name for step in wanted].index(str(outcome.stage)) :]:
            ledger.forget(step.name)
    else:
        outcome.stage = None
    clear_places(steps, place, ledger)
    outcome.inputs = ledger.inputs()
    outcome.save(folder)
    return outcome


def explain(error: Exception, folder: Path) -> str:
    """Return the reason of a failure, without folders, as the report is passed on; a fault of ours is kept in full."""
    if isinstance(error, InputError) and error.path is not None:
        return str(InputError(error.problem, path=Path(error.path).name, hint=error.hint))
    if isinstance(error, HistomriError):
        return str(error)
    log = write_text(folder / "error.log", without_folders("".join(traceback.format_exception(error))))
    text = without_folders(str(error)) or "no details"
    return f"unexpected {type(error).__name__}: {text}; {folder.name}/{log.name} has the details"


def without_folders(text: str) -> str:
    r"""Return a text with files named by their last part only: folders hold names of people and of the machine.

    Examples
    --------
    >>> without_folders("File '/home/jane/study/fit.py', line 3")
    "File 'fit.py', line 3"
    """
    return _FOLDERS.sub("", text)


def clear_places(steps: Sequence[Step], place: Place, ledger: Ledger) -> None:
    """Remove files where steps write that are the result of none: maps of other options would be taken for results."""
    known = {place.folder / name for step in ledger.steps for name in ledger[step].outputs}
    for step in steps:
        root = place.path(step.out)
        if root == place.folder:
            continue
        files = root.rglob("*") if root.is_dir() else root.parent.glob(f"{root.stem}.*")
        for file in files:
            if file.is_file() and file not in known:
                file.unlink()
        for folder in sorted((path for path in (root, *root.rglob("*")) if path.is_dir()), reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()
