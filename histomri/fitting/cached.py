"""What numba's cache of compiled kernels does not notice by itself."""

import zlib
from pathlib import Path


def mark_of(*modules: str) -> int:
    """Return a checksum of modules of this folder, whose functions a kernel holds.

    The cache notices changes of the kernel's own file only; a mark that the kernel closes over is part of its key.
    """
    return zlib.crc32(b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in modules))
