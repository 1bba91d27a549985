"""Points of which only x and y are known: they lie on a plane, and z follows from it."""

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.registration.planes import Plane
from histomri.registration.transform import Transform

_LEAST_SLOPE = 0.1
"""Third component of the normal of a plane from which on x and y give the place of a point on it."""


def with_depth(points: FloatArray, origin: FloatArray, normal: FloatArray, what: str) -> FloatArray:
    """Return points, (N, 3) mm, with the z that puts them on the plane (origin, normal) where it is absent or NaN.

    A GeometryError, which says `what` the points are, is raised if a z is unknown and the plane stands upright, so that
    many points of it have the same x and y.
    """
    points = np.column_stack([points, np.full(len(points), np.nan)])[:, :3]
    unknown = np.isnan(points[:, 2])
    if not unknown.any():
        return points
    normal = normal / np.linalg.norm(normal)
    if abs(normal[2]) < _LEAST_SLOPE:
        raise GeometryError(
            f"the {what} have no z, and lie in a plane that stands upright (coronal or sagittal), where x and y alone "
            "do not give the place",
            hint="give z in mm as well",
        )
    away = (points[unknown, :2] - origin[:2]) @ normal[:2]
    points[unknown, 2] = origin[2] - away / normal[2]
    return points


def section_plane(transform: Transform) -> tuple[FloatArray, FloatArray]:
    """Return origin and normal of the section in the moving world: z = 0 unless the record says otherwise."""
    record = transform.info.get("Moving")
    affine = np.array(record["Affine"] if isinstance(record, dict) and "Affine" in record else np.eye(4), dtype=float)
    return affine[:3, 3], np.cross(affine[:3, 0], affine[:3, 1])


def landing_plane(transform: Transform) -> tuple[FloatArray, FloatArray]:
    """Return origin and normal of the plane of the fixed world on which a transform lays the section."""
    origin, normal = section_plane(transform)
    return transform.points(origin[None])[0], np.linalg.inv(transform.matrix[:3, :3]).T @ normal


def located(transform: Transform, pairs: FloatArray) -> FloatArray:
    """Return landmarks, (N, 2, 3), with every z: that of the section, and of where the transform lays it."""
    return np.stack(
        [
            with_depth(pairs[:, 0], *section_plane(transform), "moving landmarks"),
            with_depth(pairs[:, 1], *landing_plane(transform), "fixed landmarks"),
        ],
        axis=1,
    )


def on_planes(pairs: FloatArray, planes: tuple[Plane, Plane]) -> FloatArray:
    """Return landmarks, (N, 2, 3), with every z: that of the plane of the moving, or of the fixed image."""
    sides = zip(pairs.swapaxes(0, 1), planes, ("moving", "fixed"), strict=True)
    return np.stack(
        [with_depth(side, plane.frame[:3, 3], plane.frame[:3, 2], f"{name} landmarks") for side, plane, name in sides],
        axis=1,
    )
