"""Commands, and steps of a study: commands with a place in the results and sources for their inputs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from histomri.core.options import Options
from histomri.core.provenance import one_run
from histomri.core.runs import run_key
from histomri.study.sources import UNSET, Place, Source, key


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes
    ----------
    name : str
        As it is typed; the file in `study/steps` has underscores in place of dashes and blanks.
    panel : str
        Heading under which the help lists it; a step that only a study has, has none.
    options : str
        Where the options class is: ``room.options:Class`` below histomri.
    out : {"folder", "file", "none"}
        What ``--out`` names, if there is such an option.
    default_out : str or None
        Where it is written if ``--out`` is not given; None if it must be.
    """

    name: str
    panel: str
    options: str
    out: Literal["folder", "file", "none"] = "folder"
    default_out: str | None = None

    @property
    def options_class(self) -> type[Options]:
        """The options class."""
        module, name = self.options.split(":")
        found: type[Options] = getattr(import_module(f"histomri.{module}"), name)
        return found

    @property
    def module(self) -> str:
        """The module that runs it, with a function `run`: (options, out, progress) to StepResult."""
        return f"histomri.study.steps.{self.name.replace('-', '_').replace(' ', '_')}"

    def run(self, options: Options, *out: Any) -> Any:
        """Run it: with its options, what to write, and progress. All sidecars that it writes carry one mark."""
        with one_run(self.name, lambda: run_key(self.name, options)):
            return import_module(self.module).run(options, *out)


@dataclass(frozen=True)
class Step:
    """A command in a study.

    Attributes
    ----------
    name : str
        Of the step, in records and messages.
    command : Command
    out : str
        What it writes, below the folder of the sample (or of the study).
    reads : mapping of field to Source
        Where inputs come from. An input that is not listed comes from the key of the sample with its name.
    section : str
        Its section in the study file.
    open : tuple of str
        Options that have a source and can stand in the section all the same; the source decides.
    asked : bool
        Whether it is run only if the study file has its section.
    alone : callable
        Given the study, returns whether a step over all samples needs none of them.
    wanted : callable
        Given a sample (or the study), returns whether the step is run; for steps that are not left out as a whole.
    """

    name: str
    command: Command
    out: str
    reads: Mapping[str, Source] = field(default_factory=dict)
    section: str = ""
    open: tuple[str, ...] = ()
    asked: bool = False
    alone: Callable[[Any], bool] = lambda study: False
    wanted: Callable[[Any], bool] = lambda subject: True

    def source(self, name: str) -> Source | None:
        """Return where a field comes from; None if it stands in the section."""
        if name in self.reads:
            return self.reads[name]
        return key(name) if self.command.options_class.role(name) == "input" else None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of its section."""
        names = self.command.options_class.names("option")
        return tuple(name for name in names if name not in self.reads or name in self.open)

    @property
    def after(self) -> tuple[str, ...]:
        """The steps whose results it reads."""
        return tuple(dict.fromkeys(name for source in self.reads.values() for name in source.steps))

    def is_wanted(self, subject: Any) -> bool:
        """Tell whether the step is run for a sample or a study."""
        return (not self.asked or self.section in subject.options) and self.wanted(subject)


def build(step: Step, place: Place) -> Options:
    """Return the options of a step at a place: all that it will see.

    Raises
    ------
    ValidationError
        If they contradict each other or the declarations of the command.
    """
    values = dict(place.options.get(step.section, {}))
    for name in step.command.options_class.model_fields:
        source = step.source(name)
        found = UNSET if source is None else source.get(place)
        if found is not UNSET:
            values[name] = found
    return step.command.options_class.model_validate(values)
