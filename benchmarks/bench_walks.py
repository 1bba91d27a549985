"""Walks against the tables of another program: every tissue, three protocols; the differences over their errors.

Writes the walked signals as tables of the same form if asked (--out). Spheres of unequal size have gamma diameters.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe

from histomri.core.arrays import FloatArray
from histomri.core.presets import PRESET_NAMES
from histomri.mri import Acquisition
from histomri.simulation import Lattice, Packed, Water, pack_spheres, sphere_diameters, walk
from histomri.simulation.benchmarks.liver import read_walks
from histomri.simulation.walker.substrates import Substrate


def main() -> None:
    """Print rms z, the share within three errors, and the mean difference, on the lattice and in packings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--walkers", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    protocols = [Acquisition.preset(name) for name in PRESET_NAMES]
    tables = [read_walks(name) for name in PRESET_NAMES]
    rows: list[list[dict[str, float]]] = [[] for _ in tables]
    z, away = [], []
    for number, tissue in enumerate(tables[0].to_dict("records")):
        water = Water(tissue["D0I"], tissue["D0E"], tissue["kappa_um_s"])
        found = walk(_substrate(tissue), protocols, water, walkers=options.walkers, seed=number)[0]
        for kept, table, one in zip(rows, tables, found):
            expected, error = _signals(table.iloc[number], len(one.signals))
            both = np.hypot(error, one.standard_error)
            use = both > 1e-6
            z += [(tissue["random"], tissue["cv"], value) for value in (one.signals - expected)[use] / both[use]]
            away += [(tissue["random"], tissue["cv"], value) for value in (one.signals - expected)[use]]
            names = ["random", "vCS_um", "F", "D0I", "D0E", "cv", "kappa_um_s"]
            signals = {f"s{i}": value for i, value in enumerate(one.signals)}
            errors = {f"se{i}": value for i, value in enumerate(one.standard_error)}
            kept.append({name: tissue[name] for name in names} | signals | errors)
    print(describe("numba"))
    _report(pd.DataFrame(z), pd.DataFrame(away))
    for name, kept in zip(PRESET_NAMES, rows if options.out else []):
        options.out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(kept).to_csv(options.out / f"mc_{name}.csv", index=False, float_format="%.6g")


def _substrate(tissue: dict[str, float]) -> Substrate:
    if not tissue["random"]:
        return Lattice(tissue["vCS_um"], tissue["F"])
    rng = np.random.default_rng(1)
    sizes = sphere_diameters(400, vcs_um=tissue["vCS_um"], cv=tissue["cv"], rng=rng, distribution="gamma")
    return Packed(pack_spheres(sizes, tissue["F"], seed=1))


def _signals(row: pd.Series, number: int) -> tuple[FloatArray, FloatArray]:
    signals, errors = (row[[f"{what}{i}" for i in range(number)]].to_numpy(float) for what in ("s", "se"))
    return signals, errors


def _report(z: pd.DataFrame, away: pd.DataFrame) -> None:
    kinds = {
        "lattice": z[0] == 0, "packings, equal": (z[0] == 1) & (z[1] == 0), "packings, CV 0.4": z[1] > 0,
        "all": z[0] >= 0,
    }  # fmt: skip
    for kind, rows in kinds.items():
        values = z.loc[rows, 2]
        share = float((values.abs() < 3).mean())
        print(f"{kind:17s} rms z {np.sqrt((values**2).mean()):.2f}  within 3: {share:.4f}  mean difference "
              f"{away.loc[rows, 2].mean():+.5f}")  # fmt: skip


if __name__ == "__main__":
    main()
