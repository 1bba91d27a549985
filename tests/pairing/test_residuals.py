"""Residuals over the voxels of a study, against the residuals themselves."""

import json

import numpy as np
import pandas as pd
import pytest

from histomri.fitting.misfit import Residuals
from histomri.mri import Acquisition
from histomri.pairing import ResidualsOptions, pool_residuals
from histomri.study.steps import residuals

ROOMS = {"sub-a": 400, "sub-b": 9, "sub-c": 1500}


def protocol():
    """Two b, two diffusion times and two echo times of opposite misfit; the first measurement twice."""
    b, when, echo = np.array([[1000, 15, 40], [1000, 15, 40], [1000, 15, 60], [3000, 30, 40], [3000, 30, 60]]).T
    return Acquisition(b_smm2=b.astype(float), delta_ms=np.full(5, 10.0), Delta_ms=when.astype(float), te_ms=echo * 1.0)


@pytest.fixture
def fits(tmp_path, rng):
    """The residuals of three samples, and their files as a fit writes them."""
    values = {}
    for sample, n in ROOMS.items():
        misfit = np.array([0.01, 0.01, -0.01, 0.03, 0.0])
        values[sample] = misfit + 0.02 * rng.standard_t(4, size=(n, 5)) + (0.05 if sample == "sub-b" else 0.0)
        values[sample][0] = np.nan
        left = Residuals(values[sample], None, protocol())
        folder = tmp_path / sample / "mri" / "high-b"
        folder.mkdir(parents=True)
        left.table().to_csv(folder / f"{sample}_model-diffinex_residuals.csv", index=False, float_format="%.9g")
        left.counts().to_parquet(folder / f"{sample}_model-diffinex_residuals.parquet", index=False)
    return values, {sample: tmp_path / sample / "mri" for sample in ROOMS}


def test_statistics_are_those_of_all_voxels_together(fits):
    """Moments to the nine digits of the tables, quantiles to the classes of 1 %."""
    values, folders = fits
    found = pool_residuals(folders, dict.fromkeys(folders, "9.4T"))
    assert found[["b_smm2", "Delta_ms", "te_ms"]].to_numpy().tolist() == [
        [1000, 15, 40], [1000, 15, 60], [3000, 30, 40], [3000, 30, 60],
    ]  # fmt: skip
    assert set(found["model"]) == {"diff-in-ex"} and set(found["strategy"]) == {"high-b"}
    for row, columns in zip(found.to_dict("records"), ([0, 1], [2], [3], [4])):
        every = np.concatenate([part[1:, columns].ravel() for part in values.values()])
        assert row["n"] == every.size and row["n_samples"] == 3
        truth = [every.mean(), every.std(ddof=1), np.sqrt((every**2).mean())]
        np.testing.assert_allclose([row["mean"], row["sd"], row["rms"]], truth, rtol=1e-7, atol=1e-10)
        quartiles = np.quantile(every, (0.25, 0.5, 0.75))
        np.testing.assert_allclose([row["q25"], row["median"], row["q75"]], quartiles, rtol=0.01, atol=1e-4)


def test_scanners_stay_apart(fits):
    values, folders = fits
    found = pool_residuals(folders, {"sub-a": "1.5T", "sub-b": "3T", "sub-c": "1.5T"})
    assert found.groupby("scanner")["n_samples"].first().to_dict() == {"1.5T": 2, "3T": 1}
    one = found.query("scanner == '3T' and b_smm2 == 3000 and te_ms == 40").iloc[0]
    assert one["median"] == pytest.approx(np.median(values["sub-b"][1:, 3]), rel=0.011)


def test_every_column_of_the_file_is_described(fits, tmp_path):
    _, folders = fits
    assert len(residuals.run(ResidualsOptions(folders=folders), tmp_path).outputs) == 2
    table = pd.read_csv(tmp_path / "residuals.csv")
    described = json.loads((tmp_path / "residuals.json").read_text())["Columns"]
    assert list(described) == list(table.columns) and set(table["scanner"]) == {"all"}
    assert described["median"]["Units"] == "signal at b = 0" and described["te_ms"]["Units"] == "ms"


def test_what_cannot_be_pooled_is_said(fits, tmp_path):
    _, folders = fits
    assert residuals.run(ResidualsOptions(folders={}), tmp_path / "none").outputs == ()
    options = ResidualsOptions(folders=folders)
    assert len(list(options.reads())) == 6
    counts = folders["sub-a"] / "high-b" / "sub-a_model-diffinex_residuals.parquet"
    pd.read_parquet(counts).iloc[1:].to_parquet(counts)
    assert "does not go with its counts" in residuals.run(options, tmp_path).warnings[0]
    counts.unlink()
    assert "no such table of counts" in residuals.run(options, tmp_path).warnings[0]
    assert not (tmp_path / "residuals.csv").exists()
