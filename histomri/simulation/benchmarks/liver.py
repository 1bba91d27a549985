"""liver-*: walked signals of permeable cells, on a lattice and packed at random, by the protocols of the presets."""

from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.progress import Progress
from histomri.mri import Acquisition
from histomri.simulation.benchmarks.declaration import data_path
from histomri.simulation.benchmarks.signals import copies_of, signal_columns, write_signals
from histomri.simulation.write import write_csv

COPIES, SNR, SEED = 20, 50.0, 4101
_NAMES = {"D0I": "D0I_um2_ms", "D0E": "D0E_um2_ms"}
_NUMBERS = ["F", "vCS_um", "D0I_um2_ms", "D0E_um2_ms", "kappa_um_s", "cv"]


def read_walks(protocol: str) -> pd.DataFrame:
    """Return the walked tissues of a protocol: parameters, signals s0.. and their standard errors se0.., S0 = 1.

    ``random`` is 0 for spheres on a cubic lattice and 1 for a random packing. They were walked by another program.
    """
    return pd.read_csv(data_path(f"walks_{protocol}.csv"))


def truth(protocol: str, label: str) -> pd.DataFrame:
    """Return a row per noisy copy of each tissue; the label, of the set, is part of the ids."""
    walks = read_walks(protocol).rename(columns=_NAMES)
    tissues = walks[_NUMBERS].astype(float)
    tissues["packing"] = np.where(walks["random"] == 1, "random", "lattice")
    tissues.insert(0, "tissue", [f"{label}-{number + 1:02d}" for number in range(len(walks))])
    return copies_of(tissues, COPIES)


def write(
    protocol: str, folder: Path, truth: pd.DataFrame, source: Path | None, progress: Progress | None
) -> list[Path]:
    """Write one image, its protocol and the table of voxels."""
    ids = truth["id"].to_numpy().reshape(-1, COPIES)
    signals = signal_columns(read_walks(protocol))
    written, places = write_signals(folder, protocol, signals, ids, Acquisition.preset(protocol), SNR, SEED)
    return [*written, write_csv(folder / "ids.csv", places)]
