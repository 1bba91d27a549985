"""Run the ways in which a study could have been analysed, from the finished steps of the one that is reported."""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from histomri.analysis.multiverse import ANALYSIS, SPECIFICATION_COLUMNS, analyse_every_way, summarise_specifications
from histomri.core.errors import InputError, StudyError
from histomri.core.files import require_folder
from histomri.pairing import PairedTable
from histomri.study.options import MultiverseOptions
from histomri.study.pipeline import run_study
from histomri.study.runner import run_sample
from histomri.study.sample import Sample, SampleOutcome
from histomri.study.scheduler import Lost, run_tasks
from histomri.study.specifications import AS_REPORTED, Variant, read_choices, variants
from histomri.study.study_file import Study, read_content

Progress = Callable[[float], None]
_REPORTED, _OTHERS = "reported", "specifications"


@dataclass(frozen=True)
class Multiverse:
    """What came of every specification."""

    table: pd.DataFrame  # specification, reported, the choices, model, strategy, n, TCS, rank, note
    summary: pd.DataFrame  # of `summarise_specifications`
    choices: dict[str, list[Any]]
    warnings: tuple[str, ...]

    @property
    def number(self) -> int:
        """How many specifications there are."""
        return int(self.table["specification"].nunique())

    @property
    def failed(self) -> int:
        """How many of them give no TCS."""
        return self.number - int(self.table.loc[self.table["TCS"].notna(), "specification"].nunique())


@dataclass(frozen=True)
class _Task:
    """A sample of a variant; the id names it in messages."""

    id: str
    sample: Sample
    study: Study
    folder: Path


def run_multiverse(options: MultiverseOptions, out: Path, progress: Progress = lambda fraction: None) -> Multiverse:
    """Score a study in every specification, with all that has been finished before.

    Parameters
    ----------
    options : MultiverseOptions
    out : Path
        Folder for the results of the specifications, which a later call with the same choices keeps.

    Raises
    ------
    StudyError
        If the study file is wrong, or the results are not those of the study.
    InputError
        If no specification gives a TCS.
    """
    content = read_content(options.study)
    study = Study.load(options.study)
    steps, analysis = read_choices(study.multiverse)
    several = variants(content, options.study, steps, usual=study.multiverse is None)
    reported = _results(options, study, out, partial(_scaled, progress, 0.0, 0.4))
    found: list[pd.DataFrame] = []
    warnings: list[str] = []
    done = _run_variants(several[1:], reported, out, options.jobs, partial(_scaled, progress, 0.4, 0.5))
    for variant, folder in zip(several, [reported, *done]):
        scored, said = _analysed(variant, folder, analysis)
        found.append(scored.assign(**{name: str(value) for name, value in variant.chosen.items()}))
        warnings += said
        progress(0.9 + 0.1 * len(found) / len(several))
    names = [*steps, *ANALYSIS]
    table = _numbered(pd.concat(found, ignore_index=True), names)
    choices: dict[str, list[Any]] = {name: list(dict.fromkeys(table[name])) for name in names}
    return Multiverse(table, summarise_specifications(table), choices, tuple(dict.fromkeys(warnings)))


def _scaled(progress: Progress, start: float, share: float, fraction: float) -> None:
    progress(start + share * fraction)


def _results(options: MultiverseOptions, study: Study, out: Path, progress: Progress) -> Path:
    """Return the folder with the results of the study as it is reported, made if they are not there."""
    if options.results is not None:
        if not (options.results / "study.json").exists():
            problem, hint = "holds no study.json", "give the results folder of histomri run"
            raise StudyError(problem, path=options.results, hint=hint)
        lacking = [sample.id for sample in study.samples if not (options.results / f"sub-{sample.id}").is_dir()]
        if len(lacking) == len(study.samples):
            raise StudyError("has no sample of this study", path=options.results, hint="run the study there first")
    folder = out / _REPORTED
    if options.results is not None:
        # Not in place: other options of the study file would replace what is reported.
        for sample in study.samples:
            _copied(options.results / f"sub-{sample.id}", folder / f"sub-{sample.id}")
    finished = [0]

    def report(sample: str, step: str, fraction: float) -> None:
        finished[0] += fraction >= 1.0
        progress(min(1.0, finished[0] / (8.0 * len(study.samples))))

    run_study(study, require_folder(folder), jobs=options.jobs, progress=report)
    return folder


def _copied(source: Path, target: Path) -> None:
    """Copy the finished steps of a sample, unless they are there already."""
    if source.is_dir() and not target.exists():
        shutil.copytree(source, target)


def _run_variants(
    several: Sequence[Variant], reported: Path, out: Path, jobs: int, progress: Progress
) -> list[Path | None]:
    """Run the samples of every variant from copies of what is finished; return their folders, None without a study."""
    folders: list[Path | None] = []
    tasks: list[_Task] = []
    for variant in several:
        if variant.study is None:
            folders.append(None)
            continue
        name = hashlib.sha256(json.dumps(variant.chosen, sort_keys=True, default=str).encode()).hexdigest()[:12]
        folders.append(require_folder(out / _OTHERS / name))
        for sample in variant.study.samples:
            _copied(reported / f"sub-{sample.id}", out / _OTHERS / name / f"sub-{sample.id}")
            tasks.append(_Task(f"{name}/{sample.id}", sample, variant.study, (out / _OTHERS / name).resolve()))
    for number, outcome in enumerate(run_tasks(_run_one, tasks, jobs=jobs), 1):
        if isinstance(outcome, Lost):
            raise StudyError(f"{outcome.task.id}: {outcome.reason}")
        progress(number / len(tasks))
    return folders


def _run_one(task: _Task, progress: Any) -> SampleOutcome:
    return run_sample(task.sample, task.study, task.folder, partial(progress, task.id))


def _analysed(
    variant: Variant, folder: Path | None, analysis: dict[str, tuple[str, ...]]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the scores of a variant in every way to analyse its pairs; a row that says why if there are none."""
    if variant.study is None or folder is None:
        return _failed(variant.problem, analysis), []
    outcomes = {sample.id: SampleOutcome.load(folder / f"sub-{sample.id}") for sample in variant.study.samples}
    tables, whole, reasons = list[pd.DataFrame](), list[pd.DataFrame](), list[str]()
    for name, outcome in outcomes.items():
        home = folder / f"sub-{name}"
        if outcome is None or outcome.status != "ok":
            reasons.append(f"{name}: {outcome.reason if outcome is not None else 'not run'}")
        elif (home / "pairs_voxel.csv").exists():
            tables.append(PairedTable.load(home / "pairs_voxel.csv").data)
        else:
            whole.append(PairedTable.load(home / "pairs.csv").data)
    what = ", ".join(f"{key} = {value}" for key, value in variant.chosen.items() if value != AS_REPORTED)
    said = [f"{what or 'as reported'}: left out {'; '.join(reasons)}"] if reasons else []
    if whole and "out" in analysis["at_bound"]:
        said.append(f"{len(whole)} samples were not registered and keep their voxels at a bound in every specification")
    if not tables and not whole:
        return _failed("; ".join(dict.fromkeys(reasons)), analysis), said
    verdicts = {name: (each.summary.get("register") or {}).get("verdict") for name, each in outcomes.items() if each}
    doubtful = [name for name, verdict in verdicts.items() if verdict not in (None, "good")]
    chosen = dict(analysis)
    if not doubtful:
        chosen["registration"] = ("all",)  # all are judged good: both would be one
    try:
        voxels = pd.concat(tables, ignore_index=True) if tables else None
        return analyse_every_way(voxels, doubtful, chosen, whole=pd.concat(whole) if whole else None), said
    except InputError as error:
        return _failed(error.problem, analysis), said


def _failed(reason: str, analysis: dict[str, tuple[str, ...]]) -> pd.DataFrame:
    first = {name: values[0] for name, values in analysis.items()}
    nothing: dict[str, Any] = {"model": "", "strategy": "", "n": 0, "TCS": float("nan"), "rank": float("nan")}
    return pd.DataFrame([{**first, **nothing, "note": reason}])


def _numbered(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the table with the number of each specification, the reported one marked."""
    first = pd.Series(True, index=table.index)
    for name in names:
        first &= table[name].eq(ANALYSIS[name][0] if name in ANALYSIS else AS_REPORTED)
    number = table.groupby(list(names), sort=False).ngroup() + 1
    return table.assign(specification=number, reported=first)[
        ["specification", "reported", *names, *SPECIFICATION_COLUMNS]
    ]
