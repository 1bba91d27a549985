"""The methods of a run as paragraphs, its settings as a table, and how reliable its results are."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pkgutil import resolve_name
from typing import Any

import numpy as np

from histomri.analysis import critical_correlation
from histomri.core.options import Options
from histomri.report.collect import Run, Sample, as_dict
from histomri.report.figures.prediction import quantity
from histomri.report.guard import attempt
from histomri.report.histology import histology_methods, histology_note
from histomri.report.text import STRATEGIES, best_fit, decimals, label_of, model_name, percent, rows_of

CITATIONS = (
    "Grussu F, et al. Clinically feasible liver tumour cell size measurement through histology-informed in vivo "
    "diffusion MRI. Communications Medicine, 2025. doi:10.1038/s43856-025-01246-2",
    "Bankhead P, et al. QuPath: open source software for digital pathology image analysis. Scientific Reports 7:16878, "
    "2017. doi:10.1038/s41598-017-17204-5",
    "Dutilleul P. Modifying the t test for assessing the correlation between two spatial processes. Biometrics "
    "49:305, 1993. doi:10.2307/2532625",
)

# The sections of the settings in study.json, and the options that each holds.
_SECTIONS = {
    "cell_options": "cells:CellOptions", "patches": "patches:PatchOptions", "ki67": "patches:Ki67Options",
    "preprocess": "mri:PreprocessOptions", "t2ivim": "fitting:T2IvimOptions", "fit": "fitting:FitOptions",
    "dki": "fitting:DkiOptions", "crlb": "fitting:CrlbOptions", "registration": "registration:RegisterOptions",
    "pair": "pairing:PairOptions", "qupath_grid": "slides:QupathGridOptions", "score": "analysis:ScoreOptions",
    "prediction": "analysis:PredictOptions", "harmonise": "analysis:HarmoniseOptions",
}  # fmt: skip


def presets(run: Run) -> str:
    """Return the presets of the fits, that of the study first."""
    fitted = [str(sample.sidecars["fit"].get("preset", "")) for sample in run.samples if "fit" in sample.sidecars]
    own = str(run.study.get("preset") or "")
    return ", ".join(dict.fromkeys(name for name in ([own] if own in fitted or not fitted else []) + fitted if name))


def settings_table(run: Run) -> list[dict[str, str]]:
    """Return every setting with its value and its help text; where samples differ, the value of each."""
    found: dict[str, dict[str, str]] = {}
    for sample in run.samples:
        for part, settings in sample.sidecars.items():
            for name, value in _flat(settings):
                found.setdefault(f"{part}: {name}", {})[sample.id] = value
    of_study = as_dict(run.study.get("parameters"))
    for entry in (*run.parameters, {key: value for key, value in of_study.items() if key != "samples"}):
        for name, value in _flat({key: value for key, value in entry.items() if key != "id"}):
            found.setdefault(f"study: {name}", {})[str(entry.get("id", ""))] = value
    help_texts, rows = _help_texts(), []
    for name, values in sorted(found.items()):
        distinct = list(dict.fromkeys(values.values()))
        text = distinct[0] if len(distinct) == 1 else "; ".join(f"{key}: {value}" for key, value in values.items())
        if text:
            rows.append({"name": name.replace("_", " "), "value": text, "help": help_texts.get(name, "")})
    return rows


def _help_texts() -> dict[str, str]:
    """Return the help text of every option of a study, by its name in the table of settings."""
    texts: dict[str, str] = {}
    for part, place in _SECTIONS.items():
        options: type[Options] = resolve_name(f"histomri.{place.replace(':', '.options:')}")
        texts |= {f"study: {part}, {key}": field.description or "" for key, field in options.model_fields.items()}
    return texts


def methods_text(run: Run) -> list[str]:
    """Return the paragraphs of a methods section, filled in as far as the run's records go."""
    parts = {"the maps": _histology, "the fits": _mri, "the registration": _registration, "the scores": _scores}
    parts["the statistics"] = _statistics
    texts = [attempt(partial(make, run), "", run.missing, f"No methods of {name}") for name, make in parts.items()]
    return [text for text in texts if text]


def _each(run: Run, describe: Callable[[Sample], str]) -> str:
    """Say in sentences what was done to the samples; where it differs, to how many of them what."""
    alike = Counter(text for sample in run.samples if (text := describe(sample)))
    if len(alike) == 1:
        (text,) = alike
        return f" {text[0].upper()}{text[1:]}."
    return "".join(f" {number} sample{'s' if number > 1 else ''}: {text}." for text, number in alike.items())


def _histology(run: Run) -> str:
    return histology_methods(run) + _each(run, _patches)


def _settings(sample: Sample, part: str) -> dict[str, Any]:
    return {key.lower(): value for key, value in sample.sidecars.get(part, {}).items()}


def _patches(sample: Sample) -> str:
    if not (settings := _settings(sample, "histology")):
        return ""
    size = settings.get("patch_um") or []
    one = f"patches of {size[0]:.0f} by {size[1]:.0f} µm" if len(size) == 2 else "patches of one MRI voxel"
    parts = ["the whole tissue as one patch" if sample.by_means else one]
    shrinkage = settings.get("shrinkage")
    if shrinkage not in (None, "", 0, "0", "none"):
        parts.append(f"lengths corrected for {100 * float(shrinkage):g}\u202f% shrinkage of the tissue")
    if settings.get("section") not in (None, "none"):
        parts.append(f"sizes corrected for sectioning ({settings['section']})")
    return ", ".join(parts)


def _mri(run: Run) -> str:
    if not (fits := list(dict.fromkeys(key for sample in run.samples for key in sample.fits))):
        return ""
    models = ", ".join(dict.fromkeys(model_name(model) for model, _ in fits))
    ways = " and ".join(dict.fromkeys(STRATEGIES.get(strategy, strategy) for _, strategy in fits))
    text = (
        f"Two-compartment signal models of restricted diffusion in spheres ({models}) were fitted voxel by voxel to "
        f"{ways}. From the fit, vCS is the sphere diameter L, F the intra-cellular signal fraction, less that of blood "
        "where it is known. CD = F/L³ is computed per voxel before averaging; cells per volume are 6/π times that "
        "(CDsphere), and (1 + CV²)^10.5 as many where diameters scatter by CV."
    )
    text += _each(run, _fitted)
    if any("ADC" in sample.common for sample in run.samples):
        text += " ADC and excess kurtosis come from a kurtosis fit to the signals themselves."
    return text


def _fitted(sample: Sample) -> str:
    if not (settings := _settings(sample, "fit")):
        return ""
    parts = [f"bounds and b thresholds of preset {settings['preset']}"] if settings.get("preset") else []
    if settings.get("strategy") == "high-b" and settings.get("bmin"):
        parts.append(f"high b above {float(settings['bmin']):g} s/mm²")
    if noise := settings.get("noise"):
        parts.append({"none": "least squares", "rician": "Rician likelihood"}.get(str(noise), f"{noise} likelihood"))
    if known := str(as_dict(settings.get("sigma")).get("Method", "")):
        given = {"number": "noise level given", "map": "noise map given"}
        parts.append(given.get(known, f"noise level by {known}"))
    if settings.get("normalisation"):
        parts.append(f"signals divided by {settings['normalisation'].replace('mean', 'the mean')}")
    if settings.get("t2ivim"):
        kurtosis = as_dict(settings["t2ivim"]).get("kurtosis")
        parts.append("S0, fV and T2 from a fit of tissue and blood" + (f" (kurtosis {kurtosis})" if kurtosis else ""))
    return ", ".join(parts)


def _registration(run: Run) -> str:
    placed = sum(bool(sample.registration) for sample in run.samples)
    apart = sum(sample.by_means for sample in run.samples)
    text = (
        "Histology was resampled linearly onto the grid of the MRI slice among measured patches; a voxel counts if at "
        "least half of the interpolation weights fell on measured patches, both sides are finite, and the fit "
        "converged (parameters at a bound are kept and flagged)."
    )
    if placed:
        who = "Each section" if not apart else f"Each of {placed} sections" if placed > 1 else "One section"
        text = f"{who} was registered to its MRI slice.{_each(run, _driven)} {text}"
    means = "the mean over the MRI region is compared with the one number of the histology, without registration."
    if apart and placed:
        text += f" For the other {apart} samples {means}"
    return text if placed or not apart else f"{means[0].upper()}{means[1:]}"


def _driven(sample: Sample) -> str:
    """Say what a registration rests on."""
    settings = as_dict(sample.registration.get("parameters"))
    if "Drive" not in settings:
        return ""
    kinds = {"bspline": "affine and, where it clearly helps, B-spline", "tps": "thin-plate spline"}
    kind, landmarks = settings.get("Kind"), settings.get("Landmarks")
    drive = f"by {landmarks} landmarks alone"
    if settings["Drive"] == "outline":
        drive = "driven by the outline of the tissue alone" + (f", from {landmarks} landmarks" if landmarks else "")
    engine = ", refined by DIPY" if settings.get("Engine") == "dipy" else ""
    return f"{kinds.get(str(kind), kind)}, {drive}{engine}"


def _scores(run: Run) -> str:
    if not run.ranking:
        return ""
    settings = run.scoring
    if settings.get("ranked_by") == "r_vCS":
        return (
            "The histology has no fraction of cells that was measured, so models are ranked by r(vCS_MRI, "
            "vCS_histology) alone, Pearson over samples; there is no TCS and no HFC."
        )
    boot = f" ({settings['n_boot']} resamples, seed {settings.get('seed')})" if settings.get("n_boot") else ""
    return (
        "Models are ranked by the total correlation score TCS = r(vCS_MRI, vCS_histology) + r(F_MRI, F_histology), "
        "Pearson over samples. The histology-fidelity criterion of a sample is HFC = |ΔvCS|/vCS_histology + "
        "|ΔF|/F_histology; the lowest over all rows wins the sample. BIC is compared voxel by voxel within a "
        "strategy, and the majority of voxels decides for the sample. Intervals of TCS: "
        f"{settings.get('interval', 'not recorded')}. The highest TCS is shown as observed, and corrected for being "
        f"the highest of several: less its optimism in resamples{boot}, with an interval whose lower limit holds for "
        "every model that could have been first (locally simultaneous; Zrnic and Fithian 2024). The models among the "
        "best are the model confidence set (Hansen, Lunde and Nason 2011) at 5 %, from jackknife pseudo-values; with "
        "10 models it loses one of equals in 5 to 12 % of studies."
    )


def _statistics(run: Run) -> str:
    """Say which statistics over samples there are, and how they were computed."""
    ways = {
        "correlations": "correlations are Pearson's and Spearman's, with Fisher's intervals",
        "agreement": "agreement is by bias and limits of agreement (Bland and Altman 1999)",
        "regression": "regressions are of z-scores by least squares, with HC3 intervals",
        "comparisons": "groups are compared by Welch's t-test and Hedges' g",
    }
    parts = [text for name, text in ways.items() if name in run.findings.tables]
    text = f"Over samples, {'; '.join(parts)}. " if parts else ""
    for found in list(run.findings.predictions.values())[:1]:
        settings = found.settings
        metrics = " and ".join(label_of(settings[name]).name for name in ("x", "y"))
        together = f", keeping cases of one {settings['group_by']} together" if settings.get("group_by") else ""
        text += (
            f"{quantity(found)} was predicted from {metrics} by polynomials, judged by "
            f"{settings.get('folds')}-fold cross-validation{together} (seed {settings.get('seed')})."
        )
    return text.strip()


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{key}, ")
        elif isinstance(value, list | tuple):
            rows += [(f"{before}{key}", ", ".join(map(str, value)))] if len(value) <= 12 else []
        elif value is not None:
            rows.append((f"{before}{key}", f"{value:g}" if isinstance(value, float) else str(value)))
    return rows


_NEIGHBOURS = (
    "Voxels of one section are neighbours, not independent measurements: p-values and intervals of voxel-wise "
    "correlations count the number of independent voxels that would be as informative (Dutilleul 1993). They "
    "describe one section; judge by the samples."
)


def reliability_notes(run: Run) -> list[str]:
    """Return one note each about registration, number of samples, fits at their bounds, and voxels."""
    good = [sample for sample in run.samples if not sample.failed]
    parts = {"the registrations": _registrations, "the number of samples": _number, "fits at their bounds": _bounds}
    parts["the histology"] = lambda run, samples: histology_note(run)
    texts = [attempt(partial(say, run, good), "", run.missing, f"No note about {name}") for name, say in parts.items()]
    return [text for text in (*texts[:-1], _NEIGHBOURS, *texts[-1:]) if text]


def _registrations(run: Run, samples: list[Sample]) -> str:
    verdicts = Counter(str(sample.registration.get("verdict", "none")) for sample in samples)
    if not samples:
        return "No sample was finished."
    if set(verdicts) == {"none"}:
        return "Histology and MRI were not registered; only means of whole samples are compared."
    alone = verdicts.pop("none", 0)
    rest = f" Of the other {alone} samples only means are compared." if alone else ""
    if set(verdicts) == {"good"}:
        return f"Every registration is judged good.{rest}"
    parts = []
    for verdict, wording in (("check", "should be checked by eye"), ("failed", "failed")):
        if names := [sample.id for sample in samples if sample.registration.get("verdict") == verdict]:
            parts.append(f"{', '.join(names)} {wording}")
    return f"Registration: {verdicts.get('good', 0)} of {sum(verdicts.values())} good; {'; '.join(parts)}.{rest}"


def _number(run: Run, samples: list[Sample]) -> str:
    n = max((row["n"] for row in run.ranking), default=len(samples))
    if n < 3:
        return f"With {n} sample{'s' if n != 1 else ''}, models cannot be ranked by correlation over samples."
    critical = decimals(critical_correlation(n), 3)
    if n >= 10:
        return f"With N = {n} samples, correlations above |r| = {critical} differ from none at p < 0.05."
    uncertain = f"correlations over samples are uncertain: only |r| above {critical} differs from none at p < 0.05"
    return f"With N = {n} samples, {uncertain}. Take the order of the models as a hint."


def _bounds(run: Run, samples: list[Sample]) -> str:
    key = best_fit(run)
    if key is None:
        return ""
    voxels = {sample.id: rows_of(sample.voxels, key) for sample in samples if sample.voxels is not None}
    found = {name: float(rows["at_bound"].astype(bool).mean()) for name, rows in voxels.items() if len(rows)}
    if run.pairs is not None and "at_bound_share" in run.pairs:  # which also knows samples without pairs of voxels
        rows = rows_of(run.pairs, key)
        found |= dict(zip(rows["sample"].astype(str), rows["at_bound_share"]))
    shares = [share for share in found.values() if np.isfinite(share)]
    if not shares:
        return ""
    low, mean, high = min(shares), float(np.mean(shares)), max(shares)
    name = f"{model_name(key[0])} ({STRATEGIES.get(key[1], key[1])})"
    spread = "" if high - low < 0.1 else f" (from {percent(low)} to {percent(high)} by sample)"
    effect = "the data barely constrain them" if mean > 0.25 else "those voxels carry less information"
    return f"{percent(mean)} of the compared voxels have a parameter of {name} at its bound{spread}; {effect}."
