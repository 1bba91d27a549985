"""Cells in three dimensions from sections of simulated tissue: bias by route, coverage of the intervals, speed.

Usage: python benchmarks/bench_stereology.py [--tables DIR] [--out estimates.csv] [--draws N]

The tables are those of tests/data/stereology: seven tissues with their truth. `--out` takes all estimates, in fresh
tissue. `--draws` is the number of fresh sections per scene for the coverage, 0 for none.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe

from histomri.patches.stereology import Profiles, Stereology, Tolerances, measure
from histomri.patches.tissue import Extent
from histomri.simulation.scenes import FIELD_UM, SCENES, Shown, draw_scene

TABLES = Path(__file__).parents[1] / "tests" / "data" / "stereology"
CELL_LIMIT_UM2 = 20.0
COLUMNS = {
    "nucleiNV": "N_V_per_mm3", "cellNV": "N_V_per_mm3", "F": "F", "vCS": "vCS_um", "vCSvol": "vCS_um",
    "Dvol": "D_vol_um", "nucD": "d_mean_um", "nucCV": "d_CV",
}  # fmt: skip
EXACT = Tolerances(0.0, 0.0, 0.0, 0.0, (0.1, 0.1))  # bias needs no systematic errors, which take refits


def estimate(tables: Path) -> pd.DataFrame:
    """Return the estimates of all routes on all tables, one row each."""
    rows = []
    for known in pd.read_csv(tables / "conditions.csv").itertuples():
        table = pd.read_csv(tables / f"{known.condition}.csv.gz")
        every = pd.read_csv(tables / f"{known.condition}_every.csv.gz")
        nucleus = table["nucleus_area_um2"].to_numpy()
        about = {
            "thickness_um": known.t_um, "shrinkage": known.shrinkage_p, "field_um2": known.field_area_um2,
            "tolerances": EXACT,
        }  # fmt: skip
        mine = {"smallest_um2": known.nucleus_limit_um2, **about}
        volume = measure(Profiles(nucleus), kind="N", cell_fraction=known.F_given, **mine)
        found = {"nuclei": (volume, ("nucleiNV", "nucD", "nucCV")), "volume": (volume, ("Dvol", "vCSvol"))}
        for name in ("mask", "outline"):
            cell = table[f"{name}_cell_area_um2"].to_numpy()
            covered = known.mask_coverage_U if name == "mask" else None
            own = measure(Profiles(nucleus, cell), kind="M", mask_coverage=covered, **mine)
            found[name] = (own, ("F", "vCS", "Dvol"))
            cell = every[f"{name}_cell_area_um2"].to_numpy()
            own = measure(Profiles(cell_um2=cell), kind="E", smallest_um2=CELL_LIMIT_UM2, **about)
            found[f"every_{name}"] = (own, ("cellNV", "F", "vCS"))
        for route, (result, names) in found.items():
            rows.append({"condition": known.condition, "route": route, **_columns(result, names)})
    return pd.DataFrame(rows)


def _columns(result: Stereology, names: tuple[str, ...]) -> dict[str, float]:
    return {COLUMNS[name]: result[name].value for name in names}


def bias(estimates: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Return mean, root mean square and worst error in % of each quantity by each route."""
    joined = estimates.merge(truth, on="condition", suffixes=("", "_true"))
    rows = []
    for route, part in joined.groupby("route", sort=False):
        for name in dict.fromkeys(COLUMNS.values()):
            error = 100 * (part[name] / part[f"{name}_true"] - 1).dropna().to_numpy()
            if error.size:
                rms, worst = float(np.sqrt((error**2).mean())), error[np.abs(error).argmax()]
                rows.append({"route": route, "quantity": name, "mean": error.mean(), "rms": rms, "worst": worst})
    return pd.DataFrame(rows)


def measure_scene(shown: Shown, tolerances: Tolerances = EXACT) -> Stereology:
    """Measure a drawn field, with cell outlines where nuclei are seen."""
    profiles = Profiles(shown.nucleus_um2, shown.cell_um2, shown.x_um, shown.y_um)
    extent = Extent((0.0, 0.0, FIELD_UM, FIELD_UM), None, "field")
    return measure(
        profiles, kind="M", thickness_um=4.0, smallest_um2=10.0, field_um2=FIELD_UM**2, extent=extent,
        tolerances=tolerances,
    )  # fmt: skip


def coverage(draws: int, seed: int = 0) -> pd.DataFrame:
    """Return by scene how often the 95 % interval holds the mean of all draws, in %."""
    rows = []
    for name, scene in SCENES.items():
        rng = np.random.default_rng([seed, len(rows)])
        found = [measure_scene(draw_scene(rng, scene)) for _ in range(draws)]
        row: dict[str, object] = {"scene": name}
        for quantity in ("nucleiNV", "F", "vCS", "Dvol"):
            mean = float(np.mean([one[quantity].value for one in found]))
            row[quantity] = 100 * np.mean([one[quantity].low <= mean <= one[quantity].high for one in found])
        row["too few zones"] = 100 * np.mean([any("too few zones" in flag for flag in one.flags) for one in found])
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=TABLES)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--draws", type=int, default=40)
    options = parser.parse_args()
    print(describe("scipy", "numba"))
    found = estimate(options.tables)
    if options.out is not None:
        found.to_csv(options.out, index=False)
    print(bias(found, pd.read_csv(options.tables / "truth.csv")).round(1).to_string(index=False))
    if options.draws > 0:
        print(f"\n95 % intervals by sampling, {options.draws} sections per scene: % that hold the mean of all")
        print(coverage(options.draws).round(0).to_string(index=False))
        shown = draw_scene(np.random.default_rng(0), SCENES["random"], seen=1e6)
        start = time.perf_counter()
        measure(
            Profiles(shown.nucleus_um2), kind="N", thickness_um=4.0, smallest_um2=10.0, field_um2=FIELD_UM**2,
            tolerances=EXACT,
        )  # fmt: skip
        print(f"\n{shown.nucleus_um2.size:,} nuclei unfolded in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
