"""Draw the pictures of the statistics in docs/analysis.md from the results of `histomri demo OUT --example paper`.

Usage: python benchmarks/draw_statistics.py OUT
"""

import sys
from pathlib import Path

from histomri.report.collect import collect
from histomri.report.figures.charts import Card
from histomri.report.figures.statistics import statistics_cards

OUT = Path(__file__).resolve().parents[1] / "docs" / "images"
SHOWN = {"agreement": "agreement", "association_Ki67_fraction": "ki67", "prediction_cubic": "prediction"}


def main(results: Path) -> None:
    for card in statistics_cards(collect(results)):
        if isinstance(card, Card) and card.name in SHOWN:
            card.chart.figure.savefig(OUT / f"statistics-{SHOWN[card.name]}.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
