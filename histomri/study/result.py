"""What a step hands back."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from histomri.core.options import Options
from histomri.core.progress import Progress


@dataclass(frozen=True)
class StepResult:
    """The files a step wrote and what there is to say about them.

    Attributes
    ----------
    outputs : tuple of Path
        Files written, sidecars included.
    messages : tuple of str
        Lines for the person who ran it: counts, choices, numbers.
    warnings : tuple of str
        What makes the result less trustworthy; shown first in the report.
    summary : dict
        The same in numbers, for the report and for JSON.
    """

    outputs: tuple[Path, ...]
    messages: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)


def writing(analyse: Callable[[Any], Any]) -> Callable[..., StepResult]:
    """Return the `run` of a step that writes what a function of a room finds."""

    def run(options: Options, out: Path, progress: Progress | None = None) -> StepResult:
        return StepResult(*analyse(options).write(out))

    return run
