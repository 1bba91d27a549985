"""Pictures of a registration, as PNG files.

All are drawn in the plane of the fixed image, in mm of its world, seen as a radiologist sees it: x (or, in a sagittal
plane, y) grows to the left, the other axis upwards. A slide is thereby seen as it lies, and its own mm are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.stats import rankdata

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.files import atomic_path
from histomri.core.images import Image
from histomri.registration.carry_slide import SlidePictures
from histomri.registration.landmark_fits import tre
from histomri.registration.outlines import signed_distance
from histomri.registration.planes import picture_axes
from histomri.registration.prepare import plane_found, tissue_of
from histomri.registration.quality import Registration, orientation_name
from histomri.registration.transform import Transform

_LINE, _MARGIN, _STRAIGHT, _LONGEST_NAME = 1.0, 0.08, 0.9999, 16
_DIGITS = 9  # digits of places in mm: rounding errors beyond them would put the pixels of a tilted plane out of order
_SQUARES, _GRID_LINES, _ABREAST = 8, 16, 3
_NOTHING = "#dbe7f3"
"""Colour outside the tissue: white is the brightest of it."""
_LEAST_ARROW, _MOST_TIMES = 0.03, 100.0


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
    found: Registration, moving: Image, fixed: Image, masks: tuple[Image | None, Image | None],
    names: tuple[str, str], pictures: SlidePictures | None,
) -> Overlay:  # fmt: skip
    """Return the overlay of a registration; masks, names and pictures are of the moving and the fixed image."""
    target = plane_found(fixed, masks[1], found.slice, found.qc.get("tilt_deg", (0.0, 0.0)))
    flat = target.fixed
    axes = picture_axes(flat)
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
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = _MARGIN * (high - low).max()
    limits = {"xlim": (high[0] + margin, low[0] - margin), "ylim": (low[1] - margin, high[1] + margin)}
    axes.set(aspect="equal", **limits)
    for axis, direction in zip((axes.xaxis, axes.yaxis), np.abs(overlay.axes.T), strict=True):
        name = "xyz"[int(np.argmax(direction))]
        oblique = direction.max() <= _STRAIGHT
        axis.set_label_text(f"about along {name}, mm (oblique slice)" if oblique else f"{name}, mm")
        if overlay.pictures is not None:
            axis.set_label_text(f"{name} on {overlay.names[1]}, mm")
            axis.set_major_formatter(lambda value, _: f"{0.0 - value:g}")  # a slide's x and y run against its world's
    axes.set_title(title, fontsize=10)


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
    axes.imshow(rgb, extent=(0.0, -pictures.size_mm[0], -pictures.size_mm[1], 0.0), aspect="equal")


def write_figures(
    found: Registration, moving: Image, fixed: Image, folder: Path, *, stem: str = "registration",
    moving_mask: Image | None = None, fixed_mask: Image | None = None, landmarks: FloatArray | None = None,
    names: tuple[str, str] = ("section", "MRI"), pictures: SlidePictures | None = None,
) -> list[Path]:  # fmt: skip
    """Write the pictures of a registration.

    These are ``<stem>_flipbook.gif``, in which MRI and section take turns; ``_contours.png``, ``_checkerboard``,
    ``_missing``, ``_residual``, ``_grid``, ``_jacobian``, ``_candidates``, ``_gallery`` and ``_landmarks``, the last
    three only if there are any. The tissue of the images is found in them if no masks are given; `landmarks` (N, 2, 3)
    are pairs whose errors are drawn, `names` what the two images are called, and `pictures` both in colour, if they are
    slides.
    """
    overlay = overlay_of(found, moving, fixed, (moving_mask, fixed_mask), names, pictures)
    draws = [_contours, _checkerboard, _missing, _residual, _grid, _jacobian]
    draws += [_candidates] if found.candidates else []
    figures = {}
    for draw in draws:
        figures[draw.__name__], axes = _figure()
        draw(axes, overlay, found)
    if found.candidates:
        figures["_gallery"] = _gallery_of(found, overlay, moving, fixed, (moving_mask, fixed_mask), names)
    if landmarks is not None:
        figures["_landmarks"], axes = _figure()
        _landmarks(axes, overlay, found, np.asarray(landmarks, dtype=float))
    outputs = [_flip_book(overlay, folder / f"{stem}_flipbook.gif")]
    return outputs + [_save(figure, folder / f"{stem}{name}.png") for name, figure in figures.items()]


def write_gallery(
    found: Registration, moving: Image, fixed: Image, folder: Path, *, stem: str = "registration",
    moving_mask: Image | None = None, fixed_mask: Image | None = None,
    names: tuple[str, str] = ("section", "MRI"), pictures: SlidePictures | None = None,
) -> Path:  # fmt: skip
    """Write only ``<stem>_gallery.png``: the orientation taken beside those that may be right instead.

    The parameters are those of `write_figures`, which writes it with all other pictures.
    """
    masks = moving_mask, fixed_mask
    overlay = overlay_of(found, moving, fixed, masks, names, pictures)
    return _save(_gallery_of(found, overlay, moving, fixed, masks, names), gallery_path(folder, stem))


def gallery_path(folder: Path, stem: str) -> Path:
    """Return where the picture of the orientations lies."""
    return folder / f"{stem}_gallery.png"


def _gallery_of(
    found: Registration, overlay: Overlay, moving: Image, fixed: Image, masks: tuple[Image | None, Image | None],
    names: tuple[str, str],
) -> Any:  # fmt: skip
    sides = moving, fixed, masks, names, overlay.pictures
    others = [(each.title, overlay_of(found.instead(each), *sides)) for each in found.alternatives]
    return _gallery([(_taken(found), overlay), *others])


def _taken(found: Registration) -> str:
    where = "" if found.slice is None else f"slice {found.slice}, "
    return f"taken: {where}{orientation_name(found.candidates[0])}\n{found.verdict}"


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.5), dpi=120)  # an automatic layout would take longer than all the drawing
    return figure, figure.add_axes((0.12, 0.11, 0.84, 0.81))


def _save(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path


def _contours(axes: Any, overlay: Overlay, found: Registration) -> None:
    background(axes, overlay)
    outline(axes, overlay, overlay.tissue, "deepskyblue")
    outline(axes, overlay, overlay.section, "orangered")
    frame(axes, overlay, f"outlines of {overlay.names[1]} (blue) and {overlay.names[0]} (red): {found.verdict}")


def _checkerboard(axes: Any, overlay: Overlay, found: Registration) -> None:
    section, other = overlay.names
    if (pictures := overlay.pictures) is not None:
        odd = _board(pictures.fixed.shape[:2])[..., None]
        draw_slide(axes, pictures, np.where(odd, pictures.moved, pictures.fixed))
        frame(axes, overlay, f"{other} and {section} in turn")
        return
    odd = _board(overlay.fixed.shape)
    board = np.where(odd, _ranked(overlay.moved), _ranked(np.where(overlay.tissue > 0.5, overlay.fixed, np.nan)))
    axes.set_facecolor(_NOTHING)
    draw_image(axes, overlay, board, vmin=0, vmax=1)
    frame(axes, overlay, f"{other} and {section} in turn, each in ranks of its values")


def _board(shape: tuple[int, ...]) -> BoolArray:
    i, j = np.indices(shape)
    size = max(max(shape) // _SQUARES, 1)
    return np.asarray((i // size + j // size) % 2 == 1)


def _flip_book(overlay: Overlay, path: Path) -> Path:
    """Write both images in turn, in the same frame."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image as Picture

    known = np.where(overlay.tissue > 0.5, overlay.fixed, np.nan)
    section, other = overlay.names
    colours = (None, None) if overlay.pictures is None else (overlay.pictures.fixed, overlay.pictures.moved)
    titles = other, f"{section}, with the outline of {'the ' * (overlay.pictures is None)}{other}"
    frames = []
    for picture, colour, title in zip((known, overlay.moved), colours, titles, strict=True):
        figure, axes = _figure()
        if overlay.pictures is None:
            draw_image(axes, overlay, np.nan_to_num(_ranked(picture)), vmin=0, vmax=1)
        else:
            draw_slide(axes, overlay.pictures, colour)
        outline(axes, overlay, overlay.tissue, "deepskyblue")
        frame(axes, overlay, title)
        (canvas := FigureCanvasAgg(figure)).draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
        frames.append(Picture.fromarray(pixels).convert("P", palette=Picture.Palette.ADAPTIVE))
    with atomic_path(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=900, loop=0)
    return path


def _ranked(picture: FloatArray) -> FloatArray:
    known = np.isfinite(picture)
    result = np.full(picture.shape, np.nan)
    result[known] = (rankdata(picture[known]) - 1) / max(int(known.sum()) - 1, 1)
    return result


def _missing(axes: Any, overlay: Overlay, found: Registration) -> None:
    from matplotlib.colors import ListedColormap

    own, there = overlay.tissue > 0.5, overlay.section > 0.5
    code = np.where(own & there, 1.0, np.where(own, 2.0, np.where(there, 3.0, 0.0)))
    colours = ListedColormap(["white", "lightgrey", "royalblue", "orangered"])
    draw_image(axes, overlay, code, cmap=colours, vmin=-0.5, vmax=3.5)
    fraction = float((own & ~there).sum() / max(own.sum(), 1))
    section, other = overlay.names
    frame(axes, overlay, f"tissue of {other} missing in {section} (blue, {100 * fraction:.0f} %), beyond it (red)")


def _residual(axes: Any, overlay: Overlay, found: Registration) -> None:
    own, there = overlay.tissue > 0.5, overlay.section > 0.5
    depth = distance_transform_edt(own) - 0.5
    away = (-signed_distance(there) - depth) * float(overlay.flat.voxel_mm[:2].min())
    i, j = np.nonzero(own & (depth < 1.0))
    middle = np.array([overlay.p[own].mean(), overlay.q[own].mean()])
    around = np.degrees(np.arctan2(overlay.q[i, j] - middle[1], overlay.p[i, j] - middle[0]))
    axes.scatter(around, away[i, j], s=6)
    axes.axhline(0, color="black", linewidth=0.5)
    section, other = overlay.names
    beyond = f"how far {section} reaches beyond it, mm (below 0: it is missing)"
    axes.set(xlabel=f"place on the outline of {other}, degrees", ylabel=beyond)
    axes.set_title("disagreement along the outline", fontsize=10)


def _grid(axes: Any, overlay: Overlay, found: Registration) -> None:
    background(axes, overlay)
    back = found.inverse().points(pixel_centres(overlay.flat))
    directions = np.linalg.svd(back - back.mean(axis=0), full_matrices=False)[2][:2]
    parts = ((back - back.mean(axis=0)) @ directions.T).T.reshape(2, *overlay.fixed.shape)
    step = _round_step(max(float(np.ptp(part[overlay.tissue > 0.5])) for part in parts) / _GRID_LINES)
    for part in parts:
        levels = step * np.arange(np.floor(part.min() / step), np.ceil(part.max() / step) + 1)
        axes.contour(overlay.p, overlay.q, part, levels=levels, colors="gold", linewidths=0.6, linestyles="solid")
    frame(axes, overlay, f"a grid of {step:g} mm on {overlay.names[0]}, as it lies on {overlay.names[1]}")


def _round_step(length: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not smaller."""
    power = 10.0 ** np.floor(np.log10(max(length, 1e-6)))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= length * (1 - 1e-9)))


def _jacobian(axes: Any, overlay: Overlay, found: Registration) -> None:
    area = np.ones(overlay.fixed.shape)
    for ratio in (field.jacobian() for field in found.displacements):
        area = area * (ratio[..., 0] if ratio.shape[:2] == area.shape else 1.0)
    drawn = draw_image(axes, overlay, np.log(np.maximum(area, 1e-3)), cmap="RdBu", vmin=-0.5, vmax=0.5)
    axes.figure.colorbar(drawn, ax=axes, label="log of the area ratio")
    outline(axes, overlay, overlay.tissue, "black")
    inside = area[overlay.tissue > 0.5]
    low, high = (inside.min(), inside.max()) if inside.size else (1.0, 1.0)
    frame(axes, overlay, f"areas change by factors of {low:.2f} to {high:.2f} in the tissue")


def _gallery(places: Sequence[tuple[str, Overlay]]) -> Any:
    """Draw the result and what else may be right side by side: the outline of the section on the fixed image."""
    from matplotlib.figure import Figure

    rows = -(-len(places) // _ABREAST)
    figure = Figure(figsize=(7.2, 2.9 * rows), dpi=120)
    for number, (title, overlay) in enumerate(places):
        row, column = divmod(number, _ABREAST)
        axes = figure.add_axes((0.01 + 0.33 * column, 1 - (row + 0.98) / rows, 0.32, 0.82 / rows))
        background(axes, overlay)
        outline(axes, overlay, overlay.tissue, "deepskyblue")
        outline(axes, overlay, overlay.section, "orangered")
        frame(axes, overlay, title)
        axes.set_axis_off()
    return figure


def _candidates(axes: Any, overlay: Overlay, found: Registration) -> None:
    for turned, colour, word in ((False, "tab:blue", "as it lies"), (True, "tab:red", "turned over")):
        chosen = [item for item in found.candidates if item.turned_over is turned and item.slice == found.slice]
        axes.scatter([item.angle_deg for item in chosen], [item.agreement for item in chosen], color=colour, label=word)
    best = found.candidates[0]
    axes.scatter([best.angle_deg], [best.agreement], s=160, facecolors="none", edgecolors="black", label="taken")
    axes.set(xlabel="rotation of the section, degrees", ylabel="agreement of the outlines")
    axes.set_title(f"orientations tried; margin over the next {found.confidence:.2f}", fontsize=10)
    axes.legend()


def _landmarks(axes: Any, overlay: Overlay, found: Registration, pairs: FloatArray) -> None:
    background(axes, overlay)
    goal, there = pairs[:, 1] @ overlay.axes, found.points(pairs[:, 0]) @ overlay.axes
    errors, across = tre(found, pairs), float(np.ptp(goal, axis=0).max())
    times = max(_round_step(_LEAST_ARROW * across / max(float(np.median(errors)), 1e-6)), 1.0)
    times = times if np.isfinite(times) and times < _MOST_TIMES else 1.0
    ends = goal + times * (there - goal)
    axes.quiver(*goal.T, *(ends - goal).T, color="orangered", angles="xy", scale_units="xy", scale=1, width=0.004)
    axes.plot(*goal.T, "o", color="deepskyblue", markersize=4)
    longer = f", drawn {times:.0f} times as long" if times > 1 else ""
    title = f"errors of {len(pairs)} landmarks{longer}, median {1000 * np.median(errors):.0f} µm"
    frame(axes, overlay, title, np.concatenate([goal, ends]))
