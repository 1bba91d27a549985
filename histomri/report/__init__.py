"""Show a run: one HTML file with maps, overlays, scatter plots, the ranking, and how far to trust it."""

from histomri.report.html import write_report

__all__ = ["write_report"]
