"""Profiles of one section to numbers in three dimensions, each with two errors and, where it is missing, the reason."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.patches.grid import PatchGrid
from histomri.patches.tissue import Extent

from .blocks import Blocks, PatchSums
from .guards import check_arrays, check_numbers, refuse_rim
from .routes import KINDS, QUANTITIES, Found, Kind, Profiles, Settings, follow_route, names_of
from .systematic import Tolerances, systematic_errors
from .uncertainty import PatchValues, SamplingError, influence, map_quantity, sampling_error
from .unfold import LEAST_PROFILES

CELL_LIMIT_UM2, NUCLEUS_LIMIT_UM2 = 20.0, 10.0
_NO_PLACES = "the positions of the cells, or the field that was looked at, are not known"


@dataclass(frozen=True)
class Estimate:
    """One result in fresh tissue, with its two errors."""

    value: float
    unit: str
    stat: float = float("nan")  # standard error by which cells were met
    freedom: int = 0  # of `stat`
    low: float = float("nan")  # 95 % interval by `stat` alone
    high: float = float("nan")
    syst: float = float("nan")  # error by what was stated about the section, and of the model
    upper: float | None = None  # the other end, where masks leave only an interval from `value` to here
    reason: str | None = None  # why a number is missing

    @property
    def total(self) -> float:
        """Both errors in quadrature."""
        return float(np.hypot(self.stat, self.syst))


@dataclass(frozen=True)
class Stereology:
    """What one section shows of cells in three dimensions.

    `settings` holds all that a sidecar needs: kind, thickness, limit, shrinkage, assumed cell fraction, chi2, share of
    invisible balls, coverage.
    """

    kind: Kind
    estimates: Mapping[str, Estimate]
    flags: tuple[str, ...]
    settings: Mapping[str, Any]
    found: Found | None = field(default=None, repr=False)
    profiles: Profiles | None = field(default=None, repr=False)
    _sums: dict[PatchGrid, PatchSums] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def patches(self, name: str, grid: PatchGrid, fraction: FloatArray | None = None) -> PatchValues:
        """Return a quantity in the patches of a grid, flat, row by row; `fraction` is the share looked at.

        Raises
        ------
        InputError
            If there are no positions, or the quantity has no value in patches.
        """
        found, profiles = self.found, self.profiles
        if found is None or profiles is None or profiles.x_um is None or profiles.y_um is None:
            raise InputError("a map needs the positions of the cells", hint="pass x_um and y_um")
        if name not in found.products or not found.products[name].powers:
            known = ", ".join(key for key, product in found.products.items() if product.powers)
            raise InputError(f"outlines of kind {self.kind} give no map of {name}", hint=f"take one of {known}")
        if grid.window_um != grid.patch_um:
            raise InputError("patches of stereology cannot overlap", hint="take a step as large as a patch")
        if grid not in self._sums:
            self._sums[grid] = PatchSums(found.sums, profiles.x_um, profiles.y_um, grid)
        return map_quantity(found, name, self._sums[grid], field_um2=self.settings["Field_um2"], fraction=fraction)


def measure(
    profiles: Profiles, *, kind: Kind, thickness_um: float | None, smallest_um2: float | None = None,
    shrinkage: float = 0.0, field_um2: float, cell_fraction: float | None = None, scatter: float = 0.1,
    tolerances: Tolerances | None = None, extent: Extent | None = None, mask_coverage: float | None = None,
    overlap: float = 0.0, offset_noise_um2: float = 0.0, seed: int = 0,
) -> Stereology:  # fmt: skip
    """Measure cells and nuclei in three dimensions from their profiles in one section.

    Parameters
    ----------
    profiles : Profiles
        Areas (µm²) as measured on the slide, and positions (µm).
    kind : {"N", "R", "M", "E"}
        What the outlines are: nuclei only; a nucleus with a rim of fixed width (QuPath's cell detection); the cell,
        where its nucleus is seen; every cell.
    thickness_um : float
        Thickness of the section as cut, µm; 0 for an optical plane. There is no default.
    smallest_um2 : float, optional
        Smallest area of a nucleus (kind E: of a cell) that the detection keeps. None if there is no such limit.
    shrinkage : float
        Linear shrinkage of the tissue, 0 to below 0.9; undone at the end. Cells and gaps are taken to shrink alike.
    field_um2 : float
        Area that was looked at, on the slide.
    cell_fraction : float, optional
        Share of the volume of the tissue that is cells; needed for the volume per cell with kinds N and R.
    scatter : float
        Relative scatter of the ratio of nucleus and cell diameters between cells, for vCSvol.
    tolerances : Tolerances, optional
        How far off the above may be.
    extent : Extent, optional
        Where cells could have been found; needed for errors of sampling.
    mask_coverage : float, optional
        Share of the field under masks of all cells, those without a nucleus included; for kinds M and E. Without it,
        kind M estimates it from F, the sizes and the thickness, as cells without a nucleus in the section have no mask.
    overlap : float
        Share of a cell that lies under others: above 0.02 outlines are taken as whole projections, not as masks.
    offset_noise_um2 : float
        Mean square by which measured middles of nucleus and cell are apart by noise alone.
    seed : int
        Chooses the cells of fits that need not have all.

    Returns
    -------
    Stereology
        Kinds N and R: nucleiNV, nucD, nucCV, and with `cell_fraction` Dvol and vCSvol; R also rimSize and
        rimFraction. Kind M: nucleiNV, nucD, nucCV, vCS, Dvol, F. Kind E: cellNV, vCS, F.

    Raises
    ------
    InputError
        If a fact that is needed is missing or not possible, or the outlines are not what `kind` says.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> d, height = 8.0 * np.exp(0.2 * rng.standard_normal(4000)), 10.0 * rng.random(4000)
    >>> area = np.pi / 4 * (d**2 - 4 * np.maximum(height - 2, 0) ** 2)
    >>> found = measure(Profiles(area[area > 10]), kind="N", thickness_um=4, smallest_um2=10, field_um2=1e6)
    >>> bool(abs(found["nucleiNV"].value / 2e5 - 1) < 0.05)  # 4000 in 1e6 x 20 µm³, per mm³
    True
    >>> sorted(found.estimates)
    ['nucCV', 'nucD', 'nucleiNV']
    """
    if kind not in KINDS:
        raise InputError(f"{kind!r} is no kind of outline", hint="say N, R, M or E")
    check_arrays(profiles, kind)
    settings = Settings(
        kind, check_numbers(thickness_um, shrinkage, field_um2, cell_fraction, scatter), smallest_um2, float(field_um2),
        shrinkage, cell_fraction, scatter, mask_coverage, offset_noise_um2, overlap, seed,
    )  # fmt: skip
    areas = np.asarray(profiles.cell_um2 if kind == "E" else profiles.nucleus_um2, dtype=float)
    many = int((areas >= (smallest_um2 or 0.0)).sum())
    if many < LEAST_PROFILES:
        return _nothing(settings, f"{many} profiles are too few, {LEAST_PROFILES} are needed")
    if kind == "M":
        refuse_rim(profiles)
    found = follow_route(profiles, settings)
    limits = tolerances or Tolerances()
    syst, said = systematic_errors(profiles, settings, found, limits)
    estimates, uncertain, sampling = {}, [], _sampling(found, profiles, extent)
    for name in found.products:
        error, reason = sampling[name]
        estimates[name] = _estimate(found, name, error, syst[name], reason)
        uncertain += [name] if error is not None and error.few_zones else []
    if uncertain:
        said.append("the field holds too few zones for intervals of some numbers in 3D (FewZones in the sidecars)")
    said += _not_given(settings)
    facts = _facts(settings, limits, found, many) | {"FewZones": uncertain}
    return Stereology(kind, estimates, (*found.flags, *said), facts, found, profiles)


def _sampling(
    found: Found, profiles: Profiles, extent: Extent | None
) -> dict[str, tuple[SamplingError | None, str | None]]:
    """Return the error of each result by sampling, or the reason why it has none."""
    if extent is None or profiles.x_um is None or profiles.y_um is None:
        return dict.fromkeys(found.products, (None, _NO_PLACES))
    places, errors = Blocks(profiles.x_um, profiles.y_um, extent), {}
    for name, product in found.products.items():
        part = influence(found, product, name)
        error = None if part is None else sampling_error(places, part)
        why = None
        if error is None:
            why = "two populations: the sizes have no simple error"
        elif not np.isfinite(error.relative):
            error, why = None, "the region is too small to be cut into blocks"
        errors[name] = error, why
    return errors


def _estimate(found: Found, name: str, error: SamplingError | None, syst: float, reason: str | None) -> Estimate:
    value, unit = found.products[name].value, QUANTITIES[name].unit
    if error is None:
        return Estimate(value, unit, syst=abs(value) * syst, upper=found.upper.get(name), reason=reason)
    half = value * error.half_width
    return Estimate(
        value, unit, value * error.relative, error.freedom, value - half, value + half, value * syst,
        found.upper.get(name), reason,
    )  # fmt: skip


def _nothing(settings: Settings, reason: str) -> Stereology:
    chosen = names_of(settings.kind, settings.cell_fraction is not None)
    estimates = {name: Estimate(float("nan"), QUANTITIES[name].unit, reason=reason) for name in chosen}
    facts = {"Kind": settings.kind, "Thickness_um": settings.thickness_um, "Smallest_um2": settings.smallest_um2,
             "Shrinkage": settings.shrinkage, "Field_um2": settings.field_um2}  # fmt: skip
    return Stereology(settings.kind, estimates, (reason,), facts)


def _not_given(settings: Settings) -> list[str]:
    if settings.kind in ("N", "R") and settings.cell_fraction is None:
        return ["no cell fraction was given, so there is no volume per cell (Dvol)"]
    return []


def _facts(settings: Settings, tolerances: Tolerances, found: Found, many: int) -> dict[str, Any]:
    unfolded = found.unfolded
    volume = settings.kind in ("N", "R")
    return {
        "Kind": settings.kind,
        "Thickness_um": settings.thickness_um,
        "Smallest_um2": settings.smallest_um2,
        "SmallestUsed_um2": unfolded.limit_um2,
        "Shrinkage": settings.shrinkage,
        "Field_um2": settings.field_um2,
        "F_assumed": settings.cell_fraction if volume else None,
        "F_assumed_error": tolerances.cell_fraction if volume and settings.cell_fraction is not None else None,
        "Scatter": settings.scatter if volume else None,
        "ThicknessError_um": tolerances.thickness_um,
        "ShrinkageError": tolerances.shrinkage,
        "LimitError": tolerances.limit,
        "Profiles": many,
        "ProfilesUsed": int(unfolded.counts.sum()),
        "Chi2": unfolded.chi2,
        "Chi2At10000": unfolded.misfit,
        "Distribution": "expectation maximisation" if unfolded.mixed else "lognormal",
        "Invisible": unfolded.invisible,
        "MaskCoverage": found.coverage,
        "MaskCoverageFrom": found.coverage_from,
        "MaskOverlap": settings.overlap if settings.kind in ("M", "E") else None,
        "NucleusOffset_um": found.offset_um,
        "CentroidNoise_um": float(np.sqrt(settings.offset_noise_um2)) if found.offset_um is not None else None,
    }
