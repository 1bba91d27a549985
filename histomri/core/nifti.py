"""NIfTI images through the door: a header that is possible, voxels read to the end of the file with its checksum."""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import DTypeLike, NDArray

from histomri.core.budget import require_memory
from histomri.core.door import AGAIN, Inflated, packing_of, reading, require_file
from histomri.core.errors import InputError, UnitError

_WHAT = "NIfTI image"
_OTHER_LENGTHS = {1: "m", 3: "µm"}
_HEADER = 540  # bytes of the longest header, that of NIfTI-2
_MOST_PACKED = 1100  # deflate packs 1032 bytes into one at most
# Where a header has the number of axes, the first voxel, slope and intercept: (offset, format) by size of the header.
_PLACES = {
    348: {"dim": (40, "8h"), "offset": (108, "f"), "scale": (112, "2f"), "forms": (252, "2h"), "affine": (280, "12f")},
    540: {"dim": (16, "8q"), "offset": (168, "q"), "scale": (176, "2d"), "forms": (344, "2i"), "affine": (400, "12d")},
}


def open_nifti(path: str | Path) -> Any:
    """Open a NIfTI image without reading its voxels.

    Raises
    ------
    InputError
        If the file is missing, empty, not an image nibabel can read, or its header is not possible: sizes that are not
        positive, numbers that are not finite.
    UnitError
        If the header says that lengths are in another unit than mm.
    """
    path = require_file(path, _WHAT)
    with reading(path, _WHAT):
        _check_raw_header(path)
        image = nib.load(path)
        kind = np.dtype(image.get_data_dtype()).kind
        if not np.all(np.isfinite(image.affine)):
            raise InputError("the affine in its header is not finite", path=path, hint="mend the header of the image")
    if kind not in "biuf":
        what = "complex numbers" if kind == "c" else "colours"
        raise InputError(f"holds {what}, and one real-valued number per voxel was expected", path=path)
    unit = int(image.header["xyzt_units"]) & 7 if isinstance(image.header, nib.Nifti1Header) else 0
    if unit in _OTHER_LENGTHS:
        raise UnitError(
            f"says that its lengths are in {_OTHER_LENGTHS[unit]}, and mm were expected",
            path=path,
            hint="convert its affine to mm, or, if that is in mm, say so with nibabel's header.set_xyzt_units('mm')",
        )
    return image


def _check_raw_header(path: Path) -> None:
    """Refuse what nibabel reads over: it takes an infinite slope, or none that is a number, for no scaling."""
    if packing_of(path) == "gzip":
        with Inflated(path) as stream:
            head = stream.read(_HEADER)
    else:
        with path.open("rb") as file:
            head = file.read(_HEADER)
    order = next((order for order in "<>" if struct.unpack(f"{order}i", head[:4].ljust(4))[0] in _PLACES), None)
    if order is None or len(head) < (size := struct.unpack(f"{order}i", head[:4])[0]):
        return  # no NIfTI header: nibabel knows other kinds
    if head[344:347] not in (b"n+1", b"ni1") and head[4:7] not in (b"n+2", b"ni2"):
        return

    def field(name: str) -> tuple[float, ...]:
        at, form = _PLACES[size][name]
        return struct.unpack_from(f"{order}{form}", head, at)

    axes, *lengths = field("dim")
    if not 1 <= axes <= 7 or any(length < 1 for length in lengths[: int(axes)]):
        shown = " x ".join(map(str, lengths[: int(np.clip(axes, 0, 7))]))
        raise InputError(
            f"says that it has {axes} axes of {shown} voxels, which is not possible", path=path, hint=AGAIN
        )
    (offset,), scale = field("offset"), field("scale")
    if not np.isfinite(offset) or offset < 0 or not np.all(np.isfinite(scale)):
        problem = (
            f"its header is not possible: voxels from byte {offset:g} on, slope {scale[0]:g}, intercept {scale[1]:g}"
        )
        raise InputError(problem, path=path, hint=AGAIN)
    if field("forms")[1] > 0 and not np.all(np.isfinite(field("affine"))):
        raise InputError("the affine in its header is not finite", path=path, hint="mend the header of the image")


def check_voxels_fit(image: Any, path: str | Path) -> None:
    """Raise InputError if the file of an opened image is too small for the voxels of its header."""
    proxy = image.dataobj
    if not isinstance(proxy, ArrayProxy):
        return
    file = _voxel_file(image, Path(path))
    size, packed = file.stat().st_size, packing_of(file) == "gzip"
    needed = proxy.offset + _count(proxy.shape) * np.dtype(proxy.dtype).itemsize
    if needed > (size * _MOST_PACKED + _HEADER if packed else size):
        shape = " x ".join(map(str, proxy.shape))
        problem = f"is cut short or damaged: {shape} voxels of its header need {needed:,} bytes, and it has {size:,}"
        raise InputError(problem, path=path, hint="copy it again")


def read_voxels(image: Any, path: str | Path, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Read the voxels of an opened image, to the end of the file with its checksum.

    Raises
    ------
    InputError
        If the file is cut short or damaged, or larger than the budget of memory.
    """
    proxy = image.dataobj
    if not isinstance(proxy, ArrayProxy):
        with reading(path, _WHAT):
            return np.asarray(proxy, dtype=dtype)
    stored, wanted = np.dtype(proxy.dtype), np.dtype(dtype)
    packed = packing_of(file := _voxel_file(image, Path(path))) == "gzip"
    held = (stored.itemsize if packed else 0) + wanted.itemsize
    check_voxels_fit(image, path)
    require_memory(_count(proxy.shape) * held, path, "array of its voxels")
    with _damaged(path):
        if not packed:
            return np.asarray(proxy, dtype=dtype)
        with Inflated(file) as stream:
            stream.skip(proxy.offset)
            raw = _next_array(stream, proxy, proxy.shape)
            stream.finish()
    return np.asarray(_scaled(raw, proxy), dtype=dtype)


def read_first_volume(image: Any, path: str | Path) -> NDArray[np.float32]:
    """Read the first volume of a 4D image, (I, J, K); a compressed file is read to its end for the checksum.

    Raises
    ------
    InputError
        As `read_volumes`.
    """
    if packing_of(_voxel_file(image, Path(path))) != "gzip":
        return next(read_volumes(image, path))
    first, *_ = (volume if number == 0 else None for number, volume in enumerate(read_volumes(image, path)))
    assert first is not None
    return first


def read_volumes(image: Any, path: str | Path) -> Iterator[NDArray[np.float32]]:
    """Yield the volumes of a 4D image one after the other, (I, J, K); the file is read once, to its end.

    The checksum of a compressed file is compared after the last volume: only when the iterator has ended is it known
    that the volumes were good.

    Raises
    ------
    InputError
        If the file is cut short or damaged, or a volume is larger than the budget of memory.
    """
    proxy = image.dataobj
    shape = tuple(map(int, image.shape))
    check_voxels_fit(image, path)
    require_memory(_count(shape[:3]) * 12, path, "array of a volume")
    with _damaged(path):
        if not isinstance(proxy, ArrayProxy) or packing_of(_voxel_file(image, Path(path))) != "gzip":
            for volume in range(shape[3]):
                yield np.asarray(proxy[..., volume], dtype=np.float32)
            return
        with Inflated(_voxel_file(image, Path(path))) as stream:
            stream.skip(proxy.offset)
            for _ in range(shape[3]):
                raw = _next_array(stream, proxy, shape[:3])
                yield np.asarray(_scaled(raw, proxy), dtype=np.float32)
            stream.finish()


def _damaged(path: str | Path) -> Any:
    says = "the voxels cannot be read, the file is cut short or damaged ({})"
    return reading(path, _WHAT, "copy it again", says)


def _next_array(stream: Inflated, proxy: ArrayProxy, shape: tuple[int, ...]) -> NDArray[Any]:
    raw = np.empty(_count(shape), dtype=proxy.dtype)
    stream.read_exactly(raw.view(np.uint8))
    return raw.reshape(shape, order=proxy.order)


def _scaled(raw: NDArray[Any], proxy: ArrayProxy) -> NDArray[Any]:
    return np.asarray(apply_read_scaling(raw, np.asanyarray(proxy.slope), np.asanyarray(proxy.inter)))


def _voxel_file(image: Any, path: Path) -> Path:
    """Return the file that the voxels are in: for a pair, the one beside the header."""
    name = image.file_map["image"].filename
    return path if name is None else Path(name)


def _count(shape: tuple[int, ...]) -> int:
    """Return the number of voxels, in whole numbers that do not overflow."""
    return math.prod(map(int, shape))
