"""One sample from its files to its paired table: the stages in order, and where each puts its results."""

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from histomri.core.errors import HistomriError, InputError, StudyError
from histomri.core.files import TEMPORARY, read_json, write_json, write_text
from histomri.study.options import STUDY_PRESETS, Sample, protocol_source
from histomri.study.result import StepResult
from histomri.study.resume import Ledger, clear_unfinished

Fraction = Callable[[float], None]  # called with the fraction of a stage that is done


@dataclass(frozen=True)
class SampleFolder:
    """The folder of one sample in the results of a study; says where everything lies."""

    root: Path

    @property
    def cells(self) -> Path:
        """The cell table."""
        return self.root / "cells.parquet"

    @property
    def histology(self) -> Path:
        """The folder of the patch maps."""
        return self.root / "histo"

    @property
    def mri(self) -> Path:
        """The folder of the fitted maps; one subfolder per fitting strategy."""
        return self.root / "mri"

    @property
    def transforms(self) -> Path:
        """The folder of the transform from histology to MRI."""
        return self.root / "xfm"

    @property
    def transform(self) -> Path:
        """The transform from histology to MRI."""
        return self.transforms / f"{self.root.name}_from-histo_to-dwi_mode-image_xfm.json"

    @property
    def voxel_pairs(self) -> Path:
        """The table with a row per voxel, model and strategy."""
        return self.root / "pairs_voxel.csv"

    @property
    def sample_pairs(self) -> Path:
        """The table with a row per model and strategy."""
        return self.root / "pairs.csv"

    @property
    def outcome(self) -> Path:
        """What happened."""
        return self.root / "sample.json"

    def require_ours(self) -> None:
        """Raise StudyError if there are files here that no earlier run has made."""
        if not self.root.exists() or self.outcome.exists():
            return
        if any(not path.name.startswith(TEMPORARY) for path in self.root.iterdir()):
            raise StudyError(
                "holds files of something else, and results would go there",
                path=self.root,
                hint="give another folder with -o",
            )


@dataclass
class SampleOutcome:
    """What happened to one sample; what the report shows of it."""

    id: str
    group: str | None
    scanner: str | None
    mri_slice: int | None
    status: Literal["ok", "failed"] = "ok"
    stage: str | None = None
    reason: str | None = None
    warnings: list[str] = field(default_factory=list)
    messages: dict[str, list[str]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)  # stages whose results of an earlier run were kept
    inputs: list[dict[str, str]] = field(default_factory=list)  # name and SHA-256 of the files that were read

    @classmethod
    def load(cls, path: Path) -> "SampleOutcome":
        """Read what an earlier run left."""
        return cls(**read_json(path, "sample record"))


def run_sample(
    sample: Sample, preset: str, out: Path, progress: Callable[[str, float], None], *, force: bool = False
) -> SampleOutcome:
    """Run every stage of one sample that is not finished; a failure is recorded, not raised, so that others can go on.

    Parameters
    ----------
    sample : Sample
        From a validated study.
    preset : str
        The preset of the study.
    out : Path
        The results folder of the study.
    progress : callable
        Called with the stage's name and the fraction of it that is done.
    force : bool
        Whether to repeat what is finished.
    """
    folder = SampleFolder(out / f"sub-{sample.id}")
    outcome = SampleOutcome(sample.id, sample.group, sample.scanner, sample.mri_slice)
    # If the run is killed, this is what remains; it also marks the folder as ours.
    write_json(folder.outcome, asdict(replace(outcome, status="failed", reason="the run was interrupted")))
    clear_unfinished(folder.root)
    (folder.root / "error.log").unlink(missing_ok=True)
    ledger = Ledger(folder.root)
    for name in STAGES:
        outcome.stage = name
        _finish(name, sample, preset, folder, ledger, partial(progress, name), outcome, force)
        progress(name, 1.0)
        if outcome.status == "failed":
            break
        done = ledger[name]
        outcome.warnings += [text for text in done.warnings if text not in outcome.warnings]
        outcome.seconds[name] = done.seconds
        if done.messages or done.summary:
            outcome.messages[name], outcome.summary[name] = done.messages, done.summary
    else:
        outcome.stage = None
    _clear_behind(outcome, ledger)
    outcome.inputs = ledger.inputs()
    write_json(folder.outcome, asdict(outcome))
    return outcome


def _finish(
    name: str,
    sample: Sample,
    preset: str,
    folder: SampleFolder,
    ledger: Ledger,
    progress: Fraction,
    outcome: SampleOutcome,
    force: bool,
) -> None:
    """Run a stage, unless it is finished."""
    stage = _STAGES[name]
    try:
        key = ledger.key(name, {"preset": preset, **_read_by(stage, sample)}, stage.after)
    except HistomriError as error:
        outcome.status, outcome.reason = "failed", _told(error)
        return
    if not force and ledger.find(name, key) is not None:
        outcome.kept.append(name)
        return
    started = time.perf_counter()
    ledger.start(name, stage.places)
    results = _attempt(stage.run, sample, preset, folder, progress, outcome)
    if outcome.status == "ok":
        ledger.finish(name, key, results, stage.places, round(time.perf_counter() - started, 3))


def _clear_behind(outcome: SampleOutcome, ledger: Ledger) -> None:
    """Clear what an earlier run has left of the stages behind one that failed: it belongs to other results."""
    if outcome.stage is not None:
        for name in STAGES[STAGES.index(outcome.stage) :]:
            ledger.start(name, _STAGES[name].places)


def _read_by(stage: "Stage", sample: Sample) -> dict[str, Any]:
    """Return the options and files of a sample that a stage reads."""
    given: dict[str, Any] = sample.model_dump(include=set(stage.reads))
    if "protocol" in given:
        given["protocol"] = protocol_source(sample.protocol)
        if isinstance(given["protocol"], Path):
            given["protocol"] = _companions(given["protocol"], sample.dwi)
    if "cells" in given:  # a QuPath project names files in the folder beside it
        projects = [path for path in (*sample.cells, sample.cell_options.project) if path is not None]
        beside = [path.parent / "data" for path in projects if path.suffix == ".qpproj"]
        given["project"] = [path for place in beside for path in sorted(place.rglob("*")) if path.is_file()]
        given["outlines"] = _needs_outlines(sample)
    return given


def _companions(protocol: Path, dwi: Path) -> list[Path]:
    """Return the files a protocol can consist of: those named like it or like the images, less images."""
    stems = {path.name.split(".")[0] for path in (protocol, dwi)}
    found = {path for place in (protocol.parent, dwi.parent) for path in place.glob("*") if path.is_file()}
    named = {path for path in found if path.name.split(".")[0] in stems}
    return sorted(path for path in named if not path.name.endswith((".nii", ".nii.gz")))


def _attempt(
    run: "Runner", sample: Sample, preset: str, folder: SampleFolder, progress: Fraction, outcome: SampleOutcome
) -> list[StepResult]:
    try:
        return run(sample, preset, folder, progress)
    except HistomriError as error:
        outcome.status, outcome.reason = "failed", _told(error)
    # A fault in one sample must not take the finished work of the others with it; it is kept in full beside it.
    except Exception as error:  # noqa: BLE001
        log = write_text(folder.root / "error.log", traceback.format_exc())
        outcome.status = "failed"
        outcome.reason = f"unexpected {type(error).__name__}: {error}; {folder.root.name}/{log.name} has the details"
    return []


def _told(error: HistomriError) -> str:
    """Return a message with the name of the file and not its folder: the report is passed on."""
    if isinstance(error, InputError) and error.path is not None:
        return str(InputError(error.problem, path=Path(error.path).name, hint=error.hint))
    return str(error)


def _needs_outlines(sample: Sample) -> bool:
    return sample.cell_options.geometries or sample.patches.assign == "clip"  # cells are cut along their outlines


def _cells(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StepResult]:
    from histomri.cells.options import CellOptions
    from histomri.study.steps.cells import run

    given = {**sample.cell_options.model_dump(), "geometries": _needs_outlines(sample)}
    return [run(CellOptions.read(exports=sample.cells, roi=sample.roi, **given), folder.cells)]


def _patches(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StepResult]:
    from histomri.study.stages.patches import run_patches

    options = sample.patches.model_dump()
    options["preset"] = options["preset"] or STUDY_PRESETS[preset][0]
    like = sample.dwi if options.pop("like_mri") and not options["whole"] else None
    for key in ("patch_um", "step_um"):
        if isinstance(options[key], float):
            options[key] = (options[key], options[key])
    if like is not None:
        options["patch_um"] = None
    if sample.slide is not None:
        options["tissue"] = "field"  # inside which the tissue of the slide is what counts
    options["assign_by"] = options.pop("assign")
    return [run_patches(folder.cells, folder.histology, like=like, slide=sample.slide, sub=sample.id, **options)]


def _fit(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StepResult]:
    from histomri.study.stages.dki import run_dki
    from histomri.study.stages.fit import run_fit
    from histomri.study.stages.fit_tasks import Extras

    options = sample.fit
    mri_preset = options.preset or STUDY_PRESETS[preset][1]
    protocol = protocol_source(sample.protocol)
    results = [
        run_fit(
            sample.dwi,
            protocol,
            folder.mri,
            models=options.models,
            strategy=options.strategies,
            preset=mri_preset,
            mask=sample.mask,
            sigma=sample.sigma,
            bmin=None,
            s0=sample.s0,
            fv=sample.fv,
            t2t=sample.t2t,
            noise=options.noise,
            bic=options.bic,
            t2ivim=options.t2ivim,
            kurtosis=options.kurtosis,
            extras=Extras(
                options.residuals or "table", options.bootstrap, options.bootstrap_kind, options.seed, options.crlb
            ),
            sub=sample.id,
            progress=progress,
        )
    ]
    if options.dki:
        results.append(run_dki(sample.dwi, protocol, folder.mri, preset=mri_preset, mask=sample.mask, sub=sample.id))
    return results


def _register(sample: Sample, preset: str, folder: SampleFolder, progress: Callable[[float], None]) -> list[StepResult]:
    from histomri.study.stages.patches import tissue_mask_name
    from histomri.study.stages.register import run_register

    options = sample.registration
    if options.kind == "none":
        return []
    mask = folder.histology / tissue_mask_name(sample.id)
    return [
        run_register(
            folder.histology / f"sub-{sample.id}_param-F_histomap.nii.gz",
            sample.dwi,
            folder.transforms,
            moving_mask=mask if mask.exists() else None,
            fixed_mask=sample.mask,
            landmarks=sample.landmarks,
            landmarks_for=options.landmarks_for if sample.landmarks else "start",
            kind=options.kind,
            engine=options.engine,
            drive=options.drive,
            flips=options.flips,
            angle_deg=options.angle,
            turned_over=options.turned_over,
            tilts_deg=options.tilts,
            slice=sample.mri_slice,
            shrinkage=options.shrinkage,
            figures=False,
            sub=sample.id,
            progress=progress,
        )
    ]


def _pair(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StepResult]:
    from histomri.pairing import PairOptions
    from histomri.study.steps import pair

    _refuse_failed(folder.transform)
    options = PairOptions(
        histo_dir=folder.histology,
        mri_dir=folder.mri,
        xfm=folder.transform if folder.transform.exists() else None,
        per="sample",
        sample=sample.id,
        patient=sample.patient,
        group=sample.group,
        scanner=sample.scanner,
        mask=sample.mask,
        slice=sample.mri_slice,
        voxel_out=folder.voxel_pairs,
    )
    return [pair.run(options, folder.sample_pairs)]


def _refuse_failed(transform: Path) -> None:
    """Raise an InputError where the section does not lie on the MRI, so that pairs of voxels would say nothing."""
    from histomri.registration import Transform

    if not transform.exists():
        return
    qc = Transform.load(transform).info.get("Registration", {}).get("QualityControl", {})
    if qc.get("verdict") == "failed":
        reasons = "; ".join(qc.get("reasons", ())) or "the outlines do not agree"
        raise InputError(
            f"the registration failed ({reasons})",
            hint='give landmarks, mask or mri_slice, or compare means with registration = { kind = "none" }',
        )


Runner = Callable[[Sample, str, SampleFolder, Fraction], list[StepResult]]


@dataclass(frozen=True)
class Stage:
    """A stage of a sample, and what has to be known to tell whether it must be run again.

    Attributes
    ----------
    run : callable
    reads : tuple of str
        Keys of the sample: options and files.
    after : tuple of str
        Stages whose results it reads.
    places : tuple of str
        What it writes, as patterns below the sample's folder.
    """

    run: Runner
    reads: tuple[str, ...]
    after: tuple[str, ...]
    places: tuple[str, ...]


_STAGES = {
    "cells": Stage(_cells, ("id", "cells", "roi", "cell_options"), (), ("cells.*",)),
    "patches": Stage(_patches, ("id", "dwi", "slide", "patches"), ("cells",), ("histo",)),
    "fit": Stage(_fit, ("id", "dwi", "protocol", "mask", "sigma", "s0", "fv", "t2t", "fit"), (), ("mri",)),
    "register": Stage(
        _register, ("id", "dwi", "mask", "landmarks", "mri_slice", "registration"), ("patches",), ("xfm",)
    ),
    "pair": Stage(
        _pair, ("id", "patient", "group", "scanner", "mask", "mri_slice"), ("patches", "fit", "register"), ("pairs*",)
    ),
}
STAGES = tuple(_STAGES)
