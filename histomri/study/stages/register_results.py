"""What `histomri register` writes and says."""

from pathlib import Path

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.images import HISTOLOGY_MAPS, Image, parse_map_name, read_sidecar, write_map
from histomri.core.orientation import handedness_warnings, section_warnings
from histomri.registration import Registration, SlidePictures, write_figures
from histomri.registration.prepare import tissue_of
from histomri.study.result import StepResult
from histomri.study.stages.register_inputs import Side

_UNITS = {"1": "", "um": "µm", "mm^-2": "cells/mm²", "mm^-3": "cells/mm³"}
_HALF = 0.5


def write_results(
    found: Registration,
    section: Side,
    target: Side,
    stem: Path,
    drawn: Path | None,
    notes: tuple[str, ...],
    *,
    figures: bool,
    landmarks: FloatArray | None,
) -> StepResult:
    """Write the transform, the map on the grid of the MRI unless the verdict is "failed", and pictures.

    Parameters
    ----------
    found : Registration
    section, target : Side
        The two images.
    stem : Path
        The transform, without its ending.
    drawn : Path or None
        The map on the grid of the MRI; None for a slide.
    notes : tuple of str
        Warnings that came before.
    figures : bool
        Draw pictures, and a page with a slider.
    landmarks : (N, 2, 3) ndarray or None
        Drawn as well.
    """
    failed = found.verdict == "failed"
    resampled = None if failed else found.resample(section.image, target.image)
    outputs = found.save(stem.with_name(f"{stem.name}.json"))
    headers = (
        *handedness_warnings([section.path, target.path]),
        *section_warnings(section.path, section.image.affine),
    )
    warnings = (*notes, *headers, *_warnings(found, resampled, section, target))
    if resampled is not None and drawn is not None:
        outputs += _write_resampled(drawn, section.path, target.path, resampled, outputs[0].name, found.verdict)
    elif drawn is not None and drawn.exists():
        warnings += (f"{drawn.name} is left from an earlier run and does not belong to this result",)
    if figures:
        above, below = section.overview, target.overview
        pictures = None if above is None or below is None else SlidePictures.of(found, above, below)
        outputs += write_figures(
            found,
            section.image,
            target.image,
            stem.parent / "figures",
            stem=stem.name,
            moving_mask=section.mask,
            fixed_mask=target.mask,
            landmarks=landmarks,
            names=(_called(section, "section"), _called(target, "MRI")),
            pictures=pictures,
        )
        if resampled is not None:
            page = stem.with_name(f"{stem.name}.html")
            outputs.append(_write_page(page, found, section, target, resampled, warnings))
    return StepResult(tuple(outputs), _messages(found, target), warnings, _summary(found))


def _called(side: Side, otherwise: str) -> str:
    return otherwise if side.overview is None else side.overview.name


def _write_page(
    path: Path, found: Registration, section: Side, target: Side, above: Image, warnings: tuple[str, ...]
) -> Path:
    """Write the page on which a slider goes from the MRI to the section."""
    from histomri.report import Layer, write_overlay

    name, other, below = section.path, target.path, target.image
    if found.slice is not None:
        above, below = above.slice(found.slice), below.slice(found.slice)
    param = parse_map_name(name.name).get("param", name.name)
    unit = HISTOLOGY_MAPS.get(param, ("1", ""))[0]
    layers = Layer(param, above, _UNITS.get(unit, unit), cmap="viridis"), Layer(other.name, below)
    qc = found.qc
    facts = [("Verdict", found.verdict), ("Lead over other orientations", f"{found.confidence:.2f}")]
    if "expected_error_mm" in qc:
        facts.append(("Expected error", f"{qc['expected_error_mm']:.2g} mm"))
    facts += [("Overlap (Dice)", f"{qc['dice']:.2f}"), ("Rotation", f"{qc['angle_deg']:.1f}°")]
    facts += [("Turned over", "yes" if qc["turned_over"] else "no"), ("Size", _size(found, target))]
    facts += [("Slice", str(found.slice))] if found.slice is not None else []
    return write_overlay(
        path,
        layers[:1],
        layers[1:],
        title=f"{name.name} on {other.name}",
        facts=facts,
        warnings=warnings,
        names=(_called(section, "histology"), _called(target, "MRI")),
        region=_tissue(found, section, below),
    )


def _tissue(found: Registration, section: Side, below: Image) -> BoolArray:
    """Return where the tissue of the section lies in the slice, as the registration saw it."""
    seen = tissue_of(section.image, section.mask, "moving")
    return np.asarray(found.resample(seen, below).data > _HALF)


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


def _size(found: Registration, target: Side) -> str:
    return f"{100 * found.qc['size']:.1f} % of the size of {_called(target, 'the MRI')}"


def _messages(found: Registration, target: Side) -> tuple[str, ...]:
    qc, size = found.qc, _size(found, target)
    where = "" if found.slice is None else f"slice {found.slice}, "
    side = "turned over, " if qc["turned_over"] else ""
    lines = [f"registered: {where}{side}rotated by {qc['angle_deg']:.1f} degrees, {size}"]
    if "agreement" in qc:
        lines.append(
            f"outline agreement {qc['agreement']:.2f}, lead over others {found.confidence:.2f}, "
            f"expected error {qc['expected_error_mm']:.2g} mm: {found.verdict}"
        )
    else:
        lines.append(f"from the landmarks alone, overlap of the tissues (Dice) {qc['dice']:.2f}: {found.verdict}")
    if qc.get("explained") is not None:
        lines.append(f"content was matched as well: the maps explain {100 * qc['explained']:.0f} % of the MRI")
    if qc.get("density_lead") is not None:
        lines.append(f"densities correlate with r {qc['density_r']:.2f}, {qc['density_lead']:.2f} more than beside")
    if "landmark_error_mm" in qc:
        middle = 1000 * float(np.median(qc["landmark_error_mm"]))
        lines.append(f"{qc['landmarks']} landmarks ({qc['landmarks_for']}): median error {middle:.0f} µm")
    if qc.get("landmark_left_out_mm"):
        lines.append(f"each left out in turn: {1000 * float(np.median(qc['landmark_left_out_mm'])):.0f} µm")
    return tuple(lines)


def _warnings(found: Registration, resampled: Image | None, section: Side, target: Side) -> tuple[str, ...]:
    warnings = [f"registration: {reason}" for reason in found.qc["reasons"]]
    if found.verdict == "failed":
        lost = "the map was not resampled" if section.overview is None else "do not use the transform"
        warnings.append(f"registration failed: {lost}; {_hint(found, target)}")
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


def _hint(found: Registration, target: Side) -> str:
    if "agreement" not in found.qc:
        return "correct the landmarks"
    if target.mask is None:
        return (
            f"all that is bright in {target.path.name} was taken for tissue: give --fixed-mask if some of it is fluid, "
            "a tube or another organ; else --landmarks, --moving-mask or --slice"
        )
    return "give --landmarks, --slice or other masks"


def _summary(found: Registration) -> dict[str, object]:
    settings = {"parameters": found.info.get("Parameters", {})}
    return {"slice": found.slice, "confidence": found.confidence, **settings, **found.qc}
