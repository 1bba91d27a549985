"""One sample from its files to its paired table: the stages in order, and where each puts its results."""

import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from histomri.errors import HistomriError, StudyError
from histomri.files import read_json, write_json, write_text
from histomri.study.config import STUDY_PRESETS, Sample, protocol_source
from histomri.study.stages.result import StageResult

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
        if self.root.exists() and not self.outcome.exists() and any(self.root.iterdir()):
            raise StudyError(
                "holds files of something else, and results would go there",
                path=self.root,
                way_out="give another folder with -o",
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

    @classmethod
    def load(cls, path: Path) -> "SampleOutcome":
        """Read what an earlier run left."""
        return cls(**read_json(path, "sample record"))


def run_sample(sample: Sample, preset: str, out: Path, progress: Callable[[str, float], None]) -> SampleOutcome:
    """Run every stage of one sample; a failure is recorded, not raised, so that the others can go on.

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
    """
    folder = SampleFolder(out / f"sub-{sample.id}")
    outcome = SampleOutcome(sample.id, sample.group, sample.scanner, sample.mri_slice)
    _clear(folder)
    # If the run is killed, this is what remains; it also marks the folder as one that may be cleared next time.
    interrupted = replace(outcome, status="failed", reason="the run was interrupted")
    write_json(folder.outcome, asdict(interrupted))
    for stage, run in _RUNNERS.items():
        started = time.perf_counter()
        outcome.stage = stage
        results = _attempt(run, sample, preset, folder, partial(progress, stage), outcome)
        outcome.seconds[stage] = round(time.perf_counter() - started, 3)
        progress(stage, 1.0)
        if outcome.status == "failed":
            break
        for result in results:
            outcome.warnings += [text for text in result.warnings if text not in outcome.warnings]
            outcome.messages.setdefault(stage, []).extend(result.messages)
            outcome.summary.setdefault(stage, {}).update(result.summary)
    else:
        outcome.stage = None
    write_json(folder.outcome, asdict(outcome))
    return outcome


def _attempt(
    run: "Runner", sample: Sample, preset: str, folder: SampleFolder, progress: Fraction, outcome: SampleOutcome
) -> list[StageResult]:
    try:
        return run(sample, preset, folder, progress)
    except HistomriError as error:
        outcome.status, outcome.reason = "failed", str(error)
    # A fault in one sample must not take the finished work of the others with it; it is kept in full beside it.
    except Exception as error:  # noqa: BLE001
        log = write_text(folder.root / "error.log", traceback.format_exc())
        outcome.status = "failed"
        outcome.reason = f"unexpected {type(error).__name__}: {error}; {folder.root.name}/{log.name} has the details"
    return []


def _clear(folder: SampleFolder) -> None:
    # Maps of a model that is no longer asked for would be paired and scored as if it were.
    for old in (folder.histology, folder.mri, folder.transforms):
        shutil.rmtree(old, ignore_errors=True)
    for old in (folder.cells, folder.voxel_pairs, folder.sample_pairs, folder.outcome, folder.root / "error.log"):
        old.unlink(missing_ok=True)
    folder.root.mkdir(parents=True, exist_ok=True)


def _cells(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StageResult]:
    from histomri.study.stages.cells import run_cells

    options = sample.cell_options.model_dump()
    return [run_cells(list(sample.cells), folder.cells, roi=sample.roi, **options)]


def _patches(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StageResult]:
    from histomri.study.stages.patches import run_patches

    options = sample.patches.model_dump()
    options["preset"] = options["preset"] or STUDY_PRESETS[preset][0]
    like = sample.dwi if options.pop("like_mri") else None
    if isinstance(options["patch_um"], float):
        options["patch_um"] = (options["patch_um"], options["patch_um"])
    if like is not None:
        options["patch_um"] = None
    return [run_patches(folder.cells, folder.histology, like=like, whole=False, sub=sample.id, **options)]


def _fit(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StageResult]:
    from histomri.study.stages.dki import run_dki
    from histomri.study.stages.fit import run_fit

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
            t2ivim=options.t2ivim,
            kurtosis=options.kurtosis,
            sub=sample.id,
            progress=progress,
        )
    ]
    if options.dki:
        results.append(run_dki(sample.dwi, protocol, folder.mri, preset=mri_preset, mask=sample.mask, sub=sample.id))
    return results


def _register(
    sample: Sample, preset: str, folder: SampleFolder, progress: Callable[[float], None]
) -> list[StageResult]:
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
            kind=options.kind,
            flips=options.flips,
            slice=sample.mri_slice,
            shrinkage=options.shrinkage,
            sub=sample.id,
            progress=progress,
        )
    ]


def _pair(sample: Sample, preset: str, folder: SampleFolder, progress: Fraction) -> list[StageResult]:
    from histomri.study.stages.pair import run_pair

    return [
        run_pair(
            folder.histology,
            folder.mri,
            folder.sample_pairs,
            xfm=folder.transform if folder.transform.exists() else None,
            per="sample",
            sample=sample.id,
            group=sample.group,
            scanner=sample.scanner,
            mask=sample.mask,
            slice=sample.mri_slice,
            voxel_out=folder.voxel_pairs,
        )
    ]


Runner = Callable[[Sample, str, SampleFolder, Fraction], list[StageResult]]
_RUNNERS: dict[str, Runner] = {
    "cells": _cells,
    "patches": _patches,
    "fit": _fit,
    "register": _register,
    "pair": _pair,
}
STAGES = tuple(_RUNNERS)
