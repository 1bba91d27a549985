"""Progress of long tasks."""

from collections.abc import Callable

Progress = Callable[[float], None]
"""Called with the fraction done, from 0 to 1."""


def share_of(progress: Progress | None, start: float = 0.0, stop: float = 1.0) -> Progress:
    """Return what one step of a task reports to: it counts from `start` to `stop` of the whole.

    Where nobody wants to know, the reports of the step go nowhere.
    """
    if progress is None:
        return lambda fraction: None
    return lambda fraction: progress(start + (stop - start) * fraction)
