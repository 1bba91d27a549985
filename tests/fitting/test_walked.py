"""Two T2s and exchange on the mean signals of walked tissue, which no model here made."""

import numpy as np
import pandas as pd
import pytest

from histomri.fitting import fit
from histomri.mri import Acquisition
from histomri.simulation.benchmarks.liver import read_walks

# Of the mean of 200 voxels at SNR 30, freed of the noise floor.
SIGMA = 1 / 30 / np.sqrt(200)


def test_two_t2s_give_the_fraction_back(data):
    """Tolerances are those that simulations of packed spheres allow: no model here is exact for them."""
    walked = pd.read_csv(data / "mri" / "twoT2.csv")
    off = []
    for row in walked.to_dict("records"):
        scan = Acquisition.preset(row["protocol"])
        signals = np.array([[row[f"s{i}"] for i in range(len(scan))]])
        kind = {"preset": row["protocol"], "strategy": "whole"}
        off.append(fit(500 * signals, scan, "diff-in-ex-t2", **kind).maps["F"][0] - row["F"])
        if row["T2I"] < row["T2E"]:  # what is repaired: one T2 makes the fraction too small by .1 and more
            decay = {"s0": 500 * np.exp(scan.te_ms.min() / row["T2E"]), "t2t": row["T2E"]}
            assert fit(500 * signals, scan, "diff-in-ex", **kind, **decay).maps["F"][0] < row["F"] + off[-1] - 0.05
    off = np.abs(off)
    assert off.max() < 0.1
    assert np.median(off[walked["T2I"] != walked["T2E"]]) < 0.08


@pytest.mark.parametrize(("model", "most"), [("exchange", 2.5), ("exchange-td", 2.0)])
def test_exchange_leaves_little_bias_of_size_ex_vivo_at_any_permeability(model, most, rng):
    """17 tissues by 4 permeabilities by 3 draws of the noise: means are known to 0.3 µm and 0.01."""
    walked = read_walks("mouse-exvivo")
    scan = Acquisition.preset("mouse-exvivo")
    clean = walked[[f"s{i}" for i in range(len(scan))]].to_numpy()
    signals = np.concatenate([clean + SIGMA * rng.standard_normal(clean.shape) for _ in range(3)])
    found = fit(signals, scan, model, sigma=SIGMA, robust="none").maps
    plain = fit(signals, scan, "diff-in-ex", strategy="whole", sigma=SIGMA, robust="none").maps
    truth = pd.concat([walked] * 3, ignore_index=True)
    table = (
        truth[["kappa_um_s"]]
        .assign(
            size=found["vCS"] - truth["vCS_um"], fraction=found["F"] - truth["F"], plain=plain["vCS"] - truth["vCS_um"]
        )
        .groupby("kappa_um_s")[["size", "fraction", "plain"]]
    )
    assert table.mean()["size"].abs().max() < most
    assert abs(table.mean()["fraction"].mean()) < 0.03
    assert table.mean()["plain"].abs().max() > 3.0  # without exchange
