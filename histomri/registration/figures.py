"""Pictures of a registration, as PNG files.

All are drawn in the plane of the fixed image, seen as a radiologist sees it: world x runs to the left, y upwards.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from histomri.arrays import FloatArray
from histomri.files import atomic_path
from histomri.maps import Image
from histomri.registration.landmark_fits import tre
from histomri.registration.planes import Plane
from histomri.registration.prepare import values
from histomri.registration.quality import Registration

_LINE = 1.0
_SQUARES = 8
_MARGIN_MM = 2.0


@dataclass(frozen=True, eq=False)
class _Scene:
    """Both images on the grid of the fixed slice, and where its pixels are in the plane."""

    p: FloatArray
    q: FloatArray
    fixed: FloatArray
    moved: FloatArray
    tissue: FloatArray
    section: FloatArray
    plane: Plane
    flat: Image


def write_figures(
    found: Registration,
    moving: Image,
    fixed: Image,
    folder: Path,
    *,
    stem: str = "registration",
    moving_mask: Image | None = None,
    fixed_mask: Image | None = None,
    landmarks: FloatArray | None = None,
) -> list[Path]:
    """Write the pictures of a registration.

    Parameters
    ----------
    found : Registration
        The result.
    moving, fixed : Image
        The section and the MRI.
    folder : Path
        Where to write.
    stem : str
        Beginning of the file names.
    moving_mask, fixed_mask : Image, optional
        Their tissue; found in the images if not given.
    landmarks : (N, 2, 3) ndarray, optional
        Landmark pairs whose errors are drawn.

    Returns
    -------
    list of Path
        ``<stem>_flipbook.gif``, in which MRI and section take turns; ``_contours.png``, ``_checkerboard``,
        ``_missing``, ``_residual``, ``_grid``, ``_jacobian``, ``_candidates`` and ``_landmarks``; the last two only if
        there are any.
    """
    scene = _scene(found, moving, fixed, moving_mask, fixed_mask)
    drawn = {
        "contours": _contours,
        "checkerboard": _checkerboard,
        "missing": _missing,
        "residual": _residual,
        "grid": _grid,
        "jacobian": _jacobian,
    }
    outputs = [_flip_book(scene, folder / f"{stem}_flipbook.gif")]
    for name, draw in drawn.items():
        figure, axes = _figure()
        draw(axes, scene, found)
        outputs.append(_save(figure, folder / f"{stem}_{name}.png"))
    if found.candidates:
        figure, axes = _figure()
        _candidates(axes, found)
        outputs.append(_save(figure, folder / f"{stem}_candidates.png"))
    if landmarks is not None:
        figure, axes = _figure()
        _landmarks(axes, scene, found, np.asarray(landmarks, dtype=float))
        outputs.append(_save(figure, folder / f"{stem}_landmarks.png"))
    return outputs


def _scene(
    found: Registration, moving: Image, fixed: Image, moving_mask: Image | None, fixed_mask: Image | None
) -> _Scene:
    tissue = Image(values(fixed, fixed_mask, "fixed"), (fixed_mask or fixed).affine)
    section = Image(values(moving, moving_mask, "moving"), (moving_mask or moving).affine)
    if found.slice is not None:
        fixed = fixed.slice(found.slice)
        tissue = tissue.slice(found.slice) if tissue.data.ndim == 3 else tissue
    plane = Plane.of(fixed)
    p, q = plane.pixels(fixed.data.shape).T.reshape(2, *fixed.data.shape)
    from histomri.registration.transform import Transform

    own = Transform.identity().resample(tissue, fixed).data
    there = found.resample(section, fixed).data
    return _Scene(
        p, q, fixed.data, found.resample(moving, fixed).data, np.nan_to_num(own), np.nan_to_num(there), plane, fixed
    )


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.5), dpi=120)  # an automatic layout would take longer than all the drawing
    return figure, figure.add_axes((0.12, 0.11, 0.84, 0.81))


def _save(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
    return path


def _frame(axes: Any, scene: _Scene, title: str) -> None:
    shown = (scene.tissue > 0.5) | (scene.section > 0.5)
    axes.set_aspect("equal")
    axes.set_xlim(scene.p[shown].max() + _MARGIN_MM, scene.p[shown].min() - _MARGIN_MM)
    axes.set_ylim(scene.q[shown].min() - _MARGIN_MM, scene.q[shown].max() + _MARGIN_MM)
    axes.set_xlabel("in the plane, mm")
    axes.set_title(title, fontsize=10)


def _draw(axes: Any, scene: _Scene, picture: FloatArray, **options: Any) -> Any:
    known = picture[np.isfinite(picture)]
    low, high = np.percentile(known, (1, 99)) if known.size else (0.0, 1.0)
    return axes.pcolormesh(scene.p, scene.q, picture, **{"cmap": "gray", "vmin": low, "vmax": high, **options})


def _outline(axes: Any, scene: _Scene, mask: FloatArray, colour: str) -> None:
    if mask.min() < 0.5 < mask.max():
        axes.contour(scene.p, scene.q, mask, levels=[0.5], colors=colour, linewidths=_LINE)


def _contours(axes: Any, scene: _Scene, found: Registration) -> None:
    _draw(axes, scene, scene.fixed)
    _outline(axes, scene, scene.tissue, "deepskyblue")
    _outline(axes, scene, scene.section, "orangered")
    _frame(axes, scene, f"outlines of MRI (blue) and section (red): {found.verdict}")


def _checkerboard(axes: Any, scene: _Scene, found: Registration) -> None:
    i, j = np.indices(scene.fixed.shape)
    size = max(max(scene.fixed.shape) // _SQUARES, 1)
    odd = (i // size + j // size) % 2 == 1
    board = np.where(odd, _ranked(scene.moved), _ranked(np.where(scene.tissue > 0.5, scene.fixed, np.nan)))
    _draw(axes, scene, board, vmin=0, vmax=1)
    _frame(axes, scene, "MRI and section in turn, each in ranks of its values")


def _flip_book(scene: _Scene, path: Path) -> Path:
    """Write MRI and section in turn, as grey pictures of the same frame."""
    from PIL import Image as Picture

    known = np.where(scene.tissue > 0.5, scene.fixed, np.nan)
    frames = []
    for picture, title in ((known, "MRI"), (scene.moved, "section, with the outline of the MRI")):
        figure, axes = _figure()
        _draw(axes, scene, np.nan_to_num(_ranked(picture)), vmin=0, vmax=1)
        _outline(axes, scene, scene.tissue, "deepskyblue")
        _frame(axes, scene, title)
        frames.append(Picture.fromarray(_pixels(figure)).convert("P", palette=Picture.Palette.ADAPTIVE))
    with atomic_path(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=900, loop=0)
    return path


def _pixels(figure: Any) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _ranked(picture: FloatArray) -> FloatArray:
    known = np.isfinite(picture)
    result = np.full(picture.shape, np.nan)
    result[known] = np.argsort(np.argsort(picture[known])) / max(int(known.sum()) - 1, 1)
    return result


def _missing(axes: Any, scene: _Scene, found: Registration) -> None:
    own, there = scene.tissue > 0.5, scene.section > 0.5
    code = np.where(own & there, 1.0, np.where(own, 2.0, np.where(there, 3.0, 0.0)))
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(["white", "lightgrey", "royalblue", "orangered"])
    _draw(axes, scene, code, cmap=colours, vmin=-0.5, vmax=3.5)
    share = float((own & ~there).sum() / max(own.sum(), 1))
    _frame(axes, scene, f"tissue missing in the section (blue, {100 * share:.0f} %), beyond the MRI's (red)")


def _residual(axes: Any, scene: _Scene, found: Registration) -> None:
    from scipy.ndimage import distance_transform_edt

    own, there = scene.tissue > 0.5, scene.section > 0.5
    pixel = scene.plane.voxel_mm
    edge = own & (distance_transform_edt(own) < 1.5)
    away = np.where(there, distance_transform_edt(there) - 0.5, 0.5 - distance_transform_edt(~there)) * pixel
    i, j = np.nonzero(edge)
    middle = np.array([scene.p[own].mean(), scene.q[own].mean()])
    around = np.degrees(np.arctan2(scene.q[i, j] - middle[1], scene.p[i, j] - middle[0]))
    axes.scatter(around, away[i, j], s=6)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xlabel("place on the MRI's outline, degrees")
    axes.set_ylabel("depth within the section, mm (below 0: it is missing there)")
    axes.set_title("disagreement along the outline", fontsize=10)


def _grid(axes: Any, scene: _Scene, found: Registration) -> None:
    _draw(axes, scene, scene.fixed)
    known = np.isfinite(scene.moved)
    inverse = found.inverse()
    if known.any():
        shape = scene.fixed.shape
        index = np.argwhere(np.ones(shape)) @ scene.flat.affine[:3, :2].T + scene.flat.affine[:3, 3]
        back = inverse.points(index)
        frame = np.linalg.svd(back - back.mean(axis=0), full_matrices=False)[2][:2]
        u, v = ((back - back.mean(axis=0)) @ frame.T).T.reshape(2, *shape)
        for part in (u, v):
            levels = np.arange(np.floor(part.min()), np.ceil(part.max()) + 1)
            axes.contour(scene.p, scene.q, part, levels=levels, colors="gold", linewidths=0.6, linestyles="solid")
    _frame(axes, scene, "a grid of 1 mm on the section, as it lies on the MRI")


def _jacobian(axes: Any, scene: _Scene, found: Registration) -> None:
    area = np.ones(scene.fixed.shape)
    for field in found.displacements:
        ratio = field.jacobian()
        area = area * (ratio[..., 0] if ratio.shape[:2] == area.shape else 1.0)
    drawn = _draw(axes, scene, np.log(np.maximum(area, 1e-3)), cmap="RdBu", vmin=-0.5, vmax=0.5)
    axes.figure.colorbar(drawn, ax=axes, label="log of the area ratio")
    _outline(axes, scene, scene.tissue, "black")
    _frame(axes, scene, f"local change of area, {area.min():.2f} to {area.max():.2f}")


def _candidates(axes: Any, found: Registration) -> None:
    for turned, colour, word in ((False, "tab:blue", "as it lies"), (True, "tab:red", "turned over")):
        chosen = [item for item in found.candidates if item.turned_over is turned and item.slice == found.slice]
        axes.scatter([item.angle_deg for item in chosen], [item.agreement for item in chosen], color=colour, label=word)
    best = found.candidates[0]
    axes.scatter([best.angle_deg], [best.agreement], s=160, facecolors="none", edgecolors="black", label="taken")
    axes.set_xlabel("rotation of the section, degrees")
    axes.set_ylabel("agreement of the outlines")
    axes.set_title(f"orientations tried; lead over the next {found.confidence:.2f}", fontsize=10)
    axes.legend()


def _landmarks(axes: Any, scene: _Scene, found: Registration, pairs: FloatArray) -> None:
    _draw(axes, scene, scene.fixed)
    goal, there = scene.plane.to_plane(pairs[:, 1]), scene.plane.to_plane(found.points(pairs[:, 0]))
    axes.quiver(*goal.T, *(there - goal).T, color="orangered", angles="xy", scale_units="xy", scale=1, width=0.004)
    axes.plot(*goal.T, "o", color="deepskyblue", markersize=4)
    _frame(axes, scene, f"errors of {len(pairs)} landmarks, median {1000 * np.median(tre(found, pairs)):.0f} µm")
