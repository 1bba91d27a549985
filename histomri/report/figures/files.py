"""Every figure of a run for a paper, as files."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, get_args

from matplotlib import rc_context

from histomri.core.errors import InputError
from histomri.core.files import atomic_path
from histomri.report.collect import Run, collect
from histomri.report.figures.charts import STYLE
from histomri.report.figures.correlations import matrix_plot
from histomri.report.figures.influence import influence_card
from histomri.report.figures.models import ranking_plot, residuals_by_scanner, residuals_plot
from histomri.report.figures.samples import maps_plot, samples_card, voxels_card
from histomri.report.figures.statistics import statistics_cards
from histomri.report.guard import Failure, section
from histomri.report.maps import choose_scales
from histomri.report.options import FigureFormat
from histomri.report.text import best_fit, best_rows, fit_label


def write_figures(run: str | Path | Run, kind: FigureFormat, out: str | Path | None = None) -> list[Path]:
    """Write every figure of a run as a file of its own, and return the files.

    Those there are data for: ranking, ranking_<scanner>, influence, samples, correlations, agreement, regression,
    groups, association_<measurement>, prediction_<basis>, residuals_<scanner>, maps_sub-<id>, voxels_sub-<id>.

    Parameters
    ----------
    run : path-like or Run
        Results folder of a run; a Run notes what could not be drawn in its `missing`.
    kind : {"svg", "pdf", "png"}
        File format; png has 300 dots per inch.
    out : path-like, optional
        Folder for the figures; ``figures`` in the results folder by default.

    Raises
    ------
    InputError
        If the folder holds no study.json, or the format is unknown.
    """
    if kind not in get_args(FigureFormat):
        raise InputError(f"there is no format {kind!r}", hint=f"choose {', '.join(get_args(FigureFormat))}")
    run = run if isinstance(run, Run) else collect(run)
    target = Path(out) if out is not None else run.folder / "figures"
    with rc_context(STYLE):
        paths = [
            section(partial(save_figure, draw, target / f"{name}.{kind}", kind), run.missing, f"Figure {name}")
            for name, draw in _figures(run)
        ]
    return [path for path in paths if isinstance(path, Path)]


def save_figure(draw: Callable[[], Any], path: Path, kind: FigureFormat) -> Path | None:
    """Write the figure that a function draws; None if there is nothing to draw."""
    figure = draw()
    if figure is None:
        return None
    # Times in the files would make every run of the same study differ.
    stamp = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, metadata=stamp)
    return path


def _figures(run: Run) -> Iterator[tuple[str, Any]]:
    """Yield the name of each figure and a function that draws it, or gives None if there is nothing to draw."""
    if run.ranking:
        yield "ranking", lambda: ranking_plot(run.ranking)
    for scanner, ranking in run.scanners.items():
        yield f"ranking_{_plain(scanner)}", lambda ranking=ranking: ranking_plot(ranking)
    found = best_rows(run)
    if found is not None and len(found[1]) >= 3:
        yield "samples", lambda: _figure(samples_card(*found))
        yield "correlations", lambda: matrix_plot(found[1], fit_label(found[0]), run.measures)
    if run.influence is not None:
        yield "influence", lambda influence=run.influence: _figure(influence_card(influence))
    for card in statistics_cards(run):
        if not isinstance(card, Failure):
            yield card.name, lambda card=card: card.chart.figure
    for scanner, table in residuals_by_scanner(run).items():
        yield f"residuals_{_plain(scanner)}", lambda table=table, name=scanner: residuals_plot(table, name)
    scales = choose_scales(run)
    for sample in run.samples:
        best = best_fit(run, sample)
        if sample.section or sample.fits:
            yield f"maps_sub-{sample.id}", lambda sample=sample, best=best: maps_plot(sample, scales, best)
        yield f"voxels_sub-{sample.id}", lambda sample=sample, best=best: _figure(voxels_card(sample, best))


def _figure(card: Any) -> Any:
    return card.chart.figure if card is not None else None


def _plain(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in name)
