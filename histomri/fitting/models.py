"""The tissue models, each a short declaration that the one engine reads; a new one is a line in `MODELS`.

The command line, the study file, the pairing and the report learn the models from here. Models and bounds are those of
Grussu et al. 2025, doi 10.1038/s43856-025-01246-2.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from histomri.core.errors import InputError
from histomri.core.presets import get_preset

PARAMETERS: tuple[str, ...] = ("fI", "D0I", "vCS", "DEinf", "beta")
"""Every parameter a model may have, in the order of the engine: units 1, µm²/ms, µm, µm²/ms, µm²."""


@dataclass(frozen=True)
class Model:
    """A tissue model: spheres, with or without a Gaussian extra-cellular compartment.

    It has a name as typed and one as printed, the parameters fitted, in the order of `PARAMETERS`, bounds that differ
    from the preset's (None keeps the preset's), and values of parameters that it has but does not fit.
    """

    name: str
    display_name: str
    parameters: tuple[str, ...]
    overrides: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)

    @property
    def extra(self) -> bool:
        """Whether it has an extra-cellular compartment."""
        return "DEinf" in self.parameters or "DEinf" in self.fixed

    def bounds(self, preset: str) -> dict[str, tuple[float, float]]:
        """Return lower and upper bound of each fitted parameter."""
        result = {}
        for name in self.parameters:
            (lower, upper), (low, high) = get_preset(preset).bounds[name], self.overrides.get(name, (None, None))
            result[name] = (lower if low is None else low, upper if high is None else high)
        return result


# Faster than any restricted water within the bounds, so the two compartments cannot trade places.
_FAST = {"DEinf": (1.75, None)}
MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("diff-in", "Diff-in", ("fI", "D0I", "vCS")),
        Model("diff-in-ex", "Diff-in-ex", ("fI", "D0I", "vCS", "DEinf")),
        Model("diff-in-ex-fast", "Diff-in-exFast", ("fI", "D0I", "vCS", "DEinf"), _FAST),
        Model("diff-in-extd", "Diff-in-exTD", PARAMETERS),
        Model("diff-in-extd-fast", "Diff-in-exTDFast", PARAMETERS, _FAST),
    )
}
MODEL_NAMES: tuple[str, ...] = tuple(MODELS)


def get_model(model: "str | Model") -> Model:
    """Return a model by name; a `Model` of one's own is passed through."""
    if isinstance(model, Model):
        return model
    if model not in MODELS:
        raise InputError(f"there is no model {model!r}", hint=f"choose among {', '.join(MODELS)}")
    return MODELS[model]
