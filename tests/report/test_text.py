"""What the report says of a ranking: shared places, and rows that rest on samples of their own."""

import numpy as np
import pandas as pd

from histomri.analysis import rank_models
from histomri.report.figures.models import ranking_plot
from histomri.report.text import highest_score, ranking_rows


def test_rows_that_cannot_be_compared_say_so_and_ties_share_a_place(rng):
    """Two models that say the same of 12 samples, and a third that was fitted in four of them."""
    truth = {"vCS": rng.uniform(15, 30, 12), "F": rng.uniform(0.3, 0.7, 12)}
    rows = [
        {"sample": f"s{n}", "model": model, "strategy": "whole", "vCS_histo_um": truth["vCS"][n],
         "F_histo": truth["F"][n], "vCS_mri_um": truth["vCS"][n] + np.sin(7 * n), "F_mri": truth["F"][n]}
        for model, count in (("diff-in", 12), ("diff-in-ex", 12), ("diff-in-extd", 4))
        for n in range(count)
    ]  # fmt: skip
    ranking = rank_models(pd.DataFrame(rows), n_boot=100)
    rows_shown = ranking_rows(ranking)
    assert [(row["model"], row["rank"], row["n"]) for row in rows_shown] == [
        ("Diff-in", "1=", "12"),
        ("Diff-in-ex", "1=", "12"),
        ("Diff-in-exTD", "–", "4 of its own"),
    ]
    names = [label.get_text() for label in ranking_plot(ranking).axes[0].get_yticklabels()]
    assert ["other samples" in name for name in names] == [False, False, True]


def test_the_overview_says_no_more_than_the_samples_do(rng):
    """Ten samples cannot separate two models alike; of two that differ grossly one is the closest to histology."""
    truth = {"vCS": rng.uniform(15, 30, 30), "F": rng.uniform(0.3, 0.7, 30)}

    def tile(other_noise, n):
        rows = [
            {"sample": f"s{k:02d}", "model": model, "strategy": "whole", "vCS_histo_um": truth["vCS"][k],
             "F_histo": truth["F"][k], "vCS_mri_um": truth["vCS"][k] + 3 * noise * rng.normal(),
             "F_mri": truth["F"][k] + 0.1 * noise * rng.normal()}
            for model, noise in (("diff-in", 0.3), ("diff-in-ex", other_noise))
            for k in range(n)
        ]  # fmt: skip
        return highest_score(rank_models(pd.DataFrame(rows), n_boot=200))

    label, _, note = tile(0.3, 10)
    assert label == "Highest TCS" and "corrected" in note and "2 of 2 are not distinguishable from it" in note
    label, model, note = tile(3.0, 30)
    assert (label, model) == ("Closest to histology", "Diff-in") and "distinguishable from all 1 others" in note
    assert tile(0.3, 5)[2].endswith("too few to distinguish 2")
