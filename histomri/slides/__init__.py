"""Slides: whole-slide images at a wanted resolution, their calibration, and where the tissue is."""

from histomri.slides.slide import Slide, open_slide
from histomri.slides.tissue import tissue_mask

__all__ = ["Slide", "open_slide", "tissue_mask"]
