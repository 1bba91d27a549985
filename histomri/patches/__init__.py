"""Patches: cells become maps of size, area fraction and density, with their uncertainty; Ki-67 of a section."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
