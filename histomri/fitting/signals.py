"""Signals of the tissue models: the physics alone, in closed form.

Restricted diffusion is that of impermeable spheres in the Gaussian phase approximation (Grussu et al. 2025,
doi 10.1038/s43856-025-01246-2, Eq. 4 for pulse pairs; Murday and Cotts 1968, doi 10.1063/1.1668160). For spheres
of radius R and diffusivity D, ADC / D depends on the rate D/R² and the gradient's shape alone, so everything here
is built on that one function of one variable.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError, ProtocolError
from histomri.fitting.compartments import Compartment, Gone, Sphere, TimedBall
from histomri.fitting.models import Model, get_model
from histomri.mri import Acquisition, Waveform, as_acquisition

# Number of roots, and the largest R²/(Dδ) for which the sum over them plus its tail is exact to 1e-11.
_ROOT_CLASSES = ((20, 200.0), (100, 5e3), (500, 1e5), (2500, 3e6))
_TAIL_ROOTS, _CHUNK = 12_000, 1 << 20


def sphere_adc(diameter_um: ArrayLike, d0_um2_ms: ArrayLike, acquisition: Acquisition | str | Path) -> FloatArray:
    """Return the apparent diffusion coefficient inside impermeable spheres, (..., M) µm²/ms; relative error < 1e-9.

    The Gaussian phase approximation itself differs from the exact signal of a sphere by up to 0.04 at b where the
    signal is low. InputError if a diameter or diffusivity is negative or not a number.

    Parameters
    ----------
    diameter_um, d0_um2_ms : (...) array-like
        Sphere diameters, µm, with 0 and infinity for no and for free diffusion, and intrinsic diffusivities.
    acquisition : Acquisition, str or path-like
        Protocol of M volumes, its file, or a preset: pulse pairs, or any gradient of constant pieces. The ADC of
        volumes that carry no gradient at all is 0.
    """
    diameter, d0 = np.broadcast_arrays(np.asarray(diameter_um, dtype=float), np.asarray(d0_um2_ms, dtype=float))
    if not (np.all(diameter >= 0) and np.all(d0 >= 0) and np.all(np.isfinite(d0))):
        raise InputError("diameters (µm) and diffusivities (µm²/ms) must be numbers of at least 0")
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(np.isinf(diameter), 0.0, d0 / (diameter / 2) ** 2)
    rate[(diameter == 0) | (d0 == 0)] = np.inf
    encodings, index = as_acquisition(acquisition).encodings()
    adc = np.zeros((*diameter.shape, len(encodings) + 1))
    for i, encoding in enumerate(encodings):
        adc[..., i] = d0 * relative_adc(rate, encoding.waveform)
    return np.asarray(adc[..., index])


def predict(
    model: str | Model, parameters: Mapping[str, ArrayLike], acquisition: Acquisition | str | Path
) -> FloatArray:
    """Return the noise-free signals of a model, (V, M), normalised to 1 at b = 0.

    Signals of models that fit the level S0 are in its units, with the decay by T2. Models without extra-cellular part
    are written for b where that part has decayed; at b = 0 they give fI. InputError if the model is unknown or a
    parameter missing; ProtocolError if the model needs echo times that the protocol lacks.

    Parameters
    ----------
    model, acquisition : str or Model, and Acquisition, str or path-like
        Such as "diff-in-ex"; protocol of M volumes, its file, or the name of a preset.
    parameters : mapping of str to (V,) array-like
        The model's parameters by name: fI, D0I (µm²/ms), vCS (µm), DEinf (µm²/ms), beta (µm²), S0, T2I, T2E (ms), kappa
        (µm/s). "L" and "F" are taken for vCS and fI where those are absent.

    Examples
    --------
    >>> from histomri.fitting import predict
    >>> predict("diff-in", {"fI": 0.6, "D0I": 1.5, "vCS": 16.0}, "invivo-3t").shape
    (1, 21)
    """
    declared, acquisition = get_model(model), as_acquisition(acquisition)
    given = {**declared.fixed, **parameters}
    for name, other in (("vCS", "L"), ("fI", "F")):
        if name not in given and other in given:
            given[name] = given[other]
    if missing := [name for name in declared.names if name not in given]:
        raise InputError(f"{declared.name} needs {', '.join(missing)}", hint="pass them in `parameters`")
    require_te(declared, acquisition)
    columns = np.broadcast_arrays(*(np.atleast_1d(np.asarray(given[n], dtype=float)) for n in declared.names))
    value = dict(zip(declared.names, columns))
    signal = _exchanged(declared, value, acquisition) if declared.exchange else _mixed(declared, value, acquisition)
    return np.asarray(signal if declared.level is None else value[declared.level][..., None] * signal)


def require_te(model: Model, acquisition: Acquisition) -> None:
    """Raise ProtocolError if a model with T2s has no echo times to find them from."""
    if model.needs_te and acquisition.te_ms is None:
        raise ProtocolError(f"{model.display_name} fits T2, and the protocol has no echo times", hint="give TE (ms)")


def _mixed(model: Model, value: Mapping[str, FloatArray], acquisition: Acquisition) -> FloatArray:
    """Return the signals of compartments side by side, (V, M), before the level."""
    signal, rest = np.zeros(()), np.ones(())
    for each in model.compartments:
        if each.fraction is not None:
            rest = rest - value[each.fraction][..., None]
    for each in model.compartments:
        share = rest if each.fraction is None else value[each.fraction][..., None]
        decay = np.exp(-_weighting(each, value, acquisition))
        signal = signal + share * (decay if each.t2 is None else decay * _relaxed(value[each.t2], acquisition))
    return np.asarray(signal)


def _exchanged(model: Model, value: Mapping[str, FloatArray], acquisition: Acquisition) -> FloatArray:
    """Return the signals of spheres that exchange water with what is around them, (V, M): Kärger's two sites.

    See Kärger 1985, doi 10.1016/0001-8686(85)80018-X. The spheres lose water at k = 6κ/L, in a diffusion time of
    Δ - δ/3 for pulse pairs, else from the first edge of the gradients to the last.
    """
    inside, outside = model.compartments
    x, z = (_weighting(each, value, acquisition) for each in (inside, outside))
    f = value[str(inside.fraction)][..., None]
    size, kappa = (value[name][..., None] for name in (inside.own[1], str(model.exchange)))
    lost = 6e-3 * kappa / size * exchange_time(acquisition)
    gained = lost * f / np.maximum(1 - f, 1e-9)
    half, mean = (x + lost - z - gained) / 2, (x + lost + z + gained) / 2
    root = np.sqrt(half**2 + lost * gained)
    factor = half * (1 - 2 * f) + 2 * lost * f
    # mean - root, without the cancellation.
    slow = np.exp(-(x * z + x * gained + z * lost) / np.maximum(mean + root, 1e-300))
    fast, small = np.exp(-root - mean), root < 1e-6
    even = (slow + fast) / 2
    odd = np.where(small, np.exp(-mean), (slow - fast) / np.where(small, 1.0, 2 * root))
    signal = even + factor * odd
    return np.asarray(signal if inside.t2 is None else signal * _relaxed(value[inside.t2], acquisition))


def exchange_time(acquisition: Acquisition) -> FloatArray:
    """Return the time for exchange, ms, (M,): Δ - δ/3 of pulse pairs, else all of the gradients; 0 without any."""
    encodings, index = acquisition.encodings()
    return np.asarray(np.array([*(exchange_time_of(each.waveform) for each in encodings), 0.0])[index])


def exchange_time_of(waveform: Waveform) -> float:
    """Return the time for exchange of one gradient shape, ms."""
    if waveform.is_pulse_pair:
        return waveform.start_ms[1] - waveform.start_ms[0] - waveform.duration_ms[0] / 3
    return waveform.start_ms[-1] + waveform.duration_ms[-1] - waveform.start_ms[0]


def _weighting(each: Compartment, value: Mapping[str, FloatArray], acquisition: Acquisition) -> FloatArray:
    """Return b ADC of a compartment, (V, M)."""
    b = acquisition.b_smm2 / 1000.0
    if isinstance(each, Sphere):
        return np.asarray(b * sphere_adc(value[each.size], value[each.diffusivity], acquisition))
    if isinstance(each, Gone):
        return np.where(acquisition.is_b0, 0.0, np.inf)
    beta = value[each.beta] if isinstance(each, TimedBall) else np.zeros(())
    return np.asarray(b * extra_adc(value[each.diffusivity], beta, acquisition))


def _relaxed(t2: FloatArray, acquisition: Acquisition) -> FloatArray:
    return np.asarray(np.exp(-np.asarray(acquisition.te_ms) / t2[..., None]))


def extra_adc(de_inf_um2_ms: ArrayLike, beta_um2: ArrayLike, acquisition: Acquisition) -> FloatArray:
    """Extra-cellular ADC = DEinf + beta / Δ, (..., M) µm²/ms; without the second term where there is no gradient."""
    gaps = acquisition.Delta_ms
    inverse = np.divide(1.0, gaps, out=np.zeros(gaps.size), where=np.asarray(gaps > 0))
    return np.asarray(np.asarray(de_inf_um2_ms)[..., None] + np.asarray(beta_um2)[..., None] * inverse)


def relative_adc(rate_per_ms: ArrayLike, waveform: Waveform) -> FloatArray:
    """ADC in a sphere over its intrinsic diffusivity: 1 to 0 for rates D/R² (1/ms) from 0 to infinity."""
    rate = np.asarray(rate_per_ms, dtype=float)
    flat, result = rate.ravel(), np.ones(rate.size)
    shortest = min(waveform.duration_ms)
    with np.errstate(divide="ignore"):
        size = 1.0 / (flat * shortest)  # R²/(Dδ): the number of roots needed grows with it
    result[np.isinf(flat)] = 0.0
    lower = 0.0
    for roots, upper in _ROOT_CLASSES:
        chosen = np.flatnonzero((size > lower) & (size <= upper) & np.isfinite(flat))
        step = max(1, _CHUNK // roots)
        for start in range(0, chosen.size, step):
            part = chosen[start : start + step]
            result[part] = _sum_over_roots(flat[part], waveform, roots)
        lower = upper
    huge = (size > lower) & np.isfinite(size)
    if huge.any():
        result[huge] = _nearly_free(size[huge], waveform, shortest, lower)
    return np.asarray(result.reshape(rate.shape))


def _nearly_free(size: FloatArray, waveform: Waveform, shortest_ms: float, last: float) -> FloatArray:
    """Continue 1 - ADC/D = c1 size^(-1/2) + c2 size^(-1), the short-time expansion, beyond what roots can do."""
    known = np.array([last / 4, last])
    deficit = 1 - relative_adc(1.0 / (known * shortest_ms), waveform)
    c1, c2 = np.linalg.solve(np.stack([known**-0.5, 1 / known], axis=1), deficit)
    return np.asarray(1 - c1 * size**-0.5 - c2 / size)


def _sum_over_roots(rate: FloatArray, waveform: Waveform, count: int) -> FloatArray:
    x, tail4, tail6 = _roots_and_tails(count)
    a = rate[:, None] * x**2
    terms, slope, offset = (_pulse_pair_terms if waveform.is_pulse_pair else _piecewise_terms)(a, waveform)
    total = (terms / (x**6 * (x**2 - 2))).sum(axis=1)
    # Beyond the last root the exponentials have died: a term is slope * a - offset.
    total += slope * rate * tail4 - offset * tail6
    return np.asarray(2 * total / (rate**3 * waveform.weighting))


def _pulse_pair_terms(a: FloatArray, waveform: Waveform) -> tuple[FloatArray, float, float]:
    delta, gap = waveform.duration_ms[0], waveform.gaps_ms[0]
    u = a * delta
    # 2u - 3 + 4 exp(-u) - exp(-2u) + (1 - exp(-u))² (1 - exp(-v)): sums of positive parts, so nothing cancels.
    return _phi(u) + np.expm1(-u) ** 2 * -np.expm1(-a * gap), 2 * delta, 2.0


def _phi(u: FloatArray) -> FloatArray:
    small = u < 0.3
    direct = 2 * u - 3 + 4 * np.exp(-u) - np.exp(-2 * u)
    series, power = np.zeros_like(u), np.where(small, u, 0.0)
    term = -(power**3) / 6
    for k in range(3, 19):
        series += term * (4 - 2**k)
        term = term * -power / (k + 1)
    return np.asarray(np.where(small, series, direct))


def _piecewise_terms(a: FloatArray, waveform: Waveform) -> tuple[FloatArray, float, float]:
    """Terms for any gradient of constant pieces, in the units of the pulse pair: half of the double integral."""
    g, tau = waveform.amplitude, waveform.duration_ms
    terms = np.zeros_like(a)
    ramps = [np.expm1(-a * duration) for duration in tau]
    for i, amplitude in enumerate(g):
        terms += amplitude**2 * _psi(a * tau[i])
        pause = np.zeros_like(a)
        for j in range(i + 1, len(g)):
            pause = pause + (waveform.gaps_ms[j - 1] + (tau[j - 1] if j > i + 1 else 0.0))
            terms += amplitude * g[j] * ramps[i] * ramps[j] * np.exp(-a * pause)
    squares = sum(amplitude**2 for amplitude in g)
    touching = sum(g[i] * g[i + 1] for i, gap in enumerate(waveform.gaps_ms) if gap == 0)
    return terms, sum(amplitude**2 * duration for amplitude, duration in zip(g, tau)), squares - touching


def _psi(u: FloatArray) -> FloatArray:
    """Return u - 1 + exp(-u) without cancellation."""
    small = u < 0.3
    power = np.where(small, u, 0.0)
    series, term = np.zeros_like(u), power**2 / 2
    for k in range(2, 16):
        series += term
        term = term * -power / (k + 1)
    return np.asarray(np.where(small, series, u + np.expm1(-u)))


@lru_cache(maxsize=8)
def _roots_and_tails(count: int) -> tuple[FloatArray, float, float]:
    """Return the first roots of j1'(x) = 0, and the sums of 1/(x⁴(x²-2)) and 1/(x⁶(x²-2)) over the others."""
    x = _all_roots()
    rest = x[count:][::-1]
    edge = x[-1] + np.pi / 2  # the sum beyond the last root known, as an integral
    tail4 = float((1 / (rest**4 * (rest**2 - 2))).sum() + edge**-5 / (5 * np.pi))
    tail6 = float((1 / (rest**6 * (rest**2 - 2))).sum() + edge**-7 / (7 * np.pi))
    return x[:count], tail4, tail6


@lru_cache(maxsize=1)
def _all_roots() -> FloatArray:
    # j1'(x) = 0 is 2x cos x = (2 - x²) sin x, with one root below each multiple of π.
    n = np.arange(1, _TAIL_ROOTS + 1)
    x = n * np.pi - 2 / (n * np.pi)
    for _ in range(6):
        x = x - (2 * x * np.cos(x) - (2 - x**2) * np.sin(x)) / (x**2 * np.cos(x))
    x[0] = brentq(lambda t: 2 * t * np.cos(t) - (2 - t**2) * np.sin(t), 1.5, 3.0, xtol=1e-15)
    x.setflags(write=False)
    return np.asarray(x)
