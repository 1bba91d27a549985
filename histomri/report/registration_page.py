"""The page of one registration, on which a slider goes from the MRI to the section."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from histomri.core.columns import column_of, shown_unit
from histomri.core.images import HISTOLOGY_MAPS, Image, parse_map_name
from histomri.registration.alignment import size_text
from histomri.registration.prepare import tissue_of
from histomri.registration.quality import Registration
from histomri.registration.sides import Side
from histomri.report.overlay import Layer, write_overlay


def write_registration_page(
    path: Path, found: Registration, section: Side, target: Side, above: Image, warnings: Sequence[str]
) -> Path:
    """Write the page; `above` is the section on the grid of the target."""
    name, other, below = section.path, target.path, target.image
    if found.slice is not None:
        above, below = above.slice(found.slice), below.slice(found.slice)
    param = parse_map_name(name.name).get("param", name.name)
    unit = shown_unit(column_of(param, "histo")) if param in HISTOLOGY_MAPS else ""
    qc = found.qc
    facts = [("Verdict", found.verdict), ("Margin over other orientations", f"{found.confidence:.2f}")]
    if "expected_error_mm" in qc:
        facts.append(("Expected error", f"{qc['expected_error_mm']:.2g} mm"))
    facts += [("Overlap (Dice)", f"{qc['dice']:.2f}"), ("Rotation", f"{qc['angle_deg']:.1f}°")]
    facts += [("Turned over", "yes" if qc["turned_over"] else "no"), ("Size", size_text(found, target))]
    facts += [("Slice", str(found.slice))] if found.slice is not None else []
    tissue = found.resample(tissue_of(section.image, section.mask, "moving"), below)
    return write_overlay(
        path,
        [Layer(param, above, unit, cmap="viridis")],
        [Layer(other.name, below)],
        title=f"{name.name} on {other.name}",
        facts=facts,
        warnings=warnings,
        names=(section.name("histology"), target.name("MRI")),
        region=np.asarray(tissue.data > 0.5),
    )
