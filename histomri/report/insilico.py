"""The page of an in-silico study: which claims of the source paper hold, and the figures and tables they rest on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context

from histomri.core.door import reading
from histomri.core.files import read_json, require_file, write_text
from histomri.report.figures.charts import STYLE, Card, embedded
from histomri.report.figures.files import save_figure
from histomri.report.figures.insilico import estimates_card, hfc_card, tcs_card, wins_card
from histomri.report.figures.insilico_tissue import adc_card, substrates_card
from histomri.report.guard import Failure, section
from histomri.report.methods import CITATIONS
from histomri.report.options import FigureFormat
from histomri.report.overlay import fill
from histomri.report.page import download_links
from histomri.report.text import decimals, model_name, percent

_KEYS = ["protocol", "kappa_um_s", "snr", "strategy", "model"]
_TABLES = ("tableS1", "tableS2", "tableS3")
_CHIPS = {"holds": "good", "does not hold": "failed", "undecided": "check", "not tested": ""}
_MARKS = {"holds": "✓ ", "does not hold": "✕ ", "undecided": "? ", "not tested": ""}


@dataclass(frozen=True)
class Insilico:
    """What a folder of `histomri insilico` holds.

    Attributes
    ----------
    folder : Path
    record : dict
        Of insilico.json.
    scores : DataFrame
        The three tables side by side.
    claims, estimates, adc : DataFrame
    problems : list of str
        What the page could not show.
    """

    folder: Path
    record: dict[str, Any]
    scores: pd.DataFrame
    claims: pd.DataFrame
    estimates: pd.DataFrame
    adc: pd.DataFrame
    problems: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, folder: str | Path) -> "Insilico":
        """Read a folder; InputError if a file is missing or damaged."""
        folder = Path(folder)
        record = read_json(folder / "insilico.json", "record of an in-silico study")
        one, *others = (_csv(folder / f"{name}.csv") for name in _TABLES)
        for other in others:
            one = one.merge(other.drop(columns="n"), on=_KEYS, validate="one_to_one")
        estimates = pd.read_parquet(require_file(folder / "estimates.parquet", "table of estimates"))
        return cls(folder, record, one, _csv(folder / "claims.csv"), estimates, _csv(folder / "adc_time.csv"))

    @property
    def snrs(self) -> list[float]:
        """The SNRs, in the order in which they were asked for."""
        return list(dict.fromkeys(self.scores["snr"].tolist()))

    @property
    def protocols(self) -> list[str]:
        """The protocols, in their order."""
        return list(dict.fromkeys(self.scores["protocol"]))


def _csv(path: Path) -> pd.DataFrame:
    path = require_file(path, "table of an in-silico study")
    with reading(path, "table", "run histomri insilico again", "is no table ({})"):
        return pd.read_csv(path)


def write_insilico_page(folder: str | Path | Insilico, path: str | Path | None = None) -> Path:
    """Write the page of an in-silico study: one file that asks nothing of the network.

    Parameters
    ----------
    folder : path-like or Insilico
        Folder of `histomri insilico`.
    path : path-like, optional
        The file to write; ``insilico.html`` in the folder by default.

    Raises
    ------
    InputError
        If the folder lacks one of the tables.
    """
    found = folder if isinstance(folder, Insilico) else Insilico.read(folder)
    return write_text(Path(path) if path is not None else found.folder / "insilico.html", _render(found))


def write_insilico_figures(folder: str | Path | Insilico, kind: FigureFormat) -> list[Path]:
    """Write every figure of an in-silico study as a file of its own, into ``figures/``, and return the files."""
    found = folder if isinstance(folder, Insilico) else Insilico.read(folder)
    written = []
    with rc_context(STYLE):
        for name, make in (*_result_cards(found), *_tissue_cards(found)):
            card = section(make, found.problems, name)
            if isinstance(card, Card):
                path = found.folder / "figures" / f"{card.name}.{kind}"
                written.append(save_figure(lambda card=card: card.chart.figure, path, kind))  # type: ignore[misc]
    return [path for path in written if path is not None]


def _render(found: Insilico) -> str:
    def part(make: Callable[[], Any], name: str) -> Any:
        return section(make, found.problems, name)

    parts = {
        "facts": part(lambda: _facts(found), "Facts about the study"),
        "tiles": part(lambda: _tiles(found), "Overview"),
        "claims": part(lambda: [_claims(found, snr) for snr in found.snrs], "Claims"),
        "results": _drawn(found, _result_cards(found)),
        "tissue": _drawn(found, _tissue_cards(found)),
        "tables": part(lambda: [_table(found, snr) for snr in found.snrs], "Scores"),
        "walks": part(lambda: _walks(found), "Walks"),
        "settings": part(lambda: _settings(found), "Settings"),
        "downloads": part(lambda: _downloads(found), "Tables"),
        # Last, as every part may add to what is missing.
        "warnings": [*map(str, found.record.get("Warnings") or ()), *found.problems],
    }
    about = {"title": "In-silico study", "intervals": found.record.get("Intervals") or "", "citations": CITATIONS[:1]}
    return fill("insilico.html.j2", protocols=found.protocols, **about, **parts)


def _result_cards(found: Insilico) -> Iterator[tuple[str, Callable[[], Card]]]:
    for snr in found.snrs:
        scores = found.scores[found.scores["snr"] == snr]
        for name, draw in (("TCS", tcs_card), ("HFC", hfc_card), ("HFC and BIC", wins_card)):
            yield f"{name}, SNR {snr:g}", partial(draw, scores, snr)
    for snr in found.snrs:
        for place, protocol in enumerate(found.protocols):
            draw_estimates = partial(estimates_card, found.estimates, protocol, snr, aside=place > 0)
            yield f"Estimates, {protocol}, SNR {snr:g}", draw_estimates


def _tissue_cards(found: Insilico) -> Iterator[tuple[str, Callable[[], Card]]]:
    yield "ADC over time", partial(adc_card, found.adc)
    design = found.record.get("Design") or {}
    yield "Substrates", lambda: substrates_card(design["fractions"], design["diameters_um"])


def _drawn(found: Insilico, cards: Iterator[tuple[str, Callable[[], Card]]]) -> list[dict[str, Any] | Failure]:
    def draw(make: Callable[[], Card]) -> dict[str, Any]:
        with rc_context(STYLE):
            card = make()
        return embedded(card, card.name)

    return [section(partial(draw, make), found.problems, name) for name, make in cards]


def _facts(found: Insilico) -> list[tuple[str, str]]:
    design, walks = found.record["Design"], found.record["Parameters"]
    made = found.record["GeneratedBy"][0]
    tissues = {each["Tissues"] for each in found.record["Protocols"]}
    return [
        ("Tissues per protocol and κ", _range(tissues)),
        ("κ", f"{_numbers(design['permeabilities_um_s'])} µm/s"),
        ("SNR", _numbers(found.snrs)), ("Walkers per tissue", f"{walks['walkers']:,}".replace(",", "\u202f")),
        ("Seed", str(found.record["Seed"])), ("histomri", str(made["Version"])),
    ]  # fmt: skip


def _tiles(found: Insilico) -> list[dict[str, str]]:
    tiles = []
    for snr in found.snrs:
        claims = found.claims[found.claims["snr"] == snr]
        counts = {verdict: int((claims["verdict"] == verdict).sum()) for verdict in _CHIPS}
        tested = len(claims) - counts["not tested"]
        words = {"does not hold": "do not hold", "undecided": "undecided", "not tested": "not tested"}
        others = [f"{counts[verdict]} {text}" for verdict, text in words.items() if counts[verdict]]
        note = f"over {len(found.protocols)} protocols" if len(found.protocols) > 1 else found.protocols[0]
        tiles.append((f"Claims that hold, SNR {snr:g}", f"{counts['holds']} of {tested}", "; ".join([note, *others])))
    largest = max(each["largest_standard_error"] for each in found.record["Walks"])
    tiles.append(("Largest error of a walked signal", f"{largest:.2g}", "standard error; the signal at b = 0 is 1"))
    return [dict(zip(("label", "value", "note"), tile)) for tile in tiles]


def _claims(found: Insilico, snr: float) -> dict[str, Any]:
    """Return the claims at an SNR: a row each, with a cell per protocol."""
    table = found.claims[found.claims["snr"] == snr]
    rows = []
    for _, part in table.groupby("claim", sort=False):
        cells = {row["protocol"]: row for row in part.to_dict("records")}
        rows.append({
            "statement": part["statement"].iloc[0],
            "cells": [_verdict(cells.get(protocol)) for protocol in found.protocols],
        })  # fmt: skip
    return {"snr": f"{snr:g}", "rows": rows}


def _verdict(row: dict[str, Any] | None) -> dict[str, str]:
    verdict = "not tested" if row is None else str(row["verdict"])
    mark = f"{_MARKS.get(verdict, '')}{verdict}"
    return {"chip": _CHIPS.get(verdict, ""), "text": mark, "evidence": "" if row is None else str(row["evidence"])}


def _table(found: Insilico, snr: float) -> dict[str, Any]:
    def row(one: dict[str, Any]) -> list[str]:
        def interval(name: str, show: Callable[[Any], str]) -> str:
            return f"{show(one[name])} [{show(one[f'{name}_low'])}, {show(one[f'{name}_high'])}]"

        return [
            one["protocol"], f"{one['kappa_um_s']:g}", one["strategy"], model_name(one["model"]), f"{one['n']:g}",
            interval("TCS", decimals), decimals(one["r_vCS"]), decimals(one["r_F"]), interval("HFC", decimals),
            interval("HFC_wins", _whole), interval("BIC_wins", _whole), decimals(one["bias_vCS_um"], 1),
            decimals(one["bias_F"]),
        ]  # fmt: skip

    names = ("Protocol", "κ", "Measurements", "Model", "N", "TCS (S1)", "r, vCS", "r, F", "HFC (S2)", "HFC wins, %",
             "BIC wins, % (S3)", "Bias vCS, µm", "Bias F")  # fmt: skip
    rows = found.scores[found.scores["snr"] == snr].to_dict("records")
    return {"snr": f"{snr:g}", "names": names, "rows": [row(one) for one in rows]}


def _whole(share: float) -> str:
    return percent(share).removesuffix("\u202f%")


def _walks(found: Insilico) -> list[list[str]]:
    return [
        [
            each["protocol"], f"{each['kappa_um_s']:g}", decimals(each["smallest_effective_share"]),
            f"{each['largest_standard_error']:.2g}",
        ]
        for each in found.record["Walks"]
    ]  # fmt: skip


def _settings(found: Insilico) -> list[tuple[str, str]]:
    given = {name: value for name, value in found.record["Parameters"].items() if value is not None}
    rows = [(name.replace("_", " "), _text(value)) for name, value in given.items()]
    for each in found.record["Protocols"]:
        text = f"{each['Volumes']} volumes, b to {each['LargestB_smm2']:g} s/mm²; bounds and thresholds of "
        text += f"{each['BoundsOf']}: D0I {_ends(each['D0I_um2_ms'])}, D0E {_ends(each['D0E_um2_ms'])} µm²/ms"
        rows.append((f"protocol {each['Name']}", text))
    seconds = f"{found.record['WallSeconds']:.0f} s, of processors {found.record['CpuSeconds']:.0f} s"
    return [*rows, ("time of this run", f"{seconds}; walks of earlier runs that were taken up are not in it")]


def _downloads(found: Insilico) -> list[dict[str, str]]:
    names = [*(f"{name}.csv" for name in _TABLES), "claims.csv", "adc_time.csv", "insilico.json", "estimates.parquet"]
    names += [f"tissues_{protocol}.csv" for protocol in found.protocols]
    return download_links(found.folder, [found.folder / name for name in names])


def _text(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_text(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _ends(values: Sequence[float]) -> str:
    return f"{values[0]:g} to {values[1]:g}"


def _range(values: set[int]) -> str:
    return f"{min(values)}" if len(values) == 1 else f"{min(values)} to {max(values)}"
