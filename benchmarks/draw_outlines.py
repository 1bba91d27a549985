"""Draw the pictures of docs/histology.md on kinds of outlines: a slab, a rim, and both routes to three dimensions.

Usage: python benchmarks/draw_outlines.py
"""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from draw_histology import CELL, NUCLEUS, spread
from matplotlib.patches import Circle, Rectangle
from scipy.spatial import cKDTree

from histomri.patches.stereology import Profiles, measure, unfold_sizes
from histomri.patches.stereology.cell_size import cell_sums
from histomri.simulation.scenes import FIELD_UM, SCENES, draw_scene, lognormal_sizes

mpl.use("Agg")
import matplotlib.pyplot as plt

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
BLUE, RED, SLAB = "#0072b2", "#d55e00", "#f3e3b5"
THICK, LIMIT_UM2, RIM = 4.0, 10.0, 5.0


def save(figure: plt.Figure, name: str) -> None:
    OUT.mkdir(exist_ok=True)
    figure.savefig(OUT / f"outlines-{name}.png", dpi=80)
    plt.close(figure)


# Cells of the drawing of the slab: middle along the section, height of the middle over that of the slab, diameters of
# the cell and the nucleus, and what becomes of them.
SLAB_CELLS = (
    (10.0, 0.0, 15.0, 8.0, "nucleus\nat its full size"),
    (29.0, 4.6, 15.0, 8.0, "nucleus cut\nbeside its middle"),
    (48.0, -5.6, 15.0, 8.0, "cap too small:\nnot detected"),
    (67.0, 7.2, 16.0, 7.0, "cell cut,\nno nucleus"),
    (87.0, -1.2, 20.0, 10.5, "larger: met\nmore often"),
)


def widest(diameter: float, height: float) -> float:
    """Return the diameter of the profile that a slab around height 0 shows of a ball; 0 if it misses it."""
    beyond = max(abs(height) - THICK / 2, 0.0)
    return float(np.sqrt(max(diameter**2 - 4 * beyond**2, 0.0)))


def draw_slab() -> None:
    """Draw cells from the side, with the slab through them, and what is seen of them from above."""
    figure, (side, above) = plt.subplots(2, 1, figsize=(9.5, 6.0), layout="constrained", sharex=True)
    side.add_patch(Rectangle((-2, -THICK / 2), 108, THICK, color=SLAB, zorder=0))
    for x, height, cell, nucleus, text in SLAB_CELLS:
        seen = widest(nucleus, height)
        detected = np.pi / 4 * seen**2 >= LIMIT_UM2
        side.add_patch(Circle((x, height), cell / 2, facecolor=CELL, edgecolor="white", alpha=0.75, zorder=1))
        side.add_patch(Circle((x, height), nucleus / 2, color=NUCLEUS, alpha=0.85, zorder=2))
        above.add_patch(Circle((x, 0), widest(cell, height) / 2, facecolor=CELL, edgecolor="white", alpha=0.75))
        if seen:
            look = {"color": NUCLEUS} if detected else {"facecolor": "none", "edgecolor": NUCLEUS, "linestyle": ":"}
            above.add_patch(Circle((x, 0), seen / 2, zorder=2, **look))
        above.text(x, -11.2, text, ha="center", va="top", fontsize=9)
        if detected:
            rim = {"fill": False, "edgecolor": RED, "linestyle": "--", "linewidth": 1.3, "zorder": 3}
            above.add_patch(Circle((x, 0), seen / 2 + RIM, **rim))
    for height in (THICK / 2, -THICK / 2):
        side.axhline(height, color="#b8962e", linewidth=0.9)
    side.text(105, 0, f"{THICK:g} µm", va="center", ha="right", fontsize=9, color="#7a6217")
    side.set(ylim=(-15, 17), ylabel="height (µm)", title="from the side: a section is a slab")
    above.set(ylim=(-19, 13), xlabel="µm", yticks=[], xlim=(-2, 106))
    above.set_title("from above: largest profile within the slab; dashed: nucleus + 5 µm, QuPath's cell")
    for axis in (side, above):
        axis.set_aspect("equal")
    save(figure, "slab")


def rims(rng: np.random.Generator, distance: float, fraction: float) -> Iterator[tuple[str, np.ndarray, float]]:
    """Yield cells that fill a fraction of a plane, and the same nuclei with a rim: title, picture, share covered."""
    points = spread(rng, 120, 80, distance)
    x, y = np.meshgrid(np.arange(0, 120, 0.15), np.arange(0, 80, 0.15))
    gap, owner = cKDTree(points).query(np.stack([x.ravel(), y.ravel()], axis=1))
    gap, owner = gap.reshape(x.shape), owner.reshape(x.shape)
    nucleus = 0.29 * distance
    # All cells end at one distance from their middle, so that they fill the fraction, or where they meet.
    reach = float(np.quantile(gap, fraction))
    for title, within in (("cells", gap < reach), ("nucleus + 5 µm", gap < nucleus + RIM)):
        edge = within & (np.abs(np.diff(owner, axis=0, prepend=0)) + np.abs(np.diff(owner, prepend=0)) > 0)
        picture = np.ones((*x.shape, 3))
        for mask, colour in ((within, CELL), (edge, "white"), (gap < nucleus, NUCLEUS)):
            picture[mask] = mpl.colors.to_rgb(colour)
        yield title, picture, float(within.mean())


def draw_rim(rng: np.random.Generator) -> None:
    """Draw two tissues with one fraction of cells, small and large ones, as they are and as rims show them."""
    figure, axes = plt.subplots(2, 2, figsize=(9.5, 6.6), layout="constrained", sharex=True, sharey=True)
    for row, (name, distance) in zip(axes, (("small cells", 10.5), ("large cells", 24.0))):
        for axis, (title, picture, share) in zip(row, rims(rng, distance, 0.7)):
            axis.imshow(picture, extent=(0, 120, 80, 0), interpolation="nearest")
            value = f"F = {share:.2f}" if title == "cells" else f"rimFraction = {share:.2f}"
            axis.set(title=f"{name}, {title}: {value}", yticks=(0, 40, 80))
    for axis in axes[1]:
        axis.set_xlabel("µm")
    save(figure, "rim")


def draw_routes(rng: np.random.Generator) -> None:
    """Draw what each route makes of one section: diameters of nuclei from profiles, and of cells from outlines."""
    scene, seen, mean, cv = SCENES["random"], 8000, 8.0, 0.25
    shown = draw_scene(rng, scene, seen=seen, nucleus_um=mean, cv=cv, thickness_um=THICK, limit_um2=LIMIT_UM2)
    nuclei = lognormal_sizes(rng, 400_000, mean, cv)
    cells = nuclei / np.clip(0.55 * (1 + 0.05 * rng.standard_normal(nuclei.size)), 0.4, 0.9)  # as the scene has them
    per_mm3 = 1e9 * seen / ((THICK + 0.89 * mean) * FIELD_UM**2)
    found = unfold_sizes(shown.nucleus_um2, THICK, LIMIT_UM2)
    sums = cell_sums(found, shown.nucleus_um2, shown.cell_um2)
    known = {"kind": "M", "thickness_um": THICK, "smallest_um2": LIMIT_UM2, "field_um2": FIELD_UM**2}
    results = measure(Profiles(shown.nucleus_um2, shown.cell_um2), **known)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.9), layout="constrained")
    for axis, areas, true, bins in (
        (axes[0], shown.nucleus_um2, nuclei, np.arange(0, 18.1, 0.5)),
        (axes[1], shown.cell_um2, cells, np.arange(0, 34.1, 1.0)),
    ):
        axis.hist(np.sqrt(4 / np.pi * areas), bins, density=True, color="0.82", label="profiles on the slide")
        axis.hist(true, bins, density=True, histtype="step", color="black", label="balls in the tissue")
        axis.set(xlabel="diameter (µm)", ylabel="share", yticks=[])
    axes[0].plot(found.kernel.middle_um, found.lognormal / np.diff(found.kernel.edges_um), color=BLUE, label="unfolded")
    look = {"density": True, "histtype": "step", "color": BLUE, "linewidth": 1.5}
    axes[1].hist(np.sqrt(sums.squared / sums.number), np.arange(0, 34.1, 1.0), weights=sums.number, **look)
    number, size = results["nucleiNV"].value, results["vCS"].value
    true_size = float(((cells**7).mean() / (cells**3).mean()) ** 0.25)
    axes[0].set_title(f"by nuclei (N, R, M): {number:,.0f} per mm³, truth {per_mm3:,.0f}", fontsize=10)
    axes[1].set_title(f"by outlines of cells (M): vCS {size:.1f} µm, truth {true_size:.1f} µm", fontsize=10)
    axes[0].legend(frameon=False, fontsize=9)
    save(figure, "routes")


def main() -> None:
    draw_slab()
    draw_rim(np.random.default_rng(6))
    draw_routes(np.random.default_rng(6))


if __name__ == "__main__":
    main()
