"""Every command, and the graph of steps that a study is: the one list of what there is and what reads what.

A command is made from its options class (in the room that does the work) and the function `run` of the file of its
name in `study/steps`. A step of a study is a command with a place in the results, and says where the inputs of the
command come from: the sample, or the result of another step. Everything else it gets stands in its section of the
study file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

from histomri.core.options import Options
from histomri.study.sources import (
    Each,
    Either,
    FitMaps,
    GoodTransform,
    IfOutlines,
    Key,
    Mapped,
    Preset,
    Result,
    Results,
    Source,
    Value,
    WithLandmarks,
)


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes
    ----------
    name : str
        As it is typed; the file in `study/steps` has underscores in place of dashes.
    panel : str
        Heading under which the help lists it.
    options : str
        Where the options class is: ``room.options:Class`` below histomri.
    out : {"folder", "file"}
        What ``--out`` names.
    default_out : str or None
        Where it is written if ``--out`` is not given; None if it must be.
    """

    name: str
    panel: str
    options: str
    out: Literal["folder", "file"] = "folder"
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
        return f"histomri.study.steps.{self.name.replace('-', '_')}"

    @property
    def run(self) -> Any:
        """The function that runs it."""
        return import_module(self.module).run

    @property
    def is_declared(self) -> bool:
        """Whether its step is there."""
        from importlib.util import find_spec

        return find_spec(self.module) is not None


COMMANDS = (
    Command("cells", "Histology", "cells.options:CellOptions", "file"),
    Command("patches", "Histology", "patches.options:PatchOptions"),
    Command("ki67", "Histology", "slides.options:Ki67Options"),
    Command("qupath-grid", "Histology", "slides.options:QupathGridOptions", "file"),
    Command("crlb", "MRI", "fitting.options:CrlbOptions"),
    Command("preprocess", "MRI", "mri.options:PreprocessOptions", default_out="histomri-preprocess"),
    Command("fit", "MRI", "fitting.options:FitOptions"),
    Command("t2ivim", "MRI", "fitting.options:T2IvimOptions"),
    Command("dki", "MRI", "fitting.options:DkiOptions"),
    Command("register", "Registration", "registration.options:RegisterOptions"),
    Command("apply", "Registration", "registration.options:ApplyOptions", "file"),
    Command("pair", "Tables", "pairing.options:PairOptions", "file"),
    Command("join", "Tables", "pairing.options:JoinOptions", "file"),
    Command("score", "Tables", "analysis.options:ScoreOptions"),
    Command("correlate", "Tables", "analysis.options:CorrelateOptions"),
    Command("regress", "Tables", "analysis.options:RegressOptions"),
    Command("compare", "Tables", "analysis.options:CompareOptions"),
    Command("predict", "Tables", "analysis.options:PredictOptions"),
    Command("harmonise", "Tables", "analysis.options:HarmoniseOptions"),
    Command("agree", "Tables", "analysis.options:AgreeOptions"),
    Command("power", "Tables", "analysis.options:PowerOptions"),
)


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
    asked : bool
        Whether it is run only if the study file has its section.
    wanted : callable
        Given a sample (or the study), tells whether the step is run; for steps that are not left out as a whole.
    """

    name: str
    command: Command
    out: str
    reads: Mapping[str, Source] = field(default_factory=dict)
    section: str = ""
    asked: bool = False
    wanted: Callable[[Any], bool] = lambda subject: True

    def source(self, name: str) -> Source | None:
        """Return where a field comes from; None if it stands in the section."""
        if name in self.reads:
            return self.reads[name]
        return Key(name) if self.command.options_class.role(name) == "input" else None

    @property
    def after(self) -> tuple[str, ...]:
        """The steps whose results it reads."""
        return tuple(dict.fromkeys(name for source in self.reads.values() for name in source.steps))


def _step(name: str, out: str, reads: Mapping[str, Source] | None = None, **about: Any) -> Step:
    command = about.pop("command", name)
    return Step(name, next(each for each in COMMANDS if each.name == command), out, reads or {}, **about)
