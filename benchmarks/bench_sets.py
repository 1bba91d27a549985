"""How near the models and methods of histomri come to the truth of the benchmark sets: the table of docs/benchmarks.md.

Run ``python benchmarks/bench_sets.py [SET ..] [--pairs N]``. Each set is written to a folder, as `histomri simulate
benchmark` does, its files are read like those of a scanner or of QuPath, and the estimates are scored as those of any
other tool. Of insilico-paper give the results of `histomri insilico` by ``--from DIR``.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import shapely
from machine import describe

from histomri.cells import CellTable
from histomri.core.images import Image
from histomri.fitting import fit
from histomri.mri import read_acquisition
from histomri.patches import map_section
from histomri.registration import register
from histomri.simulation.benchmarks import SET_NAMES, score_benchmark, write_benchmark

MODELS = ("diff-in", "diff-in-ex")
STRATEGIES = ("whole", "high-b")
KINDS = ("affine", "bspline")


def fits(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the estimates of each model and strategy, of all images of a set of signals."""
    places = pd.read_csv(folder / "ids.csv")
    for model in MODELS:
        for strategy in STRATEGIES:
            parts = [_fitted(folder, name, rows, model, strategy) for name, rows in places.groupby("image", sort=False)]
            yield f"{model}, {strategy}", pd.concat(parts)


def _fitted(folder: Path, image: str, places: pd.DataFrame, model: str, strategy: str) -> pd.DataFrame:
    stem = image.removesuffix("_dwi.nii.gz")
    signals = nib.load(folder / image).get_fdata()[tuple(places[axis].to_numpy() for axis in "ijk")]
    acquisition = read_acquisition(next(folder.glob(f"{stem}_protocol.*")))
    sigma = float((folder / f"{stem}_sigma.txt").read_text())
    maps = fit(signals, acquisition, model, sigma=sigma, strategy=strategy, preset=stem.split("_k")[0]).maps
    columns = {"F": "F", "vCS_um": "vCS", "D0I_um2_ms": "D0I"}
    table = {column + end: maps[name + end] for column, name in columns.items() for end in ("", "_se")}
    return pd.DataFrame({"id": places["id"].to_numpy(), **table})


def sections(folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the estimates from QuPath's cells by each correction for sectioning."""
    for section in ("sphere-mean", "wicksell"):
        rows = []
        for known in pd.read_csv(folder / "conditions.csv").itertuples():
            drawn = pd.read_csv(folder / f"{known.condition}_cells.tsv", sep="\t")
            columns = (f"Centroid {axis} µm" for axis in "XY")
            cells = CellTable.from_columns(*(drawn[name] for name in (*columns, "Cell: Area µm^2")))
            maps = map_section(
                cells, whole=True, tissue=_tiles(known.n_tiles, known.tile_side_um), preset="none", section=section,
                shrinkage=known.shrinkage, section_thickness_um=known.thickness_um,
            ).maps.maps  # fmt: skip
            found = {"N_V_per_mm3": "CDvol", "F": "F", "vCS_um": "vCS"}
            rows.append({"condition": known.condition, **{name: maps[key].item() for name, key in found.items()}})
        yield f"cells by QuPath's rim, {section}", pd.DataFrame(rows)


def _tiles(count: int, side_um: float) -> shapely.Geometry:
    """Return the field: tiles in rows, as many in a row as rows at most."""
    wide = int(np.ceil(np.sqrt(count)))
    boxes = [(k % wide * side_um, k // wide * side_um) for k in range(count)]
    return shapely.union_all([shapely.box(x, y, x + side_um, y + side_um) for x, y in boxes], grid_size=1e-6)


def registrations(folder: Path, pairs: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield where the points of the first pairs are mapped to, by each kind of transform."""
    points = pd.read_csv(folder / "points.csv")
    for kind in KINDS:
        parts = []
        for name, rows in list(points.groupby("pair"))[:pairs]:
            moving, mask, fixed = (
                Image.load(folder / f"{name}_{key}.nii.gz") for key in ("moving_map1", "moving_mask", "fixed")
            )
            found = register(moving, fixed, moving_mask=mask, kind=kind)
            mapped = found.points(rows[["x_mm", "y_mm", "z_mm"]].to_numpy())
            parts.append(rows[["pair", "point"]].join(pd.DataFrame(mapped, rows.index, ["x_mm", "y_mm", "z_mm"])))
        yield f"register --kind {kind}", pd.concat(parts)


def estimate_rows(name: str, entries: Iterator[tuple[str, pd.DataFrame]]) -> Iterator[str]:
    """Yield the rows of the table of a set of estimates."""
    for method, estimates in entries:
        for quantity, row in score_benchmark(estimates, name).summary().items():
            if quantity == "D0I_um2_ms":
                continue
            held = f"{row['coverage']:.0%}" if np.isfinite(row.get("coverage", np.nan)) else ""
            bias = f"{row['bias']:+.3g} ± {row['bias_se']:.2g} ({row['bias_percent']:+.0f} %)"
            errors = f"{row['median_abs_error']:.3g} | {row['rms']:.3g}"
            r = f"{row['r']:.2f} ({row['r_low']:.2f} to {row['r_high']:.2f})"
            yield f"| {method} | {quantity} | {bias} | {errors} | {r} | {held} |"


def point_rows(name: str, entries: Iterator[tuple[str, pd.DataFrame]]) -> Iterator[str]:
    """Yield the rows of the table of a set of points, over the pairs that were tried."""
    for method, mapped in entries:
        scores = score_benchmark(mapped, name).table
        done = scores[(scores["condition"] == "pair") & (scores["n"] > 0)]
        median, tail = done["median_mm"].median(), done["p95_mm"].median()
        success = f"{int(done['success'].sum())} of {len(done)}"
        yield f"| {method} | {success} | {median:.2f} | {tail:.2f} | {done['below_pixel'].mean():.0%} |"


def rows_of(name: str, folder: Path, pairs: int) -> Iterator[str]:
    """Yield the rows of the table of a set, whose inputs lie in a folder."""
    if name == "registration-lobes":
        return point_rows(name, registrations(folder, pairs))
    return estimate_rows(name, sections(folder) if name == "sections-nuclei" else fits(folder))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", default=[name for name in SET_NAMES if name != "insilico-paper"])
    parser.add_argument("--pairs", type=int, default=5, help="pairs of registration-lobes, at most 20")
    parser.add_argument("--from", dest="source", help="results of histomri insilico")
    given = parser.parse_args()
    print(describe("scipy", "numba"))
    for name in given.sets:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as place:
            write_benchmark(name, place, source=given.source)
            print(f"\n{name}\n", *rows_of(name, Path(place), given.pairs), sep="\n", flush=True)
        print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
