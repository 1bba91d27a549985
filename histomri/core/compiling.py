"""A word to the person when kernels must be compiled: half a minute without progress otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

COMPILING = "compiling the fitting kernels (once after installation)"


@contextmanager
def reporting_compilation(report: Callable[[], None]) -> Iterator[None]:
    """Call `report` once within the block if the kernel of a fit is compiled, and not if it is read from its cache."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]  # numba has no types
        reported = False

        def on_start(self, event: Any) -> None:
            # Parts of a kernel are compiled with it; what is in its cache makes no event.
            if not self.reported and event.data["dispatcher"].py_func.__name__ == "fit_voxels":
                self.reported = True
                report()

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield
