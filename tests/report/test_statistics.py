"""The figures of the statistics: what is drawn and said is what scipy and statsmodels say of the same cases."""

import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from matplotlib import rc_context
from scipy import stats

from histomri.analysis import PredictOptions, ScoreOptions, study_statistics
from histomri.core.files import write_json
from histomri.report import write_figures, write_report
from histomri.report.collect import collect
from histomri.report.figures.charts import STYLE, inline_svg
from histomri.report.figures.correlations import line_band
from histomri.report.figures.prediction import surface_of
from histomri.report.figures.samples import samples_card
from histomri.report.figures.statistics import statistics_cards
from histomri.report.text import label_of, ordered
from histomri.study.steps import predict, score

HOSTILE = '<img src=x onerror="alert(1)">&amp;'
FIGURES = {"agreement", "regression", "groups", "association_Ki67_fraction", "prediction_cubic", "prediction_printed"}
N = 18


def make_cases(rng, model, noise):
    histology = np.random.default_rng(3)  # the same for every model
    size, fraction = histology.uniform(14, 28, N), histology.uniform(0.4, 0.8, N)
    mri, share = size + noise * rng.normal(size=N), fraction + 0.05 * noise * rng.normal(size=N)
    density = 1e6 * fraction / size**2
    return pd.DataFrame(
        {
            "sample": [HOSTILE if case == 0 else f"s{case:02d}" for case in range(N)],
            "group": ["tumour", "healthy", "tumour"] * (N // 3),
            "scanner": ["3T", "1.5T"] * (N // 2),
            "model": model,
            "strategy": "high-b",
            "vCS_mri_um": mri,
            "F_mri": share,
            "CD_mri_mm3": 1e9 * share / mri**3,
            "vCS_histo_um": size,
            "F_histo": fraction,
            "CD_histo_mm2": density,
            "ADC_um2_ms": 1.6 - fraction + 0.05 * rng.normal(size=N),
            "Ki67_fraction": np.where(np.arange(N) % 2, density / 4e3 + 0.02 * rng.normal(size=N), np.nan),
        }
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Tables over samples as a run leaves them, without the samples' own folders; read only."""
    out, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(8)
    pairs = pd.concat([make_cases(rng, "diff-in", 1.0), make_cases(rng, "diff-in-ex", 3.0)], ignore_index=True)
    pairs.to_csv(out / "pairs.csv", index=False)
    score.run(ScoreOptions(table=out / "pairs.csv", boot=200), out)
    assert study_statistics(out / "pairs.csv", ["Ki67_fraction"]).write(out / "statistics").warnings == ()
    x, y = rng.uniform(1, 2.8, 60), rng.uniform(12, 34, 60)
    volume = 10 ** (4.6 - (x - 1.8) ** 2 - 0.006 * (y - 25) ** 2 + 0.4 * rng.normal(size=60))
    tumours = pd.DataFrame({"sample": [f"t{case}" for case in range(60)], "D0I_mri_um2_ms": x, "vCS_mri_um": y})
    tumours.assign(volume_mm3=volume, patient=np.arange(60) // 3).to_csv(out / "tumours.csv", index=False)
    options = PredictOptions(table=out / "tumours.csv", target="volume_mm3", boot=200, folder_each=True)
    predict.run(options, out / "statistics")
    samples = [{"id": f"s{case}", "measures": {"Ki67_fraction": 0.1}, "status": "ok"} for case in range(2)]
    write_json(out / "study.json", {"name": "x", "samples": samples, "parameters": {"samples": samples}})
    return out


@pytest.fixture(scope="module")
def cards(study):
    return {card.name: card for card in statistics_cards(collect(study))}


@pytest.fixture(scope="module")
def best(study):
    run = collect(study)
    return run.pairs[run.pairs["model"] == run.ranking[0]["model"]].reset_index(drop=True)


def drawn(axes):
    """Return the points of a panel."""
    lines = [line.get_xydata() for line in axes.lines if str(line.get_gid()).startswith("points")]
    return np.concatenate(lines)


def in_order(points):
    return points[np.lexsort(points.T)]


def minus(text):
    return text.replace("-", "\u2212")


def test_every_figure_is_there(cards, study, tmp_path):
    assert set(cards) == FIGURES
    assert {name for name, card in cards.items() if card.aside} == {"prediction_printed"}
    written = write_figures(study, "svg", tmp_path)
    assert {path.stem for path in written} == FIGURES | {
        "ranking",
        "ranking_1.5T",
        "ranking_3T",
        "influence",
        "samples",
        "correlations",
    }


def test_agreement_shows_differences_bias_and_limits(cards, best):
    left, right = cards["agreement"].chart.figure.axes[:2]
    difference = (best["vCS_mri_um"] - best["vCS_histo_um"]).to_numpy()
    mean = ((best["vCS_mri_um"] + best["vCS_histo_um"]) / 2).to_numpy()
    np.testing.assert_allclose(in_order(drawn(left)), in_order(np.column_stack([mean, difference])), rtol=1e-9)
    bias, sd = difference.mean(), difference.std(ddof=1)
    levels = sorted(
        line.get_ydata()[0] for line in left.lines if len(set(line.get_ydata())) == 1 and line.get_gid() is None
    )
    wanted = sorted([0.0, bias, bias - stats.norm.ppf(0.975) * sd, bias + stats.norm.ppf(0.975) * sd])
    np.testing.assert_allclose(levels, wanted, rtol=1e-9, atol=1e-12)
    low, high = stats.t.interval(0.95, N - 1, bias, sd / np.sqrt(N))
    said = minus(f"bias {bias:.3g} µm, 95\u202f% interval [{low:.3g} µm, {high:.3g} µm]")
    assert said in cards["agreement"].text[0]
    order = np.argsort(best["vCS_histo_um"].to_numpy())
    parts = [difference[part].mean() for part in np.array_split(order, 3)]
    np.testing.assert_allclose(right.lines[-1].get_ydata(), parts, rtol=1e-9)
    slope = stats.linregress(mean, difference)
    assert minus(f"slope {slope.slope:.2g} [") in left.get_title(loc="left")


def test_regression_shows_standardised_coefficients_with_robust_intervals(cards, best):
    axes = cards["regression"].chart.figure.axes[0]
    found = drawn(axes)[:, 0]
    truth, spans = [], []
    for response, terms in (
        ("vCS_mri_um", ["vCS_histo_um", "F_histo"]),
        ("F_mri", ["F_histo", "vCS_histo_um"]),
        ("CD_mri_mm3", ["CD_histo_mm2", "F_histo", "vCS_histo_um"]),
    ):
        scaled = (best[[response, *terms]] - best[[response, *terms]].mean()) / best[[response, *terms]].std()
        fit = sm.OLS(scaled[response], sm.add_constant(scaled[terms])).fit(cov_type="HC3", use_t=True)
        truth += list(fit.params[terms])
        spans += fit.conf_int().loc[terms].to_numpy().tolist()
    np.testing.assert_allclose(found, truth, rtol=1e-9)
    lines = [line.get_xdata() for line in axes.lines if line.get_gid() is None and len(line.get_xdata()) == 2]
    drawn_spans = [line for line in lines if not np.array_equal(line, [0, 0])]
    np.testing.assert_allclose(drawn_spans, spans, rtol=1e-9)


def test_collinear_properties_are_open_and_named(cards, best):
    """The three properties of the model of density nearly follow from each other in these cases."""
    terms = ["CD_histo_mm2", "F_histo", "vCS_histo_um"]
    inflation = np.diag(np.linalg.inv(np.corrcoef(best[terms].to_numpy().T)))
    axes = cards["regression"].chart.figure.axes[0]
    points = [line for line in axes.lines if line.get_gid() is not None][-3:]
    assert [point.get_markerfacecolor() == "white" for point in points] == list(inflation > 10)
    assert (inflation > 10).any() and not (inflation > 10).all()
    assert "CD histology for CD MRI" in cards["regression"].text[1]
    assert sum("collinear" in text.get_text() for text in axes.texts) == (inflation > 10).sum()


def test_groups_show_every_case_and_the_test_of_the_table(cards, best):
    figure = cards["groups"].chart.figure
    names = ordered(
        ["vCS_histo_um", "F_histo", "CD_histo_mm2", "vCS_mri_um", "F_mri", "CD_mri_mm3", "ADC_um2_ms", "Ki67_fraction"]
    )
    assert len([axes for axes in figure.axes if axes.get_visible()]) == len(names)
    for axes, name in zip(figure.axes, names):
        label = label_of(name, best[name])
        known = best.dropna(subset=[name])
        np.testing.assert_allclose(np.sort(drawn(axes)[:, 1]), np.sort(known[name]) / label.divisor, rtol=1e-9)
        places = np.round(drawn(axes)[:, 0])
        assert sorted(places) == sorted((known["group"] == "tumour").astype(int))
        a, b = (known.loc[known["group"] == group, name] for group in ("healthy", "tumour"))
        p = stats.ttest_ind(a, b, equal_var=False).pvalue
        pooled = np.sqrt(((len(a) - 1) * a.var() + (len(b) - 1) * b.var()) / (len(a) + len(b) - 2))
        g = (a.mean() - b.mean()) / pooled * (1 - 3 / (4 * (len(a) + len(b) - 2) - 1))
        (text,) = axes.texts
        assert text.get_text().startswith(f"p = {p:.2g}, g = ")
        # The correction for few cases is exact in the table, and the textbook's approximation here.
        assert float(text.get_text().split("g = ")[1].replace("\u2212", "-")) == pytest.approx(g, abs=0.06)


def test_association_shows_r_p_and_the_line_with_its_band(cards, best):
    card = cards["association_Ki67_fraction"]
    known = best.dropna(subset=["Ki67_fraction"])
    names = ordered(name for name in best.columns[5:] if name not in ("Ki67_fraction", "CDsphere_mri_mm3"))
    assert card.chart.figure.get_suptitle().endswith(f"N = {len(known)}")
    for axes, name in zip(card.chart.figure.axes, names):
        scale = label_of(name, best[name]).divisor
        truth = np.column_stack([known[name] / scale, known["Ki67_fraction"]])
        np.testing.assert_allclose(in_order(drawn(axes)), in_order(truth), rtol=1e-9)
        r, p = stats.pearsonr(known[name], known["Ki67_fraction"])
        rho = stats.spearmanr(known[name], known["Ki67_fraction"]).statistic
        said = axes.get_title(loc="left")
        assert said.startswith(minus(f"r = {r:.2f}, ") + ("p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"))
        assert minus(f"\nρ = {rho:.2f}, ") in said
        assert axes.get_xlabel() == label_of(name, best[name]).axis


def test_the_band_is_that_of_statsmodels(rng):
    x = rng.uniform(2, 9, 11)
    y, at = 3 - 0.7 * x + rng.normal(size=11), np.linspace(1, 10, 7)
    middle, half = line_band(x, y, at)
    truth = sm.OLS(y, sm.add_constant(x)).fit().get_prediction(sm.add_constant(at)).summary_frame(alpha=0.05)
    np.testing.assert_allclose(middle, truth["mean"], rtol=1e-10)
    np.testing.assert_allclose(middle - half, truth["mean_ci_lower"], rtol=1e-10)


@pytest.mark.parametrize("basis", ["cubic", "printed"])
def test_prediction_shows_unseen_cases_and_the_fitted_surface(cards, study, basis):
    card, folder = cards[f"prediction_{basis}"], study / "statistics" / f"prediction_{basis}"
    cases = pd.read_csv(folder / "predictions.csv")
    left, middle = card.chart.figure.axes[:2]
    np.testing.assert_allclose(drawn(left), cases[["log10(volume_mm3)", "predicted"]], rtol=1e-9)
    r = stats.pearsonr(cases["log10(volume_mm3)"], cases["predicted"])
    assert left.get_title(loc="left").startswith(f"r = {r.statistic:.2f} [") and "N = 60" in left.get_title(loc="left")
    assert "cases of one patient in one fold (20 of them)" in card.text[0]
    (points,) = [each for each in middle.collections if str(each.get_gid()).startswith("points")]
    tumours = pd.read_csv(study / "tumours.csv")
    np.testing.assert_allclose(points.get_offsets(), tumours[["D0I_mri_um2_ms", "vCS_mri_um"]], rtol=1e-9)
    np.testing.assert_allclose(points.get_array(), np.log10(tumours["volume_mm3"]), rtol=1e-9)


def test_the_surface_ends_where_the_cases_end(study):
    table = pd.read_csv(study / "statistics" / "prediction_cubic" / "prediction_surface.csv")
    x, y, layers = surface_of(table.sample(frac=1, random_state=1), "D0I_mri_um2_ms", "vCS_mri_um")
    for row in table.to_dict("records"):
        place = np.searchsorted(x, row["D0I_mri_um2_ms"] - 1e-9), np.searchsorted(y, row["vCS_mri_um"] - 1e-9)
        wanted = row["predicted"] if row["inside"] else np.nan
        np.testing.assert_allclose(layers["predicted"][place], wanted)


def test_each_point_says_its_sample_and_values(cards, best):
    root = ElementTree.fromstring(inline_svg(cards["agreement"].chart, "agreement", "What it shows."))
    words = [element.get("data-tip") for element in root.iter() if element.get("data-tip")]
    assert len(words) == 2 * N
    first = best.iloc[0]
    wanted = (
        f"{HOSTILE} (tumour, 3T)\nvCS MRI {first['vCS_mri_um']:.3g} µm\nvCS histology {first['vCS_histo_um']:.3g} µm\n"
    )
    assert any(text.startswith(wanted) for text in words)
    assert (
        root.get("aria-label") == "What it shows. Arrow keys step through the points." and root.get("tabindex") == "0"
    )
    assert not list(root.iter("{http://www.w3.org/2000/svg}style"))
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert all(name.startswith("agreement-") for name in ids) and len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', ElementTree.tostring(root, encoding="unicode")))
    assert used and used <= set(ids)


def test_points_lie_where_they_say(cards, best):
    """The nth word belongs to the nth drawn point: places in the picture order as the values do."""
    chart = cards["association_Ki67_fraction"].chart
    root = ElementTree.fromstring(inline_svg(chart, "a", ""))
    uses = [element for element in root.iter() if element.get("data-tip", "").split("\n")[1:2] != []]
    sizes = [u for u in uses if "\nvCS histology " in u.get("data-tip")]
    said = [float(re.search(r"vCS histology ([\d.]+)", use.get("data-tip"))[1]) for use in sizes]
    assert np.corrcoef(said, [float(use.get("x")) for use in sizes])[0, 1] > 0.9999


def test_the_report_holds_them_and_their_tables(study):
    html = write_report(study).read_text(encoding="utf-8")
    assert len(re.findall(r'<svg[^>]*class="chart"', html)) == len(FIGURES) + 2  # the samples, and influence
    assert HOSTILE not in html and "Do the groups differ?" in html and "Can volume be predicted?" in html
    for name in ("agreement.csv", "prediction_cubic/prediction.json", "prediction_printed/predictions.csv"):
        assert f">statistics/{name}<" in html
    ids = re.findall(r' id="([^"]+)"', html.split("<script", 1)[0])
    assert len(ids) == len(set(ids))


def test_damaged_tables_are_named_and_do_not_stop_the_others(study, tmp_path):
    folder = shutil.copytree(study, tmp_path / "copy")
    (folder / "statistics" / "agreement.csv").write_text("first,second\na,b\n")
    (folder / "statistics" / "prediction_cubic" / "predictions.csv").unlink()
    (folder / "statistics" / "prediction_printed" / "prediction.json").write_text("[]")
    run = collect(folder)
    assert [text for text in run.missing if "not shown" in text] == [
        "A table of statistics is not shown (agreement.csv: has no column 'n').",
        "The cubic prediction is not shown (predictions.csv: cannot be read as a table).",
        "The printed prediction is not shown (prediction.json: is not the record of a prediction).",
    ]
    assert {card.name for card in statistics_cards(run)} == {"regression", "groups", "association_Ki67_fraction"}


def test_groups_may_have_names_that_mean_nothing_elsewhere(tmp_path):
    """NA is a nation's code, and "none" a treatment; an empty cell alone is no group."""
    names = ("NA", "nan", "none")
    cases = make_cases(np.random.default_rng(4), "diff-in", 1.0)
    cases["sample"] = ["NA", "nan", "null", *cases["sample"][3:]]
    cases["group"] = [*names, *names, *names, *names, *names, *names[:2], None]
    cases.to_csv(tmp_path / "pairs.csv", index=False)
    score.run(ScoreOptions(table=tmp_path / "pairs.csv", boot=200), tmp_path)
    assert study_statistics(tmp_path / "pairs.csv").write(tmp_path / "statistics").warnings == ()
    samples = [{"id": name, "group": group, "status": "ok"} for name, group in zip(cases["sample"], cases["group"])]
    write_json(tmp_path / "study.json", {"name": "x", "samples": samples})
    run = collect(tmp_path)
    assert not run.missing
    with rc_context(STYLE):
        samples_figure = samples_card(("diff-in", "high-b"), run.pairs).chart
    legend = [text.get_text() for text in samples_figure.figure.legends[0].get_texts()]
    assert legend == [*names, "not given", "1.5T", "3T"]
    said = {text.split("\n")[0] for words in samples_figure.tips.values() for text in words}
    assert {"NA (NA, 3T)", "nan (nan, 1.5T)", "null (none, 3T)", "s17 (1.5T)"} <= said
    groups = next(card for card in statistics_cards(run) if card.name == "groups").chart.figure
    size, *_, last = [axes for axes in groups.axes if axes.get_visible()]
    assert [text.get_text() for text in last.get_xticklabels()] == list(names)
    for place, name in enumerate(names):
        mine = drawn(size)[np.abs(drawn(size)[:, 0] - place) < 0.5, 1]
        np.testing.assert_allclose(np.sort(mine), np.sort(cases.loc[cases["group"] == name, "vCS_histo_um"]), rtol=1e-9)
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert all(f'<span class="chip">{name}</span>' in html for name in names)


def test_columns_are_named_with_their_units():
    assert label_of("volume_mm3", [2e3, 43210.0]).axis == "volume (10³ mm³)"
    assert label_of("CD_mri_mm3", [2.5e6]).axis == "CD MRI (10⁶ cells/mm³)" and label_of("F_mri").axis == "F MRI"
    assert label_of("Ki67_fraction").axis == "Ki-67 fraction" and label_of("stiffness_kPa").name == "stiffness kPa"
    assert ordered(["mine", "ADC_per_water", "ADC_um2_ms", "vCS_histo_um"]) == ["vCS_histo_um", "ADC_per_water", "mine"]


def test_labels_stay_inside_the_figures_and_panels_apart(cards):
    for card in cards.values():
        figure = card.chart.figure
        figure.canvas.draw()
        shown = [axes for axes in figure.axes if axes.get_visible()]
        for axes in shown:
            texts = [axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
            for text in (each for each in texts if each.get_text()):
                box = text.get_window_extent()
                assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, (card.name, text.get_text())
                assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, (card.name, text.get_text())
                others = [other.get_window_extent() for other in shown if other is not axes]
                assert not any(box.overlaps(other) for other in others), (card.name, text.get_text())


EXERCISE = r"""
  const chart = document.querySelector("#agreement .chart"), tip = document.querySelector("body > .tip");
  const points = [...chart.querySelectorAll("[data-tip]")];
  const output = chart.closest(".card").querySelector("output");
  chart.scrollIntoView({ behavior: "instant" });
  const frame = points[3].getBoundingClientRect();
  const at = { clientX: frame.left + frame.width / 2 + 2, clientY: frame.top + frame.height / 2 };
  found.hidden = [tip.hidden];
  chart.dispatchEvent(new PointerEvent("pointermove", { ...at, bubbles: true }));
  found.hover = [points[3].dataset.tip, tip.textContent, output.textContent];
  chart.dispatchEvent(new PointerEvent("pointerleave"));
  found.hidden.push(tip.hidden);
  const press = (key) => {
    chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    return points.findIndex((point) => point.dataset.tip.replaceAll("\n", " · ") === output.textContent);
  };
  found.steps = ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft", "Escape"].map(press);
  found.last = points.length - 1;
  const wide = (svg) => svg.getBoundingClientRect().width;
  found.widths = [...document.querySelectorAll(".card:not(details) .chart")].map(wide);
  const jump = document.querySelector("select[data-jump]");
  jump.value = "sample-9";
  jump.dispatchEvent(new Event("change"));
  found.hash = location.hash;
"""


def test_in_a_browser_the_points_speak_to_mouse_and_keyboard(study, tmp_path, browse, change_study):
    folder = shutil.copytree(study, tmp_path / "copy")
    change_study(folder, lambda record: record["samples"].extend({"id": f"more{place}"} for place in range(9)))
    found, console = browse(write_report(folder), EXERCISE)
    assert found["faults"] == [] and found["requests"] == []
    assert console == []
    tip, shown, said = found["hover"]
    assert tip == shown and said == tip.replace("\n", " · ") and "vCS MRI" in tip
    assert found["hidden"] == [True, True]
    assert found["steps"] == [0, 1, 0, found["last"], -1]
    assert all(width > 500 for width in found["widths"])
    assert len(found["widths"]) == len(FIGURES) + 1  # with the samples and the influence, less the one aside
    assert found["hash"] == "#sample-9"
