"""What every picture of a registration begins with: both images on one grid, where it lies, and how it is framed."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.images import Image
from histomri.registration.carry_slide import SlidePictures
from histomri.registration.planes import Plane
from histomri.registration.prepare import plane_found, tissue_of
from histomri.registration.quality import Registration
from histomri.registration.transform import Transform

_LINE = 1.0
_MARGIN = 0.08
_STRAIGHT = 0.9999
_LONGEST_NAME = 16
_DIGITS = 9
"""Digits of places in mm: rounding errors beyond them would put the pixels of a tilted plane out of order."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """Both images on the grid of the fixed slice, and where its pixels are drawn.

    `axes` (3, 2) are the world directions of the pictures' axes, along which the pixels are at `p`, `q` (I, J) mm;
    `fixed` and `moved` (I, J) are the fixed image `flat` and the section on it, `tissue` and `section` their tissue as
    covered fractions; `pictures` has both in colour, if they are slides.
    """

    axes: FloatArray
    p: FloatArray
    q: FloatArray
    fixed: FloatArray
    moved: FloatArray
    tissue: FloatArray
    section: FloatArray
    flat: Image
    names: tuple[str, str]
    pictures: SlidePictures | None


def overlay_of(
    found: Registration,
    moving: Image,
    fixed: Image,
    masks: tuple[Image | None, Image | None],
    names: tuple[str, str],
    pictures: SlidePictures | None,
) -> Overlay:
    """Return the overlay of a registration; masks, names and pictures are of the moving and the fixed image."""
    target = plane_found(fixed, masks[1], found.slice, found.qc.get("tilt_deg", (0.0, 0.0)))
    flat = target.fixed
    frame = Plane.of(flat).frame[:3, :2]
    axes = frame * np.sign(frame[np.argmax(np.abs(frame), axis=0), (0, 1)])
    p, q = np.round(pixel_centres(flat) @ axes, _DIGITS).T.reshape(2, *flat.data.shape)
    own = np.nan_to_num(Transform.identity().resample(target.tissue, flat).data)
    there = np.nan_to_num(found.resample(tissue_of(moving, masks[0], "moving"), flat).data)
    moved = found.resample(moving, flat).data
    return Overlay(axes, p, q, flat.data, moved, own, there, flat, short_names(*names), pictures)


def pixel_centres(flat: Image) -> FloatArray:
    """Return where the pixels of a 2D image lie, (I * J, 3) mm."""
    return np.asarray(np.indices(flat.data.shape).reshape(2, -1).T @ flat.affine[:3, :2].T + flat.affine[:3, 3])


def short_names(one: str, other: str) -> tuple[str, str]:
    """Return two names short enough for a title, without what they begin with alike where that would hide the rest."""
    if max(len(one), len(other)) > _LONGEST_NAME and one != other:
        alike = next(n for n, (a, b) in enumerate(zip(f"{one}\0", f"{other}\1", strict=False)) if a != b)
        # Back to where a word begins: half a number means nothing.
        while alike and one[alike - 1].isalnum():
            alike -= 1
        one, other = (name[alike:] or name for name in (one, other))
    one, other = (name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name in (one, other))
    return one, other


def frame(axes: Any, overlay: Overlay, title: str, points: FloatArray | None = None) -> None:
    """Show the tissue of both images, and these points, with what is around."""
    shown = (overlay.tissue > 0.5) | (overlay.section > 0.5)
    seen = np.column_stack([overlay.p[shown], overlay.q[shown]])
    seen = seen if points is None else np.concatenate([seen, points])
    axes.set_aspect("equal")
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = _MARGIN * (high - low).max()
    axes.set_xlim(high[0] + margin, low[0] - margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    for axis, name in ((axes.xaxis, _axis(overlay, 0)), (axes.yaxis, _axis(overlay, 1))):
        axis.set_label_text(name)
        if overlay.pictures is not None:
            axis.set_major_formatter(lambda value, _: f"{0.0 - value:g}")  # a slide's x and y run against its world's
    axes.set_title(title, fontsize=10)


def _axis(overlay: Overlay, number: int) -> str:
    """Return what an axis of the picture is called."""
    direction = np.abs(overlay.axes[:, number])
    name = "xyz"[int(np.argmax(direction))]
    if overlay.pictures is not None:
        return f"{name} on {overlay.names[1]}, mm"
    return f"{name}, mm" if direction.max() > _STRAIGHT else f"about along {name}, mm (oblique slice)"


def draw_image(axes: Any, overlay: Overlay, picture: FloatArray, **options: Any) -> Any:
    """Draw an image of the overlay, in grey if no other colours are given."""
    known = picture[np.isfinite(picture)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    return axes.pcolormesh(overlay.p, overlay.q, picture, **{"cmap": "gray", "vmin": low, "vmax": high, **options})


def outline(axes: Any, overlay: Overlay, mask: FloatArray, colour: str) -> None:
    """Draw the outline of a tissue."""
    if mask.min() < 0.5 < mask.max():
        axes.contour(overlay.p, overlay.q, mask, levels=[0.5], colors=colour, linewidths=_LINE)


def background(axes: Any, overlay: Overlay) -> None:
    """Draw the fixed image, in colour if it is a slide."""
    if overlay.pictures is None:
        draw_image(axes, overlay, overlay.fixed)
    else:
        draw_slide(axes, overlay.pictures, overlay.pictures.fixed)


def draw_slide(axes: Any, pictures: SlidePictures, rgb: Any) -> None:
    """Draw a picture on the grid of the fixed slide."""
    width, height = pictures.size_mm
    axes.imshow(rgb, extent=(0.0, -width, -height, 0.0), aspect="equal")
