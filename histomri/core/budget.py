"""How much memory one file may take: a quarter of the machine, or what HISTOMRI_MEMORY says."""

import os
import re
from functools import cache
from pathlib import Path

from histomri.core.errors import InputError

VARIABLE = "HISTOMRI_MEMORY"
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_FORM = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)I?B?", re.IGNORECASE)
_FALLBACK = 8 << 30  # a machine that does not say how much it has
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_budget() -> int:
    """Return how many bytes one file may take in memory.

    Raises
    ------
    InputError
        If HISTOMRI_MEMORY is no size.

    Examples
    --------
    >>> import os
    >>> os.environ["HISTOMRI_MEMORY"] = "4 GB"
    >>> memory_budget() // 2**30
    4
    >>> del os.environ["HISTOMRI_MEMORY"]
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return _machine_memory() // 4
    found = _FORM.fullmatch(text)
    if found is None or not float(found[1]):
        raise InputError(f"{VARIABLE} is {text!r}, which is no size", hint=f"set it as in {VARIABLE}=8G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def require_memory(needed: int, path: str | Path, what: str) -> None:
    """Raise InputError if a file would take more memory than the budget."""
    if needed > (budget := memory_budget()):
        problem = (
            f"the {what} would take {needed / 2**30:,.1f} GiB of memory, and {budget / 2**30:,.1f} GiB are allowed"
        )
        raise InputError(problem, path=path, hint=f"if it is really that large, set {VARIABLE}, as in {VARIABLE}=16G")


@cache
def _machine_memory() -> int:
    """Return the memory of the machine, or of the container in it."""
    return min([_physical(), *(limit for place in _LIMITS if (limit := _limit(Path(place))))])


def _limit(place: Path) -> int:
    try:
        text = place.read_text(encoding="ascii").strip()
    except OSError:  # no container, or not Linux
        return 0
    return int(text) if text.isdigit() else 0


def _physical() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return _of_windows() or _FALLBACK


def _of_windows() -> int:
    import ctypes

    kernel = getattr(ctypes, "windll", None)
    if kernel is None:
        return 0
    size = ctypes.c_ulonglong(0)
    found = kernel.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(size))
    return int(size.value) << 10 if found else 0
