"""What is checked before the long walks of an in-silico study: protocols, fits, and the number of walkers."""

from dataclasses import dataclass
from itertools import product

from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import get_preset
from histomri.fitting import get_model
from histomri.fitting.choices import choose_measurements
from histomri.simulation.walker.plan import make_plan
from histomri.simulation.walker.reuse import pilot_error, require_walkers
from histomri.simulation.walker.substrates import Lattice
from histomri.simulation.walker.walk import Water

from .design import Design, Scan, walked_together
from .walks import Walking


@dataclass(frozen=True)
class Fits:
    """The fits that protocols have too few measurements for, and the warnings that say so."""

    left_out: frozenset[tuple[str, str, str]]
    warnings: tuple[str, ...]


def check_gradients(scans: tuple[Scan, ...]) -> None:
    """Raise InputError if a protocol has no timing to walk through."""
    for scan in scans:
        try:
            make_plan([scan.acquisition], echoes=False)
        except InputError as error:
            raise InputError(f"{scan.name}: {error.problem}", hint=error.hint) from error


def check_variation(design: Design) -> None:
    """Raise InputError if sizes or fractions do not vary, so that nothing correlates with them."""
    for name, option in (("diameters_um", "--diameters-um"), ("fractions", "--fractions")):
        if len(getattr(design, name)) < 2:
            raise InputError(f"one value in {option} leaves nothing to correlate with", hint="give two or more")


def choose_fits(scans: tuple[Scan, ...], models: tuple[str, ...], strategies: tuple[str, ...]) -> Fits:
    """Return which fits have to be left out; InputError if a protocol has too few measurements for all of them."""
    left_out, warnings = set[tuple[str, str, str]](), list[str]()
    for scan in scans:
        lacks = {(strategy, model): _lack(scan, strategy, model) for strategy, model in product(strategies, models)}
        errors = {fit: error for fit, error in lacks.items() if error is not None}
        if len(errors) == len(lacks):
            raise next(iter(errors.values()))
        for (strategy, model), error in errors.items():
            left_out.add((scan.name, strategy, model))
            name = get_model(model).display_name
            problem = error.problem.removeprefix(f"{scan.name}: ")
            warnings.append(f"{scan.name}: {name} is not fitted on {strategy}: {problem}")
    return Fits(frozenset(left_out), tuple(warnings))


def _lack(scan: Scan, strategy: str, model: str) -> ProtocolError | None:
    about = get_model(model)
    threshold = float(get_preset(scan.preset).bmin_smm2[strategy])
    try:
        choose_measurements(scan.acquisition, threshold, len(about.parameters), about.display_name)
    except ProtocolError as error:
        hint = "name another model (--model), or the preset of the scan (--bounds-of)"
        return ProtocolError(f"{scan.name}: {error.problem}", hint=hint)
    return None


def check_walkers(
    design: Design, scans: tuple[Scan, ...], walking: Walking, wanted: float, jobs: int | None = None
) -> float:
    """Return the largest standard error to expect of a signal; InputError if more is asked of the walkers.

    A pilot of 1000 walkers goes through the tissues at the corners of the design, of which one has the largest error;
    the error falls with the root of the number of walkers.
    """
    largest = max(
        pilot_error(
            Lattice(diameter, fraction), [scan.acquisition for scan in group], Water(inside, outside),
            design.permeabilities_um_s, seed=walking.seed, fine=walking.fine, jobs=jobs,
        )
        for group in walked_together(scans)
        for fraction, diameter, inside, outside in _corners(design, group[0])
    )  # fmt: skip
    return require_walkers(largest, walking.walkers, wanted)


def _corners(design: Design, scan: Scan) -> list[tuple[float, ...]]:
    tissues = design.tissues(scan.bounds)
    return list(product(*({float(tissues[name].min()), float(tissues[name].max())} for name in tissues)))
