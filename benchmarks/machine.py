"""The line that every benchmark prints first: the machine and the versions."""

import os
import platform
from importlib.metadata import version

from histomri.core.provenance import software_version


def describe(*packages: str) -> str:
    """Return machine, cores, Python, and the versions of histomri and these packages."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", *packages))
    machine = f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"{machine}, histomri {software_version()}, {versions}"
