"""Draw the pictures of docs/registration.md into docs/images.

Run ``python benchmarks/draw_registration.py [FOLDER]``; the folder is that of the serial lung sections of the ANHIR
challenge at 5 %, with the landmarks at 50 %.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from histomri.registration import register, write_figures
from histomri.registration.options import RegisterOptions
from histomri.simulation.section_pairs import LEVELS, make_pair
from histomri.study.steps.register import run

OUT = Path(__file__).parents[1] / "docs" / "images"
SEED, DOUBTFUL = 3005, 20107
_WIDTH = 480
SECTIONS, UM_PER_PX = {"HE": "29-041-Izd2-w35-He-les3", "Ki67": "29-041-Izd2-w35-Ki67-7-les3"}, 3.48


def draw(seed: int, level: str, names: dict[str, str]) -> None:
    """Register a synthetic pair and keep some of its pictures."""
    pair = make_pair(seed, LEVELS[level])
    found = register(pair.moving, pair.fixed, moving_mask=pair.moving_mask)
    with tempfile.TemporaryDirectory() as folder:
        write_figures(found, pair.moving, pair.fixed, Path(folder), moving_mask=pair.moving_mask, stem="x")
        for name, kept in names.items():
            keep(Path(folder) / f"x_{name}.png", kept)


def draw_slides(folder: Path, names: tuple[str, ...]) -> None:
    """Lay the HE section on the Ki-67 section and keep some of the pictures."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made)
        for name, section in SECTIONS.items():
            with Picture.open(folder / f"scale-5pc__{section}.jpg") as opened:
                opened.save(place / f"{name}.png")
            table = folder / f"user-PS_scale-50pc__{section}.csv"
            points = np.loadtxt(table, delimiter=",", skiprows=1, usecols=(1, 2)) / 10 * UM_PER_PX
            np.savetxt(place / f"{name}.csv", points, delimiter=",", header="x_um,y_um", comments="")
        moving, fixed = (place / f"{name}.png" for name in SECTIONS)
        marks = {"landmarks": place / "HE.csv", "fixed_landmarks": place / "Ki67.csv", "landmarks_for": "check"}
        options = RegisterOptions.read(moving=moving, fixed=fixed, mpp=UM_PER_PX, **marks)
        result = run(options, place / "xfm")
        print(*result.messages, *result.warnings, sep="\n")
        for name in names:
            keep(next((place / "xfm" / "figures").glob(f"*_{name}.png")), f"slides-{name}")


def keep(path: Path, name: str) -> None:
    """Keep a picture in few colours, so that it stays small."""
    with Picture.open(path) as opened:
        size = _WIDTH, round(_WIDTH * opened.height / opened.width)
        small = opened.convert("RGB").resize(size, Picture.Resampling.LANCZOS)
    small.quantize(256).save(OUT / f"registration-{name}.png", optimize=True)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    names = ("contours", "checkerboard", "missing", "grid", "candidates")
    draw(SEED, "standard", {name: name for name in names})
    draw(DOUBTFUL, "hard", {"candidates": "candidates-doubtful", "gallery": "gallery-doubtful"})
    if len(sys.argv) > 1:
        draw_slides(Path(sys.argv[1]), ("contours", "checkerboard", "landmarks"))
