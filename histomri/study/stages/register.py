"""Stage: the transform from a histology section to the MRI it came from."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from histomri.arrays import FloatArray
from histomri.errors import GeometryError, InputError
from histomri.files import refuse_overwrite, require_folder
from histomri.maps import Image, open_nifti, parse_map_name, read_sidecar, sidecar_path, write_map
from histomri.registration import (
    SHRINKAGE,
    Registration,
    assess,
    fit_landmarks,
    own_warps,
    read_landmarks,
    register,
    tre,
    write_figures,
)
from histomri.study.stages.result import StageResult

_LEAST_TO_LEAVE_ONE_OUT = 4


def run_register(
    moving: Path,
    fixed: Path,
    out: Path,
    *,
    moving_mask: Path | None = None,
    fixed_mask: Path | None = None,
    landmarks: Path | None = None,
    fixed_landmarks: Path | None = None,
    landmarks_for: str = "start",
    mpp: float | tuple[float, float] | None = None,
    drive: str = "outline",
    maps: Sequence[Path] = (),
    kind: str | None = None,
    engine: str = "robust",
    flips: bool = True,
    angle_deg: float | None = None,
    turned_over: bool | None = None,
    slice: int | None = None,
    tilts_deg: Sequence[float] | None = None,
    shrinkage: float | None = None,
    figures: bool = False,
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
    moving_mask, fixed_mask : Path, optional
        Tissue masks (NIfTI).
    landmarks, fixed_landmarks : Path, optional
        Landmark pairs: one CSV, or a file of points for each image (CSV, QuPath's GeoJSON, 3D Slicer's markups).
    landmarks_for : {"start", "only", "check"}
        Whether landmarks give the start, settle everything, or only measure the error.
    mpp : float or (x, y), optional
        Pixel size of the slide in µm, for landmarks in pixels.
    maps : sequence of Path
        Maps whose content is matched; by default F, vCS and CD beside `moving`.
    drive, kind, engine, flips, angle_deg, turned_over, tilts_deg, shrinkage
        See `histomri.registration.register`; its defaults if None. With ``landmarks_for="only"``, `kind` is "affine" if
        None, and may be "tps", which "bspline" also means there.
    slice : int, optional
        Slice of the MRI; all are tried if not given.
    figures : bool
        Draw pictures to look at in ``figures``, and a page with a slider between section and MRI.
    sub : str, optional
        Subject label of the output; taken from the name of `moving` if that has one.
    progress : callable, optional
        Called with the fraction done.
    """
    require_folder(out)
    _check_options(drive, maps, flips, turned_over)
    label = re.sub(r"[^0-9A-Za-z]", "", sub) if sub else parse_map_name(moving.name).get("sub")
    stem = (f"sub-{label}_" if label else "") + "from-histo_to-dwi_mode-image_xfm"
    drawn = out / _resampled_name(moving.name, label)
    content = _content(moving, maps) if drive == "both" else []
    given = [path for path in (moving, fixed, moving_mask, fixed_mask, landmarks, fixed_landmarks, *content) if path]
    for path in (drawn, sidecar_path(drawn), out / f"{stem}.json", out / f"{stem}.tfm", *own_warps(out / stem)):
        refuse_overwrite(path, given)
    section, target = load_first_volume(moving), load_first_volume(fixed)
    masks = {"moving_mask": moving_mask, "fixed_mask": fixed_mask}
    tissue = {name: load_first_volume(path) if path else None for name, path in masks.items()}
    pairs = _landmarks(landmarks, fixed_landmarks, landmarks_for, mpp)
    window = SHRINKAGE if shrinkage is None else shrinkage

    def by_image(start: FloatArray | None, told: Callable[[float], None] | None = None) -> Registration:
        return register(
            section,
            target,
            **tissue,
            maps=[load_first_volume(path) for path in content] or None,
            drive=drive,
            landmarks=start,
            kind=kind or "bspline",
            engine=engine,
            flips=flips,
            angle_deg=angle_deg,
            turned_over=turned_over,
            slices=slice,
            tilts_deg=tilts_deg,
            shrinkage=window,
            progress=told,
        )

    def find() -> Registration:
        if pairs is None or landmarks_for == "check":
            return by_image(None, progress)
        if landmarks_for == "only":
            return _by_landmarks(section, target, pairs, kind or "affine", slice, shrinkage=window, **tissue)
        found = by_image(pairs, progress)
        return replace(found, qc={**found.qc, "landmark_left_out_mm": _left_out(pairs, by_image)})

    found = _blaming(moving, fixed, find)
    quality = assess(found, section, target, **tissue, slice=found.slice)
    found = replace(found, qc={**quality, **_landmark_errors(found, pairs, landmarks_for), **found.qc})
    found = _doubted_by_landmarks(found, target)
    found = _with_sources(found, [path.name for path in given])
    resampled = None if found.verdict == "failed" else found.resample(section, target)
    outputs = found.save(out / f"{stem}.json")
    warnings = (*handedness_warnings([moving, fixed]), *_warnings(found, resampled))
    if resampled is not None:
        outputs += _write_resampled(drawn, moving, fixed, resampled, outputs[0].name, found.verdict)
    elif drawn.exists():
        warnings += (f"{drawn.name} is left from an earlier run and does not belong to this result",)
    if figures:
        outputs += write_figures(found, section, target, out / "figures", stem=stem, **tissue, landmarks=pairs)
        if resampled is not None:
            outputs.append(_write_page(out / f"{stem}.html", found, (moving, resampled), (fixed, target), warnings))
    return StageResult(tuple(outputs), _messages(found), warnings, _summary(found))


def _write_page(
    path: Path, found: Registration, section: tuple[Path, Image], mri: tuple[Path, Image], warnings: tuple[str, ...]
) -> Path:
    """Write the page on which a slider goes from the MRI to the section."""
    from histomri.report import Layer, write_overlay

    name, above = section
    other, below = mri
    if found.slice is not None:
        above, below = above.slice(found.slice), below.slice(found.slice)
    words = parse_map_name(name.name)
    layers = Layer(words.get("param", name.name), above, cmap="viridis"), Layer(other.name, below)
    qc = found.qc
    facts = [("Verdict", found.verdict), ("Lead over other orientations", f"{found.confidence:.2f}")]
    facts += [("Overlap (Dice)", f"{qc['dice']:.2f}"), ("Rotation", f"{qc['angle_deg']:.1f}°")]
    facts += [("Turned over", "yes" if qc["turned_over"] else "no"), ("Size", f"{100 * qc['size']:.1f} % of the MRI's")]
    facts += [("Slice", str(found.slice))] if found.slice is not None else []
    return write_overlay(
        path, layers[:1], layers[1:], title=f"{name.name} on {other.name}", facts=facts, warnings=warnings
    )


def _landmark_errors(found: Registration, pairs: FloatArray | None, used_for: str) -> dict[str, Any]:
    if pairs is None:
        return {}
    return {"landmarks": len(pairs), "landmark_error_mm": tre(found, pairs).tolist(), "landmarks_for": used_for}


def _check_options(drive: str, maps: Sequence[Path], flips: bool, turned_over: bool | None) -> None:
    """Refuse options that would be passed over, or that contradict each other."""
    if maps and drive == "outline":
        raise InputError("--map does nothing where only the outline is matched", way_out="add --drive both")
    if turned_over and not flips:
        raise InputError("--turned-over and --no-flip contradict each other", way_out="leave one of them out")


def _doubted_by_landmarks(found: Registration, target: Image) -> Registration:
    """Lower a good verdict where landmarks that had no part in the result end more than two pixels off."""
    if found.qc.get("landmarks_for") != "check":
        return found
    typical, limit = float(np.median(found.qc["landmark_error_mm"])), 2 * float(target.voxel_mm[:2].min())
    if typical <= limit:
        return found
    reason = f"the landmarks end {typical:.2g} mm off (median), more than two pixels ({limit:.2g} mm)"
    verdict = "check" if found.verdict == "good" else found.verdict
    return replace(found, qc={**found.qc, "verdict": verdict, "reasons": [*found.qc["reasons"], reason]})


def _left_out(pairs: FloatArray, fit: Callable[[FloatArray], Registration]) -> list[float] | None:
    """Return how far each landmark ends when it is left out, None where that leaves too few or too bad ones."""
    if len(pairs) < _LEAST_TO_LEAVE_ONE_OUT:
        return None
    errors = []
    for n in range(len(pairs)):
        try:
            errors.append(float(tre(fit(np.delete(pairs, n, axis=0)), pairs[n : n + 1])[0]))
        except GeometryError:  # the others lie on one line
            return None
    return errors


def _landmarks(
    path: Path | None, fixed: Path | None, used_for: str, mpp: float | tuple[float, float] | None
) -> FloatArray | None:
    if used_for not in ("start", "only", "check"):
        raise InputError(f"landmarks cannot be used for {used_for!r}", way_out="use start, only or check")
    if path is None:
        if fixed is not None or used_for != "start":
            raise InputError("there are no landmarks of the section", way_out="give --landmarks")
        return None
    return read_landmarks(path, fixed, mpp=mpp)


def _content(moving: Path, maps: Sequence[Path]) -> list[Path]:
    """Return the maps whose content is matched: those given, else F, vCS and CD of the same section."""
    if maps:
        return list(maps)
    names = [re.sub(r"(?<=param-)[0-9A-Za-z]+", name, moving.name) for name in ("F", "vCS", "CD")]
    beside = [path for path in dict.fromkeys(moving.with_name(name) for name in names) if path.exists()]
    return beside or [moving]


def _by_landmarks(
    section: Image, target: Image, pairs: FloatArray, kind: str, k: int | None, **judged_by: Any
) -> Registration:
    if target.data.ndim == 3 and k is None:
        depths = np.linalg.inv(target.affine) @ np.column_stack([pairs[:, 1], np.ones(len(pairs))]).T
        k = int(np.rint(np.median(depths[2])))
        if not 0 <= k < target.data.shape[2]:
            raise GeometryError("the fixed landmarks lie outside the fixed image", way_out="give x, y and z in mm")
    flat = target if target.data.ndim == 2 else target.slice(k or 0)
    k = None if target.data.ndim == 2 else k
    kind = "tps" if kind == "bspline" else kind
    return fit_landmarks(pairs, kind, moving=section, fixed=flat, slice=k, **judged_by)


def handedness_warnings(paths: Sequence[Path]) -> tuple[str, ...]:
    """Warn of images whose header tells no orientation: left and right are then a guess."""
    names = []
    for path in paths:
        header = open_nifti(path).header
        if "sform_code" in header and int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
            names.append(path.name)
    return tuple(
        f"{name} tells no orientation (sform and qform code 0): which side is left is a guess, so a mirrored result "
        "and landmarks of another program may not fit"
        for name in names
    )


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
    return replace(found, info={**found.info, "Sources": names})


def _resampled_name(name: str, label: str | None) -> str:
    rest = re.sub(r"^sub-[0-9A-Za-z]+_", "", re.sub(r"\.nii(\.gz)?$", "", name))
    return (f"sub-{label}_" if label else "") + f"space-dwi_{rest}.nii.gz"


def _write_resampled(path: Path, moving: Path, fixed: Path, image: Image, xfm: str, verdict: str) -> list[Path]:
    sidecar = read_sidecar(moving)
    words = {key: sidecar[key] for key in ("Units", "Description") if sidecar.get(key)}
    if not parse_map_name(path.name):
        words = {"Units": "arbitrary", "Description": f"{moving.name} on the grid of {fixed.name}", **words}
    return write_map(
        path,
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
    lines = [f"registered: {where}{side}rotated by {qc['angle_deg']:.1f} degrees, {size}"]
    if "agreement" in qc:
        lines.append(
            f"outline agreement {qc['agreement']:.2f}, lead over others {found.confidence:.2f}: {found.verdict}"
        )
    else:
        lines.append(f"from the landmarks alone, overlap of the tissues (Dice) {qc['dice']:.2f}: {found.verdict}")
    if qc.get("explained") is not None:
        lines.append(f"content was matched as well: the maps explain {100 * qc['explained']:.0f} % of the MRI")
    if "landmark_error_mm" in qc:
        middle = 1000 * float(np.median(qc["landmark_error_mm"]))
        lines.append(f"{qc['landmarks']} landmarks ({qc['landmarks_for']}): median error {middle:.0f} µm")
    if qc.get("landmark_left_out_mm"):
        lines.append(f"each left out in turn: {1000 * float(np.median(qc['landmark_left_out_mm'])):.0f} µm")
    return tuple(lines)


def _warnings(found: Registration, resampled: Image | None) -> tuple[str, ...]:
    warnings = [f"registration: {reason}" for reason in found.qc["reasons"]]
    if found.verdict == "failed":
        way_out = "give --landmarks, masks, or --slice" if "agreement" in found.qc else "correct the landmarks"
        warnings.append(f"registration failed: the map was not resampled; {way_out}")
    elif found.verdict == "check":
        warnings.append("registration: look at the overlay before using the result; --landmarks can correct it")
    if found.qc.get("explained") is not None:
        warnings.append(
            "registration: content was matched, so correlations between these maps and this MRI are higher than they "
            "should be; compare them with those of unrelated pairs"
        )
    if resampled is not None and not np.isfinite(resampled.data).any():
        warnings.append("registration: no voxel of the resampled map is known")
    return tuple(warnings)


def _summary(found: Registration) -> dict[str, object]:
    return {"slice": found.slice, "confidence": found.confidence, **found.qc}
