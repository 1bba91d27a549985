"""Put the report together from its sections: one HTML file that needs nothing else."""

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib import rc_context

from histomri.analysis import headline
from histomri.analysis.scoring import SCORE_FILES
from histomri.core.files import write_text
from histomri.registration.alignment import error_text
from histomri.report import methods, text
from histomri.report.collect import Run, Sample, as_dict, as_list, collect
from histomri.report.contact_sheet import embedded_sheet
from histomri.report.figures.charts import STYLE, embedded
from histomri.report.figures.correlations import matrix_plot
from histomri.report.figures.influence import first_of, influence_card, influence_rows
from histomri.report.figures.misfit import misfit_card
from histomri.report.figures.models import ranking_plot, residuals_by_scanner, residuals_plot
from histomri.report.figures.samples import samples_card, voxels_card
from histomri.report.figures.statistics import statistics_cards
from histomri.report.guard import Failure, attempt, section
from histomri.report.histology import both_ways, not_known, of_volume
from histomri.report.maps import Quantity, choose_scales, fit_id, map_cards
from histomri.report.overlay import fill, sample_overlay
from histomri.report.pictures import data_uri
from histomri.report.plan import MARK, plan_card, planned_fits

_LARGEST_INLINE = 400_000  # bytes of a table that is carried inside the report; larger ones are linked beside it
_SVG_STYLE = {"svg.fonttype": "path", "font.size": 9.5, "svg.hashsalt": "histomri"}
_VERDICTS = {"good": ("good", "✓ good"), "check": ("check", "▲ check by eye"), "failed": ("failed", "✕ failed")}
_REGISTRATION = {
    "confidence": "Confidence (margin to the best other orientation)", "dice": "Overlap (Dice)",
    "scale": "Size of the section, MRI over slide",
}  # fmt: skip


def write_report(run: str | Path | Run, path: str | Path | None = None) -> Path:
    """Write the report of a run: one file with pictures, plots and small tables, that asks nothing of the network.

    Parameters
    ----------
    run : path-like or Run
        Results folder of a run: study.json, and whatever of scores.json, pairs.csv and the samples' folders there is.
        The report names what is missing or damaged; a Run notes it in its `missing`.
    path : path-like, optional
        The file to write; ``report.html`` in the folder by default.

    Raises
    ------
    InputError
        If the folder holds no study.json.
    """
    run = run if isinstance(run, Run) else collect(run)
    return write_text(Path(path) if path is not None else run.folder / "report.html", render(run))


def render(run: Run) -> str:
    """Return the report of a run as HTML; a section that fails is a notice in its place, and a warning."""

    def part(make: Callable[[], Any], name: str) -> Any:
        return section(make, run.missing, name)

    scales = part(lambda: choose_scales(run), "Colour scales")
    parts = {
        "facts": part(lambda: _facts(run), "Facts about the run"),
        "tiles": part(lambda: _tiles(run), "Overview"),
        "reliability": methods.reliability_notes(run),
        "ranking": part(lambda: _ranking(run), "Ranking of models"),
        "influence": part(lambda: _influence(run), "Influence of single samples"),
        "plan": part(lambda: plan_card(run), "Analysis plan"),
        "mark": MARK if planned_fits(run) is not None else "",
        "residuals": part(lambda: _residuals(run), "Residuals"),
        "both_ways": part(lambda: both_ways(run), "Histology as published and in 3D"),
        "not_known": part(lambda: not_known(run), "What sections cannot show"),
        "compared": part(lambda: _compared(run), "Samples compared"),
        "within": part(lambda: text.within_samples(run), "Correlations within the samples"),
        "matrix": part(lambda: _matrix(run), "Matrix of correlations"),
        "statistics": [
            card if isinstance(card, Failure) else part(partial(embedded, card, card.name), card.heading)
            for card in statistics_cards(run)
        ],
        "samples": [_sample(run, sample, place, scales) for place, sample in enumerate(run.samples)],
        "methods": methods.methods_text(run),
        "settings": part(lambda: methods.settings_table(run), "Settings"),
        "downloads": part(lambda: _downloads(run), "Tables"),
        # Last, as every part may add to what is missing.
        "warnings": attempt(lambda: _warnings(run), [{"text": each, "about": ""} for each in run.missing], [], ""),
    }
    best = text.best_fit(run)
    about = {
        "citations": methods.CITATIONS,
        "title": run.study.get("name") or "Study",
        "simulated": run.study.get("simulated") is True,
    }
    return fill("report.html.j2", best=text.fit_label(best) if best is not None else None, **about, **parts)


def _facts(run: Run) -> list[tuple[str, str]]:
    study = run.study
    facts = [("Preset", methods.presets(run)), ("histomri", str(study.get("histomri_version") or ""))]
    facts += [("Histology", "in 3D (size = volume)" if of_volume(run) else "as published (size = paper)")]
    with suppress(ValueError, TypeError):  # no time, or no time zone beside one
        finished = datetime.fromisoformat(str(study.get("finished")))
        facts.append(("Finished", finished.strftime("%d %B %Y, %H:%M %Z").strip().lstrip("0")))
        seconds = (finished - datetime.fromisoformat(str(study.get("started")))).total_seconds()
        facts.append(("Took", f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"))
    return [fact for fact in facts if fact[1]]


def _tiles(run: Run) -> list[dict[str, str]]:
    done = [sample for sample in run.samples if not sample.failed]
    note = "finished" if len(done) == len(run.samples) else "finished, the others failed"
    tiles = [("Samples", f"{len(done)} of {len(run.samples)}", note)]
    if run.ranking and run.ranking[0]["TCS"] is not None:
        tiles.append(text.highest_score(run.ranking))
    elif run.ranking and run.scoring.get("ranked_by") == "r_vCS" and run.ranking[0]["r_vCS"] is not None:
        first = run.ranking[0]
        note = f"{first['strategy']} · by cell size alone, r = {text.decimals(first['r_vCS'])}"
        tiles.append(("Highest r of cell size", text.model_name(first["model"]), note))
    tables = [(sample.voxels, text.best_fit(run, sample)) for sample in done]
    if voxels := sum(len(text.rows_of(table, key)) for table, key in tables if table is not None and key is not None):
        tiles.append(("Voxels paired", f"{voxels:,}".replace(",", "\u202f"), "per model"))
    if verdicts := [str(sample.registration.get("verdict")) for sample in done if sample.registration]:
        good = verdicts.count("good")
        note = "judged good" if good == len(verdicts) else "judged good, look at the others"
        tiles.append(("Registrations", f"{good} of {len(verdicts)}", note))
    return [dict(zip(("label", "value", "note"), tile)) for tile in tiles]


def _warnings(run: Run) -> list[dict[str, str]]:
    """Return the warnings of the study, then those of the samples; alike ones of several samples appear once."""
    own = [*map(str, as_list(run.study.get("warnings"))), *run.missing]
    of_samples = []
    for sample in run.samples:
        # What a failed sample lacks follows from its failure, and stands in its own section.
        missing = [] if sample.failed or sample.by_means else sample.missing
        of_samples += [(sample.id, str(each)) for each in (*as_list(sample.record.get("warnings")), *missing)]
    merged = text.merge_warnings(of_samples, len(run.samples))
    return [{"text": each, "about": ""} for each in dict.fromkeys(own)] + merged


def _ranking(run: Run) -> dict[str, Any] | None:
    if not run.ranking:
        return None
    planned = planned_fits(run)
    scanners, strategies = (
        [(name, text.ranking_rows(rows, planned)) for name, rows in rankings.items()]
        for rankings in (run.scanners, run.strategies)
    )
    said = [str(verdict["text"]) for verdict in run.verdicts if verdict.get("text")]
    figure = None
    if any(row["TCS"] is not None for row in run.ranking) or run.scoring.get("ranked_by") != "r_vCS":
        figure = _svg_uri(lambda: ranking_plot(run.ranking))
    found = {"rows": text.ranking_rows(run.ranking, planned), "figure": figure}
    first, *texts = [f"{each[0].upper()}{each[1:]}." if each else "" for each in (headline(run.ranking) or "", *said)]
    return {**found, "scanners": scanners, "strategies": strategies, "headline": first, "text": texts}


def _influence(run: Run) -> dict[str, Any] | None:
    first = first_of(run.influence) if run.influence is not None else None
    if run.influence is None or first is None:
        return None
    with rc_context(STYLE):
        card = influence_card(run.influence)
    if card is None:
        return None
    of = first.iloc[0]
    about = {"unit": of["unit"], "about": text.fit_label((str(of["model"]), str(of["strategy"])))}
    return {"card": embedded(card, card.name), "rows": influence_rows(run.influence), **about}


def _svg_uri(draw: Callable[[], Any]) -> str | None:
    """Draw a figure and return it as an SVG data URI; None if there is nothing to draw."""
    file = io.BytesIO()
    with rc_context(_SVG_STYLE):
        figure = draw()
        if figure is None:
            return None
        figure.savefig(file, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return data_uri("image/svg+xml", file.getvalue())


def _compared(run: Run) -> dict[str, Any] | None:
    """Return MRI against histology over samples."""
    found = text.best_rows(run)
    with rc_context(STYLE):
        card = samples_card(*found) if found is not None else None
    return embedded(card, "samples") if card is not None else None


def _matrix(run: Run) -> str | None:
    """Return the correlations over samples as a picture, from four samples on: of three points every r is near 1."""
    found = text.best_rows(run)
    if found is None or len(found[1]) < 4:
        return None
    return _svg_uri(lambda: matrix_plot(found[1], text.fit_label(found[0]), run.measures))


def _residuals(run: Run) -> dict[str, str]:
    """Return the residuals of the best model, a picture for each scanner."""
    key = text.best_fit(run)
    tables = {name: text.rows_of(table, key) for name, table in residuals_by_scanner(run).items()} if key else {}
    pictures = {name: _svg_uri(partial(residuals_plot, rows, name)) for name, rows in tables.items() if len(rows)}
    return {name: picture for name, picture in pictures.items() if picture is not None}


def _sample(run: Run, sample: Sample, place: int, scales: dict[str, Quantity] | Failure) -> dict[str, Any]:
    record, best = sample.record, text.best_fit(run, sample)

    def part(make: Callable[[], Any], name: str) -> Any:
        return section(make, sample.missing, name)

    def voxels() -> dict[str, Any] | None:
        with rc_context(STYLE):
            card = voxels_card(sample, best)
        return {**embedded(card, f"voxels-{place}"), "rows": text.voxel_rows(sample)} if card is not None else None

    # Without scales there are no maps: the failure of the scales stands among the warnings.
    drawn = {"cards": [], "overlay": None} if isinstance(scales, Failure) else {
        "cards": part(lambda: map_cards(sample, scales, best), "Maps"),
        "overlay": part(lambda: sample_overlay(sample, scales, best), "Histology over MRI"),
    }  # fmt: skip
    sizes = sample.sizes if sample.sizes is not None and sample.sizes.counts.any() else None
    return {
        **{key: record.get(key) for key in ("group", "scanner", "stage", "reason")},
        **{key: getattr(sample, key) for key in ("id", "failed", "missing", "by_means")},
        **drawn,
        "anchor": f"sample-{place}",
        "verdict": _VERDICTS.get(str(sample.registration.get("verdict"))),
        "registration": _registration_facts(sample),
        "fits": [{"id": fit_id(key), "label": text.fit_label(key), "best": key == best} for key in sample.fits],
        "gallery": part(lambda: _gallery(run, sample), "Which way round?"),
        "sizes": part(sizes.embed, "Sizes of the cells") if sizes is not None else None,
        "check": part(lambda: embedded_sheet(run.folder / f"sub-{sample.id}" / "cells_check.png"), "Contact sheet"),
        "misfit": part(lambda: misfit_card(sample.misfit, best, _svg_uri), "How well the model fits"),
        "voxels": part(voxels, "Voxel by voxel"),
        "messages": {name: as_list(texts) for name, texts in as_dict(record.get("messages")).items()},
    }


def _gallery(run: Run, sample: Sample) -> str | None:
    """Return the picture of where the section may lie, if that is open: one of an earlier run does not count."""
    found = sample.registration
    if not (found.get("open_orientations") or found.get("open_slices") or found.get("missing_side")):
        return None
    pictures = sorted((run.folder / f"sub-{sample.id}" / "xfm" / "figures").glob("*_xfm_gallery.png"))
    return embedded_sheet(pictures[0], "gallery of orientations") if pictures else None


def _registration_facts(sample: Sample) -> list[tuple[str, str]]:
    facts = [("MRI slice", str(sample.mri_slice) if sample.mri_slice is not None else "–")]
    if drive := as_dict(sample.registration.get("parameters")).get("Drive"):
        facts.append(("Driven by", str(drive)))
    if isinstance(sample.registration.get("expected_error_mm"), int | float):
        facts.append(("Expected error, with its range", error_text(sample.registration)))
    found = [(label, sample.registration.get(key)) for key, label in _REGISTRATION.items()]
    return facts + [(label, text.decimals(float(value), 3)) for label, value in found if isinstance(value, int | float)]


def _downloads(run: Run) -> list[dict[str, str]]:
    statistics = run.folder / "statistics"
    files = [run.folder / name for name in ("pairs.csv", *SCORE_FILES)]
    files += [*sorted(statistics.glob("*.csv")), *sorted(statistics.glob("prediction_*/prediction*.*"))]
    files += [run.folder / f"sub-{sample.id}" / "pairs_voxel.csv" for sample in run.samples]
    return download_links(run.folder, files)


def download_links(folder: Path, files: Iterable[Path]) -> list[dict[str, str]]:
    """Return links to those of the files in a folder that there are; small ones are carried inside the page."""
    links = []
    for file in filter(Path.is_file, files):
        name, size = file.relative_to(folder).as_posix(), file.stat().st_size
        href, note = name, f"{size / 1e6:.1f} MB, beside this report"
        if size <= _LARGEST_INLINE:
            kind = {".json": "application/json", ".csv": "text/csv"}.get(file.suffix, "application/octet-stream")
            href, note = data_uri(kind, file.read_bytes()), ""
        links.append({"name": name, "file": name.replace("/", "_"), "href": href, "note": note})
    return links
