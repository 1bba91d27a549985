"""Diffusional kurtosis: the model-free ADC and excess kurtosis of each voxel."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from histomri.core.arrays import BoolArray, FloatArray, IntArray
from histomri.core.errors import InputError, ProtocolError
from histomri.core.presets import get_preset
from histomri.core.progress import Progress, share_of
from histomri.fitting.choices import Noise, check_scan, choose_noise, noise_level, replace_bounds
from histomri.fitting.results import AT_BOUND, BACKGROUND, FAILED, FITTED, FitResult, bound_warnings
from histomri.mri import Acquisition

DKI_BOUNDS = {"ADC": (0.0, 5.0), "K": (-1.0, 5.0)}
"""Bounds of ADC, µm²/ms, and excess kurtosis."""
_S0_RANGE, _CHUNK, _STEPS = (1e-6, 1e3), 20_000, 60
# Where the weakest signal is not this many noise levels, its floor passes for kurtosis.
_CLEAR_OF_FLOOR = 3.0
_COLUMNS = ("S0", "ADC", "K")
# Beyond this b the expansion that defines the kurtosis no longer holds.
_BMAX = 3000.0


def fit_dki(
    signals: ArrayLike, acquisition: Acquisition | str | Path, *, preset: str = "mouse-exvivo",
    bmin_smm2: float | None = None, bmax_smm2: float = _BMAX, te_ms: float | None = None, Delta_ms: float | None = None,
    sigma: ArrayLike | None = None, noise: Noise | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None, progress: Progress | None = None,
) -> FitResult:  # fmt: skip
    """Fit s = S0 exp(-b ADC + K (b ADC)² / 6) within bounds, above the noise floor if the noise level is known.

    Maps, (V,), are ADC (µm²/ms), K, S0, their standard errors (``K_se``; NaN at a bound and where not fitted), cost
    (sum of squares, over sigma² if it is used) and exit. ProtocolError if fewer than three different b-values remain,
    or a time is chosen that the protocol does not have; InputError if the signals have another number of volumes, or
    sigma or bounds make no sense.

    Parameters
    ----------
    signals, acquisition : (V, M) array-like, and Acquisition, str or path-like
        Raw signals and the protocol of the M volumes; δ and Δ need not be known.
    preset : {"mouse-exvivo", "invivo-3t", "invivo-1.5t"}
        Which measurements by default: ex vivo TE 45 ms and Δ 30 ms where the protocol has them; in vivo b > 100,
        so that blood plays no part. Otherwise the shortest echo time that has three b-values, and any Δ.
    bmin_smm2, bmax_smm2, te_ms, Delta_ms : float, optional
        Use b above the one and up to the other, s/mm²; this echo time, and this diffusion time, only.
    sigma, noise : float or (V,) array-like, and {"offset-gaussian", "none"}, optional
        Noise level, in the units of the signals. Magnitudes do not fall below it, which least squares take for
        kurtosis: K of 0.60 comes out as 0.66 at SNR 20. With sigma the fit is offset-Gaussian by default, to
        sqrt(s² + sigma²); "none" is least squares.
    bounds : mapping of str to (float, float), optional
        Bounds in place of ADC 0 to 5 µm²/ms and K -1 to 5.

    Examples
    --------
    >>> from histomri.fitting import fit_dki
    >>> from histomri.mri import Acquisition
    >>> import numpy as np
    >>> mouse = Acquisition.preset('mouse-exvivo')
    >>> decay = mouse.b_smm2 / 1000 * 0.8
    >>> result = fit_dki(np.exp(-decay + decay**2 / 6)[None], mouse)
    >>> result.maps['ADC'].round(3), result.maps['K'].round(3)
    (array([0.8]), array([1.]))
    """
    values, acquisition = check_scan(signals, acquisition)
    used, settings = _select(acquisition, preset, bmin_smm2, bmax_smm2, te_ms, Delta_ms)
    floor = _has_floor(noise, sigma)
    limits = replace_bounds(DKI_BOUNDS, bounds, "DKI", held=False)
    edges = np.array([_S0_RANGE, *limits.values()]).T
    b = acquisition.b_smm2[used] / 1000.0
    voxels = values.shape[0]
    levels = noise_level(sigma if floor else None, voxels)
    maps = {name: np.full(voxels, np.nan) for name in (*_COLUMNS, *(f"{name}_se" for name in _COLUMNS), "cost", "exit")}
    for start in range(0, voxels, _CHUNK):
        part = slice(start, start + _CHUNK)
        y = values[part][:, used].astype(np.float64)
        scale = y.max(axis=1)
        with np.errstate(invalid="ignore"):
            good = np.all(np.isfinite(y), axis=1) & (scale > 0) & np.isfinite(levels[part]) & (levels[part] > 0)
        codes = np.where(np.all(y == 0, axis=1), BACKGROUND, FAILED).astype(float)
        level = levels[part][good, None] / scale[good, None] if floor else None
        problem = _Problem(y[good] / scale[good, None], b, level, edges[0], edges[1])
        theta, cost = _best_of_two(problem)
        held = problem.at_bound(theta)
        codes[good] = np.where(held[:, 1:].any(axis=1), AT_BOUND, FITTED)
        errors, factor = problem.errors(theta, cost, held), scale[good]
        place = np.arange(voxels)[part][good]
        maps["cost"][place] = cost if floor else cost * factor**2
        for i, name in enumerate(_COLUMNS):
            maps[name][place] = theta[:, i] * (factor if name == "S0" else 1.0)
            maps[f"{name}_se"][place] = errors[:, i] * (factor if name == "S0" else 1.0)
        maps["exit"][part] = codes
        share_of(progress)(min(1.0, (start + _CHUNK) / voxels))
    settings |= {"noise": "offset-gaussian" if floor else "none"}
    settings["bounds"] = {name: list(pair) for name, pair in limits.items()}
    warnings = bound_warnings(FitResult("dki", maps).counts, "DKI") + (() if floor else _floor_warnings(maps, b))
    return FitResult("dki", maps, settings, warnings)


def _has_floor(noise: Noise | None, sigma: ArrayLike | None) -> bool:
    """Tell whether the noise floor is part of the fit."""
    if noise == "rician":
        raise InputError("DKI has no rician likelihood", hint="give noise 'offset-gaussian' or 'none'")
    return choose_noise(noise, sigma) != "none"


def _floor_warnings(maps: Mapping[str, FloatArray], b: FloatArray) -> tuple[str, ...]:
    """Warn where the signal comes down to the noise, as the residuals of least squares show it."""
    done = maps["exit"] > 0
    if b.size <= 3 or not done.any():
        return ()
    decay = b.max() * maps["ADC"][done]
    weakest = maps["S0"][done] * np.exp(np.minimum(-decay + maps["K"][done] * decay**2 / 6, 50.0))
    noise = np.sqrt(maps["cost"][done] / (b.size - 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.median(np.where(noise > 0, weakest / noise, np.inf)))
    if ratio >= _CLEAR_OF_FLOOR:
        return ()
    low = f"the signal at b = {1000 * b.max():g} s/mm² is only {ratio:.1f} times the noise, whose floor passes for"
    return (f"DKI: {low} kurtosis, so K is too large; give the noise level (--sigma), or leave out high b (--bmax)",)


def _select(
    acquisition: Acquisition, preset: str, bmin: float | None, bmax: float, te: float | None, separation: float | None
) -> tuple[BoolArray, dict[str, Any]]:
    if te is not None and acquisition.te_ms is None:
        raise ProtocolError(f"TE {te:g} ms is chosen, and the protocol has no echo times", hint="leave --te out")
    if separation is not None and not acquisition.has_timing:
        problem = f"Δ {separation:g} ms is chosen, and the protocol has no diffusion times"
        raise ProtocolError(problem, hint="leave --big-delta out")
    usual = get_preset(preset)
    bmin = usual.dki_bmin_smm2 if bmin is None else bmin
    used = (acquisition.b_smm2 > bmin) & (acquisition.b_smm2 <= bmax)
    if acquisition.te_ms is not None:
        times = np.round(acquisition.te_ms, 3)
        if te is None:
            usable = (t for t in (usual.dki_te_ms, *np.unique(times)) if _enough(acquisition, used & (times == t)))
            te = next(map(float, usable), None)
        used &= times == te if te is not None else True
    gaps = np.round(acquisition.Delta_ms, 3)
    wanted = usual.dki_Delta_ms if separation is None else round(separation, 3)
    with_b0 = acquisition.is_b0 | (gaps == wanted)
    if separation is not None or (wanted is not None and _enough(acquisition, used & with_b0)):
        used &= with_b0
        separation = wanted if separation is None else separation
    if not _enough(acquisition, used):
        times_of = {"echo": acquisition.te_ms, "diffusion": acquisition.Delta_ms}
        others = "".join(_others(name, acquisition, times) for name, times in times_of.items())
        problem = f"fewer than three b-values remain for ADC and K (b from {max(bmin, 0):g} to {bmax:g} s/mm²)"
        if np.unique(np.round(acquisition.b_smm2, 1)).size < 3:
            problem += ": one shell determines no kurtosis"
        raise ProtocolError(problem, hint=f"choose another range of b{others}")
    settings = {"preset": preset, "bmin_smm2": max(bmin, 0.0), "bmax_smm2": bmax, "te_ms": te, "Delta_ms": separation}
    return np.asarray(used), settings | {"measurements": int(used.sum())}


def _others(name: str, acquisition: Acquisition, times: FloatArray | None) -> str:
    """Return which echo or diffusion times there are to choose from, as the end of a sentence."""
    there = np.array([]) if times is None else np.unique(np.round(times[~acquisition.is_b0], 3))
    return f", or {name} time ({', '.join(f'{time:g}' for time in there)} ms)" if len(there) > 1 else ""


def _enough(acquisition: Acquisition, used: BoolArray) -> bool:
    return np.unique(np.round(acquisition.b_smm2[used], 1)).size >= 3


@dataclass(frozen=True)
class _Problem:
    """Signals (V, N) at b (N,), ms/µm²; noise levels (V, 1), None for least squares; bounds (3,) of S0, ADC, K."""

    y: FloatArray
    b: FloatArray
    sigma: FloatArray | None
    lower: FloatArray
    upper: FloatArray

    def of(self, index: IntArray) -> "_Problem":
        """Return the part of some voxels."""
        return replace(self, y=self.y[index], sigma=None if self.sigma is None else self.sigma[index])

    @property
    def above_floor(self) -> FloatArray:
        """The signals without the noise in their squares, from which descents start."""
        if self.sigma is None:
            return self.y
        return np.asarray(np.sqrt(np.maximum(self.y**2 - self.sigma**2, (0.3 * self.sigma) ** 2)))

    def residuals(self, theta: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return residuals (V, N), their derivatives (V, N, 3), and the sums of their squares (V,)."""
        s0, adc, kurtosis = theta[:, 0, None], theta[:, 1, None], theta[:, 2, None]
        b = self.b
        decay = b * adc
        shape = np.exp(np.minimum(-decay + kurtosis * decay**2 / 6, 50.0))
        signal = s0 * shape
        jacobian = np.stack([shape, signal * (-b + kurtosis * b * decay / 3), signal * decay**2 / 6], axis=2)
        if self.sigma is None:
            residual = signal - self.y
        else:
            expected = np.sqrt(signal**2 + self.sigma**2)
            residual = (expected - self.y) / self.sigma
            jacobian *= (signal / (expected * self.sigma))[:, :, None]
        return residual, jacobian, np.asarray((residual**2).sum(axis=1))

    def at_bound(self, theta: FloatArray) -> BoolArray:
        """Tell which parameters are at a bound, (V, 3)."""
        margin = 1e-6 * (self.upper - self.lower)
        return np.asarray((theta <= self.lower + margin) | (theta >= self.upper - margin))

    def errors(self, theta: FloatArray, cost: FloatArray, held: BoolArray) -> FloatArray:
        """Return standard errors, (V, 3): from the noise level, or else from the residuals; NaN where held."""
        jacobian = self.residuals(theta)[1]
        hessian = np.einsum("vmi,vmj->vij", jacobian, jacobian)
        hessian[held[:, :, None] | held[:, None, :]] = 0.0
        diagonal = np.einsum("vii->vi", hessian)
        diagonal[held | (diagonal <= 0)] = 1.0
        # Parameters differ in scale, and only what is singular on one scale is undetermined.
        scale = 1 / np.sqrt(diagonal)
        correlation = hessian * scale[:, :, None] * scale[:, None, :]
        determined = np.linalg.eigvalsh(correlation)[:, 0] > 1e-10
        correlation[~determined] = np.eye(3)
        variance = np.einsum("vii->vi", np.linalg.inv(correlation)) * scale**2
        if self.sigma is None:
            freedom = self.b.size - (~held).sum(axis=1)
            variance *= np.divide(cost, freedom, out=np.full(cost.shape, np.nan), where=freedom > 0)[:, None]
        return np.where(held | ~determined[:, None], np.nan, np.sqrt(variance))


def _best_of_two(problem: _Problem) -> tuple[FloatArray, FloatArray]:
    """Descend from the log-linear fit and from the best point of a grid: noise at high b can mislead the first."""
    y, b = problem.above_floor, problem.b
    theta, cost = _minimise(problem, _log_linear(y, b))
    other, lower_cost = _minimise(problem, _grid_best(y, b))
    better = lower_cost < cost
    theta[better] = other[better]
    return theta, np.where(better, lower_cost, cost)


def _grid_best(y: FloatArray, b: FloatArray) -> FloatArray:
    adc, kurtosis = (axis.ravel() for axis in np.meshgrid(np.geomspace(0.05, 4.0, 16), np.linspace(-0.8, 4.0, 13)))
    decay = b * adc[:, None]
    atoms = np.exp(np.minimum(-decay + kurtosis[:, None] * decay**2 / 6, 20.0))
    # Not a product of matrices: that rounds differently with other numbers of voxels or threads.
    overlap, norm = np.einsum("vm,am->va", y, atoms), (atoms**2).sum(axis=1)
    best = np.argmax(np.where(overlap > 0, overlap**2 / norm, 0.0), axis=1)
    s0 = np.maximum(overlap[np.arange(y.shape[0]), best] / norm[best], 1e-3)
    return np.stack([s0, adc[best], kurtosis[best]], axis=1)


def _minimise(problem: _Problem, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Levenberg-Marquardt within bounds, all voxels at once; returns (V, 3) S0, ADC, K and (V,) sums of squares."""
    lower, upper = problem.lower, problem.upper
    theta = np.clip(start, lower, upper)
    cost = problem.residuals(theta)[2]
    damping = np.full(theta.shape[0], 1e-3)
    active = np.arange(theta.shape[0])
    for _ in range(_STEPS):
        if active.size == 0:
            break
        here, part = theta[active], problem.of(active)
        residual, jacobian, _ = part.residuals(here)
        gradient = np.einsum("vmi,vm->vi", jacobian, residual)
        hessian = np.einsum("vmi,vmj->vij", jacobian, jacobian)
        held = ((here <= lower) & (gradient > 0)) | ((here >= upper) & (gradient < 0))
        hessian[held[:, :, None] | held[:, None, :]] = 0.0
        diagonal = np.einsum("vii->vi", hessian)
        diagonal *= 1 + damping[active, None]
        diagonal[diagonal <= 1e-12] = 1.0
        step = np.linalg.solve(hessian, np.where(held, 0.0, -gradient)[..., None])[..., 0]
        trial = np.clip(here + step, lower, upper)
        new = part.residuals(trial)[2]
        better = new < cost[active]
        theta[active[better]] = trial[better]
        gain = cost[active] - new
        cost[active[better]] = new[better]
        damping[active] = np.where(better, damping[active] / 9, damping[active] * 8)
        active = active[~((better & (gain <= 1e-12 * new)) | (damping[active] > 1e10))]
    return theta, cost


def _log_linear(y: FloatArray, b: FloatArray) -> FloatArray:
    """Weighted log-linear fit, in closed form."""
    design = np.stack([np.ones_like(b), -b, b**2 / 6], axis=1)
    clean = np.maximum(y, 0.02 * y.max(axis=1, keepdims=True))
    weight = clean**2
    normal = np.einsum("mi,vm,mj->vij", design, weight, design) + 1e-10 * np.eye(3)
    right = np.einsum("mi,vm->vi", design, weight * np.log(clean))
    log_s0, adc, curvature = np.linalg.solve(normal, right[..., None])[..., 0].T
    adc = np.clip(adc, 0.05, 4.0)
    return np.stack([np.exp(np.clip(log_s0, -10, 6)), adc, np.clip(curvature / adc**2, -0.5, 2.5)], axis=1)
