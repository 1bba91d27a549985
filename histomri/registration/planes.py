"""Flat images in space: their right-angled frames in mm, and the z of points of which only x and y are known."""

from dataclasses import dataclass

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.transform import Transform

_SLANT = 1e-2
_LEAST_SLOPE = 0.1  # third component of the normal of a plane from which on x and y give the place of a point on it


@dataclass(frozen=True, eq=False)
class Plane:
    """The plane of a 2D image, with axes that depend on where it lies and not on how its array is stored.

    The normal points to the positive side of the world axis nearest to it, the first axis is the direction in the plane
    nearest to the world's x (or y), and the second completes a right-handed frame. Angles and flips found between two
    planes are therefore the same for RAS, LAS, LPS or any other storage of the same picture. `frame` (4, 4) takes plane
    coordinates (p, q, r) to world, both mm, a rigid motion with determinant +1; `grid` (3, 3) takes array index (i, j,
    1) to (p, q, 1).
    """

    frame: FloatArray
    grid: FloatArray

    @classmethod
    def of(cls, image: Image) -> "Plane":
        """Return the plane of a 2D image."""
        if image.data.ndim != 2:
            raise GeometryError("only a two-dimensional image has a plane", hint="choose a slice")
        edges = image.affine[:3, :2]
        normal = np.cross(edges[:, 0], edges[:, 1])
        size = np.linalg.norm(normal)
        if size < _SLANT * np.linalg.norm(edges[:, 0]) * np.linalg.norm(edges[:, 1]):
            raise GeometryError("the two axes of the image are parallel", hint="mend the header of the image")
        normal = normal / size
        normal = normal * np.sign(normal[np.argmax(np.round(np.abs(normal), 6))])
        # The world axis furthest from the normal: x, unless the plane stands upright and faces x.
        along = np.eye(3)[0 if abs(normal[0]) < 0.8 else 1]
        first = along - normal * (normal @ along)
        first = first / np.linalg.norm(first)
        second = np.cross(normal, first)
        frame, grid = np.eye(4), np.eye(3)
        frame[:3] = np.column_stack([first, second, normal, image.affine[:3, 3]])
        grid[:2, :2] = np.stack([first, second]) @ edges
        return cls(frame, grid)

    def holding(self, image: Image, what: str) -> "Plane":
        """Return this frame with the pixel grid of another 2D image, which must lie in the same plane."""
        if image.data.ndim != 2:
            raise GeometryError(f"the {what} must be two-dimensional")
        edges = self.frame[:3, :3].T @ image.affine[:3, :2]
        if np.abs(edges[2]).max() > _SLANT * np.linalg.norm(edges):
            raise GeometryError(f"the {what} is tilted against its image", hint="draw the mask on the image")
        grid = np.eye(3)
        grid[:2] = np.column_stack([edges[:2], self.to_plane(image.affine[None, :3, 3])[0]])
        return Plane(self.frame, grid)

    @property
    def voxel_mm(self) -> float:
        """The smaller edge of a pixel."""
        return float(np.sqrt((self.grid[:2, :2] ** 2).sum(axis=0)).min())

    def to_plane(self, points: FloatArray) -> FloatArray:
        """Return p, q of world points, (N, 3) -> (N, 2); what stands off the plane is dropped onto it."""
        return np.asarray(((points - self.frame[:3, 3]) @ self.frame[:3, :3])[:, :2])

    def to_world(self, points: FloatArray) -> FloatArray:
        """Return world points of p, q, (N, 2) -> (N, 3)."""
        return np.asarray(points @ self.frame[:3, :2].T + self.frame[:3, 3])

    def pixels(self, shape: tuple[int, ...]) -> FloatArray:
        """Return p, q of every pixel centre, (I * J, 2), in the order of ``ravel``."""
        i, j = np.indices(shape[:2]).reshape(2, -1)
        return np.asarray(np.column_stack([i, j, np.ones_like(i)]) @ self.grid.T)[:, :2]


def picture_axes(flat: Image) -> FloatArray:
    """Return the world directions, (3, 2), of the axes of pictures: the first grows to the left, the other upwards."""
    frame = Plane.of(flat).frame[:3, :2]
    return np.asarray(frame * np.sign(frame[np.argmax(np.abs(frame), axis=0), (0, 1)]))


def lift(pull: FloatArray, moving: Plane, fixed: Plane) -> FloatArray:
    """Return the 4 x 4 matrix, moving to fixed world, of a 2D affine (3, 3) from the fixed to the moving plane.

    Lengths along the normal are kept. Where the section is turned over, its normal is mapped to the opposite of the
    fixed normal, so that the determinant is positive: a body can be turned in space, it cannot be mirrored.
    """
    push = np.linalg.inv(pull)
    flat = np.diag([1.0, 1.0, np.sign(np.linalg.det(push[:2, :2])), 1.0])
    flat[:2, :2], flat[:2, 3] = push[:2, :2], push[:2, 2]
    matrix = fixed.frame @ flat @ np.linalg.inv(moving.frame)
    matrix[3] = (0, 0, 0, 1)
    return np.asarray(matrix)


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
        upright = "in a plane that stands upright (coronal or sagittal), where x and y alone do not give the place"
        raise GeometryError(f"the {what} have no z, and lie {upright}", hint="give z in mm as well")
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
    return _on_planes(pairs, section_plane(transform), landing_plane(transform))


def on_planes(pairs: FloatArray, planes: tuple[Plane, Plane]) -> FloatArray:
    """Return landmarks, (N, 2, 3), with every z: that of the plane of the moving, or of the fixed image."""
    return _on_planes(pairs, *((plane.frame[:3, 3], plane.frame[:3, 2]) for plane in planes))


def _on_planes(pairs: FloatArray, *planes: tuple[FloatArray, FloatArray]) -> FloatArray:
    sides = zip(pairs.swapaxes(0, 1), planes, ("moving", "fixed"), strict=True)
    return np.stack([with_depth(side, *plane, f"{name} landmarks") for side, plane, name in sides], axis=1)
