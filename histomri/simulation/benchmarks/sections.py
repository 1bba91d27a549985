"""sections-nuclei: what QuPath detects in sections of simulated tissues of packed cells, and their truth in 3D."""

from pathlib import Path

import pandas as pd

from histomri.core.files import atomic_path
from histomri.core.progress import Progress
from histomri.simulation.benchmarks.declaration import data_path
from histomri.simulation.write import write_csv

ESTIMATES = ("N_V_per_mm3", "F", "vCS_um", "D_vol_um", "D_mean_um", "D_CV", "d_mean_um", "d_CV")


def truth() -> pd.DataFrame:
    """Return a row per condition: number, fraction and size of the cells (D) and nuclei (d) of the fresh tissue.

    N_V: per volume. vCS: (<D^7>/<D^3>)^(1/4). D_vol: the diameter whose sphere has the cells' mean volume.
    """
    return pd.read_csv(data_path("section_truth.csv")).astype({name: float for name in ESTIMATES})


def conditions() -> pd.DataFrame:
    """Return what a user knows of each condition: thickness, shrinkage, least nucleus, rim, area of the field."""
    return pd.read_csv(data_path("section_conditions.csv"))


def read_section(condition: str) -> pd.DataFrame:
    """Return a row per detected nucleus, with areas of nucleus and of QuPath's cell, the nucleus expanded by a rim."""
    return pd.read_csv(data_path(f"section_{condition}.csv.gz"))


def write(folder: Path, truth: pd.DataFrame, source: Path | None, progress: Progress | None) -> list[Path]:
    """Write a table like QuPath's for each condition, and what is known of each."""
    written = []
    for condition in truth["condition"]:
        cells, path = read_section(condition), folder / f"{condition}_cells.tsv"
        table = pd.DataFrame(
            {
                "Image": f"{condition}_HE.svs", "Object type": "Cell", "Centroid X µm": cells["x_um"],
                "Centroid Y µm": cells["y_um"], "Nucleus: Area µm^2": cells["nucleus_area_um2"],
                "Cell: Area µm^2": cells["rim_cell_area_um2"],
            }
        )  # fmt: skip
        with atomic_path(path) as temporary:
            table.to_csv(temporary, sep="\t", index=False, lineterminator="\n")
        written.append(path)
    return [*written, write_csv(folder / "conditions.csv", conditions(), "%.8g")]
