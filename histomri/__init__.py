"""histomri: histology and MRI on one grid, with honest uncertainty."""

from typing import Any

import lazy_loader

_attach, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from histomri.core.provenance import software_version

        return software_version()
    return _attach(name)
