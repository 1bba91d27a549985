"""Errors of histology in tables of pairs: those of sampling and those that a slide's patches share."""

import json

import numpy as np
import pandas as pd
import pytest

from histomri.analysis import agree_table
from histomri.core.images import map_name, write_map
from histomri.pairing import PairOptions, pair_folders

SHAPE, AFFINE = (5, 6), np.diag([0.4, 0.4, 2.0, 1.0])


def write_histology(folder, rng, suffix):
    """Write maps of cells in 3D: errors of sampling grow over the section from 2 to 6 %, the common one is 6 %."""
    folder.mkdir()
    size, fraction = rng.uniform(15, 25, SHAPE), rng.uniform(0.5, 0.7, SHAPE)
    size[0, 0] = np.nan
    growing = np.linspace(0.02, 0.06, size.size).reshape(SHAPE)
    about = {"parameters": {"Size": "volume"}}
    for name, values in ((f"vCS{suffix}", size), ("F", fraction), ("nucleiNV", 1e5 * fraction)):
        for stat, errors in ((None, 1.0), ("se", growing), ("syst", 0.06)):
            path = folder / map_name(name, "histomap", stat=stat)
            write_map(path, values * errors, AFFINE, Units="1", Description=f"what {name} is", **about)
    for name in ("vCS", "F"):  # as published, beside them
        write_map(folder / map_name(name, "histomap", desc="paper"), size, AFFINE, **about)
    return size, growing


def write_mri(folder, rng, shape=SHAPE):
    folder.mkdir()
    for name, low, high in (("vCS", 15, 25), ("F", 0.4, 0.8), ("exit", 1, 1)):
        path = folder / map_name(name, "dwimap", model="diffin")
        write_map(path, rng.uniform(low, high, shape), AFFINE, Model="diff-in", Strategy="high-b")


@pytest.mark.parametrize("suffix", ["", "vol"])
def test_pairs_hold_both_errors_of_each_measurement(tmp_path, rng, suffix):
    size, growing = write_histology(tmp_path / "h", rng, suffix)
    write_mri(tmp_path / "m", rng)
    options = PairOptions.read(histo_dir=tmp_path / "h", mri_dir=tmp_path / "m", sample="a", per="sample")
    pairs = pair_folders(options, tmp_path / "pairs.csv")
    voxels = pairs.table.data
    np.testing.assert_allclose(
        voxels["vCS_histo_um_se"] / voxels["vCS_histo_um"], growing[np.isfinite(size)], rtol=1e-6
    )
    np.testing.assert_allclose(voxels["vCS_histo_um_syst"] / voxels["vCS_histo_um"], 0.06, rtol=1e-6)
    pairs.save(tmp_path / "pairs.csv", options)
    row, known = pd.read_csv(tmp_path / "pairs.csv").iloc[0], np.isfinite(size)
    assert row["vCS_histo_um_se"] == pytest.approx(
        np.sqrt(((size * growing)[known] ** 2).sum()) / known.sum(), rel=1e-5
    )
    assert row["vCS_histo_um_syst"] == pytest.approx(0.06 * np.nanmean(size), rel=1e-5)
    assert set(row.index[-6:]) >= {"vCS_histo_um_se", "vCS_histo_um_syst", "F_histo_syst", "nucleiNV_histo_mm3_syst"}
    columns = json.loads((tmp_path / "pairs.json").read_text())["Columns"]
    assert columns["vCS_histo_um_syst"]["Units"] == "um"
    assert columns["vCS_histo_um_syst"]["Description"].startswith("Systematic error, common to all rows of a slide, of")
    assert columns["vCS_histo_um_se"]["Description"].startswith("Standard error, by sampling, of")


def test_means_of_whole_sections_hold_both_errors_and_the_common_one_reaches_the_bias(tmp_path, rng):
    rows = []
    for place in range(4):
        size, growing = write_histology(tmp_path / f"h{place}", rng, "")
        write_mri(tmp_path / f"m{place}", rng, (3, 3))  # another grid: only means can be compared
        options = PairOptions.read(
            histo_dir=tmp_path / f"h{place}", mri_dir=tmp_path / f"m{place}", sample=f"s{place}", per="sample"
        )
        rows.append(pair_folders(options, tmp_path / "pairs.csv").table.data.iloc[0])
        known = np.isfinite(size)
        expected = np.sqrt(((size * growing)[known] ** 2).sum()) / known.sum()
        assert rows[-1]["vCS_histo_um_se"] == pytest.approx(expected, rel=1e-5)
        assert rows[-1]["vCS_histo_um_syst"] == pytest.approx(0.06 * size[known].mean(), rel=1e-5)
    table = pd.DataFrame(rows)
    table.to_csv(tmp_path / "all.csv", index=False)
    found = agree_table(tmp_path / "all.csv", first="vCS_mri_um", second="vCS_histo_um")
    assert found.to_pandas()["bias_syst"].iloc[0] == pytest.approx(0.06 * table["vCS_histo_um"].mean(), rel=1e-5)


def write_errors_of_fit(folder, rng):
    """Write errors of size: one voxel of no information, one at a bound; of S0, which is not correlated; and of K."""
    known, bounds = rng.uniform(0.5, 2.0, SHAPE), {"parameters": {"bounds": {"vCS": [5.0, 29.0]}}}
    known[1, 1], known[2, 2] = 1e6, np.nan
    for name, values in (("vCS", known), ("F", np.full(SHAPE, 0.02))):
        path = folder / map_name(name, "dwimap", model="diffin", stat="se")
        write_map(path, values, AFFINE, Model="diff-in", Strategy="high-b", **bounds)
    for name, stat in (("S0", None), ("S0", "se"), ("K", None), ("K", "se")):
        write_map(folder / map_name(name, "dwimap", stat=stat), np.full(SHAPE, 0.1), AFFINE)
    known[1, 1] = 24.0 / np.sqrt(12.0)  # as if nothing but the bounds were known
    return known


def test_errors_of_the_fit_become_those_of_means(tmp_path, rng):
    size, _ = write_histology(tmp_path / "h", rng, "")
    write_mri(tmp_path / "m", rng)
    known = write_errors_of_fit(tmp_path / "m", rng)
    options = PairOptions.read(histo_dir=tmp_path / "h", mri_dir=tmp_path / "m", sample="a", per="sample")
    pairs = pair_folders(options, tmp_path / "pairs.csv")
    inside = np.isfinite(size)
    np.testing.assert_allclose(pairs.table.data["vCS_mri_um_se"], known[inside], rtol=1e-6)
    pairs.save(tmp_path / "pairs.csv", options)
    row, mine = pd.read_csv(tmp_path / "pairs.csv").iloc[0], known[inside]
    expected = np.sqrt(np.nanmean(mine**2) / mine.size)  # the voxel at a bound as the others
    assert row["vCS_mri_um_se"] == pytest.approx(expected, rel=1e-6)
    assert row["F_mri_se"] == pytest.approx(0.02 / np.sqrt(mine.size), rel=1e-6)
    assert row["K_se"] == pytest.approx(0.1 / np.sqrt(mine.size), rel=1e-6) and "S0_mri_se" not in row
