"""A raw diffusion series made fit for fitting: denoised, unringed, aligned, its drift divided out, and masked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import InputError
from histomri.core.files import provenance, write_json, write_text
from histomri.core.images import map_name, sidecar_path, write_image, write_map
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition, Motion, NoiseLevel, correct_drift, correct_motion, denoise, estimate_drift
from histomri.mri.correction import reference_volume
from histomri.mri.noise import DIPY
from histomri.mri.spoilt import find_spoilt_before_fit, list_spoilt

STEPS = ("denoise", "unring", "motion", "drift", "mask", "spoilt")
"""The steps, in the order in which they are done: noise must be removed before anything mixes neighbours, ringing
before anything interpolates, and drift can be read in a region only once the volumes are aligned. Spoilt volumes are
looked for in the raw signals, whose noise is known, and in the mask."""


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

    def facts(self) -> dict[str, Any]:
        """Return what was done."""
        return {"shape": self.signals.shape} | {step["Step"]: text for step, text in zip(self.steps, self.messages())}

    def messages(self) -> tuple[str, ...]:
        """Return a line on each step."""
        return tuple(_MESSAGES[step["Step"]].format(**step) for step in self.steps)

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
        return outputs


_MESSAGES = {
    "denoise": "denoise: {Method}, patches of radius {PatchRadius}, median sigma {MedianSigma:.4g}",
    "unring": "unring: {Method}",
    "motion": "motion: largest shift {LargestShiftMm:.2g} mm, median {MedianShiftMm:.2g} mm",
    "drift": "drift: {DriftPercent:.2g} ± {StandardErrorPercent:.2g} % over the scan, divided out",
    "mask": "mask: {Share:.1%} of the voxels",
    "spoilt": "spoilt volumes: {Found}",
}


def preprocess(
    signals: FloatArray, affine: FloatArray, acquisition: Acquisition, *,
    steps: tuple[str, ...] = ("denoise", "unring", "motion", "mask"), reference: BoolArray | None = None,
    drift_order: int = 1, progress: Progress | None = None,
) -> Preprocessed:  # fmt: skip
    """Preprocess a series; the order of the steps is that of `STEPS`, whatever the order they are named in.

    InputError if a step is unknown, signals are negative, or drift has no reference region.

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
    """
    values, warnings = _checked(signals, steps, reference), list[str]()
    report, done = share_of(progress), list[dict[str, Any]]()
    noise = motion = mask = None
    if "denoise" in steps:
        values, noise = denoise(values)
        done.append({"Step": "denoise", "Method": noise.method, **noise.details})
        report(0.3)
    if "unring" in steps:
        values = unring(values)
        done.append({"Step": "unring", "Method": f"sub-voxel shifts, in plane ({DIPY})", "Points": 3})
        report(0.5)
    if "motion" in steps:
        values, motion = correct_motion(values, affine, acquisition, share_of(progress, 0.5, 0.9))
        done.append({
            "Step": "motion",
            "Method": f"rigid, mutual information with the mean b = 0 of the shortest TE ({DIPY})",
            "BySlice": motion.by_slice, "LargestShiftMm": float(motion.shift_mm.max()),
            "MedianShiftMm": float(np.median(motion.shift_mm)), "LeftAsTheyWere": int(motion.rejected.sum()),
            "Interpolation": "cubic spline",
        })  # fmt: skip
        warnings += _left_unaligned(motion, done[-1]["LeftAsTheyWere"])
    if "drift" in steps and reference is not None:
        drift = estimate_drift(values, reference, acquisition, order=drift_order)
        values = correct_drift(values, drift)
        done.append({"Step": "drift", "Method": "log-linear in a reference region, levels by TE", **drift.details})
        size, error = drift.details["DriftPercent"], drift.details["StandardErrorPercent"]
        if abs(size) < 2 * error:
            found = f"drift: {size:.2g} ± {error:.2g} % over the scan"
            warnings.append(f"{found} is not distinguishable from none, but was divided out")
    if "mask" in steps:
        mask = tissue_mask(reference_volume(values, acquisition))
        fraction = float(mask.mean())
        done.append({"Step": "mask", "Method": f"median Otsu of the mean b = 0 ({DIPY})", "Share": fraction})
        if not 0.005 < fraction < 0.95:
            warnings.append(f"mask: {100 * fraction:.2g} % of the voxels are in the mask; check it before you use it")
    if "spoilt" in steps:
        done.append(_look_for_spoilt(signals, acquisition, noise, mask))
        if done[-1]["SpoiltVolumes"]:
            warnings.append(f"spoilt: {done[-1]['Found']}; histomri fit leaves them out, or give --exclude-volumes")
    report(1.0)
    return Preprocessed(values, noise, mask, motion, tuple(done), tuple(warnings))


def _left_unaligned(motion: Motion, left: int) -> list[str]:
    what = "slices of single volumes" if motion.by_slice else "volumes"
    text = f"motion: {left} {what} could not be aligned better than they were, and were left so"
    return [text] if left else []


def _look_for_spoilt(
    signals: FloatArray, acquisition: Acquisition, noise: NoiseLevel | None, mask: BoolArray | None
) -> dict[str, Any]:
    """Look for volumes that slices of the raw signals, (I, J, K, M), do not agree with, and say what was found."""
    record: dict[str, Any] = {"Step": "spoilt", "Method": "smooth curve over b, each volume left out in turn"}
    if mask is None:
        first = reference_volume(np.asarray(signals, dtype=np.float32), acquisition)
        mask = first > np.median(first[first > 0]) / 2 if np.any(first > 0) else first > 0
    values, slices = np.asarray(signals)[mask].astype(float), mask.nonzero()[2]
    sigma = np.full(len(values), np.nan) if noise is None else noise.sigma[mask]
    found = find_spoilt_before_fit(values, sigma, slices, acquisition, np.arange(len(acquisition)))
    words = list_spoilt(found, slices) or "none found"
    return record | {"Found": words, "SpoiltVolumes": [each.record() for each in found]}


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


def _checked(signals: FloatArray, steps: tuple[str, ...], reference: BoolArray | None) -> FloatArray:
    if unknown := sorted(set(steps) - set(STEPS)):
        raise InputError(f"there is no step {unknown[0]!r}", hint=f"choose among {', '.join(STEPS)}")
    if "drift" in steps and reference is None:
        raise InputError("drift needs a reference region", hint="pass --drift-reference REGION.nii.gz")
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
