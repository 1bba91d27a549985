"""Stage: the transform from a histology section to the MRI, or to the other section, on which it lies."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import refuse_overwrite, require_folder
from histomri.core.images import sidecar_path
from histomri.registration import (
    SHRINKAGE,
    Registration,
    assess,
    compare_densities,
    fit_landmarks,
    located,
    own_warps,
    read_landmarks,
    register,
    tre,
    unpaired_landmarks,
)
from histomri.study.result import StepResult
from histomri.study.stages.apply_guards import refuse_other_samples
from histomri.study.stages.register_inputs import Mpp, Side, is_slide, load_first_volume, read_sides
from histomri.study.stages.register_results import write_results

_LEAST_TO_LEAVE_ONE_OUT = 4
_SLIDE_ERROR_MM = 0.1


@dataclass(frozen=True)
class _Names:
    """What the results are called: the transform, and the map as it lies on the MRI, which slides have none of."""

    transform: Path
    drawn: Path | None

    @classmethod
    def of(cls, moving: Path, fixed: Path, out: Path, sub: str | None) -> "_Names":
        found = re.match(r"sub-([0-9A-Za-z]+)_", moving.name)
        label = re.sub(r"[^0-9A-Za-z]", "", sub) if sub else found[1] if found else None
        start = f"sub-{label}_" if label else ""
        ends = f"from-{_word(moving, 'histo')}_to-{_word(fixed, 'dwi')}" if is_slide(fixed) else "from-histo_to-dwi"
        rest = re.sub(r"\.nii(\.gz)?$", "", moving.name.removeprefix(found[0] if found else ""))
        place = _word(fixed, "dwi")
        drawn = None if is_slide(moving) else out / f"{start}space-{place}_{rest}.nii.gz"
        return cls(out / f"{start}{ends}_mode-image_xfm", drawn)

    @property
    def written(self) -> list[Path]:
        drawn = [] if self.drawn is None else [self.drawn, sidecar_path(self.drawn)]
        stem = self.transform
        return [*drawn, stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.tfm"), *own_warps(stem)]


def _word(path: Path, other: str) -> str:
    """Return the name of a slide as a label of BIDS, `other` for what is no slide."""
    name = re.sub(r"^sub-[0-9A-Za-z]+_", "", path.name).split(".")[0]
    return re.sub(r"[^0-9A-Za-z]", "", name) or "slide" if is_slide(path) else other


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
    mpp: Mpp = None,
    fixed_mpp: Mpp = None,
    drive: str = "outline",
    maps: Sequence[Path] = (),
    shrinkage: float | None = None,
    figures: bool = True,
    sub: str | None = None,
    slice: int | None = None,
    progress: Callable[[float], None] | None = None,
    **search: Any,
) -> StepResult:
    """Register a section to an MRI or to another section, and write the transform and the map on the grid of the MRI.

    Parameters
    ----------
    moving : Path
        NIfTI map of the section, such as ``sub-X_param-F_histomap.nii.gz``, or a slide.
    fixed : Path
        MRI, of a 4D file the first volume is used; or a slide.
    out : Path
        Folder for ``[sub-X_]from-histo_to-dwi_mode-image_xfm.json`` and ``.tfm``; onto a slide, the names of the slides
        stand in place of histo and dwi.
    moving_mask, fixed_mask : Path, optional
        Tissue masks (NIfTI; for a slide also GeoJSON of QuPath).
    landmarks, fixed_landmarks : Path, optional
        Landmark pairs: one CSV, or a file of points for each image (CSV, QuPath's GeoJSON, 3D Slicer's markups).
    landmarks_for : {"start", "only", "check"}
        Whether landmarks give the start, settle everything, or only measure the error.
    mpp, fixed_mpp : float or (x, y), optional
        Pixel sizes of the slides in µm, where they do not tell it and for landmarks in pixels.
    maps : sequence of Path
        Maps whose content is matched; by default F, vCS and CD beside `moving`.
    shrinkage : float, optional
        Expected linear shrinkage; 0.129 if None, 0 onto a slide.
    figures : bool
        Draw pictures to look at in ``figures``, and a page with a slider between the two images.
    sub : str, optional
        Subject label of the output; taken from the name of `moving` if that has one.
    slice : int, optional
        Slice of the MRI; all are tried if not given.
    progress : callable, optional
        Called with the fraction done.
    drive, **search
        `kind`, `engine`, `flips`, `angle_deg`, `turned_over` and `tilts_deg` of `histomri.registration.register`; its
        defaults where absent or None. With ``landmarks_for="only"``, `kind` is "affine" if None, and may be "tps",
        which "bspline" also means there.
    """
    require_folder(out)
    search = {name: value for name, value in search.items() if value is not None}
    _check_options(drive, maps, search.get("flips", True), search.get("turned_over"))
    _check_landmark_options(landmarks_for if landmarks is not None else None, drive, search)
    _check_pixel_sizes(moving, fixed, mpp, fixed_mpp, in_px=fixed_landmarks is not None)
    if sub is None:
        images = moving, fixed, moving_mask, fixed_mask, *maps
        refuse_other_samples(*images, landmarks, fixed_landmarks, otherwise="pass --sub NAME")
    names = _Names.of(moving, fixed, out, sub)
    content = _content(moving, maps) if drive == "both" else []
    given = [path for path in (moving, fixed, moving_mask, fixed_mask, landmarks, fixed_landmarks, *content) if path]
    for path in names.written:
        refuse_overwrite(path, given)
    section, target, notes = read_sides((moving, fixed), (moving_mask, fixed_mask), mpp, fixed_mpp)
    sizes = _pixel_size(section, mpp), _pixel_size(target, None)
    pairs = _landmarks(landmarks, fixed_landmarks, landmarks_for, *sizes)
    notes += _unpaired(landmarks, fixed_landmarks, *sizes)
    search |= {"drive": drive, "maps": [load_first_volume(path) for path in content] or None, "slices": slice}
    search["shrinkage"] = _shrinkage(shrinkage, target)
    found = _blaming(moving, fixed, lambda: _find(section, target, pairs, landmarks_for, search, progress))
    pairs = None if pairs is None else located(found, pairs)
    found = _judged(found, section, target, pairs, landmarks_for)
    found = _with_sources(found, section, target, [path.name for path in given])
    return write_results(found, section, target, names.transform, names.drawn, notes, figures=figures, landmarks=pairs)


def _find(
    section: Side,
    target: Side,
    pairs: FloatArray | None,
    used_for: str,
    search: dict[str, Any],
    progress: Callable[[float], None] | None,
) -> Registration:
    """Return the transform, by the images, from the landmarks on, or by the landmarks alone."""
    masks: dict[str, Any] = {"moving_mask": section.mask, "fixed_mask": target.mask}

    def by_image(start: FloatArray | None, told: Callable[[float], None] | None = None) -> Registration:
        return register(section.image, target.image, **masks, landmarks=start, progress=told, **search)

    if pairs is None or used_for == "check":
        return by_image(None, progress)
    if used_for == "only":
        kind, k = search.get("kind", "affine"), search["slices"]
        return _by_landmarks(section, target, pairs, kind, k, shrinkage=search["shrinkage"], **masks)
    found = by_image(pairs, progress)
    return replace(found, qc={**found.qc, "landmark_left_out_mm": _left_out(pairs, by_image)})


def _judged(found: Registration, section: Side, target: Side, pairs: FloatArray | None, used_for: str) -> Registration:
    """Add what can be measured afterwards, and what it makes of the verdict."""
    images, masks = (section.image, target.image), (section.mask, target.mask)
    where: dict[str, Any] = {"slice": found.slice, "tilt_deg": found.qc.get("tilt_deg", (0.0, 0.0))}
    quality = assess(found, *images, moving_mask=masks[0], fixed_mask=masks[1], **where)
    found = replace(found, qc={**quality, **_landmark_errors(found, pairs, used_for), **found.qc})
    if section.overview is not None and target.overview is not None:
        found = compare_densities(found, *images)
    return _doubted_by_landmarks(found, target)


def _shrinkage(given: float | None, target: Side) -> float:
    """Return what is given; else that of paraffin, which two sections have in common."""
    if given is not None:
        return given
    return SHRINKAGE if target.overview is None else 0.0


def _pixel_size(side: Side, given: Mpp) -> Mpp:
    return given if side.overview is None else side.overview.pixel_size_um


def _landmark_errors(found: Registration, pairs: FloatArray | None, used_for: str) -> dict[str, Any]:
    if pairs is None:
        return {}
    return {"landmarks": len(pairs), "landmark_error_mm": tre(found, pairs).tolist(), "landmarks_for": used_for}


def _check_options(drive: str, maps: Sequence[Path], flips: bool, turned_over: bool | None) -> None:
    """Refuse options that would be passed over, or that contradict each other."""
    if maps and drive == "outline":
        raise InputError("--map does nothing where only the outline is matched", hint="add --drive both")
    if turned_over and not flips:
        raise InputError("--turned-over and --no-flip contradict each other", hint="leave one of them out")


def _check_landmark_options(used_for: str | None, drive: str, search: dict[str, Any]) -> None:
    """Refuse options of the search where landmarks replace it."""
    given = {"--angle": "angle_deg" in search}
    if used_for == "only":
        given |= {
            "--tilts": "tilts_deg" in search,
            "--engine dipy": search.get("engine") == "dipy",
            "--kind syn": search.get("kind") == "syn",
            "--drive both": drive == "both",
            "--no-flip": not search.get("flips", True),
            "--turned-over or --as-it-lies": "turned_over" in search,
        }
    for option, present in given.items():
        if present and used_for in ("start", "only"):
            ending = " alone settle everything" if used_for == "only" else " replace the search"
            raise InputError(f"{option} does nothing where landmarks{ending}", hint=f"leave {option} out")


def _check_pixel_sizes(moving: Path, fixed: Path, mpp: Mpp, fixed_mpp: Mpp, *, in_px: bool) -> None:
    """Refuse pixel sizes of what is no slide; points of the section, in a file of their own, may be in pixels."""
    if fixed_mpp is not None and not is_slide(fixed):
        raise InputError("--fixed-mpp does nothing: it is no slide", path=fixed, hint="leave --fixed-mpp out")
    if mpp is not None and not (is_slide(moving) or is_slide(fixed) or in_px):
        raise InputError(
            "--mpp does nothing: it is no slide, and there are no points in pixels", path=moving, hint="leave it out"
        )


def _doubted_by_landmarks(found: Registration, target: Side) -> Registration:
    """Lower a good verdict where landmarks that had no part in the result end further off than that allows."""
    if found.qc.get("landmarks_for") != "check":
        return found
    typical = float(np.median(found.qc["landmark_error_mm"]))
    limit, said = 2 * float(target.image.voxel_mm[:2].min()), "two pixels"
    if target.overview is not None:
        limit, said = _SLIDE_ERROR_MM, "half a patch"
    if typical <= limit:
        return found
    reason = f"the landmarks end {typical:.2g} mm off (median), more than {said} ({limit:.2g} mm)"
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


def _landmarks(path: Path | None, fixed: Path | None, used_for: str, mpp: Mpp, fixed_mpp: Mpp) -> FloatArray | None:
    if used_for not in ("start", "only", "check"):
        raise InputError(f"landmarks cannot be used for {used_for!r}", hint="use start, only or check")
    if path is None:
        if fixed is not None or used_for != "start":
            raise InputError("there are no landmarks of the section", hint="give --landmarks")
        return None
    return read_landmarks(path, fixed, mpp=mpp, fixed_mpp=fixed_mpp)


def _unpaired(path: Path | None, fixed: Path | None, mpp: Mpp, fixed_mpp: Mpp) -> tuple[str, ...]:
    """Warn of points without a partner of the same name."""
    if path is None or fixed is None:
        return ()
    alone = zip((path, fixed), unpaired_landmarks(path, fixed, mpp=mpp, fixed_mpp=fixed_mpp), strict=True)
    said = [f"{', '.join(names)} of {file.name}" for file, names in alone if names]
    if not said:
        return ()
    return (f"landmarks are paired by name, and these have no partner and were left out: {'; '.join(said)}",)


def _content(moving: Path, maps: Sequence[Path]) -> list[Path]:
    """Return the maps whose content is matched: those given, else F, vCS and CD of the same section."""
    if maps or is_slide(moving):
        return list(maps)
    names = [re.sub(r"(?<=param-)[0-9A-Za-z]+", name, moving.name) for name in ("F", "vCS", "CD")]
    beside = [path for path in dict.fromkeys(moving.with_name(name) for name in names) if path.exists()]
    return beside or [moving]


def _by_landmarks(
    section: Side, side: Side, pairs: FloatArray, kind: str, k: int | None, **judged_by: Any
) -> Registration:
    target = side.image
    if target.data.ndim == 3 and k is None:
        known = pairs[np.isfinite(pairs[:, 1, 2]), 1]
        if not len(known):
            raise InputError(
                "the fixed landmarks have no z, and the MRI has several slices",
                hint="give --slice, or the column fixed_z_mm",
            )
        depths = np.linalg.inv(target.affine) @ np.column_stack([known, np.ones(len(known))]).T
        k = int(np.rint(np.median(depths[2])))
        if not 0 <= k < target.data.shape[2]:
            raise GeometryError("the fixed landmarks lie outside the fixed image", hint="give x, y and z in mm")
    flat = target if target.data.ndim == 2 else target.slice(k or 0)
    mask = judged_by["fixed_mask"]
    if mask is not None and mask.data.ndim == 3 and target.data.ndim == 3:
        judged_by["fixed_mask"] = mask.slice(k or 0)
    k = None if target.data.ndim == 2 else k
    kind = "tps" if kind == "bspline" else kind
    return fit_landmarks(pairs, kind, moving=section.image, fixed=flat, slice=k, **judged_by)


def _blaming(moving: Path, fixed: Path, run: Callable[[], Registration]) -> Registration:
    """Run the registration; an error that names no file gets the names of the two images."""
    try:
        return run()
    except InputError as error:
        if error.path is not None:
            raise
        raise type(error)(error.problem, path=f"{moving.name} to {fixed.name}", hint=error.hint) from error


def _with_sources(found: Registration, section: Side, target: Side, names: list[str]) -> Registration:
    """Record the files, where the images lie, and of slides what is needed to carry their pixels over."""
    images = {
        name: {
            "Shape": list(side.image.data.shape),
            "Affine": side.image.affine,
            **found.info.get(name, {}),
            **({} if side.overview is None else side.overview.record),
        }
        for name, side in (("Moving", section), ("Fixed", target))
    }
    return replace(found, info={**found.info, **images, "Sources": names})
