"""Errors by what is stated about a section: each fact is changed by its tolerance, and everything is fitted again.

They are common to all patches of a slide, so they stay out of the weights of patches.
"""

from dataclasses import dataclass, replace

import numpy as np

from histomri.core.errors import InputError

from .routes import QUANTITIES, Found, Profiles, Settings, follow_route

_MOST_PROFILES = 40_000  # for refits: differences need no more


@dataclass(frozen=True)
class Tolerances:
    """How far off what is stated may be."""

    thickness_um: float = 0.8
    shrinkage: float = 0.04
    limit: float = 0.25  # relative
    cell_fraction: float = 0.1
    scatter: tuple[float, float] = (0.0, 0.2)


def systematic_errors(
    profiles: Profiles, settings: Settings, found: Found, tolerances: Tolerances
) -> tuple[dict[str, float], list[str]]:
    """Return the relative error of each quantity, and what could not be tried.

    Of a change either way the larger effect counts; the effects of different facts and the floor of the model are
    added in quadrature.
    """
    squares = {name: _floor(name, settings, found) ** 2 for name in found.products}
    said: list[str] = []
    if len(profiles) > _MOST_PROFILES:
        some = np.random.default_rng(settings.seed).choice(len(profiles), _MOST_PROFILES, replace=False)
        profiles = profiles.take(np.sort(some))
        settings = replace(settings, mask_coverage=found.coverage)
        found = follow_route(profiles, settings)
    for what, changed in _changes(settings, tolerances).items():
        most = dict.fromkeys(squares, 0.0)
        for other in changed:
            try:
                moved = follow_route(profiles, other)
            except InputError as error:
                said.append(f"the error by the {what} is not complete: {error.problem}")
                continue
            for name in most:
                effect = abs(float(np.log(moved.products[name].value / found.products[name].value)))
                most[name] = max(most[name], effect)
        for name, effect in most.items():
            squares[name] += effect**2
    for name, effect in _known_exactly(settings, tolerances, found).items():
        squares[name] += effect
    return {name: float(np.sqrt(square)) for name, square in squares.items()}, said


def _floor(name: str, settings: Settings, found: Found) -> float:
    floor = 0.01 if name == "vCS" and settings.kind == "E" else QUANTITIES[name].floor
    limit_effect = found.unfolded.limit_effect if name in ("nucleiNV", "cellNV") else 0.0
    if name in ("Dvol", "vCSvol") and settings.kind in ("N", "R"):
        limit_effect = found.unfolded.limit_effect / 3.0
    return float(np.hypot(floor, limit_effect))


def _changes(settings: Settings, tolerances: Tolerances) -> dict[str, list[Settings]]:
    """Return the settings for refits; what the smallest limit is unknown to is not changed."""
    thickness, changes = settings.thickness_um, {}
    if tolerances.thickness_um > 0:
        others = {thickness + tolerances.thickness_um, max(thickness - tolerances.thickness_um, 0.0)} - {thickness}
        changes["thickness"] = [replace(settings, thickness_um=other) for other in sorted(others)]
    if tolerances.limit > 0 and settings.smallest_um2:
        limit = settings.smallest_um2
        others = {limit * (1.0 - tolerances.limit), limit * (1.0 + tolerances.limit)}
        changes["limit"] = [replace(settings, smallest_um2=other) for other in sorted(others)]
    return changes


def _known_exactly(settings: Settings, tolerances: Tolerances, found: Found) -> dict[str, float]:
    """Return the squares of the effects that need no refit: of shrinkage, and of the cell fraction and the scatter."""
    squares = {}
    for name in found.products:
        p, step = settings.shrinkage, tolerances.shrinkage
        ratio = max(abs(np.log((1.0 - p) / (1.0 - other))) for other in (p + step, max(p - step, 0.0)))
        square = (QUANTITIES[name].length_power * float(ratio)) ** 2
        if name in ("Dvol", "vCSvol") and settings.cell_fraction is not None and settings.kind in ("N", "R"):
            square += _effect_of_fraction(settings.cell_fraction, tolerances.cell_fraction) ** 2
        if name == "vCSvol":
            own, ends = np.log1p(settings.scatter**2), (np.log1p(end**2) for end in tolerances.scatter)
            square += max(3.5 * abs(float(own - end)) for end in ends) ** 2
        squares[name] = square
    return squares


def _effect_of_fraction(fraction: float, step: float) -> float:
    ends = (min(fraction + step, 1.0), max(fraction - step, 0.01))
    return max(abs(float(np.log(end / fraction))) for end in ends) / 3.0
