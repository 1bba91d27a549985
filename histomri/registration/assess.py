"""How well two images lie on each other, in numbers that do not need the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.prepare import tissue_of
from histomri.registration.tilts import plane_found
from histomri.registration.transform import Transform

_BINS = 12
_LEAST_SHARED = 50


def assess(
    transform: Transform,
    moving: Image,
    fixed: Image,
    *,
    moving_mask: Image | None = None,
    fixed_mask: Image | None = None,
    slice: int | None = None,
    tilt_deg: Sequence[float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Return overlap, shared information, inverse consistency and area change of a registration.

    The transform goes from the world of `moving` to that of `fixed`; their tissue is found if no masks are given; the
    section lies on `slice` of a 3D fixed image, tilted out of it by `tilt_deg`. The result has ``dice`` of the two
    tissues; ``nmi_before`` and ``nmi_after``, normalised mutual information (Studholme et al. 1999, doi
    10.1016/S0031-3203(98)00091-0, 1 none to 2 all) with only the centres and with everything aligned; ``inverse_um``,
    the largest distance of a tissue point from itself after there and back; and ``jacobian``, smallest and largest area
    ratio of the deformation.
    """
    target = plane_found(fixed, fixed_mask, slice, tilt_deg)
    flat, other = target.fixed, target.tissue
    section = tissue_of(moving, moving_mask, "moving")
    found: dict[str, Any] = {"dice": _dice(transform, section, flat, other)}
    before = _centred(section, other)
    found["nmi_before"] = normalised_mutual_information(before.resample(moving, flat).data, flat.data)
    found["nmi_after"] = normalised_mutual_information(transform.resample(moving, flat).data, flat.data)
    found["inverse_um"] = _inverse_um(transform, section)
    if transform.displacements:
        areas = np.concatenate([field.jacobian().ravel() for field in transform.displacements])
        found["jacobian"] = [float(areas.min()), float(areas.max())]
    return found


def normalised_mutual_information(one: FloatArray, other: FloatArray) -> float | None:
    """Return (H(A) + H(B)) / H(A, B) over the pixels known in both, None if there are too few or one is constant."""
    known = np.isfinite(one) & np.isfinite(other)
    if known.sum() < _LEAST_SHARED or np.ptp(one[known]) == 0 or np.ptp(other[known]) == 0:
        return None
    ranks = [np.argsort(np.argsort(image[known], kind="stable"), kind="stable") for image in (one, other)]
    bins = [rank * _BINS // len(rank) for rank in ranks]
    joint = np.bincount(bins[0] * _BINS + bins[1], minlength=_BINS**2).reshape(_BINS, _BINS) / known.sum()
    return (_entropy(joint.sum(axis=0)) + _entropy(joint.sum(axis=1))) / _entropy(joint)


def _entropy(fractions: FloatArray) -> float:
    some = fractions[fractions > 0]
    return float(-(some * np.log(some)).sum())


def _dice(transform: Transform, section: Image, flat: Image, tissue: Image) -> float:
    own = Transform.identity().resample(tissue, flat).data > 0.5
    there = np.nan_to_num(transform.resample(section, flat).data) > 0.5
    total = int(own.sum() + there.sum())
    return float(2 * (own & there).sum() / total) if total else 0.0


def _centred(section: Image, tissue: Image) -> Transform:
    matrix = np.eye(4)
    matrix[:3, 3] = _points(tissue).mean(axis=0) - _points(section).mean(axis=0)
    return Transform(matrix)


def _points(mask: Image) -> FloatArray:
    index = np.argwhere(mask.data > 0.5)
    return np.asarray(index @ mask.affine[:3, : index.shape[1]].T + mask.affine[:3, 3])


def _inverse_um(transform: Transform, section: Image) -> float | None:
    points = _points(section)
    points = points[:: max(1, len(points) // 2000)]
    try:
        return 1000 * float(np.linalg.norm(transform.inverse().points(transform.points(points)) - points, axis=1).max())
    except GeometryError:
        return None
