"""Every command, and the graph of steps that a study is: the one list of what there is and what reads what.

A command is made from its options class (in the room that does the work) and the function `run` of the file of its
name in `study/steps`. A step says where the inputs of its command come from: a key of the sample, or the result of
another step. Everything else it gets stands in its section of the study file.
"""

from typing import Any

from histomri.study.sources import (
    Source,
    either,
    fitted_maps,
    fraction_map,
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
    said,
    unless_own_table,
    value,
)
from histomri.study.step import Command, Step

# In the order in which a study uses them; the help lists them so, below their headings.
COMMANDS = (
    Command("cells", "Histology", "cells.options:CellOptions", "file"),
    Command("patches", "Histology", "patches.options:PatchOptions"),
    Command("ki67", "Histology", "patches.options:Ki67Options"),
    Command("fat", "Histology", "patches.options:FatOptions"),
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
    Command("repeat", "Tables", "analysis.options:RepeatOptions"),
    Command("power", "Tables", "analysis.options:PowerOptions"),
    Command("report", "Study", "report.options:ReportOptions", "none"),
    Command("multiverse", "Study", "study.options:MultiverseOptions"),
    Command("benchmark", "Simulation", "simulation.options:BenchmarkOptions"),
    Command("simulate liver", "Simulation", "simulation.options:LiverOptions"),
    Command("simulate paper", "Simulation", "simulation.options:PaperOptions"),
    Command("simulate spheres", "Simulation", "simulation.options:SpheresOptions"),
    Command("simulate benchmark", "Simulation", "simulation.options:BenchmarkInputOptions"),
    Command("insilico", "Simulation", "simulation.options:InsilicoOptions", default_out="histomri-insilico"),
)


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
    _step(
        "cells", "cells.parquet", "cell_options", exports=key("cells"), check=key("slide"), geometries=outlines(),
        open=("geometries",),
    ),
    _step(
        "patches", "histo", "patches", cells=result("cells", "cells.parquet"), like=_DWI, sub=_ID,
        preset=preset("patches", of_histology=True), open=("preset",),
    ),
    _step(
        "ki67", "ki67", "ki67", wanted=lambda sample: sample.ki67_source is not None, sub=_ID,
        source=key("ki67_source"), slide=key("ki67_slide"),
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
        sigma=_SIGMA, sub=_ID, preset=preset("fit"), open=("preset",),
    ),
    _step("crlb", "crlb", "crlb", asked=True, preset=preset("crlb"), open=("preset",)),
    _step(
        "register", "xfm", "registration", wanted=_registered, fixed=_DWI, fixed_mask=_MASK, slice=key("mri_slice"),
        moving=fraction_map("patches"), sub=_ID, figures=value(False),
        moving_mask=result("patches", "histo/sub-{id}_desc-tissue_mask.nii.gz", optional=True),
        landmarks_for=landmarks_for(), open=("landmarks_for",),
    ),
    _step(
        "pair", "pairs.csv", "pair", histo_dir=result("patches", "histo"), mri_dir=result("fit", "mri", also=("dki",)),
        xfm=_XFM, sample=_ID, slice=key("mri_slice"), mask=_MASK, per=value("sample"),
        voxel_out=value("pairs_voxel.csv"), size=said("patches", "size"),
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
