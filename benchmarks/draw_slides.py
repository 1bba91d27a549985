"""Draw the picture of docs/slides.md: fat vacuoles on a made slide, of which every hole is known.

Usage: python benchmarks/draw_slides.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from histomri.patches import measure_fat
from histomri.slides import open_slide

UM, GLASS, TISSUE = 0.5, (240, 238, 242), (205, 130, 170)
WIDTH_PX = 1300


def write_slide(path: Path) -> None:
    """Write 200 vacuoles of 6 to 38 µm on a raster, 25 clefts of 3 to 1, a vessel of 110 µm, and a tear."""
    rng = np.random.default_rng(7)
    rgb = np.empty((2200, 2600, 3), np.uint8)
    rgb[:] = GLASS
    rgb[150:2050, 150:2450] = TISSUE
    y, x = np.mgrid[-200:200, -200:200] + 0.5

    def hole(cx: float, cy: float, radius: float, aspect: float = 1.0, angle: float = 0.0) -> None:
        across, down = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        part = rgb[int(cy) - 200 : int(cy) + 200, int(cx) - 200 : int(cx) + 200]
        part[np.hypot(across / aspect, down) < radius] = GLASS

    for number in range(200):
        diameter = rng.uniform(6, 13.5) if number % 4 else rng.uniform(16.5, 38)
        cx, cy = 250 + 90 * (number % 20), 260 + 90 * (number // 20)
        hole(cx + rng.uniform(-3, 3), cy + rng.uniform(-3, 3), diameter / UM / 2)
    for number in range(25):
        hole(280 + 90 * (number % 20), 1250 + 90 * (number // 20), 9, 3.0, rng.uniform(0, np.pi))
    hole(700, 1700, 110)
    rgb[1500:1900, 1500:1530] = GLASS
    rgb = np.clip(rgb + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    size = {"PhysicalSizeX": UM, "PhysicalSizeY": UM, "axes": "YXS"}
    tifffile.imwrite(path, rgb, photometric="rgb", tile=(256, 256), compression="zlib", metadata=size)


def main() -> None:
    """Write slides-fat.png."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images") / "slides-fat.png"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "liver.ome.tif"
        write_slide(path)
        with open_slide(path) as slide:
            found = measure_fat(slide)
        print(*found.messages, sep="\n")
        found.figure.savefig(Path(folder) / "fat.png", dpi=130)
        with Image.open(Path(folder) / "fat.png") as picture:
            small = picture.convert("RGB").resize((WIDTH_PX, round(picture.height * WIDTH_PX / picture.width)))
    small.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(out, optimize=True)
    print(out)


if __name__ == "__main__":
    main()
