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
    Place,
    Source,
    either,
    fitted_maps,
    free_water,
    good_transform,
    key,
    landmarks_for,
    measure_names,
    of_samples,
    outlines,
    own_table,
    preset,
    result,
    results,
    unless_own_table,
    value,
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


def _step(name: str, out: str, section: str = "", *, command: str = "", **about: Any) -> Step:
    """Declare a step; what is no attribute of a step says where a field of its options comes from."""
    own = {key: about.pop(key) for key in ("open", "asked", "alone", "wanted") if key in about}
    return Step(name, next(each for each in COMMANDS if each.name == (command or name)), out, about, section, **own)


def _vascular(name: str) -> Source:
    """Return the source of a map: the sample, or the step t2ivim, if the study file asks for that step."""
    param = {"s0": "S0", "fv": "fV", "t2t": "T2T"}[name]
    return either(key(name), result("t2ivim", f"t2ivim/sub-{{id}}_param-{param}_desc-t2ivim_dwimap.nii.gz"))


def _registered(sample: Any) -> bool:
    return bool(sample.options.get("registration", {}).get("kind") != "none")


_ID = key("id")
_DWI = either(result("preprocess", "preprocessed/sub-{id}_desc-preproc_dwi.nii.gz"), key("dwi"))
_MASK = either(key("mask"), result("preprocess", "preprocessed/sub-{id}_desc-tissue_mask.nii.gz", optional=True))
_SIGMA = either(key("sigma"), result("preprocess", "preprocessed/sub-{id}_param-sigma_dwimap.nii.gz", optional=True))
_XFM = good_transform("xfm/sub-{id}_from-histo_to-dwi_mode-image_xfm.json")

# Every step of a sample, in the order in which they run. A field that is not listed under a step is an option of its
# section, or is read from the key of the sample with its name (protocol, roi, slide, landmarks, patient, group, ..).
PER_SAMPLE = (
    _step("preprocess", "preprocessed", "preprocess", asked=True, sub=_ID, mask=value(True)),
    _step("cells", "cells.parquet", "cell_options", exports=key("cells"), geometries=outlines(), open=("geometries",)),
    _step(
        "patches", "histo", "patches", cells=result("cells", "cells.parquet"), like=_DWI, sub=_ID,
        preset=preset("patches", of_histology=True), open=("preset",),
    ),
    _step(
        "ki67", "ki67", "ki67", wanted=lambda sample: sample.ki67_source is not None, sub=_ID,
        source=key("ki67_source"),
    ),
    _step(
        "t2ivim", "t2ivim", "t2ivim", asked=True, dwi=_DWI, mask=_MASK, sigma=_SIGMA, sub=_ID,
        preset=preset("t2ivim"), open=("preset",),
    ),
    _step(
        "fit", "mri", "fit", dwi=_DWI, mask=_MASK, sigma=_SIGMA, sub=_ID, preset=preset("fit"), open=("preset",),
        s0=_vascular("s0"), fv=_vascular("fv"), t2t=_vascular("t2t"), strategy_folders=value(True),
    ),
    _step(
        "dki", "mri", "dki", wanted=lambda sample: sample.options.get("fit", {}).get("dki", True), dwi=_DWI, mask=_MASK,
        sub=_ID, preset=preset("fit"), open=("preset",),
    ),
    _step("crlb", "crlb", "crlb", asked=True, preset=preset("crlb"), open=("preset",)),
    _step(
        "register", "xfm", "registration", wanted=_registered, fixed=_DWI, fixed_mask=_MASK, slice=key("mri_slice"),
        moving=result("patches", "histo/sub-{id}_param-F_histomap.nii.gz"), sub=_ID, figures=value(False),
        moving_mask=result("patches", "histo/sub-{id}_desc-tissue_mask.nii.gz", optional=True),
        landmarks_for=landmarks_for(), open=("landmarks_for",),
    ),
    _step(
        "pair", "pairs.csv", "pair", histo_dir=result("patches", "histo"), mri_dir=result("fit", "mri", also=("dki",)),
        xfm=_XFM, sample=_ID, slice=key("mri_slice"), mask=_MASK, per=value("sample"),
        voxel_out=value("pairs_voxel.csv"),
    ),
    _step(
        "qupath_grid", "sub-{id}_qupath.geojson", "qupath_grid", command="qupath-grid", asked=True, maps=fitted_maps(),
        xfm=_XFM,
    ),
)  # fmt: skip

_PAIRS = result("pairs", "pairs.csv")
_SCORES = result("score", "scores.json", optional=True)

# Every step over all samples that are finished; the report comes after them.
PER_STUDY = (
    _step(
        "residuals", "", folders=of_samples(lambda place, sample: place.path("mri", sample), "fit", prefix="sub-"),
        scanners=of_samples(lambda place, sample: sample.scanner, prefix="sub-"),
    ),
    _step(
        "pairs", "pairs.csv", tables=results("pair", "pairs.csv"), free_water_um2_ms=of_samples(free_water),
        measures=of_samples(lambda place, sample: dict(sample.measures)),
    ),
    _step("score", "", "score", table=_PAIRS),
    _step("statistics", "statistics", table=_PAIRS, measures=measure_names()),
    _step(
        "prediction", "statistics", "prediction", command="predict", asked=True, open=("table",),
        alone=lambda study: "table" in study.options["prediction"], folder_each=value(True),
        table=own_table("prediction", _PAIRS), ranking=unless_own_table("prediction", _SCORES),
    ),
    _step("harmonise", "harmonised", "harmonise", asked=True, table=_PAIRS),
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
        found = UNSET if source is None else source.get(place)
        if found is not UNSET:
            values[name] = found
    return step.command.options_class.model_validate(values)
