"""The tissue models, each a short declaration that the one engine reads.

Models and bounds are those of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from histomri.core.errors import InputError
from histomri.core.presets import IN_VIVO_NAMES, STRATEGIES, get_preset
from histomri.mri import Acquisition

PARAMETERS: tuple[str, ...] = ("fI", "D0I", "vCS", "DEinf", "beta")
"""Every parameter a model may have, in the order of the engine: units 1, µm²/ms, µm, µm²/ms, µm²."""

# Faster than any restricted water within the bounds, so the two compartments cannot trade places.
_FAST_FROM = 1.75


# Above it the signal of living tissue in the body drowns in the noise, s/mm².
_LARGEST_IN_VIVO = 2000.0
CUSTOM = "custom"
"""Strategy of a fit whose b threshold is none of the preset's."""


@dataclass(frozen=True)
class Model:
    """A tissue model: spheres, with or without a Gaussian extra-cellular compartment.

    Attributes
    ----------
    name, display_name : str
        As typed, and as printed in reports.
    parameters : tuple of str
        Those fitted, in the order of `PARAMETERS`.
    overrides : mapping of str to (float or None, float or None)
        Bounds that differ from the preset's; None keeps the preset's.
    fixed : mapping of str to float
        Values of parameters that the model has but does not fit.
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
        """Return lower and upper bound of each fitted parameter.

        Raises
        ------
        InputError
            If there is no such preset.
        """
        common = get_preset(preset).bounds
        result = {}
        for name in self.parameters:
            lower, upper = self.overrides.get(name, (None, None))
            result[name] = (common[name][0] if lower is None else lower, common[name][1] if upper is None else upper)
        return result


_FAST = {"DEinf": (_FAST_FROM, None)}
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


def get_model(model: "str | Model") -> Model:
    """Return a model by name; a `Model` of one's own is passed through.

    Raises
    ------
    InputError
        If there is no model of that name.
    """
    if isinstance(model, Model):
        return model
    if model not in MODELS:
        raise InputError(f"there is no model {model!r}", hint=f"choose among {', '.join(MODELS)}")
    return MODELS[model]


def preset_warnings(preset: str, acquisition: Acquisition) -> tuple[str, ...]:
    """Tell of a preset that nobody chose and that does not fit the protocol, which has no b above its thresholds."""
    threshold, largest = get_preset(preset).bmin_smm2["high-b"], float(acquisition.b_smm2.max())
    if largest > threshold:
        return ()
    return (
        f"no --preset was given, so {preset} sets bounds and b thresholds; its high b is above {threshold:g} s/mm², "
        f"but the largest of this protocol is {largest:g}: in vivo, give --preset {IN_VIVO_NAMES}",
    )


def bounds_warnings(preset: str, acquisition: Acquisition) -> tuple[str, ...]:
    """Tell of in-vivo bounds that nobody chose, where the protocol has a b at which mostly fixed tissue is scanned."""
    largest = float(acquisition.b_smm2.max())
    if largest <= _LARGEST_IN_VIVO or not get_preset(preset).in_vivo:
        return ()
    return (
        f"no --preset was given, so {preset} sets the bounds of T2 and diffusivity; a b of {largest:g} s/mm² is high "
        "for living tissue: ex vivo, give --preset mouse-exvivo",
    )


def other_preset(acquisition: Acquisition) -> str:
    """Return a way out where too few measurements have b above a threshold."""
    largest = acquisition.b_smm2.max()
    return (
        f"lower the b threshold (--bmin; the largest b is {largest:g} s/mm²), or choose the preset of the scan "
        f"(--preset; in vivo {IN_VIVO_NAMES})"
    )


def choose_threshold(preset: str, strategy: str | None = None, bmin_smm2: float | None = None) -> tuple[str, float]:
    """Return strategy and b threshold, s/mm², of a fit, of which one, both or neither is given.

    Without either the whole set is fitted. A threshold alone has the strategy of the preset that has exactly this
    threshold, and is "custom" otherwise.

    Raises
    ------
    InputError
        If there is no such preset or strategy, or the threshold is not that of the strategy.
    """
    thresholds = get_preset(preset).bmin_smm2
    if strategy is not None and strategy not in STRATEGIES:
        raise InputError(f"there is no strategy {strategy!r}", hint=f"choose among {', '.join(STRATEGIES)}")
    if bmin_smm2 is None:
        chosen = strategy or STRATEGIES[0]
        return chosen, float(thresholds[chosen])
    if not 0 <= bmin_smm2 < math.inf:
        raise InputError(f"the b threshold must be a number of at least 0, not {bmin_smm2:g}", hint="check --bmin")
    named = next((name for name, threshold in thresholds.items() if threshold == bmin_smm2), CUSTOM)
    if strategy is not None and named != strategy:
        raise InputError(
            f"--strategy {strategy} of {preset} means b > {thresholds[strategy]:g} s/mm², and --bmin {bmin_smm2:g} "
            "is given too",
            hint="give --strategy or --bmin, not both",
        )
    return named, float(bmin_smm2)
