"""Planes tilted out of the slices of a volume: a section is seldom cut exactly along a slice."""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, tissue_of

_LARGEST_DEG = 15.0


def tilted_targets(fixed: Image, mask: Image | None, target: Target, tilts_deg: Sequence[float]) -> Iterator[Target]:
    """Give the planes that a slice becomes by tilting it about the middle of its tissue.

    The tilts, degrees, are tried about both axes of the slice, in every combination but (0, 0). A GeometryError is
    raised if the image has no slices to tilt between, or a tilt is more than 15 degrees.
    """
    if fixed.data.ndim != 3 or fixed.data.shape[2] < 2 or (mask is not None and mask.data.ndim != 3):
        raise GeometryError("a single slice cannot be tilted", hint="give an MRI and a mask of several slices")
    if any(not abs(tilt) <= _LARGEST_DEG for tilt in tilts_deg):
        raise GeometryError(f"tilts of {list(tilts_deg)} degrees are too large", hint="give up to 15 degrees")
    tissue = tissue_of(fixed, mask, "fixed")
    distance = _distances(tissue)
    axes = sorted({0.0, *(float(tilt) for tilt in tilts_deg)})
    for first in axes:
        for second in axes:
            if first or second:
                yield _tilted(fixed, distance, target, (first, second))


def plane_found(fixed: Image, mask: Image | None, slice: int | None, tilt_deg: Sequence[float] = (0.0, 0.0)) -> Target:
    """Return the plane of the fixed image on which a section was found: a slice, or what it becomes by tilting it."""
    tissue = tissue_of(fixed, mask, "fixed")
    if slice is None:
        return Target(None, fixed, tissue)
    upright = Target(slice, fixed.slice(slice), tissue.slice(slice) if tissue.data.ndim == 3 else tissue)
    first, second = (float(angle) for angle in tilt_deg)
    return _tilted(fixed, _distances(tissue), upright, (first, second)) if first or second else upright


def _tilted(fixed: Image, distance: Image, target: Target, tilt: tuple[float, float]) -> Target:
    plane = Plane.of(target.fixed)
    inside = np.argwhere(target.tissue.data > 0.5).mean(axis=0)
    pivot = (target.tissue.affine @ np.array([*inside, 0, 1]))[:3]
    turn = np.eye(4)
    turn[:3, :3] = _about(plane.frame[:3, 0], tilt[0]) @ _about(plane.frame[:3, 1], tilt[1])
    turn[:3, 3] = pivot - turn[:3, :3] @ pivot
    affine = turn @ target.fixed.affine
    shape = target.fixed.data.shape
    drawn = Image(_sampled(fixed, affine, shape, outside=0.0), affine)
    away = _sampled(distance, affine, shape, outside=10.0)
    return Target(target.slice, drawn, Image(np.clip(0.5 - away, 0, 1), affine), tilt)


def _about(axis: FloatArray, degrees: float) -> FloatArray:
    angle = np.radians(degrees)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _distances(tissue: Image) -> Image:
    """Return the signed distance in pixels within each slice: between slices it goes over smoothly, a mask does not."""
    result = np.full(tissue.data.shape, 10.0)
    for k in range(tissue.data.shape[2]):
        inside = tissue.data[:, :, k] > 0.5
        if inside.any() and not inside.all():
            outer, inner = distance_transform_edt(~inside) - 0.5, distance_transform_edt(inside) - 0.5
            result[:, :, k] = np.where(inside, -inner, outer)
    return Image(result, tissue.affine)


def _sampled(volume: Image, affine: FloatArray, shape: tuple[int, ...], outside: float) -> FloatArray:
    i, j = np.indices(shape).reshape(2, -1)
    world = affine @ np.stack([i, j, np.zeros_like(i), np.ones_like(i)])
    index = (np.linalg.inv(volume.affine) @ world)[:3]
    data = np.nan_to_num(np.asarray(volume.data, dtype=float), nan=outside)
    # Half a slice beyond the outermost centres is still measured.
    index[2] = np.where(
        np.abs(index[2] - np.clip(index[2], 0, data.shape[2] - 1)) <= 0.5,
        np.clip(index[2], 0, data.shape[2] - 1),
        index[2],
    )
    return np.asarray(map_coordinates(data, index, order=1, cval=outside).reshape(shape))
