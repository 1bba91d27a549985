"""The graph of steps that a study is: what each step reads, and where it writes.

A step is a command with a place in the results. It says where the inputs of the command come from: a key of the
sample, or the result of another step. Everything else it gets stands in its section of the study file.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from histomri.core.options import Options
from histomri.study.commands import COMMANDS, Command
from histomri.study.sources import (
    UNSET,
    Either,
    FitMaps,
    FreeWater,
    GoodTransform,
    IfOutlines,
    Key,
    Mapped,
    MeasureNames,
    Measures,
    OwnTable,
    Place,
    Preset,
    Ranking,
    Result,
    Results,
    Source,
    Value,
    WithLandmarks,
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
    open : tuple of str
        Options that have a source and can stand in the section all the same; the source decides.
    asked : bool
        Whether it is run only if the study file has its section.
    alone : callable
        Given the study, tells whether a step over all samples needs none of them.
    wanted : callable
        Given a sample (or the study), tells whether the step is run; for steps that are not left out as a whole.
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
        return Key(name) if self.command.options_class.role(name) == "input" else None

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


def _step(name: str, out: str, reads: Mapping[str, Source] | None = None, **about: Any) -> Step:
    command = about.pop("command", name)
    return Step(name, next(each for each in COMMANDS if each.name == command), out, reads or {}, **about)


_ID = Key("id")
_DWI = Either(Result("preprocess", "preprocessed/sub-{id}_desc-preproc_dwi.nii.gz"), Key("dwi"))
_MASK = Either(Key("mask"), Result("preprocess", "preprocessed/sub-{id}_desc-tissue_mask.nii.gz", optional=True))
_SIGMA = Either(Key("sigma"), Result("preprocess", "preprocessed/sub-{id}_param-sigma_dwimap.nii.gz", optional=True))
_SCAN: dict[str, Source] = {"sub": _ID, "dwi": _DWI, "mask": _MASK}
_XFM = "xfm/sub-{id}_from-histo_to-dwi_mode-image_xfm.json"


def _registered(sample: Any) -> bool:
    return bool(sample.options.get("registration", {}).get("kind") != "none")


def _vascular(name: str) -> Source:
    """Return the source of a map: the sample, or the step t2ivim, if the study file asks for that step."""
    return Either(Key(name), Result("t2ivim", f"t2ivim/sub-{{id}}_param-{_T2IVIM[name]}_desc-t2ivim_dwimap.nii.gz"))


_T2IVIM = {"s0": "S0", "fv": "fV", "t2t": "T2T"}

# Every step of a sample, in the order in which they run. What is not listed under a step is read from the keys of the
# sample with the names of its fields (protocol, roi, slide, landmarks, patient, group, scanner, ..).
PER_SAMPLE = (
    _step("preprocess", "preprocessed", {"sub": _ID, "mask": Value(True)}, section="preprocess", asked=True),
    _step("cells", "cells.parquet", {"exports": Key("cells"), "geometries": IfOutlines()},
          section="cell_options", open=("geometries",)),
    _step("patches", "histo", {"cells": Result("cells", "cells.parquet"), "like": _DWI, "sub": _ID,
                               "preset": Preset("histology", "patches")}, section="patches", open=("preset",)),
    _step("ki67", "ki67", {"source": Key("ki67"), "sub": _ID}, section="ki67", wanted=lambda sample: sample.ki67),
    _step("t2ivim", "t2ivim", {**_SCAN, "sigma": _SIGMA, "preset": Preset("mri", "t2ivim")},
          section="t2ivim", open=("preset",), asked=True),
    _step("fit", "mri", {**_SCAN, "sigma": _SIGMA, "preset": Preset("mri", "fit"), "strategy_folders": Value(True),
                         **{name: _vascular(name) for name in _T2IVIM}}, section="fit", open=("preset",)),
    _step("dki", "mri", {**_SCAN, "preset": Preset("mri", "fit")}, section="dki", open=("preset",),
          wanted=lambda sample: sample.options.get("fit", {}).get("dki", True)),
    _step("crlb", "crlb", {"preset": Preset("mri", "crlb")}, section="crlb", open=("preset",), asked=True),
    _step("register", "xfm", {"moving": Result("patches", "histo/sub-{id}_param-F_histomap.nii.gz"), "fixed": _DWI,
                              "moving_mask": Result("patches", "histo/sub-{id}_desc-tissue_mask.nii.gz", optional=True),
                              "fixed_mask": _MASK, "slice": Key("mri_slice"), "sub": _ID, "figures": Value(False),
                              "landmarks_for": WithLandmarks()},
          section="registration", open=("landmarks_for",), wanted=_registered),
    _step("pair", "pairs.csv", {"histo_dir": Result("patches", "histo"), "mri_dir": Result("fit", "mri", also=("dki",)),
                                "xfm": GoodTransform(_XFM), "sample": _ID, "slice": Key("mri_slice"), "mask": _MASK,
                                "per": Value("sample"), "voxel_out": Value("pairs_voxel.csv")}, section="pair"),
    _step("qupath_grid", "sub-{id}_qupath.geojson", {"maps": FitMaps(), "xfm": GoodTransform(_XFM)},
          section="qupath_grid", command="qupath-grid", asked=True),
)  # fmt: skip


_PAIRS = Result("pairs", "pairs.csv")

# Every step over all samples that are finished, and then the report.
PER_STUDY = (
    _step("residuals", "", {"folders": Results("fit", "mri", by_sample=True), "scanners": Mapped("scanner", "sub-")}),
    _step("pairs", "pairs.csv", {"tables": Results("pair", "pairs.csv"), "measures": Measures(),
                                 "free_water_um2_ms": FreeWater()}),
    _step("score", "", {"table": _PAIRS}, section="score"),
    _step("statistics", "statistics", {"table": _PAIRS, "measures": MeasureNames()}),
    _step("prediction", "statistics", {"table": OwnTable("prediction", _PAIRS), "folder_each": Value(True),
                                       "ranking": Ranking("prediction", Result("score", "scores.json", optional=True))},
          section="prediction", command="predict", open=("table",), asked=True,
          alone=lambda study: "table" in study.options["prediction"]),
    _step("harmonise", "harmonised", {"table": _PAIRS}, section="harmonise", asked=True),
)  # fmt: skip


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
        found = UNSET if source is None else source(place)
        if found is not UNSET:
            values[name] = found
    return step.command.options_class.model_validate(values)
