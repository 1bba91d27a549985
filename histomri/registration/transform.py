"""Transform: from the world of one image to the world of another, and what it knows about itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.display import Displayed
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.core.orientation import View
from histomri.registration.displacement import Displacement
from histomri.registration.io.registry import format_of, load_transform, save_transform
from histomri.registration.resampling import resample

Info = Mapping[str, Any]
_INVERSE, _CHAIN = "InverseOf", "ChainOf"
_LARGEST_CONDITION = 1e6
_CIRCULAR = ("both", "content")


class Drawable(Protocol):
    """What transforms can be drawn from, as `uncertainty.Uncertainty` is."""

    def draws(self, found: "Transform", count: int, seed: int) -> Iterator["Transform"]:
        """Give transforms drawn around the one that was found."""

    def save(self, path: Path) -> Path:
        """Write it."""


@dataclass(frozen=True, eq=False, repr=False)
class Transform(Displayed):
    """A map from the moving world to the fixed world, both RAS+ mm (the NIfTI convention).

    A point goes through `matrix` first and then through every displacement in turn, so that any chain of affine and
    deformable transforms, and its inverse, is a Transform again, without approximation.

    `matrix` (4, 4) has a positive determinant for everything `register` finds: a section that lies on the slide the
    other way up is turned over (half a turn about an axis in its plane), not mirrored. The `displacements` are in the
    fixed world; `info` says for people what the transform is about and where it came from, and is kept by `save`, as is
    the `uncertainty`, where it is known: what other transforms, as likely, are drawn from. It is not kept by an inverse
    or a chain.

    Examples
    --------
    >>> quarter = Transform([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    >>> quarter.points([[10, 20]])
    array([[-19.,  12.,   3.]])
    >>> quarter.inverse().compose(quarter).points([[10, 20]])
    array([[10., 20.,  0.]])
    """

    matrix: FloatArray
    displacements: tuple[Displacement, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: "Drawable | None" = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=float)
        if matrix.shape != (4, 4) or not np.all(np.isfinite(matrix)):
            raise GeometryError("a transform needs a finite 4 x 4 matrix")
        if not np.allclose(matrix[3], (0, 0, 0, 1), atol=1e-9):
            raise GeometryError("the last row of a transform must be 0 0 0 1")
        if np.linalg.cond(matrix[:3, :3]) > _LARGEST_CONDITION:
            raise GeometryError("the transform cannot be inverted: it flattens the space")
        matrix.flags.writeable = False
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "displacements", tuple(self.displacements))

    @classmethod
    def identity(cls) -> "Transform":
        """Return the transform that changes nothing."""
        return cls(np.eye(4))

    @classmethod
    def shift(cls, way: FloatArray) -> "Transform":
        """Return the transform that adds a vector, (3,) mm."""
        matrix = np.eye(4)
        matrix[:3, 3] = way
        return cls(matrix)

    @property
    def is_affine(self) -> bool:
        """Whether the matrix is all there is."""
        return not self.displacements

    @property
    def record(self) -> Mapping[str, Any]:
        """What is kept of `info`, and of how the transform was found, when it is saved, turned round or chained."""
        return self.info

    def points(self, points_mm: FloatArray | Sequence[Sequence[float]]) -> FloatArray:
        """Map points, (N, 3) or (N, 2) mm, of the moving world to the fixed world, (N, 3).

        Points without z lie at z = 0, where the plane of a slide is; the plane of the fixed image need not be there.
        """
        points = np.asarray(points_mm, dtype=float)
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise GeometryError(f"points must have the shape (N, 2) or (N, 3), not {points.shape}")
        if not np.all(np.isfinite(points)):
            raise GeometryError("points must be finite")
        if points.shape[1] == 2:
            points = np.column_stack([points, np.zeros(len(points))])
        points = points @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        for displacement in self.displacements:
            points = displacement(points)
        return np.asarray(points)

    def inverse(self) -> "Transform":
        """Return the transform from the fixed world to the moving world."""
        back = np.linalg.inv(self.matrix)
        turned = tuple(item.inverse().carried_by(back) for item in reversed(self.displacements))
        return Transform(_affine(back), turned, inverted(self.record))

    def compose(self, other: "Transform") -> "Transform":
        """Return the transform that applies `other` first and this one after it."""
        carried = tuple(item.carried_by(self.matrix) for item in other.displacements)
        info = chained(other.record, self.record)
        return Transform(_affine(self.matrix @ other.matrix), carried + self.displacements, info)

    def resample(self, image: Image, like: Image, order: int = 1) -> Image:
        """Draw a moving image on the grid of a fixed one, of which only shape and affine are used.

        NaN is what is unknown, and the result outside `image`. A 2D image fills the slices of `like` whose centre lies
        within half a slice of its plane. With `order` 0, the nearest voxel (labels), the type of the data is kept, and
        integers are 0 outside. 1 interpolates linearly among the known voxels by normalised convolution, and gives NaN
        where less than half of the weight is known. 3 takes a cubic spline where all voxels within two of the place are
        known, and the linear weights elsewhere; a spline may overshoot at steps.
        """
        return resample(self, image, like, order)

    def save(self, path: str | Path) -> list[Path]:
        """Write the transform as JSON (complete) and as ITK text (.tfm), and displacements as NIfTI; return the files.

        The name may have the ending .json; the other files get the same stem.
        """
        return save_transform(self, path)

    @classmethod
    def load(cls, path: str | Path, *, moving: Image | None = None, fixed: Image | None = None) -> "Transform":
        """Read a transform written by `save` (.json), or one of another program.

        These are affines of ITK and ANTs (.tfm, .txt, .mat), composites of ITK and ANTs (.h5), FSL's matrices (.mat),
        AFNI's (.aff12.1D), and FreeSurfer's .lta. Where a .tfm was written together with displacements, these are read
        as well. The two images are needed only by the matrices of FSL and AFNI. An InputError is raised if the file is
        missing, damaged, or holds another kind of transform.
        """
        return cast(Transform, load_transform(path, moving, fixed))

    def plot(self, moving: Image, fixed: Image, axes: Any = None) -> Any:
        """Draw a moving image over the fixed one, of a volume in the slice that shows most of it; return the axes."""
        from matplotlib import pyplot

        drawn = self.resample(moving, fixed)
        if fixed.data.ndim == 3:
            k = int(np.isfinite(drawn.data).sum(axis=(0, 1)).argmax())
            drawn, fixed = drawn.slice(k), fixed.slice(k)
        view = View.of(fixed)
        axes, aspect = pyplot.gca() if axes is None else axes, view.pixel_mm[1] / view.pixel_mm[0]
        for image, style in ((fixed, {"cmap": "gray"}), (drawn, {"cmap": "viridis", "alpha": 0.6})):
            axes.imshow(view.show(image.data), aspect=aspect, **style)
        axes.set_axis_off()
        return axes

    def facts(self) -> dict[str, Any]:
        """Return the main facts."""
        moved = ", ".join(f"{value:.2f}" for value in self.points([[0.0, 0.0, 0.0]])[0])
        sources = ", ".join(map(str, self.info.get("Sources", ()))) or "memory"
        return {"kind": "affine" if self.is_affine else "deformable", "origin goes to": f"{moved} mm", "from": sources}


def _affine(matrix: FloatArray) -> FloatArray:
    """Return the matrix with an exact last row, free of the rounding of products and inverses."""
    matrix = np.array(matrix)
    matrix[3] = (0, 0, 0, 1)
    return matrix


def quality_warnings(transform: Transform, path: str | Path) -> tuple[str, ...]:
    """Return what a person should know before using a transform: how it was judged, and what is not applied."""
    found = format_of(path := Path(path))
    warnings = [] if found is None else list(found.warnings(transform, path))
    judged = {"failed": "failed", "check": "is to be checked by eye"}
    for record in registrations(transform.record):
        quality = record.get("QualityControl")
        if isinstance(quality, dict) and (what := judged.get(quality.get("verdict", ""))):
            warnings.append(f"{path.name} is of a registration that {what}: {'; '.join(quality.get('reasons', []))}")
    facts = registration_facts(transform)
    if facts is not None and facts["drive"] in _CIRCULAR:
        text = "section and MRI were matched by what they show, which raises the correlation between them"
        warnings.append(f"{path.name}: {text}; register again by the outlines")
    return tuple(warnings)


def registration_facts(transform: Transform) -> dict[str, Any] | None:
    """Return how a transform was found and judged, None if it records no registration.

    Of a chain the verdict is the worst, and the expected errors are added in quadrature. The keys are ``verdict``,
    ``reasons``, ``drive`` (outline, landmarks, ..), ``expected_error_mm``, ``expected_error_range_mm``, ``slice`` and
    ``open``, how many other orientations and slices may be the right one.
    """
    found = list(_judged(transform.record))
    if not found:
        return None
    quality = [record.get("QualityControl") or {} for _, record in found]
    verdicts = [each.get("verdict") for each in quality]
    worst = next((verdict for verdict in ("failed", "check", "good") if verdict in verdicts), None)
    errors = [each["expected_error_mm"] for each in quality if each.get("expected_error_mm") is not None]
    between = [each["expected_error_range_mm"] for each in quality if each.get("expected_error_range_mm")]
    reasons = [text for each in quality for text in each.get("reasons", ())]
    facts: dict[str, Any] = {"verdict": worst, "reasons": reasons}
    facts["drive"] = " and ".join(dict.fromkeys(drive for drive, _ in found if drive)) or None
    facts["expected_error_mm"] = float(np.hypot.reduce(errors)) if errors else None
    complete = between and len(between) == len(errors)
    facts["expected_error_range_mm"] = np.hypot.reduce(np.array(between), axis=0).tolist() if complete else None
    facts["slice"] = slice_found(transform.info)
    facts["open"] = sum(int(each.get(name) or 0) for each in quality for name in ("open_orientations", "open_slices"))
    asked = any("another orientation" in text or "which of these" in text for text in reasons)
    return {**facts, "open": facts["open"] or int(asked)}


def inverted(info: Info) -> dict[str, Any]:
    """Return the record of the inverse: the images exchanged, and the record that it is the inverse of."""
    if isinstance(info.get(_INVERSE), Mapping):
        return dict(info[_INVERSE])
    return {**_between(info.get("Fixed"), info.get("Moving")), _INVERSE: dict(info)} if info else {}


def chained(first: Info, second: Info) -> dict[str, Any]:
    """Return the record of one transform after another: where the first starts, where the second ends, and both."""
    links = [*_links(first), *_links(second)]
    return {**_between(first.get("Moving"), second.get("Fixed")), _CHAIN: links} if links else {}


def registrations(info: Info) -> Iterator[Info]:
    """Give what is recorded of every registration that a transform, its inverse or its chain was made by."""
    return (record for _, record in _judged(info))


def _judged(info: Info) -> Iterator[tuple[str | None, Info]]:
    """Give by what every registration was driven, and its record."""
    if isinstance(found := info.get("Registration"), Mapping):
        settings = info.get("Parameters")
        yield (settings.get("Drive") if isinstance(settings, Mapping) else None), found
    for other in [info.get(_INVERSE), *(info.get(_CHAIN) or ())]:
        if isinstance(other, Mapping):
            yield from _judged(other)


def slice_found(info: Info) -> int | None:
    """Return the slice of the fixed image that was registered, of a chain the last one; None if it is not known."""
    if links := info.get(_CHAIN):
        return slice_found(links[-1])
    found = info.get("Registration")
    return found.get("Slice") if isinstance(found, Mapping) else None


def _between(moving: Any, fixed: Any) -> dict[str, Any]:
    return {name: side for name, side in (("Moving", moving), ("Fixed", fixed)) if side}


def _links(info: Info) -> list[dict[str, Any]]:
    return list(info[_CHAIN]) if _CHAIN in info else [dict(info)] if info else []
