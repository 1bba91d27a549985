"""The card on how well the models describe the signals, from the files that a fit leaves."""

import json

import pandas as pd
import pytest

from histomri.core.errors import InputError
from histomri.report.figures.misfit import misfit_card
from histomri.report.misfit import read_misfit


def _write(folder, model, spoilt, poor=0.01):
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "Model": model, "Strategy": "whole", "fitted": 90, "at_bound": 10, "Robust": "loo", "VoxelsFittedAgain": 50,
        "MeasurementsLeftOut": 50, "ShareOfPBelow0.01": poor, "MedianChi2PerFreedom": 1.02, "SpoiltVolumes": spoilt,
        "Mean": {"Verdict": "mean over 100 voxels: one T2 without exchange describes it"},
    }  # fmt: skip
    path = folder / f"model-{model.replace('-', '')}_misfit.json"
    path.write_text(json.dumps(record))
    rows = [(k, v, 100.0 * v, 0.1, bool(spoilt) and (k, v) == (1, 3)) for k in range(2) for v in range(3, 6)]
    table = pd.DataFrame(rows, columns=["slice", "volume", "b_smm2", "median_z", "spoilt"])
    table.to_csv(path.with_suffix(".csv"), index=False)
    return path


def test_the_card_names_the_spoilt_volume_and_lists_all_fits(tmp_path):
    spoilt = [{"volume": 3, "slice": 1, "median": -9.0, "gain": 50.0, "ratio": 0.4}]
    _write(tmp_path / "whole", "diff-in-ex", spoilt)
    _write(tmp_path / "whole", "diff-in", [], poor=0.6)
    drawn = []
    card = misfit_card(read_misfit(tmp_path), ("diff-in-ex", "whole"), lambda make: drawn.append(make()) or "data:,")
    assert card["text"][0].endswith("left out there: volume 3, slice 1: signal 40 % of expected.")
    assert card["text"][1] == "Mean over 100 voxels: one T2 without exchange describes it."
    assert len(drawn[0].axes[0].lines) == 1  # the frame
    assert [row["n"] for row in card["rows"]] == ["100", "100"]
    assert "60 % of the voxels do not fit this model" in card["rows"][0]["verdict"]


def test_no_files_no_card_and_damaged_ones_are_named(tmp_path):
    assert misfit_card(read_misfit(tmp_path), None, lambda make: None) is None
    path = _write(tmp_path, "diff-in", [])
    path.with_suffix(".csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no record of misfit"):
        read_misfit(tmp_path)
