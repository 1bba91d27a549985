"""Patches: cells become maps of cell size, area fraction and density, corrected and with their uncertainty."""

from histomri.core.presets import CORRECTIONS as PRESETS
from histomri.core.presets import SECTIONS
from histomri.patches.grid import PatchGrid
from histomri.patches.maps import PatchMaps
from histomri.patches.outline import outline_of, tissue_mask, tissue_outline
from histomri.patches.regions import separate_regions, summarise_regions
from histomri.patches.summarise import summarise_patches, whole_grid
from histomri.patches.tissue import extent_of

__all__ = [
    "PRESETS",
    "SECTIONS",
    "PatchGrid",
    "PatchMaps",
    "extent_of",
    "outline_of",
    "separate_regions",
    "summarise_patches",
    "summarise_regions",
    "tissue_mask",
    "tissue_outline",
    "whole_grid",
]
