"""The walker of histomri 0.1.0, as the rival of today's: steps of fixed length, one protocol at a time.

At a membrane of permeability kappa a step crosses with the probability P_i = P0_i / (1 + (P0_i + P0_e) / 2), P0 = (2/3)
kappa step / D, and is reflected otherwise. (Fieremans and Lee 2018, doi 10.1016/j.neuroimage.2018.06.046.)
"""

from typing import Any

import numpy as np
from numba import njit, prange

from histomri.core.arrays import FloatArray
from histomri.mri import Acquisition, Waveform


def signals(
    acquisition: Acquisition, *, diameter_um: float, fraction: float, d0i_um2_ms: float, d0e_um2_ms: float,
    permeability_um_s: float, walkers: int, dt_ms: float = 0.02, seed: int = 0,
) -> FloatArray:  # fmt: skip
    """Return the signals of equal spheres on a cubic lattice, (M,), and their standard errors, (M,)."""
    radius = 0.5 * diameter_um
    edge = diameter_um * (np.pi / (6.0 * fraction)) ** (1.0 / 3.0)
    steps = np.sqrt(6.0 * np.array([d0i_um2_ms, d0e_um2_ms]) * dt_ms)
    raw = (2.0 / 3.0) * 1e-3 * permeability_um_s * steps / np.array([d0i_um2_ms, d0e_um2_ms])
    crossing = raw / (1.0 + 0.5 * raw.sum())
    encodings, index = acquisition.encodings()
    weights = _step_weights([encoding.waveform for encoding in encodings], dt_ms)
    phase, _, _ = _walk(walkers, np.uint64(seed), weights, edge, radius, steps, crossing)
    unit = np.array([encoding.waveform.weighting for encoding in encodings])
    strength = np.where(index >= 0, np.sqrt(1e-3 * acquisition.b_smm2 / np.append(unit, 1.0)[index]), 0.0)
    values = np.array([np.cos(a * phase[:, e]).mean(axis=1) for a, e in zip(strength, index)])
    return np.array([values.mean(axis=1), values.std(axis=1) / np.sqrt(walkers)])


def _step_weights(waveforms: list[Waveform], dt_ms: float) -> FloatArray:
    """Return the gradient's integral over each step, (steps, E), exact where a pulse begins or ends within one."""
    longest = max(waveform.start_ms[-1] + waveform.duration_ms[-1] for waveform in waveforms)
    edges = dt_ms * np.arange(int(np.ceil(longest / dt_ms - 1e-9)) + 1)
    weights = np.zeros((edges.size - 1, len(waveforms)))
    for e, waveform in enumerate(waveforms):
        for start, duration, amplitude in zip(waveform.start_ms, waveform.duration_ms, waveform.amplitude):
            weights[:, e] += amplitude * np.diff(np.clip(edges, start, start + duration))
    return weights


@njit
def _random(state: Any) -> float:
    """Advance a splitmix64 sequence and return a number in [0, 1)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@njit
def _distance(p: Any, d: Any, centre: Any, radius: float, inside: bool) -> Any:
    """Return how far a point is from a sphere's surface along direction d, or -1 if it never meets it."""
    along, squared = 0.0, -radius * radius
    for a in range(3):
        offset = p[a] - centre[a]
        along += offset * d[a]
        squared += offset * offset
    root = along * along - squared
    if root <= 0.0 or (along >= 0.0 and not inside):
        return -1.0
    return -along + np.sqrt(root) if inside else -along - np.sqrt(root)


@njit
def _nearest_hit(
    p: Any, d: Any, reach: float, edge: float, radius: float, inside: bool, centre: Any, hit: Any
) -> float:
    """Return the distance along direction d to the membrane, or -1 if it is farther than `reach`; fill its centre."""
    for a in range(3):
        centre[a] = edge * np.floor(p[a] / edge + 0.5)
    best = _distance(p, d, centre, radius, inside)
    for a in range(3):
        hit[a] = centre[a]
    if not inside:
        # Spheres of the neighbouring cells, where a face is within reach.
        for a in range(3):
            offset = p[a] - centre[a]
            if 0.5 * edge - abs(offset) < reach:
                home = centre[a]
                centre[a] += edge if offset > 0.0 else -edge
                other = _distance(p, d, centre, radius, inside)
                if other >= 0.0 and (best < 0.0 or other < best):
                    best = other
                    for c in range(3):
                        hit[c] = centre[c]
                centre[a] = home
    return best if 0.0 <= best <= reach else -1.0


@njit
def _step(p: Any, state: Any, inside: bool, edge: float, radius: float, steps: Any, crossing: Any, work: Any) -> bool:
    """Move a walker by one step, reflecting or crossing at membranes; return whether it ends inside."""
    d, centre, hit, normal = work[0], work[1], work[2], work[3]
    d[2] = 2.0 * _random(state) - 1.0
    angle, ring = 2.0 * np.pi * _random(state), np.sqrt(1.0 - d[2] * d[2])
    d[0], d[1] = ring * np.cos(angle), ring * np.sin(angle)
    rest = steps[0] if inside else steps[1]
    for _ in range(50):
        distance = _nearest_hit(p, d, rest, edge, radius, inside, centre, hit)
        advance = rest if distance < 0.0 else distance
        for a in range(3):
            p[a] += advance * d[a]
        if distance < 0.0:
            break
        rest -= distance
        across = 0.0
        for a in range(3):
            normal[a] = (p[a] - hit[a]) / radius
            across += d[a] * normal[a]
        side = 0 if inside else 1
        if crossing[side] > 0.0 and _random(state) < crossing[side]:
            rest *= steps[1 - side] / steps[side]
            inside = not inside
        else:
            for a in range(3):
                d[a] -= 2.0 * across * normal[a]
        # Rounding must not leave the walker on the wrong side: put it a hair's breadth within its compartment.
        rim = radius * (1.0 - 1e-9 if inside else 1.0 + 1e-9)
        for a in range(3):
            p[a] = hit[a] + rim * normal[a]
    return inside


@njit(parallel=True)
def _walk(
    walkers: int, seed: Any, weights: Any, edge: float, radius: float, steps: Any, crossing: Any
) -> tuple[Any, Any, Any]:
    """Walk all walkers; return phases at unit gradient (walkers, E, 3), and who started and ended inside."""
    n_steps, encodings = weights.shape
    phase = np.zeros((walkers, encodings, 3))
    started = np.zeros(walkers, dtype=np.bool_)
    ended = np.zeros(walkers, dtype=np.bool_)
    for w in prange(walkers):
        state = np.empty(1, dtype=np.uint64)
        state[0] = (seed * np.uint64(0x2545F4914F6CDD1D)) ^ (np.uint64(w + 1) * np.uint64(0xD1342543DE82EF95))
        for _ in range(4):
            _random(state)
        p, before, work = np.empty(3), np.empty(3), np.empty((4, 3))
        for a in range(3):
            p[a] = (_random(state) - 0.5) * edge
        inside = p[0] * p[0] + p[1] * p[1] + p[2] * p[2] < radius * radius
        started[w] = inside
        for t in range(n_steps):
            for a in range(3):
                before[a] = p[a]
            inside = _step(p, state, inside, edge, radius, steps, crossing, work)
            for e in range(encodings):
                for a in range(3):
                    phase[w, e, a] += weights[t, e] * 0.5 * (before[a] + p[a])
        ended[w] = inside
    return phase, started, ended
