"""What a fit needs besides the signals: which measurements, which objective, and warnings about what nobody chose."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray
from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import IN_VIVO_NAMES, STRATEGIES, get_preset
from histomri.mri import Acquisition, as_acquisition

Noise = Literal["offset-gaussian", "rician", "none"]
Bic = Literal["schwarz", "paper"]
NOISES: tuple[str, ...] = ("none", "offset-gaussian", "rician")
BIC_WEIGHTS = {"schwarz": 2.0, "paper": 1.0}
"""What ln λ is multiplied by in each definition of the BIC."""
CUSTOM = "custom"
"""Strategy of a fit whose b threshold is none of the preset's."""
# Every other parameter is a divisor somewhere.
_FROM_ZERO = ("fI", "DEinf", "beta", "fV", "KT")
# Above it the signal of living tissue in the body drowns in the noise, s/mm².
_LARGEST_IN_VIVO = 2000.0


def preset_warnings(preset: str, acquisition: Acquisition) -> tuple[str, ...]:
    """Warn of a preset that nobody chose and that does not fit the protocol, which has no b above its thresholds."""
    threshold, largest = get_preset(preset).bmin_smm2["high-b"], float(acquisition.b_smm2.max())
    text = (
        f"no --preset was given, so {preset} sets bounds and b thresholds; its high b is above {threshold:g} s/mm², "
        f"but the largest of this protocol is {largest:g}: in vivo, give --preset {IN_VIVO_NAMES}"
    )
    return () if largest > threshold else (text,)


def bounds_warnings(preset: str, acquisition: Acquisition) -> tuple[str, ...]:
    """Warn of in-vivo bounds that nobody chose, where the protocol has a b at which mostly fixed tissue is scanned."""
    largest = float(acquisition.b_smm2.max())
    text = (
        f"no --preset was given, so {preset} sets the bounds of T2 and diffusivity; a b of {largest:g} s/mm² is high "
        "for living tissue: ex vivo, give --preset mouse-exvivo"
    )
    return (text,) if largest > _LARGEST_IN_VIVO and get_preset(preset).in_vivo else ()


def choose_threshold(preset: str, strategy: str | None = None, bmin_smm2: float | None = None) -> tuple[str, float]:
    """Return strategy and b threshold, s/mm², of a fit, of which one, both or neither is given.

    Without either the whole set is fitted. A threshold alone has the strategy of the preset that has exactly this
    threshold, and is "custom" otherwise; InputError if the two contradict each other.
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
        problem = (
            f"--strategy {strategy} of {preset} means b > {thresholds[strategy]:g} s/mm², and --bmin {bmin_smm2:g}"
        )
        raise InputError(f"{problem} is given too", hint="give --strategy or --bmin, not both")
    return named, float(bmin_smm2)


def choose_measurements(acquisition: Acquisition, threshold: float, parameters: int = 0, title: str = "") -> BoolArray:
    """Return which of the M measurements are fitted, b above the threshold, or ProtocolError if too few are."""
    used = np.asarray((acquisition.b_smm2 > threshold) & ~acquisition.is_b0)
    if used.sum() < max(parameters, 1):
        few = f"only {used.sum()} measurements have" if used.any() else "no measurement has"
        needed = f", and {title} has {parameters} parameters" if parameters else ""
        lower = f"lower the b threshold (--bmin; the largest b is {acquisition.b_smm2.max():g} s/mm²)"
        hint = f"{lower}, or choose the preset of the scan (--preset; in vivo {IN_VIVO_NAMES})"
        raise ProtocolError(f"{few} b > {threshold:g} s/mm²{needed}", hint=hint)
    return used


def choose_noise(noise: Noise | None, sigma: ArrayLike | None) -> Noise:
    """Choose the objective by what is known; refuse one that lacks a noise level."""
    if noise is None:
        return "none" if sigma is None else "offset-gaussian"
    if noise not in NOISES:
        raise InputError(f"there is no noise model {noise!r}", hint=f"choose among {', '.join(NOISES)}")
    if noise != "none" and sigma is None:
        raise InputError(f"the {noise} likelihood needs the noise level", hint="give sigma, or noise 'none'")
    return noise


def check_bic(bic: str) -> None:
    """Refuse a definition of the BIC that there is not."""
    if bic not in BIC_WEIGHTS:
        raise InputError(f"there is no definition {bic!r} of the BIC", hint=f"choose among {', '.join(BIC_WEIGHTS)}")


def check_scan(signals: Any, acquisition: Any) -> tuple[Any, Acquisition]:
    """Return signals (V, M) and their protocol, which may be given as a path or by the name of a preset."""
    if isinstance(signals, str | Path):
        hint = "read images with series = histomri.mri.Series.open(dwi, protocol, mask), and pass series.read()"
        raise InputError(f"signals are an array (voxels, volumes), and {str(signals)!r} is text", hint=hint)
    acquisition = as_acquisition(acquisition)
    values = np.asarray(signals)
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise InputError(f"signals must be real numbers of shape (voxels, volumes), not {values.shape}")
    if values.shape[1] != len(acquisition):
        raise ProtocolError(f"the signals have {values.shape[1]} volumes, and the protocol has {len(acquisition)}")
    return values, acquisition


def noise_level(sigma: ArrayLike | None, voxels: int) -> FloatArray:
    """Return the noise level of each voxel, (V,); ones where it is not known. A number must be above 0."""
    if sigma is None:
        return np.ones(voxels)
    number = np.asarray(sigma, dtype=float)
    if number.ndim == 0 and not (np.isfinite(number) and number > 0):
        hint = "give sigma in the units of the signal"
        raise InputError(f"sigma is {float(number):g}, and a noise level is above 0", hint=hint)
    return per_voxel("sigma", number, voxels)


def per_voxel(name: str, values: ArrayLike, voxels: int) -> FloatArray:
    """Return one value per voxel, (V,), of a number or such values."""
    array = np.asarray(values, dtype=float)
    if array.shape not in ((), (voxels,)):
        raise InputError(f"{name} has shape {array.shape}, and there are {voxels} voxels")
    return np.broadcast_to(array, (voxels,))


def replace_bounds(
    limits: dict[str, tuple[float, float]], bounds: Mapping[str, tuple[float, float]] | None, title: str, held: bool
) -> dict[str, tuple[float, float]]:
    """Return the bounds of a model with others in their place, which may be equal if parameters may be held."""
    limits = dict(limits)
    for name, (lower, upper) in (bounds or {}).items():
        if name not in limits:
            raise InputError(f"{title} does not fit {name}", hint=f"its parameters: {', '.join(limits)}")
        least = 0.0 if name in _FROM_ZERO else 1e-3
        sensible = least <= lower <= upper < math.inf and (held or lower < upper)
        if not sensible or (name in ("fI", "fV") and upper > 1):
            problem = f"the bounds of {name} are {lower:g} and {upper:g}"
            raise InputError(f"{problem}, which leaves no room or makes no sense")
        limits[name] = (float(lower), float(upper))
    return limits
