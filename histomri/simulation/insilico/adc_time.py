"""The apparent diffusion coefficient of intra-cellular water over the diffusion time (the paper's Figure S18)."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.progress import Progress, share_of
from histomri.fitting import sphere_adc
from histomri.mri import Acquisition
from histomri.simulation.walker.substrates import Lattice
from histomri.simulation.walker.walk import Water, walk
from histomri.simulation.write import write_csv

from .design import Bounds, Design
from .walks import WALKER, Walking

# Short pulses, and a b at which kurtosis is of no weight: ADC = -ln S / b.
_DELTA_MS, _B_SMM2 = 2.5, 300.0
_TIMES_MS = (5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0)


def adc_over_time(
    design: Design, bounds: Bounds, folder: Path, walking: Walking, *, jobs: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Return the ADC of water that starts in the cells, by Δ: a row per tissue and Δ.

    Around the tissue in the middle of the design the size varies, then the diffusivity in the cells, then the
    permeability; `varies` says which. `ADC_sphere_um2_ms` is that of a closed sphere by the formula of the models.
    A table made before from the same settings is taken up from `folder`.
    """
    content = [WALKER, asdict(design), bounds, asdict(walking), _DELTA_MS, _B_SMM2, _TIMES_MS]
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path = folder / f"adc_time_{key[:12]}.csv"
    if not path.exists():
        tissues = list(_tissues(design, bounds))
        report, rows = share_of(progress), list[pd.DataFrame]()
        for done, tissue in enumerate(tissues, start=1):
            rows.append(_walked(*tissue, walking, jobs))
            report(done / len(tissues))
        write_csv(path, pd.concat(rows), "%.9g")
    return pd.read_csv(path)


def _tissues(design: Design, bounds: Bounds) -> Iterator[tuple[str, float, float, float, float, float]]:
    """Yield what varies, F, size (µm), the two diffusivities (µm²/ms) and permeability (µm/s)."""
    fraction, size = (sorted(each)[len(each) // 2] for each in (design.fractions, design.diameters_um))
    inside, outside = (float(np.mean(each)) for each in bounds)
    lowest = min((kappa for kappa in design.permeabilities_um_s if kappa > 0), default=0.0)
    for other in sorted(design.diameters_um):
        yield "size", fraction, other, inside, outside, lowest
    for diffusivity in (bounds[0][0], inside, bounds[0][1]):
        yield "D0I", fraction, size, diffusivity, outside, lowest
    for kappa in sorted({0.0, *design.permeabilities_um_s}):
        yield "permeability", fraction, size, inside, outside, kappa


def _walked(
    varies: str, fraction: float, size: float, inside: float, outside: float, kappa: float, walking: Walking,
    jobs: int | None,
) -> pd.DataFrame:  # fmt: skip
    scan = Acquisition(np.full(len(_TIMES_MS), _B_SMM2), _DELTA_MS, np.array(_TIMES_MS))
    water = Water(inside, outside, kappa)
    ((found,),) = walk(
        Lattice(size, fraction), [scan], water, walkers=walking.walkers, seed=walking.seed, fine=walking.fine, jobs=jobs
    )  # fmt: skip
    b = 1e-3 * _B_SMM2
    adc, error = -np.log(found.intra) / b, found.intra_error / found.intra / b
    return pd.DataFrame({
        "varies": varies, "F": fraction, "vCS_um": size, "D0I_um2_ms": inside, "D0E_um2_ms": outside,
        "kappa_um_s": kappa, "Delta_ms": _TIMES_MS, "ADC_um2_ms": adc, "ADC_se_um2_ms": error,
        "ADC_sphere_um2_ms": sphere_adc(size, inside, scan),
    })  # fmt: skip
