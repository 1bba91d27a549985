"""Raw diffusion images in, images fit for fitting out, with their noise, mask and the record of what was done."""

from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import provenance, write_json, write_text
from histomri.core.images import map_name, sidecar_path, write_image, write_map
from histomri.core.progress import Progress, share_of
from histomri.mri import Motion, Preprocessed, open_dwi, preprocess, read_acquisition
from histomri.study.result import StepResult


def run_preprocess(
    dwi: str | Path,
    protocol: str | Path,
    out: str | Path,
    *,
    denoise: bool = True,
    unring: bool = True,
    motion: bool = True,
    mask: bool = True,
    drift_reference: str | Path | None = None,
    drift_order: int = 1,
    sub: str | None = None,
    progress: Progress | None = None,
) -> StepResult:
    """Preprocess diffusion images and write them.

    Parameters
    ----------
    dwi : path-like
        4D NIfTI of magnitude images, volumes in the order of their acquisition.
    protocol, out, sub, progress
        As in `run_fit`.
    denoise, unring, motion, mask : bool
        Which steps are done.
    drift_reference : path-like, optional
        NIfTI mask of a region that does not change; the drift of its signal is divided out.
    drift_order : {1, 2}
        Linear drift, or with a square.

    Returns
    -------
    StepResult
        Files written, what was found, warnings.

    Raises
    ------
    InputError
        If an input cannot be used; nothing is written then.
    """
    wanted = {"denoise": denoise, "unring": unring, "motion": motion, "drift": drift_reference, "mask": mask}
    steps = tuple(name for name, on in wanted.items() if on)
    if not steps:
        raise InputError("every step is switched off", hint="leave at least one of them on")
    acquisition = read_acquisition(protocol, dwi)
    images = open_dwi(dwi)
    reference = None if drift_reference is None else images.read_mask(drift_reference)
    everywhere = np.ones(images.shape[:3], dtype=bool)
    signals = images.read(everywhere, share_of(progress, 0.0, 0.1)).reshape(images.shape)
    try:
        result = preprocess(
            signals, images.affine, acquisition, steps=steps, reference=reference, drift_order=drift_order,
            progress=share_of(progress, 0.1, 1.0),
        )  # fmt: skip
    except InputError as error:
        raise type(error)(error.problem, path=error.path or dwi, hint=error.hint) from error
    sources = [Path(each) for each in (dwi, protocol, drift_reference) if each is not None]
    outputs = _write(result, Path(out), images.affine, sources, sub)
    messages = tuple(_message(step) for step in result.steps)
    return StepResult(tuple(outputs), messages, result.warnings, {"steps": list(result.steps)})


def _write(result: Preprocessed, out: Path, affine: FloatArray, sources: list[Path], sub: str | None) -> list[Path]:
    record: dict[str, Any] = {"Steps": list(result.steps)}
    stem = map_name("x", "dwimap", sub=sub).split("param-x")[0]
    series = out / f"{stem}desc-preproc_dwi.nii.gz"
    write_image(series, result.signals, affine)
    content = {"Units": "signal", "Description": "Preprocessed diffusion images", **record, **provenance(sources)}
    outputs = [series, write_json(sidecar_path(series), content)]
    if result.noise is not None:
        outputs += write_map(
            out / map_name("sigma", "dwimap", sub=sub), result.noise.sigma, affine, sources=sources,
            Units="signal", Description="Noise level (standard deviation) of the raw images",
            Method=result.noise.method,
        )  # fmt: skip
    if result.mask is not None:
        path = out / f"{stem}desc-tissue_mask.nii.gz"
        write_image(path, result.mask.astype(np.uint8), affine)
        outputs += [path, write_json(sidecar_path(path), {"Type": "ROI", **record, **provenance(sources)})]
    if result.motion is not None:
        outputs.append(write_text(out / f"{stem}desc-motion_timeseries.tsv", _motion_table(result.motion)))
    return outputs


def _motion_table(motion: Motion) -> str:
    """Return the motion as text: a line per volume, or per slice of a volume."""
    lines = ["volume\tslice\tx_mm\ty_mm\tz_mm\trotation_deg\taligned"]
    for volume, per_slice in enumerate(motion.matrices):
        for s, matrix in enumerate(per_slice):
            turn = np.rad2deg(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1)))
            numbers = "\t".join(f"{value:.4f}" for value in (*matrix[:3, 3], turn))
            place = str(s) if motion.by_slice else "n/a"
            lines.append(f"{volume}\t{place}\t{numbers}\t{'no' if motion.rejected[volume, s] else 'yes'}")
    return "\n".join(lines) + "\n"


def _message(step: Any) -> str:
    texts = {
        "denoise": "denoise: {Method}, patches of radius {PatchRadius}, median sigma {MedianSigma:.4g}",
        "unring": "unring: {Method}",
        "motion": "motion: largest shift {LargestShiftMm:.2g} mm, median {MedianShiftMm:.2g} mm",
        "drift": "drift: {DriftPercent:.2g} ± {StandardErrorPercent:.2g} % over the scan, divided out",
        "mask": "mask: {Share:.1%} of the voxels",
    }
    return texts[step["Step"]].format(**step)
