"""Random walks against those of another algorithm, on a whole protocol (the tissues of the set liver-3t)."""

import numpy as np
import pandas as pd
import pytest

from histomri.mri import Acquisition
from histomri.simulation import simulate_permeable_spheres
from histomri.simulation.benchmarks.liver import read_walks


@pytest.mark.parametrize(("size", "fraction", "kappa"), [(16, 0.35, 0), (16, 0.35, 50), (24, 0.5, 25)])
def test_signals_of_a_whole_protocol(size, fraction, kappa):
    table = read_walks("invivo-3t")
    key = {"random": 0, "vCS_um": size, "F": fraction, "kappa_um_s": kappa}
    (row,) = table.loc[(table[list(key)] == pd.Series(key)).all(axis=1)].to_dict("records")
    protocol = Acquisition.preset("invivo-3t")
    found = simulate_permeable_spheres(
        protocol, diameter_um=size, fraction=fraction, d0i_um2_ms=row["D0I"], d0e_um2_ms=row["D0E"],
        permeability_um_s=kappa, walkers=3_000, seed=3,
    )  # fmt: skip
    signals, errors = (np.array([row[f"{name}{i}"] for i in range(len(protocol))]) for name in ("s", "se"))
    spread = np.hypot(found.standard_error, errors)
    # Four standard errors of the difference, and 0.002 for the finite steps of both walks.
    assert np.all(np.abs(found.signals - signals) < 4 * spread + 0.002)
    weighted = ~protocol.is_b0
    assert found.standard_error[weighted].min() > 0 and found.standard_error.max() < 0.02
