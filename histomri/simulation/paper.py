"""A study with the structure of Grussu et al. 2025, doi 10.1038/s43856-025-01246-2, and with known truth.

Mouse livers ex vivo, biopsies of patients from two clinical scanners, groups, Ki-67 and tumour volumes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from histomri.core.errors import InputError
from histomri.core.files import write_json, write_text
from histomri.core.progress import Progress, share_of
from histomri.mri import Acquisition

from .biopsy import Tumour, simulate_biopsy
from .liver import default_acquisition
from .realism import Physics, Realism
from .tissue import FULLEST, GROUPS
from .write import stated_section, write_csv, write_mouse, write_protocol, write_qupath_tsv, write_scan

TUMOURS = 140
_HEADER = """\
# Mouse livers and biopsies of patients: made by histomri, nobody in it was ever alive. The truth lies in truth/.

[study]
name = "Mice and biopsies"
simulated = true               # the report says so everywhere
preset = "mouse-exvivo"        # of the mice; the biopsies name their own

[fit]
models = ["diff-in", "diff-in-ex"]
strategies = ["whole", "high-b"]

{patches}[prediction]                   # tumours of a patient stay together
target = "volume_mm3"
table = "tumours.csv"
"""
_BIOPSY = """
[[samples]]
id = "{id}"
patient = "{patient}"
group = "{group}"
scanner = "{scanner}"
preset = "invivo-{field}"
cells = "{id}_cells.tsv"
dwi = "{id}_dwi.nii.gz"
protocol = "invivo-{field}"
mask = "{id}_mask.nii.gz"
sigma = {sigma:g}
measures = {{ volume_mm3 = {volume:.4g}{ki67} }}

[samples.patches]
whole = true                   # one number per core: it cannot be laid on the MRI

[samples.registration]
kind = "none"
"""
# Mean diameter and intra-cellular fraction by group; share of the patients.
_GROUPS = {"CRC": (13.5, 0.55, 8), "melanoma": (15.5, 0.67, 5), "other": (17.5, 0.6, 5)}
_KI67_CASES = 10
_LEAST, _MOST = 0.35, 0.8  # intra-cellular fraction of a tumour
# Second tumours, of the same group and on the same scanner as the patient's first; the two are drawn independently.
_FIRST_TUMOUR = {11: 6, 16: 13, 17: 12}


def write_paper_study(
    folder: str | Path, *, mice: int = 7, biopsies: int = 18, seed: int = 1, snr: float = 50.0, area_mm2: float = 20.0,
    physics: Physics = "realistic", realism: Realism | None = None, progress: Progress | None = None,
) -> Path:  # fmt: skip
    """Write a study of mouse livers and biopsies: tables, DWI, masks, study.toml, tumours.csv, and truth/.

    Returns the study file. The same seed gives the same files, and a sample does not depend on how many others there
    are. `progress` is called with the fraction done.

    Parameters
    ----------
    folder : path-like
        Made if missing.
    mice, biopsies : int
        Numbers of samples, at least 2 each.
    snr, area_mm2 : float
        Of the mice, see `simulate_liver`; a tumour of a patient has four fifths of the SNR.
    physics, realism
        See `simulate_liver`.

    Raises
    ------
    InputError
        If there are too few samples of either kind, or a number is out of range.
    """
    if mice < 2 or biopsies < 2:
        raise InputError("the study needs two mice and two biopsies or more")
    folder, report, made = Path(folder), share_of(progress), []
    matter: dict[str, Any] = {"snr": snr, "physics": physics, "realism": realism}
    for index in range(mice + biopsies):
        if index < mice:
            made.append(_mouse(folder, index, seed, area_mm2, matter))
        else:
            made.append(_patient(folder, index - mice, seed, matter))
        report((index + 1) / (mice + biopsies))
    write_protocol(folder / "protocol.txt", default_acquisition())
    write_csv(folder / "truth" / "cases.csv", pd.DataFrame([case for _, case in made]))
    tumours, truth = _tumours(np.random.default_rng([seed, 3]))
    write_csv(folder / "tumours.csv", tumours)
    write_json(folder / "truth" / "tumours.json", truth)
    stated = stated_section(physics, realism)
    head = _HEADER.replace("{patches}", f"[patches]\n{stated}\n" if stated else "")
    return write_text(folder / "study.toml", head + "".join(entry for entry, _ in made))


def _mouse(
    folder: Path, index: int, seed: int, area_mm2: float, matter: dict[str, Any]
) -> tuple[str, dict[str, object]]:
    group, name = GROUPS[index % len(GROUPS)], f"mouse{index + 1}"
    entry, liver = write_mouse(folder, name, index, seed=seed, key=(0, index), area_mm2=area_mm2, **matter)
    inside = liver.mask & (liver.truth["tissueFraction"] >= 0.99)
    columns = {"vCS_um": "vCS", "F": "F", "CD_mm3": "CD", "D0I_um2_ms": "D0I"}
    truth = {column: float(liver.truth[param][inside].mean()) for column, param in columns.items()}
    return entry, {"sample": name, "group": group, "scanner": "9.4T", **truth}


def _patient(folder: Path, index: int, seed: int, matter: dict[str, Any]) -> tuple[str, dict[str, object]]:
    rng = np.random.default_rng([seed, 1, index])
    order = [name for name, (_, _, number) in _GROUPS.items() for _ in range(number)]
    group = order[(index * 7) % len(order)]  # every group early on, for small studies
    size, fraction, _ = _GROUPS[group]
    most = _MOST
    if matter["physics"] == "realistic":  # balls cannot be packed as densely
        most = FULLEST
        fraction = _LEAST + (fraction - _LEAST) * (most - 0.02 - _LEAST) / (_MOST - _LEAST)
    tumour = Tumour(
        mean_um=float(rng.uniform(size - 3.5, size + 3.5)), cv=0.17,
        fraction=float(np.clip(rng.normal(fraction, 0.07), _LEAST, most)), vascular=float(rng.uniform(0.05, 0.15)),
        d0i_um2_ms=float(rng.uniform(1.1, 1.9)),
    )  # fmt: skip
    field = "1.5t" if index % 18 in (2, 5, 9, 13, 16) else "3t"
    own = matter | {"snr": 0.8 * matter["snr"]}
    biopsy = simulate_biopsy(tumour, Acquisition.preset(f"invivo-{field}"), seed=[seed, 2, index], **own)
    name = f"biopsy{index + 1:02d}"
    write_qupath_tsv(folder / f"{name}_cells.tsv", f"{name}_HE.svs", biopsy.cells, rng)
    write_scan(folder, name, biopsy)
    truth, noise = biopsy.truth, rng.normal(size=2)
    crowded = (np.log10(truth["CD_mm3"]) - 5.3) / 0.25
    case: dict[str, object] = {"sample": name, "group": group, "scanner": field.upper(), **truth}
    stained = index % 18 < _KI67_CASES
    case["Ki67_fraction"] = float(1 / (1 + np.exp(1.6 - 0.9 * crowded - 0.45 * noise[0]))) if stained else None
    case["volume_mm3"] = volume = float(10 ** (4.2 + 0.08 * (truth["vCS_um"] - 20) + 0.4 * noise[1]))
    first = index - index % 18 + _FIRST_TUMOUR.get(index % 18, index % 18)
    ki67 = f", Ki67_fraction = {case['Ki67_fraction']:.4f}" if stained else ""
    about = {"id": name, "patient": f"P{first + 1:02d}", "group": group, "scanner": field.upper(), "field": field}
    return _BIOPSY.format(**about, sigma=biopsy.sigma, volume=volume, ki67=ki67), case


def _tumours(rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, object]]:
    """Draw tumours whose volume peaks at a size and a diffusivity, as in the paper's Fig. 7, with noise around it."""
    patient = np.sort(rng.integers(1, 39, TUMOURS))
    d0i, vcs = rng.uniform(1.0, 2.8, TUMOURS), np.clip(rng.normal(22.0, 4.0, TUMOURS), 10.0, 36.0)
    expected = 4.6 - 0.9 * (d0i - 1.8) ** 2 - 0.006 * (vcs - 28.0) ** 2
    log_volume = expected + rng.normal(0.0, 0.7, TUMOURS)
    columns = {
        "sample": [f"tumour{index + 1:03d}" for index in range(TUMOURS)],
        "patient": [f"patient{index:02d}" for index in patient], "scanner": np.where(patient <= 11, "1.5T", "3T"),
        "volume_mm3": np.round(10.0**log_volume, 1), "D0I_mri_um2_ms": d0i, "vCS_mri_um": vcs,
        "ADC_um2_ms": 0.3 + 0.5 * d0i + rng.normal(0.0, 0.1, TUMOURS),
        "K": np.clip(rng.normal(0.8, 0.2, TUMOURS), 0.1, 2.0),
    }  # fmt: skip
    truth = {"r_expected_log10_volume": float(np.corrcoef(expected, log_volume)[0, 1]), "peak": [1.8, 28.0]}
    return pd.DataFrame(columns), truth
