"""Every command of histomri, in the order in which a study uses them: the one list of what there is.

A command is made from its options class (in the room that does the work) and the function `run` of the file of its
name in `study/steps`. A step of a study is a command with a place in the results.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from histomri.core.options import Options


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes
    ----------
    name : str
        As it is typed; the file in `study/steps` has underscores in place of dashes and spaces.
    panel : str
        Heading under which the help lists it.
    options : str
        Where the options class is: ``room.options:Class`` below histomri.
    out : {"folder", "file", "none"}
        What ``--out`` names; none for a command that writes into the folder it reads.
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
    def is_declared(self) -> bool:
        """Whether its step is there."""
        from importlib.util import find_spec

        return find_spec(self._module) is not None

    @property
    def run(self) -> Any:
        """The function that runs it: (options, out, progress) to StepResult."""
        return import_module(self._module).run

    @property
    def _module(self) -> str:
        return f"histomri.study.steps.{self.name.replace('-', '_').replace(' ', '_')}"


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
    Command("report", "Study", "report.options:ReportOptions", "none"),
    Command("simulate liver", "Simulation", "simulation.options:LiverOptions"),
    Command("simulate paper", "Simulation", "simulation.options:PaperOptions"),
    Command("simulate spheres", "Simulation", "simulation.options:SpheresOptions"),
)
