"""Any model made of compartments on a protocol, ready to be fitted by the kernel that serves all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from histomri.core.arrays import FloatArray, IntArray
from histomri.core.errors import ProtocolError
from histomri.fitting.compartments import Ball, Compartment, Gone, Sphere, TimedBall
from histomri.fitting.models import Model
from histomri.fitting.signals import exchange_time_of, predict, require_te
from histomri.fitting.tables import KNOT_STEP, Bounds, Engine, limits_of, sphere_places, tabulate
from histomri.mri import Acquisition

_KINDS: dict[type, int] = {Sphere: 0, Ball: 1, TimedBall: 2, Gone: 3}
"""As in `composed`."""
_NODES = {"size": 8, "diffusivity": 3, "beta": 2, "t2": 4, "exchange": 4, "fraction": 5}
_MOST_POINTS = 6000
_VANISHED = 700.0  # exponent of a signal that is gone


@dataclass(frozen=True)
class ComposedEngine(Engine):
    """A model made of any compartments on a protocol.

    The level and T2s are fitted as logarithms (`logs`, (P,)). The starts are on a grid of all other parameters but the
    amplitudes, fractions and level, which have their best values at each point.
    """

    logs: FloatArray
    parts: IntArray
    links: IntArray

    @classmethod
    def compose(cls, model: Model, acquisition: Acquisition, bounds: Bounds) -> "ComposedEngine":
        """Tabulate and prepare; measurements at b = 0 need no gradients."""
        require_te(model, acquisition)
        names = model.names
        known = {name: (value, value) for name, value in model.fixed.items()} | dict(bounds)
        logarithmic = {model.level, *(each.t2 for each in model.compartments)}
        logs = np.array([name in logarithmic for name in names])
        lower, upper = np.array([known[name] for name in names]).T.copy()
        lower[logs], upper[logs] = np.log(lower[logs]), np.log(upper[logs])
        rows, row, measurements = _distinct(acquisition, model.needs_te)
        place = {name: i for i, name in enumerate(names)}
        parts = np.array([_numbers(each, place) for each in model.compartments])
        links = np.array([place.get(str(name), -1) for name in (model.level, model.exchange)])
        tabulated = _tabulated(model, rows, known)
        grid = _grid(model, measurements, lower, upper, logs, place)
        return cls(model, names, limits_of(lower, upper), row, tabulated, grid, logs, parts, links)

    def select(self, kept: Any) -> "ComposedEngine":
        """Return the engine of some of the measurements, (M,) of bool."""
        there, row = np.unique(self.row[kept], return_inverse=True)
        table, log0, *vectors = self._rows
        rows = (table[..., there], log0, *(each[there] for each in vectors))
        atoms, *others = self._grid
        return replace(self, row=np.ravel(row).astype(np.int64), _rows=rows, _grid=(atoms[:, there], *others))

    @property
    def pair(self) -> tuple[int, int]:
        """The places of fraction and size of the spheres; -1 where the first compartment is something else."""
        first = self.model.compartments[0]
        if not isinstance(first, Sphere) or first.fraction is None:
            return -1, -1
        return self.names.index(first.fraction), self.names.index(first.size)

    def _size(self) -> Any:
        return np.zeros(len(self.names))

    def _setup(self, row: IntArray, noise: str) -> tuple[int, Any, Any, int]:
        table, log0, b, over_delta, te, td, gone = (
            np.ascontiguousarray(each[..., row]) if isinstance(each, np.ndarray) else each for each in self._rows
        )
        setup = (table, log0, 1 / KNOT_STEP, b, over_delta, te, td, self.parts, self.links, self.logs, gone)
        atoms, *others = self._grid
        return 4 if noise == "rician" else 3, setup, (np.ascontiguousarray(atoms[:, row]), *others), 0

    def _finished(self, out: FloatArray) -> FloatArray:
        count = len(self.names)
        logs = np.flatnonzero(self.logs)
        out[:, logs] = np.exp(out[:, logs])
        out[:, count + logs] *= out[:, logs]
        return out


def engine_of(model: Model, acquisition: Acquisition, bounds: Bounds) -> Engine:
    """Tabulate and prepare, in milliseconds, for measurements with gradients; bounds for each parameter fitted."""
    names = sphere_places(model)
    if names is None:
        return ComposedEngine.compose(model, acquisition, bounds)
    return Engine.of_spheres(model, names, acquisition, bounds)


def _distinct(acquisition: Acquisition, by_te: bool) -> tuple[Any, IntArray, Acquisition]:
    """Return shape, b, 1/Δ and TE of the distinct measurements, which of them each one is, and one of each."""
    encodings, index = acquisition.encodings()
    if np.any((index < 0) & ~acquisition.is_b0):
        raise ProtocolError("volumes without gradients cannot be fitted", hint="raise the b threshold")
    te = np.zeros(len(acquisition)) if acquisition.te_ms is None or not by_te else acquisition.te_ms
    b = np.where(index < 0, 0.0, acquisition.b_smm2)
    keys = np.stack([np.where(b == 0, -1, index).astype(float), b, te, acquisition.is_b0], axis=1)
    _, first, row = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    shape = index[first]
    gaps = np.array([encodings[e].Delta_ms if e >= 0 else np.inf for e in shape])
    rows = (encodings, shape, b[first] / 1000.0, 1 / gaps, te[first], acquisition.is_b0[first])
    return rows, np.ravel(row).astype(np.int64), acquisition.select(first)


def _numbers(each: Compartment, place: Mapping[str, int]) -> list[int]:
    own = [place[name] for name in each.own] + [-1] * (2 - len(each.own))
    return [_KINDS[type(each)], *own, place.get(str(each.fraction), -1), place.get(str(each.t2), -1)]


def _tabulated(model: Model, rows: Any, known: Bounds) -> tuple[Any, ...]:
    """Return tables of restricted diffusion, and b, b/Δ, TE, time for exchange and what is gone, by row."""
    encodings, shape, b, inverse_delta, te, is_b0 = rows
    spheres = [each for each in model.compartments if isinstance(each, Sphere)]
    table, log0 = np.zeros((1, 4, b.size)), 0.0
    if spheres and encodings:
        widest = [
            (min(known[name][0] for name in names), max(known[name][1] for name in names))
            for names in ([each.diffusivity for each in spheres], [each.size for each in spheres])
        ]
        tables, log0 = tabulate([each.waveform for each in encodings], *widest)
        table = np.moveaxis(tables[np.maximum(shape, 0)] * b[:, None, None], 0, -1)
    times = np.array([*(exchange_time_of(each.waveform) for each in encodings), 0.0])
    return table, log0, b, b * inverse_delta, te, times[shape], np.where(is_b0, 0.0, _VANISHED)


def _grid(
    model: Model, measurements: Acquisition, lower: FloatArray, upper: FloatArray, logs: Any, place: Mapping[str, int]
) -> Any:
    """Return the distinct signals of each compartment, which of them each point of the grid has, and the points.

    Then the shape of the grid, the place of the compartment that has the rest (-1 where amplitudes have no sum to
    keep), bounds of the amplitudes, and what they are: places of fractions, and at last of the level.
    """
    amplitudes = [] if model.exchange else [str(each.fraction) for each in model.compartments if each.fraction]
    gridded = [name for name in model.parameters if name not in (*amplitudes, model.level)]
    counts = _counts(model, gridded)
    axes = [_axis(lower[place[name]], upper[place[name]], counts[name], _is_size(model, name)) for name in gridded]
    points = np.tile(np.clip(0.0, lower, upper), (prod(counts.values()), 1))
    for name, values in zip(gridded, np.meshgrid(*axes, indexing="ij")):
        points[:, place[name]] = values.ravel()
    actual = np.where(logs, np.exp(points), points)
    atoms, index = _atoms(model, actual, measurements, place)
    shape = np.array([counts[name] for name in gridded], dtype=np.int64)
    return atoms, index, points, shape, *_amplitudes(model, amplitudes, lower, upper, place)


def _amplitudes(
    model: Model, names: list[str], lower: FloatArray, upper: FloatArray, place: Mapping[str, int]
) -> tuple[int, FloatArray, FloatArray, IntArray]:
    """Return the place of the rest, bounds of the amplitudes, and the places of what they are."""
    level = place.get(str(model.level), -1)
    if model.exchange:
        bounds = ([0.0], [np.inf]) if model.level else ([1.0], [1.0])
        return -1, np.array(bounds[0]), np.array(bounds[1]), np.array([-1, level])
    fractions = [place.get(str(each.fraction), -1) for each in model.compartments]
    if model.level:
        count = len(fractions)
        return -1, np.zeros(count), np.full(count, np.inf), np.array([*fractions, level])
    own = [place[name] for name in names]
    return model.rest, lower[own], upper[own], np.array([*own, -1])


def _atoms(
    model: Model, points: FloatArray, measurements: Acquisition, place: Mapping[str, int]
) -> tuple[FloatArray, IntArray]:
    """Return distinct signals, (A, U), and which of them the terms of each point are, (G, terms)."""
    atoms, columns, count = [], [], 0
    for own, single in _terms(model):
        values, which = np.zeros((1, 0)), np.zeros(len(points), dtype=np.int64)
        if own:
            values, which = np.unique(points[:, [place[name] for name in own]], axis=0, return_inverse=True)
        given: dict[str, Any] = {name: values[:, i] for i, name in enumerate(own)}
        signals = predict(single, {"share": 1.0, str(model.level): 1.0, **given}, measurements)
        atoms.append(np.broadcast_to(signals, (len(values), len(measurements))))
        columns.append(np.ravel(which) + count)
        count += len(values)
    return np.ascontiguousarray(np.concatenate(atoms)), np.stack(columns, axis=1)


def _terms(model: Model) -> list[tuple[tuple[str, ...], Model]]:
    """Return each part of the signal that has an amplitude: the parameters that it depends on, and a model of it."""
    if model.exchange:
        return [(tuple(name for name in model.names if name != model.level), model)]
    terms = []
    for each in model.compartments:
        own = (*each.own, *((each.t2,) if each.t2 else ()))
        terms.append((own, Model("term", "term", ("share", *own), compartments=(replace(each, fraction="share"),))))
    return terms


def _counts(model: Model, names: list[str]) -> dict[str, int]:
    """Return the nodes of each axis, fewer where there would be too many points."""
    own = {each.name: each.nodes for each in model.own}
    counts = {name: own.get(name) or _NODES[_role(model, name)] for name in names}
    while prod(counts.values()) > _MOST_POINTS:
        longest = max(counts, key=lambda name: counts[name])
        counts[longest] -= 1
    return counts


def _role(model: Model, name: str) -> str:
    """Return what a parameter is to the compartments."""
    if name == model.exchange:
        return "exchange"
    roles: dict[str | None, str] = {}
    for each in model.compartments:
        roles |= {getattr(each, role, None): role for role in _NODES}
    return roles[name]


def _is_size(model: Model, name: str) -> bool:
    return _role(model, name) == "size"


def _axis(lower: float, upper: float, count: int, geometric: bool) -> FloatArray:
    return np.asarray((np.geomspace if geometric else np.linspace)(lower, upper, count))
