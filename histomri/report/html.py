"""Put the report together: one HTML file that needs nothing else."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib import rc_context

from histomri import __version__
from histomri.core.files import write_text
from histomri.report import methods, words
from histomri.report.charts import STYLE, Card, inline_svg
from histomri.report.collect import Run, Sample, collect
from histomri.report.figures import matrix_plot, residuals_by_scanner
from histomri.report.figures_residuals import residuals_plot
from histomri.report.maps import Quantity, choose_scales, fit_id, fit_label, map_cards
from histomri.report.overlay import environment, page_parts, sample_overlay
from histomri.report.pictures import data_uri
from histomri.report.ranking import ranking_plot, svg_uri
from histomri.report.scatter import samples_card, voxels_card
from histomri.report.statistics import statistics_cards

_LARGEST_INLINE = 400_000  # bytes of a table that is carried inside the report; larger ones are linked beside it
_FEWEST_CORRELATED = 4  # with three points every r is near 1
_VERDICTS = {
    "good": ("good", "✓ good"),
    "check": ("check", "▲ check by eye"),
    "failed": ("failed", "✕ failed"),
}


def write_report(folder: str | Path, path: str | Path | None = None) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    folder : path-like
        Results folder of a run: study.json, and whatever of scores.json, pairs.csv and the samples' folders there is.
        What is missing is named in the report.
    path : path-like, optional
        The file to write; ``report.html`` in the folder by default.

    Returns
    -------
    Path
        The file written: it holds its pictures, plots and small tables, and asks nothing of the network.

    Raises
    ------
    InputError
        If the folder holds no study.json.
    """
    folder = Path(folder)
    run = collect(folder)
    target = Path(path) if path is not None else folder / "report.html"
    return write_text(target, render(run))


def render(run: Run) -> str:
    """Return the report of a run as HTML."""
    scales = choose_scales(run)
    samples = [_sample(run, sample, place, scales) for place, sample in enumerate(run.samples)]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            name=str(run.study.get("name") or "Study"),
            **page_parts(),
            facts=_facts(run),
            tiles=_tiles(run),
            warnings=_warnings(run),
            failed=[sample for sample in samples if sample["failed"]],
            trust=words.trust(run),
            expansion=words.EXPANSION,
            ranking=words.ranking_rows(run.ranking),
            scanners=[(name, words.ranking_rows(rows)) for name, rows in run.scanners.items()],
            ranking_figure=svg_uri(lambda: ranking_plot(run.ranking)) if run.ranking else None,
            best=fit_label(key) if (key := words.best_fit(run)) else None,
            compared=_compared(run),
            matrix=_matrix(run),
            statistics=[_drawn(card, card.name) for card in statistics_cards(run)],
            residuals=_residuals(run),
            within=words.within_samples(run),
            samples=samples,
            methods=methods.methods_text(run),
            citations=methods.CITATIONS,
            settings=methods.settings_table(run),
            downloads=_downloads(run),
            version=__version__,
        )
    )


def _facts(run: Run) -> list[tuple[str, str]]:
    study = run.study
    facts = [
        ("Preset", methods.presets(run) or "–"),
        ("histomri", str(study.get("histomri_version") or "–")),
        ("Finished", _when(study.get("finished"))),
        ("Took", _duration(study)),
    ]
    return [fact for fact in facts if fact[1] != "–"]


def _when(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).strftime("%d %B %Y, %H:%M %Z").strip().lstrip("0")
    except ValueError:
        return "–"


def _duration(study: dict[str, Any]) -> str:
    try:
        taken = datetime.fromisoformat(str(study["finished"])) - datetime.fromisoformat(str(study["started"]))
    except (KeyError, ValueError, TypeError):
        return "–"
    seconds = taken.total_seconds()
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _tiles(run: Run) -> list[dict[str, str]]:
    done = [sample for sample in run.samples if not sample.failed]
    tiles = [
        {
            "label": "Samples",
            "value": f"{len(done)} of {len(run.samples)}",
            "note": "finished" if len(done) == len(run.samples) else "finished, the others failed",
        }
    ]
    if run.ranking and run.ranking[0]["TCS"] is not None:
        first = run.ranking[0]
        interval = first["TCS_ci"]
        note = f"TCS {words.decimals(first['TCS'])}"
        note += f" [{words.decimals(interval[0])}, {words.decimals(interval[1])}]" if interval else ", no interval"
        value = words.model_name(first["model"])
        tiles.append({"label": "Closest to histology", "value": value, "note": f"{first['strategy']} · {note}"})
    voxels = [_paired(sample, words.best_fit(run, sample)) for sample in done]
    if any(voxels):
        tiles.append(
            {"label": "Voxels paired", "value": f"{sum(voxels):,}".replace(",", "\u202f"), "note": "per model"}
        )
    verdicts = [str(sample.registration.get("verdict")) for sample in done if sample.registration]
    if verdicts:
        good = verdicts.count("good")
        note = "judged good" if good == len(verdicts) else "judged good, look at the others"
        tiles.append({"label": "Registrations", "value": f"{good} of {len(verdicts)}", "note": note})
    return tiles


def _paired(sample: Sample, key: tuple[str, str] | None) -> int:
    if sample.voxels is None or key is None:
        return 0
    return int(((sample.voxels["model"] == key[0]) & (sample.voxels["strategy"] == key[1])).sum())


def _warnings(run: Run) -> list[dict[str, str]]:
    """Return the warnings of the study, then those of the samples; alike ones of several samples are said once."""
    found = [{"text": text, "about": ""} for text in [*map(str, run.study.get("warnings") or []), *run.missing]]
    told = []
    for sample in run.samples:
        # What a failed sample lacks follows from its failure, and is told in its own section.
        missing = [] if sample.failed or sample.by_means else sample.missing
        told += [(sample.id, text) for text in [*map(str, sample.record.get("warnings") or []), *missing]]
    return found + words.merge_warnings(told, len(run.samples))


def _compared(run: Run) -> dict[str, Any] | None:
    """Return MRI against histology over samples."""
    found = words.best_rows(run)
    if found is None:
        return None
    with rc_context(STYLE):
        card = samples_card(*found)
    return _drawn(card, "samples") if card is not None else None


def _matrix(run: Run) -> str | None:
    """Return the correlations over samples as a picture, if there are enough samples."""
    found = words.best_rows(run)
    if found is None or len(found[1]) < _FEWEST_CORRELATED:
        return None
    return svg_uri(lambda: matrix_plot(found[1], fit_label(found[0]), run.measures))


def _drawn(card: Card, name: str) -> dict[str, Any]:
    """Return a card for the page; `name` begins the ids in it."""
    with rc_context(STYLE):
        svg = Markup(inline_svg(card.chart, name, f"{card.heading} {' '.join(card.text)}"))
    return {"name": name, "heading": card.heading, "text": card.text, "svg": svg, "aside": card.aside}


def _residuals(run: Run) -> dict[str, str]:
    """Return what the best model leaves unexplained, a picture for each scanner."""
    key = words.best_fit(run)
    if key is None:
        return {}
    pictures = {}
    for scanner, table in residuals_by_scanner(run).items():
        mine = table[(table["model"] == key[0]) & (table["strategy"] == key[1])]
        picture = svg_uri(partial(residuals_plot, mine, scanner)) if len(mine) else None
        if picture is not None:
            pictures[scanner] = picture
    return pictures


def _sample(run: Run, sample: Sample, place: int, scales: dict[str, Quantity]) -> dict[str, Any]:
    best = words.best_fit(run, sample)
    with rc_context(STYLE):
        card = voxels_card(sample, best)
    record = sample.record
    return {
        "id": sample.id,
        "anchor": f"sample-{place}",
        "group": record.get("group"),
        "scanner": record.get("scanner"),
        "failed": sample.failed,
        "stage": record.get("stage"),
        "reason": record.get("reason"),
        "verdict": _VERDICTS.get(str(sample.registration.get("verdict"))),
        "registration": _registration_facts(sample),
        "fits": [{"id": fit_id(key), "label": fit_label(key), "best": key == best} for key in sample.fits],
        "cards": map_cards(sample, scales, best),
        "edges": sample.mri_view.edges if sample.mri_view else None,
        "overlay": sample_overlay(sample, scales, best),
        "sizes": sample.sizes.embed() if sample.sizes is not None and sample.sizes.counts.any() else None,
        "voxels": _drawn(card, f"voxels-{place}") if card is not None else None,
        "voxel_rows": words.voxel_rows(sample),
        "messages": {str(stage): list(map(str, texts)) for stage, texts in (record.get("messages") or {}).items()},
        "missing": sample.missing,
        "by_means": sample.by_means,
    }


def _registration_facts(sample: Sample) -> list[tuple[str, str]]:
    found = sample.registration
    facts = [("MRI slice", str(sample.mri_slice) if sample.mri_slice is not None else "–")]
    for key, label in (
        ("confidence", "Confidence (lead over the best other orientation)"),
        ("expected_error_mm", "Expected error (mm)"),
        ("dice", "Overlap (Dice)"),
        ("scale", "Size of the section, MRI over slide"),
    ):
        if isinstance(found.get(key), int | float):
            facts.append((label, words.decimals(float(found[key]), 3)))
    return facts


def _downloads(run: Run) -> list[dict[str, str]]:
    tables = ("pairs.csv", "scores.csv", "scores.json", "model_comparisons.csv", "scores_by_scanner.csv")
    files = [(run.folder / name, name) for name in tables]
    statistics = run.folder / "statistics"
    files += [(path, f"statistics/{path.name}") for path in sorted(statistics.glob("*.csv"))]
    predictions = sorted(statistics.glob("prediction_*/prediction*.*"))
    files += [(path, path.relative_to(run.folder).as_posix()) for path in predictions]
    files += [(run.folder / f"sub-{s.id}" / "pairs_voxel.csv", f"sub-{s.id}/pairs_voxel.csv") for s in run.samples]
    links = []
    for file, name in files:
        if not file.is_file():
            continue
        inside = file.stat().st_size <= _LARGEST_INLINE
        kind = "application/json" if file.suffix == ".json" else "text/csv"
        links.append(
            {
                "name": name,
                "file": name.replace("/", "_"),
                "href": data_uri(kind, file.read_bytes()) if inside else name,
                "note": "" if inside else f"{file.stat().st_size / 1e6:.1f} MB, beside this report",
            }
        )
    return links
