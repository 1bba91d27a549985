"""Every column with a truth, compared with it on results whose errors are known."""

import numpy as np
import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.core.files import write_json
from histomri.core.images import map_name, write_map
from histomri.registration import Transform
from histomri.simulation import compare_columns

SHAPE = (20, 20, 2)


@pytest.fixture
def results(tmp_path):
    """Return a folder with two samples: vCS of the MRI is 2 µm too large, with a noise of 1 µm, as its error says."""
    rng, out = np.random.default_rng(3), tmp_path / "out"
    truth = out / "inputs" / "truth"
    affine = np.diag([0.4, 0.4, 2.0, 1.0])
    for number, group in enumerate(("control", "ill")):
        name, label = f"sub-{group}", group
        write_json(truth / f"{name}_truth.json", {"Group": group})
        true = {"vCS": rng.uniform(10, 25, SHAPE), "F": rng.uniform(0.3, 0.7, SHAPE), "tissueFraction": np.ones(SHAPE)}
        true["tissueFraction"][:2] = 0.5
        for param, values in true.items():
            about = {"Units": "1", "Description": "x"} if param == "tissueFraction" else {}
            write_map(truth / map_name(param, "dwimap", sub=label, desc="truth"), values, affine, **about)
        index = np.indices(SHAPE).reshape(3, -1)
        found = true["vCS"] + 2.0 + rng.standard_normal(SHAPE)
        error = map_name("vCS", "dwimap", sub=label, model="diffin", stat="se")
        write_map(out / name / "mri" / "whole" / error, np.ones(SHAPE), affine)
        pairs = pd.DataFrame({
            "sample": label, "group": group, "model": "diff-in", "strategy": "whole",
            **dict(zip("ijk", index)), **dict(zip(("x_mm", "y_mm", "z_mm"), np.diag(affine)[:3, None] * index)),
            "vCS_mri_um": found.ravel(), "F_mri": true["F"].ravel(), "F_histo": 0.5 * true["F"].ravel(),
        })  # fmt: skip
        (out / name).mkdir(exist_ok=True)
        pairs.to_csv(out / name / "pairs_voxel.csv", index=False)
        angle, stem = np.radians(10.0 * number), f"{name}_from-histo_to-dwi_mode-image_xfm"
        turn = np.eye(4)
        turn[:2, :2] = 1.05 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        Transform(np.eye(4)).save(truth / stem)
        Transform(turn).save(out / name / "xfm" / stem)
    return out


def test_bias_correlation_and_coverage_by_group(results):
    table = compare_columns(results)
    assert (results / "truth_columns.csv").is_file()
    rows = table.set_index(["group", "level", "column"])
    size = rows.loc[("all", "voxel", "vCS_mri_um")]
    assert size["n"] == 2 * 18 * 20 * 2  # not the voxels that are half empty
    # 1440 draws of SD 1: the mean is within 0.15 of the bias; P(|2 + z| < 1.96) is 0.484, within 0.08 (four errors).
    assert size["bias"] == pytest.approx(2.0, abs=0.15)
    assert size["interval_holds_truth"] == pytest.approx(0.484, abs=0.08) and size["intervals"] == size["n"]
    assert size["r"] == pytest.approx(np.sqrt(18.75 / 19.75), abs=0.02)
    assert rows.loc[("ill", "voxel", "F_mri"), "bias"] == pytest.approx(0.0, abs=1e-6)
    assert rows.loc[("control", "voxel", "F_histo"), "r"] == pytest.approx(1.0, abs=1e-6)
    assert rows.loc[("control", "voxel", "F_histo"), "n"] == 720
    assert rows.loc[("ill", "sample", "angle_error_deg"), "bias"] == pytest.approx(10.0, abs=1e-6)
    assert rows.loc[("all", "sample", "scale_error"), "bias"] == pytest.approx(0.05, abs=1e-6)


def test_results_without_pairs_are_refused(tmp_path):
    write_json(tmp_path / "inputs" / "truth" / "sub-a_truth.json", {"Group": "control"})
    with pytest.raises(InputError, match="no sample has voxel pairs"):
        compare_columns(tmp_path)
