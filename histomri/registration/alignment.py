"""A section laid on its target by images or landmarks, judged, and put in words, numbers and names of files."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image, sidecar_path
from histomri.registration.estimate import SHRINKAGE, described, register
from histomri.registration.excluded import register_without
from histomri.registration.io.native import family
from histomri.registration.landmark_files import landmark_names, read_landmarks, unpaired_landmarks
from histomri.registration.landmark_fits import KINDS, fit_landmarks, tre
from histomri.registration.options import RegisterOptions, is_slide
from histomri.registration.planes import located
from histomri.registration.prepare import slice_of_landmarks
from histomri.registration.quality import Alternative, Registration, assess, orientation_name
from histomri.registration.sides import Side, compare_densities

_LEAST_TO_LEAVE_ONE_OUT, _SLIDE_ERROR_MM = 4, 0.1
Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks, (N, 2, 3) mm, None if there are none, what each is called, and what was left out of their files."""

    pairs: FloatArray | None = None
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_landmark_files(options: RegisterOptions, section: Side, target: Side) -> Landmarks:
    """Read the landmarks that the options name."""
    path, fixed = options.landmarks, options.fixed_landmarks
    if path is None:
        return Landmarks()
    own, other = section.overview, target.overview
    sizes: dict[str, Any] = {"mpp": options.mpp if own is None else own.pixel_size_um}
    sizes["fixed_mpp"] = None if other is None else other.pixel_size_um
    pairs, names = read_landmarks(path, fixed, **sizes), landmark_names(path, fixed, **sizes)
    if fixed is None:
        return Landmarks(pairs, names)
    alone = zip((path, fixed), unpaired_landmarks(path, fixed, **sizes), strict=True)
    left_out = [f"{', '.join(unpaired)} of {file.name}" for file, unpaired in alone if unpaired]
    note = "landmarks are paired by name, and these have no partner and were left out: "
    return Landmarks(pairs, names, (note + "; ".join(left_out),) if left_out else ())


def align(
    section: Side, target: Side, options: RegisterOptions, pairs: FloatArray | None = None,
    progress: Progress | None = None, *, names: Sequence[str] = (),
) -> tuple[Registration, FloatArray | None]:  # fmt: skip
    """Register two sides as the options say, and judge the result by all that is known.

    Of the files that the options name only the names are used, for the record; `pairs` (N, 2, 3) are landmarks, and
    `names` what they are called, by `read_landmark_files`. Also returned are the landmarks with every z.
    """
    try:
        found = _find(section, target, pairs, options, progress)
    except InputError as error:
        if error.path is not None:
            raise
        names = f"{section.path.name} to {target.path.name}"
        raise type(error)(error.problem, path=names, hint=error.hint) from error
    pairs = None if pairs is None else located(found, pairs)
    masks, where = {"moving_mask": section.mask, "fixed_mask": target.mask}, found.qc.get("tilt_deg", (0.0, 0.0))
    quality = assess(found, section.image, target.image, **masks, slice=found.slice, tilt_deg=where)
    if pairs is not None:
        quality |= {"landmarks": len(pairs), "landmark_error_mm": tre(found, pairs).tolist()}
        quality["landmarks_for"] = options.landmarks_for
    found = replace(found, qc={**quality, **found.qc})
    if section.overview is not None and target.overview is not None:
        found = compare_densities(found, section.image, target.image)
    found = _doubted_by_landmarks(found, target, names)
    return replace(found, info=_info(found, section, target, options)), pairs


def _find(
    section: Side, target: Side, pairs: FloatArray | None, options: RegisterOptions, progress: Progress | None
) -> Registration:
    """Return the transform, by the images, from the landmarks on, or by the landmarks alone."""
    shrinkage = options.shrinkage
    if shrinkage is None:  # two sections have that of paraffin in common
        shrinkage = SHRINKAGE if target.overview is None else 0.0
    settings: dict[str, Any] = {name: getattr(options, name) for name in ("kind", "engine", "flips", "turned_over")}
    settings |= {"angle_deg": options.angle, "tilts_deg": options.tilts, "slices": options.slice}
    settings |= {"moving_mask": section.mask, "fixed_mask": target.mask, "shrinkage": shrinkage}
    without = {"moving_exclude": section.excluded, "fixed_exclude": target.excluded}

    def by_image(start: FloatArray | None, report: Progress | None = None) -> Registration:
        if section.excluded is None and target.excluded is None:
            return register(section.image, target.image, landmarks=start, progress=report, **settings)
        return register_without(section.image, target.image, landmarks=start, **without, **settings)

    if pairs is None or options.landmarks_for == "check":
        return by_image(None, progress)
    if options.landmarks_for == "only":
        return _by_landmarks(section, target, pairs, options, shrinkage)
    found = by_image(pairs, progress)
    return replace(found, qc={**found.qc, "landmark_left_out_mm": _left_out(pairs, by_image)})


def _left_out(pairs: FloatArray, fit: Callable[[FloatArray], Registration]) -> list[float] | None:
    """Return how far each landmark ends when it is left out, None where that leaves too few or too bad ones."""
    if len(pairs) < _LEAST_TO_LEAVE_ONE_OUT:
        return None
    try:
        return [float(tre(fit(np.delete(pairs, n, axis=0)), pairs[n : n + 1])[0]) for n in range(len(pairs))]
    except GeometryError:  # the others lie on one line
        return None


def _by_landmarks(
    section: Side, side: Side, pairs: FloatArray, options: RegisterOptions, shrinkage: float
) -> Registration:
    kind, target, mask, k = options.kind, side.image, side.mask, None
    if kind == "bspline":
        kind = "tps" if len(pairs) >= KINDS["tps"] else "affine"
    if target.data.ndim == 3:
        k = slice_of_landmarks(pairs, target) if options.slice is None else options.slice
        if k is None:
            problem = "the fixed landmarks have no z, and the MRI has several slices"
            raise InputError(problem, hint="give --slice, or the column fixed_z_mm")
        if mask is not None and mask.data.ndim == 3:
            mask = mask.slice(k)
        target = target.slice(k)
    masks = {"moving_mask": section.mask, "fixed_mask": mask}
    return fit_landmarks(pairs, kind, moving=section.image, fixed=target, slice=k, shrinkage=shrinkage, **masks)


def _doubted_by_landmarks(found: Registration, target: Side, names: Sequence[str]) -> Registration:
    """Lower a good verdict where a landmark that had no part in the result ends further off than that allows."""
    errors = np.atleast_1d(found.qc.get("landmark_error_mm", 0.0))
    limit, what = 2 * float(target.image.voxel_mm[:2].min()), "two pixels"
    if target.overview is not None:
        limit, what = _SLIDE_ERROR_MM, "half a patch"
    if found.qc.get("landmarks_for") != "check" or errors.max() <= limit:
        return found
    typical, worst = float(np.median(errors)), int(errors.argmax())
    reason = f"the landmarks end {typical:.2g} mm off (median), more than {what} ({limit:.2g} mm)"
    if typical <= limit:
        reason = f"{int((errors > limit).sum())} of {len(errors)} landmarks end more than {what} ({limit:.2g} mm) off"
    reason += f"; the worst is {names[worst] if names else f'number {worst + 1}'}, {errors[worst]:.2g} mm off"
    verdict = "check" if found.verdict == "good" else found.verdict
    return replace(found, qc={**found.qc, "verdict": verdict, "reasons": [*found.qc["reasons"], reason]})


def _info(found: Registration, section: Side, target: Side, options: RegisterOptions) -> dict[str, Any]:
    """Return the record: the files, where the images lie, and of slides what is needed to carry their pixels over."""
    sides = {
        name: {**described(side.image), **found.info.get(name, {}), **(side.overview.record if side.overview else {})}
        for name, side in (("Moving", section), ("Fixed", target))
    }
    names = ("moving", "fixed", "moving_mask", "fixed_mask", "landmarks", "fixed_landmarks", "exclude", "fixed_exclude")
    sources = [path.name for name in names if (path := getattr(options, name)) is not None]
    return {**found.info, **sides, "Sources": sources}


@dataclass(frozen=True)
class ResultNames:
    """What the results are called: `transform` without its ending, and the map on the MRI; slides have none."""

    transform: Path
    drawn: Path | None

    @classmethod
    def of(cls, options: RegisterOptions, out: Path) -> "ResultNames":
        """Return the names for these inputs in a folder."""
        moving, fixed = options.moving, options.fixed
        found = re.match(r"sub-([0-9A-Za-z]+)_", moving.name)
        label = re.sub(r"[^0-9A-Za-z]", "", options.sub) if options.sub else found[1] if found else None
        start = f"sub-{label}_" if label else ""
        ends = f"from-{_word(moving, 'histo')}_to-{_word(fixed, 'dwi')}" if is_slide(fixed) else "from-histo_to-dwi"
        rest = re.sub(r"\.nii(\.gz)?$", "", moving.name.removeprefix(found[0] if found else ""))
        drawn = None if is_slide(moving) else out / f"{start}space-{_word(fixed, 'dwi')}_{rest}.nii.gz"
        return cls(out / f"{start}{ends}_mode-image_xfm", drawn)

    def file(self, ending: str) -> Path:
        """Return the file of the transform with an ending: .json, or .html of the page with a slider."""
        return self.transform.with_name(f"{self.transform.name}{ending}")

    @property
    def alternatives(self) -> Path:
        """Return the folder of the transforms to other places where the section may lie."""
        return self.transform.parent / "alternatives"

    @property
    def written(self) -> list[Path]:
        """What may be replaced."""
        drawn = [] if self.drawn is None else [self.drawn, sidecar_path(self.drawn)]
        return [*drawn, *family(self.file(".json"))]


def save_alternatives(found: Registration, names: ResultNames) -> list[Path]:
    """Write the transforms to the other places where the section may lie, and remove those of an earlier run."""
    stem, folder = names.transform.name, names.alternatives
    for stale in folder.glob(f"{escape(stem)}_alternative[0-9]*"):
        stale.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    places = [found.instead(each).save(folder / f"{stem}_{name}.json") for name, each in open_alternatives(found)]
    return [path for paths in places for path in paths]


def open_alternatives(found: Registration) -> list[tuple[str, Alternative]]:
    """Return the other places where the section may lie, by name."""
    still = (each for each in found.alternatives if each.is_open)
    return [(f"alternative{number}", each) for number, each in enumerate(still, start=1)]


def _word(path: Path, other: str) -> str:
    """Return the name of a slide as a label of BIDS, `other` for what is no slide."""
    name = re.sub(r"^sub-[0-9A-Za-z]+_", "", path.name).split(".")[0]
    return re.sub(r"[^0-9A-Za-z]", "", name) or "slide" if is_slide(path) else other


def size_text(found: Registration, target: Side) -> str:
    """Say how large the section is."""
    return f"{100 * found.qc['size']:.1f} % of the size of {target.name('the MRI')}"


def error_text(qc: Mapping[str, Any]) -> str:
    """Say how far off tissue is to be expected: the median, and what holds it in nine of ten registrations."""
    text = f"{qc['expected_error_mm']:.2g} mm"
    if between := qc.get("expected_error_range_mm"):
        text += f" ({between[0]:.2g} to {between[1]:.2g})"
    return text


def describe(found: Registration, target: Side) -> tuple[str, ...]:
    """Return lines for the person who ran the registration."""
    qc = found.qc
    where = "" if found.slice is None else f"slice {found.slice}, "
    side = "turned over, " if qc["turned_over"] else ""
    lines = [f"registered: {where}{side}rotated by {qc['angle_deg']:.1f} degrees, {size_text(found, target)}"]
    if "agreement" in qc:
        margin = f"margin over other orientations {found.confidence:.2f}"
        error = f"expected error {error_text(qc)}: {found.verdict}"
        lines.append(f"outline agreement {qc['agreement']:.2f}, {margin}, {error}")
    else:
        lines.append(f"from the landmarks alone, overlap of the tissues (Dice) {qc['dice']:.2f}: {found.verdict}")
    if "excluded_mm2" in qc:
        own, other = qc["excluded_mm2"]
        lines.append(f"left out: {own:.3g} mm² of the section and {other:.3g} mm² of {target.name('the MRI')}")
    if qc.get("density_lead") is not None:
        lines.append(f"densities correlate with r {qc['density_r']:.2f}, {qc['density_lead']:.2f} more than beside")
    if "landmark_error_mm" in qc:
        middle = 1000 * float(np.median(qc["landmark_error_mm"]))
        lines.append(f"{qc['landmarks']} landmarks ({qc['landmarks_for']}): median error {middle:.0f} µm")
    if qc.get("landmark_left_out_mm"):
        lines.append(f"each left out in turn: {1000 * float(np.median(qc['landmark_left_out_mm'])):.0f} µm")
    return tuple(lines)


def result_warnings(found: Registration, resampled: Image | None, section: Side, target: Side) -> tuple[str, ...]:
    """Return what makes the result less trustworthy; `resampled` is the map on the MRI, if there is one."""
    warnings = [f"registration: {reason}" for reason in found.qc["reasons"]]
    if found.verdict == "failed":
        lost = "the map was not resampled" if section.overview is None else "do not use the transform"
        hint = "give --landmarks, --slice or other masks"
        if "agreement" not in found.qc:
            hint = "correct the landmarks"
        elif target.mask is None:
            otherwise = "if some of it is fluid, a tube or another organ; else --landmarks, --moving-mask or --slice"
            hint = f"all that is bright in {target.path.name} was taken for tissue: give --fixed-mask {otherwise}"
        warnings.append(f"registration failed: {lost}; {hint}")
    elif found.verdict == "check":
        warnings.append("registration: look at the overlay before using the result; --landmarks can correct it")
    warnings += _choices(found)
    if resampled is not None and not np.isfinite(resampled.data).any():
        warnings.append("registration: no voxel of the resampled map is known")
    return tuple(warnings)


def _choices(found: Registration) -> list[str]:
    """Say how each of the places where the section may lie is chosen."""
    lines = []
    for name, each in open_alternatives(found):
        candidate, side = each.candidate, "--turned-over" if each.candidate.turned_over else "--as-it-lies"
        if each.kind == "orientation":
            lines.append(f"{orientation_name(candidate)}: --angle {candidate.angle_deg:.0f} {side}")
        elif each.kind == "slice":
            lines.append(f"slice {candidate.slice}: --slice {candidate.slice}")
        else:
            lines.append(
                f"without the side that may lack tissue: the transform alternatives/.._{name}.json, or --exclude REGION"
            )
    return [f"to choose another than the one taken: {'; '.join(lines)}"] if lines else []


def numbers(found: Registration) -> dict[str, object]:
    """Return the same in numbers."""
    parameters = found.info.get("Parameters", {})
    return {"slice": found.slice, "confidence": found.confidence, "parameters": parameters, **found.qc}
