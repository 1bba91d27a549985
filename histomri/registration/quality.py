"""What a registration reports about itself: candidates, confidence, verdict, and numbers that need no truth."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import GeometryError
from histomri.core.images import Image
from histomri.registration.prepare import plane_found, tissue_of
from histomri.registration.transform import Transform

Verdict = Literal["good", "check", "failed"]

GOOD_AGREEMENT, LEAST_AGREEMENT = 0.57, 0.40
STRAIN_COST = 0.2
"""What stretching and bending take off the agreement, per unit of the logarithm: a wrong match has to be forced."""
LARGEST_EXCLUDED, LARGEST_STRETCH = 0.015, 0.12
LARGEST_ERROR_PX = 0.70
"""Expected error in pixels of the MRI; of 340 hard synthetic pairs, 4 of the 6 that ended two pixels off had more."""
CLEAR_SLICE_MARGIN, CLEAR_SLICE_PIXELS, LARGEST_SLIP_PX = 0.04, 1500, 2.0
"""A slice further away than this many pixels must be behind the best: by this margin where so many pixels lie along the
outlines, and by more where they are fewer, in proportion to the root of their number."""
_BINS, _LEAST_SHARED = 12, 50


@dataclass(frozen=True)
class Candidate:
    """One orientation that was tried.

    `slice` is None for a 2D image; `angle_deg` turns the section counter-clockwise as seen from the positive side of
    the plane's normal; `size` is relative to the MRI; `agreement` is that of the outlines, 0 to 1, robust; `overlap`
    the Dice coefficient of the filled masks at the start, on which no verdict rests; `tilt_deg` out of the slice about
    its axes.
    """

    slice: int | None
    angle_deg: float
    turned_over: bool
    size: float
    agreement: float
    overlap: float
    tilt_deg: tuple[float, float] = (0.0, 0.0)


def orientation_name(candidate: Candidate) -> str:
    """Name an orientation, as in "90°, turned over"."""
    return f"{candidate.angle_deg:.0f}° {'turned over' if candidate.turned_over else 'as it lies'}"


@dataclass(frozen=True, eq=False)
class Alternative:
    """Another place where the section may lie.

    It is another ``"orientation"`` or ``"slice"``, or what is found if tissue is taken to be missing along one side
    (``"missing side"``). `behind` is how much less the outlines agree; `is_open`, whether it may be the right one.
    """

    kind: Literal["orientation", "slice", "missing side"]
    candidate: Candidate
    transform: Transform
    behind: float
    is_open: bool

    @property
    def title(self) -> str:
        """Two lines for the picture of it."""
        if self.kind == "missing side":
            return "without the side that\nmay lack tissue"
        where = f"slice {self.candidate.slice}" if self.kind == "slice" else orientation_name(self.candidate)
        return f"{where}\n{self.behind:.3f} behind{', may be right' if self.is_open else ''}"


@dataclass(frozen=True, eq=False, repr=False)
class Registration(Transform):
    """A Transform that knows how it was found.

    `candidates` are the orientations tried, those on the slice that was found first, then best first; `confidence` is
    the agreement of the best minus that of the best distinct orientation on the same slice (other side, or turned by 25
    degrees or more), 1 if there was none; `qc` has the ``verdict`` ("good", "check" or "failed"), ``reasons`` for it,
    and the numbers it rests on; `slice` of the fixed image was matched, None for a 2D image; `alternatives` are the
    other orientations and slices with their transforms, those that may be right first; `uncertainty`, if it is known,
    is what transforms can be drawn from.
    """

    candidates: tuple[Candidate, ...] = ()
    confidence: float = 0.0
    qc: Mapping[str, Any] = field(default_factory=dict)
    slice: int | None = None
    alternatives: tuple[Alternative, ...] = ()

    @property
    def transform(self) -> Transform:
        """The plain transform, with the record of the registration in its info."""
        return Transform(self.matrix, self.displacements, self.record, uncertainty=self.uncertainty)

    def instead(self, other: Alternative) -> "Registration":
        """Return an alternative as if it had been taken: by a person, who knows more than the outlines."""
        reason = f"taken by hand: {' '.join(other.title.split())}"
        where, there = other.candidate, other.transform
        qc = {**self.qc, "verdict": "check", "reasons": [reason], "angle_deg": where.angle_deg, "size": where.size}
        qc |= {"turned_over": where.turned_over, "tilt_deg": list(where.tilt_deg)}
        plain = replace(self, qc=qc, slice=where.slice, alternatives=(), uncertainty=None)
        return replace(plain, matrix=there.matrix, displacements=there.displacements)

    @property
    def is_open(self) -> bool:
        """Whether one of the alternatives may be right instead."""
        return any(each.is_open for each in self.alternatives)

    @property
    def record(self) -> Mapping[str, Any]:
        """What is kept of `info`, and of how the transform was found, when it is saved, turned round or chained."""
        found: dict[str, Any] = {"Slice": self.slice, "Confidence": self.confidence, "QualityControl": dict(self.qc)}
        found["Candidates"] = [asdict(candidate) for candidate in self.candidates]
        return {**self.info, "Registration": found}

    @property
    def verdict(self) -> Verdict:
        """Whether the result can be used as it is, must be looked at, or is wrong."""
        return cast(Verdict, self.qc["verdict"])

    def facts(self) -> dict[str, Any]:
        """Return the main facts."""
        where = {} if self.slice is None else {"slice": self.slice}
        shown = {"angle": f"{self.qc['angle_deg']:.1f}°", "turned over": self.qc["turned_over"]} if self.qc else {}
        return {"verdict": self.qc.get("verdict"), **where, **shown, **super().facts()}


def judge(
    agreement: float, *, at_bound: bool, stretch: float = 0.0, strain: float = 0.0, excluded: float = 0.0,
    error_px: float = 0.0, objections: Sequence[str] = (),
) -> tuple[Verdict, list[str]]:  # fmt: skip
    """Return the verdict and the reasons for anything but "good".

    The limits were set on synthetic pairs, right and wrong ones, other than those of the benchmark.
    `stretch` is how much longer the section became along one direction than on
    average, as a logarithm, `strain` that and how much the area changed where it changed most, `excluded` by how much
    an orientation that the user excluded fits better, and `error_px` the error to be expected from how firmly the
    outlines hold the section, in pixels of the MRI. `objections` are further reasons, such as another
    orientation or slice that may be the right one.
    """
    reasons, cost = [], STRAIN_COST * strain
    if agreement - cost < GOOD_AGREEMENT:
        less = f", less {cost:.3f} for how much was stretched and deformed" if cost > 0.0005 else ""
        reasons.append(f"the outlines agree poorly ({agreement:.3f}{less}; good is {GOOD_AGREEMENT:.2f} or more)")
    reasons += objections
    if error_px > LARGEST_ERROR_PX:
        loosely = f"an error of about {error_px:.2f} pixels is to be expected (good is {LARGEST_ERROR_PX:.2f} or less)"
        reasons.append(f"the outlines hold the section loosely: {loosely}; landmarks would hold it")
    if excluded > LARGEST_EXCLUDED:
        reasons.append(f"an orientation that was excluded fits better (by {excluded:.2f}): check side and angle")
    if at_bound:
        reasons.append("the size of the section is at the edge of what the shrinkage allows: check the pixel sizes")
    if stretch > LARGEST_STRETCH:
        reasons.append(f"the section had to be stretched by {100 * stretch:.0f} % in one direction to fit")
    if agreement - cost < LEAST_AGREEMENT:
        return "failed", reasons
    return ("check", reasons) if reasons else ("good", [])


def assess(
    transform: Transform, moving: Image, fixed: Image, *, moving_mask: Image | None = None,
    fixed_mask: Image | None = None, slice: int | None = None, tilt_deg: Sequence[float] = (0.0, 0.0),
) -> dict[str, Any]:  # fmt: skip
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
    own = Transform.identity().resample(other, flat).data > 0.5
    there = np.nan_to_num(transform.resample(section, flat).data) > 0.5
    total = int(own.sum() + there.sum())
    found: dict[str, Any] = {"dice": float(2 * (own & there).sum() / total) if total else 0.0}
    before = Transform.shift(_points(other).mean(axis=0) - _points(section).mean(axis=0))
    for name, each in (("nmi_before", before), ("nmi_after", transform)):
        found[name] = normalised_mutual_information(each.resample(moving, flat).data, flat.data)
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
