"""Composite transforms of ITK and ANTs (.h5), affines and displacement fields, read by nitransforms."""

import mmap
from pathlib import Path

import numpy as np

from histomri.core.errors import InputError
from histomri.registration.displacement import Displacement
from histomri.registration.io.pulled import from_pull
from histomri.registration.io.registry import Images, TransformFormat, register_format
from histomri.registration.transform import Transform

_HEAP = b"GCOL"


def _read(path: Path, images: Images) -> Transform:
    from nitransforms.io.itk import ITKCompositeH5, ITKLinearTransform

    _check_heaps(path)
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


def _check_heaps(path: Path) -> None:
    """Raise ValueError if an object of a heap of texts does not fit into it: HDF5 would search it for ever."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = content.find(_HEAP)
        while at >= 0:
            end = at + int.from_bytes(content[at + 8 : at + 16], "little")
            if end > len(content):
                raise ValueError("a heap of texts reaches beyond the file")
            place = at + 16
            while place + 16 <= end:
                number, size = (int.from_bytes(content[place + a : place + b], "little") for a, b in ((0, 2), (8, 16)))
                place += 16 + (size + 7) // 8 * 8 if number else size  # free space counts its own header
                if place > end or (not number and size < 16):
                    raise ValueError(f"text {number} reaches beyond its heap")
            at = content.find(_HEAP, at + 4)


register_format(TransformFormat("composite transform of ITK", (".h5", ".hdf5"), _read))
