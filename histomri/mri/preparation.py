"""A raw diffusion series made fit for fitting: denoised, unringed, aligned, its drift divided out, and masked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, provenance, write_json, write_text
from histomri.core.images import map_name, sidecar_path, write_image, write_map
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition, Motion, NoiseLevel, correct_drift, correct_motion, denoise, estimate_drift
from histomri.mri.correction import reference_volume
from histomri.mri.distortion import EddyRecord, FieldMap, undistort
from histomri.mri.effects import Effect, draw_effects, most_alike
from histomri.mri.noise import DIPY
from histomri.mri.spoilt import SpoiltVolume, find_spoilt_before_fit, list_spoilt

STEPS = ("denoise", "unring", "motion", "undistort", "drift", "mask", "spoilt")
"""The steps, in the order in which they are done: noise must be removed before anything mixes neighbours, ringing
before anything interpolates, and drift can be read in a region only once the volumes are aligned. A field is that of
the position of the first volume. Spoilt volumes are looked for in the raw signals, whose noise is known, in the
mask."""


@dataclass(frozen=True, repr=False)
class Preprocessed(Displayed):
    """A preprocessed series, and the record of how it was made.

    Signals are (I, J, K, M) float32; noise is that of the raw signals, if they were denoised, and mask, (I, J, K) of
    bool, the tissue, if wanted; steps say what was done, in order, with parameters and numbers.
    """

    signals: FloatArray
    noise: NoiseLevel | None
    mask: BoolArray | None
    motion: Motion | None
    steps: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    effects: tuple[Effect, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what was done."""
        return {"shape": self.signals.shape} | {step["Step"]: text for step, text in zip(self.steps, self.messages())}

    def messages(self) -> tuple[str, ...]:
        """Return a line on each step."""
        return tuple(_message(step) for step in self.steps)

    def save(
        self, out: str | Path, affine: FloatArray, *, sources: Iterable[str | Path] = (), sub: str | None = None
    ) -> list[Path]:
        """Write series, noise map, mask and motion table into a folder; returns the files."""
        out, sources, record = Path(out), list(sources), {"Steps": list(self.steps)}
        stem = map_name("x", "dwimap", sub=sub).split("param-x")[0]
        series, mask = out / f"{stem}desc-preproc_dwi.nii.gz", out / f"{stem}desc-tissue_mask.nii.gz"
        write_image(series, self.signals, affine)
        content = {"Units": "signal", "Description": "Preprocessed diffusion images", **record, **provenance(sources)}
        outputs = [series, write_json(sidecar_path(series), content)]
        if self.noise is not None:
            outputs += write_map(
                out / map_name("sigma", "dwimap", sub=sub), self.noise.sigma, affine, sources=sources,
                Units="signal", Description="Noise level (standard deviation) of the raw images",
                Method=self.noise.method,
            )  # fmt: skip
        if self.mask is not None:
            write_image(mask, self.mask.astype(np.uint8), affine)
            outputs += [mask, write_json(sidecar_path(mask), {"Type": "ROI", **record, **provenance(sources)})]
        if self.motion is not None:
            outputs.append(write_text(out / f"{stem}desc-motion_timeseries.tsv", self.motion.table()))
        if any(step["Step"] in ("spoilt", "eddy") for step in self.steps):
            outputs.append(write_text(out / f"{stem}desc-spoilt_volumes.tsv", _spoilt_table(self.steps)))
        if self.effects:
            picture = out / f"{stem}desc-steps_preproc.png"
            with atomic_path(picture) as temporary:
                draw_effects(self.effects).savefig(temporary, format="png", dpi=100, metadata={"Software": None})
            outputs.append(picture)
        return outputs


_MESSAGES = {
    "exclude": "left out of everything, as they are in their places: volumes {Volumes}",
    "eddy": "eddy: largest shift {LargestShiftMm:.2g} mm, largest turn {LargestTurnDeg:.2g}°; {Found}",
    "denoise": "denoise: {Method}, patches of {Patch} voxels, median sigma {Sigma}",
    "unring": "unring: {Method}",
    "motion": "motion: {Kind}, largest shift {LargestShiftMm:.2g} mm, median {MedianShiftMm:.2g} mm",
    "undistort": "undistort: largest shift {LargestShiftVoxels:.2g} voxels along {PhaseEncoding}",
    "drift": "drift: {DriftPercent:.2g} ± {StandardErrorPercent:.2g} % over the scan, divided out",
    "mask": "mask: {Share:.1%} of the voxels",
    "spoilt": "spoilt volumes: {Found}",
}


def _message(step: Mapping[str, Any]) -> str:
    about = dict(step)
    if step["Step"] == "denoise":
        level, where = step.get("MedianSigmaInMask"), " in the mask"
        if level is None:
            level, where = step["MedianSigma"], ""
        about["Sigma"] = "unknown" if level is None else f"{level:.4g}{where}"
    return _MESSAGES[step["Step"]].format(**about)


def _spoilt_table(steps: Iterable[Mapping[str, Any]]) -> str:
    """Return a line for each volume that is spoilt in a slice, by a smooth curve over b or by eddy."""
    lines = ["volume\tslice\tsignal_percent\tfound_by"]
    for step in steps:
        for each in step.get("SpoiltVolumes", ()):
            lines.append(f"{each['volume']}\t{each['slice']}\t{100 * each['ratio']:.1f}\tcurve")
        lines += [f"{each['volume']}\t{each['slice']}\tn/a\teddy" for each in step.get("Outliers", ())]
    return "\n".join(lines) + "\n"


def preprocess(
    signals: FloatArray, affine: FloatArray, acquisition: Acquisition, *,
    steps: tuple[str, ...] = ("denoise", "unring", "motion", "mask"), reference: BoolArray | None = None,
    drift_order: int = 1, patch: str | None = None, motion: str = "rigid", field: FieldMap | None = None,
    eddy: EddyRecord | None = None, exclude: Iterable[int] = (), progress: Progress | None = None,
) -> Preprocessed:  # fmt: skip
    """Preprocess a series; the order of the steps is that of `STEPS`, whatever the order they are named in.

    InputError if a step is unknown, signals are negative, drift has no reference region, the field is missing, or a
    step needs raw images, and eddy has interpolated these.

    Parameters
    ----------
    signals, affine, acquisition : (I, J, K, M) and (4, 4) ndarray, Acquisition
        Raw magnitude signals, volumes in the order of their acquisition; voxel index to world, mm; protocol.
    steps : tuple of str
        Among `STEPS`.
    reference : (I, J, K) ndarray of bool, optional
        Region to measure the drift in; drift needs it.
    drift_order : {1, 2}
        Linear drift, or with a square.
    patch : str, optional
        Patch of MP-PCA in voxels, such as ``7x7x3``, or ``5x5`` for single slices; by default `patch_radius` chooses.
    motion : {"rigid", "affine"}
        How volumes may move.
    field : FieldMap, optional
        What undistorts the images; the step needs it.
    eddy : EddyRecord, optional
        What FSL's eddy did to the images, which then are neither denoised nor unrung nor aligned again.
    exclude : iterable of int
        Volumes, counted from 0, that take part in nothing, and stay as they are in their places.
    """
    excluded = np.isin(np.arange(len(acquisition)), list(exclude))
    values = _checked(signals, steps, reference, field, eddy)
    work = _Work(values[..., ~excluded], affine, acquisition.select(~excluded), np.flatnonzero(~excluded))
    work.note(np.flatnonzero(excluded), eddy)
    if "denoise" in steps:
        work.denoise(patch)
        share_of(progress)(0.3)
    if "unring" in steps:
        work.unring()
        share_of(progress)(0.5)
    if "motion" in steps:
        work.align(motion, share_of(progress, 0.5, 0.9))
    if "undistort" in steps and field is not None:
        work.undistort(field)
    if "drift" in steps and reference is not None:
        work.correct_drift(reference, drift_order)
    if "mask" in steps:
        work.find_mask()
    if "spoilt" in steps:
        work.find_spoilt(np.asarray(signals)[..., ~excluded])
    share_of(progress)(1.0)
    values[..., ~excluded] = work.values
    moved = work.motion.among(~excluded) if work.motion is not None else None
    return Preprocessed(
        values, work.noise, work.mask, moved, tuple(work.done), tuple(work.warnings), tuple(work.effects)
    )


@dataclass
class _Work:
    """A series on its way through the steps, (I, J, K, M) of the volumes that take part, whose numbers are (M,)."""

    values: FloatArray
    affine: FloatArray
    acquisition: Acquisition
    numbers: IntArray
    noise: NoiseLevel | None = None
    mask: BoolArray | None = None
    motion: Motion | None = None
    done: list[dict[str, Any]] = dataclass_field(default_factory=list)
    warnings: list[str] = dataclass_field(default_factory=list)
    effects: list[Effect] = dataclass_field(default_factory=list)

    def note(self, excluded: IntArray, eddy: EddyRecord | None) -> None:
        """Record volumes that take no part, and what eddy did before."""
        if excluded.size:
            self.done.append({"Step": "exclude", "Volumes": excluded.tolist()})
        if eddy is not None:
            self.done.append(eddy.record())
            if self.done[-1]["Outliers"]:
                self.warnings.append(f"eddy: {self.done[-1]['Found']}; see the table of spoilt volumes")

    def denoise(self, patch: str | None) -> None:
        before = self.values
        self.values, self.noise = denoise(before, patch=patch)
        self.done.append({"Step": "denoise", "Method": self.noise.method, **self.noise.details})
        size, count = int(np.prod([int(n) for n in self.noise.details["Patch"].split("x")])), len(self.acquisition)
        if self.noise.details["MedianSigma"] is None:
            found = "no voxel shows noise that MP-PCA could separate from signal"
            self.warnings.append(f"denoise: {found}, so nothing was removed and the noise map is empty")
        if size < count:
            text = f"denoise: patches of {size} voxels and {count} volumes: sigma comes out some 10 % too small"
            self.warnings.append(f"{text}; take a larger --patch")
        self._show("denoise", before, int(np.argmax(self.acquisition.b_smm2)))

    def unring(self) -> None:
        before = self.values
        self.values = unring(before)
        self.done.append({"Step": "unring", "Method": f"sub-voxel shifts, in plane ({DIPY})", "Points": 3})
        self._show("unring", before, int(np.argmin(self.acquisition.b_smm2)))

    def align(self, kind: str, progress: Progress) -> None:
        before = self.values
        self.values, found = correct_motion(before, self.affine, self.acquisition, progress, kind)
        self.motion = found
        self.done.append({
            "Step": "motion",
            "Method": f"{kind}, mutual information with the mean b = 0 of the shortest TE ({DIPY})",
            "BySlice": found.by_slice, "LargestShiftMm": float(found.shift_mm.max()),
            "MedianShiftMm": float(np.median(found.shift_mm)), "LeftAsTheyWere": int(found.rejected.sum()),
            "Interpolation": "cubic spline", "Kind": kind,
        })  # fmt: skip
        self.warnings += _left_unaligned(found, self.done[-1]["LeftAsTheyWere"])
        self._show("motion", before, int(np.argmax(np.median(found.shift_mm, axis=1))))

    def undistort(self, field: FieldMap) -> None:
        before = self.values
        self.values = undistort(before, field)
        shift = np.abs(field.shift_voxels)
        self.done.append({
            "Step": "undistort", "Method": "map of the field, cubic splines, signal by area",
            "PhaseEncoding": field.phase_encoding, "ReadoutTime": field.readout_s,
            "LargestShiftVoxels": float(shift.max()), "MedianShiftVoxels": float(np.median(shift)),
        })  # fmt: skip
        self._show("undistort", before, int(np.argmin(self.acquisition.b_smm2)))

    def correct_drift(self, reference: BoolArray, order: int) -> None:
        drift, before = estimate_drift(self.values, reference, self.acquisition, order=order), self.values
        self.values = correct_drift(before, drift)
        self.done.append({"Step": "drift", "Method": "log-linear in a reference region, levels by TE", **drift.details})
        size, error = drift.details["DriftPercent"], drift.details["StandardErrorPercent"]
        if abs(size) < 2 * error:
            found = f"drift: {size:.2g} ± {error:.2g} % over the scan"
            self.warnings.append(f"{found} is not distinguishable from none, but was divided out")
        self._show("drift", before, len(self.acquisition) - 1)

    def find_mask(self) -> None:
        first = reference_volume(self.values, self.acquisition)
        self.mask = tissue_mask(first)
        fraction = float(self.mask.mean())
        self.done.append({"Step": "mask", "Method": f"median Otsu of the mean b = 0 ({DIPY})", "Share": fraction})
        if not 0.005 < fraction < 0.95:
            found = f"mask: {100 * fraction:.2g} % of the voxels are in the mask"
            self.warnings.append(f"{found}; check it before you use it")
        if self.noise is not None:
            inside = self.noise.sigma[self.mask & np.isfinite(self.noise.sigma)]
            step = next(each for each in self.done if each["Step"] == "denoise")
            step["MedianSigmaInMask"] = float(np.median(inside)) if inside.size else None
        self.effects.append(Effect("mask", "mean b = 0", first, np.where(self.mask, first, 0.0)))

    def find_spoilt(self, raw: FloatArray) -> None:
        record, found = _look_for_spoilt(raw, self.acquisition, self.noise, self.mask, self.numbers)
        self.done.append(record)
        if found:
            advice = "histomri fit leaves them out, or give --exclude-volumes"
            self.warnings.append(f"spoilt: {record['Found']}; {advice}")
            worst = max(found, key=lambda each: abs(np.log(max(each.ratio, 1e-3))))
            volume = int(np.flatnonzero(self.numbers == worst.volume)[0])
            other = most_alike(self.acquisition, volume)
            title = f"volume {worst.volume},\nand the most alike {self.numbers[other]}"
            self.effects.append(Effect("spoilt", title, raw[..., volume], raw[..., other], worst.slice))

    def _show(self, step: str, before: FloatArray, volume: int) -> None:
        b = self.acquisition.b_smm2[volume]
        title = f"volume {self.numbers[volume]}, b = {b:.4g} s/mm²"
        self.effects.append(Effect(step, title, before[..., volume].copy(), self.values[..., volume].copy()))


def _left_unaligned(motion: Motion, left: int) -> list[str]:
    what = "slices of single volumes" if motion.by_slice else "volumes"
    text = f"motion: {left} {what} could not be aligned better than they were, and were left so"
    return [text] if left else []


def _look_for_spoilt(
    signals: FloatArray, acquisition: Acquisition, noise: NoiseLevel | None, mask: BoolArray | None, numbers: IntArray
) -> tuple[dict[str, Any], list[SpoiltVolume]]:
    """Look for volumes that slices of the raw signals, (I, J, K, M), do not agree with, and say what was found."""
    record: dict[str, Any] = {"Step": "spoilt", "Method": "smooth curve over b, each volume left out in turn"}
    if mask is None:
        first = reference_volume(np.asarray(signals, dtype=np.float32), acquisition)
        mask = first > np.median(first[first > 0]) / 2 if np.any(first > 0) else first > 0
    values, slices = np.asarray(signals)[mask].astype(float), mask.nonzero()[2]
    sigma = np.full(len(values), np.nan) if noise is None else noise.sigma[mask]
    found = find_spoilt_before_fit(values, sigma, slices, acquisition, numbers)
    words = list_spoilt(found, slices) or "none found"
    return record | {"Found": words, "SpoiltVolumes": [each.record() for each in found]}, found


def unring(signals: FloatArray) -> FloatArray:
    """Remove Gibbs ringing within the slices (first two axes), one volume at a time.

    Signals are (I, J, K, M), not interpolated or zero-filled. Kellner et al. 2016, doi 10.1002/mrm.26054, by DIPY.
    """
    from dipy.denoise.gibbs import gibbs_removal

    result = np.empty(signals.shape, dtype=np.float32)
    for volume in range(signals.shape[3]):
        smooth = gibbs_removal(np.array(signals[..., volume], dtype=np.float64), slice_axis=2, inplace=False)
        result[..., volume] = np.maximum(smooth, 0.0)
    return result


def tissue_mask(volume: FloatArray) -> BoolArray:
    """Return the tissue in an image without diffusion weighting: median filter, Otsu's threshold, holes filled.

    Pieces of less than a twentieth of the largest are dropped. InputError if the image, (I, J, K), is constant.
    """
    from dipy.segment.mask import median_otsu
    from scipy.ndimage import binary_fill_holes, label

    if not np.ptp(volume) > 0:
        raise InputError("the image without diffusion weighting is constant, so it shows no tissue to mask")
    # The background's noise is drowned by the median; one pass keeps thin parts.
    mask = median_otsu(np.asarray(volume, dtype=np.float64), median_radius=1, numpass=1)[1]
    mask = np.stack([binary_fill_holes(mask[:, :, k]) for k in range(mask.shape[2])], axis=2)
    pieces, count = label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    return np.asarray((sizes >= sizes.max() / 20)[pieces] & mask)


def _checked(
    signals: FloatArray, steps: tuple[str, ...], reference: BoolArray | None, field: FieldMap | None,
    eddy: EddyRecord | None,
) -> FloatArray:  # fmt: skip
    if unknown := sorted(set(steps) - set(STEPS)):
        raise InputError(f"there is no step {unknown[0]!r}", hint=f"choose among {', '.join(STEPS)}")
    if "drift" in steps and reference is None:
        raise InputError("drift needs a reference region", hint="pass --drift-reference REGION.nii.gz")
    if "undistort" in steps and field is None:
        raise InputError("distortion needs a map of the field", hint="pass --field-map FIELD.nii.gz")
    again = [name for name in ("denoise", "unring", "motion") if name in steps]
    if eddy is not None and again:
        problem = f"eddy has aligned and interpolated these images: {', '.join(again)} would come too late"
        raise InputError(problem, hint=f"give {' '.join(f'--no-{name}' for name in again)}; denoise before eddy")
    values = np.asarray(signals)
    if values.ndim != 4:
        raise InputError(f"signals have {values.ndim} axes, and (I, J, K, volumes) was expected")
    if missing := int(np.count_nonzero(~np.isfinite(values))):
        hint = "give the raw series; steps that look at neighbours would spread the gaps"
        raise InputError(f"{missing} values are not finite", hint=hint)
    negative = float(np.mean(values < 0))
    if negative > 0.001:
        problem = f"{100 * negative:.2g} % of the signals are negative, so these are not magnitude images"
        raise InputError(problem, hint="give magnitude images")
    return np.maximum(values, 0).astype(np.float32)
