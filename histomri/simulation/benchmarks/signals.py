"""What the sets of diffusion signals share: noise, and signals as images with a table that says where each case is."""

from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.arrays import FloatArray
from histomri.core.files import write_text
from histomri.core.images import write_image
from histomri.mri import Acquisition
from histomri.simulation.signals import add_rician
from histomri.simulation.write import write_protocol

SCALE = 1000.0  # signal without diffusion weighting, in the arbitrary units of a scanner


def write_signals(
    folder: Path, stem: str, signals: FloatArray, ids: FloatArray, acquisition: Acquisition, snr: float, seed: int
) -> tuple[list[Path], pd.DataFrame]:
    """Write signals with Rician noise as an image, their protocol, and the noise level.

    Parameters
    ----------
    folder, stem : Path, str
        The files are called ``STEM_dwi.nii.gz``, ``STEM_protocol.txt`` (.json if its gradients are no pulse pairs) and
        ``STEM_sigma.txt``.
    signals : (tissues, M) ndarray
        Without noise, 1 without diffusion weighting.
    ids : (tissues, copies) ndarray of str
        Tissue n lies at i = n, its copies along j.
    snr, seed
        Signal over noise at b = 0; the same seed gives the same noise.

    Returns
    -------
    written, places : list of Path, DataFrame
        The files, and a row per case: id, image, i, j, k.
    """
    repeated = SCALE * np.repeat(signals[:, None], ids.shape[1], axis=1)
    noisy = add_rician(repeated, SCALE / snr, np.random.default_rng(seed)).astype(np.float32)
    image = write_image(folder / f"{stem}_dwi.nii.gz", noisy[:, :, None], np.diag([2.0, 2.0, 2.0, 1.0]))
    if acquisition.waveforms is None:
        protocol = write_protocol(folder / f"{stem}_protocol.txt", acquisition)
    else:
        protocol = acquisition.save(folder / f"{stem}_protocol.json")
    sigma = write_text(folder / f"{stem}_sigma.txt", f"{SCALE / snr:g}\n")
    i, j = (index.ravel() for index in np.indices(ids.shape))
    places = pd.DataFrame({"id": ids.ravel(), "image": image.name, "i": i, "j": j, "k": 0})
    return [image, protocol, sigma], places


def copies_of(tissues: pd.DataFrame, copies: int) -> pd.DataFrame:
    """Return a row per noisy copy of each tissue, ``id`` first: the tissue's with n01, n02, ... behind it."""
    rows = tissues.loc[tissues.index.repeat(copies)].reset_index(drop=True)
    ids = [f"{tissue}n{copy + 1:02d}" for tissue in tissues["tissue"] for copy in range(copies)]
    rows.insert(0, "id", ids)
    return rows


def signal_columns(table: pd.DataFrame) -> FloatArray:
    """Return the columns s0, s1, ... of a table, (rows, M)."""
    names = [name for name in table.columns if name[0] == "s" and name[1:].isdigit()]
    return np.asarray(table[names].to_numpy(dtype=float))
