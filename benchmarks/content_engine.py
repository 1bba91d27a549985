"""An engine that also matches content: what the maps of the section explain of the MRI, fitted again at every step.

It is no part of histomri: a registration that improves the fit between two images makes part of the correlation that is
found between them afterwards. The benchmarks measure how much (``bench_registration.py --drive both --null``).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import numpy as np

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError
from histomri.core.images import Image
from histomri.registration.options import ENGINES, SEARCH_OPTIONS, Engine
from histomri.registration.outline_engine import OutlineEngine
from histomri.registration.planes import Plane
from histomri.registration.prepare import Target, build_problem
from histomri.registration.refine import HasPoints, Problem, Pull

_BLUR = 0.7
_MOST_MAPS = 5
_PIXELS_PER_COLUMN = 4
_ROBUST = 2.5
_WEIGHT, _SCORE_WEIGHT = 0.5, 0.5


@dataclass(frozen=True, eq=False)
class Fit:
    """A regression of the MRI on the maps under one alignment.

    Attributes
    ----------
    rows : (M,) ndarray of int
        The points that have both.
    residual : (M,) ndarray
        What is not explained, in units of its robust spread.
    slope : (2, M) ndarray
        Its derivative by the position in the moving plane, per mm.
    share : float
        Share of the variance left by a smooth trend over the slice that the maps explain (partial R²), 0 to 1.
    """

    rows: IntArray
    residual: FloatArray
    slope: FloatArray
    share: float


@dataclass(frozen=True, eq=False)
class Content:
    """The MRI at the points of a registration, and the maps that may explain it.

    Attributes
    ----------
    maps : (C, A, B) ndarray
        Maps of the section on its pixel grid, spread 1, gaps filled from around them.
    known : (A, B) ndarray of bool
        Where the maps are known.
    plane : Plane
        The pixel grid.
    values : (N,) ndarray
        MRI at the points; NaN outside the tissue.
    places : (N, 2) ndarray
        The points, scaled to about -1 to 1.
    """

    maps: FloatArray
    known: BoolArray
    plane: Plane
    values: FloatArray
    places: FloatArray

    @classmethod
    def of(
        cls, maps: Sequence[Image], planes: tuple[Plane, Plane], fixed: Image, inside: BoolArray, points: FloatArray
    ) -> "Content":
        """Prepare maps on one grid in the moving plane and an MRI slice whose pixels are `points`.

        Raises
        ------
        InputError
            If the maps differ in grid, are constant, or too many.
        """
        if not maps or len(maps) > _MOST_MAPS:
            raise InputError(f"content can be matched with 1 to {_MOST_MAPS} maps, not {len(maps)}")
        if any(
            image.data.shape != maps[0].data.shape or not np.allclose(image.affine, maps[0].affine) for image in maps
        ):
            raise InputError("the maps whose content is matched lie on different grids")
        plane = planes[0].holding(maps[0], "map")
        known = np.all([np.isfinite(image.data) for image in maps], axis=0)
        if known.sum() < _PIXELS_PER_COLUMN * _columns(len(maps)):
            raise InputError("the maps whose content is matched are known in too few pixels")
        filled = np.stack([_spread_out(np.asarray(image.data, dtype=float), known) for image in maps])
        spread = filled[:, known].std(axis=1)
        if np.any(spread < 1e-9 * (1e-9 + np.abs(filled[:, known]).max(axis=1))):
            raise InputError("a map whose content is to be matched is constant")
        filled = (filled - filled[:, known].mean(axis=1)[:, None, None]) / spread[:, None, None]
        tissue = inside & np.isfinite(fixed.data)
        signal = np.where(tissue, _spread_out(np.asarray(fixed.data, dtype=float), tissue), np.nan)
        middle, half = points[tissue.ravel()].mean(axis=0), np.ptp(points[tissue.ravel()], axis=0).max() / 2
        return cls(filled, known, plane, signal.ravel(), (points - middle) / half)

    def __getitem__(self, rows: BoolArray) -> "Content":
        """Return the same for some of the points."""
        return replace(self, values=self.values[rows], places=self.places[rows])

    def padded(self, points: FloatArray) -> "Content":
        """Return the same with points added, (K, 2), at which the MRI is not known."""
        count = len(points)
        values = np.concatenate([self.values, np.full(count, np.nan)])
        return replace(self, values=values, places=np.concatenate([self.places, np.zeros((count, 2))]))

    @property
    def present(self) -> BoolArray:
        """Points that have an MRI value."""
        return np.isfinite(self.values)

    def fit(self, mapped: FloatArray) -> Fit | None:
        """Explain the MRI by a quadratic of the maps and of the place, with the points at `mapped`, (N, 2).

        Returns
        -------
        Fit or None
            None if too few points have both.
        """
        index = (mapped - self.plane.grid[:2, 2]) @ np.linalg.inv(self.plane.grid[:2, :2]).T
        near = np.rint(index).astype(np.intp)
        last = np.array(self.known.shape) - 1
        within = np.all((index >= 0) & (index <= last), axis=1) & self.present
        rows = np.flatnonzero(within)
        rows = rows[self.known[near[rows, 0], near[rows, 1]]]
        if len(rows) < _PIXELS_PER_COLUMN * _columns(len(self.maps)):
            return None
        maps, slopes = _bilinear(self.maps, index[rows])
        trend, signal = _trend(self.places[rows]), self.values[rows]
        pairs = [(a, b) for a in range(len(maps)) for b in range(a, len(maps))]
        design = np.column_stack([trend, *maps, *(maps[a] * maps[b] for a, b in pairs)])
        weights = _solve(design, signal)
        residual = signal - design @ weights
        before = signal - trend @ _solve(trend, signal)
        share = 1 - float(residual @ residual) / max(float(before @ before), 1e-300)
        linear = weights[trend.shape[1] : trend.shape[1] + len(maps)]
        by_map = np.repeat(linear[:, None], len(rows), axis=1)
        for (a, b), weight in zip(pairs, weights[trend.shape[1] + len(maps) :], strict=True):
            by_map[a] += weight * maps[b]
            by_map[b] += weight * maps[a]
        spread = max(1.4826 * float(np.median(np.abs(residual))), 1e-12)
        slope = -np.einsum("cn,cnd->nd", by_map, slopes) @ np.linalg.inv(self.plane.grid[:2, :2])
        return Fit(rows, residual / spread, slope.T / spread, max(share, 0.0))


def robust_weight(residual: FloatArray) -> FloatArray:
    """Return the weight of Geman and McClure for residuals in units of their spread."""
    return np.asarray(1 / (1 + (residual / _ROBUST) ** 2) ** 2)


def _columns(maps: int) -> int:
    return 6 + maps + maps * (maps + 1) // 2


def _solve(design: FloatArray, signal: FloatArray) -> FloatArray:
    normal = design.T @ design
    normal += 1e-9 * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.asarray(np.linalg.solve(normal, design.T @ signal))


def _trend(places: FloatArray) -> FloatArray:
    """Quadratic in the place: the coil's sensitivity must not be mistaken for content."""
    p, q = places.T
    return np.column_stack([np.ones_like(p), p, q, p * p, p * q, q * q])


def _spread_out(values: FloatArray, known: BoolArray) -> FloatArray:
    """Blur lightly among the known pixels, and continue the values into the gaps."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    weight = gaussian_filter(known.astype(float), _BLUR)
    smooth = gaussian_filter(np.where(known, values, 0.0), _BLUR) / np.maximum(weight, 1e-12)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(smooth[tuple(nearest)])


def _bilinear(fields: FloatArray, index: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return values (C, N) and derivatives by the index (C, N, 2) of fields (C, A, B)."""
    corner = np.minimum(index.astype(np.intp), np.array(fields.shape[1:]) - 2)
    u, v = (index - corner).T
    i, j = corner.T
    v00, v01, v10, v11 = fields[:, i, j], fields[:, i, j + 1], fields[:, i + 1, j], fields[:, i + 1, j + 1]
    low, high = v00 + (v10 - v00) * u, v01 + (v11 - v01) * u
    along = (v10 - v00) * (1 - v) + (v11 - v01) * v
    return low + (high - low) * v, np.stack([along, high - low], axis=-1)


@dataclass(frozen=True, eq=False)
class ContentProblem(Problem):
    """Two outlines and the content within them."""

    content: Content | None = None

    def pull(self, mapped: FloatArray, width_mm: float, *, filled: bool) -> Pull:
        """Return the residuals of the outlines, and of the content once the holes are matched too."""
        outline = super().pull(mapped, width_mm, filled=filled)
        fit = None if self.content is None or filled else self.content.fit(mapped)
        if fit is None:
            return outline
        weight = _WEIGHT * robust_weight(fit.residual)
        return Pull.joined([outline, Pull(fit.rows, fit.residual, fit.slope, weight)])

    def score(self, pose: HasPoints) -> float:
        """Return the agreement of the outlines, and half the share that the content explains."""
        fit = None if self.content is None else self.content.fit(pose.points(self.points))
        return self.agreement(pose) + _SCORE_WEIGHT * (fit.share if fit else 0.0)

    def anchored(self, moving: FloatArray, fixed: FloatArray) -> "ContentProblem":
        """Return the problem with landmarks that hold it."""
        content = None if self.content is None else self.content.padded(fixed)
        return replace(self, points=np.concatenate([self.points, fixed]), content=content, anchors=moving)

    @cached_property
    def sparse(self) -> Problem:
        """A third of the pixels near the outline, without content."""
        return replace(self, content=None).sparse if self.content is not None else super().sparse

    @cached_property
    def nearby(self) -> "ContentProblem":
        """The pixels that can pull."""
        if self.content is None:
            return super().nearby
        reach = 10.0 * self.unit_mm
        near = np.minimum(np.abs(self.own), np.abs(self.own_filled)) < reach
        if self.anchors is not None:
            near[len(near) - len(self.anchors) :] = True
        near = near | self.content.present
        return replace(self, points=self.points[near], content=self.content[near])


class ContentEngine(OutlineEngine):
    """Matches outlines and the content of `maps`, which are set before a registration."""

    maps: ClassVar[Sequence[Image]] = ()

    def problem(
        self, moving: Image, section: Image, target: Target, scale: float
    ) -> tuple[Problem, tuple[Plane, Plane]]:
        """Return what is to be matched on one slice."""
        plain, planes = build_problem(moving, section, target, scale)
        points = planes[1].pixels(target.fixed.data.shape)
        inside = (plain.fixed.at(points, filled=False)[0] < 0).reshape(target.fixed.data.shape)
        content = Content.of(self.maps or (moving,), planes, target.fixed, inside, points)
        rows = {tuple(point): n for n, point in enumerate(points)}
        chosen = np.zeros(len(points), bool)
        chosen[[rows[tuple(point)] for point in plain.points]] = True
        parts = (plain.moving, plain.fixed, plain.points, plain.unit_mm, plain.scale)
        return ContentProblem(*parts, content=content[chosen]), planes


ENGINES["content"] = Engine(
    "content", ("similarity", "affine", "bspline"), frozenset(SEARCH_OPTIONS), "content_engine:ContentEngine"
)
