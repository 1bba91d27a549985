"""Transforms of FreeSurfer (.lta), read by nitransforms; both images are described in the file."""

from pathlib import Path

import numpy as np

from histomri.core.errors import InputError
from histomri.registration.io.pulled import from_pull
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform


def _read(path: Path, images: Images) -> Transform:
    from nitransforms.io.lta import FSLinearTransformArray

    found = FSLinearTransformArray.from_string(path.read_text(encoding="utf-8"))
    if found["nxforms"] != 1:
        raise InputError(f"holds {found['nxforms']} transforms, and one was expected")
    return from_pull(np.asarray(found.to_ras()[0]), path)


register_format(TransformFormat("LTA file", (".lta",), _read))
