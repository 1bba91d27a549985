"""Stage: the transform from a histology section to the MRI it came from."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from histomri.errors import GeometryError, InputError
from histomri.maps import Image, open_nifti, parse_map_name, read_sidecar, write_map
from histomri.registration import SHRINKAGE, Registration, read_landmarks, register
from histomri.study.stages.result import StageResult


def run_register(
    moving: Path,
    fixed: Path,
    out: Path,
    *,
    moving_mask: Path | None = None,
    fixed_mask: Path | None = None,
    landmarks: Path | None = None,
    kind: str = "affine",
    flips: bool = True,
    slice: int | None = None,
    shrinkage: float | None = None,
    sub: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> StageResult:
    """Register a section map to an MRI and write the transform and the map on the grid of the MRI.

    Parameters
    ----------
    moving : Path
        NIfTI map of the section, such as ``sub-X_param-F_histomap.nii.gz``.
    fixed : Path
        MRI; of a 4D file the first volume is used.
    out : Path
        Folder for ``[sub-X_]from-histo_to-dwi_mode-image_xfm.json`` and ``.tfm``.
    moving_mask, fixed_mask, landmarks : Path, optional
        Tissue masks (NIfTI) and landmark pairs (CSV).
    kind, flips, shrinkage
        See `histomri.registration.register`; its default shrinkage if None.
    slice : int, optional
        Slice of the MRI; all are tried if not given.
    sub : str, optional
        Subject label of the output; taken from the name of `moving` if that has one.
    progress : callable, optional
        Called with the fraction done.
    """
    section, target = load_first_volume(moving), load_first_volume(fixed)
    found = _blaming(
        moving,
        fixed,
        lambda: register(
            section,
            target,
            moving_mask=load_first_volume(moving_mask) if moving_mask else None,
            fixed_mask=load_first_volume(fixed_mask) if fixed_mask else None,
            landmarks=read_landmarks(landmarks) if landmarks else None,
            kind=kind,
            flips=flips,
            slices=slice,
            shrinkage=SHRINKAGE if shrinkage is None else shrinkage,
            progress=progress,
        ),
    )
    given = [path for path in (moving, fixed, moving_mask, fixed_mask, landmarks) if path]
    found = _with_sources(found, [path.name for path in given])
    label = re.sub(r"[^0-9A-Za-z]", "", sub) if sub else parse_map_name(moving.name).get("sub")
    stem = (f"sub-{label}_" if label else "") + "from-histo_to-dwi_mode-image_xfm"
    resampled = None if found.verdict == "failed" else found.resample(section, target)
    outputs = found.save(out / f"{stem}.json")
    if resampled is not None:
        outputs += _write_resampled(out, moving, fixed, resampled, outputs[0].name, found.verdict)
    return StageResult(tuple(outputs), _messages(found), _warnings(found, resampled), _summary(found))


def load_first_volume(path: Path) -> Image:
    """Read an image; of a 4D series the first volume alone."""
    image = open_nifti(path)
    if len(image.shape) != 4 or image.shape[3] == 1:
        return Image.load(path)
    try:
        volume = np.asarray(image.dataobj[..., 0], dtype=np.float32)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"the voxels cannot be read, the file is cut short or damaged ({error})", path=path) from error
    try:
        return Image(volume[..., 0] if volume.shape[2] == 1 else volume, np.asarray(image.affine, dtype=float))
    except GeometryError as error:
        raise GeometryError(error.problem, path=path, way_out=error.way_out) from error


def _blaming(moving: Path, fixed: Path, run: Callable[[], Registration]) -> Registration:
    """Run the registration; an error that names no file gets the names of the two images."""
    try:
        return run()
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(error.problem, path=f"{moving.name} to {fixed.name}", way_out=error.way_out) from error


def _with_sources(found: Registration, names: list[str]) -> Registration:
    from dataclasses import replace

    return replace(found, info={**found.info, "Sources": names})


def _write_resampled(out: Path, moving: Path, fixed: Path, image: Image, xfm: str, verdict: str) -> list[Path]:
    name = re.sub(r"^(sub-[0-9A-Za-z]+_)?", r"\1space-dwi_", re.sub(r"\.nii(\.gz)?$", "", moving.name)) + ".nii.gz"
    sidecar = read_sidecar(moving)
    words = {key: sidecar[key] for key in ("Units", "Description") if sidecar.get(key)}
    if not parse_map_name(name):
        words = {"Units": "arbitrary", "Description": f"{moving.name} on the grid of {fixed.name}", **words}
    return write_map(
        out / name,
        image.data,
        image.affine,
        sources=[moving, fixed],
        Transform=xfm,
        RegistrationVerdict=verdict,
        **words,
    )


def _messages(found: Registration) -> tuple[str, ...]:
    qc = found.qc
    size = f"{100 * qc['size']:.1f} % of the MRI's size"
    where = "" if found.slice is None else f"slice {found.slice}, "
    side = "turned over, " if qc["turned_over"] else ""
    return (
        f"registered: {where}{side}rotated by {qc['angle_deg']:.1f} degrees, {size}",
        f"outline agreement {qc['agreement']:.2f}, lead over others {found.confidence:.2f}: {found.verdict}",
    )


def _warnings(found: Registration, resampled: Image | None) -> tuple[str, ...]:
    warnings = [f"registration: {reason}" for reason in found.qc["reasons"]]
    if found.verdict == "failed":
        warnings.append("registration failed: the map was not resampled; give --landmarks, masks, or --slice")
    elif found.verdict == "check":
        warnings.append("registration: look at the overlay before using the result; --landmarks can correct it")
    if resampled is not None and not np.isfinite(resampled.data).any():
        warnings.append("registration: no voxel of the resampled map is known")
    return tuple(warnings)


def _summary(found: Registration) -> dict[str, object]:
    return {"slice": found.slice, "confidence": found.confidence, **found.qc}
