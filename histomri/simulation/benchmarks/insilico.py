"""insilico-*: the in-silico study of Grussu et al. 2025 (doi 10.1038/s43856-025-01246-2), whole and a small part.

Spheres on a cubic lattice. The small part travels with the package; the signals of the whole are made by
`histomri insilico`, whose results the set reads.
"""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.array_files import read_array
from histomri.core.arrays import FloatArray
from histomri.core.errors import InputError
from histomri.core.presets import PRESETS
from histomri.core.progress import Progress, share_of
from histomri.core.tables import read_table
from histomri.mri import Acquisition
from histomri.simulation.benchmarks.declaration import data_path
from histomri.simulation.benchmarks.signals import copies_of, signal_columns, write_signals
from histomri.simulation.write import write_csv

FRACTIONS, SIZES_UM, KAPPAS_UM_S = (0.197, 0.323, 0.406, 0.523), (8.0, 16.0, 22.0, 30.0), (10.0, 25.0, 50.0)
STEPS, SNR = 10, 30.0
SMALL_COPIES, SEED = 3, 4201
_KEYS = ["F", "vCS_um", "D0I_um2_ms", "D0E_um2_ms"]
_COMMAND = "run `histomri insilico -o DIR` first, and give --from DIR"


def paper_truth() -> pd.DataFrame:
    """Return the design of the paper: a row per tissue, permeability and protocol.

    F and L have four values each, D0I and D0E ten each over the bounds of the protocol's preset.
    """
    parts = []
    for protocol, kappa in product(PRESETS, KAPPAS_UM_S):
        bounds = PRESETS[protocol].bounds
        axes = [np.round(np.linspace(*bounds[name], STEPS), 4) for name in ("D0I", "DEinf")]
        part = pd.DataFrame(list(product(FRACTIONS, SIZES_UM, *axes)), columns=_KEYS)
        part.insert(0, "id", [f"{protocol}_k{kappa:g}_{number + 1:04d}" for number in range(len(part))])
        parts.append(part.assign(protocol=protocol, kappa_um_s=kappa))
    return pd.concat(parts, ignore_index=True)


def small_truth() -> pd.DataFrame:
    """Return a row per noisy copy of the tissues that travel with the package."""
    tissues = pd.read_csv(data_path("walks_insilico-small.csv"))[_KEYS].astype(float)
    tissues.insert(0, "tissue", [f"t{number + 1:03d}" for number in range(len(tissues))])
    return copies_of(tissues, SMALL_COPIES)


def write_small(folder: Path, truth: pd.DataFrame, source: Path | None, progress: Progress | None) -> list[Path]:
    """Write one image, its protocol and the table of voxels."""
    ids = truth["id"].to_numpy().reshape(-1, SMALL_COPIES)
    signals = signal_columns(pd.read_csv(data_path("walks_insilico-small.csv")))
    acquisition = Acquisition.preset("mouse-exvivo")
    written, places = write_signals(folder, "mouse-exvivo", signals, ids, acquisition, SNR, SEED)
    return [*written, write_csv(folder / "ids.csv", places)]


def write_paper(folder: Path, truth: pd.DataFrame, source: Path | None, progress: Progress | None) -> list[Path]:
    """Write an image per protocol and permeability, from the results of the in-silico study."""
    if source is None:
        raise InputError("the signals of insilico-paper do not travel with histomri", hint=_COMMAND)
    written: list[Path] = []
    places: list[pd.DataFrame] = []
    groups = list(truth.groupby(["protocol", "kappa_um_s"], sort=False))
    every = [read_study(source, protocol, kappa, part[_KEYS]) for (protocol, kappa), part in groups]
    for number, (((protocol, kappa), part), signals) in enumerate(zip(groups, every, strict=True)):
        ids, acquisition = part["id"].to_numpy()[:, None], Acquisition.preset(protocol)
        stem = f"{protocol}_k{kappa:g}"
        files, where = write_signals(folder, stem, signals, ids, acquisition, SNR, SEED + 1 + number)
        written, places = written + files, [*places, where]
        share_of(progress)((number + 1) / len(groups))
    return [*written, write_csv(folder / "ids.csv", pd.concat(places))]


def read_study(source: Path, protocol: str, kappa: float, design: pd.DataFrame) -> FloatArray:
    """Return the noise-free signals of a design, (tissues, M), from a folder of the in-silico study.

    It holds ``signals_PROTOCOL.npy`` (a row per tissue and permeability, S0 = 1) and ``tissues_PROTOCOL.csv``, whose
    columns name both for each row; the order does not matter.

    Raises
    ------
    InputError
        If a file is missing, tissues of the design are not there, or the volumes are not those of the protocol.
    """
    path, table = source / f"signals_{protocol}.npy", source / f"tissues_{protocol}.csv"
    for each in (path, table):
        if not each.is_file():
            raise InputError("no such file among the results of the in-silico study", path=each, hint=_COMMAND)
    signals = read_array(path, "array of signals", says="cannot be read as an array ({})")
    rows = read_table(table).numbers(["kappa_um_s", *_KEYS])
    volumes = len(Acquisition.preset(protocol))
    if signals.shape != (len(rows), volumes):
        problem = f"is {' x '.join(map(str, signals.shape))}, not {len(rows)} tissues x {volumes} volumes"
        raise InputError(problem, path=path, hint=f"it must have a row per row of {table.name}")
    if not np.isfinite(signals).all():
        raise InputError("holds signals that are not finite", path=path, hint=_COMMAND)
    row_of = {tuple(key): row for row, key in enumerate(np.round(rows.to_numpy(), 4).tolist())}
    wanted = [row_of.get((kappa, *key)) for key in np.round(design.to_numpy(float), 4).tolist()]
    if lacking := wanted.count(None):
        first = dict(zip(_KEYS, design.iloc[wanted.index(None)].tolist(), strict=True))
        problem = f"lacks {lacking} of {len(wanted)} tissues of the paper's design, the first {first}"
        raise InputError(problem, path=table, hint="run `histomri insilico` with the whole grid")
    return np.asarray(signals[np.array(wanted, dtype=int)], dtype=float)
