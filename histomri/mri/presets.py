"""The protocols of the presets."""

import numpy as np

from histomri.core.errors import ProtocolError
from histomri.core.presets import PRESETS
from histomri.mri.acquisition import Acquisition


def preset_acquisition(name: str) -> Acquisition:
    """Return a protocol by name.

    Raises
    ------
    ProtocolError
        If there is no protocol of that name.
    """
    if name not in PRESETS:
        raise ProtocolError(f"there is no protocol preset {name!r}", hint=f"choose among {', '.join(PRESETS)}")
    blocks = PRESETS[name].protocol
    b = np.concatenate([block.b_smm2 for block in blocks])
    te = np.concatenate([np.full(len(block.b_smm2), block.te_ms) for block in blocks])
    if blocks[0].lobes_ms:
        rows = np.array([block.lobes_ms for block in blocks for _ in block.b_smm2])
        return Acquisition.trse(b, rows[:, :4], rows[:, 4], rows[:, 5], te)
    delta, separation = (np.concatenate([getattr(block, key) for block in blocks]) for key in ("delta_ms", "Delta_ms"))
    return Acquisition(b, delta, separation, te)
