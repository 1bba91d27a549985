"""The report says what happened, escapes what it is given, and survives whatever is missing."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from histomri.analysis import spatial_correlation
from histomri.core.errors import InputError
from histomri.core.files import write_json
from histomri.report import write_report
from histomri.report.collect import Run, Sample
from histomri.report.methods import methods_text, presets, reliability_notes

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>&\"'"


class Page(HTMLParser):
    """The text, the links and the tags of a page."""

    def __init__(self, html):
        super().__init__()
        self.text, self.links, self.tags, self._silent = [], [], [], 0
        self.alts = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[name] for name in ("src", "href") if attrs.get(name)]
        if tag == "img":
            self.alts.append(attrs.get("alt"))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._silent -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._silent:
            self.text.append(data)

    def __contains__(self, words):
        return " ".join(words.split()) in " ".join(" ".join(self.text).split())


def read(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture
def copy(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


@pytest.fixture(scope="module")
def page(finished_report):
    return Page(finished_report.read_text(encoding="utf-8"))


def test_everything_is_inside(finished_report):
    html = finished_report.read_text(encoding="utf-8")
    page = Page(html)
    assert all(link.startswith(("data:", "#", "sub-")) for link in page.links)
    assert "default-src 'none'" in html
    assert finished_report.stat().st_size < 4e6
    assert all(page.alts), "every picture has words"
    assert page.tags.count("h1") == 1 and "main" in page.tags and "nav" in page.tags


def test_it_says_what_was_run_with_what_result_and_how_far_to_trust_it(page):
    for words in (
        "Mouse livers",
        "mouse-exvivo",
        "3 of 3",
        "Diff-in-ex",
        "3 cases: TCS has neither a confidence interval",
        "18 % of the tissue has no counterpart on the MRI",
        "Registration: 2 of 3 good; infiltrated should be checked by eye.",
        "only |r| above 0.997 differs",
        "it does not see the membrane",
        "12.9\u202f% shrinkage",
        "2000 resamples, seed 0",
        "doi:10.1038/s43856-025-01246-2",
        "histology: section",
        "control: control.tsv",
        "52 310 cells read",
    ):
        assert words in page, words


def test_the_correlations_are_those_of_the_table(finished_run, page):
    """r as scipy has it; p and interval by hand from the effective number of voxels and the terms of the edge."""
    best = json.loads((finished_run / "scores.json").read_text())["models"][0]
    tested = 0
    for path in sorted(finished_run.glob("sub-*/pairs_voxel.csv")):
        voxels = pd.read_csv(path)
        rows = voxels[(voxels["model"] == best["model"]) & (voxels["strategy"] == best["strategy"])]
        for x, y in (("vCS_histo_um", "vCS_mri_um"), ("F_histo", "F_mri")):
            r = stats.pearsonr(rows[x], rows[y]).statistic
            found = spatial_correlation(rows[x], rows[y], rows[["i", "j", "k"]], spacing=(0.386, 0.386, 2.216))
            rest, df = found.r_edge, found.n_eff - 2 - 12  # six terms of the outer edge and six of a hole
            assert found.n_eff < 0.5 * len(rows)  # smooth maps
            line = f"r = {r:.2f} over {len(rows)} voxels, {rest:.2f} beyond what the distance to the edge explains; "
            line += f"as informative as {found.n_eff:.0f} independent ones: "
            if df < 3:
                assert f"{line}maps too smooth or too small: fewer than 3 degrees of freedom" in page
                continue
            tested += 1
            p = 2 * stats.t.sf(abs(rest) * np.sqrt(df / (1 - rest**2)), df)
            low, high = np.tanh(np.arctanh(rest) + np.array([-1, 1]) * stats.norm.ppf(0.975) / np.sqrt(df - 1))
            line += "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"
            assert f"{line}, 95\u202f% interval [{low:.2f}, {high:.2f}]." in page
    assert tested


def test_histology_on_the_mri_grid_shows_the_paired_values(finished_run):
    """The picture on the page, against the table: the same values at the same pixels."""
    from histomri.report.collect import collect

    sample = collect(finished_run).samples[0]
    rows = sample.voxels[(sample.voxels["model"] == "diff-in") & (sample.voxels["strategy"] == "whole")]
    # The MRI is left-anterior: i runs to the patient's left as the picture does, j to the front, so upwards.
    for name, picture in (("vCS_histo_um", sample.on_mri["vCS"]), ("F_mri", sample.fits["diff-in", "whole"]["F"])):
        full = np.full((rows["j"].max() + 1, rows["i"].max() + 1), np.nan)
        full[rows["j"], rows["i"]] = rows[name]
        full = full[rows["j"].min() :, rows["i"].min() :][::-1]
        known = np.isfinite(picture)
        found = [
            picture[r : r + full.shape[0], c : c + full.shape[1]]
            for r in range(picture.shape[0] - full.shape[0] + 1)
            for c in range(picture.shape[1] - full.shape[1] + 1)
        ]
        some = np.isfinite(full)
        assert known.sum() >= some.sum()
        assert any(np.allclose(part[some], full[some], rtol=1e-5) for part in found)


def test_hostile_names_stay_text(copy, change_study):
    def edit(study):
        study["name"] = HOSTILE
        study["warnings"].append(HOSTILE)
        for sample in study["samples"]:
            sample["group"] = HOSTILE
            sample["reason"] = HOSTILE
            sample["messages"] = {HOSTILE: [HOSTILE]}
        study["samples"][2]["status"] = "failed"

    change_study(copy, edit)
    table = pd.read_csv(copy / "pairs.csv")
    table.assign(group=HOSTILE).to_csv(copy / "pairs.csv", index=False)
    html = write_report(copy).read_text(encoding="utf-8")
    page = Page(html)
    assert HOSTILE in page
    assert "<script>document" not in html and "<img src=x" not in html
    assert not any(link == "x" for link in page.links)


def test_a_failed_sample_is_shown_with_its_reason(copy, change_study):
    def edit(study):
        study["samples"][1] |= {"status": "failed", "stage": "fit", "reason": "9 volumes, and the protocol has 10"}

    change_study(copy, edit)
    shutil.rmtree(copy / "sub-infiltrated")
    page = read(copy)
    for words in ("1 sample could not be finished", "9 volumes, and the protocol has 10", "✕ failed at fit", "2 of 3"):
        assert words in page, words


def test_missing_results_are_named(copy):
    for name in ("scores.json", "pairs.csv", "sub-control/pairs_voxel.csv"):
        (copy / name).unlink()
    shutil.rmtree(copy / "sub-infiltrated" / "histo")
    shutil.rmtree(copy / "sub-necrotic" / "mri")
    page = read(copy)
    for words in (
        "No ranking of models (scores.json: no such ranking).",
        "No table of samples (pairs.csv: no such table of pairs).",
        "No pairs of voxels (pairs_voxel.csv: no such table of pairs).",
        "No histology maps (histo: no such folder).",
        "No MRI maps (mri: no such folder).",
    ):
        assert words in page, words
    assert str(copy) not in " ".join(page.text)


def test_nothing_finished(tmp_path):
    record = {"id": "a", "status": "failed", "stage": "cells", "reason": "cells.tsv: no such file"}
    write_json(tmp_path / "study.json", {"name": "x", "samples": [record], "warnings": []})
    page = read(tmp_path)
    assert "cells.tsv: no such file" in page and "0 of 1" in page and "No sample was finished." in page


def test_without_registration_the_section_is_shown_alone(copy):
    home = copy / "sub-control"
    shutil.rmtree(home / "xfm")
    (home / "pairs_voxel.csv").unlink()
    assert "The section was not registered" in read(copy)


def test_where_a_section_may_lie_is_shown_while_it_is_open(copy):
    study = json.loads((copy / "study.json").read_text(encoding="utf-8"))
    found = study["samples"][0]["summary"]["register"]
    found |= {"expected_error_mm": 0.2849, "expected_error_range_mm": [0.151, 0.634]}
    found["parameters"] = {"Drive": "outline"}
    folder = copy / "sub-control" / "xfm" / "figures"
    folder.mkdir()
    picture = folder / "sub-control_from-histo_to-dwi_mode-image_xfm_gallery.png"
    Image.new("RGB", (40, 30), "white").save(picture)
    for opened, shown in ((0, False), (3, True)):  # a picture of an earlier run does not count
        found["open_orientations"] = opened
        write_json(copy / "study.json", study)
        page = read(copy)
        assert ("Where does the section lie?" in page) is shown
        assert "0.28 mm (0.15 to 0.63)" in page and "Driven by" in page
    picture.write_bytes(b"not a picture")
    assert "the gallery of orientations cannot be read" in read(copy)


def test_damaged_maps_do_not_stop_the_report(copy):
    next((copy / "sub-control" / "histo").glob("*param-vCS_histomap.nii.gz")).write_bytes(b"not an image")
    page = read(copy)
    assert "No histology maps" in page and "necrotic" in page


@pytest.mark.parametrize("content", [None, "[]", "{", '{"samples": 3}', '{"samples": []}'])
def test_no_results_folder(tmp_path, content):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    with pytest.raises(InputError, match=re.escape(str(tmp_path))):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nowhere")


def test_same_run_same_report(finished_run, finished_report, tmp_path):
    assert write_report(finished_run, tmp_path / "again.html").read_bytes() == finished_report.read_bytes()


def test_residuals_are_shown_if_there_are_any(copy, page):
    assert "Residuals of the best model" not in page
    best = json.loads((copy / "scores.json").read_text())["models"][0]
    row = {"scanner": "9.4T", **{name: best[name] for name in ("model", "strategy")}, "delta_ms": 12, "Delta_ms": 15}
    row |= {"te_ms": None, "n_samples": 3, "n": 90, "median": 0.01, "q25": -0.02, "q75": 0.03}
    pd.DataFrame([{**row, "b_smm2": b} for b in (1000, 2000)]).to_csv(copy / "residuals.csv", index=False)
    assert "Residuals of the best model" in read(copy)


def test_methods_tell_samples_apart_that_were_treated_differently():
    """Mice and biopsies in one study: each clause says how many samples it speaks of."""
    mouse = Sample(
        {"id": "m1", "summary": {"register": {"verdict": "good"}}},
        sidecars={
            "histology": {"Shrinkage": 0.129, "Section": "sphere-mean", "Patch_um": [386.0, 386.0]},
            "fit": {"preset": "mouse-exvivo", "noise": "offset-gaussian", "sigma": {"Method": "number"}},
        },
        fits={("diff-in", "whole"): {}},
    )
    biopsy = Sample(
        {"id": "b1"},
        sidecars={
            "histology": {"Shrinkage": 0.153, "Section": "none", "Patch_um": [900.0, 7000.0]},
            "fit": {"preset": "invivo-3t", "noise": "none", "t2ivim": {"kurtosis": "fitted"}},
        },
        by_means=True,
    )
    run = Run(Path("."), {"preset": "mouse-exvivo"}, [], None, [mouse, biopsy, replace(biopsy)])
    histology, mri, registration = methods_text(run)
    assert "1 sample: patches of 386 by 386 µm, lengths corrected for 12.9\u202f% shrinkage" in histology
    assert "2 samples: the whole tissue as one patch, lengths corrected for 15.3\u202f% shrinkage" in histology
    assert "1 sample: bounds and b thresholds of preset mouse-exvivo, offset-gaussian likelihood, noise level" in mri
    assert "preset invivo-3t, least squares, S0, fV and T2 from a fit of tissue and blood (kurtosis fitted)." in mri
    assert registration.startswith("One section was registered") and "For the other 2 samples the mean" in registration
    assert presets(run) == "mouse-exvivo, invivo-3t"
    alone = methods_text(Run(Path("."), {}, [], None, [biopsy]))
    assert "The whole tissue as one patch" in alone[0] and alone[-1].startswith("The mean over the MRI region")


def test_bounds_are_reported_for_samples_without_pairs_of_voxels():
    pairs = pd.DataFrame({"sample": ["a", "b"], "model": "diff-in", "strategy": "whole", "at_bound_share": [0.1, 0.9]})
    ranking = [{"model": "diff-in", "strategy": "whole", "n": 12}]
    run = Run(Path("."), {}, ranking, pairs, [Sample({"id": "a"}), Sample({"id": "b"})])
    note = next(text for text in reliability_notes(run) if "bound" in text)
    assert re.match(r"50\s%.*\(from 10\s% to 90\s% by sample\); the data barely constrain them", note), note
