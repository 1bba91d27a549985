"""What numba's cache of compiled kernels does not do by itself: notice changes, and find a place to write."""

import os
import tempfile
import zlib
from pathlib import Path

from numba import config, njit


def source_hash(kernel: str, *modules: str) -> int:
    """Return a checksum of the modules beside the file of a kernel that hold functions which it calls.

    The cache notices changes of the kernel's own file only; a number that the kernel closes over is part of its key.
    """
    return zlib.crc32(b"".join(Path(kernel).with_name(f"{name}.py").read_bytes() for name in modules))


def ensure_cache() -> None:
    """Let numba cache in a temporary folder where neither the installation nor the home can be written.

    Modules with cached kernels call it before they declare them.
    """
    try:
        njit(cache=True)(_probe)  # finds a folder for the cache, and compiles nothing
    except RuntimeError:
        config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = str(_temporary_folder())


def _probe() -> None:
    pass


def _temporary_folder() -> Path:
    """Return a folder that all runs of this user share; one of its own if another user was there first.

    The cache is code that will be run, so nobody else may be able to write there.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"histomri-numba-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        if folder.is_symlink() or (hasattr(os, "getuid") and (state.st_uid != user or state.st_mode & 0o077)):
            raise PermissionError
    except OSError:
        return Path(tempfile.mkdtemp(prefix="histomri-numba-"))
    return folder
