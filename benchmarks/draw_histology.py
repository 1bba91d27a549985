"""Draw the pictures of docs/histology.md from simulated tissue.

Usage: python benchmarks/draw_histology.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.spatial import cKDTree

from histomri.cells import CellTable
from histomri.patches import PatchGrid, summarise_patches, tissue_outline

mpl.use("Agg")
import matplotlib.pyplot as plt

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
NUCLEUS, CELL, BLUE, RED, GREEN = "#4b2e83", "#d9a0c0", "#0072b2", "#d55e00", "#009e73"


def spread(rng: np.random.Generator, wide: float, high: float, distance: float) -> np.ndarray:
    """Return points that keep a distance, as cells do."""
    points = rng.uniform((0, 0), (wide, high), (int(wide * high / distance**2 * 3), 2))
    kept = np.ones(len(points), dtype=bool)
    for first, second in sorted(cKDTree(points).query_pairs(distance)):
        if kept[first]:
            kept[second] = False
    return points[kept]


def save(figure: plt.Figure, name: str) -> None:
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"histology-{name}.png", dpi=80)
    plt.close(figure)


def draw_cell(rng: np.random.Generator) -> None:
    """Draw what QuPath calls a cell: the nucleus and a rim, cut where it meets its neighbours."""
    points = spread(rng, 120, 60, 10)
    radius = rng.uniform(2.5, 3.8, len(points))
    x, y = np.meshgrid(np.arange(0, 120, 0.1), np.arange(0, 60, 0.1))
    near = cKDTree(points).query(np.stack([x.ravel(), y.ravel()], axis=1), k=3)
    beyond, which = near[0] - radius[near[1]], near[1]
    owner = np.take_along_axis(which, beyond.argmin(axis=1)[:, None], axis=1)[:, 0].reshape(x.shape)
    beyond = beyond.min(axis=1).reshape(x.shape)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 2.9), layout="constrained", sharey=True)
    for axis, rim in zip(axes, (2, 5)):
        cell = beyond < rim
        edge = cell & (np.abs(np.diff(owner * cell, axis=0, prepend=0)) + np.abs(np.diff(owner * cell, prepend=0)) > 0)
        picture = np.ones((*x.shape, 3))
        for mask, colour in ((cell, CELL), (edge, "white"), (beyond < 0, NUCLEUS)):
            picture[mask] = mpl.colors.to_rgb(colour)
        axis.imshow(picture, extent=(0, 120, 60, 0), interpolation="nearest")
        axis.set(title=f"expansion {rim} µm: F = {cell.mean():.2f}", xlabel="µm", yticks=(0, 30, 60))
    save(figure, "cell")


def draw_maps(rng: np.random.Generator) -> None:
    """Draw the cells of a section, the tissue around them, and two maps."""
    points = spread(rng, 3200, 2400, 12)
    x, y = points.T
    inside = (((x - 1600) / 1450) ** 2 + ((y - 1200) / 1050) ** 2 < 1) & (np.hypot(x - 1150, y - 1000) > 230)
    x, y = x[inside], y[inside]
    mean = 10 + 6 * np.exp(-(((x - 2200) / 500) ** 2 + ((y - 1300) / 450) ** 2))
    size = 1.2 * mean * rng.lognormal(0, 0.15, x.size)
    keep = rng.random(x.size) < (9 / mean) ** 1.2
    x, y, size = x[keep], y[keep], size[keep]
    cells = CellTable.from_columns(x, y, np.pi / 4 * size**2)
    grid = PatchGrid.covering(x, y, patch_um=200)
    tissue = tissue_outline(x, y)
    maps = summarise_patches(cells, grid, section="wicksell", tissue=tissue, min_tissue=0.25).maps
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained", sharex=True, sharey=True)
    axes[0].scatter(x, y, s=0.15, color=NUCLEUS, rasterized=True)
    for part in tissue.boundary.geoms:
        axes[0].plot(*part.xy, color=GREEN, linewidth=1.5)
    left, top, right, bottom = grid.bounds_um
    axes[0].set(title=f"{x.size:,} cells and the tissue", ylabel="µm")
    axes[0].set_xticks(np.arange(left, right + 1, 200), minor=True)
    axes[0].set_yticks(np.arange(top, bottom + 1, 200), minor=True)
    axes[0].grid(which="minor", color="0.7", linewidth=0.5)
    for axis, name, unit in ((axes[1], "vCS", "µm"), (axes[2], "F", "")):
        drawn = axis.imshow(maps[name], extent=(left, right, bottom, top), cmap="viridis")
        figure.colorbar(drawn, ax=axis, label=f"{name} {unit}".strip(), shrink=0.85)
        axis.set_title("volume-weighted cell size" if name == "vCS" else "area fraction of cells")
    for axis in axes:
        axis.set(xlabel="µm", aspect="equal", xlim=(left, right), ylim=(bottom, top))
    save(figure, "maps")


def profiles(rng: np.random.Generator, spread_of_size: float, number: int) -> tuple[np.ndarray, float]:
    """Return discs of a section 4 µm thick through lognormal spheres of 16 µm, and the true vCS."""
    width = np.sqrt(np.log1p(spread_of_size**2))
    spheres = 16 * rng.lognormal(-(width**2) / 2, width, 40 * number)
    truth = float(((spheres**7).mean() / (spheres**3).mean()) ** 0.25)
    chance = spheres + 4
    cut = spheres[rng.random(spheres.size) < chance / chance.max()][:number]
    # A slab shows the widest disc of the sphere within it.
    height = np.maximum(np.abs(rng.uniform(-0.5, 0.5, cut.size) * (cut + 4)) - 2, 0)
    return np.sqrt(np.maximum(cut**2 - 4 * height**2, 1e-6)), truth


def draw_sections(rng: np.random.Generator) -> None:
    """Draw how far each correction is off, by how unequal the cells are."""
    spreads = np.linspace(0, 0.4, 9)
    figure, axis = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for section, colour in (("sphere-mean", RED), ("none", "0.5"), ("wicksell", BLUE)):
        errors = []
        for value in spreads:
            size, truth = profiles(rng, float(value), 100_000)
            x, y = rng.uniform(0, 1000, (2, size.size))
            cells = CellTable.from_columns(x, y, np.pi / 4 * size**2)
            grid = PatchGrid((0, 0), (1000, 1000), (1, 1))
            found = summarise_patches(cells, grid, preset="none", section=section).maps["vCS"][0, 0]
            errors.append(100 * (found / truth - 1))
        axis.plot(spreads, errors, "o-", color=colour, label=section)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xlabel="CV of the cell diameters", ylabel="vCS off by (%)", title="sections of 4 µm, cells of 16 µm")
    axis.legend(title="--section", frameon=False)
    save(figure, "sections")


def main() -> None:
    for draw in (draw_cell, draw_maps, draw_sections):
        draw(np.random.default_rng(5))


if __name__ == "__main__":
    main()
