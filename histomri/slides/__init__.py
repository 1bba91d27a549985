"""Slides: whole-slide images at a wanted resolution, their calibration, where the tissue is, and what is stained."""

from histomri.slides.calibration import SlideRecord, read_slide_record, settle_pixel_size
from histomri.slides.labelling import HotSpot, LabellingIndex, hot_spot, is_positive, labelling_index, wilson_interval
from histomri.slides.openers import open_slide
from histomri.slides.raster import Raster, mask_polygons
from histomri.slides.slide import Slide, Tile, View
from histomri.slides.stained import StainedArea, stained_area
from histomri.slides.stains import Stains, estimate_background
from histomri.slides.tissue import Tissue, find_tissue, tissue_mask

__all__ = [
    "HotSpot",
    "LabellingIndex",
    "Raster",
    "Slide",
    "SlideRecord",
    "StainedArea",
    "Stains",
    "Tile",
    "Tissue",
    "View",
    "estimate_background",
    "find_tissue",
    "hot_spot",
    "is_positive",
    "labelling_index",
    "mask_polygons",
    "open_slide",
    "read_slide_record",
    "settle_pixel_size",
    "stained_area",
    "tissue_mask",
    "wilson_interval",
]
