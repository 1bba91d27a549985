"""The three protocols of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2."""

import numpy as np

from histomri.core.errors import ProtocolError
from histomri.mri.acquisition import Acquisition

PRESETS = ("mouse-exvivo", "invivo-3t", "invivo-1.5t")


def preset_acquisition(name: str) -> Acquisition:
    """Return a protocol by name.

    Raises
    ------
    ProtocolError
        If there is no protocol of that name.
    """
    makers = dict(zip(PRESETS, (_mouse_exvivo, _invivo_3t, _invivo_15t)))
    if name not in makers:
        raise ProtocolError(f"there is no protocol preset {name!r}", hint=f"choose among {', '.join(PRESETS)}")
    return makers[name]()


def _mouse_exvivo() -> Acquisition:
    blocks = [(15.0, 31.0), (15.0, 45.0), (15.0, 65.0), (30.0, 45.0), (30.0, 65.0)]
    b = np.linspace(0.0, 2800.0, 10)
    return Acquisition(
        np.tile(b, len(blocks)),
        np.full(b.size * len(blocks), 10.0),
        np.repeat([separation for separation, _ in blocks], b.size),
        np.repeat([te for _, te in blocks], b.size),
    )


def _invivo_3t() -> Acquisition:
    b = [0, 50, 100, 400, 900, 1200, 1500]
    delta = {75: [0, 3.9, 5.2, 9.2, 15.0, 18.2, 21.0], 90: [0, 3.9, 5.2, 9.2, 13.0, 15.8, 18.5]}
    separation = {75: [0, 27.8, 29.0, 33.0, 28.7, 31.8, 34.7], 90: [0, 27.8, 29.0, 33.0, 37.0, 39.6, 42.3]}
    delta[105], separation[105] = delta[90], separation[90]
    return Acquisition(
        np.tile(b, 3),
        np.concatenate([delta[te] for te in (75, 90, 105)]),
        np.concatenate([separation[te] for te in (75, 90, 105)]),
        np.repeat([75.0, 90.0, 105.0], len(b)),
    )


def _invivo_15t() -> Acquisition:
    b = [0, 50, 100, 400, 900, 1200, 1600]
    lobes = {
        93: (8.9, 17.6, 20.4, 6.0, 17.4, 63.9),
        105: (13.2, 19.3, 24.8, 7.7, 21.7, 74.2),
        120: (18.9, 21.0, 30.5, 9.5, 27.5, 87.5),
    }
    rows = np.repeat(list(lobes.values()), len(b), axis=0)
    return Acquisition.trse(
        np.tile(b, 3), rows[:, :4], rows[:, 4], rows[:, 5], np.repeat([float(te) for te in lobes], len(b))
    )
