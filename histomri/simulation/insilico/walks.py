"""The walks of an in-silico study, kept block by block, so that a study that was stopped goes on where it was."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.array_files import read_arrays
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.files import atomic_path, write_json
from histomri.core.progress import Progress, share_of
from histomri.simulation.walker.reuse import walk_permeabilities
from histomri.simulation.walker.substrates import Lattice
from histomri.simulation.walker.walk import FINE, Water

from .design import Design, Scan, walked_together

# Counts the changes of the walker that change its numbers: walks of another version are not taken up.
WALKER = 1


@dataclass(frozen=True)
class Walking:
    """How the water of a study is walked: walkers per tissue and walk, seed, and smallest step in radii."""

    walkers: int = 20_000
    seed: int = 1
    fine: float = FINE


@dataclass(frozen=True)
class Walked:
    """Signals of a protocol: K permeabilities, T tissues, M volumes.

    Attributes
    ----------
    scan : Scan
    tissues : DataFrame
        (T, 4) with the columns `TRUTH`.
    signals, standard_error : (K, T, M) ndarray
        1 at b = 0.
    share : (K, T) ndarray
        Effective share of the walkers.
    """

    scan: Scan
    tissues: pd.DataFrame
    signals: FloatArray
    standard_error: FloatArray
    share: FloatArray


def walk_design(
    design: Design, scans: tuple[Scan, ...], folder: Path, walking: Walking, *, jobs: int | None = None,
    progress: Progress | None = None,
) -> list[Walked]:  # fmt: skip
    """Walk every tissue at every permeability, and return the signals by protocol.

    Finished blocks of tissues are kept in `folder` and taken up again if design, protocols and settings are the same.
    `jobs` is the number of threads; the signals do not depend on it.
    """
    groups, walked = walked_together(scans), dict[str, Walked]()
    sizes = [len(design.tissues(group[0].bounds)) for group in groups]
    for place, group in enumerate(groups):
        span = (sum(sizes[:place]) / sum(sizes), sum(sizes[: place + 1]) / sum(sizes))
        for one in _walk_group(design, group, folder, walking, jobs, share_of(progress, *span)):
            walked[one.scan.name] = one
    return [walked[scan.name] for scan in scans]


def _walk_group(
    design: Design, group: list[Scan], folder: Path, walking: Walking, jobs: int | None, report: Progress
) -> list[Walked]:
    tissues = design.tissues(group[0].bounds)
    key = _key(design, group, walking)
    place = folder / key[:12]
    if not (place / "walks.json").exists():
        content = {"Protocols": [scan.name for scan in group], "Design": asdict(design), **asdict(walking), "Key": key}
        write_json(place / "walks.json", content)
    blocks = np.split(np.arange(len(tissues)), np.arange(design.diffusivities, len(tissues), design.diffusivities))
    parts = []
    for number, rows in enumerate(blocks):
        path = place / f"block_{number:04d}.npz"
        if not path.exists():
            _write_block(path, [_walk_tissue(tissues, row, design, group, walking, jobs) for row in rows.tolist()])
        parts.append(_read_block(path, key))
        report((number + 1) / len(blocks))
    values = {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}
    return [
        Walked(scan, tissues, values[f"signals{i}"], values[f"errors{i}"], values[f"share{i}"])
        for i, scan in enumerate(group)
    ]


def _key(design: Design, group: list[Scan], walking: Walking) -> str:
    """Return a hash of everything that the signals follow from."""
    protocols = [
        [[shape and asdict(shape), d, sep, b] for shape, d, sep, b in zip(
            scan.acquisition.waveforms or [None] * len(scan.acquisition), scan.acquisition.delta_ms.tolist(),
            scan.acquisition.Delta_ms.tolist(), scan.acquisition.b_smm2.tolist(),
        )]
        for scan in group
    ]  # fmt: skip
    content = [WALKER, asdict(design), group[0].bounds, protocols, asdict(walking)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _walk_tissue(
    tissues: pd.DataFrame, row: int, design: Design, group: list[Scan], walking: Walking, jobs: int | None
) -> dict[str, FloatArray]:
    """Return the signals of one tissue, (permeabilities, M) by protocol."""
    tissue = tissues.iloc[row]
    results = walk_permeabilities(
        Lattice(tissue["vCS_um"], tissue["F"]), [scan.acquisition for scan in group],
        Water(tissue["D0I_um2_ms"], tissue["D0E_um2_ms"]), design.permeabilities_um_s, walkers=walking.walkers,
        seed=int(np.random.SeedSequence(walking.seed, spawn_key=(row,)).generate_state(1, np.uint64)[0]),
        fine=walking.fine, jobs=jobs,
    )  # fmt: skip
    found = {}
    for i in range(len(group)):
        found[f"signals{i}"] = np.array([one[i].signals for one in results])
        found[f"errors{i}"] = np.array([one[i].standard_error for one in results])
        found[f"share{i}"] = np.array([one[i].effective_share for one in results])
    return found


def _write_block(path: Path, tissues: list[dict[str, FloatArray]]) -> None:
    with atomic_path(path) as part, part.open("wb") as file:
        values: dict[str, Any] = {name: np.stack([one[name] for one in tissues], axis=1) for name in tissues[0]}
        np.savez(file, **values)


def _read_block(path: Path, key: str) -> dict[str, FloatArray]:
    try:
        return read_arrays(path, "block of walks", "is no block of walks ({})")
    except InputError as error:
        raise InputError(error.problem, path=path, hint="delete it, and run again") from error
