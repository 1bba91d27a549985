"""The figures for a paper: all there, reproducible, and drawn from the numbers of the tables."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context

from histomri.errors import InputError
from histomri.report import figures, write_figures
from histomri.report.charts import STYLE
from histomri.report.figures import matrix_plot, residuals_plot
from histomri.report.scatter import samples_card

KEY = ("diff-in", "whole")


def test_every_figure_is_written(finished_run, tmp_path):
    written = write_figures(finished_run, "svg", tmp_path)
    each = {f"{kind}_sub-{name}" for kind in ("maps", "voxels") for name in ("control", "infiltrated", "necrotic")}
    names = {"ranking", "samples", "correlations", *each}
    assert {path.stem for path in written} == names == {path.stem for path in tmp_path.iterdir()}


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_the_same_run_gives_the_same_files(finished_run, tmp_path, monkeypatch, kind, begins):
    every = figures._figures
    monkeypatch.setattr(figures, "_figures", lambda run: list(itertools.islice(every(run), 2)))
    one, other = (write_figures(finished_run, kind, tmp_path / name) for name in "ab")
    assert [path.name for path in one] == [f"ranking.{kind}", f"samples.{kind}"]
    assert all(path.read_bytes().startswith(begins) for path in one)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_an_unknown_format_is_told(finished_run):
    with pytest.raises(InputError, match="no format 'gif'"):
        write_figures(finished_run, "gif")


@pytest.fixture
def cases(rng):
    names = ["vCS_histo_um", "F_histo", "CD_histo_mm2", "vCS_mri_um", "F_mri", "CD_mri_mm3"]
    table = pd.DataFrame(rng.normal(size=(9, 6)), columns=names)
    return table.assign(group=["a", "b", "c"] * 3, scanner=["3T"] * 5 + ["1.5T"] * 4, Ki67=rng.random(9))


def test_points_and_numbers_are_those_of_the_table(cases):
    axes = samples_card(KEY, cases).chart.figure.axes[0]
    drawn = np.concatenate([line.get_xydata() for line in axes.lines if line.get_marker() != "None"])
    truth = cases[["vCS_histo_um", "vCS_mri_um"]].to_numpy()
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(truth, axis=0))
    r = np.corrcoef(truth.T)[0, 1]
    assert f"r = {r:.2f}".replace("-", "\u2212") in axes.get_title(loc="left")


def test_the_matrix_holds_the_correlations(cases):
    axes = matrix_plot(cases, "x", ["Ki67"]).axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["vCS histology", "F histology", "CD histology", "vCS MRI", "F MRI", "CD MRI", "Ki-67"]
    truth = np.corrcoef(cases[[*cases.columns[:6], "Ki67"]].to_numpy().T)
    np.testing.assert_allclose(np.asarray(axes.images[0].get_array()), truth, atol=1e-12)


def test_residuals_show_medians_and_quartiles():
    rows = [
        {
            "model": model,
            "strategy": "whole",
            "b_smm2": b,
            "Delta_ms": when,
            "median": b / 1e4,
            "q25": -0.02,
            "q75": 0.3,
        }
        for model in ("diff-in", "diff-in-ex")
        for b in (1000.0, 2000.0)
        for when in (15.0, 30.0)
    ]
    figure = residuals_plot(pd.DataFrame(rows), "9.4T")
    panel = figure.axes[0]
    assert figure.get_suptitle() == "Residuals, 9.4T\nmedians over voxels, bars between quartiles"
    assert len(figure.axes) == 2 and panel.get_title(loc="left") == "Diff-in, whole"
    first = panel.containers[0]
    # Fitted minus measured, as in the paper.
    np.testing.assert_allclose(np.asarray(first.lines[0].get_ydata(), float), [-0.1, -0.2])
    ends = np.array([segment[:, 1] for segment in first.lines[2][0].get_segments()])
    np.testing.assert_allclose(ends, [[-0.3, 0.02], [-0.3, 0.02]])


def test_the_labels_of_the_samples_stay_inside_the_figure_and_apart(cases):
    with rc_context(STYLE):
        figure = samples_card(KEY, cases).chart.figure
        figure.canvas.draw()
        for axes in figure.axes:
            title = axes._left_title.get_window_extent()
            for label in (axes.xaxis.label, axes.yaxis.label):
                box = label.get_window_extent()
                assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
                assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
                assert not box.overlaps(title)


def test_constants_have_no_matrix(cases):
    assert matrix_plot(cases.assign(**dict.fromkeys(cases.columns[:6], 1.0)), "x") is None
