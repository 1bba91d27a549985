"""Draw the pictures of docs/registration.md into docs/images: ``python benchmarks/draw_registration.py``."""

import tempfile
from pathlib import Path

from PIL import Image as Picture
from registration_pairs import LEVELS, make_pair

from histomri.registration import register, write_figures

OUT = Path(__file__).parents[1] / "docs" / "images"
SEED, DOUBTFUL = 3005, 7034


def draw(seed: int, level: str, names: dict[str, str]) -> None:
    """Register a synthetic pair and keep some of its pictures, in few colours so that they stay small."""
    pair = make_pair(seed, LEVELS[level])
    found = register(pair.moving, pair.fixed, moving_mask=pair.moving_mask)
    with tempfile.TemporaryDirectory() as folder:
        write_figures(found, pair.moving, pair.fixed, Path(folder), moving_mask=pair.moving_mask, stem="x")
        for name, kept in names.items():
            with Picture.open(Path(folder) / f"x_{name}.png") as opened:
                small = opened.convert("RGB").resize((480, 440), Picture.Resampling.LANCZOS)
            small.quantize(256).save(OUT / f"registration-{kept}.png", optimize=True)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    names = ("contours", "checkerboard", "missing", "grid", "candidates")
    draw(SEED, "standard", {name: name for name in names})
    draw(DOUBTFUL, "hard", {"candidates": "candidates-doubtful", "contours": "contours-doubtful"})
