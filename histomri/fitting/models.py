"""The tissue models, each a short declaration that the one engine reads; a new one is an entry in `MODELS`.

The command line, the study file, the pairing and the report learn the models from here. The first five models and their
bounds are those of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2; those with two T2s, and with exchange, are made
of the same compartments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from histomri.core.errors import InputError
from histomri.core.presets import get_preset
from histomri.fitting.compartments import Ball, Compartment, Gone, Sphere, TimedBall

PARAMETERS: tuple[str, ...] = ("fI", "D0I", "vCS", "DEinf", "beta")
"""The parameters of the five models of the paper: units 1, µm²/ms, µm, µm²/ms, µm²."""
USABLE_EXCHANGE_MS = 60.0
"""Diffusion time from which on means over regions determine the permeability."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a model of one's own: name, unit, meaning, bounds, and nodes on the grid of starts."""

    name: str
    unit: str
    description: str
    bounds: tuple[float, float]
    nodes: int = 4


@dataclass(frozen=True)
class Model:
    """A tissue model: compartments of water, side by side or in exchange.

    InputError if compartments name a parameter that the model does not have, or do not go together.

    Attributes
    ----------
    name, display_name : str
        As typed, and as printed.
    parameters : tuple of str
        What is fitted.
    overrides : mapping of str to (float or None, float or None)
        Bounds that differ from the preset's; None keeps the preset's.
    fixed : mapping of str to float
        Values of parameters that it has but does not fit.
    compartments : tuple of Compartment
        By default spheres of fraction fI and, if it has DEinf (and beta), water outside them.
    level : str, optional
        Name of the signal at b = 0 and TE = 0, if that is fitted too: signals are then taken as they are, those at
        b = 0 included, and not divided by anything.
    exchange : str, optional
        Name of the permeability, µm/s, by which the first two compartments exchange water.
    own : tuple of Parameter
        Parameters that presets do not know.
    held, held_in_vivo : tuple of str
        Parameters held at the preset's value: always, or in vivo.
    all_b : bool
        Whether it is fitted to all b (in vivo those at which no blood is left), which is its only strategy.
    roi_in_vivo : bool
        Whether single voxels in vivo are too noisy for it, and means over regions are its level.
    """

    name: str
    display_name: str
    parameters: tuple[str, ...]
    overrides: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    compartments: tuple[Compartment, ...] = ()
    level: str | None = None
    exchange: str | None = None
    own: tuple[Parameter, ...] = ()
    held: tuple[str, ...] = ()
    held_in_vivo: tuple[str, ...] = ()
    all_b: bool = False
    roi_in_vivo: bool = False

    def __post_init__(self) -> None:
        if not self.compartments:
            object.__setattr__(self, "compartments", _usual(self.names))
        needed = {name for each in self.compartments for name in (*each.own, each.fraction, each.t2) if name}
        needed |= {name for name in (self.level, self.exchange) if name}
        if missing := sorted(needed - set(self.names)):
            raise InputError(f"{self.name} has no parameter {', '.join(missing)}, which its compartments need")
        if unused := [name for name in self.names if name not in needed]:
            raise InputError(f"{self.name} has {', '.join(unused)}, and no compartment that it belongs to")
        _check_fractions(self)

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter: first those fitted, then those held."""
        return tuple(dict.fromkeys((*self.parameters, *self.held, *self.fixed)))

    @property
    def extra(self) -> bool:
        """Whether it has a compartment beside the spheres."""
        return len(self.compartments) > 1

    @property
    def needs_te(self) -> bool:
        """Whether it needs echo times."""
        return any(each.t2 for each in self.compartments)

    @cached_property
    def rest(self) -> int:
        """The place of the compartment that has what the others leave, -1 if there is none."""
        return next((i for i, each in enumerate(self.compartments) if each.fraction is None), -1)

    def at(self, preset: str) -> "Model":
        """Return the model as fitted with a preset: parameters that are held there are no longer free."""
        chosen = get_preset(preset)
        held = (*self.held, *(self.held_in_vivo if chosen.in_vivo else ()))
        if not held:
            return self
        fixed = {**self.fixed, **{name: chosen.held[name] for name in held}}
        free = tuple(name for name in self.parameters if name not in held)
        return replace(self, parameters=free, fixed=fixed, held=(), held_in_vivo=())

    def bounds(self, preset: str) -> dict[str, tuple[float, float]]:
        """Return lower and upper bound of each parameter that is fitted."""
        result, own = {}, {each.name: each.bounds for each in self.own}
        for name in self.at(preset).parameters:
            (lower, upper), (low, high) = (
                own.get(name) or _bounds_of(name, preset),
                self.overrides.get(name, (None,) * 2),
            )
            result[name] = (lower if low is None else low, upper if high is None else high)
        return result

    def thresholds(self, preset: str) -> Mapping[str, float]:
        """Return the b threshold, s/mm², by strategy."""
        chosen = get_preset(preset)
        return {"whole": chosen.all_bmin_smm2} if self.all_b else chosen.bmin_smm2


def _usual(names: tuple[str, ...]) -> tuple[Compartment, ...]:
    """Return the compartments that the names of the paper's parameters stand for."""
    outside = (TimedBall(),) if "beta" in names else (Ball(),)
    return (Sphere(fraction="fI"), *(outside if "DEinf" in names else ()))


def _check_fractions(model: Model) -> None:
    without = [each for each in model.compartments if each.fraction is None]
    if len(without) > 1:
        raise InputError(f"{model.name}: only one compartment can have what the others leave", hint="name fractions")
    if model.level and not without:
        problem = f"{model.name} fits {model.level}, and all compartments have fractions, so only products are known"
        raise InputError(problem, hint="leave the fraction of one compartment out")
    if model.exchange is None:
        return
    first, *others = model.compartments
    if not isinstance(first, Sphere) or first.fraction is None or len(others) != 1 or not without:
        raise InputError(f"{model.name}: water is exchanged between spheres with a fraction and one other compartment")
    if isinstance(others[0], Sphere | Gone):
        raise InputError(f"{model.name}: water is exchanged with a ball", hint="choose Ball or TimedBall")
    if first.t2 != others[0].t2:
        raise InputError(f"{model.name}: exchange and two T2s together are not known to work", hint="give both one T2")


def _bounds_of(name: str, preset: str) -> tuple[float, float]:
    bounds = get_preset(preset).bounds
    if name not in bounds:
        raise InputError(f"no bounds are known for {name}", hint="declare it: own=(Parameter(..),)")
    return bounds[name]


# Faster than any restricted water within the bounds, so the two compartments cannot trade places.
_FAST = {"DEinf": (1.75, None)}
PAPER_MODELS: tuple[Model, ...] = (
    Model("diff-in", "Diff-in", ("fI", "D0I", "vCS")),
    Model("diff-in-ex", "Diff-in-ex", ("fI", "D0I", "vCS", "DEinf")),
    Model("diff-in-ex-fast", "Diff-in-exFast", ("fI", "D0I", "vCS", "DEinf"), _FAST),
    Model("diff-in-extd", "Diff-in-exTD", PARAMETERS),
    Model("diff-in-extd-fast", "Diff-in-exTDFast", PARAMETERS, _FAST),
)
_INSIDE = Sphere(fraction="fI", t2="T2I")
MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        *PAPER_MODELS,
        Model("diff-in-ex-fixed", "Diff-in-exFixed", ("fI", "vCS", "DEinf"), held=("D0I",)),
        Model(
            "diff-in-t2", "Diff-in-T2", ("fI", "D0I", "vCS", "S0", "T2I", "T2E"),
            compartments=(_INSIDE, Gone(t2="T2E")), level="S0", roi_in_vivo=True,
        ),
        Model(
            "diff-in-ex-t2", "Diff-in-exT2", ("fI", "D0I", "vCS", "DEinf", "S0", "T2I", "T2E"),
            compartments=(_INSIDE, Ball(t2="T2E")), level="S0", all_b=True, roi_in_vivo=True,
        ),
        Model(
            "exchange", "Exchange", ("fI", "D0I", "vCS", "DEinf", "kappa"), {"fI": (None, 0.95)}, exchange="kappa",
            held_in_vivo=("D0I",), all_b=True, roi_in_vivo=True,
        ),
        Model(
            "exchange-td", "ExchangeTD", (*PARAMETERS, "kappa"), {"fI": (None, 0.95)}, exchange="kappa",
            held_in_vivo=("D0I",), all_b=True, roi_in_vivo=True,
        ),
    )
}  # fmt: skip
MODEL_NAMES: tuple[str, ...] = tuple(MODELS)
PAPER_NAMES: tuple[str, ...] = tuple(model.name for model in PAPER_MODELS)
Level = Literal["voxel", "region"]


def get_model(model: "str | Model") -> Model:
    """Return a model by name; a `Model` of one's own is passed through."""
    if isinstance(model, Model):
        return model
    if model not in MODELS:
        raise InputError(f"there is no model {model!r}", hint=f"choose among {', '.join(MODELS)}")
    return MODELS[model]
