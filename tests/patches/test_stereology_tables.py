"""All routes on sections of seven simulated tissues with their truth (tests/data/stereology)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "bench_stereology.py"
# Limits of the error in %: the worst of an independent prototype on 14 tissues, with a margin. A second pair is for
# tissue of which masks cover more than 85 %; that of F by outlines for nuclei off the middle of their cells.
LIMITS = {
    ("nuclei", "N_V_per_mm3"): ((-6, 6),),
    ("nuclei", "d_mean_um"): ((-5, 5),),
    ("nuclei", "d_CV"): ((-8, 8),),
    ("volume", "D_vol_um"): ((-2.5, 2.5),),
    ("volume", "vCS_um"): ((-4, 10),),
    ("mask", "vCS_um"): ((-4.5, 3),),
    ("mask", "D_vol_um"): ((-3, 3), (-8, 3)),
    ("mask", "F"): ((-9, 4), (-20, 0)),
    ("every_mask", "vCS_um"): ((-2, 1),),
    ("every_mask", "N_V_per_mm3"): ((-8, 3), (-18, 3)),
    ("every_mask", "F"): ((-12, 1), (-25, 0)),
    ("every_outline", "vCS_um"): ((-1, 1),),
    ("every_outline", "N_V_per_mm3"): ((-5, 2),),
    ("every_outline", "F"): ((-3.5, 1),),
    ("outline", "vCS_um"): ((-2.5, 2.5),),
    ("outline", "D_vol_um"): ((-3, 3.5),),
    ("outline", "F"): ((-4, 5), (-9, 5)),
}
LARGEST_RMS = {
    ("nuclei", "N_V_per_mm3"): 3.0, ("volume", "D_vol_um"): 1.2, ("mask", "vCS_um"): 2.3,
    ("every_mask", "vCS_um"): 1.0, ("every_outline", "vCS_um"): 1.0, ("every_outline", "N_V_per_mm3"): 1.0,
    ("every_outline", "F"): 1.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def errors(data, tmp_path_factory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("stereology") / "estimates.csv"
    call = [sys.executable, str(SCRIPT), "--tables", str(data / "stereology"), "--out", str(out), "--draws", "0"]
    subprocess.run(call, check=True, capture_output=True, text=True)
    truth, known = (
        pd.read_csv(data / "stereology" / f"{name}.csv").set_index("condition") for name in ("truth", "conditions")
    )
    table = pd.read_csv(out).set_index(["condition", "route"])
    shares = table / truth.reindex(table.index.get_level_values(0))[table.columns].to_numpy() - 1
    long = (100 * shares).stack().rename("error").rename_axis(["condition", "route", "quantity"]).reset_index()
    return long.merge(known[["mask_coverage_U", "eccentricity"]], on="condition")


def test_every_estimate_lies_within_the_limits_of_its_route(errors):
    checked = 0
    for row in errors.itertuples():
        limits = LIMITS.get((row.route, row.quantity))
        if limits is None:
            continue
        second = row.eccentricity >= 0.6 if row.route == "outline" else row.mask_coverage_U > 0.85
        low, high = limits[-1] if second else limits[0]
        assert low <= row.error <= high, row
        checked += 1
    assert checked == 119


@pytest.mark.parametrize(("route", "quantity"), LARGEST_RMS)
def test_errors_over_the_tissues_are_small(errors, route, quantity):
    own = errors[(errors["route"] == route) & (errors["quantity"] == quantity)]["error"]
    assert len(own) == 7 and np.sqrt((own**2).mean()) <= LARGEST_RMS[route, quantity]
