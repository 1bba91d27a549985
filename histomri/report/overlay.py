"""One picture laid over another, with a slider between them and a cursor that reads both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from histomri import __version__
from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.columns import column_of, shown_unit
from histomri.core.errors import GeometryError, InputError
from histomri.core.files import write_text
from histomri.core.images import HISTOLOGY_MAPS, Image, parse_map_name
from histomri.core.orientation import View
from histomri.registration.alignment import error_text, size_text
from histomri.registration.prepare import tissue_of
from histomri.registration.quality import Registration
from histomri.registration.sides import Side
from histomri.report.collect import Sample
from histomri.report.contact_sheet import embedded_sheet
from histomri.report.guard import Failure
from histomri.report.maps import Quantity, aspect, colour_bar, draw
from histomri.report.pictures import Scale, fit_scale, outline
from histomri.report.text import fit_label

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Layer:
    """An image to lay over or under others."""

    label: str
    image: Image  # (I, J), NaN where nothing was measured
    unit: str = ""
    cmap: str = "gray"  # of matplotlib, perceptually uniform


def write_overlay(
    path: str | Path, above: Sequence[Layer], below: Sequence[Layer], *, title: str,
    facts: Sequence[tuple[str, str]] = (), warnings: Sequence[str] = (), names: tuple[str, str] = ("histology", "MRI"),
    region: BoolArray | None = None, gallery: str | None = None,
) -> Path:  # fmt: skip
    """Write a page on which images are laid over others, to judge by eye whether they fit.

    The file asks nothing of the network. Warnings are shown first, facts beside the pictures.

    Parameters
    ----------
    above, below : sequence of Layer
        At least one each, to choose from; their grids may differ in step but must cover the same rectangle.
    facts : sequence of (label, value)
    names : (str, str)
        What lies above and below.
    region : (I, J) ndarray of bool, optional
        What is outlined, on the grid of the first layer above; its measured pixels if not given.
    gallery : str, optional
        Data URI of a picture of the other places where the images may belong.

    Raises
    ------
    InputError
        If there is nothing to lay over or under.
    GeometryError
        If the images do not cover the same rectangle.
    """
    if not above or not below:
        raise InputError("an overlay needs an image above and one below")
    for layer in (*above, *below):
        _require_same_place(layer, above[0])
    view = View.of(above[0].image)
    inside = np.isfinite(above[0].image.data) if region is None else region
    upper, lower = ([_from_image(layer) for layer in layers] for layers in (above, below))
    box = _box(upper, lower, view, view.show(inside.astype(float)) > 0)
    about = {"title": title, "facts": list(facts), "warnings": list(warnings), "names": names, "gallery": gallery}
    return write_text(path, fill("overlay.html.j2", box=box, **about))


def sample_overlay(sample: Sample, scales: dict[str, Quantity], best: tuple[str, str] | None) -> dict[str, Any] | None:
    """Return the overlay of a sample: histology on top, MRI below, and the histology's outline."""
    if not sample.on_mri or sample.mri_view is None or best is None:
        return None
    view = sample.mri_view

    def layer(name: str, label: str, data: FloatArray, scale: Scale, what: str) -> dict[str, Any]:
        return {"id": name, "label": label, "map": draw(data, scale, view, what), "bar": colour_bar(scale)}

    below, above = [], []
    if "ADC" in sample.common:
        adc = sample.common["ADC"]
        below.append(layer("ADC", "ADC", adc, fit_scale([adc], "gray", "µm²/ms", "ADC"), "MRI"))
    for name in ("vCS", "F"):
        title, histology, mri = scales[name].title, scales[name].histology, scales[name].mri
        if name in sample.fits[best]:
            below.append(layer(name, title, sample.fits[best][name], mri, f"MRI, {fit_label(best)}"))
        if name in sample.on_mri:
            above.append(layer(name, title, sample.on_mri[name], histology, "histology on the MRI grid"))
    if not (above and below):
        return None
    known: BoolArray = np.any([np.isfinite(picture) for picture in sample.on_mri.values()], axis=0)
    return _box(above, below, view, known)


def fill(template: str, **content: Any) -> str:
    """Return a page of the report from its template; every text put into it is escaped."""
    pages = Environment(
        loader=PackageLoader("histomri.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    pages.tests["failure"] = lambda section: isinstance(section, Failure)
    files = {"style": "style.css", "behaviour": "report.js"}  # which every page carries
    parts = {name: Markup((_TEMPLATES / file).read_text(encoding="utf-8")) for name, file in files.items()}
    return pages.get_template(template).render(version=__version__, **parts, **content)


def _box(above: list[dict[str, Any]], below: list[dict[str, Any]], view: View, known: BoolArray) -> dict[str, Any]:
    for place, layer in enumerate((*above, *below)):
        layer.setdefault("id", f"layer{place}")
    size = {"rows": known.shape[0], "columns": known.shape[1], "aspect": aspect(known.shape, view)}
    return {"above": above, "below": below, "outline": outline(known), "edges": view.edges, **size}


def _from_image(layer: Layer) -> dict[str, Any]:
    view = View.of(layer.image)
    picture = view.show(layer.image.data)
    scale = fit_scale([picture], layer.cmap, layer.unit, layer.label)
    return {"label": layer.label, "map": draw(picture, scale, view, layer.label), "bar": colour_bar(scale)}


def _require_same_place(layer: Layer, first: Layer) -> None:
    def corners(image: Image) -> FloatArray:
        ends = [(i - 0.5, j - 0.5, 0.0, 1.0) for i in (0, image.data.shape[0]) for j in (0, image.data.shape[1])]
        return np.asarray(np.array(ends) @ image.affine.T)[:, :3]

    if layer.image.data.ndim != 2:
        raise GeometryError(f"{layer.label}: a picture has two axes", hint="cut a slice out of it")
    away = np.linalg.norm(corners(layer.image) - corners(first.image), axis=1).max()
    if away > 0.5 * float(first.image.voxel_mm[:2].min()):
        raise GeometryError(f"{layer.label} and {first.label} do not cover the same rectangle ({away:.2g} mm apart)")


def write_registration_page(
    path: Path, found: Registration, section: Side, target: Side, above: Image, warnings: Sequence[str],
    gallery: Path | None = None,
) -> Path:  # fmt: skip
    """Write the page; `above` is the section on the grid of the target, `gallery` a picture of where it may lie too."""
    name, other, below = section.path, target.path, target.image
    if found.slice is not None:
        above, below = above.slice(found.slice), below.slice(found.slice)
    param = parse_map_name(name.name).get("param", name.name)
    unit = shown_unit(column_of(param, "histo")) if param in HISTOLOGY_MAPS else ""
    qc = found.qc
    facts = [("Verdict", found.verdict), ("Margin over other orientations", f"{found.confidence:.2f}")]
    facts += [("Driven by", str(drive))] if (drive := found.info.get("Parameters", {}).get("Drive")) else []
    facts += [("Expected error", error_text(qc))] if "expected_error_mm" in qc else []
    facts += [("Overlap (Dice)", f"{qc['dice']:.2f}"), ("Rotation", f"{qc['angle_deg']:.1f}°")]
    facts += [("Turned over", "yes" if qc["turned_over"] else "no"), ("Size", size_text(found, target))]
    facts += [("Slice", str(found.slice))] if found.slice is not None else []
    tissue = found.resample(tissue_of(section.image, section.mask, "moving"), below)
    return write_overlay(
        path, [Layer(param, above, unit, cmap="viridis")], [Layer(other.name, below)],
        title=f"{name.name} on {other.name}", facts=facts, warnings=warnings, region=np.asarray(tissue.data > 0.5),
        names=(section.name("histology"), target.name("MRI")),
        gallery=None if gallery is None else embedded_sheet(gallery, "gallery of orientations"),
    )  # fmt: skip
