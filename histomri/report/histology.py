"""Which histology stands beside MRI: as published or in three dimensions; in words, and both side by side."""

from collections.abc import Iterable
from typing import Any

from histomri.report.collect import Run, Sample, as_dict
from histomri.report.text import decimals

KINDS = {"N": "nuclei only", "R": "nucleus and rim", "M": "cells where a nucleus is seen", "E": "every cell"}
EXPANSION = (
    "QuPath outlines a cell by widening its nucleus by a fixed distance (5 µm unless changed), stopping at its "
    "neighbours; it does not see the membrane. Histological cell size and fraction inherit this convention, and cells "
    "that cross the border of a patch can make F exceed 1."
)
_UNKNOWABLE = (
    "Thickness, shrinkage and the fraction of cells cannot be found from the section: what was said of them stands "
    "behind every number in 3D, and its error (syst) is common to all patches and samples that share it."
)
_RIMS = (
    "From nuclei and rims follow no cell size, no F and no scatter of cell sizes. The number of nuclei and the stated "
    "fraction give one number, the volume per cell; vCS further takes cells to vary as their nuclei do, which may move "
    "it by 15 %."
)
_DENSE = (
    "Where masks without overlap cover more than 85 % of a section that is no plane, what lies over each other is cut "
    "off: F is known between two ends only, and the volume per cell is a lower bound."
)
_NUCLEI = (
    "Nuclei are counted. A cell with two counts twice unless their share was stated; nuclei that were missed or split "
    "go one to one into their number."
)
_NEVER = (
    "A thickness that is wrong by 1 µm, and any shrinkage, fit the profiles as well as the right ones; cells and gaps "
    "are taken to shrink alike.",
    "Nuclei below the smallest profile that is detected are extrapolated. Nuclei twice as long as wide make their "
    "number 8 % too high.",
    "Where zones are as large as a quarter of the section, or clusters as large as a third of a patch, one section "
    "gives no honest interval.",
    "Not tested: vessels, necrosis, errors of real detectors, depth of the stain, cells that are not convex, "
    "compression by the knife. Cells are taken as balls, or as balls that flatten each other.",
)
_NONE = ("–", "")
_ERRORS = (("StatSE", "stat"), ("Syst", "syst"))


def outlines_of(sample: Sample) -> str | None:
    """Return the kind of the outlines of a sample: N, R, M, E; None if it is not known."""
    kind = sample.sidecars.get("histology", {}).get("OutlineKind")
    return str(kind) if kind in KINDS else None


def of_volume(run: Run) -> bool:
    """Tell whether cells in three dimensions are compared with MRI."""
    return run.size == "volume"


def histology_note(run: Run) -> str:
    """Say which numbers of the sections are compared with MRI, and what they are."""
    kinds = {kind for sample in run.samples if (kind := outlines_of(sample)) is not None}
    if not of_volume(run):
        rims = " Here the outlines are nuclei with their rim." if kinds == {"R"} else ""
        text = f"The histology compared with MRI is as published (size = paper).{rims}"
        return text if kinds and kinds <= {"M", "E"} else f"{text} {EXPANSION}"
    texts = ["The histology compared with MRI is that of cells in three dimensions (size = volume)."]
    if kinds & {"N", "R"}:
        texts.append(
            "From nuclei, cell size is model-based: it rests on the number of nuclei per volume and on the stated "
            "share of the volume that is cells, and takes cells to vary as their nuclei do. That share is a constant, "
            "so it is never correlated or compared: where it is all there is, there is no F of histology, no TCS and "
            "no HFC."
        )
    return " ".join([*texts, _UNKNOWABLE])


def histology_methods(run: Run) -> str:
    """Return how sizes, fractions and densities of the sections were measured, for the methods."""
    text = (
        "Cells detected in QuPath were given the diameter l of the circle of equal area. In each patch "
        "volume-weighted cell size is vCS = (⟨l⁷⟩/⟨l³⟩)^¼, the intra-cellular fraction F the summed cell area over "
        "the analysed area, and cell density CD the number of cells per area."
    )
    if not of_volume(run):
        kinds = {outlines_of(sample) for sample in run.samples}
        return text if kinds <= {"M", "E"} else f"{text} {EXPANSION}"
    return (
        "Nuclei were unfolded from their profiles with the thickness of the section and the smallest profile that is "
        "detected, and counted per volume. From outlines of cells, size and fraction follow given that the nucleus was "
        "cut; from nuclei, with a stated fraction of cells, the volume per cell does (vCS model-based). Errors of "
        "sampling are by the block jackknife, systematic ones by refitting at the limits of what was said."
    )


def not_known(run: Run) -> list[str]:
    """Return what sections that were measured in 3D cannot show, for the kinds of outlines of a run."""
    found = both_ways(run)
    kinds = {row["outlines"] for row in found["rows"]} if found is not None else set()
    texts = [(_RIMS, {"N", "R"}), (_DENSE, {"M", "E"}), (_NUCLEI, {"N", "R", "M"})]
    return [*(text for text, of in texts if kinds & of), *_NEVER] if kinds else []


def both_ways(run: Run) -> dict[str, Any] | None:
    """Return the histology of each sample that was measured in 3D, as published and in 3D, and what was stated."""
    rows, stated = [], dict[str, list[str]]()
    for sample in run.samples:
        found = as_dict(as_dict(sample.record.get("summary")).get("patches"))
        volume, published = as_dict(found.get("in_3d")), as_dict(found.get("median"))
        results = as_dict(volume.get("Results"))
        if not results:
            continue
        kind = str(volume.get("Kind"))
        share = volume.get("F_assumed")
        rows.append({
            "sample": sample.id, "outlines": kind,
            "vCS_paper": decimals(published.get("vCS"), 1), "F_paper": decimals(published.get("F")),
            "CD_paper": decimals(published.get("CD"), 0),
            "vCS": _first(results, ("vCS", "vCSvol"), 1), "Dvol": _first(results, ("Dvol",), 1),
            "F": _first(results, ("F",), 2) if "F" in results else (decimals(share), "stated") if share else _NONE,
            "NV": _first(results, ("cellNV", "nucleiNV"), 1, 1e3),
        })  # fmt: skip
        stated.setdefault(_stated(volume), []).append(sample.id)
    if not rows:
        return None
    alike = len(stated) == 1
    texts = [text if alike else f"{', '.join(samples)}: {text}" for text, samples in stated.items()]
    return {"rows": rows, "stated": "; ".join(texts)}


def _stated(volume: dict[str, Any]) -> str:
    shrinkage = 100 * float(volume.get("Shrinkage") or 0)
    kind = str(volume.get("Kind"))
    outlines = f"outlines {kind} ({KINDS.get(kind, '')})"
    parts = [
        outlines,
        f"section {_tolerated(volume, 'Thickness_um', 'ThicknessError_um')} µm thick",
        f"shrinkage {shrinkage:g}",
    ]
    if (error := volume.get("ShrinkageError")) is not None:
        parts[-1] += f" ± {100 * float(error):g}"
    parts[-1] += " %"
    if (limit := volume.get("Smallest_um2")) is not None:
        parts.append(f"{'cells' if kind == 'E' else 'nuclei'} from {limit:g} µm² on")
    if volume.get("F_assumed") is not None:
        parts.append(f"{_tolerated(volume, 'F_assumed', 'F_assumed_error')} of the volume is cells")
    if (share := volume.get("BinucleateShare")) is not None:
        parts.append(f"{100 * float(share):g} % of the cells have two nuclei")
    return ", ".join(parts)


def _tolerated(volume: dict[str, Any], name: str, error: str) -> str:
    known = volume.get(error)
    return f"{volume.get(name):g}" + (f" ± {known:g}" if known else "")


def _first(results: dict[str, Any], names: Iterable[str], digits: int, scale: float = 1.0) -> tuple[str, str]:
    """Return the first number that is there with its errors, or why there is none."""
    one = next((as_dict(results[name]) for name in names if name in results), {})
    if (value := one.get("Value")) is None:
        return "–", str(one.get("Reason") or "")
    upper = f" to {decimals(one['Upper'] / scale, digits)}" if one.get("Upper") else ""
    errors = [f"±\u00a0{decimals(one[key] / scale, digits)}\u00a0{word}" for key, word in _ERRORS if one.get(key)]
    return decimals(value / scale, digits) + upper, " ".join(errors)
