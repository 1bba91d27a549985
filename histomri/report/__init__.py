"""Show a run: one HTML file with maps, overlays, scatter plots, the ranking, and how far to trust it."""

from histomri.report.figures import FigureFormat, write_figures
from histomri.report.html import write_report
from histomri.report.overlay import Layer, write_overlay

__all__ = ["FigureFormat", "Layer", "write_figures", "write_overlay", "write_report"]
