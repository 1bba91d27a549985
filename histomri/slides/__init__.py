"""Slides: whole-slide images at a wanted resolution, where the tissue is, how much is stained, tiles for QuPath."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
