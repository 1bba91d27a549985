"""A registration in words and numbers: lines for a person, warnings, a summary, and the names of its files."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from histomri.core.images import Image, sidecar_path
from histomri.registration.io.native import own_warps
from histomri.registration.options import RegisterOptions, is_slide
from histomri.registration.quality import Registration
from histomri.registration.sides import Side


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

    @property
    def json(self) -> Path:
        """The transform."""
        return self.transform.with_name(f"{self.transform.name}.json")

    @property
    def page(self) -> Path:
        """The page with a slider."""
        return self.transform.with_name(f"{self.transform.name}.html")

    @property
    def written(self) -> list[Path]:
        """What may be replaced."""
        drawn = [] if self.drawn is None else [self.drawn, sidecar_path(self.drawn)]
        stem = self.transform
        return [*drawn, self.json, stem.with_name(f"{stem.name}.tfm"), *own_warps(stem)]


def _word(path: Path, other: str) -> str:
    """Return the name of a slide as a label of BIDS, `other` for what is no slide."""
    name = re.sub(r"^sub-[0-9A-Za-z]+_", "", path.name).split(".")[0]
    return re.sub(r"[^0-9A-Za-z]", "", name) or "slide" if is_slide(path) else other


def size_text(found: Registration, target: Side) -> str:
    """Say how large the section is."""
    return f"{100 * found.qc['size']:.1f} % of the size of {target.name('the MRI')}"


def describe(found: Registration, target: Side) -> tuple[str, ...]:
    """Return lines for the person who ran the registration."""
    qc = found.qc
    where = "" if found.slice is None else f"slice {found.slice}, "
    side = "turned over, " if qc["turned_over"] else ""
    lines = [f"registered: {where}{side}rotated by {qc['angle_deg']:.1f} degrees, {size_text(found, target)}"]
    if "agreement" in qc:
        lines.append(
            f"outline agreement {qc['agreement']:.2f}, margin over other orientations {found.confidence:.2f}, "
            f"expected error {qc['expected_error_mm']:.2g} mm: {found.verdict}"
        )
    else:
        lines.append(f"from the landmarks alone, overlap of the tissues (Dice) {qc['dice']:.2f}: {found.verdict}")
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
        warnings.append(f"registration failed: {lost}; {_hint(found, target)}")
    elif found.verdict == "check":
        warnings.append("registration: look at the overlay before using the result; --landmarks can correct it")
    if resampled is not None and not np.isfinite(resampled.data).any():
        warnings.append("registration: no voxel of the resampled map is known")
    return tuple(warnings)


def _hint(found: Registration, target: Side) -> str:
    if "agreement" not in found.qc:
        return "correct the landmarks"
    if target.mask is None:
        return (
            f"all that is bright in {target.path.name} was taken for tissue: give --fixed-mask if some of it is fluid, "
            "a tube or another organ; else --landmarks, --moving-mask or --slice"
        )
    return "give --landmarks, --slice or other masks"


def numbers(found: Registration) -> dict[str, object]:
    """Return the same in numbers."""
    settings = {"parameters": found.info.get("Parameters", {})}
    return {"slice": found.slice, "confidence": found.confidence, **settings, **found.qc}
