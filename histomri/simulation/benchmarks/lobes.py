"""registration-lobes: sections of lobes and the MRI slices that they belong on; see `section_pairs`."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from histomri.core.arrays import IntArray
from histomri.core.images import Image, write_image
from histomri.core.progress import Progress, share_of
from histomri.simulation.section_pairs import LEVELS, Pair, make_pair
from histomri.simulation.write import write_csv

PAIRS, FIRST_SEED, POINTS = 20, 60_000, 100
_DIGITS = 4  # 0.1 µm


@cache
def pair(number: int) -> Pair:
    """Return a pair of the set, counted from 1."""
    return make_pair(FIRST_SEED + number - 1, LEVELS["standard"])


def name_of(number: int) -> str:
    """Return the id of a pair."""
    return f"pair{number:02d}"


def truth() -> pd.DataFrame:
    """Return a row per point of each pair: where it lies in the MRI, mm, and whether the section was turned over."""
    return pd.concat([_points(number, fixed=True) for number in range(1, PAIRS + 1)], ignore_index=True)


def write(folder: Path, truth: pd.DataFrame, source: Path | None, progress: Progress | None) -> list[Path]:
    """Write moving maps, moving mask and fixed image of each pair, and the points to map."""
    written: list[Path] = []
    for number in range(1, PAIRS + 1):
        drawn, name = pair(number), name_of(number)
        images = {f"map{k + 1}": each for k, each in enumerate(drawn.maps)}
        images = {f"moving_{key}": each for key, each in images.items()}
        images |= {"moving_mask": drawn.moving_mask, "fixed": drawn.fixed}
        written += [_save(folder / f"{name}_{key}.nii.gz", each) for key, each in images.items()]
        share_of(progress)(number / PAIRS)
    points = pd.concat([_points(number, fixed=False) for number in range(1, PAIRS + 1)], ignore_index=True)
    return [*written, write_csv(folder / "points.csv", points, f"%.{_DIGITS}f")]


def _points(number: int, *, fixed: bool) -> pd.DataFrame:
    drawn = pair(number)
    chosen = _chosen(len(drawn.points_moving))
    place = np.round((drawn.points_fixed if fixed else drawn.points_moving)[chosen], _DIGITS) + 0.0  # no -0.0
    table = pd.DataFrame(place, columns=["x_mm", "y_mm", "z_mm"])
    table.insert(0, "pair", name_of(number))
    table.insert(1, "point", [str(k + 1) for k in range(len(table))])
    return table.assign(turned_over="yes" if drawn.flipped else "no") if fixed else table


def _chosen(count: int) -> IntArray:
    """Return the points that are kept, spread over all."""
    return np.linspace(0, count - 1, POINTS).round().astype(int)


def _save(path: Path, image: Image) -> Path:
    dtype = np.uint8 if path.name.endswith("mask.nii.gz") else np.float32
    return write_image(path, image.data[:, :, None].astype(dtype), image.affine)
