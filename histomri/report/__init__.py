"""Show a run: one HTML file with maps, overlays, scatter plots, the ranking, and how far to trust it."""

from histomri.report.html import write_report
from histomri.report.overlay import Layer, write_overlay

__all__ = ["Layer", "write_overlay", "write_report"]
