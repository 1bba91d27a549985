"""Every command of histomri, in the order in which a study uses them.

A command is made from its options class (in the room that does the work) and the function `run` of the file of its
name in `study/steps`.
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

    @property
    def run(self) -> Any:
        """The function that runs it."""
        return import_module(self.module).run


COMMANDS = (
    Command("cells", "Histology", "cells.options:CellOptions", "file"),
    Command("patches", "Histology", "patches.options:PatchOptions"),
    Command("ki67", "Histology", "patches.options:Ki67Options"),
    Command("qupath-grid", "Histology", "slides.options:QupathGridOptions", "file"),
    Command("crlb", "MRI", "fitting.options:CrlbOptions"),
    Command("preprocess", "MRI", "mri.options:PreprocessOptions", default_out="histomri-preprocess"),
    Command("fit", "MRI", "fitting.options:FitOptions"),
    Command("t2ivim", "MRI", "fitting.options:T2IvimOptions"),
    Command("dki", "MRI", "fitting.options:DkiOptions"),
    Command("register", "Registration", "registration.options:RegisterOptions"),
    Command("apply", "Registration", "registration.options:ApplyOptions", "file"),
    Command("pair", "Tables", "pairing.options:PairOptions", "file"),
    Command("residuals", "", "pairing.options:ResidualsOptions"),
    Command("pairs", "", "pairing.options:PairsOptions", "file"),
    Command("join", "Tables", "pairing.options:JoinOptions", "file"),
    Command("score", "Tables", "analysis.options:ScoreOptions"),
    Command("statistics", "", "analysis.options:StatisticsOptions"),
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
