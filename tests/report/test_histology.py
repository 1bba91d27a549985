"""What the report says of the histology: which numbers stand beside MRI, and both side by side."""

from pathlib import Path

import numpy as np
import pandas as pd

from histomri.report.collect import Run, Sample
from histomri.report.figures.samples import samples_card
from histomri.report.histology import both_ways, histology_methods, histology_note


def run_of(size, kind, results, **stated):
    volume = {
        "Kind": kind,
        "Thickness_um": 4.0,
        "ThicknessError_um": 0.8,
        "Shrinkage": 0.129,
        "Results": results,
        **stated,
    }
    patches = {"median": {"vCS": 26.86, "F": 0.342, "CD": 1106.4}, "in_3d": volume}
    sample = Sample({"id": "m1", "status": "ok", "summary": {"patches": patches}}, size=size)
    sample.sidecars["histology"] = {"OutlineKind": kind}
    return Run(Path(), {}, [], None, [sample], [], size=size)


def number(value, stat, syst, **more):
    return {"Value": value, "StatSE": stat, "Syst": syst, **more}


def test_both_sizes_stand_side_by_side_with_their_errors():
    results = {"nucleiNV": number(88882.0, 4479.0, 14177.0), "cellNV": number(71105.6, 3583.0, 11342.0),
               "Dvol": number(None, None, None, Reason="25 profiles are too few, 30 are needed"),
               "vCSvol": number(25.737, 0.4419, 3.5851)}  # fmt: skip
    found = both_ways(
        run_of("paper", "R", results, F_assumed=0.5, F_assumed_error=0.1, Smallest_um2=10, BinucleateShare=0.25)
    )
    (row,) = found["rows"]
    assert (row["vCS_paper"], row["F_paper"], row["CD_paper"]) == ("26.9", "0.34", "1106")
    assert row["vCS"] == ("25.7", "± 0.4 stat ± 3.6 syst") and row["NV"] == ("71.1", "± 3.6 stat ± 11.3 syst")
    assert row["F"] == ("0.50", "stated") and row["Dvol"] == ("–", "25 profiles are too few, 30 are needed")
    for text in ("R (nucleus and rim)", "4 ± 0.8 µm thick", "nuclei from 10 µm²", "0.5 ± 0.1 of the volume", "25 % of"):
        assert text in found["stated"]
    masks = both_ways(run_of("volume", "M", {"F": number(0.71, 0.02, 0.04, Upper=0.9)}))
    assert masks["rows"][0]["F"] == ("0.71 to 0.90", "± 0.02 stat ± 0.04 syst")
    assert both_ways(run_of("paper", "R", {})) is None


def test_the_page_says_which_size_is_compared():
    note, methods = (say(run_of("paper", "R", {})) for say in (histology_note, histology_methods))
    assert (
        "as published (size = paper)" in note
        and "nuclei with their rim" in note
        and "does not see the membrane" in methods
    )
    note, methods = (say(run_of("volume", "R", {})) for say in (histology_note, histology_methods))
    assert "size = volume" in note and "model-based" in note and "no TCS" in note and "unfolded" in methods
    note = histology_note(run_of("volume", "M", {}))
    assert "size = volume" in note and "model-based" not in note


def test_the_line_of_equality_has_the_units_of_the_axes():
    """Densities are drawn in thousands: the line lies among the points, not a thousand times beyond them."""
    density = np.array([60e3, 90e3, 120e3, 150e3])
    rows = pd.DataFrame({"sample": list("abcd"), "nucleiNV_histo_mm3": density, "CDsphere_mri_mm3": density[::-1]})
    card = samples_card(("diff-in", "whole"), rows)
    (axes,) = (one for one in card.chart.figure.axes if one.get_lines())
    ends = next(line.get_xdata() for line in axes.get_lines() if line.get_linestyle() == "--")
    np.testing.assert_allclose(ends, [60, 150])
