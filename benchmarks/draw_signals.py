"""Draw docs/images/fit_signals.png: signals against b for each model, by cell size and diffusion time.

Usage: python benchmarks/draw_signals.py [OUT.png]
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from histomri.fitting import MODELS, predict
from histomri.mri import Acquisition

TISSUE = {"fI": 0.6, "D0I": 1.5, "DEinf": 1.2, "beta": 8.0}
SIZES_UM, DELTA_MS, TIMES_MS = (10, 16, 22, 30), 10.0, (15.0, 40.0)


def main() -> None:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "images" / "fit_signals.png"
    b = np.linspace(0, 3000, 61)
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    axes = figure.subplots(1, len(MODELS), sharey=True)
    for axis, model in zip(axes, MODELS.values()):
        tissue = dict(TISSUE, DEinf=max(TISSUE["DEinf"], model.bounds("mouse-exvivo").get("DEinf", (0,))[0]))
        for time, style in zip(TIMES_MS, ("-", "--")):
            acquisition = Acquisition(b, DELTA_MS, time)
            for k, size in enumerate(SIZES_UM):
                signal = predict(model, {**tissue, "vCS": float(size)}, acquisition)[0]
                label = f"{size} µm" if style == "-" else None
                axis.semilogy(b, signal, style, color=f"C{k}", linewidth=1.3, label=label)
            if model.extra:
                beta = tissue["beta"] if "beta" in model.parameters else 0.0
                outside = (1 - tissue["fI"]) * np.exp(-b / 1000 * (tissue["DEinf"] + beta / time))
                axis.semilogy(b, outside, style, color="0.6", linewidth=1, label="outside" if style == "-" else None)
        axis.set_title(model.display_name, fontsize=10)
        axis.set_xlabel("b, s/mm²")
        axis.set_xlim(0, 3000)
        axis.set_xticks([0, 1000, 2000])
        axis.set_ylim(0.01, 1.05)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("signal")
    axes[0].plot([], [], "k-", label=f"Δ {TIMES_MS[0]:g} ms")
    axes[0].plot([], [], "k--", label=f"Δ {TIMES_MS[1]:g} ms")
    axes[0].legend(fontsize=7, loc="lower left")
    axes[1].legend(*(each[-1:] for each in axes[1].get_legend_handles_labels()), fontsize=7, loc="lower left")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    main()
