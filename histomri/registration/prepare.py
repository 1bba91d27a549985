"""What a registration starts from: the planes to try, tilted ones too, and the outlines of both tissues in them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import GeometryError, InputError
from histomri.core.images import Image
from histomri.registration.outlines import Outline, coverage, signed_distance, tissue_mask
from histomri.registration.planes import Plane
from histomri.registration.refine import Problem

_FINE, _MARGIN, _PIXELS_ACROSS = 4, 12, 50
_BESIDE = 2.6  # pixels from a region that is left out: as far as outlines are compared
_THICK = 1.5  # a voxel this much longer than wide is as long as a slice is thick
_LARGEST_MM, _SMALLEST_MM, _LARGEST_RATIO, _LARGEST_DEG = 1000.0, 0.05, 2.0, 15.0


@dataclass(frozen=True, eq=False)
class Target:
    """A slice to try, 2D, and its tissue; `slice` is None for a 2D fixed image, `tilt_deg` about its two axes.

    Where `ignored` (I, J) is set, the outlines are not compared, nor beside it.
    """

    slice: int | None
    fixed: Image
    tissue: Image
    tilt_deg: tuple[float, float] = (0.0, 0.0)
    ignored: BoolArray | None = None


def targets(
    fixed: Image, fixed_mask: Image | None, slices: int | Sequence[int] | None, pairs: FloatArray | None,
    ignored: Image | None = None,
) -> list[Target]:  # fmt: skip
    """Return the slices to try, as they are stored; `ignored` is on the grid of the fixed image."""
    _check_axes(fixed)
    chosen, tissue = _slices(fixed, slices, pairs), tissue_of(fixed, fixed_mask, "fixed")
    left_out = None if ignored is None else ignored.data > 0.5
    parts = [left_out if left_out is None or k is None else left_out[:, :, k] for k in chosen]
    return [Target(k, *_at_slice(fixed, tissue, k), ignored=part) for k, part in zip(chosen, parts, strict=True)]


def _check_axes(fixed: Image) -> None:
    """Refuse an image whose slices do not lie along its third axis: each "slice" would cut through all of them."""
    if fixed.data.ndim < 3:
        return
    single = [axis for axis in (0, 1) if fixed.data.shape[axis] == 1]
    thick = [axis for axis in (0, 1) if fixed.voxel_mm[axis] > _THICK * np.delete(fixed.voxel_mm, axis).max()]
    if single or thick:
        axis = (single or thick)[0] + 1
        problem = f"the slices of the fixed image lie along axis {axis} of its three, not along the last"
        hint = "reorder its axes before it is fitted and registered, for instance with fslswapdim"
        raise GeometryError(problem, hint=hint)


def _slices(fixed: Image, slices: int | Sequence[int] | None, pairs: FloatArray | None) -> list[int | None]:
    """Return the slices to try; None stands for a fixed image that has no third axis."""
    if fixed.data.ndim == 2:
        if slices not in (None, 0, [0], (0,)):
            raise GeometryError(f"slice {slices} was asked for, and the fixed image has only one")
        return [None]
    count = fixed.data.shape[2]
    if slices is not None:
        chosen = [int(slices)] if isinstance(slices, int | np.integer) else [int(k) for k in slices]
        for k in chosen:
            if not 0 <= k < count:
                raise GeometryError(f"there is no slice {k}: slices run from 0 to {count - 1}")
        if not chosen:
            raise InputError("the list of slices is empty")
        return list(dict.fromkeys(chosen))
    marked = None if pairs is None else slice_of_landmarks(pairs, fixed)
    return list(range(count)) if marked is None else [marked]


def slice_of_landmarks(pairs: FloatArray, fixed: Image) -> int | None:
    """Return the slice of a volume in which the fixed landmarks lie, None if they have no z."""
    known = pairs[np.isfinite(pairs[:, 1, 2]), 1]
    if not len(known):
        return None
    to_index, last = np.linalg.inv(fixed.affine), fixed.data.shape[2] - 1
    depth = float(np.median(known @ to_index[2, :3] + to_index[2, 3]))
    if not -0.5 <= depth <= last + 0.5:
        raise GeometryError("the fixed landmarks lie outside the fixed image", hint="give x, y and z in world mm")
    return int(np.clip(np.rint(depth), 0, last))


def tissue_of(image: Image, mask: Image | None, what: str) -> Image:
    """Return where the tissue is, on the grid of the mask if there is one, else of the image."""
    if mask is None:
        return Image(tissue_mask(image, f"{what} image"), image.affine)
    return Image(coverage(mask, f"{what} mask"), mask.affine)


def _at_slice(fixed: Image, tissue: Image, k: int | None) -> tuple[Image, Image]:
    """Return slice `k` of the fixed image and of its mask."""
    if k is None:
        if tissue.data.ndim == 3:
            raise GeometryError("the fixed mask is three-dimensional, and the fixed image is not")
        return fixed, tissue
    if tissue.data.ndim == 2:
        return fixed.slice(k), tissue
    if (count := tissue.data.shape[2]) != fixed.data.shape[2]:
        problem = f"the fixed mask has {count} slices and the fixed image {fixed.data.shape[2]}"
        raise GeometryError(problem, hint="draw the mask on the fixed image")
    return fixed.slice(k), tissue.slice(k)


def build_problem(moving: Image, section: Image, target: Target, scale: float) -> tuple[Problem, tuple[Plane, Plane]]:
    """Return the outlines of both tissues in the planes of their images, once they have been found comparable."""
    fixed, tissue = target.fixed, target.tissue
    planes = Plane.of(moving), Plane.of(fixed)
    own, other = planes[0].holding(section, "moving mask"), planes[1].holding(tissue, "fixed mask")
    _check_sizes(_area(section, own), _area(tissue, other), scale)
    unit = max(planes[1].voxel_mm, np.sqrt(_area(tissue, other)) / _PIXELS_ACROSS)
    goal = Outline.of(tissue.data, other, unit / _FINE, _MARGIN * unit, "fixed mask")
    source = Outline.of(section.data, own, scale * unit / _FINE, _MARGIN * unit, "moving mask")
    # One pixel in each square of `step`: closer together they see the same piece of outline.
    step = max(1, round(unit / planes[1].voxel_mm))
    i, j = np.indices(fixed.data.shape)
    chosen = ((i % step == step // 2) & (j % step == step // 2)).ravel()
    if target.ignored is not None and target.ignored.any():
        # Beside a region that is left out, the nearest outline is its edge, which both images have in common.
        beside = distance_transform_edt(~target.ignored) * planes[1].voxel_mm < _BESIDE * unit
        chosen &= ~beside.ravel()
    return Problem(source, goal, planes[1].pixels(fixed.data.shape)[chosen], unit, scale), planes


def _area(mask: Image, plane: Plane) -> float:
    return float((mask.data > 0.5).sum() * abs(np.linalg.det(plane.grid)))


def _check_sizes(moving_mm2: float, fixed_mm2: float, scale: float) -> None:
    if not moving_mm2 or not fixed_mm2:
        raise InputError(f"there is no tissue in the {'fixed' if moving_mm2 else 'moving'} image")
    own, other = np.sqrt(moving_mm2), np.sqrt(fixed_mm2)
    if not _SMALLEST_MM < other < _LARGEST_MM:
        hint = "its header is probably in µm or m: set its pixel size in mm"
        raise GeometryError(f"the tissue of the fixed image is about {other:.3g} mm across", hint=hint)
    ratio = float(np.sqrt(moving_mm2 / fixed_mm2) / scale)
    across = f"the section is about {own:.3g} mm across and the tissue of the fixed image {other:.3g} mm"
    if not 0.01 < ratio < 100:
        raise GeometryError(across, hint="one of the two is probably in µm: set its pixel size in mm")
    if not 1 / _LARGEST_RATIO <= ratio <= _LARGEST_RATIO:
        across += ", more than twice the difference that shrinkage explains"
        raise GeometryError(across, hint="check pixel sizes and masks")


def tilted_targets(fixed: Image, mask: Image | None, target: Target, tilts_deg: Sequence[float]) -> Iterator[Target]:
    """Give the planes that a slice becomes by tilting it about the middle of its tissue.

    The tilts, degrees, are tried about both axes of the slice, in every combination but (0, 0). A GeometryError is
    raised if the image has no slices to tilt between, or a tilt is more than 15 degrees.
    """
    if fixed.data.ndim != 3 or fixed.data.shape[2] < 2 or (mask is not None and mask.data.ndim != 3):
        raise GeometryError("a single slice cannot be tilted", hint="give an MRI and a mask of several slices")
    if any(not abs(tilt) <= _LARGEST_DEG for tilt in tilts_deg):
        raise GeometryError(f"tilts of {list(tilts_deg)} degrees are too large", hint="give up to 15 degrees")
    distance = _distances(tissue_of(fixed, mask, "fixed"))
    axes = sorted({0.0, *map(float, tilts_deg)})
    for tilt in product(axes, axes):
        if any(tilt):
            yield _tilted(fixed, distance, target, tilt)


def plane_found(fixed: Image, mask: Image | None, slice: int | None, tilt_deg: Sequence[float] = (0.0, 0.0)) -> Target:
    """Return the plane of the fixed image on which a section was found: a slice, or what it becomes by tilting it."""
    tissue = tissue_of(fixed, mask, "fixed")
    if slice is None:
        return Target(None, fixed, tissue)
    upright = Target(slice, fixed.slice(slice), tissue.slice(slice) if tissue.data.ndim == 3 else tissue)
    first, second = map(float, tilt_deg)
    return _tilted(fixed, _distances(tissue), upright, (first, second)) if first or second else upright


def _tilted(fixed: Image, distance: Image, target: Target, tilt: tuple[float, float]) -> Target:
    plane = Plane.of(target.fixed)
    inside = np.argwhere(target.tissue.data > 0.5).mean(axis=0)
    pivot = (target.tissue.affine @ np.array([*inside, 0, 1]))[:3]
    turn = np.eye(4)
    turn[:3, :3] = _about(plane.frame[:3, 0], tilt[0]) @ _about(plane.frame[:3, 1], tilt[1])
    turn[:3, 3] = pivot - turn[:3, :3] @ pivot
    affine, shape = turn @ target.fixed.affine, target.fixed.data.shape
    drawn = Image(_sampled(fixed, affine, shape, outside=0.0), affine)
    away = _sampled(distance, affine, shape, outside=10.0)
    return Target(target.slice, drawn, Image(np.clip(0.5 - away, 0, 1), affine), tilt)


def _about(axis: FloatArray, degrees: float) -> FloatArray:
    angle, (x, y, z) = np.radians(degrees), axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _distances(tissue: Image) -> Image:
    """Return the signed distance in pixels within each slice: between slices it goes over smoothly, a mask does not."""
    result = np.full(tissue.data.shape, 10.0)
    for k, inside in enumerate(np.moveaxis(tissue.data > 0.5, 2, 0)):
        if inside.any() and not inside.all():
            result[:, :, k] = signed_distance(inside)
    return Image(result, tissue.affine)


def _sampled(volume: Image, affine: FloatArray, shape: tuple[int, ...], outside: float) -> FloatArray:
    i, j = np.indices(shape).reshape(2, -1)
    world = affine @ np.stack([i, j, np.zeros_like(i), np.ones_like(i)])
    index = (np.linalg.inv(volume.affine) @ world)[:3]
    data = np.nan_to_num(np.asarray(volume.data, dtype=float), nan=outside)
    # Half a slice beyond the outermost centres is still measured.
    inside = np.clip(index[2], 0, data.shape[2] - 1)
    index[2] = np.where(np.abs(index[2] - inside) <= 0.5, inside, index[2])
    return np.asarray(map_coordinates(data, index, order=1, cval=outside).reshape(shape))
