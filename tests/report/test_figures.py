"""The figures for a paper: all there, reproducible, and drawn from the numbers of the tables."""

import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context

from histomri.core.errors import InputError
from histomri.report import write_figures
from histomri.report.figures import files
from histomri.report.figures.charts import STYLE
from histomri.report.figures.correlations import matrix_plot
from histomri.report.figures.models import residuals_plot
from histomri.report.figures.samples import samples_card

KEY = ("diff-in", "whole")


def test_every_figure_is_written(finished_run, tmp_path):
    written = write_figures(finished_run, "svg", tmp_path)
    each = {f"{kind}_sub-{name}" for kind in ("maps", "voxels") for name in ("control", "infiltrated", "necrotic")}
    names = {"ranking", "samples", "correlations", *each}
    assert {path.stem for path in written} == names == {path.stem for path in tmp_path.iterdir()}


@pytest.mark.parametrize(("kind", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_the_same_run_gives_the_same_files(finished_run, tmp_path, monkeypatch, kind, begins):
    every = files._figures
    monkeypatch.setattr(files, "_figures", lambda run: list(itertools.islice(every(run), 2)))
    one, other = (write_figures(finished_run, kind, tmp_path / name) for name in "ab")
    assert [path.name for path in one] == [f"ranking.{kind}", f"samples.{kind}"]
    assert all(path.read_bytes().startswith(begins) for path in one)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def test_an_unknown_format_is_refused(finished_run):
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


def pooled_residuals():
    rows = [
        {
            "scanner": "9.4T", "model": model, "strategy": "whole", "b_smm2": b, "delta_ms": 12.0, "Delta_ms": when,
            "te_ms": echo, "n_samples": 3, "n": 900 if b < 1500 else 800, "median": echo / 1e3 + b / 1e5, "q25": -0.2,
            "q75": 0.3,
        }
        for model in ("diff-in", "diff-in-ex")
        for b in (1000.0, 2000.0)
        for when in (15.0, 30.0)
        for echo in (-40.0, 60.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_residuals_show_medians_and_quartiles_of_every_diffusion_and_echo_time():
    """Echo times of opposite sign stay apart; signs are those of the table, fitted minus measured."""
    figure = residuals_plot(pooled_residuals(), "9.4T")
    panel = figure.axes[0]
    assert figure.get_suptitle().startswith("Residuals, 9.4T: 3 samples, N = 800 to 900 per point\n")
    assert "quartiles" in figure.get_suptitle()
    assert len(figure.axes) == 2 and panel.get_title(loc="left") == "Diff-in, whole"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["Δ 15, TE -40 ms", "Δ 15, TE 60 ms", "Δ 30, TE -40 ms", "Δ 30, TE 60 ms"]
    drawn = [np.asarray(each.lines[0].get_ydata(), float) for each in panel.containers]
    np.testing.assert_allclose(drawn, [[-0.03, -0.02], [0.07, 0.08]] * 2)
    ends = np.array([segment[:, 1] for segment in panel.containers[0].lines[2][0].get_segments()])
    np.testing.assert_allclose(np.sort(ends), [[-0.2, 0.3], [-0.2, 0.3]])
    colours = [each.lines[0].get_color() for each in panel.containers]
    markers = [each.lines[0].get_marker() for each in panel.containers]
    assert colours[0] == colours[1] != colours[2] == colours[3]
    assert markers[0] == markers[2] != markers[1] == markers[3]


@pytest.mark.parametrize("models", [["diff-in"], ["diff-in", "diff-in-ex"]])
def test_title_and_legend_of_the_residuals_stay_inside_the_figure(models):
    table = pooled_residuals()
    table["delta_ms"] = np.where(table["b_smm2"] > 1500, 12.5, 39.9)
    table = table[table["model"].isin(models)]
    with rc_context(STYLE):
        figure = residuals_plot(table, "9.4T")
        figure.canvas.draw()
        for part in (figure._suptitle, figure.legends[0]):
            box = part.get_window_extent()
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def test_the_matrix_says_on_how_many_samples_each_correlation_rests(cases):
    cases.loc[:3, "Ki67"] = np.nan
    axes = matrix_plot(cases, "x", ["Ki67"]).axes[0]
    title = axes.get_title(loc="left")
    assert "N = 5 to 9" in title and "not adjusted" in title
    assert [text.get_text() for text in axes.texts].count("5") == 12
    whole = matrix_plot(cases.drop(columns="Ki67"), "x").axes[0]
    assert "N = 9\n" in whole.get_title(loc="left") and "5" not in [text.get_text() for text in whole.texts]


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
