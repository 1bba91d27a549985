"""What was done, in words and as a table of settings."""

from collections.abc import Mapping
from typing import Any

from histomri.report.collect import Run
from histomri.report.words import STRATEGIES, model_name

CITATION = (
    "Grussu F, et al. Clinically feasible liver tumour cell size measurement through histology-informed in vivo "
    "diffusion MRI. Communications Medicine, 2025. doi:10.1038/s43856-025-01246-2"
)


def settings_table(run: Run) -> list[dict[str, str]]:
    """Return every setting with its value; where samples differ, the value of each."""
    found: dict[str, dict[str, str]] = {}
    for sample in run.samples:
        for part, settings in sample.sidecars.items():
            for name, value in _flat(settings):
                found.setdefault(f"{part}: {name}", {})[sample.id] = value
    for entry in _listed(run.study.get("parameters")):
        for name, value in _flat({key: value for key, value in entry.items() if key != "id"}):
            found.setdefault(f"study: {name}", {})[str(entry.get("id", ""))] = value
    rows = []
    for name, values in sorted(found.items()):
        distinct = list(dict.fromkeys(values.values()))
        text = distinct[0] if len(distinct) == 1 else "; ".join(f"{key}: {value}" for key, value in values.items())
        if text:
            rows.append({"name": name.replace("_", " "), "value": text})
    return rows


def methods_text(run: Run) -> list[str]:
    """Return the paragraphs of a methods section, filled in as far as the run's records go."""
    histology = next((s.sidecars["histology"] for s in run.samples if s.sidecars.get("histology")), {})
    fits = list(dict.fromkeys(key for sample in run.samples for key in sample.fits))
    return [text for text in (_histology(histology), _mri(run, fits), _registration(run), _scores(run)) if text]


def _histology(settings: Mapping[str, Any]) -> str:
    plain = {str(key).lower(): value for key, value in _flat(settings)}
    text = (
        "Cells detected in QuPath were given the diameter l of the circle of equal area. In patches of one MRI voxel, "
        "volume-weighted cell size is vCS = (⟨l⁷⟩/⟨l³⟩)^¼, the intra-cellular fraction F the summed cell area over "
        "the area of the patch, and cell density CD the number of cells per area."
    )
    shrinkage = plain.get("shrinkage")
    if shrinkage not in (None, "", "0", "none"):
        text += f" Lengths were corrected for {100 * float(shrinkage):g}\u202f% shrinkage of the tissue" + (
            f" and for sectioning ({plain['section']})." if plain.get("section", "none") != "none" else "."
        )
    return text


def _mri(run: Run, fits: list[tuple[str, str]]) -> str:
    if not fits:
        return ""
    models = ", ".join(dict.fromkeys(model_name(model) for model, _ in fits))
    ways = " and ".join(dict.fromkeys(STRATEGIES.get(strategy, strategy) for _, strategy in fits))
    return (
        f"Two-compartment signal models of restricted diffusion in spheres ({models}) were fitted voxel by voxel to "
        f"{ways} (preset {run.study.get('preset', 'unknown')}). From the fit, vCS is the sphere diameter L, F the "
        "intra-cellular signal fraction, and CD = F/L³, computed per voxel before averaging."
    )


def _registration(run: Run) -> str:
    found = [sample.registration for sample in run.samples if sample.registration]
    text = (
        "Histology was resampled linearly onto the grid of the MRI slice among measured patches; a voxel counts if at "
        "least half of the interpolation weights fell on measured patches, both sides are finite, and the fit "
        "converged (parameters at a bound are kept and flagged)."
    )
    if found:
        text = "Each section was registered to its MRI slice, driven by the outline of the tissue. " + text
    return text


def _scores(run: Run) -> str:
    if not run.ranking:
        return ""
    settings = run.scoring
    boot = f" ({settings['n_boot']} resamples, seed {settings.get('seed')})" if settings.get("n_boot") else ""
    return (
        "Models are ranked by the total correlation score TCS = r(vCS_MRI, vCS_histology) + r(F_MRI, F_histology), "
        "Pearson over samples. The histology-fidelity criterion of a sample is HFC = |ΔvCS|/vCS_histology + "
        "|ΔF|/F_histology; the lowest over all rows wins the sample. BIC is compared voxel by voxel within a "
        "strategy, and the majority of voxels decides for the sample. Intervals of TCS come from the jackknife over "
        "samples of Fisher's z of TCS/2, the probability of ranking first from a bootstrap over samples"
        f"{boot}."
    )


def _listed(parameters: Any) -> list[dict[str, Any]]:
    if isinstance(parameters, Mapping):
        samples = parameters.get("samples")
        if isinstance(samples, list):
            return [entry for entry in samples if isinstance(entry, dict)]
        return [dict(parameters)]
    return []


def _flat(settings: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{key}, ")
        elif value is None or (isinstance(value, list | tuple) and len(value) > 12):
            continue
        elif isinstance(value, list | tuple):
            rows.append((f"{before}{key}", ", ".join(str(item) for item in value)))
        else:
            rows.append((f"{before}{key}", f"{value:g}" if isinstance(value, float) else str(value)))
    return rows
