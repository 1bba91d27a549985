"""Composite transforms of ITK and ANTs (.h5), affines and displacement fields, read by nitransforms."""

from pathlib import Path

import numpy as np

from histomri.core.errors import InputError
from histomri.registration.displacement import Displacement
from histomri.registration.io.pulled import from_pull
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform


def _read(path: Path, images: Images) -> Transform:
    from nitransforms.io.itk import ITKCompositeH5, ITKLinearTransform

    parts = ITKCompositeH5.from_filename(path)
    if not parts:
        raise InputError("holds no transform")
    whole = Transform.identity()
    for part in parts:  # ITK pulls through the last one first, so points are pushed through the first one first
        if isinstance(part, ITKLinearTransform):
            link = from_pull(part.to_ras(), path)
        else:
            vectors = np.asarray(part.dataobj, dtype=float)
            link = Transform(np.eye(4), (Displacement(vectors, part.affine, inverted=True),))
        whole = link.compose(whole)
    return Transform(whole.matrix, whole.displacements, {"Sources": [path.name]})


register_format(TransformFormat("composite transform of ITK", (".h5", ".hdf5"), _read))
